"""A compromised host: endless output, with marks and escapes in place of text."""

import contextlib
import dataclasses
import gzip
import io
import json
import random
import resource
import sqlite3
import tarfile
import time

import pytest
from fakes import FakeHost
from hosts_facts import FOLDER
from test_facts import QUERY

from sipdeploy import facts
from sipdeploy import host as hosts
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.diagnostics.escapes import shown, shown_line
from sipdeploy.host import Result, run_script, sections
from sipdeploy.host.incoming import (
    MEBIBYTE,
    MOST_BYTES,
    MOST_COLUMNS,
    MOST_LINES,
    Intake,
    decoded,
    number,
    whole,
)
from sipdeploy.host.local import LocalHost
from sipdeploy.plan import Change, text
from sipdeploy.plan.preview import Present, preview
from sipdeploy.transaction import release
from sipdeploy.transaction.release import fetch_release, history
from sipdeploy.transaction.runner import Event, run_step

ESCAPES = (
    "\x1b[2J\x1b]0;own\x07 \x9b31m \u202egnp.exe\u202c \u2066x\u2069 \u2028 \x85 \r \x00 \x7f"
)


@pytest.fixture
def host():
    local = LocalHost("sip1")
    local._prefix = ()  # noqa: SLF001
    return local


def is_harmless(told, also=""):
    return all(character.isprintable() or character in also for character in told)


def test_what_a_terminal_acts_upon_is_an_escape():
    assert shown("\x1b[2J \x9b \u202e\u2066 \u2028 \r a\tb\n") == (
        "\\x1b[2J \\x9b \\u202e\\u2066 \\u2028 \\x0d a\tb\n"
    )
    assert shown("\U000e0001") == "\\U000e0001"
    assert shown_line("a\tb\nc") == "a\\tb\\nc"
    assert is_harmless(shown(ESCAPES * 3), "\n\t")
    assert shown("Zoë 电话 🎉 \\x1b") == "Zoë 电话 🎉 \\x1b"
    assert decoded(b"a\r\nb\xff\n") == "a\nb\ufffd\n"


@pytest.mark.parametrize(
    "odd", ["", "x", "-1", "1" * 16, "9" * 5000, "²", "1_0", "٣", "1e3", "inf", "nan"]
)
def test_a_number_that_is_none_is_the_default(odd):
    assert whole(odd, 7) == 7


@pytest.mark.parametrize("odd", ["inf", "nan", "1e300", "-1", "253402300800", "x"])
def test_a_time_that_is_none_is_the_default(odd):
    assert number(odd, 7) == 7
    assert (whole(" 42\n"), number("1.5\n", 0)) == (42, 1.5)


def test_lines_are_told_as_they_come():
    seen = []
    intake = Intake(seen.append, 100)
    for chunk in (b"a", b"b\r\nc\n\nd", b"\xff\x1b"):
        assert intake.take(chunk)
    assert intake.take_error(b"e")
    assert intake.end() == (b"ab\r\nc\n\nd\xff\x1b", b"e")
    assert seen == ["ab", "c", "", "d\ufffd\\x1b"]


def test_long_lines_and_very_many_are_cut():
    seen = []
    intake = Intake(seen.append, MOST_BYTES)
    for _ in range(50):
        intake.take(b"x" * 65536)
    intake.take(b"\n" * (MOST_LINES + 5))
    intake.end()
    assert seen[0] == "x" * MOST_COLUMNS
    assert len(seen) == MOST_LINES


def test_past_the_limit_nothing_is_kept():
    stopped = []
    intake = Intake(None, 10)
    intake.stop = lambda: stopped.append(1)
    assert intake.take(b"x" * 6)
    assert intake.take_error(b"y" * 4)
    assert not intake.take(b"x")
    assert not intake.take_error(b"y" * 9)
    assert intake.is_over
    assert stopped == [1]


@pytest.mark.parametrize("where", ["", " >&2"])
def test_output_without_end_is_ended(host, where):
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(HostFailed) as failed:
        host.run(["sh", "-c", f"exec cat /dev/zero{where}"], timeout_seconds=60)
    (problem,) = failed.value.diagnostics
    assert (problem.code, "`sh` on `sip1` sent more than 8 MiB" in problem.message) == (
        "SD531",
        True,
    )
    assert time.monotonic() - began < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 * 1024


