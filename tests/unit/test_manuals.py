"""Every code has a manual; its example has the problem, and its fix does not."""

import re
from pathlib import Path

import pytest

from sipdeploy.diagnostics.codes import EXPLAIN
from sipdeploy.inventory.site import Site, load_site
from sipdeploy.lint import explanations
from sipdeploy.lint.stack import kamailio
from sipdeploy.lint.stack.files import StackFile
from sipdeploy.lint.stack.rules import RULES, Stack

PACKAGE = Path(__file__).parent.parent.parent / "sipdeploy"
CODE = re.compile(r'"(SD\d{3})"')
BASE = {
    "domain": "sip.example.com",
    "email": "ops@example.com",
    "hosts": "{sip1: {address: 203.0.113.10}}",
    "users": "{1001: {name: Alice}}",
}
# Their examples are not parts of an inventory, so this test cannot try them.
UNTRIED = {"SD102", "SD103", "SD107", "SD108", "SD109", "SD110", "SD111", "SD220"}
TRIED = sorted(code for code in EXPLAIN if "SD100" < code < "SD228" and code not in UNTRIED)


def raised() -> set[str]:
    """Return the codes in the source."""
    return {
        code for path in PACKAGE.rglob("*.py") for code in CODE.findall(path.read_text("utf-8"))
    }


def part(manual: str, title: str) -> str:
    match = re.search(rf"^{title}: (.*?)(?=^[A-Z][a-z]+:|\Z)", manual, re.MULTILINE | re.DOTALL)
    return match[1] if match else ""


def snippets(manual: str, title: str) -> list[str]:
    return re.findall(r"`([^`]+)`", part(manual, title))


def codes_of(lines: str) -> set[str]:
    rest = {k: v for k, v in BASE.items() if not re.search(f"^{k}:", lines, re.MULTILINE)}
    text = "".join(f"{key}: {value}\n" for key, value in rest.items())
    return {problem.code for problem in load_site(text + lines + "\n", "inventory.yaml")[1]}


def test_every_code_has_a_manual_and_every_manual_a_code():
    assert raised() == explanations().keys()


@pytest.mark.parametrize("code", sorted(explanations()))
def test_a_manual_says_what_where_and_how_to_fix_it(code):
    manual = explanations()[code]
    lines = manual.split("\n")
    assert lines[0].endswith("."), "the first line is a sentence of its own, for the list"
    assert len(f"{code}  {lines[0]}") <= 99
    has_text = part(manual, "Example") or part(manual, "Situation")
    has_snippets = re.search(r"^Bad:.*\n    ", manual, re.MULTILINE)
    assert has_text or has_snippets
    assert part(manual, "Fix") or re.search(r"^Good:.*\n    ", manual, re.MULTILINE)
    assert max(map(len, lines)) <= 99


@pytest.mark.parametrize("code", sorted(EXPLAIN))
def test_a_manual_of_a_code_is_compact(code):
    assert 3 <= len(EXPLAIN[code].split("\n")) <= 8


@pytest.mark.parametrize("code", TRIED)
def test_the_example_of_an_inventory_has_the_problem(code):
    examples = snippets(EXPLAIN[code], "Example")
    assert any(code in codes_of(text) for text in [*examples, "\n".join(examples)])


@pytest.mark.parametrize("code", TRIED)
def test_the_fix_of_an_inventory_has_no_problem(code):
    for text in snippets(EXPLAIN[code], "Fix"):
        if text.partition(": ")[0] in Site.model_fields:
            assert codes_of(text) == set()


# --- rules of files that others wrote ------------------------------------------------------------

KAMAILIO = sorted(code for code in RULES if "SD800" <= code < "SD830")


def excerpt(code: str, title: str) -> str:
    """The indented snippet of a manual below a title."""
    manual = explanations()[code]
    match = re.search(rf"^{title}:\n((?:    .*\n?|\n)+)", manual, re.MULTILINE)
    assert match, title
    return re.sub(r"(?m)^    ", "", match[1])


def findings(code: str, text: str) -> list:
    root = StackFile(path="kamailio.cfg", place="/etc/kamailio/kamailio.cfg", text=text)
    parsed = kamailio.parse(root, {})
    version = (5, 6) if "Kamailio 5.6." in explanations()[code] else (6, 1)
    return list(RULES[code].check(Stack(kamailio=parsed, kamailio_version=version)))


@pytest.mark.parametrize("code", KAMAILIO)
def test_the_bad_example_of_a_rule_of_kamailio_has_the_problem_and_the_good_one_has_not(code):
    found = findings(code, excerpt(code, "Bad"))
    assert found
    for each in found:
        assert each.message
        assert each.help
        assert each.file.span(each.start, each.end).line >= 1
    assert not findings(code, excerpt(code, "Good"))
