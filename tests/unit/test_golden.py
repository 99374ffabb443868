"""Complete rendered trees, which show the effect of a changed template on every host.

`pytest tests/unit/test_golden.py --update-golden` writes them again.
"""

import shutil
import sqlite3
from pathlib import Path

import pytest

from sipdeploy.inventory.site import load_site
from sipdeploy.services import file_set
from sipdeploy.services.phone import page

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/inventory.yaml"))


@pytest.fixture(autouse=True)
def _page(monkeypatch):
    """A page as short as can be: the real one is built, and the same for every site."""
    monkeypatch.setattr(page, "folder", lambda: GOLDEN / "page")


def sql(database: bytes) -> str:
    connection = sqlite3.connect(":memory:")
    connection.deserialize(database)
    text = "\n".join(connection.iterdump()) + "\n"
    connection.close()
    return text


def wanted(case: str) -> dict[str, str]:
    """Map paths below `expected` to the texts of all hosts, and to the properties of the files."""
    site, problems, _ = load_site((GOLDEN / case / "inventory.yaml").read_text("utf-8"), case)
    assert site, problems
    credentials = {number: number.rjust(32, "0") for number in site.users}
    texts = {}
    for host in site.hosts:
        files = file_set(site, host, versions=site.versions, credentials=credentials).files
        listing = [
            f"{f.mode:o} {f.owner} {f.service} {' '.join(f.reload or ['restart'])!r}"
            f"{' sensitive' if f.sensitive else ''} {f.path}\n"
            for f in files
        ]
        texts[f"{host}/FILES"] = "".join(listing)
        for file in files:
            is_database = file.path.endswith(".db")
            path = f"{host}{file.path}{'.sql' if is_database else ''}"
            texts[path] = sql(file.content) if is_database else file.content.decode()
    return texts


@pytest.mark.parametrize("case", CASES)
def test_the_tree_is_the_one_that_was_approved(case, request):
    expected, texts = GOLDEN / case / "expected", wanted(case)
    if request.config.getoption("update_golden"):
        shutil.rmtree(expected, ignore_errors=True)
        for path, text in texts.items():
            (expected / path).parent.mkdir(parents=True, exist_ok=True)
            (expected / path).write_text(text, "utf-8")
    found = {str(p.relative_to(expected)): p for p in expected.rglob("*") if p.is_file()}
    assert sorted(found) == sorted(texts)
    for path, text in texts.items():
        assert text == found[path].read_text("utf-8"), f"{path}: see --update-golden"
