"""The command verify without a host: its options, what it writes, and how it ends."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sipdeploy.__main__ import main
from sipdeploy.proof.outside import network

ADDRESS = "192.0.2.1"  # of nobody (RFC 5737)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A site whose port on this machine is closed."""
    monkeypatch.chdir(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = f"""\
domain: sip.example.test
email: ops@example.com
hosts: {{sip1: {{address: local, public_address: {ADDRESS}, private_address: 10.255.255.1}}}}
ports: {{wss: {port}}}
users: {{1001: }}
"""
    Path("inventory.yaml").write_text(text)


@pytest.fixture
def reached(monkeypatch):
    """Why a connection to the host fails."""

    async def refused(*_):
        return "connection refused"

    monkeypatch.setattr(network, "knock", refused)


@pytest.mark.usefixtures("reached")
def test_a_host_that_cannot_be_reached(capsys):
    assert main(["verify", "--level", "ports"]) == 1
    out, err = capsys.readouterr()
    assert "sip1  does not work: TCP failed" in out
    assert "error[SD902]" in err
    assert "= help: on `sip1`: `ss -ltn" in err


@pytest.mark.usefixtures("reached")
def test_quiet_prints_the_result_alone(capsys):
    assert main(["-q", "verify", "--level", "ports", "--format", "json"]) == 1
    steps = json.loads(capsys.readouterr().out)["hosts"][0]["steps"]
    assert [step["status"] for step in steps] == ["skipped", "failed", *["skipped"] * 3]


@pytest.mark.usefixtures("reached")
def test_a_file_has_the_result(capsys):
    assert main(["verify", "--level", "ports", "--format", "prometheus", "-o", "out.prom"]) == 1
    assert capsys.readouterr().out == ""
    file = Path("out.prom")
    assert 'sipdeploy_verify_success{host="sip1",level="ports"} 0\n' in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o644


@pytest.mark.usefixtures("reached")
def test_a_report_is_written_beside_the_result(capsys):
    assert main(["verify", "--level", "ports", "--report", "out.html"]) == 1
    assert "sip1  does not work: TCP failed" in capsys.readouterr().out
    file = Path("out.html")
    assert "<title>sipdeploy verify: sip1 does not work</title>" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["sip2"], 2, "has no host `sip2`"),
        (["--user", "1009"], 2, "has no user `1009`"),
        (["--every", "5"], 2, "not a time"),
        (["--every", "1s"], 2, "the least is `10s`"),
        (["--every", "5 m"], 2, "not a time"),
        (["-o", "missing/out.prom"], 1, "SD110"),
        (["--report", "missing/out.html"], 1, "SD110"),
        (["--report", "x.txt"], 2, "`--report x.html`"),
        (["--report", "x"], 2, "`x` does not end in .html"),
        (["--level", "loud"], 2, "loud"),
    ],
)
def test_wrong_options(capsys, words, code, text):
    assert main(["verify", *words]) == code
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_monitor_ends_cleanly(sent):
    command = ["verify", "--level", "ports", "--every", "10s", "-o", "out.txt"]
    with subprocess.Popen(
        [sys.executable, "-m", "sipdeploy", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as monitor:
        begun = time.monotonic()
        while not Path("out.txt").exists():
            assert time.monotonic() - begun < 60
            time.sleep(0.05)
        monitor.send_signal(sent)
        _, errors = monitor.communicate(timeout=30)
    assert monitor.returncode == 0, errors
    assert "Traceback" not in errors
    assert [path.name for path in sorted(Path().iterdir())] == ["inventory.yaml", "out.txt"]
