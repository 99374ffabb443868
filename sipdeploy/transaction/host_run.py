"""One host from connection to confirmation, in phases between which other hosts are looked at."""

import datetime as dt
import time
from collections.abc import Callable, Mapping
from typing import Literal

from sipdeploy import facts
from sipdeploy.diagnostics import Diagnostic, Source, has_errors
from sipdeploy.diagnostics.errors import HostFailed, InvalidFiles, RollbackFailed, SipdeployError
from sipdeploy.facts import Facts, Query
from sipdeploy.host import Host, host_failed
from sipdeploy.host.connection import connect
from sipdeploy.plan import Plan, make_plan, preflight, saved
from sipdeploy.plan.desired import make_query, packages, ports
from sipdeploy.plan.preview import Present, preview
from sipdeploy.proof.register import Register
from sipdeploy.services import firewall, kamailio
from sipdeploy.services import install as repository
from sipdeploy.services.service import HostProfile
from sipdeploy.transaction import release
from sipdeploy.transaction import reports as notices
from sipdeploy.transaction.certificate import Issue
from sipdeploy.transaction.files import Stage, Swap
from sipdeploy.transaction.lock import Confirm, Lock, Owner, locked, recover, stale_owner
from sipdeploy.transaction.options import Job
from sipdeploy.transaction.packages import AddRepository, BuildAsterisk, Packages, update_lists
from sipdeploy.transaction.reports import Planned, Report, State
from sipdeploy.transaction.runner import Event, Step, UndoStack, run_step

LISTS_STALE_SECONDS = 86_400
PER_FURTHER_HOST_SECONDS = 60


