"""What an apply says of what it finds on a host: edits, and runs that somebody left. Pure."""

import datetime as dt

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.facts import Facts, Outcome
from sipdeploy.inventory.site import Ports
from sipdeploy.plan import Plan
from sipdeploy.services import firewall
from sipdeploy.services.service import local_place


def drift(name: str, path: str) -> Diagnostic:
    """Why an apply stops: it would lose an edit made on the host."""
    place = local_place(path)
    keep = f", or move the edit to {place}, which is never touched" if place else ""
    return Diagnostic(
        code="SD526",
        severity="error",
        message=f"{path} on `{name}` was edited since the last apply",
        notes=("nothing was changed",),
        help=f"`sipdeploy plan {name}` shows the edit; `--overwrite` replaces it{keep}",
    )


def overwritten(name: str, path: str) -> Diagnostic:
    """What `--overwrite` does away with."""
    return Diagnostic(
        code="SD526",
        severity="warning",
        message=f"an edit of {path} on `{name}` is overwritten",
    )


def by_itself(name: str, outcome: Outcome) -> Diagnostic:
    """What the host has done while nobody was there."""
    why = {"timer": "nobody confirmed it in time", "boot": "the power went in the middle of it"}
    when = dt.datetime.fromtimestamp(outcome.when, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Diagnostic(
        code="SD527",
        severity="warning",
        message=f"`{name}` put the previous release back by itself at {when}: "
        f"{why.get(outcome.how, outcome.how)}",
        notes=(f"the apply was that of {outcome.holder}",),
    )


def undone(name: str, found: Facts) -> Diagnostic:
    """What an apply does first, after one that ended in the middle."""
    return Diagnostic(
        code="SD527",
        severity="warning",
        message=f"an apply to `{name}` had ended in the middle; it was undone first",
        notes=(f"it was that of {found.run_holder}",) if found.run_holder else (),
    )


def unfinished(name: str, found: Facts) -> Diagnostic:
    """What a plan says of a host that another apply is at, or was."""
    by_timer = "the host's own timer will undo it" if found.has_timer else "an apply undoes it"
    return Diagnostic(
        code="SD527",
        severity="warning",
        message=f"an apply to `{name}` is unfinished; {by_timer}",
        notes=(f"it is that of {found.run_holder}",) if found.run_holder else (),
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
        code="SD518",
        severity="warning",
        message=f"another firewall on `{name}` drops what it does not know (chain {where})",
        help=f"let phones through it too: `{rule}`",
    )
    return (problem,)
