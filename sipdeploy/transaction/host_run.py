"""One host from connection to confirmation, in phases between which other hosts are looked at."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from sipdeploy import facts
from sipdeploy.diagnostics import Diagnostic, Source, has_errors
from sipdeploy.diagnostics.errors import HostFailed, InvalidFiles, RollbackFailed, SipdeployError
from sipdeploy.host import Host, host_failed
from sipdeploy.host.connection import connect
from sipdeploy.plan import Plan, make_plan, preflight, saved
from sipdeploy.plan.desired import make_query, packages, ports
from sipdeploy.plan.preview import Present, preview
from sipdeploy.services import kamailio
from sipdeploy.services.service import HostProfile
from sipdeploy.transaction import reports as notices
from sipdeploy.transaction.lock import Owner, locked, recover, stale_owner
from sipdeploy.transaction.packages import update_lists
from sipdeploy.transaction.reports import Planned, Report, State
from sipdeploy.transaction.runner import Event, UndoStack, run_step
from sipdeploy.transaction.steps import CONFIRM, STAGE, SWAP, StepOf, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sipdeploy.facts import Facts, Query
    from sipdeploy.transaction.options import Run

LISTS_STALE_SECONDS = 86_400


class HostRun:
    """The course of one host; remembers how far it came, and never raises SipdeployError."""

    def __init__(self, run: Run, name: str) -> None:
        self.name = name
        self.plan: Plan | None = None
        self.present = Present()
        self.failure: SipdeployError | None = None
        self.run = run
        self._entry = run.site.hosts[name]
        self._undo_stack: UndoStack | None = None
        self._facts: Facts | None = None
        self._warnings: tuple[Diagnostic, ...] = ()
        self._state: State = "unchanged"
        self._has_swapped = False
        self._seconds = 0.0

    @property
    def has_work(self) -> bool:
        """Whether there is something to do, and nothing that speaks against it."""
        return self.failure is None and self.plan is not None and not self.plan.is_empty

    @property
    def is_expected(self) -> bool:
        """Whether its plan is one that nobody needs to be asked about."""
        expects = self.run.options.expects
        return expects is not None and self.plan is not None and expects(self.plan)

    def prepare(self) -> None:
        """Connect, read facts, and plan; changes nothing but what a dead apply has left."""
        self._try(self._prepare)

    def survey(self) -> None:
        """As `prepare`, for a plan that is only shown: leaves alone what a dead apply has left."""
        self._try(self._survey)

    def ask_preview(self) -> None:
        """Ask for what shows the plan: present contents, and who is connected."""
        self._try(self._ask_preview)

    def stage(self) -> None:
        """Lock, install and build what is missing, stage and validate."""
        self._try(lambda: self._carry_out(STAGE))

    def swap(self) -> None:
        """Make the candidate live; the host undoes it by itself until it is confirmed."""
        self._try(self._swap)

    def confirm(self) -> None:
        """Make it last."""
        self._try(self._confirm)

    def change(self) -> None:
        """Swap and confirm: all that touches live files."""
        self.swap()
        self.confirm()

    @property
    def is_unfinished(self) -> bool:
        """Whether something may have begun that is neither confirmed nor undone."""
        return self.failure is None and self._state != "applied"

    def undo(self) -> None:
        """Undo whatever was begun."""
        if self._undo_stack is None:
            return
        try:
            self._undo_stack.undo()
        except SipdeployError as failure:
            self.failure = failure
            self._state = "unknown"
        else:
            self._state = "rolled back" if self._has_swapped else "unchanged"

    def interrupt(self) -> None:
        """End what waits for the host, unless that is an undo."""
        if self._undo_stack is not None and not self._undo_stack.is_undoing:
            self._undo_stack.host.close()

    def close(self) -> None:
        """End the connection."""
        if self._undo_stack is not None:
            self._undo_stack.host.close()

    def report(self) -> Report:
        """What became of the host."""
        failure = self.failure
        code = failure.exit_code if failure else 0
        return Report(
            host=self.name,
            state=self._state,
            changes=self.plan.lines() if self.plan else (),
            diagnostics=self._told,
            seconds=self._seconds,
            sources=self._sources,
            exit_code=RollbackFailed.exit_code if self._state == "unknown" else code,
        )

    def planned(self) -> Planned:
        """What would become of the host."""
        return Planned(
            host=self.name,
            plan=self.plan,
            present=self.present,
            diagnostics=self._told,
            sources=self._sources,
            exit_code=self.failure.exit_code if self.failure else 0,
        )

    @property
    def _told(self) -> tuple[Diagnostic, ...]:
        return (*self._warnings, *(self.failure.diagnostics if self.failure else ()))

    @property
    def _sources(self) -> Mapping[str, Source]:
        return self.failure.sources if self.failure else {}

    def _try(self, phase: Callable[[], None]) -> None:
        if self.failure is not None or self.run.stop.is_set():
            return
        began = time.monotonic()
        try:
            phase()
        except SipdeployError as failure:
            self.failure = failure
            if isinstance(failure, RollbackFailed):
                self._state = "unknown"
            elif self._has_swapped:
                self._state = "rolled back"
        finally:
            self._seconds += time.monotonic() - began

    # Phase 1: nothing is locked yet.

    def _prepare(self) -> None:
        host = self._connect()
        deadline = time.monotonic() + self.run.options.lock_wait_seconds
        found = self._read(host)
        while self._is_held(found) and time.monotonic() < deadline:
            if self.run.stop.wait(1.0):
                return
            found = self._read(host)
        if self._is_held(found):  # what would be planned is about to change
            held = found.lock_owner, found.lock_purpose, found.lock_seconds
            raise locked(self.name, *held)
        if found.has_abandoned_run:
            what = "undo an unfinished apply"
            self._do(host, what, lambda: recover(host, found.lock_owner))
            self._warn(notices.undone(self.name, found))
            found = self._read(host)
        self._plan(host, found)
        self._check_plan()

    def _survey(self) -> None:
        host = self._connect()
        found = self._read(host)
        if found.has_abandoned_run:
            self._warn(notices.unfinished(self.name, found))
        self._plan(host, found)

    def _plan(self, host: Host, found: Facts) -> None:
        found = self._with_lists(host, found)
        if found.outcome is not None:
            self._warn(notices.by_itself(self.name, found.outcome))
        self._facts = found
        self._preflight(found)
        self.plan = make_plan(self.run.desired(host, self.name, found), found, time.time())
        self._warnings += notices.closed(self.name, self.plan, found, self.run.site.ports)

    def _check_plan(self) -> None:
        """Refuse to lose an edit, and to do anything but what was agreed to."""
        plan, options = self.plan, self.run.options
        if plan is None:
            return
        if options.saved is not None:
            problems = saved.differences(options.saved, self.name, plan)
            if problems:
                raise InvalidFiles(problems)
        drift = [notices.drift(self.name, change.path) for change in plan.drift]
        if drift and not options.overwrites:
            raise HostFailed(drift)
        for change in plan.drift:
            self._warn(notices.overwritten(self.name, change.path))

    def _connect(self) -> Host:
        began = time.monotonic()
        self._say("connect", "start", began)
        try:
            host = (self.run.options.connect or connect)(self.name, self._entry)
        except BaseException:
            self._say("connect", "failed", began)
            raise
        self._say("connect", "ok", began)
        self._undo_stack = UndoStack(host, self.run.say)
        return host

    def _say(self, title: str, state: Literal["start", "ok", "failed"], began: float) -> None:
        seconds = time.monotonic() - began
        self.run.say(Event(host=self.name, title=title, state=state, seconds=seconds))

    def _do(self, host: Host, title: str, act: Callable[[], None]) -> None:
        run_step(host, title, lambda _, __: act(), self.run.say)

    def _read(self, host: Host) -> Facts:
        query: Query = make_query(self.run.site)
        read: list[Facts] = []
        self._do(host, "read facts", lambda: read.append(facts.read(host, query)))
        return read[0]

    def _with_lists(self, host: Host, found: Facts) -> Facts:
        """Facts with fresh package lists, where packages are missing and the lists are old."""
        missing = set(packages(self.run.site, found)) - found.installed.keys()
        age = found.lists_age_seconds
        is_stale = age is None or age > LISTS_STALE_SECONDS or missing - found.candidates.keys()
        if not missing or not is_stale or found.os_id not in preflight.SYSTEMS:
            return found
        run_step(host, "update package lists", update_lists, self.run.say)
        return self._read(host)

    def _is_held(self, found: Facts) -> bool:
        """Whether somebody who may be alive is at work, and is not to be displaced."""
        held = bool(found.lock_owner) and not stale_owner(found.lock_owner)
        return held and not self.run.options.breaks_lock

    def _preflight(self, found: Facts) -> None:
        """Check the host first: what cannot be is not rendered for."""
        site = self.run.site
        given = kamailio.sizes(site, HostProfile(room=found.room))
        problems = preflight.problems(
            site, self.name, found, ports(site, self._entry), given=given
        )
        self._warnings += tuple(p for p in problems if p.severity != "error")
        if has_errors(problems):
            raise HostFailed([p for p in problems if p.severity == "error"])

    def _warn(self, problem: Diagnostic) -> None:
        self._warnings = (*self._warnings, problem)

    def _ask_preview(self) -> None:
        if self._undo_stack is not None and self.has_work and self.plan is not None:
            self.present = preview(self._undo_stack.host, self.plan)

    def _carry_out(self, steps: Sequence[StepOf]) -> None:
        """Run those steps that the plan needs, in their order."""
        if self.plan is None or self._undo_stack is None:
            raise host_failed("SD522", f"`{self.name}` was not prepared")
        work = Work(plan=self.plan, owner=self._owner, run=self.run)
        for step in steps:
            if step.is_needed(work):
                self._undo_stack.run(step.make(work))

    @property
    def _owner(self) -> Owner:
        found = self._facts
        owner = found.lock_owner if found else ""
        is_mine = self.run.options.breaks_lock or bool(stale_owner(owner))
        return Owner(
            name=self.run.owner,
            purpose=self.run.options.purpose,
            serial=found.serial if found else "",
            breaks=owner if is_mine else "",
        )

    def _swap(self) -> None:
        self._has_swapped = True
        self._carry_out(SWAP)

    def _confirm(self) -> None:
        self._carry_out(CONFIRM)
        self._state = "applied"
