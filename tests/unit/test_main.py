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


KEY = f"-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIJ\n{'x' * 9}\n-----END EC PRIVATE KEY-----"


@pytest.mark.parametrize(
    "secret",
    [
        "8f14e45fceea167a5a36dedd4bea2543",  # an HA1
        "8F14E45FCEEA167A5A36DEDD4BEA2543",
        "c4ca4238a0b923820dcc509a6f75849b" * 2,  # the dialog key
        "54ct4/i+L12T8UN/nUycXkc4DbTzFEx38lThHxHC8Js=",  # a key in base64
        "k7RvQmZ2xWn9TsJcH4yLpB3d",  # a generated password
        KEY,
        KEY.partition("-----END")[0],
    ],
    ids=lambda secret: secret[:12],
)
def test_a_crash_log_hides_what_looks_like_a_secret(fail, tmp_path, monkeypatch, secret):
    monkeypatch.setattr(entry.tempfile, "tempdir", str(tmp_path))
    assert fail(KeyError(f"digest='{secret}'")) == 3
    (log,) = tmp_path.iterdir()
    text = log.read_text()
    assert "digest='[hidden]" in text
    assert secret not in text


def test_a_crash_log_keeps_what_a_report_needs(fail, tmp_path, monkeypatch):
    monkeypatch.setattr(entry.tempfile, "tempdir", str(tmp_path))
    word = "VersionConflictWithoutAnyNumber"
    said = f"{word} on ops:x@sip.example.com at https://ops:pw-x@sip.example.com/a"
    assert fail(ValueError(said)) == 3
    text = next(tmp_path.iterdir()).read_text()
    assert f"{word} on ops:x@sip.example.com at https://[hidden]@sip.example.com/a" in text
    assert f'File "{__file__}"' in text
