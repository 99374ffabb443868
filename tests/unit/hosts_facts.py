"""Recorded facts of two real hosts: a bare Debian 12, and a sid after an apply."""

import dataclasses
from pathlib import Path

from sipdeploy import facts
from sipdeploy.facts import Facts

FOLDER = Path(__file__).parent.parent / "facts"


def recorded(name: str, **changes) -> Facts:
    found = facts.sections((FOLDER / f"{name}.txt").read_text())
    parsed = facts.parse(found, float(found["clock"]))
    return dataclasses.replace(parsed, **changes)
