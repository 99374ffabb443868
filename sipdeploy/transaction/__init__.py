"""Brings hosts to what the site says, all or one by one, and tells what became of each.

Order only: what is done is in the plan, how it is done in the steps. All hosts are staged and
validated before the first is touched.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Self

from sipdeploy.facts import Facts
from sipdeploy.host import Host, host_failed
from sipdeploy.host.connection import connect
from sipdeploy.inventory.site import Site
from sipdeploy.plan.desired import Desired, desired
from sipdeploy.services import certificates
from sipdeploy.services.render import compile_templates
from sipdeploy.transaction import release
from sipdeploy.transaction.host_run import HostRun
from sipdeploy.transaction.lock import this_owner
from sipdeploy.transaction.options import Job, Options
from sipdeploy.transaction.release import Header, fetch_release
from sipdeploy.transaction.reports import Interrupted, Planned, Report
from sipdeploy.transaction.runner import Say

__all__ = [
    "Interrupted",
    "Options",
    "Planned",
    "Report",
    "apply",
    "history",
    "plan",
    "rollback",
]
AT_ONCE = 32  # connections; what they do is waiting
STAGED_AT_ONCE = 8  # daemons are started on trial, and packages are fetched from one archive
Want = Callable[[Host, str, Facts], Desired]
_DEFAULT = Options()


def apply(
    site: Site,
    names: Sequence[str],
    *,
    credentials: Mapping[str, str],
    say: Say,
    options: Options = _DEFAULT,
) -> tuple[Report, ...]:
    """Bring the named hosts to what the site says; the first failure ends it.

    `credentials` maps numbers to HA1.
    InvalidFiles before any host is touched; Interrupted only after the undo.
    """
    return _carry_out(site, names, _wanted(site, credentials, options), (say, options))


def rollback(
    site: Site, name: str, number: int | None, *, say: Say, options: Options = _DEFAULT
) -> tuple[Report, ...]:
    """Bring a host back to a release that it keeps (None: the one before the present one).

    The same transaction as any other, and so itself a release. What the host made for itself,
    such as a self-signed certificate, stays.
    """

    def want(host: Host, name: str, found: Facts) -> Desired:
        chosen = number if number is not None else _previous(host, name)
        del found
        return fetch_release(host, chosen)

    return _carry_out(site, [name], want, (say, options))


def _previous(host: Host, name: str) -> int:
    kept = release.history(host)
    earlier = [header.number for header in kept if not header.is_current]
    current = [header.number for header in kept if header.is_current]
    if not earlier or not current or min(earlier) > current[0]:
        raise host_failed("SD530", f"`{name}` keeps no release before the present one")
    return max(number for number in earlier if number < current[0])


def history(site: Site, name: str) -> tuple[Header, ...]:
    """The releases that a host keeps, the oldest first; HostFailed when it cannot be asked."""
    host = connect(name, site.hosts[name])
    try:
        return release.history(host)
    finally:
        host.close()


def plan(
    site: Site,
    names: Sequence[str],
    *,
    credentials: Mapping[str, str],
    say: Say,
    options: Options = _DEFAULT,
) -> tuple[Planned, ...]:
    """What an apply would do to the named hosts. Locks nothing, and changes nothing on them.

    The one exception: a host that lacks packages and has no fresh list of them fetches it.
    """
    want = _wanted(site, credentials, options)
    with _Crew(site, names, want, (say, options)) as crew:
        crew.all(HostRun.survey)
        crew.all(HostRun.ask_preview)
        return tuple(host_run.planned() for host_run in crew.host_runs)


def _wanted(site: Site, credentials: Mapping[str, str], options: Options) -> Want:
    material = certificates.read_material(site, options.folder)
    threading.Thread(target=_prepare, daemon=True).start()

    def want(host: Host, name: str, found: Facts) -> Desired:
        del host
        return desired(site, name, found, credentials, material)

    return want


def _prepare() -> None:
    """Read what is needed when a host has answered; until then there is time."""
    certificates.prepare()
    compile_templates()


def _carry_out(
    site: Site, names: Sequence[str], want: Want, manner: tuple[Say, Options]
) -> tuple[Report, ...]:
    with _Crew(site, names, want, manner) as crew:
        crew.carry_out()
        reports = tuple(host_run.report() for host_run in crew.host_runs)
        if crew.is_interrupted:
            raise Interrupted(reports)
        return reports


class _Crew:
    """The host_runs of one run, and the threads that they go on in."""

    def __init__(
        self, site: Site, names: Sequence[str], want: Want, manner: tuple[Say, Options]
    ) -> None:
        say, options = manner
        self.job = Job(
            site=site,
            say=say,
            owner=this_owner(),
            options=options,
            want=want,
            hosts=len(names),
        )
        self.host_runs = [HostRun(self.job, name) for name in names]
        self.is_interrupted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        for host_run in self.host_runs:
            host_run.close()

    @property
    def has_failed(self) -> bool:
        """Whether nothing new may begin."""
        return self.is_interrupted or any(host_run.failure for host_run in self.host_runs)

    def carry_out(self) -> None:
        """Prepare all, stage all, and only then change them."""
        options = self.job.options
        self.all(HostRun.prepare)
        asked = [
            host_run
            for host_run in self.host_runs
            if host_run.has_work and not host_run.is_expected
        ]
        if not self.has_failed and options.agree is not None and asked:
            self.all(HostRun.ask_preview, asked)
            plans = {v.name: (v.plan, v.present) for v in asked if v.has_work and v.plan}
            if plans and not options.agree(plans):
                return
        at_work = [host_run for host_run in self.host_runs if host_run.has_work]
        if not self.has_failed:
            self.all(HostRun.stage, at_work, STAGED_AT_ONCE)
        if not self.has_failed and options.all_or_nothing:
            self.all(_unless_failed(self, HostRun.swap), at_work, options.parallel)
            if not self.has_failed:
                self.all(HostRun.confirm, at_work)
        elif not self.has_failed:
            self.all(_unless_failed(self, _change), at_work, options.parallel)
        if self.has_failed:
            self._finish_undo()

    def _finish_undo(self) -> None:
        """Undo those that were begun and are not confirmed; nothing may interrupt it."""
        left = [v for v in self.host_runs if not v.failure and v.report().state != "applied"]
        self.all(HostRun.give_up, left)

    def all(
        self,
        phase: Callable[[HostRun], None],
        host_runs: Sequence[HostRun] | None = None,
        at_once: int = AT_ONCE,
    ) -> None:
        """Run a phase of the host_runs, `at_once` of them at the same time, and wait for all."""
        chosen = self.host_runs if host_runs is None else host_runs
        if not chosen:
            return
        with ThreadPoolExecutor(min(at_once, len(chosen))) as pool:
            futures: list[Future[None]] = [pool.submit(phase, host_run) for host_run in chosen]
            pending = set(futures)
            while pending:
                try:
                    pending = wait(pending, timeout=1.0).not_done
                except KeyboardInterrupt:
                    self._interrupt()
        for future in futures:
            future.result()  # a bug is not to be lost in a thread

    def _interrupt(self) -> None:
        """Let nothing new begin, and end what waits for hosts; a second time changes nothing."""
        if not self.is_interrupted:
            self.is_interrupted = True
            self.job.stop.set()
            for host_run in self.host_runs:
                host_run.interrupt()


def _change(host_run: HostRun) -> None:
    host_run.swap()
    host_run.confirm()


def _unless_failed(crew: _Crew, phase: Callable[[HostRun], None]) -> Callable[[HostRun], None]:
    """The first failure ends it: hosts whose turn has not come stay as they are."""

    def act(host_run: HostRun) -> None:
        if not crew.has_failed:
            phase(host_run)

    return act
