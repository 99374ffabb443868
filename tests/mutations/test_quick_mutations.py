"""The quick mutations are noticed, and the runner reports the others; not in `make check`."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.mutations.__main__ import main
from tests.mutations.rows import ROOT, Mutation, load
from tests.mutations.run import judge

QUICK = [row for row in load() if row.quick]


@pytest.mark.parametrize("row", QUICK, ids=lambda row: row.name)
def test_a_quick_mutation_is_noticed(row):
    assert judge(row, 60).word == "noticed"


NEEDLE = "def token(value: object) -> Quoted:"


def mutation(**changes):
    values = {
        "name": "x",
        "file": "sipdeploy/services/render.py",
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


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing(tmp_path, ending):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.mutations", QUICK[0].name],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while not list(tmp_path.glob("*/tree/pyproject.toml")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(ending)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_a_mutation_that_survives_is_an_error(monkeypatch, capsys):
    monkeypatch.setattr("tests.mutations.__main__.load", lambda: [mutation()])
    assert main([]) == 1
    assert "survived" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no mutation is named y"):
        main(["y"])


def test_a_test_that_fails_unchanged_notices_nothing(monkeypatch, capsys):
    """For example a test of the lab, if the lab itself is broken."""
    row = mutation(test="tests/unit/test_render.py::test_is_not_there")
    monkeypatch.setattr("tests.mutations.__main__.load", lambda: [row])
    assert main([]) == 1
    assert "broken" in capsys.readouterr().out
