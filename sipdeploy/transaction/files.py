"""The candidate on the host: staged and judged beside the live files, then made live."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from sipdeploy.diagnostics import Diagnostic, Source, Span
from sipdeploy.diagnostics.errors import HostFailed, SipdeployError
from sipdeploy.facts import STATE
from sipdeploy.host import Host, ask, host_failed
from sipdeploy.host.incoming import OnLine
from sipdeploy.plan import Plan
from sipdeploy.proof import verify
from sipdeploy.services import SERVICES
from sipdeploy.services.service import Check, Complaint
from sipdeploy.transaction.candidate import archive
from sipdeploy.transaction.lock import AUDIT_LOG, Owner, raise_if_refused, unlock
from sipdeploy.transaction.runner import count

RESTORE_SECONDS = 540  # 120 of them for the end of a command that was cut off
SWAP_SECONDS = 420
VERIFY_SECONDS = 20
CONFIRM_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Takes the lock and puts the candidate beside the live files, for the daemons to judge."""

    has_undo: ClassVar[bool] = True
    owner: Owner
    plan: Plan
    release: bytes
    state: str = STATE

    @property
    def title(self) -> str:
        """`stage and validate 12 files`."""
        number = len(self.plan.desired.files) + len(self.plan.desired.made)
        return f"stage and validate {count(number, 'file')}"

    def run(self, host: Host, on_line: OnLine) -> None:
        """One exchange; HostFailed points into the file that a daemon rejects."""
        del on_line
        judgements = checks_of(self.plan)
        words = ("stage", self.state, self.plan.desired.domain, *self.owner.words)
        data = archive(self.plan, judgements, self.release)
        problem = ("SD521", "the candidate cannot be staged")
        found = ask(host, words, problem, data=data, timeout_seconds=300)
        raise_if_refused(host, found)
        problems = problems_of(host.name, self.plan, judgements, found, state=self.state)
        if problems:
            raise HostFailed(problems, sources=sources(host.name, self.plan))

    def undo(self, host: Host) -> None:
        """Nothing live has changed; the candidate goes with the lock."""
        unlock(host, self.owner, self.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """Makes the candidate live, in one exchange which goes on by itself when we are gone.

    The host arms its own way back, keeps what was there, replaces files by renames, has the
    services take them in, and waits until they answer. Its undo puts back files, then services.
    """

    has_undo: ClassVar[bool] = True
    owner: Owner
    plan: Plan
    timeout_seconds: int = CONFIRM_SECONDS
    state: str = STATE
    log: str = AUDIT_LOG
    verify_seconds: int = VERIFY_SECONDS

    @property
    def title(self) -> str:
        """What is shown until the host says at which part it is."""
        return "keep what is there"

    def run(self, host: Host, on_line: OnLine) -> None:
        """HostFailed tells what could not be done, or what does not answer afterwards."""
        words = ("swap", self.state, self.owner.name, str(self.timeout_seconds))
        found = ask(
            host,
            (*words, str(self.verify_seconds), self.log),
            ("SD522", "the files cannot be replaced"),
            on_line=on_line,
            timeout_seconds=SWAP_SECONDS,
        )
        if "failed" in found:
            raise self._failed(host, found)
        problems = verify.problems(host.name, found, self.verify_seconds)
        if problems:
            raise HostFailed(problems)

    def _failed(self, host: Host, found: Mapping[str, str]) -> HostFailed:
        command, _, said = found["failed"].partition("\n")
        lines = (*said.splitlines()[-5:], *found.get("journal", "").splitlines()[-10:])
        return host_failed(
            "SD523",
            f"`{command}` failed on `{host.name}`",
            notes=tuple(line for line in lines if line.strip()),
            help_=verify.where_to_look(host.name),
        )

    def undo(self, host: Host) -> None:
        """The host's own script does it from what `run` kept, and tells what it could not.

        A host that is away undoes the run itself: then this says by when.
        """
        words = ("restore", self.state, "apply", self.owner.name, self.log)
        problem = ("SD525", "not everything could be put back", tells_why(host.name))
        try:
            found = ask(host, words, problem, timeout_seconds=RESTORE_SECONDS)
        except HostFailed as failure:
            raise self._by_itself(host.name, failure) from failure
        if "confirmed" in found:
            raise host_failed(
                "SD525",
                f"`{host.name}` had already confirmed: the new release stays",
                help_=f"`sipdeploy plan {host.name}` shows whether anything is left to do",
            )

    def _by_itself(self, name: str, failure: HostFailed) -> SipdeployError:
        codes = {problem.code for problem in failure.diagnostics}
        if "SD525" in codes or not self.timeout_seconds:
            return failure
        return host_failed(
            "SD525",
            f"`{name}` cannot be reached to put the previous release back",
            notes=tuple(problem.message for problem in failure.diagnostics),
            help_=f"unless it was confirmed, it does so by itself within {self.timeout_seconds} s "
            f"of the swap; then `sipdeploy plan {name}` tells what happened",
        )


def tells_why(name: str) -> str:
    """What to type after an undo that failed: often the old configuration does not start."""
    return f"{verify.where_to_look(name)}; then apply again"


def checks_of(plan: Plan) -> tuple[Check, ...]:
    """What is to be judged: nothing of a service of which only data changes, or not even that."""
    paths = frozenset(change.path for change in plan.changes if change.kind != "directory")
    return tuple(check for service in SERVICES.values() for check in service.checks(paths))


def problems_of(
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
            "SD401",
            f"{check.title} fails on `{name}` with the candidate (status {status or '?'})",
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
        "SD401",
        f"{check.service} rejects the candidate configuration",
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
