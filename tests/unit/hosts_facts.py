"""Facts of two real hosts, as the script printed them: a Debian 12 bare, and a sid after apply."""

import dataclasses
from pathlib import Path

from sipdeploy import facts
from sipdeploy.facts import Facts

FOLDER = Path(__file__).parent.parent / "facts"


def recorded(name: str, **changes) -> Facts:
    found = facts.sections((FOLDER / f"{name}.txt").read_text())
    parsed = facts.parse(found, float(found["clock"]))
    return dataclasses.replace(parsed, **changes)
