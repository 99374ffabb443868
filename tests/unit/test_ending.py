"""The end of a run: SIGTERM undoes the changes, as Ctrl-C does."""

import os
import signal
import time
from dataclasses import replace

import pytest

from sipdeploy.cli.output import Output
from sipdeploy.cli.run import INTERRUPTED, transact
from sipdeploy.cli.session import Session
from sipdeploy.transaction import Interrupted, Report


@pytest.fixture
def session(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return Session(named=tmp_path / "inventory.yaml", output=Output())


def report():
    return Report(
        host="sip1",
        state="rolled back",
        changes=(),
        diagnostics=(),
        seconds=0.0,
        sources={},
        exit_code=0,
    )


def test_a_termination_lets_the_undo_come_first(session, capsys):
    undone = []

    def run(say):
        del say
        # otherwise the signal would end the test
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except KeyboardInterrupt:
            undone.append("sip1")
            raise Interrupted((report(),)) from None
        return ()

    before = signal.getsignal(signal.SIGTERM)
    assert transact(session, run, form="text")[0] == INTERRUPTED
    assert undone == ["sip1"]
    assert "rolled back" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_undo_that_failed_is_not_called_an_interrupt(session):
    """130 promises that sipdeploy undid its changes."""

    def run(say):
        del say
        raise Interrupted((replace(report(), state="unknown", exit_code=5),))

    assert transact(session, run, form="text")[0] == 5
