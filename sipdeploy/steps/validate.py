"""The verdict of the host's own daemons over the candidate, told as diagnostics. Pure."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence

from sipdeploy.diagnostics import Diagnostic, Source, Span
from sipdeploy.lint_rendered import lint_rendered
from sipdeploy.plan import Plan
from sipdeploy.service import Check, Port, Verdict, local_place
from sipdeploy.services import SERVICES, kamailio

LOCAL = local_place(kamailio.CONFIGURATION)
# The HA1 of a user, which Asterisk shows when it rejects its line.
HASH = re.compile(r"\b[0-9a-fA-F]{32}\b")


def checks(plan: Plan) -> tuple[Check, ...]:
    """What is to be judged: nothing of a service of which only data changes, or not even that."""
    paths = frozenset(
        change.path for change in plan.changes if change.kind in ("create", "update", "delete")
    )
    return tuple(check for service in SERVICES.values() for check in service.checks(paths))


def problems(
    name: str, plan: Plan, wanted: Sequence[Check], found: Mapping[str, str], *, state: str
) -> list[Diagnostic]:
    """All complaints, of each service those of the first check that has any; none: all is well."""
    told = list(_taken(name, plan, found.get("taken", "")))
    judged: set[str] = set()
    for number, check in enumerate(wanted):
        answer = found.get(f"check {number}", "" if f"skipped {number}" not in found else "0")
        status, _, said = answer.partition("\n")
        if status.strip() == "0" or check.service in judged:
            continue
        judged.add(check.service)
        told += _complaints(name, plan, check, (status.strip(), said, state))
    if kamailio.NAME in {check.service for check in wanted} - judged:
        told += _lint(name, plan, found.get("local", ""))
    return told


def skipped(wanted: Sequence[Check], found: Mapping[str, str]) -> tuple[str, ...]:
    """The titles of checks that this host has no room for: it gives no unit its own network."""
    return tuple(c.title for number, c in enumerate(wanted) if f"skipped {number}" in found)


def sources(name: str, plan: Plan) -> dict[str, Source]:
    """The lines of the candidate, for excerpts; none of what is secret."""
    return {
        f"{name}:{file.path}": Source(lines=file.content.decode().splitlines())
        for file in plan.desired.files
        if not file.sensitive
    }


def _taken(name: str, plan: Plan, rows: str) -> Iterator[Diagnostic]:
    """As preflight tells it; here for a program that came after the facts were read."""
    ports: Mapping[tuple[str, str], Port] = {
        (port.protocol, str(port.number)): port for port in plan.desired.ports
    }
    for row in rows.splitlines():
        protocol, number, program = (*row.split("\t"), "", "")[:3]
        port = ports.get((protocol, number))
        if port is None:
            continue
        who = f"`{program}`" if program else "a program"
        yield Diagnostic(
            code="SD514",
            severity="error",
            message=f"{who} on `{name}` already listens on {protocol} port {number}",
            notes=(_unchanged(name),),
            help=f"set `{port.key}` to a free port, or stop the program",
        )


def _lint(name: str, plan: Plan, local: str) -> Iterator[Diagnostic]:
    """What Kamailio passes in silence: an armed route or a table that is not, in the local file too.

    Each file may name what the other has.
    """
    files = {
        file.path: file.content.decode()
        for file in plan.desired.files
        if file.path == kamailio.CONFIGURATION
    }
    for problem in lint_rendered(files | {LOCAL: local}):
        span = problem.span
        if span is not None:
            span = dataclasses.replace(span, path=f"{name}:{span.path}")
        yield dataclasses.replace(problem, span=span, notes=(*problem.notes, _unchanged(name)))


def _complaints(
    name: str, plan: Plan, check: Check, answer: tuple[str, str, str]
) -> Iterator[Diagnostic]:
    status, said, state = answer
    verdicts: list[Verdict] = SERVICES[check.service].parse_check(said)
    for verdict in verdicts:
        yield _diagnostic(name, plan, check, (verdict, state))
    if not verdicts:
        yield Diagnostic(
            code="SD401",
            severity="error",
            message=f"{check.title} fails on `{name}` with the candidate (status {status or '?'})",
            notes=(*map(_shown, said.strip().splitlines()[-5:]), _unchanged(name)),
            help=_look(name),
        )


def _diagnostic(name: str, plan: Plan, check: Check, answer: tuple[Verdict, str]) -> Diagnostic:
    verdict, state = answer
    path = verdict.path.removeprefix(f"{state}/candidate/tree")
    template = next((f.template for f in plan.desired.files if f.path == path), "")
    origin = f"rendered from {template}; " if template else ""
    text = _shown(verdict.text)
    is_placed = verdict.line > 0
    return Diagnostic(
        code="SD401",
        severity="error",
        message=f"{check.service} rejects the candidate configuration",
        span=Span(path=f"{name}:{path}", line=verdict.line, column=verdict.column)
        if is_placed
        else None,
        label=text if is_placed else "",
        notes=(
            *(() if is_placed else (f"{path}: {text}" if path else text,)),
            f"found by {check.title}",
            f"{origin}{_unchanged(name)}",
        ),
        help=_look(name) if template or not is_placed else f"mend {path} on `{name}`",
    )


def _shown(text: str) -> str:
    return HASH.sub("(hidden)", text)


def _unchanged(name: str) -> str:
    return f"nothing live on {name} was changed"


def _look(name: str) -> str:
    return f"`sipdeploy render --host {name}` writes the files for a look"
