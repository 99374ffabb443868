"""Expected routes of calls, as data, and what a site does with such a call. Pure.

It decides what follows from the inventory alone: which number leads where. Whether a phone is
registered, answers, or gets media is for `verify`, with a host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, Span
from sipdeploy.inventory.document import parse

if TYPE_CHECKING:
    from sipdeploy.inventory.document import Document
    from sipdeploy.inventory.site import Service, Site

_CALL = re.compile(
    r"([0-9]{1,15}) dials ([^\s,]{1,200})((?:, presses [0-9*#])*(?:, waits)?)", re.ASCII
)
_OUTCOME = re.compile(
    r"[1-6][0-9]{2}|refused|[a-z][a-z0-9-]*(, then \S{1,30}( [0-9]{2,15})?)?"
    r"|dialplan \S{1,79}|voicemail [0-9]{2,15}"
    r"|rings [0-9]{2,15}(( and | before )[0-9]{2,15}){0,30}(, then \S{1,30}( [0-9]{2,15})?)?",
    re.ASCII,
)
_FORM = "write `1001 dials 1002: rings 1002, then voicemail`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """A call, and what should become of it."""

    caller: str
    dialled: str
    outcome: str
    span: Span
    acts: str = ""  # `, presses 1`, or `, waits`: what the caller does in menus

    @property
    def call(self) -> str:
        """The call in words."""
        return f"{self.caller} dials {self.dialled}{self.acts}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the site does with the call of an expectation."""

    expected: Expectation
    outcome: str

    @property
    def holds(self) -> bool:
        """Whether that is what was expected."""
        return self.outcome == self.expected.outcome


def outcome(site: Site, caller: str, dialled: str, acts: str = "") -> str:
    """Say where a call from the phone of a user leads; `acts` are in the words of expectations.

    The result is a status (`404`), the kind of a service (`echo`), or `rings NUMBER`, with `, then
    voicemail` if nobody answers. A caller who is not a user is `refused`. A group `rings 1001 and
    1002`, or `1001 before 1002`, `, then` who is next.
    """
    if caller not in site.users:
        return "refused"
    scheme, colon, rest = dialled.partition(":")
    if colon and scheme.lower() != "sip":
        return "416"
    number, at, domain = (rest if colon else dialled).partition("@")
    if at and domain.lower() != site.domain:
        return "403"
    return _pressed(site, caller, number, acts)


def _pressed(site: Site, caller: str, number: str, acts: str) -> str:
    """Where the keys of the caller lead in menus, from the number on."""
    for act in acts.split(", ")[1:]:
        service = site.services.get(number)
        if service is None or service.kind != "menu":
            return "no-menu"
        key = act.removeprefix("presses ")
        place = service.then if act == "waits" else service.keys.get(key)
        if place is None:
            return "nobody" if act == "waits" else "menu"
        if place.is_mailbox:
            return f"voicemail {place.number}"
        number = place.number
    return _at(site, caller, number)


def _at(site: Site, caller: str, number: str) -> str:
    """What a call finds at a number."""
    if number in site.services:
        return _service(site.services[number], caller)
    if number not in site.users:
        return "404"
    return f"rings {number}{', then voicemail' if site.users[number].voicemail else ''}"


def _service(service: Service, caller: str) -> str:
    if service.kind == "dialplan":
        return f"dialplan {service.context}"
    if service.kind != "group":
        return service.kind
    word = " and " if service.ring == "all" else " before "
    members = word.join(member for member in service.members if member != caller)
    then = str(service.then) if service.then else ""
    if not members:
        return then or "nobody"
    return f"rings {members}{f', then {then}' if then else ''}"


def read(text: str, path: str) -> tuple[list[Expectation], list[Diagnostic]]:
    """Read expectations, a mapping `routes` from calls to outcomes, or all problems (SD897)."""
    document, problems = parse(text, path)
    if document.data is None or problems:
        return [], problems
    problems += _shape(document)
    routes = document.data.get("routes")
    if not isinstance(routes, dict):
        return [], problems
    expectations = []
    for call, value in routes.items():
        match = _CALL.fullmatch(call)
        place = ("routes", call)
        if match is None:
            message = f"`{call}` is not a call"
            problems.append(_problem(message, document.key_span(place)))
        elif not isinstance(value, str) or not _OUTCOME.fullmatch(" ".join(value.split())):
            message = f"`{value if isinstance(value, str) else ''}` is not what a call leads to"
            problems.append(_problem(message, document.value_span(place)))
        else:
            expectations.append(
                Expectation(
                    caller=match[1],
                    dialled=match[2],
                    outcome=" ".join(value.split()),
                    span=document.key_span(place) or document.start,
                    acts=match[3],
                )
            )
    return expectations, problems


def _shape(document: Document) -> Iterator[Diagnostic]:
    for key in document.data:
        if key != "routes":
            yield _problem(f"unknown key `{key}`", document.key_span((key,)))
    if not isinstance(document.data.get("routes"), dict):
        yield _problem("`routes` is missing, or is not a mapping", document.start)


def _problem(message: str, span: Span | None) -> Diagnostic:
    return Diagnostic("SD897", message, span=span, help=f"{_FORM} below `routes:`")


def judge(site: Site, expectations: list[Expectation]) -> list[Verdict]:
    """Compare each expectation with the site."""
    return [
        Verdict(expected=each, outcome=outcome(site, each.caller, each.dialled, each.acts))
        for each in expectations
    ]
