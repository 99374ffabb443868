"""What became of each host, for people, for machines and for the exit code. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sipdeploy.diagnostics import Diagnostic, Source, has_errors
from sipdeploy.plan import Plan
from sipdeploy.plan.look import Look

State = Literal["unchanged", "applied", "rolled back", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of one host. `sources` are the lines that diagnostics point into."""

    host: str
    state: State
    changes: tuple[str, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    seconds: float = 0.0
    sources: Mapping[str, Source] = field(default_factory=dict)
    exit_code: int = 0

    @property
    def has_failed(self) -> bool:
        """Whether the host is not what the site says."""
        return has_errors(self.diagnostics)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What an apply would do to one host; no plan where the host could not be asked."""

    host: str
    plan: Plan | None
    look: Look
    diagnostics: tuple[Diagnostic, ...] = ()
    sources: Mapping[str, Source] = field(default_factory=dict)
    exit_code: int = 0


class Interrupted(KeyboardInterrupt):
    """Somebody ended the run; everything begun has been undone, as the reports tell."""

    def __init__(self, reports: Sequence[Report]) -> None:
        self.reports = tuple(reports)
        super().__init__("interrupted")


def as_text(reports: Sequence[Report]) -> str:
    """One line for each host: its state, and how much was changed in how long."""
    return "\n".join(
        f"{report.host}  {report.state}, {len(report.changes)} changes, {report.seconds:.1f} s"
        for report in reports
    )


def as_json(reports: Sequence[Report]) -> str:
    """The reports for machines."""
    hosts = [
        {
            "host": report.host,
            "state": report.state,
            "changes": report.changes,
            "problems": [problem.message for problem in report.diagnostics],
            "seconds": round(report.seconds, 3),
        }
        for report in reports
    ]
    return json.dumps({"hosts": hosts}, indent=2)
