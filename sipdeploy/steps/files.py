"""The candidate on the host: staged and judged beside the live files, then swapped in."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from sipdeploy.candidate import archive
from sipdeploy.diagnostics import Diagnostic, Source, Span
from sipdeploy.errors import HostFailed
from sipdeploy.facts import STATE
from sipdeploy.hosts import Host, OnLine
from sipdeploy.plan import Plan
from sipdeploy.service import Verdict
from sipdeploy.steps.runner import ask, count

RESTORE_SECONDS = 540  # 120 of them for the end of a command that was cut off


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Puts the candidate beside the live files and has the host's own daemons judge it."""

    has_undo: ClassVar[bool] = False
    plan: Plan
    checks: Mapping[str, tuple[str, ...]]
    judges: Mapping[str, Callable[[str], Sequence[Verdict]]]
    state: str = STATE

    @property
    def title(self) -> str:
        """`stage and validate 12 files`."""
        number = len(self.plan.desired.files) + len(self.plan.desired.made)
        return f"stage and validate {count(number, 'file')}"

    def run(self, host: Host, on_line: OnLine) -> None:
        """One exchange; HostFailed points into the file that a daemon rejects."""
        del on_line
        words = ("stage", self.state, self.plan.desired.domain)
        data = archive(self.plan, self.checks)
        found = ask(host, words, ("SD521", "the candidate cannot be staged"), data=data)
        rejected = [
            (service, body)
            for service, body in _checked(found)
            if body.partition("\n")[0].strip() != "0"
        ]
        if rejected:
            problems = [p for service, body in rejected for p in self._told(host, service, body)]
            raise HostFailed(problems, sources=self._sources(host))

    def undo(self, host: Host) -> None:
        """Nothing live has changed; the candidate goes with the lock."""

    def _told(self, host: Host, service: str, body: str) -> Iterator[Diagnostic]:
        status, _, said = body.partition("\n")
        verdicts = self.judges[service](said)
        for verdict in verdicts:
            yield self._diagnostic(host, service, verdict)
        if not verdicts:
            yield Diagnostic(
                code="SD401",
                severity="error",
                message=f"{service} on `{host.name}` rejects the candidate (status {status})",
                notes=tuple(said.strip().splitlines()[-5:]),
                help=f"`sipdeploy render --host {host.name}` writes the files for a look",
            )

    def _diagnostic(self, host: Host, service: str, verdict: Verdict) -> Diagnostic:
        path = verdict.path.removeprefix(f"{self.state}/candidate/tree")
        template = next((f.template for f in self.plan.desired.files if f.path == path), "")
        origin = f"rendered from {template}; " if template else ""
        return Diagnostic(
            code="SD401",
            severity="error",
            message=f"{service} rejects the candidate configuration",
            span=Span(path=f"{host.name}:{path}", line=verdict.line, column=verdict.column),
            label=verdict.text,
            notes=(f"{origin}nothing live on {host.name} was changed",),
            help=f"`sipdeploy render --host {host.name}` writes the file for a look",
        )

    def _sources(self, host: Host) -> dict[str, Source]:
        return {
            f"{host.name}:{file.path}": Source(lines=file.content.decode().splitlines())
            for file in self.plan.desired.files
            if not file.sensitive
        }


def _checked(found: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, body in found.items():
        if name.startswith("check "):
            yield name.removeprefix("check "), body


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """Makes the candidate live. Its undo puts files back, and then services as they were."""

    has_undo: ClassVar[bool] = True
    plan: Plan
    state: str = STATE

    @property
    def title(self) -> str:
        """`swap 3 files`."""
        files = [change for change in self.plan.changes if change.kind != "directory"]
        return f"swap {count(len(files), 'file')}"

    def run(self, host: Host, on_line: OnLine) -> None:
        """Each file by one rename; what was there is kept first."""
        del on_line
        ask(host, ("swap", self.state), ("SD522", "the files cannot be replaced"))

    def undo(self, host: Host) -> None:
        """The host's own script does it from what `run` kept, and tells what it could not."""
        words = ("restore", self.state)
        problem = ("SD525", "not everything could be put back", tells_why(host))
        ask(host, words, problem, timeout_seconds=RESTORE_SECONDS)


def tells_why(host: Host) -> str:
    """What to type after an undo that failed: often the old configuration does not start."""
    return f"on `{host.name}`: `journalctl -b -u asterisk -u kamailio` tells why; then apply again"
