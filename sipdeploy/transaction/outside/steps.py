"""The proof from outside as steps of an apply: once before the swap, and once after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sipdeploy.diagnostics import printable
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.facts import STATE
from sipdeploy.proof import judgement
from sipdeploy.proof.outside.probes import Probes
from sipdeploy.proof.outside.run import prove_host
from sipdeploy.proof.outside.subject import Subject
from sipdeploy.proof.record import keep
from sipdeploy.proof.reports.formats import summary
from sipdeploy.transaction.outside.reachability import Seen, is_suspect

if TYPE_CHECKING:
    from sipdeploy.facts import Facts
    from sipdeploy.host import Host
    from sipdeploy.host.incoming import OnLine
    from sipdeploy.inventory.site import Site
    from sipdeploy.plan import Plan
    from sipdeploy.proof.outside import step as proof_step
    from sipdeploy.proof.outside.step import Level, Proof
    from sipdeploy.transaction.options import Run

MOST_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AskBefore:
    """Uses the host as a phone, before it changes. Nothing depends on the result alone."""

    has_undo: ClassVar[bool] = False
    title: ClassVar[str] = "try from here, before the change"
    run_: Run
    level: Level
    port: int
    seen: Seen

    def run(self, host: Host, on_line: OnLine) -> None:
        """Store the proof."""
        site, level = self.run_.site, self.level
        self.seen.before = _prove(self.run_, host, site, on_line, level=level, port=self.port)

    def undo(self, host: Host) -> None:
        """Nothing: the accounts are removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProveAfter:
    """Uses the host as a phone, after the swap; undoes an apply that has broken this."""

    has_undo: ClassVar[bool] = False
    run_: Run
    level: Level
    plan: Plan
    facts: Facts | None
    seen: Seen

    @property
    def title(self) -> str:
        """`prove from here, level quick`."""
        return f"prove from here, level {self.level}"

    def run(self, host: Host, on_line: OnLine) -> None:
        """HostFailed (SD912) if the apply must go back; else store the problem, if any."""
        site = self.run_.goal.proven(self.plan.desired)
        port = site.ports.wss
        proof = _prove(self.run_, host, site, on_line, level=self.level, port=port)
        if proof is None:
            return
        self.seen.after = proof
        suspect = is_suspect(self.plan, self.facts, port)
        is_first = self.plan.release == 0
        verdict = judgement.judge(self.seen.before, proof, is_first=is_first, is_suspect=suspect)
        if verdict == "undo":
            problem = judgement.undone(host.name, proof, is_suspect=suspect)
            raise HostFailed([problem, *proof.diagnostics])
        if verdict == "unreachable":
            self.seen.problem = judgement.unreachable(host.name, proof)
        keep(host, proof, f"{STATE}/candidate")  # the confirmation takes it with the release

    def undo(self, host: Host) -> None:
        """Nothing: Swap undoes the change."""


def _prove(
    run: Run, host: Host, site: Site, on_line: OnLine, *, level: Level, port: int
) -> Proof | None:
    """The proof; None if the run was interrupted."""

    def watch(step: proof_step.Step, result: proof_step.StepResult | None) -> None:
        if result is None:
            on_line(step.name)
        else:
            on_line(f"{result.name} {result.status} {printable(result.message)}")

    subject = Subject(
        name=host.name,
        site=site,
        entry=run.site.hosts[host.name],
        level=level,
        port=port,
        probes=None
        if level == "ports"
        else Probes(name=host.name, domain=site.domain, connect=lambda: host),
    )
    seconds = min(MOST_SECONDS, run.options.confirm_seconds / 2)
    proof = prove_host(subject, watch=watch, stop=run.stop, seconds=seconds)
    if proof is not None:
        on_line(summary(proof))
    return proof
