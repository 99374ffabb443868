"""Faulty inventories and their exact diagnostics: tests/diagnostics/NAME.yaml and NAME.txt.

`UPDATE_GOLDEN=1 pytest tests/unit/test_diagnostic_cases.py` writes the texts; review the diff.
"""

import os
import re
from pathlib import Path

import pytest

from sipdeploy.diagnostics import Source, full
from sipdeploy.inventory.reading import decode
from sipdeploy.inventory.site import load_site, source
from sipdeploy.lint import explanations, judge
from sipdeploy.lint.rules import Subject

CASES = sorted((Path(__file__).parent.parent / "diagnostics").glob("*.yaml"))


def shown(case: Path) -> str:
    text, problems = decode(case.read_bytes(), "inventory.yaml")
    if text is None:
        return full(problems) + "\n"
    site, problems, document = load_site(text, "inventory.yaml")
    if site is not None:
        problems += judge(Subject(site=site, document=document))
    sources: dict[str, Source] = {"inventory.yaml": source(document)}
    return full(problems, sources) + "\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_text_is_exactly_that(case):
    golden = case.with_suffix(".txt")
    text = shown(case)
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text, "utf-8")
    assert text == golden.read_text("utf-8")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_every_problem_names_a_fix(case):
    *problems, _ = shown(case).split("\n\n")
    assert [text for text in problems if "= help: " not in text] == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_no_password_is_shown(case):
    assert "hunter2" not in shown(case)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_code_in_the_name_is_told(case):
    code = re.match(r"sd\d{3}", case.stem)
    assert code is None or f"[{code[0].upper()}]" in shown(case)


def test_every_code_of_yaml_and_site_has_a_case():
    named = {case.stem[:5].upper() for case in CASES}
    wanted = {code for code in explanations() if "SD100" < code < "SD228"} - {"SD110", "SD111"}
    assert wanted <= named


def test_no_text_is_left_without_its_inventory():
    texts = {path.stem for path in CASES[0].parent.glob("*.txt")}
    assert texts == {case.stem for case in CASES}
