"""The rows of mutations fit the tree; `python -m tests.mutations` runs them."""

import ast
from pathlib import Path

import pytest

from tests.mutations.rows import ROOT, load
from tests.mutations.run import copy_of

ROWS = load()
QUICK = [row for row in ROWS if row.quick]


def functions(file: Path) -> set[str]:
    nodes = ast.walk(ast.parse(file.read_text("utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def test_names_are_unique():
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_mutation_fits_the_tree(row):
    assert row.occurrences() == 1, f"{row.file} has to hold the text exactly once"
    assert row.replacement != row.text
    assert row.test_function in functions(ROOT / row.test_file)
    assert "golden" not in row.test_file, "a golden file notices every change, and proves nothing"


def test_ten_are_quick():
    assert len(QUICK) == 10
    assert all(row.is_unit for row in QUICK)


def test_the_checkout_stays_as_it_is():
    before = (ROOT / ROWS[0].file).read_bytes()
    with copy_of() as copy:
        ROWS[0].make(copy)
        assert (copy / ROWS[0].file).read_bytes() != before
    assert (ROOT / ROWS[0].file).read_bytes() == before
    assert not copy.exists()
