"""One host from connection to confirmation, in phases that run on all hosts in turn."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from sipdeploy import facts as host_facts
from sipdeploy.diagnostics import Diagnostic, Source, has_errors
from sipdeploy.diagnostics.errors import HostFailed, InvalidFiles, RollbackFailed, SipdeployError
from sipdeploy.host import Host, host_failed
from sipdeploy.host.connection import connect
from sipdeploy.plan import Plan, make_plan, preflight, saved
from sipdeploy.plan.effects import named, user_effects
from sipdeploy.plan.preflight import owner
from sipdeploy.plan.preview import Present, preview, read_sums
from sipdeploy.services import kamailio
from sipdeploy.services.kamailio import SUMS
from sipdeploy.transaction import reports as notices
from sipdeploy.transaction.lock import Owner, locked, recover, stale_owner
from sipdeploy.transaction.outside.reachability import Seen
from sipdeploy.transaction.packages import update_lists, warnings_of
from sipdeploy.transaction.reports import Planned, Report, State
from sipdeploy.transaction.runner import Event, UndoStack, run_step
from sipdeploy.transaction.steps import CONFIRM, STAGE, SWAP, WATCH, StepOf, Work
from sipdeploy.transaction.trial import Watched

if TYPE_CHECKING:
    from sipdeploy.facts import Facts
    from sipdeploy.transaction.options import Run

LISTS_STALE_SECONDS = 86_400
POLL_SECONDS = 0.1


class HostRun:
    """The run on one host. It stores a SipdeployError in `failure` instead of raising it."""

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
        self._has_new_lists = False
        self._seconds = 0.0
        self._title = ""  # of the last step
        self._cut_step = ""  # the step that Ctrl-C ended
        self._seen = Seen()
        self._watched = Watched()

    @property
    def has_work(self) -> bool:
        """Whether the plan has changes and the host has not failed."""
        return self.failure is None and self.plan is not None and not self.plan.is_empty

    @property
    def is_expected(self) -> bool:
        """Whether the plan needs no consent."""
        expects = self.run.options.expects
        return expects is not None and self.plan is not None and expects(self.plan)

    def prepare(self) -> None:
        """Connect, read facts, and plan; undoes an unfinished apply of a dead run."""
        self._try(self._prepare)

    def survey(self) -> None:
        """Connect, read facts, and plan; only reports an unfinished apply."""
        self._try(self._survey)

    def ask_preview(self) -> None:
        """Read current contents and load, to show the plan."""
        self._try(self._ask_preview)

    def stage(self) -> None:
        """Lock, install and build what is missing, stage and validate."""
        self._try(lambda: self._carry_out(STAGE))

    def swap(self) -> None:
        """Swap the candidate in; the host rolls back by itself unless `confirm` follows."""
        self._try(self._swap)

    def watch(self) -> None:
        """Compare the host with before, if the options say so."""
        self._try(lambda: self._carry_out(WATCH))

    def confirm(self) -> None:
        """Confirm the swap, or leave it on trial."""
        self._try(self._confirm)

    def change(self) -> None:
        """Swap, watch and confirm: the phases that change live files."""
        self.swap()
        self.watch()
        self.confirm()

    @property
    def is_unfinished(self) -> bool:
        """Whether there may be changes that are neither confirmed nor undone."""
        return self.failure is None and not self.is_applied

    def undo(self) -> None:
        """Undo all begun steps."""
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
        """End the running step, unless it is an undo. Safe to repeat, from another thread."""
        title = self._title
        is_cut = self._undo_stack is None or self._undo_stack.interrupt()
        if is_cut and self.failure is None and not self._cut_step:
            self._cut_step = title

    def compare(self, host_runs: Sequence[HostRun]) -> None:
        """Report that this host lacks the release that the others have confirmed."""
        applied = [each.name for each in host_runs if each.is_applied]
        if applied and self.plan is not None and not self.plan.is_empty and not self.is_applied:
            self._warn(notices.mixed(self.name, applied))

    @property
    def is_applied(self) -> bool:
        """Whether the host has the new release, confirmed or on trial."""
        return self._state in notices.LIVE

    def close(self) -> None:
        """Close the connection."""
        if self._undo_stack is not None:
            self._undo_stack.host.close()

    def report(self) -> Report:
        """The report of the run."""
        failure = self.failure
        is_unreachable = self.is_applied and self._seen.problem is not None
        code = failure.exit_code if failure else int(is_unreachable)
        return Report(
            host=self.name,
            state=self._state,
            changes=self.plan.lines() if self.plan else (),
            diagnostics=self._diagnostics,
            seconds=self._seconds,
            sources=self._sources,
            unreachable=notices.unreachable(self._seen) if is_unreachable else "",
            trial_seconds=self.run.options.try_seconds if self._state == "on trial" else None,
            exit_code=RollbackFailed.exit_code if self._state == "unknown" else code,
        )

    def planned(self) -> Planned:
        """The result of the survey."""
        return Planned(
            host=self.name,
            plan=self.plan,
            present=self.present,
            diagnostics=self._diagnostics,
            sources=self._sources,
            exit_code=self.failure.exit_code if self.failure else 0,
        )

    @property
    def _diagnostics(self) -> tuple[Diagnostic, ...]:
        failure = self.failure.diagnostics if self.failure else ()
        seen = self._seen.diagnostics if self.is_applied else ()
        return (
            *self._warnings,
            *seen,
            *(notices.with_state(each, self._state) for each in failure),
        )

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
            if self._cut_step and not isinstance(failure, RollbackFailed):
                self.failure = HostFailed([notices.interrupted(self.name, self._cut_step)])
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
        facts = self._read(host)
        while self._is_held(facts) and (facts.trial_seconds or 0) < deadline - time.monotonic():
            if self.run.stop.wait(1.0):
                return
            facts = self._read(host)
        if self._is_held(facts) and facts.trial_seconds is not None:
            raise HostFailed([notices.on_trial(self.name, facts)])
        if self._is_held(facts):  # the other apply is about to change these facts
            raise locked(self.name, facts.lock_owner, facts.lock_purpose, facts.lock_seconds)
        if facts.has_abandoned_run:
            title = "undo an unfinished apply"
            self._do(host, title, lambda: recover(host, facts.lock_owner))
            self._warn(notices.undone(self.name, facts))
            facts = self._read(host)
        self._plan(host, facts)
        self._check_plan()
        self._check_owner(host)
        self._warn_of_trial()

    def _survey(self) -> None:
        host = self._connect()
        facts = self._read(host)
        if facts.trial_seconds is not None:
            self._warn(notices.on_trial(self.name, facts, severity="warning"))
        elif facts.has_abandoned_run:
            self._warn(notices.unfinished(self.name, facts))
        self._plan(host, facts)
        if self._has_new_lists:
            self._warn(notices.new_lists(self.name))

    def _plan(self, host: Host, facts: Facts) -> None:
        facts = self._with_lists(host, facts)
        if facts.outcome is not None:
            self._warn(notices.self_rollback(self.name, facts.outcome))
        self._facts = facts
        facts = self.run.goal.expected(facts)
        self._preflight(facts)
        wanted, options = self.run.goal.desired(self.name, facts), self.run.options
        self.plan = make_plan(wanted, facts, time.time(), overwrites=options.overwrites)
        self._warnings += notices.left_alone(self.name, self.plan)

    def _check_plan(self) -> None:
        """InvalidFiles if the plan differs from the saved one, HostFailed if it loses an edit."""
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

    def _check_owner(self, host: Host) -> None:
        """HostFailed (SD553, SD554) if the host serves another inventory."""
        plan, facts = self.plan, self._facts
        is_checked = self.run.options.foreign == "refuse" and not self.is_expected
        if plan is None or facts is None or not is_checked or not owner.is_doubtful(plan, facts):
            return
        problem = owner.problem(self.name, plan, facts, read_sums(host))
        if problem is not None:
            raise HostFailed([problem])

    def _connect(self) -> Host:
        began = time.monotonic()
        self._say("connect", "start", began)
        try:
            host = self._opened()
        except BaseException:
            self._say("connect", "failed", began)
            raise
        self._say("connect", "ok", began)
        self._undo_stack = UndoStack(host, self._tell)
        return host

    def _opened(self) -> Host:
        """Open the host in a thread, which Ctrl-C leaves behind: nothing has changed yet."""
        opened: queue.SimpleQueue[Host | BaseException] = queue.SimpleQueue()
        threading.Thread(target=lambda: opened.put(self._open()), daemon=True).start()
        is_told = False
        while not self.run.stop.is_set():
            try:
                host = opened.get(timeout=POLL_SECONDS)
            except queue.Empty:
                if not is_told:
                    is_told = True
                    text = f"waiting for {self._entry.address}"
                    self._tell(Event(host=self.name, title="connect", state="line", text=text))
                continue
            if isinstance(host, BaseException):
                raise host
            return host
        raise HostFailed([notices.interrupted(self.name, "connect")])

    def _open(self) -> Host | BaseException:
        try:
            return (self.run.options.connect or connect)(self.name, self._entry)
        except BaseException as failure:  # noqa: BLE001 - `_opened` raises it
            return failure

    def _say(self, title: str, state: Literal["start", "ok", "failed"], began: float) -> None:
        seconds = time.monotonic() - began
        self._tell(Event(host=self.name, title=title, state=state, seconds=seconds))

    def _tell(self, event: Event) -> None:
        """Report an event, and remember the step that runs."""
        if event.state == "start":
            self._title = event.title
        self.run.say(event)

    def _do(self, host: Host, title: str, action: Callable[[], None]) -> None:
        run_step(host, title, lambda _, __: action(), self._tell)

    def _read(self, host: Host) -> Facts:
        read: list[Facts] = []
        goal = self.run.goal

        def action() -> None:
            read.append(host_facts.read(host, goal.query(host)))

        self._do(host, "read facts", action)
        return read[0]

    def _with_lists(self, host: Host, facts: Facts) -> Facts:
        """The facts, read again after an update of the package lists if the goal needs one."""
        missing = set(self.run.goal.packages(self.name, facts)) - facts.installed.keys()
        age = facts.lists_age_seconds
        is_stale = age is None or age > LISTS_STALE_SECONDS or missing - facts.candidates.keys()
        is_needed = (missing and is_stale) or self.run.goal.needs_lists(facts)
        if not is_needed or facts.os_id not in preflight.SYSTEMS:
            return facts
        self._has_new_lists = True
        try:
            run_step(host, "update package lists", update_lists, self._tell)
        except HostFailed as failure:
            facts = self._read(host)
            known = facts.installed.keys() | facts.candidates.keys()
            if set(self.run.goal.packages(self.name, facts)) <= known:
                self._warnings += warnings_of(failure)
                return facts
            raise
        return self._read(host)

    def _is_held(self, facts: Facts) -> bool:
        """Whether a trial is open or a live run has the lock, and --break-lock is not set."""
        is_locked = bool(facts.lock_owner) and not stale_owner(facts.lock_owner)
        is_on_trial = facts.trial_seconds is not None
        return (is_locked or is_on_trial) and not self.run.options.breaks_lock

    def _preflight(self, facts: Facts) -> None:
        """Check the host before rendering; HostFailed with the errors, warnings are kept."""
        problems = self.run.goal.problems(self.name, facts)
        self._warnings += tuple(p for p in problems if p.severity != "error")
        if has_errors(problems):
            raise HostFailed([p for p in problems if p.severity == "error"])

    def _warn(self, problem: Diagnostic) -> None:
        self._warnings = (*self._warnings, problem)

    def _ask_preview(self) -> None:
        if self._undo_stack is not None and self.has_work and self.plan is not None:
            self.present = preview(self._undo_stack.host, self.plan)
            if self.run.options.foreign == "warn" and self._facts is not None:
                sums = self.present.current.get(SUMS)
                problem = owner.problem(self.name, self.plan, self._facts, sums)
                if problem is not None:
                    self._warn(replace(problem, severity="warning"))

    def _carry_out(self, steps: Sequence[StepOf]) -> None:
        """Run the steps that the plan needs, in order."""
        if self.plan is None or self._undo_stack is None:
            raise host_failed("SD522", f"`{self.name}` was not prepared")
        work = Work(
            plan=self.plan,
            owner=self._owner,
            run=self.run,
            facts=self._facts,
            seen=self._seen,
            watched=self._watched,
        )
        for step in steps:
            if self.run.stop.is_set():
                self._undo_stack.undo()
                raise HostFailed([notices.interrupted(self.name, self._title)])
            if step.is_needed(work):
                self._undo_stack.run(step.make(work))

    @property
    def _owner(self) -> Owner:
        facts = self._facts
        owner = facts.lock_owner if facts else ""
        is_mine = self.run.options.breaks_lock or bool(stale_owner(owner))
        return Owner(
            name=self.run.owner,
            purpose=self.run.options.purpose,
            serial=facts.serial if facts else "",
            breaks=owner if is_mine else "",
        )

    def _swap(self) -> None:
        self._has_swapped = True
        self._carry_out(SWAP)

    def _warn_of_trial(self) -> None:
        """Say which users would come back with the previous release."""
        options = self.run.options
        if not (options.try_seconds or options.watch_seconds) or self.plan is None:
            return
        sums = (change.kind for change in self.plan.changes if change.path == kamailio.SUMS)
        if "update" not in sums:
            return
        self._ask_preview()
        numbers = user_effects(self.plan, self.present).disconnected
        self._watched.disconnected = numbers
        if numbers:
            warning = notices.back_on_trial if options.try_seconds else notices.back_when_watched
            self._warn(warning(self.name, named(sorted(numbers))))

    def _confirm(self) -> None:
        self._carry_out(CONFIRM)
        if not self.run.options.try_seconds:
            self._warnings = notices.without_return(self._warnings)
        self._state = "on trial" if self.run.options.try_seconds else "applied"
