"""The log of a run: readable only for its owner, and without secrets from any source."""

import os
import stat
from pathlib import Path

import pytest

from sipdeploy.cli.hosts import _save
from sipdeploy.cli.output import Output
from sipdeploy.cli.run import RunLog
from sipdeploy.cli.session import Session
from sipdeploy.diagnostics import Diagnostic, Source, Span
from sipdeploy.transaction.reports import Report
from sipdeploy.transaction.runner import Event

SECRET = "5f4dcc3b5aa765d61d8327deb882cf99"


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    before = os.umask(0)
    with RunLog([SECRET]) as running:
        yield running
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_its_owner_alone_reads_it(log):
    log.event(Event(host="sip1", title="t", state="ok"))
    assert log.path.suffix == ".log"
    assert (mode(log.path), mode(log.path.parent)) == (0o600, 0o700)


def test_a_full_disk_ends_no_run(monkeypatch, tmp_path):
    full = Path("/dev/full").open("w", errors="backslashreplace")  # noqa: SIM115
    monkeypatch.setattr("sipdeploy.cli.run._private", lambda _: full)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with RunLog([]) as running:
        running.event(Event(host="sip1", title="t", state="ok"))
        running.event(Event(host="sip1", title="t", state="ok", text="\udcff"))


def test_its_owner_alone_reads_a_saved_plan(tmp_path):
    before = os.umask(0)
    session = Session(named=tmp_path / "inventory.yaml", output=Output(quiet=True))
    _save(session, {}, tmp_path / "plan.json")
    os.umask(before)
    assert mode(tmp_path / "plan.json") == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_a_secret_in_what_a_host_says_is_hidden(log):
    log.event(Event(host="sip1", title=f"a {SECRET}", state="line", text=f"md5_cred = {SECRET}"))
    written = log.path.read_text()
    assert SECRET not in written
    assert written.count("[hidden]") == 2


def test_a_secret_in_what_became_of_a_host_is_hidden(log):
    problem = Diagnostic(
        "SD521",
        f"message {SECRET}",
        span=Span(path="f", line=1, column=1),
        label=f"label {SECRET}",
        notes=(f"note {SECRET}",),
        help=f"help {SECRET}",
    )
    report = Report(
        host="sip1",
        state="unchanged",
        changes=(f"~ {SECRET}",),
        diagnostics=(problem,),
        seconds=1.0,
        sources={"f": Source(lines=[f"line {SECRET}"])},
        exit_code=4,
    )
    log.report(report)
    written = log.path.read_text()
    assert SECRET not in written
    assert written.count("[hidden]") == 6
