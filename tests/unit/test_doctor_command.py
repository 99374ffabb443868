"""The command doctor without a host: its options, and a host that cannot be reached at all."""

import json

import pytest
from test_verify_command import here, reached  # noqa: F401 - fixtures

from sipdeploy.__main__ import main
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import connection, host_failed


@pytest.fixture
def unasked(monkeypatch):
    """SSH fails."""

    def refused(*_):
        raise host_failed("SD501", "`sip1` does not answer on port 22", help_="look at it")

    monkeypatch.setattr(connection, "connect", refused)


@pytest.mark.usefixtures("reached", "unasked")
def test_a_host_that_cannot_be_reached_at_all(capsys):
    assert main(["doctor", "sip1"]) == 1
    out, err = capsys.readouterr()
    assert "sip1  port ................... broken\n" in out
    assert "sip1  [SD930] port" in out
    assert "cannot be reached" in out
    assert "\n  type       " in out
    assert "not asked  `sip1` does not answer on port 22" in out
    assert "WebSocket" not in out + err


@pytest.mark.usefixtures("reached", "unasked")
def test_the_data(capsys):
    assert main(["-q", "doctor", "sip1", "connect", "--format", "json"]) == 1
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert (data["host"], data["topic"], data["asked"]) == ("sip1", "connect", False)
    assert data["verdict"]["rung"] == "port"
    assert [each["status"] for each in data["rungs"]] == ["skipped", "skipped", "broken"]
    assert err == ""


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "Missing argument 'HOST'"),
        (["sip2"], "has no host `sip2`"),
        (["sip1", "sound"], "'sound' is not one of"),
        (["sip1", "--user", "1009"], "has no user `1009`"),
    ],
)
def test_wrong_words(capsys, words, text):
    assert main(["doctor", *words]) == 2
    assert text in capsys.readouterr().err


def test_a_host_that_could_not_be_asked_has_its_own_exit_code():
    assert HostFailed.exit_code == 4
