import click
import pytest

from sipdeploy import __main__ as entry
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import HostFailed, RollbackFailed
from sipdeploy.inventory.secret import Secret

PROBLEM = [Diagnostic("SD500", "sip1 is gone")]


@pytest.fixture
def fail(monkeypatch):
    def with_failure(failure):
        def raising(*_, **__):
            raise failure

        monkeypatch.setattr(entry.cli, "main", raising)
        return entry.main([])

    return with_failure


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        (HostFailed(PROBLEM), 4, "error[SD500]: sip1 is gone"),
        (RollbackFailed(PROBLEM), 5, "error[SD500]: sip1 is gone"),
        (click.UsageError("no"), 2, "no"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.Abort(), 130, "interrupted"),
    ],
)
def test_each_failure_has_its_code(fail, capsys, failure, code, said):
    assert fail(failure) == code
    assert said in capsys.readouterr().err


def test_a_bug_is_two_lines_and_a_log_without_secrets(fail, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(entry.tempfile, "tempdir", str(tmp_path))
    password = Secret("hunter2hunter2")
    assert fail(RuntimeError(f"cannot use {password.reveal()}")) == 3
    lines = capsys.readouterr().err.splitlines()
    (log,) = tmp_path.iterdir()
    assert len(lines) == 2
    assert str(log) in lines[1]
    assert log.stat().st_mode & 0o777 == 0o600
    text = log.read_text()
    assert "RuntimeError: cannot use [hidden]" in text
    assert "hunter2" not in text
