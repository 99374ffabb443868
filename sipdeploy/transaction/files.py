"""The candidate on the host: staged and validated beside the live files, then swapped in."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from sipdeploy.diagnostics import Diagnostic, Source, Span, count
from sipdeploy.diagnostics.errors import HostFailed, SipdeployError
from sipdeploy.facts import STATE
from sipdeploy.host import Host, ask, host_failed
from sipdeploy.host.incoming import OnLine
from sipdeploy.plan import Plan
from sipdeploy.proof.inside import verify
from sipdeploy.services import SERVICES, extensions
from sipdeploy.services.render import FileSet
from sipdeploy.services.service import Check, Complaint
from sipdeploy.transaction.candidate import archive
from sipdeploy.transaction.lock import AUDIT_LOG, Owner, raise_if_refused, unlock

RESTORE_SECONDS = 540  # including 120 s for a command whose connection was lost
SWAP_SECONDS = 420
REPLACE_SECONDS = 900  # for packages: dpkg waits up to 300 s for another program
VERIFY_SECONDS = 20
CONFIRM_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Takes the lock and writes the candidate beside the live files; the daemons validate it."""

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
        """Stage in one exchange; HostFailed (SD401) points into the file that a daemon rejects."""
        del on_line
        checks = checks_of(self.plan)
        after = checks_after(self.plan)
        argv = ("stage", self.state, self.plan.desired.domain, *self.owner.argv)
        data = archive(self.plan, checks, self.release, after=after)
        problem = ("SD521", "the candidate cannot be staged")
        sections = ask(host, argv, problem, data=data, timeout_seconds=300)
        raise_if_refused(host, sections)
        problems = problems_of(host.name, self.plan, checks, sections, state=self.state)
        if problems:
            raise HostFailed(problems, sources=sources(host.name, self.plan))

    def undo(self, host: Host) -> None:
        """Remove the candidate and the lock."""
        unlock(host, self.owner, self.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """Swaps the candidate in, in one exchange that continues without a connection.

    The host backs up the current files, arms its rollback timer, renames each file into place,
    reloads or restarts the services, and verifies them. The undo restores files, then services.
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
        """The first part; the host announces the others."""
        return "back up the current files"

    def run(self, host: Host, on_line: OnLine) -> None:
        """HostFailed: SD523 if a command failed, SD524 if a service does not answer afterwards."""
        argv = ("swap", self.state, self.owner.name, str(self.timeout_seconds))
        sections = ask(
            host,
            (*argv, str(self.verify_seconds), self.log),
            ("SD522", "the files cannot be replaced"),
            on_line=on_line,
            timeout_seconds=SWAP_SECONDS + (REPLACE_SECONDS if self.plan.replacements else 0),
        )
        self._check_packages(host, sections)
        if "failed" in sections:
            raise self._failed(host, sections)
        problems = verify.problems(host.name, sections, self.verify_seconds)
        if problems:
            raise HostFailed(problems)

    def _check_packages(self, host: Host, sections: Mapping[str, str]) -> None:
        """HostFailed: SD547 if packages were not replaced, SD401 if the new daemons complain."""
        if "unpacked" in sections:
            lines = [line for line in sections["unpacked"].splitlines() if line.strip()]
            raise host_failed(
                "SD547",
                f"the packages cannot be replaced on `{host.name}`",
                notes=tuple([line for line in lines if line.startswith("dpkg")] or lines)[-5:],
                help_=f"on `{host.name}`: `dpkg --audit` must print nothing; then try again",
            )
        checks = checks_after(self.plan) if "rejected" in sections else ()
        problems = problems_of(host.name, self.plan, checks, sections, state=self.state)
        if problems:
            raise HostFailed(problems, sources=sources(host.name, self.plan))

    def _failed(self, host: Host, sections: Mapping[str, str]) -> HostFailed:
        command, _, output = sections["failed"].partition("\n")
        lines = (*output.splitlines()[-5:], *sections.get("journal", "").splitlines()[-10:])
        return host_failed(
            "SD523",
            f"`{command}` failed on `{host.name}`",
            notes=tuple(line for line in lines if line.strip()),
            help_=verify.where_to_look(host.name),
        )

    def undo(self, host: Host) -> None:
        """Restore the previous release from the backup that `run` made.

        HostFailed (SD525) if that failed, if the apply is already confirmed, or if the host cannot
        be reached; then it says when the host's own timer rolls back.
        """
        argv = ("restore", self.state, "apply", self.owner.name, self.log)
        problem = (
            "SD525",
            "the previous release could not be restored completely",
            after_failed_undo(host.name),
        )
        try:
            more = REPLACE_SECONDS if self.plan.replacements else 0
            sections = ask(host, argv, problem, timeout_seconds=RESTORE_SECONDS + more)
        except HostFailed as failure:
            raise self._unreachable(host.name, failure) from failure
        if "confirmed" in sections:
            raise host_failed(
                "SD525",
                f"the apply to `{host.name}` was already confirmed: the new release stays",
                help_=f"`sipdeploy plan {host.name}` shows whether there are changes left",
            )

    def _unreachable(self, name: str, failure: HostFailed) -> SipdeployError:
        codes = {problem.code for problem in failure.diagnostics}
        if "SD525" in codes or not self.timeout_seconds:
            return failure
        return host_failed(
            "SD525",
            f"cannot reach `{name}` to restore the previous release",
            notes=tuple(problem.message for problem in failure.diagnostics),
            help_="unless the apply was confirmed, the host restores it by itself within "
            f"{self.timeout_seconds} s of the swap; then `sipdeploy plan {name}` reports it",
        )


def after_failed_undo(name: str) -> str:
    """The help after a failed undo: often a service does not start with its old configuration."""
    return f"{verify.where_to_look(name)}; then apply again"


def checks_of(plan: Plan) -> tuple[Check, ...]:
    """The checks that the services need for the files that change; data files need none.

    A daemon that comes in another series does not judge them before it is there.
    """
    paths = frozenset(change.path for change in plan.changes if change.kind != "directory")
    later = {each.service for each in plan.replacements if not each.is_same_series}
    services = (service for name, service in SERVICES.items() if name not in later)
    return tuple(check for service in services for check in service.checks(paths))


def checks_after(plan: Plan) -> tuple[Check, ...]:
    """The checks of all files by the daemons whose packages are replaced."""
    names = {each.service for each in plan.replacements}
    paths = frozenset(file.path for file in plan.desired.files)
    services = (service for name, service in SERVICES.items() if name in names)
    return tuple(check for service in services for check in service.checks(paths))


def problems_of(
    name: str, plan: Plan, checks: Sequence[Check], sections: Mapping[str, str], *, state: str
) -> list[Diagnostic]:
    """A diagnostic for each complaint of the first check of a service that did not exit with 0.

    Its later checks fail for the same cause: a daemon cannot start on what its parser rejects.
    """
    problems: dict[str, list[Diagnostic]] = {}
    for number, check in enumerate(checks):
        status, _, output = sections.get(f"check {number}", "").partition("\n")
        if status.strip() != "0" and check.service not in problems:
            answer = (status.strip(), output, state)
            problems[check.service] = list(_complaints(name, plan, check, answer))
    return [problem for each in problems.values() for problem in each]


def sources(name: str, plan: Plan) -> dict[str, Source]:
    """The lines of the candidate for excerpts, without files that hold secrets."""
    files = FileSet(tuple(file for file in plan.desired.files if not file.sensitive))
    own = {file.path: extensions.source_of(file) for file in files.files}
    return {
        own[path] or f"{name}:{path}": Source(lines=text.splitlines())
        for path, text in files.text().items()
    }


def _complaints(
    name: str, plan: Plan, check: Check, answer: tuple[str, str, str]
) -> Iterator[Diagnostic]:
    status, output, state = answer
    complaints: list[Complaint] = SERVICES[check.service].parse_check(output)
    for complaint in complaints:
        yield _diagnostic(name, plan, check, (complaint, state))
    if not complaints:
        yield Diagnostic(
            "SD401",
            f"{check.title} fails on `{name}` with the candidate (status {status or '?'})",
            notes=(*output.strip().splitlines()[-5:], f"nothing live on {name} was changed"),
            help=f"`sipdeploy render --host {name}` writes the files to `rendered`",
        )


def _diagnostic(name: str, plan: Plan, check: Check, answer: tuple[Complaint, str]) -> Diagnostic:
    complaint, state = answer
    path = complaint.path.removeprefix(f"{state}/candidate/tree")
    file = next((f for f in plan.desired.files if f.path == path), None)
    own = extensions.source_of(file) if file else ""
    origin = f"rendered from {file.template}; " if file and not own else ""
    is_placed = complaint.line > 0
    help_ = f"correct `{own}`" if own else f"`sipdeploy render --host {name}` writes the files to"
    return Diagnostic(
        "SD401",
        f"{check.service} rejects the candidate configuration",
        span=Span(path=own or f"{name}:{path}", line=complaint.line, column=complaint.column)
        if is_placed
        else None,
        label=complaint.text if is_placed else "",
        notes=(
            *(() if is_placed else (complaint.text,)),
            f"found by: {check.title}",
            f"{origin}nothing live on {name} was changed",
        ),
        help=help_ if own else f"{help_} `rendered`",
    )
