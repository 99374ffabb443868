import contextlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from fakes import FakeHost

from sipdeploy import host as hosts
from sipdeploy.cli import live, serving
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import Result, run_script
from sipdeploy.host.local import LocalHost
from sipdeploy.host.sudo import Sudo
from sipdeploy.inventory.site import load_site
from sipdeploy.transaction import release

SITE, _, _ = load_site(
    "{domain: sip.example.test, email: a@example.test, hosts: {sip1: {address: 10.0.0.1}},"
    " tls: {provider: self-signed}, users: {1001: {name: Alice}}}",
    "inventory.yaml",
)


@pytest.fixture
def host():
    return LocalHost("here")


def test_words_arrive_as_they_are(host):
    words = ["a b", "$HOME", "`x`", "'", '"', "\n", "*", "", "é"]
    assert host.run(["printf", "%s|", *words]).text == "".join(f"{word}|" for word in words)


def test_a_status_is_no_exception(host):
    assert host.run(["sh", "-c", "echo no >&2; exit 7"]) == Result(status=7, stderr=b"no\n")


def test_a_missing_program_is_a_status(host):
    assert host.run(["no-such-program"]).status == 127


def test_input_and_both_outputs_pass_at_once(host):
    data = bytes(range(256)) * 20_000
    result = host.run(["tee", "/dev/stderr"], input=data, most_bytes=2 * len(data))
    assert result.stdout == data
    assert result.stderr == data


def test_input_that_nobody_reads_does_no_harm(host):
    assert host.run(["true"], input=b"x" * 1_000_000).status == 0


def test_lines_come_while_the_command_runs(host):
    seen = []
    script = "echo one; sleep 0.3; printf two"
    host.run(["sh", "-c", script], on_line=lambda line: seen.append((line, time.monotonic())))
    assert [line for line, _ in seen] == ["one", "two"]
    assert seen[1][1] - seen[0][1] > 0.2


def test_a_command_that_does_not_end_is_ended(host):
    began = time.monotonic()
    with pytest.raises(HostFailed, match="did not end"):
        host.run(["sh", "-c", "sleep 20"], timeout_seconds=0.3)
    assert time.monotonic() - began < 5


def living(mark):
    """The living processes with this text in their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            state = path.with_name("stat").read_text().rpartition(") ")[2][0]
            if mark.encode() in path.read_bytes() and state not in "ZX":
                found.append(int(path.parent.name))
    return found


# A command with children: one ignores SIGTERM, one is in a session of its own, as sudo makes it,
# and one is that too and leaves a child behind when it dies.
FAMILY = """
    (trap '' TERM; sleep 61.{mark}; sleep 62.{mark}) &
    setsid sh -c 'sleep 63.{mark}; sleep 64.{mark}' &
    setsid sh -c 'trap "sleep 67.{mark} & exit" TERM; sleep 68.{mark} & wait' &
    sleep 65.{mark}; sleep 66.{mark}; :
"""


@pytest.mark.parametrize("way", ["close", "timeout"])
def test_a_local_command_ends_with_all_its_children(host, way):
    mark = f"{os.getpid()}{1 if way == 'close' else 2}"
    argv = ["sh", "-c", FAMILY.format(mark=mark)]
    began = time.monotonic()
    if way == "close":
        timer = threading.Timer(0.5, host.close)
        timer.start()
        assert host.run(argv).status == -signal.SIGTERM
        timer.join()
    else:
        with pytest.raises(HostFailed, match="did not end"):
            host.run(argv, timeout_seconds=0.5)
    assert time.monotonic() - began < 30
    while living(f".{mark}") and time.monotonic() - began < 30:
        time.sleep(0.05)  # the kernel ends a killed process when it next runs
    assert living(f".{mark}") == []
    assert host.run(["echo", "next"]).text == "next\n", "the undo needs it"


def test_a_process_that_escaped_does_not_keep_the_step_alive(host):
    """A daemon holds the output open, and is nobody's child any more."""
    mark = f"67.{os.getpid()}"
    script = f"(setsid sleep {mark} &) ; sleep 0.2; exec sleep 60"
    threading.Timer(0.6, host.close).start()
    began = time.monotonic()
    try:
        host.run(["sh", "-c", script])
        assert time.monotonic() - began < 30
    finally:
        for pid in living(mark):
            os.kill(pid, signal.SIGKILL)


def test_a_script_reads_the_input_behind_it(host, monkeypatch):
    script = b'echo "$0 $1 $2"; cat\n'
    monkeypatch.setattr(hosts, "script_text", lambda _: script)
    result = run_script(host, ("name", "a b", "$c"), input=b"the\nrest")
    assert result.text == "sipdeploy-name a b $c\nthe\nrest"


def test_every_script_is_shell(host):
    for name in ("facts", "lock", "unlock", "packages", "stage", "swap", "restore", "services"):
        text = hosts.script_text(name)
        assert host.run(["sh", "-n"], input=text).output == ""


@pytest.fixture
def login(tmp_path, monkeypatch):
    """Runs a command line as the shell of a login does, with a sudo that is this script."""
    programs = tmp_path / "programs"
    programs.mkdir()

    def run(script, argv, *, greeting=""):
        (programs / "sh").unlink(missing_ok=True)
        (programs / "sh").symlink_to("/bin/sh")
        if script is None:
            monkeypatch.setenv("PATH", str(programs))
        else:
            (programs / "sudo").write_text(f"#!/bin/sh\n{script}\n")
            (programs / "sudo").chmod(0o755)
            monkeypatch.setenv("PATH", str(programs), prepend=":")

        def exchange(call):
            words = ["sh", "-c", greeting + call.line]
            done = subprocess.run(words, input=call.input, capture_output=True, check=False)
            result = Result(status=done.returncode, stdout=done.stdout, stderr=done.stderr)
            return result, False

        return Sudo("sip1", "deploy").run(argv, b"", exchange, has_shell=True)

    return run


