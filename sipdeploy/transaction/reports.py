"""What became of each host, for people, for machines and for the exit code. Pure."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sipdeploy.diagnostics import Diagnostic, Source, has_errors
from sipdeploy.facts import Facts, SelfRollback
from sipdeploy.inventory.site import Ports
from sipdeploy.plan import Plan
from sipdeploy.plan.preview import Present
from sipdeploy.services import firewall
from sipdeploy.services.service import local_place

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
    present: Present
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


def drift(name: str, path: str) -> Diagnostic:
    """Why an apply stops: it would lose an edit made on the host."""
    place = local_place(path)
    keep = f", or move the edit to {place}, which is never touched" if place else ""
    return Diagnostic(
        "SD526",
        f"{path} on `{name}` was edited since the last apply",
        notes=("nothing was changed",),
        help=f"`sipdeploy plan {name}` shows the edit; `--overwrite` replaces it{keep}",
    )


def overwritten(name: str, path: str) -> Diagnostic:
    """What `--overwrite` does away with."""
    return Diagnostic("SD526", f"an edit of {path} on `{name}` is overwritten", severity="warning")


def by_itself(name: str, outcome: SelfRollback) -> Diagnostic:
    """What the host has done while nobody was there."""
    why = {"timer": "nobody confirmed it in time", "boot": "the power went in the middle of it"}
    when = dt.datetime.fromtimestamp(outcome.when, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Diagnostic(
        "SD527",
        (
            f"`{name}` put the previous release back by itself at {when}: "
            f"{why.get(outcome.how, outcome.how)}"
        ),
        severity="warning",
        notes=(f"the apply was that of {outcome.owner}",),
    )


def undone(name: str, found: Facts) -> Diagnostic:
    """What an apply does first, after one that ended in the middle."""
    return Diagnostic(
        "SD527",
        f"an apply to `{name}` had ended in the middle; it was undone first",
        severity="warning",
        notes=(f"it was that of {found.run_owner}",) if found.run_owner else (),
    )


def unfinished(name: str, found: Facts) -> Diagnostic:
    """What a plan says of a host that another apply is at, or was."""
    by_timer = "the host's own timer will undo it" if found.has_timer else "an apply undoes it"
    return Diagnostic(
        "SD527",
        f"an apply to `{name}` is unfinished; {by_timer}",
        severity="warning",
        notes=(f"it is that of {found.run_owner}",) if found.run_owner else (),
    )


def closed(name: str, plan: Plan, found: Facts, ports: Ports) -> tuple[Diagnostic, ...]:
    """A firewall of somebody else that phones do not get through: an accept of ours is none of it.

    Told while there is something to do; a second apply has nothing to say.
    """
    is_ours = any(file.path == firewall.UFW for file in plan.desired.files)
    chains = () if is_ours else found.closing_chains
    if plan.is_empty or not chains:
        return ()
    where = " and ".join(f"`{chain}`" for chain in chains)
    rule = f"tcp dport {ports.wss} accept; udp dport {ports.rtp.start}-{ports.rtp.end} accept"
    problem = Diagnostic(
        "SD518",
        f"another firewall on `{name}` drops what it does not know (chain {where})",
        severity="warning",
        help=f"let phones through it too: `{rule}`",
    )
    return (problem,)
