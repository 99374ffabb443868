"""docs/apply.md names the steps of an apply, in their order."""

import re
from pathlib import Path

from sipdeploy.transaction.steps import CONFIRM, STAGE, SWAP, WATCH

PAGE = (Path(__file__).parent.parent.parent / "docs/apply.md").read_text("utf-8")


def phases():
    """Return the second cells of the table of steps, by the number of the phase."""
    found, number = {}, ""
    for row in re.findall(r"^\|([^|]*)\|([^|]*)\|", PAGE.split("\n## ")[1], re.MULTILINE):
        number = row[0].strip()[:1] or number
        found.setdefault(number, []).append(row[1].strip())
    return found


def test_the_page_has_every_step_in_its_order():
    assert phases()["2"] == [step.name for step in STAGE]
    assert phases()["3"] == [step.name for step in (*SWAP, *WATCH, *CONFIRM)]
