"""The manual of every code, from `codes.md`; the manual of a lint rule is its docstring."""

from collections.abc import Mapping
from importlib import resources


def _manuals() -> Mapping[str, str]:
    text = resources.files(__package__).joinpath("codes.md").read_text("utf-8")
    _, *sections = text.split("\n## ")
    return {code: manual.strip() for code, _, manual in (s.partition("\n") for s in sections)}


EXPLAIN: Mapping[str, str] = _manuals()
