"""Watches a host after an apply, before it is confirmed: one that does clearly worse goes back."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.facts import STATE
from sipdeploy.host import Host, host_failed, run_script, sections
from sipdeploy.host.incoming import OnLine, number
from sipdeploy.operation import events, health, journal
from sipdeploy.operation.health import Reading
from sipdeploy.plan.effects import named
from sipdeploy.plan.preview import registered
from sipdeploy.plan.words import minutes
from sipdeploy.transaction.lock import AUDIT_LOG, Owner
from sipdeploy.transaction.trial import Watched

BEFORE_SECONDS = 3600
POLL_SECONDS = 15.0
LOST_SECONDS = 5.0  # until the next try after a lost connection
ASK_SECONDS = 150  # the script waits up to 120 s for another command


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBefore:
    """Reads how the host does, before it changes. Changes nothing."""

    has_undo: ClassVar[bool] = False
    title: ClassVar[str] = "read how the host does"
    watched: Watched
    state: str = STATE

    def run(self, host: Host, on_line: OnLine) -> None:
        """Store the reading of the last hour, without the users whom the plan disconnects."""
        answer = _ask(host, (self.state, "", "0", str(BEFORE_SECONDS), "0", ""))
        going = self.watched.disconnected
        before = _reading(answer, BEFORE_SECONDS).without(going)
        present = registered(answer)
        leaving = len(going if present is None else going & present)
        if leaving and before.registered is not None:
            on_line(f"the change disconnects {leaving} of {before.registered} registered users")
            before = replace(before, registered=max(0, before.registered - leaving))
        if going:
            on_line(f"if it goes back, the old passwords of {_all(going)} are valid again")
        self.watched.before = before
        on_line(health.in_words(before, before))

    def undo(self, host: Host) -> None:
        """Nothing to undo."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Keeps a verified run unconfirmed for `seconds`, and compares it with the time before.

    Each reading also starts the host's rollback timer anew, so the host goes back soon after this
    machine is gone. Somebody may end it early with `sipdeploy confirm`.
    """

    has_undo: ClassVar[bool] = False
    owner: Owner
    seconds: int
    confirm_seconds: int
    watched: Watched
    stop: threading.Event
    state: str = STATE
    log: str = AUDIT_LOG
    clock: Callable[[], float] = field(default=time.time)

    @property
    def title(self) -> str:
        """`watch for 15 min`."""
        return f"watch for {minutes(self.seconds)}"

    def run(self, host: Host, on_line: OnLine) -> None:
        """HostFailed: SD545 if the host does clearly worse, SD528 if it has gone back."""
        began = self.clock()
        end = began + self.seconds
        before = self.watched.before or Reading(seconds=0.0)
        found: list[Reading] = []
        while not self.stop.is_set():
            answer = self._asked(host, end, began)
            if "over" in answer:
                self._ended(host.name, answer["over"].strip())
                return
            now = _reading(answer, self.clock() - began).without(self.watched.disconnected)
            found = [*found[:1], *found[-1:], now]
            on_line(f"{minutes(now.seconds)}: {health.in_words(before, now)}")
            if reasons := health.worse(before, found):
                raise self._worse(host.name, reasons, now.seconds)
            if self.clock() >= end:
                return
            self.stop.wait(
                min(POLL_SECONDS, self.confirm_seconds / 4, max(0.1, end - self.clock()))
            )

    def undo(self, host: Host) -> None:
        """Nothing: Swap undoes the changes."""

    def _asked(self, host: Host, end: float, began: float) -> dict[str, str]:
        """The answer; a lost connection is opened again, until the timer of the host is near."""
        own = (self.state, self.owner.name, str(int(end)))
        deadline = time.monotonic() + self.confirm_seconds / 2
        while True:
            try:
                seconds = str(math.ceil(self.clock() - began) + 1)
                return _ask(host, (*own, seconds, str(self.confirm_seconds), self.log))
            except HostFailed as failure:
                codes = {problem.code for problem in failure.diagnostics}
                if codes != {"SD506"} or time.monotonic() > deadline or self.stop.is_set():
                    raise
            host.close()
            self.stop.wait(LOST_SECONDS)

    def _ended(self, name: str, confirmed: str) -> None:
        if confirmed != self.owner.name:
            raise host_failed(
                "SD528",
                f"`{name}` restored the previous release while sipdeploy watched it",
                notes=self._back(name),
                help_=f"somebody said so, or it booted: /var/log/sipdeploy.log on `{name}` has it",
            )

    def _worse(self, name: str, reasons: tuple[str, ...], seconds: float) -> HostFailed:
        when = minutes(seconds)
        return host_failed(
            "SD545",
            f"`{name}` does clearly worse {when} after the change: {'; '.join(reasons)}",
            notes=self._back(name),
            help_=f"`sipdeploy calls {name} --since 1h` shows the calls, `sipdeploy logs {name}` "
            "what the daemons said",
        )

    def _back(self, name: str) -> tuple[str, ...]:
        """Who comes back with the previous release."""
        users = self.watched.disconnected
        if not users:
            return ()
        again = f"`sipdeploy apply {name}` without `--watch` disconnects them for good"
        return (f"the old passwords of {_all(users)} are valid again; {again}",)


def _all(users: frozenset[str]) -> str:
    return named(sorted(users))


def _ask(host: Host, argv: tuple[str, ...]) -> dict[str, str]:
    result = run_script(host, ("watch", *argv), timeout_seconds=ASK_SECONDS)
    answer = sections(result.text)
    if "end" not in answer and "over" not in answer:
        raise host_failed(
            "SD509",
            f"`{host.name}` did not say how it does",
            notes=tuple(result.complaint.splitlines()[-3:]),
        )
    return answer


def _reading(answer: dict[str, str], seconds: float) -> Reading:
    """The reading of the last seconds, by the clock of the host."""
    since = number(answer.get("clock", "").strip(), 0.0) - seconds
    entries = journal.entries(answer.get("journal", "").splitlines())
    recent = [entry for entry in entries if entry.when >= since]
    return health.reading(answer, list(events.events(recent)), seconds)
