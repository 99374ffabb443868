"""Carries plans out on hosts, rolls failures back, and reports on each host.

This module owns the order; plans hold the changes, and steps carry them out. It stages and
validates the candidates on all hosts before it changes the first one.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from sipdeploy.host.connection import connect
from sipdeploy.inventory.own.files import attachments
from sipdeploy.inventory.site import Site
from sipdeploy.plan.goal import Goal, SiteGoal
from sipdeploy.services import certificates
from sipdeploy.services.phone import page
from sipdeploy.services.render import compile_templates
from sipdeploy.transaction import release
from sipdeploy.transaction.host_run import HostRun
from sipdeploy.transaction.lock import this_owner
from sipdeploy.transaction.options import Options, Run
from sipdeploy.transaction.release import Header, ReleaseGoal
from sipdeploy.transaction.reports import Interrupted, Planned, Report
from sipdeploy.transaction.runner import Say

__all__ = [
    "Interrupted",
    "Options",
    "Planned",
    "Report",
    "apply",
    "bring",
    "history",
    "plan",
    "rollback",
    "site_goal",
    "survey",
]
AT_ONCE = 32  # connections, which mostly wait
STAGED_AT_ONCE = 8  # hosts start daemons, and download from one archive
_DEFAULT = Options()


def apply(
    site: Site,
    names: Sequence[str],
    *,
    credentials: Mapping[str, str],
    say: Say,
    options: Options = _DEFAULT,
) -> tuple[Report, ...]:
    """Configure the named hosts as the site says; a failure ends the run.

    `credentials` maps numbers to HA1. Returns a report for each host, also after a failure.
    Raises InvalidFiles before it reaches a host, and Interrupted after it has undone its changes.
    """
    goal = site_goal(site, credentials, options.folder)
    run = _run(site, names, goal, say=say, options=options)
    return _carry_out(run, names)


def rollback(
    site: Site,
    name: str,
    number: int | None,
    *,
    with_users: bool = False,
    keeps_packages: bool = False,
    say: Say,
    options: Options = _DEFAULT,
) -> tuple[Report, ...]:
    """Restore a release that a host keeps; None is the one before the current release.

    This is a transaction like apply, and makes a new release. Files that the host generated
    itself, such as a self-signed certificate, stay. Users and passwords stay as they are, unless
    the rollback is `with_users`. The packages that an upgrade has replaced come back, unless it
    `keeps_packages`. Of the site, only the entry of the host counts.
    """
    goal = ReleaseGoal(site, number, with_users=with_users, keeps_packages=keeps_packages)
    return _carry_out(_run(site, [name], goal, say=say, options=options), [name])


def bring(
    site: Site, name: str, goal: Goal, *, say: Say, options: Options = _DEFAULT
) -> tuple[Report, ...]:
    """Bring a host to a goal, in a transaction like apply."""
    return _carry_out(_run(site, [name], goal, say=say, options=options), [name])


def history(site: Site, name: str) -> tuple[Header, ...]:
    """The releases that a host keeps, the oldest first; HostFailed if it cannot be reached."""
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
    """Plan an apply to the named hosts, without a lock and without changes.

    One exception: it updates old package lists on a host that lacks packages.
    """
    goal = site_goal(site, credentials, options.folder)
    return _survey(_run(site, names, goal, say=say, options=options), names)


def survey(
    site: Site, name: str, goal: Goal, *, say: Say, options: Options = _DEFAULT
) -> tuple[Planned, ...]:
    """Plan what `bring` would do, without a lock and without changes, as `plan` does."""
    return _survey(_run(site, [name], goal, say=say, options=options), [name])


def _survey(run: Run, names: Sequence[str]) -> tuple[Planned, ...]:
    with _host_runs(run, names) as host_runs:
        run_phase(host_runs, HostRun.survey)
        run_phase(host_runs, HostRun.ask_preview)
        if run.stop.is_set():
            raise KeyboardInterrupt
        return tuple(host_run.planned() for host_run in host_runs)


def _run(site: Site, names: Sequence[str], goal: Goal, *, say: Say, options: Options) -> Run:
    return Run(
        site=site, say=say, owner=this_owner(), options=options, goal=goal, hosts=len(names)
    )


def site_goal(site: Site, credentials: Mapping[str, str], folder: Path) -> SiteGoal:
    """Goal of an apply; InvalidFiles if a file of the inventory, or the page, is not usable."""
    page.require(site)
    material = certificates.read_material(site, folder)
    attached = attachments(site, folder)
    _prepare_aside()
    return SiteGoal(site=site, credentials=credentials, material=material, attachments=attached)


def _prepare_aside() -> None:
    """Prepare, while the hosts connect, for the work that follows."""
    threading.Thread(target=_prepare, daemon=True).start()


def _prepare() -> None:
    certificates.prepare()
    compile_templates()


def _carry_out(run: Run, names: Sequence[str]) -> tuple[Report, ...]:
    """Prepare all hosts, stage all of them, and then change them one after the other."""
    with _host_runs(run, names) as host_runs:
        try:
            is_agreed = _run_phases(run, host_runs)
        except BaseException:
            # a bug, or Ctrl-C between two phases: the other hosts need their undo
            run.stop.set()
            _undo(host_runs)
            raise
        if is_agreed and _has_failed(host_runs):
            _undo(host_runs)
        if run.options.all_or_nothing:
            for host_run in host_runs:
                host_run.compare(host_runs)
        reports = tuple(host_run.report() for host_run in host_runs)
        if run.stop.is_set():
            raise Interrupted(reports)
        return reports


def _run_phases(run: Run, host_runs: Sequence[HostRun]) -> bool:
    """Run one phase after the other until a host fails; False without consent to the plans."""
    options = run.options
    run_phase(host_runs, HostRun.prepare)
    if not _has_failed(host_runs) and not _is_agreed(host_runs):
        return False
    at_work = [host_run for host_run in host_runs if host_run.has_work]
    if not _has_failed(host_runs):
        run_phase(at_work, HostRun.stage, at_once=STAGED_AT_ONCE)
    if not _has_failed(host_runs):
        phase = HostRun.swap if options.all_or_nothing else HostRun.change
        run_phase(at_work, phase, at_once=options.parallel, stops_at_failure=True)
    if options.all_or_nothing:
        for last in (HostRun.watch, HostRun.confirm):
            if not _has_failed(host_runs):
                run_phase(at_work, last)
    return True


def _undo(host_runs: Sequence[HostRun]) -> None:
    run_phase([each for each in host_runs if each.is_unfinished], HostRun.undo)


def _is_agreed(host_runs: Sequence[HostRun]) -> bool:
    """Ask for consent to the plans that need it; True if no plan does."""
    agree = host_runs[0].run.options.agree
    asked = [each for each in host_runs if each.has_work and not each.is_expected]
    if agree is None or not asked:
        return True
    run_phase(asked, HostRun.ask_preview)
    plans = {each.name: (each.plan, each.present) for each in asked if each.has_work and each.plan}
    return not plans or agree(plans)


@contextlib.contextmanager
def _host_runs(run: Run, names: Sequence[str]) -> Iterator[list[HostRun]]:
    """One HostRun for each name; closes their connections at the end."""
    host_runs = [HostRun(run, name) for name in names]
    try:
        yield host_runs
    finally:
        for host_run in host_runs:
            host_run.close()


def _has_failed(host_runs: Sequence[HostRun]) -> bool:
    """Whether a host has failed or the run is interrupted, so that no phase may begin."""
    return any(host_run.failure or host_run.run.stop.is_set() for host_run in host_runs)


def run_phase(
    host_runs: Sequence[HostRun],
    phase: Callable[[HostRun], None],
    *,
    at_once: int = AT_ONCE,
    stops_at_failure: bool = False,
) -> None:
    """Run a phase on all hosts, `at_once` of them at a time, and wait for all.

    With `stops_at_failure`, no host begins after another one has failed. After Ctrl-C no host
    begins, and sipdeploy closes the connections except those of an undo.
    """
    if not host_runs:
        return

    def run_one(host_run: HostRun) -> None:
        if not stops_at_failure or not _has_failed(host_runs):
            phase(host_run)

    with ThreadPoolExecutor(min(at_once, len(host_runs))) as pool:
        futures: list[Future[None]] = [pool.submit(run_one, host_run) for host_run in host_runs]
        pending = set(futures)
        while pending:
            try:
                pending = wait(pending, timeout=1.0).not_done
            except KeyboardInterrupt:
                host_runs[0].run.stop.set()
            # again and again, because a step may just have opened its connection
            if host_runs[0].run.stop.is_set():
                for host_run in host_runs:
                    host_run.interrupt()
    for future in futures:
        future.result()  # raises the exception of a bug
