"""The command status without a lab: its options, what it writes, and how it ends."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes import FakeHost
from status_states import FOLDER

from sipdeploy.__main__ import main
from sipdeploy.cli.daytwo import status
from sipdeploy.cli.output import Output
from sipdeploy.cli.session import Session
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import Result, connection

TEXT = """\
domain: sip.example.test
email: a@b.example
hosts: {sip1: {address: 10.0.0.1}, sip2: {address: 10.0.0.2}}
users: {1001: {}}
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Two hosts: the first is fine, the second cannot be reached."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIPDEPLOY_INVENTORY", raising=False)
    Path("inventory.yaml").write_text(TEXT)
    told = (FOLDER / "fine.txt").read_bytes()
    opened = []

    def connect(name, _):
        if name == "sip2":
            raise HostFailed([Diagnostic("SD501", "cannot connect to `sip2`", help="look")])
        opened.append(FakeHost(name, answers={"status": Result(status=0, stdout=told)}))
        return opened[-1]

    monkeypatch.setattr(connection, "connect", connect)
    return opened


def test_one_host_is_asked_in_one_exchange(capsys, here):
    assert main(["status", "sip1"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("sip1  fine\n  fine     release")
    assert err == ""
    ((command, state, *_), closed) = here[0].asked
    assert (command, state, closed) == ("status", "/var/lib/sipdeploy", ("close",))


def test_verdicts_have_colours_on_request(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert main(["status", "sip1"]) == 0
    assert "\n  \x1b[32mfine\x1b[0m     release  " in capsys.readouterr().out


def test_a_host_that_cannot_be_reached_hides_no_other(capsys):
    assert main(["status"]) == 4
    out, err = capsys.readouterr()
    assert "sip1  fine\n" in out
    assert "sip2  not known: reachable\n" in out
    assert out.splitlines()[-1] == "2 hosts: 1 fine; 1 not known (sip2)"
    assert "error[SD501]: cannot connect to `sip2`" in err


def test_a_person_that_is_needed_counts_more_than_an_unknown_host(capsys, monkeypatch):
    told = b"".join((FOLDER / f"{name}.txt").read_bytes() for name in ("fine", "asterisk-stuck"))
    broken = FakeHost("sip1", answers={"status": Result(status=0, stdout=told)})
    real = connection.connect
    monkeypatch.setattr(
        connection, "connect", lambda name, entry: broken if name == "sip1" else real(name, entry)
    )
    assert main(["status"]) == 1
    assert "error[SD733]: Asterisk on `sip1`" in capsys.readouterr().err


def test_a_named_host_needs_only_its_own_entry(capsys):
    Path("inventory.yaml").write_text(TEXT.replace("{1001: {}}", "{1001: {nmae: x}}"))
    assert main(["status", "sip1"]) == 0
    assert "only `hosts.sip1` is used" in capsys.readouterr().err
    assert main(["status"]) == 1
    assert "SD201" in capsys.readouterr().err


def test_a_file_has_the_metrics(capsys):
    assert main(["status", "sip1", "--format", "prometheus", "-o", "out.prom"]) == 0
    assert capsys.readouterr().out == "sip1  fine\n"
    file = Path("out.prom")
    assert 'sipdeploy_host_up{host="sip1"} 1\n' in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o644


def test_json(capsys):
    assert main(["status", "--format", "json"]) == 4
    hosts = json.loads(capsys.readouterr().out)["hosts"]
    assert [(host["host"], host["verdict"]) for host in hosts] == [
        ("sip1", "fine"),
        ("sip2", "unknown"),
    ]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["sip3"], 2, "has no host `sip3`"),
        (["--every", "5"], 2, "not a time"),
        (["--every", "1s"], 2, "the least is `10s`"),
        (["-o", "missing/out.prom"], 1, "SD110"),
        (["--format", "xml"], 2, "xml"),
        (["--watch", "--every", "1m"], 2, "leave out `--watch`"),
    ],
)
def test_wrong_options(capsys, words, code, text):
    assert main(["status", *words]) == code
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_watch_ends_cleanly(sent):
    """Nobody listens at this port of this machine, so the host cannot be reached."""
    site = TEXT.replace("sip1: {address: 10.0.0.1}, sip2: {address: 10.0.0.2}", "sip1: HOST")
    entry = "{address: 127.0.0.1, port: 9, public_address: 192.0.2.1}"
    Path("inventory.yaml").write_text(site.replace("HOST", entry))
    command = [sys.executable, "-m", "sipdeploy", "status", "--watch", "-o", "out.txt"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watching:
        begun = time.monotonic()
        while not Path("out.txt").exists():
            assert time.monotonic() - begun < 60
            time.sleep(0.05)
        watching.send_signal(sent)
        out, errors = watching.communicate(timeout=30)
    assert watching.returncode == 0, errors
    assert out == "sip1  not known: reachable\n"
    assert "SD501" in errors
    assert "Traceback" not in errors
    assert (
        Path("out.txt").read_text().startswith("sip1  not known: reachable\n  unknown  reachable")
    )


def test_a_watch_keeps_its_connections_and_opens_lost_ones_again(here):
    rounds = []

    def view(statuses, *, begin):
        assert begin == ""
        rounds.append([each.verdict for each in statuses])
        if len(rounds) == 2:
            here[0].answers["status"] = Result(status=0, stdout=b"\x1enothing\n")
        if len(rounds) == 4:
            hosts.stop.set()

    session = Session(output=Output())
    hosts = status.Hosts(session=session, loaded=status.asked_for(session, ["sip1"]))
    status.repeat(hosts, view, 0)
    hosts.close()
    assert rounds == [["fine"], ["fine"], ["unknown"], ["fine"]]
    assert len(here) == 2
    assert here[0].asked[-1] == here[1].asked[-1] == ("close",)
