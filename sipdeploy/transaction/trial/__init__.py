"""A release on trial: live, but the host goes back by itself unless somebody confirms it."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sipdeploy.facts import STATE, SelfRollback, parse_left, parse_outcome
from sipdeploy.host import Host, ask, host_failed
from sipdeploy.host.incoming import number
from sipdeploy.plan.words import minutes
from sipdeploy.transaction import reports
from sipdeploy.transaction.lock import AUDIT_LOG, POLICY, Confirm, Owner, ask_in_time, recover

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sipdeploy.diagnostics.errors import HostFailed
    from sipdeploy.host.incoming import OnLine
    from sipdeploy.operation.health import Reading


@dataclass(slots=True, kw_only=True)
class Watched:
    """How the host did before the swap, which the watch after it compares with.

    `disconnected`: the users whom the plan removes or gives another password.
    """

    before: Reading | None = None
    disconnected: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTrial:
    """Leaves a verified run unconfirmed: the host takes it back after `seconds`.

    With `is_new_connection` it asks over a new connection, as Confirm does.
    """

    has_undo: ClassVar[bool] = False
    owner: Owner
    audit: tuple[str, ...]
    seconds: int
    is_new_connection: bool = False
    state: str = STATE
    log: str = AUDIT_LOG

    @property
    def title(self) -> str:
        """`open a trial of 10 min`."""
        return f"open a trial of {minutes(self.seconds)}"

    def run(self, host: Host, on_line: OnLine) -> None:
        """Open it; HostFailed (SD528) if the host has already rolled back."""
        del on_line
        if self.is_new_connection:
            host.close()
        ask_in_time(host, self._open, "its trial began")

    def undo(self, host: Host) -> None:
        """Nothing: Swap undoes the changes."""

    def _open(self, host: Host) -> Mapping[str, str]:
        argv = ("try", self.state, self.owner.name, str(self.seconds), self.log)
        line = f"{self.owner.name}: {self.owner.purpose}: {'; '.join(self.audit)}\n".encode()
        return ask(host, argv, ("SD525", "the trial cannot be opened"), data=line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """An open trial: the owner of its run, its purpose, its line for the log, and its end."""

    owner: str
    purpose: str
    audit: str
    seconds: float


def find(host: Host, state: str = STATE) -> Trial:
    """The open trial of a host; HostFailed (SD544) if there is none, and why."""
    answer = ask(host, ("trial", state), ("SD544", "the trial cannot be read"))
    now = number(answer.get("clock", "").strip(), time.time())
    seconds = parse_left(answer.get("trial", ""), str(now))
    if seconds is None:
        raise _none(host.name, parse_outcome(answer.get("outcome", "")))
    return Trial(
        owner=answer.get("holder", "").strip(),
        purpose=answer.get("purpose", "").strip(),
        audit=answer.get("audit", "").strip(),
        seconds=seconds,
    )


def _none(name: str, outcome: SelfRollback | None) -> HostFailed:
    if outcome is None:
        return host_failed(
            "SD544",
            f"no release is on trial on `{name}`",
            help_=f"`sipdeploy history {name}` shows which release it has",
        )
    when = dt.datetime.fromtimestamp(outcome.when, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return host_failed(
        "SD544",
        f"no release is on trial on `{name}`",
        notes=(
            f"it restored the previous release by itself at {when}: {reports.reason(outcome)}",
        ),
        help_=f"`sipdeploy apply {name}` brings the new one again",
    )


def keep(host: Host, trial: Trial, by: str, state: str = STATE, *, log: str = AUDIT_LOG) -> None:
    """Confirm a trial for good; HostFailed (SD528) if the host has gone back meanwhile."""
    owner = Owner(name=trial.owner, purpose=trial.purpose)
    line = f"{by}: confirm: {trial.audit}"
    Confirm(owner=owner, audit=(), line=line, state=state, log=log, policy=POLICY).run(
        host, lambda _: None
    )


def take_back(host: Host, trial: Trial, state: str = STATE, *, log: str = AUDIT_LOG) -> None:
    """Restore the release before the trial; RollbackFailed (SD525) if that fails."""
    recover(host, trial.owner, state, log, only=trial.owner)
