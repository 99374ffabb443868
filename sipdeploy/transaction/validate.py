"""The verdict of the host's own daemons over the candidate, told as diagnostics. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from sipdeploy.diagnostics import Diagnostic, Source, Span
from sipdeploy.plan import Plan
from sipdeploy.services import SERVICES
from sipdeploy.services.service import Check, Complaint


def checks(plan: Plan) -> tuple[Check, ...]:
    """What is to be judged: nothing of a service of which only data changes, or not even that."""
    paths = frozenset(change.path for change in plan.changes if change.kind != "directory")
    return tuple(check for service in SERVICES.values() for check in service.checks(paths))


def problems(
    name: str, plan: Plan, wanted: Sequence[Check], found: Mapping[str, str], *, state: str
) -> list[Diagnostic]:
    """All complaints; none when every check ended with 0."""
    told: list[Diagnostic] = []
    for number, check in enumerate(wanted):
        status, _, said = found.get(f"check {number}", "").partition("\n")
        if status.strip() != "0":
            told += _complaints(name, plan, check, (status.strip(), said, state))
    return told


def sources(name: str, plan: Plan) -> dict[str, Source]:
    """The lines of the candidate, for excerpts; none of what is secret."""
    return {
        f"{name}:{file.path}": Source(lines=file.content.decode().splitlines())
        for file in plan.desired.files
        if not file.sensitive
    }


def _complaints(
    name: str, plan: Plan, check: Check, answer: tuple[str, str, str]
) -> Iterator[Diagnostic]:
    status, said, state = answer
    verdicts: list[Complaint] = SERVICES[check.service].parse_check(said)
    for verdict in verdicts:
        yield _diagnostic(name, plan, check, (verdict, state))
    if not verdicts:
        yield Diagnostic(
            code="SD401",
            severity="error",
            message=f"{check.title} fails on `{name}` with the candidate (status {status or '?'})",
            notes=(*said.strip().splitlines()[-5:], f"nothing live on {name} was changed"),
            help=f"`sipdeploy render --host {name}` writes the files for a look",
        )


def _diagnostic(name: str, plan: Plan, check: Check, answer: tuple[Complaint, str]) -> Diagnostic:
    verdict, state = answer
    path = verdict.path.removeprefix(f"{state}/candidate/tree")
    template = next((f.template for f in plan.desired.files if f.path == path), "")
    origin = f"rendered from {template}; " if template else ""
    is_placed = verdict.line > 0
    return Diagnostic(
        code="SD401",
        severity="error",
        message=f"{check.service} rejects the candidate configuration",
        span=Span(path=f"{name}:{path}", line=verdict.line, column=verdict.column)
        if is_placed
        else None,
        label=verdict.text if is_placed else "",
        notes=(
            *(() if is_placed else (verdict.text,)),
            f"found by: {check.title}",
            f"{origin}nothing live on {name} was changed",
        ),
        help=f"`sipdeploy render --host {name}` writes the files for a look",
    )
