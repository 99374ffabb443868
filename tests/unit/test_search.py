"""Where an inventory is looked for, if none is named."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from sipdeploy.__main__ import main
from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.inventory import search

TEXT = (
    "domain: sip.example.com\nemail: a@b.example\nhosts: {a: {address: 203.0.113.1}}\nusers: {}\n"
)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A git repository with a folder below, outside the home of the user."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SIPDEPLOY_INVENTORY", raising=False)
    below = tmp_path / "repository/a/b"
    below.mkdir(parents=True)
    (tmp_path / "repository/.git").mkdir()
    monkeypatch.chdir(below)
    return tmp_path / "repository"


@pytest.mark.parametrize("name", search.NAMES)
def test_an_inventory_above_is_found_and_named(site, capsys, name):
    (site / name).write_text(TEXT)
    assert search.nearest(Path()) == Path("../..", name)
    assert main(["lint"]) == 0
    assert f"inventory: ../../{name}" in capsys.readouterr().err


def test_the_nearest_one_counts(site):
    (site / "inventory.yaml").write_text(TEXT)
    (site / "a/sipdeploy.yaml").write_text(TEXT)
    assert search.nearest(Path()) == Path("../sipdeploy.yaml")
    Path("inventory.yaml").write_text(TEXT)
    assert search.nearest(Path()) == Path("inventory.yaml")


def test_the_search_ends_at_the_top_of_the_repository(site):
    (site.parent / "inventory.yaml").write_text(TEXT)
    assert search.nearest(Path()) == Path("inventory.yaml")


def test_outside_of_a_repository_it_ends_at_home_and_elsewhere_at_once(site, monkeypatch):
    (site / ".git").rmdir()
    (site / "inventory.yaml").write_text(TEXT)
    assert search.nearest(Path()) == Path("inventory.yaml")
    monkeypatch.setenv("HOME", str(site))
    assert search.nearest(Path()) == Path("../../inventory.yaml")


@pytest.mark.parametrize(("owner", "is_taken"), [(0, True), (4711, True), (4712, False)])
def test_an_inventory_of_somebody_else_above_is_not_taken(site, monkeypatch, owner, is_taken):
    (site / "inventory.yaml").write_text(TEXT)
    monkeypatch.setattr(search.os, "geteuid", lambda: 4711)
    real = Path.lstat
    fake = SimpleNamespace(st_uid=owner)
    monkeypatch.setattr(
        Path, "lstat", lambda path: fake if path.name in search.NAMES else real(path)
    )
    expected = "../../inventory.yaml" if is_taken else "inventory.yaml"
    assert search.nearest(Path()) == Path(expected)


def test_two_inventories_are_an_error_that_names_both(site, capsys):
    for name in search.NAMES:
        (site / "a" / name).write_text(TEXT)
    with pytest.raises(InvalidFiles, match="SD111"):
        search.nearest(Path())
    assert main(["lint"]) == 1
    said = capsys.readouterr().err
    assert all(f"../{name}" in said or f"a/{name}" in said for name in search.NAMES)
    assert main(["-i", "../sipdeploy.yaml", "lint"]) == 0


def test_init_completes_the_inventory_beside_it_and_looks_nowhere_else(site):
    (site / "inventory.yaml").write_text(TEXT)
    Path("sipdeploy.yaml").write_text(TEXT)
    assert main(["init"]) == 0
    assert not Path("inventory.yaml").exists()
    assert Path("inventory.schema.json").exists()