FORGED = r"""
section real; printf 'a\n\036forged\nb\n\036%016d forged\n\036 forged\n' 0
printf '\036step forged\n'; step 'true'
section end
"""


def test_only_the_script_itself_divides_its_answer(host, monkeypatch):
    common = hosts.script_text("lock").partition(b"\nlock_host")[0]
    monkeypatch.setattr(hosts, "script_text", lambda _: common + FORGED.encode())
    seen = []
    result = run_script(host, ("x",), on_line=seen.append)
    found = sections(result.text)
    assert found.keys() == {"real", "step true", "end"}
    assert "\\x1eforged" in found["real"]
    assert is_harmless(result.output, "\n\x1e")
    assert [line for line in seen if line.startswith("\x1e")] == [
        "\x1ereal",
        "\x1estep true",
        "\x1eend",
    ]


def test_a_step_of_somebody_else_is_a_line(host, monkeypatch):
    common = hosts.script_text("lock").partition(b"\nlock_host")[0]
    monkeypatch.setattr(hosts, "script_text", lambda _: common + FORGED.encode())
    events = []
    run_step(
        host, "t", lambda machine, told: run_script(machine, ("x",), on_line=told), events.append
    )
    assert [event.title for event in events if event.state == "start"] == ["t", "true"]
    assert all(
        is_harmless(event.title + event.text) for event in events if isinstance(event, Event)
    )


def test_nobody_on_the_host_is_told_the_token(host, monkeypatch):
    """The token is neither in arguments nor in the environment, which others can read."""
    show = b'\ncat /proc/$$/cmdline; env; printf "\\n%s\\n" "$token"\n'
    common = hosts.script_text("lock").partition(b"\nlock_host")[0]
    monkeypatch.setattr(hosts, "script_text", lambda _: common + show)
    monkeypatch.setenv("token", "exported")
    first, second = (run_script(host, ("x", "argument")).stdout.decode() for _ in range(2))
    token = first.splitlines()[-1]
    assert len(token) == 16
    assert first.count(token) == 1
    assert token not in second


def hostile(name, out):
    return FakeHost(answers={name: Result(status=0, stdout=out)})


def test_facts_of_a_hostile_host_are_facts_or_a_diagnostic():
    """Randomly changed answers give facts or a diagnostic, but no traceback."""
    recorded = (FOLDER / "sid-applied.txt").read_bytes()
    dice = random.Random(10)
    odd = [
        b"\x1e",
        b"\n",
        b"\t",
        b" ",
        b"9" * 5000,
        b"inf",
        b"nan",
        b"\xff\x1b[2J",
        b"",
        "²".encode(),
    ]
    for _ in range(300):
        answer = bytearray(recorded)
        for _ in range(dice.randint(1, 40)):
            place = dice.randrange(len(answer))
            answer[place : place + dice.randint(0, 30)] = dice.choice(odd)
        with contextlib.suppress(HostFailed):
            found = facts.read(hostile("facts", bytes(answer)), QUERY)
            assert is_harmless(found.os_name + found.lock_owner + found.lock_purpose, "\n\t")


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("release", b"inf"),
        ("clock", b"1e400"),
        ("disk", b"Filesystem\n/dev/sda 1 1 x 1 /\n/\n"),
        ("memory", b"MemTotal: " + b"9" * 5000 + b" kB"),
        ("sockets", "tcp LISTEN 0 0 *:² *:*".encode()),
        ("lists", "²\n1".encode()),
        ("modes", b"7" * 400 + b" root:root /etc/x"),
        ("outcome", b"1e300\ttimer\tme"),
        ("chains", b"table\nchain\n"),
    ],
)
def test_numbers_without_bound_break_nothing(section, value):
    recorded = (FOLDER / "sid-applied.txt").read_bytes()
    parts = recorded.split(b"\x1e")
    made = [
        f"{section}\n".encode() + value if p.startswith(f"{section}\n".encode()) else p
        for p in parts
    ]
    assert made != parts
    found = facts.read(hostile("facts", b"\x1e".join(made)), QUERY)
    assert found.outcome is None or found.outcome.when < 253_402_300_800


