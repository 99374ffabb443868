"""Judges trees of files: parses each, applies every rule, then the suppressions. Never prints."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, Related, Source, Span
from sipdeploy.inventory import fields
from sipdeploy.lint import suppress
from sipdeploy.lint.stack import reading
from sipdeploy.lint.stack.rules import RULES, Finding, Stack

if TYPE_CHECKING:
    from sipdeploy.lint.rules import Rule, Rules
    from sipdeploy.lint.stack.files import StackFile

# Their import registers their rules; it waits until there is a file to judge.
_MODULES = ("kamailio", "asterisk", "across")
# That the rules know, by daemon; of Asterisk one more than sipdeploy deploys.
VERSIONS = {
    "kamailio": fields.KAMAILIO_VERSIONS,
    "asterisk": (*fields.ASTERISK_VERSIONS, "23"),
}
_ROUTES = re.compile(r"^[ \t]*(?:request_route|route)\b[ \t]*[{\[]", re.MULTILINE)

Version = tuple[int, ...]
# A rule reports at most so many problems in a tree: nobody reads more, and each costs memory.
_MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The problems of files, and the lines of these files for excerpts."""

    problems: list[Diagnostic] = field(default_factory=list)
    sources: dict[str, Source] = field(default_factory=dict)
    roots: list[str] = field(default_factory=list)  # with which Kamailio starts


def lint_stack(
    paths: Iterable[Path], *, kamailio: Version | None = None, asterisk: Version | None = None
) -> Judged:
    """Check the files of Kamailio and Asterisk below the paths, for these versions."""
    trees, problems = reading.read_trees(paths)
    judged = Judged(problems=problems)
    for tree in trees:
        judged.problems.extend(judge(tree, kamailio=kamailio, asterisk=asterisk))
        judged.sources.update(sources(tree))
        root = _root(tree)
        if root and not root.place.endswith("/tls.cfg"):
            judged.roots.append(root.path)
    return judged


def judge(
    tree: reading.Tree,
    *,
    kamailio: Version | None = None,
    asterisk: Version | None = None,
    is_ours: bool = False,
) -> list[Diagnostic]:
    """Apply every rule to the files of one host; `is_ours` as of Stack."""
    rules = loaded_rules()
    stack = Stack(
        kamailio=_kamailio(tree),
        asterisk=_asterisk(tree),
        kamailio_version=kamailio,
        asterisk_version=asterisk,
        is_ours=is_ours,
    )
    comments = _comments(tree)
    codes = {code for _, _, code in comments}
    problems = (
        problem
        for each in rules.values()
        for problem in _found(each, stack, comments if each.code in codes else {})
    )
    return suppress.suppressed(problems, comments)


def loaded_rules() -> Rules[Stack, Finding]:
    """All rules, by code."""
    for name in _MODULES:
        _module(name)
    return RULES


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__package__}.{name}")


def _kamailio(tree: reading.Tree) -> object | None:
    """Kamailio's parsed configuration; None without one."""
    root = _root(tree)
    return _module("kamailio").parse(root, tree.of("kamailio")) if root else None


def _root(tree: reading.Tree) -> StackFile | None:
    """The file with which Kamailio starts; without one, a tls.cfg alone."""
    files = tree.of("kamailio")
    root = files.get("/etc/kamailio/kamailio.cfg") or _first(files.values())
    return root or files.get("/etc/kamailio/tls.cfg")


def _first(files: Iterable[StackFile]) -> StackFile | None:
    """The file with routes, if no file has the usual name."""
    return next((file for file in files if _ROUTES.search(file.text)), None)


def _asterisk(tree: reading.Tree) -> object | None:
    files = tree.of("asterisk")
    return _module("asterisk").parse(files) if files else None


def _found(
    rule: Rule[Stack, Finding], stack: Stack, comments: suppress.Comments
) -> Iterator[Diagnostic]:
    """What a rule finds; the last of many says that there are more.

    Suppressed problems do not count: they would hide others, and their comments would be unused.
    """
    number = 0
    for finding in rule.check(stack):
        problem = _diagnostic(rule, finding)
        if suppress.is_suppressed(problem, comments):
            yield problem
            continue
        number += 1
        if number <= _MOST:
            yield problem
        elif number == _MOST + 1:
            more = f"there are more than {_MOST} problems of this kind, and this is the next one"
            yield replace(problem, message=f"{more}: {problem.message}")
        elif not comments:
            return


def _diagnostic(rule: Rule[Stack, Finding], finding: Finding) -> Diagnostic:
    return Diagnostic(
        rule.code,
        finding.message,
        severity=rule.severity,
        span=finding.file.span(finding.start, finding.end),
        label=finding.label,
        help=finding.help,
        related=tuple(
            Related(span=file.span(start, end), text=text)
            for file, start, end, text in finding.other
        ),
    )


def _comments(tree: reading.Tree) -> suppress.Comments:
    found: dict[suppress.Place, Span] = {}
    for daemon, signs in (("kamailio", suppress.KAMAILIO), ("asterisk", suppress.ASTERISK)):
        for file in tree.of(daemon).values():
            if "sipdeploy:" in file.text:
                found |= suppress.comments(file.path, file.text.split("\n"), signs)
    return found


def sources(tree: reading.Tree) -> Iterator[tuple[str, Source]]:
    """The lines of the files, without passwords."""
    for file in tree.files.values():
        lines = file.text.split("\n")
        has_pins = not _WITHOUT_PINS.fullmatch(file.place)
        yield file.path, Source(lines=lines, hidden=dict(hidden_columns(lines, pins=has_pins)))


_WITHOUT_PINS = re.compile(
    r"/etc/kamailio/.*|/etc/asterisk/(?:(?:pjsip|extensions)[^/]*|rtp|http|manager)\.conf"
)
# `password = x` and `secret = x` of Asterisk, `1001 => 1234,Alice` of voicemail.conf and of files
# that it may include, URLs of databases and long keys of Kamailio.
_SECRET = re.compile(
    r"(?i)^\s*(?:password|secret|md5_cred|password_digest|oauth_secret|refresh_token|dbpass\w*)"
    r"\s*=>?\s*(?P<value>[^;\n]*[^;\s])"
    r"|^\s*(?!exten\b|same\b)[0-9*#A-Za-z_-]+\s*=>?\s*-?(?P<pin>[0-9*#]{2,20})\s*(?:,|$)"
    r"|://[^\s/:@\"']*:(?P<url>[^\s/@\"']+)@"
    r"|\"(?:secret_?key|secret|key|auth_secret|password|[a-z_]*passw[a-z_]*|shared_secret)\"\s*,\s*"
    r"\"(?P<modparam>[^\"\n]+)\""
)


def hidden_columns(
    lines: Iterable[str], *, pins: bool = True
) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """The columns of passwords, by line: a report shows none of them."""
    for number, line in enumerate(lines, 1):
        ranges = [
            (start + 1, end + 1)
            for match in _SECRET.finditer(line[:10_000])
            for name in match.re.groupindex
            for start, end in [match.span(name)]
            if start >= 0 and (pins or name != "pin")
        ]
        if ranges:
            yield number, ranges


def manuals() -> dict[str, str]:
    """The manual of every rule."""
    return loaded_rules().manuals()
