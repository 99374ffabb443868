"""What an apply knows of the way from phones to a host. Imports no phone, which is slow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipdeploy.plan.desired import TLS_SETTINGS
from sipdeploy.services import certificates, firewall, kamailio

if TYPE_CHECKING:
    from sipdeploy.diagnostics import Diagnostic
    from sipdeploy.facts import Facts
    from sipdeploy.plan import Plan
    from sipdeploy.plan.desired import Desired
    from sipdeploy.proof.outside.step import Proof

MEDIA = "/etc/asterisk/rtp.conf"  # has the address and the ports of media


@dataclass(slots=True, kw_only=True)
class Seen:
    """What the proofs of one host have shown; `problem` if phones cannot reach it."""

    before: Proof | None = None
    after: Proof | None = None
    problem: Diagnostic | None = None

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """The problem, and what the steps of the last proof say; nothing before it."""
        found = self.after.diagnostics if self.after else ()
        return (*found, self.problem) if self.problem else found


def changes_firewall(plan: Plan) -> bool:
    """Whether a plan changes the rules of the firewall."""
    return any(change.service == firewall.NAME for change in plan.changes) or any(
        unit.unit == firewall.UNIT and unit.action != "none" for unit in plan.units
    )


def is_suspect(plan: Plan, facts: Facts | None, port: int) -> bool:
    """Whether a plan changes what a phone needs to reach the host, besides the routing."""
    paths = {certificates.PATH, certificates.KEY_PATH, TLS_SETTINGS, MEDIA}
    return (
        changes_firewall(plan)
        or plan.order is not None
        or any(change.path in paths for change in plan.changes)
        or present_port(facts, port) != port
    )


def present_port(facts: Facts | None, port: int) -> int:
    """The port for phones that Kamailio has now; `port` if it has none."""
    sockets = facts.sockets if facts else ()
    ports = [s.port for s in sockets if s.proto == "tcp" and s.program == kamailio.NAME]
    return port if port in ports or not ports else ports[0]


def takes_probes(desired: Desired) -> bool:
    """Whether a release has a place for probe accounts; those of older versions have none."""
    return any(
        file.path == kamailio.CONFIGURATION and b'"htable", "probes=>' in file.content
        for file in desired.files
    )
