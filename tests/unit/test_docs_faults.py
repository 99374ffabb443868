"""docs/faults.md is the table of the faults that the lab makes."""

from pathlib import Path

from sipdeploy.proof.doctor.ladder import RUNGS, of_topic
from sipdeploy.proof.outside.ladder import LADDER
from tests.lab.faults import FAULTS, page

PAGE = Path(__file__).parent.parent.parent / "docs/faults.md"


def test_the_page_is_the_table():
    """`python tests/lab/faults.py > docs/faults.md` writes it."""
    assert PAGE.read_text("utf-8") == page()


def test_each_fault_is_made_in_one_way_and_undone():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 40
    for fault in FAULTS:
        assert bool(fault.by) != bool(fault.make and fault.undo), fault.name


def test_steps_and_rungs_exist():
    steps, rungs = {step.name for step in LADDER}, {rung.name for rung in RUNGS}
    assert {fault.step for fault in FAULTS} <= {*steps, ""}
    assert {fault.rung for fault in FAULTS} == rungs - {"accounts", "relay", "voicemail"}
    for fault in FAULTS:
        assert fault.rung in {rung.name for rung in of_topic(fault.topic)}, fault.name
