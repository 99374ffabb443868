"""Rules over a stack: their input, their output, and the table of all rules.

A rule is a generator over a `Stack`; its docstring is its manual, with a bad and a good snippet.
Codes: SD80x and SD81x Kamailio, SD82x TLS and sizes of Kamailio, SD83x and SD84x pjsip, SD85x the
dialplan, SD86x other files of Asterisk, SD87x dialplan beside an inventory, SD88x across files,
SD89x the files as such.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sipdeploy.lint.rules import Rules

if TYPE_CHECKING:
    from sipdeploy.lint.stack.files import StackFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Parsed files of one host. None: there is no such file among those that were named.

    `kamailio` is the parsed kamailio.cfg with its includes, `asterisk` all files of Asterisk. The
    versions are those that the user names, or None. `is_ours`: sipdeploy makes the rest of it.
    """

    kamailio: Any = None
    asterisk: Any = None
    kamailio_version: tuple[int, ...] | None = None
    asterisk_version: tuple[int, ...] | None = None
    is_ours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A problem that a rule reports; the rule itself adds code and severity.

    `other` are places in other files that matter: file, offsets, and what is there.
    """

    file: StackFile
    start: int
    end: int
    message: str
    label: str = ""
    help: str = ""
    other: tuple[tuple[StackFile, int, int, str], ...] = ()


RuleFunction = Callable[[Stack], Iterable[Finding]]


RULES: Rules[Stack, Finding] = Rules()
rule = RULES.rule
