"""The commands backup, restore and uninstall, up to the host."""

import json
import subprocess

import pytest
from backups import SMALL, packed

from sipdeploy.__main__ import main

TEXT = """\
domain: {domain}
email: a@b.example
hosts: {{sip1: {{address: 10.0.0.1}}}}
users: {{1001: {{}}}}
tls: {{provider: self-signed}}
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIPDEPLOY_INVENTORY", raising=False)
    (tmp_path / "inventory.yaml").write_text(TEXT.format(domain="sip.example.test"))
    (tmp_path / "good.backup").write_bytes(packed(SMALL))
    (tmp_path / "bad.backup").write_bytes(packed(SMALL)[:-100])

    def start(*words):
        code = main(list(words))
        out, err = capsys.readouterr()
        return code, out, err

    return start


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("sip1",),
        ("-o", "x"),
        ("sip1", "--verify", "good.backup"),
        ("--list", "good.backup", "--verify", "good.backup"),
        ("sip1", "-o", "x", "--age-recipient", "-i"),
    ],
)
def test_words_that_do_not_fit_together(run, words):
    code, _, err = run("backup", *words)
    assert (code, "SD002" in err) == (2, True)


def test_a_backup_is_listed_and_verified_without_a_host(run):
    code, out, _ = run("backup", "--verify", "good.backup")
    assert code == 0
    origin, content = out.splitlines()
    assert origin.startswith("sip1  sip.example.test, release 3, 2026-11-27T01:00:00Z; os Debian")
    parts = "1 message of 1 user, 1 greeting of 1 user, key of dialogs, 2 local files; 7 files"
    assert content == f"  {parts}, 0.1 MB"
    code, out, _ = run("backup", "--list", "good.backup")
    assert "0640  root:root     25  /etc/kamailio/local.cfg" in out.splitlines()
    code, out, _ = run("backup", "--list", "good.backup", "--format", "json")
    assert [row["path"] for row in json.loads(out)["files"]] == list(SMALL)


@pytest.mark.parametrize(
    ("file", "expected"),
    [("bad.backup", "SD741"), ("inventory.yaml", "SD741"), ("none.backup", "SD110")],
)
def test_a_file_that_is_no_backup(run, file, expected):
    for words in (("backup", "--verify", file), ("restore", "sip1", file, "--yes")):
        code, _, err = run(*words)
        assert (code, expected in err, "Traceback" in err) == (1, True, False)
        assert "Errno" not in err
        assert "gzip" not in err
        assert ("is not a backup of sipdeploy" in err) == (file == "inventory.yaml")


def test_a_backup_of_another_domain_is_refused(run, tmp_path):
    (tmp_path / "inventory.yaml").write_text(TEXT.format(domain="sip.other.test"))
    code, _, err = run("restore", "sip1", "good.backup", "--yes")
    assert code == 1
    assert "SD746" in err
    assert "`--other-domain`" in err


def test_without_a_terminal_and_yes_nothing_happens(run):
    assert run("restore", "sip1", "good.backup")[0] == 2
    assert run("uninstall", "sip1")[0] == 2


def test_a_plain_backup_does_not_get_into_git(run, tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    code, _, err = run("backup", "sip1", "-o", "sip1.backup")
    assert code == 1
    assert "SD307" in err
    assert "private keys and messages" in err
    assert not (tmp_path / "sip1.backup").exists()