def tar_of(*members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_a_release_that_grows_when_it_is_read_is_refused():
    for content in (b"\0" * MEBIBYTE, random.Random(1).randbytes(4000)):
        packed = gzip.compress(tar_of(("release.json", content)))
        with pytest.raises(HostFailed, match=r"the release is damaged: .*(checksum|header)"):
            fetch_release(hostile("release", packed), 1)
    info = tarfile.TarInfo("tree/hole")
    info.size = 0
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "tree/hole",
        "GNU.sparse.realsize": str(1 << 50),
    }
    content = b"1\n0\n1\n".ljust(512, b"\0") + b"x"
    info.size = len(content)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(content))
    with pytest.raises(ValueError, match="damaged"):
        release.load(buffer.getvalue())


def test_a_release_says_nothing_to_the_terminal():
    row = {"format": 1, "who": ESCAPES, "when": "\n", "purpose": ESCAPES, "what": [ESCAPES, 7]}
    out = b"\x1ecurrent\n1\n\x1erelease 1\n" + json.dumps(row).encode() + b"\n\x1eend\n"
    (header,) = history(hostile("history", out))
    told = "".join((header.who, header.when, header.purpose, *header.what))
    assert is_harmless(told)
    assert "\\x1b[2J" in header.who


@pytest.mark.parametrize(
    "data", ["[" * 100_000, "[]", '{"format": 1}', '{"format": 1, "what": 7}', "{"]
)
def test_a_release_of_another_shape_is_no_traceback(data):
    out = f"\x1ecurrent\n1\n\x1erelease 1\n{data}\n\x1eend\n".encode()
    with contextlib.suppress(HostFailed):
        assert len(history(hostile("history", out))) == 1
    with pytest.raises(ValueError, match=r"^the release (is damaged|was written)"):
        release.load(tar_of(("release.json", data.encode())))


def difference_of(present):
    change = Change(
        kind="delete", path="/etc/x", mode=0o644, owner="root:root", service="s", effect="none"
    )
    plan = dataclasses.make_dataclass("Fake", ["desired", "to_generate"])(
        dataclasses.make_dataclass("Fake", ["files"])(()), frozenset()
    )
    return text.difference(change, plan, Present(current={"/etc/x": present}))


def test_differences_say_nothing_to_the_terminal():
    rows = difference_of(f"one\n{ESCAPES}\nlast".encode() + b"\xff")
    assert is_harmless("".join(rows))
    assert any("\\x1b[2J" in row for row in rows)
    _, row = difference_of(b"x" * MEBIBYTE)
    assert len(row) <= MOST_COLUMNS + 3


def database(*statements):
    connection = sqlite3.connect(":memory:")
    for statement in statements:
        connection.execute(*statement)
    connection.commit()
    return connection.serialize()


def test_a_hostile_database_is_shown_or_damaged():
    rows = difference_of(
        database(
            ('CREATE TABLE t (a, "randomblob(900000000)", b)',),
            ("INSERT INTO t VALUES (?, 1, ?)", (ESCAPES, "two\nlines")),
        )
    )
    assert len(rows) == 2
    assert is_harmless(rows[1])
    assert rows[1].endswith("two\\nlines")
    assert len(rows[1]) < 500
    big = database(("CREATE TABLE t (a)",), ("INSERT INTO t VALUES (zeroblob(3000000))",))
    assert difference_of(big)[1:] == ["-(a damaged database)"]


def test_contents_that_are_no_base64_are_told():
    change = Change(
        kind="update", path="/etc/x", mode=0o644, owner="root:root", service="s", effect="none"
    )
    plan = dataclasses.make_dataclass("Fake", ["changes", "left", "desired", "units"])(
        [change], (), dataclasses.make_dataclass("Fake", ["units"])({}), ()
    )
    with pytest.raises(HostFailed, match="in an unknown format"):
        preview(hostile("preview", b"\x1efile 0\nabc\n\x1eend\n"), plan)
