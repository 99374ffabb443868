"""The quickest mutations are noticed, and the runner tells what is not; not in `make check`."""

import pytest

from tests.mutations.rows import Mutation, load
from tests.mutations.run import judge

QUICK = [row for row in load() if row.quick]


@pytest.mark.parametrize("row", QUICK, ids=lambda row: row.name)
def test_a_quick_mutation_is_noticed(row):
    assert judge(row, 60).word == "noticed"


NEEDLE = "def token(value: object) -> Quoted:"


def mutation(**changes):
    values = {
        "name": "x",
        "file": "sipdeploy/render.py",
        "text": NEEDLE,
        "replacement": f"# harmless\n{NEEDLE}",
        "test": "tests/unit/test_render.py::test_token_list",
    }
    return Mutation(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "word", "reason"),
    [
        ({}, "survived", "passes"),
        ({"replacement": "raise RuntimeError\n" + NEEDLE}, "broken", "RuntimeError"),
        ({"text": "nowhere to be found"}, "broken", "occurs 0 times"),
        ({"file": "nowhere.py"}, "broken", "occurs 0 times"),
        ({"text": "return Quoted("}, "broken", "times"),
    ],
)
def test_what_is_not_noticed_is_told_apart(changes, word, reason):
    verdict = judge(mutation(**changes), 60)
    assert verdict.word == word
    assert reason in verdict.reason


def test_a_test_without_end_is_ended():
    verdict = judge(mutation(replacement=f"import time\ntime.sleep(99)\n{NEEDLE}"), 3)
    assert (verdict.word, verdict.reason) == ("broken", "no answer in 3 s")
    assert verdict.seconds < 20
