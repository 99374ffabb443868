"""The options and applications of Asterisk by version.

`python -m lab catalogue-asterisk` writes the table from the sources of each version.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

FIRST, LAST = 16, 23
Version = tuple[int, ...] | None


@cache
def _table() -> dict[str, Any]:
    text = files("sipdeploy.lint.stack.asterisk").joinpath("catalogue.json").read_text("utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


def kinds() -> Iterable[str]:
    """The types of sections of pjsip.conf."""
    return sorted(_table()["pjsip"].keys() - {"contact"})


def options(kind: str) -> dict[str, dict[str, Any]]:
    """The options of a type of section of pjsip.conf."""
    table: dict[str, dict[str, Any]] = _table()["pjsip"].get(kind, {})
    return table


@cache
def codecs() -> frozenset[str]:
    """The names that `allow` and `disallow` accept, without the numbers of slin and the like."""
    return frozenset(_table()["codecs"])


@cache
def applications() -> dict[str, dict[str, Any]]:
    """The applications of the dialplan, by their name in lower case."""
    return {name.lower(): {"name": name, **e} for name, e in _table()["applications"].items()}


def missing_in(entry: dict[str, Any], version: Version) -> str:
    """Why a version lacks an option or application; empty if it has it, or may have it.

    An option can come with a minor version: `since` names the first of each major one.
    """
    if not version or not FIRST <= version[0] <= LAST:
        return ""
    majors = entry.get("in", range(FIRST, LAST + 1))
    if version[0] not in majors:
        if version[0] > majors[-1]:
            return f"Asterisk {majors[-1] + 1} removed it"
        later = next((major for major in majors if major > version[0]), LAST)
        return f"it came with Asterisk {later}"
    for since in entry.get("since", ()):
        first = tuple(int(part) for part in since.split(".") if part.isdigit())
        if len(version) > 1 and first[:1] == version[:1] and version < first[: len(version)]:
            return f"it came with Asterisk {since}"
    return ""


def near(word: str, known: Iterable[str]) -> str:
    """The known word that a typing error most likely meant, or an empty text."""
    candidates = sorted(known)
    return next(iter(difflib.get_close_matches(word, candidates, n=1, cutoff=0.75)), "")