REAL = 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"'


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (
            "echo 'sudo: Ein Passwort ist notwendig' >&2; exit 1",
            "sudo: Ein Passwort ist notwendig",
        ),
        ("echo 'il faut un mot de passe'; exit 1", "il faut un mot de passe"),
        ("echo 'sorry, not you'; exit 0", "sorry, not you"),
        ("exit 7", "sudo ended with status 7"),
    ],
)
def test_sudo_that_refuses_in_any_language_is_told(login, script, words):
    with pytest.raises(HostFailed) as failed:
        login(script, ["cat"])
    (problem,) = failed.value.diagnostics
    assert problem.code == "SD505"
    assert problem.notes == (words,)
    assert "echo 'deploy ALL=(ALL) NOPASSWD: ALL'" in problem.help


def test_a_host_without_sudo_is_told(login):
    with pytest.raises(HostFailed) as failed:
        login(None, ["cat"])
    (problem,) = failed.value.diagnostics
    assert (problem.code, "has no sudo" in problem.message) == ("SD505", True)


def test_a_command_that_fails_or_speaks_like_sudo_is_not_sudo(login):
    argv = ["sh", "-c", "echo 'sudo: a password is required' >&2; exit 1"]
    result = login(f"echo 'sudo: unable to resolve host sip1' >&2; {REAL}", argv)
    assert (result.status, result.stdout) == (1, b"")
    assert result.complaint.splitlines() == [
        "sudo: unable to resolve host sip1",
        "sudo: a password is required",
    ]
    assert login(REAL, ["no-such-program"]).status == 127


def test_what_a_login_prints_first_is_no_answer(login):
    assert login(REAL, ["echo", "it's"], greeting="printf 'Welcome! '; ").stdout == b"it's\n"


@pytest.mark.parametrize(
    "answer",
    [
        b'Please login as the user "ubuntu" rather than the user "root".\n\n',
        b"This account is currently not available.\n",
        b"\x1e0123456789abcdef begin\n\x1eend\n",
        b"",
    ],
)
def test_an_answer_that_is_not_the_script_s_is_judged_by_one_judge(answer, monkeypatch):
    class Other(FakeHost):
        def run(self, argv, **options):
            del argv, options
            return Result(status=0, stdout=answer)

    for ask in (
        lambda host: run_script(host, ("facts",)),
        release.history,
        lambda host: release.fetch_release(host, 1),
        lambda host: serving.read(host, SITE),
        lambda _: live._ask("sip1", SITE),  # noqa: SLF001
    ):
        host = Other()
        host.login = "deploy"
        monkeypatch.setattr(live, "connect", lambda *_, host=host: host)
        with pytest.raises(HostFailed) as failed:
            ask(host)
        (problem,) = failed.value.diagnostics
        assert problem.code == "SD509"
        assert "for the login `deploy`" in problem.message
        assert "`hosts.sip1.user`" in problem.help
        assert "`getent passwd deploy`" in problem.help
        assert problem.notes


def test_what_bashrc_prints_belongs_to_no_answer(host, monkeypatch):
    """The release is a tar, which a word before it would break."""
    monkeypatch.setattr(hosts, "script_text", lambda _: b"printf 'one\\ntwo'\n")

    class Greeting(FakeHost):
        def run(self, argv, **options):
            on_line = options.get("on_line")
            argv = ["sh", "-c", 'echo hello; printf "no end: "; exec "$@"', "sh", *argv]
            return host.run(argv, input=options["input"], on_line=on_line)

    seen = []
    result = run_script(Greeting(), ("release",), on_line=seen.append)
    assert (result.stdout, seen) == (b"one\ntwo", ["one", "two"])


def test_the_fake_takes_what_a_host_takes():
    fake = FakeHost(answers={"name": Result(status=3, stdout=b"a\nb\n")})
    seen = []
    argv = ["sh", "-c", "reader", "sipdeploy-name", "2", "x"]
    assert fake.run(argv, input=b"##data", on_line=seen.append).status == 3
    assert (fake.asked, fake.inputs, seen) == ([("name", "x")], [b"data"], ["a", "b"])


def test_a_stream_passes_in_pieces_without_a_limit(host):
    seen = []
    data = (bytes([number]) * 65536 for number in range(200))
    result = host.run(
        ["cat"],
        input=data,
        sink=lambda chunk: bool(seen.append(chunk)) or True,
        most_bytes=10,
    )
    assert b"".join(seen) == b"".join(bytes([number]) * 65536 for number in range(200))
    assert len(result.stdout) == 65536, "only the beginning is kept"


def test_a_sink_ends_the_command(host):
    began = time.monotonic()
    assert host.run(["yes"], sink=lambda _: False).status < 0
    assert time.monotonic() - began < 5


def test_a_sink_gets_the_output_of_a_script_without_the_greeting(host, monkeypatch):
    text = b"echo body; cat; echo problem >&2; exit 3\n"
    monkeypatch.setattr(hosts, "script_text", lambda _: text)
    seen = []

    class Greeting:
        """Prints something before the script, as a login may."""

        name, login = "sip1", "root"

        def run(self, argv, **options):
            return host.run(["sh", "-c", 'echo welcome; exec "$@"', "sh", *argv], **options)

    result = run_script(
        Greeting(),
        ("any",),
        input=[b"one ", b"two"],
        sink=lambda chunk: bool(seen.append(chunk)) or True,
    )
    assert b"".join(seen) == b"body\none two"
    assert (result.status, result.complaint) == (3, "problem")
