"""A path such as ~nobody/file with an unknown user is a mistake of the user, not a bug."""

from pathlib import Path

import pytest

from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.host import known_hosts
from sipdeploy.inventory import open_inventory, passwords
from sipdeploy.inventory.files import cache_folder, expanded
from sipdeploy.inventory.site import load_site
from sipdeploy.lint import lint_inventory
from sipdeploy.services import certificates

TEXT = """\
domain: sip.example.test
email: a@b.example
hosts: {sip1: {address: 10.0.0.1}}
secrets: ~no-such-user/s.yaml
tls: {provider: files, certificate: ~no-such-user/c, private_key: ~no-such-user/k}
users: {1001: {password: {file: ~no-such-user/p}}, 1002: {}}
"""


def test_a_home_is_put_in(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert expanded("~/x") == Path("/home/me/x")
    assert expanded("a/~") == Path("a/~")
    assert expanded("~no-such-user/x") == Path("~no-such-user/x")


def test_a_user_that_there_is_not_is_told_by_the_name_written(tmp_path):
    site, problems, _ = load_site(TEXT, "inventory.yaml")
    assert site, problems
    with pytest.raises(InvalidFiles) as failed:
        certificates.read_files(site, tmp_path)
    assert [problem.code for problem in failed.value.diagnostics] == ["SD602", "SD602"]
    assert "`~no-such-user/c`" in failed.value.diagnostics[0].message
    _, told = passwords.resolve_passwords(site, tmp_path)
    assert {problem.code for problem in told} == {"SD231", "SD230"}
    lint_inventory(open_inventory(tmp_path / "inventory.yaml", raw=TEXT.encode()))


def test_files_of_ssh_that_nobody_has_are_passed_over():
    assert known_hosts.read(["~no-such-user/known_hosts"]) == ()


def test_a_cache_is_ours_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = cache_folder("templates")
    assert folder == tmp_path / "sipdeploy" / "templates"
    assert folder.stat().st_mode & 0o077 == 0
    folder.chmod(0o777)
    assert cache_folder("templates") is None, "others could have written what we would run"
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    assert cache_folder("templates") is None