class HostRun:
    """The course of one host; remembers how far it came, and never raises SipdeployError."""

    def __init__(self, job: Job, name: str) -> None:
        self.name = name
        self.plan: Plan | None = None
        self.present = Present()
        self.failure: SipdeployError | None = None
        self._job = job
        self._entry = job.site.hosts[name]
        self._course: UndoStack | None = None
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
        expects = self._job.options.expects
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
        self._try(self._stage)

    def swap(self) -> None:
        """Make the candidate live; the host undoes it by itself until it is confirmed."""
        self._try(self._swap)

    def confirm(self) -> None:
        """Make it last."""
        self._try(self._confirm)

    def give_up(self) -> None:
        """Undo whatever was begun."""
        if self._course is None:
            return
        try:
            self._course.undo()
        except SipdeployError as failure:
            self.failure = failure
            self._state = "unknown"
        else:
            self._state = "rolled back" if self._has_swapped else "unchanged"

    def interrupt(self) -> None:
        """End what waits for the host, unless that is an undo."""
        if self._course is not None and not self._course.is_undoing:
            self._course.host.close()

    def close(self) -> None:
        """End the connection."""
        if self._course is not None:
            self._course.host.close()

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
        if self.failure is not None or self._job.stop.is_set():
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
        deadline = time.monotonic() + self._job.options.lock_wait_seconds
        found = self._read(host)
        while self._is_held(found) and time.monotonic() < deadline:
            if self._job.stop.wait(1.0):
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
        self.plan = make_plan(self._job.want(host, self.name, found), found, time.time())
        self._warnings += notices.closed(self.name, self.plan, found, self._job.site.ports)

    def _check_plan(self) -> None:
        """Refuse to lose an edit, and to do anything but what was agreed to."""
        plan, options = self.plan, self._job.options
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
            host = (self._job.options.connect or connect)(self.name, self._entry)
        except BaseException:
            self._say("connect", "failed", began)
            raise
        self._say("connect", "ok", began)
        self._course = UndoStack(host, self._job.say)
        return host

    def _say(self, title: str, state: Literal["start", "ok", "failed"], began: float) -> None:
        seconds = time.monotonic() - began
        self._job.say(Event(host=self.name, title=title, state=state, seconds=seconds))

    def _do(self, host: Host, title: str, act: Callable[[], None]) -> None:
        run_step(host, title, lambda _, __: act(), self._job.say)

    def _read(self, host: Host) -> Facts:
        query: Query = make_query(self._job.site)
        read: list[Facts] = []
        self._do(host, "read facts", lambda: read.append(facts.read(host, query)))
        return read[0]

    def _with_lists(self, host: Host, found: Facts) -> Facts:
        """Facts with fresh package lists, where packages are missing and the lists are old."""
        missing = set(packages(self._job.site, found)) - found.installed.keys()
        age = found.lists_age_seconds
        is_stale = age is None or age > LISTS_STALE_SECONDS or missing - found.candidates.keys()
        if not missing or not is_stale or found.os_id not in preflight.SYSTEMS:
            return found
        run_step(host, "update package lists", update_lists, self._job.say)
        return self._read(host)

    def _is_held(self, found: Facts) -> bool:
        """Whether somebody who may be alive is at work, and is not to be displaced."""
        held = bool(found.lock_owner) and not stale_owner(found.lock_owner)
        return held and not self._job.options.breaks_lock

    def _preflight(self, found: Facts) -> None:
        """Check the host first: what cannot be is not rendered for."""
        site = self._job.site
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
        if self._course is not None and self.has_work and self.plan is not None:
            self.present = preview(self._course.host, self.plan)

    # Phase 2: the lock is ours, nothing live has changed.

    def _stage(self) -> None:
        plan, course = self._begun
        first: list[Step] = []
        if plan.repository:
            file = next(f for f in plan.desired.files if f.path == repository.SOURCE)
            first.append(AddRepository(repository=plan.repository, source=file.content))
        if plan.packages:
            held = tuple(unit.unit for unit in plan.units if not unit.is_settled)
            first.append(Packages(names=tuple(plan.packages), held=held))
        if plan.build:
            first.append(BuildAsterisk(build=plan.build))
        if plan.order:
            first.append(Issue(owner=self._owner, plan=plan, order=plan.order))
        if first:
            course.run(Lock(owner=self._owner), *first)
        course.run(Stage(owner=self._owner, plan=plan, release=self._release(plan)))

    @property
    def _begun(self) -> tuple[Plan, UndoStack]:
        if self.plan is None or self._course is None:
            raise host_failed("SD522", f"`{self.name}` was not prepared")
        return self.plan, self._course

    @property
    def _owner(self) -> Owner:
        found = self._facts
        owner = found.lock_owner if found else ""
        is_mine = self._job.options.breaks_lock or bool(stale_owner(owner))
        return Owner(
            name=self._job.owner,
            purpose=self._job.options.purpose,
            serial=found.serial if found else "",
            breaks=owner if is_mine else "",
        )

    def _release(self, plan: Plan) -> bytes:
        signature = release.Signature(
            who=self._job.owner.partition(" (")[0],
            when=dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            purpose=self._job.options.purpose,
            what=plan.lines(),
        )
        return release.dump(plan.desired, signature)

    # Phase 3: live files change.

    def _swap(self) -> None:
        plan, course = self._begun
        self._has_swapped = True
        seconds = self._job.options.confirm_seconds
        if self._job.options.all_or_nothing:
            seconds += PER_FURTHER_HOST_SECONDS * (self._job.hosts - 1)
        course.run(Swap(owner=self._owner, plan=plan, timeout_seconds=seconds))
        if prove := self._job.options.prove:
            course.run(Register(desired=plan.desired, credentials=prove))

    def _confirm(self) -> None:
        plan, course = self._begun
        is_shut = any(change.service == firewall.NAME for change in plan.changes) or any(
            unit.unit == firewall.UNIT and unit.action != "none" for unit in plan.units
        )
        audit = plan.lines()
        course.run(Confirm(owner=self._owner, audit=audit, is_new_connection=is_shut))
        self._state = "applied"
