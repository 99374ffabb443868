"""Brings hosts to what the site says, one after the other, and tells what became of each.

Order and reports only: what is done is in the plan, how it is done in the steps.
"""

import datetime as dt
import getpass
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sipdeploy import certificates, facts, preflight, steps
from sipdeploy.diagnostics import Diagnostic, Source, has_errors
from sipdeploy.errors import HostFailed, InvalidFiles, RollbackFailed, SipdeployError
from sipdeploy.facts import Facts, Query
from sipdeploy.hosts import Host, LocalHost
from sipdeploy.plan import Plan, make_plan
from sipdeploy.plan.desired import Desired, desired, make_query, packages, ports
from sipdeploy.services import SERVICES, kamailio
from sipdeploy.site import HostEntry, Site
from sipdeploy.ssh import SSHHost, target_of
from sipdeploy.ssh_target import Wish
from sipdeploy.steps import Event, Say, Step, run_step, run_steps

LISTS_STALE_SECONDS = 86_400
State = Literal["unchanged", "applied", "rolled back", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of one host. `sources` are the lines that diagnostics point into."""

    host: str
    state: State
    changes: tuple[str, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    seconds: float = 0.0
    sources: Mapping[str, Source] = field(default_factory=dict)

    @property
    def has_failed(self) -> bool:
        """Whether the host is not what the site says."""
        return has_errors(self.diagnostics)

    @property
    def exit_code(self) -> int:
        """0, 4 or 5, as the error of the host would have it."""
        if not self.has_failed:
            return 0
        return RollbackFailed.exit_code if self.state == "unknown" else HostFailed.exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """How to go about it: `folder` is where relative paths of the inventory begin; `agree` is
    asked, with the host's name and its plan, before anything is done to it.
    """

    folder: Path = Path()
    agree: Callable[[str, Plan], bool] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What does not change from host to host."""

    site: Site
    credentials: Mapping[str, str]
    certificate: tuple[bytes, bytes] | None
    say: Say
    holder: str
    agree: Callable[[str, Plan], bool] | None


def apply(
    site: Site,
    names: Sequence[str],
    *,
    credentials: Mapping[str, str],
    say: Say,
    choices: Choices = Choices(),
) -> tuple[Report, ...]:
    """Bring the named hosts to what the site says, in order; the first failure ends it.

    `credentials` maps numbers to HA1.
    InvalidFiles before any host is touched; KeyboardInterrupt only after the undo.
    """
    job = _Job(
        site=site,
        credentials=credentials,
        certificate=_certificate(site, choices.folder),
        say=say,
        holder=_holder(),
        agree=choices.agree,
    )
    reports: list[Report] = []
    for name in names:
        if any(report.has_failed for report in reports):
            reports.append(Report(host=name, state="unchanged"))
            continue
        reports.append(_report(job, name))
    return tuple(reports)


def _certificate(site: Site, folder: Path) -> tuple[bytes, bytes] | None:
    if site.tls.provider == "files":
        return certificates.read_files(site, folder)
    if site.tls.provider == "letsencrypt":
        problem = Diagnostic(
            code="SD601",
            severity="error",
            message="certificates from `letsencrypt` are not in this release",
            help="set `tls: {provider: self-signed}`, or "
            "`tls: {provider: files, certificate: FILE, private_key: FILE}`",
        )
        raise InvalidFiles([problem])
    return None


def _holder() -> str:
    """Who holds the lock, with all that it takes to find them; one line."""
    began = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    run = secrets.token_hex(4)  # two runs of one process are two holders
    who = f"{_login()}@{socket.gethostname()}"
    machine = _machine() or "unknown"
    return f"{who} (pid {os.getpid()}, since {began}, run {run}, machine {machine})"


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        return str(os.getuid())


def _machine() -> str:
    """What process numbers count in: the boot and the PID namespace; empty where none can tell.

    Not the host name, which virtual machines and containers often share (pid_namespaces(7)).
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def stale_holder(holder: str) -> str:
    """The holder itself when it was a process of this machine that is no more, else empty."""
    match = re.fullmatch(r".* \(pid (\d+), .*, machine (\S+)\)", holder)
    if not match or match[2] != _machine():
        return ""
    try:
        os.kill(int(match[1]), 0)
    except ProcessLookupError:
        return holder
    except OSError:
        return ""
    return ""


def _report(job: _Job, name: str) -> Report:
    """One host from connection to confirmation."""
    run = _Run(job, name)
    began = time.monotonic()
    problems: tuple[Diagnostic, ...] = ()
    sources: Mapping[str, Source] = {}
    try:
        run.go()
    except SipdeployError as failure:
        problems, sources = failure.diagnostics, failure.sources
        run.state = run.state_after(failure)
    return Report(
        host=name,
        state=run.state,
        changes=run.plan.lines() if run.plan else (),
        diagnostics=(*run.warnings, *problems),
        seconds=time.monotonic() - began,
        sources=sources,
    )


class _Run:
    """The course of one host; remembers how far it came."""

    def __init__(self, job: _Job, name: str) -> None:
        self._job = job
        self._name = name
        self._entry = job.site.hosts[name]
        self._has_begun = False
        self.plan: Plan | None = None
        self.state: State = "unchanged"
        self.warnings: tuple[Diagnostic, ...] = ()

    def go(self) -> None:
        """Connect, read facts, plan, and carry the plan out when it is not empty."""
        host = self._connect()
        try:
            found = self._facts(host)
            desired = self._desired(found)
            self.plan = make_plan(desired, found, time.time())
            if self.plan.is_empty or not self._is_agreed(self.plan):
                return
            course = self._steps(self.plan, found)
            run_steps(host, course, self._job.say, on_begin=self._note)
            self.state = "applied"
        finally:
            host.close()

    def _is_agreed(self, plan: Plan) -> bool:
        return self._job.agree is None or self._job.agree(self._name, plan)

    def state_after(self, failure: SipdeployError) -> State:
        """How the host stands after a failure."""
        if isinstance(failure, RollbackFailed):
            return "unknown"
        return "rolled back" if self._has_begun else "unchanged"

    def _note(self, step: Step) -> None:
        """Remember that live files were begun to be replaced."""
        self._has_begun = self._has_begun or isinstance(step, steps.Swap)

    def _connect(self) -> Host:
        began = time.monotonic()
        self._say("connect", "start", began)
        try:
            host = connect(self._name, self._entry)
        except BaseException:
            self._say("connect", "failed", began)
            raise
        self._say("connect", "ok", began)
        return host

    def _say(self, title: str, state: Literal["start", "ok", "failed"], began: float) -> None:
        seconds = time.monotonic() - began
        self._job.say(Event(host=self._name, title=title, state=state, seconds=seconds))

    def _facts(self, host: Host) -> Facts:
        """Facts of a host that is in order: no unfinished run, fresh lists where needed."""
        query = make_query(self._job.site)
        found = self._read(host, query)
        if found.has_abandoned_run and not self._is_locked(found):
            run_step(
                host,
                "undo an unfinished apply",
                lambda h, _: steps.recover(h, found.lock_holder),
                self._job.say,
            )
            found = self._read(host, query)
        missing = set(packages(found)) - found.installed.keys()
        age = found.lists_age_seconds
        is_stale = age is None or age > LISTS_STALE_SECONDS or missing - found.candidates.keys()
        if missing and is_stale and found.os_id in preflight.SYSTEMS:
            run_step(host, "update package lists", steps.update_lists, self._job.say)
            found = self._read(host, query)
        return found

    def _read(self, host: Host, query: Query) -> Facts:
        read: list[Facts] = []
        run_step(host, "read facts", lambda h, _: read.append(facts.read(h, query)), self._job.say)
        return read[0]

    @staticmethod
    def _is_locked(found: Facts) -> bool:
        """Whether somebody who may be alive is at work; then the lock will say so."""
        return bool(found.lock_holder) and not stale_holder(found.lock_holder)

    def _desired(self, found: Facts) -> Desired:
        """Check the host first: what cannot be is not rendered for."""
        site = self._job.site
        problems = preflight.problems(
            site,
            self._name,
            found,
            ports(site, self._entry),
            memory_mib=kamailio.shared_memory_mib(site),
        )
        self.warnings = tuple(p for p in problems if p.severity != "error")
        if has_errors(problems):
            raise HostFailed([p for p in problems if p.severity == "error"])
        return desired(site, self._name, found, self._job.credentials, self._job.certificate)

    def _steps(self, plan: Plan, found: Facts) -> Sequence[Step]:
        """The whole course; packages only where some are missing."""
        holder = self._job.holder
        stale = stale_holder(found.lock_holder)
        tree = f"{facts.STATE}/candidate/tree"
        checks = {name: service.check(tree) for name, service in SERVICES.items()}
        install = [steps.Packages(names=tuple(plan.packages))] if plan.packages else []
        return (
            steps.Lock(holder=holder, serial=found.serial, stale_holder=stale),
            *install,
            steps.Stage(
                plan=plan,
                checks={name: argv for name, argv in checks.items() if argv},
                judges={name: service.parse_check for name, service in SERVICES.items()},
            ),
            steps.Swap(plan=plan),
            steps.Services(plan=plan),
            steps.Check(
                domain=self._job.site.domain,
                units=tuple(plan.desired.units.values()),
                ports=ports(self._job.site, self._entry),
            ),
            steps.Confirm(holder=holder, audit=plan.lines()),
        )


def connect(name: str, entry: HostEntry) -> Host:
    """Open the host of an inventory entry; HostFailed with what to type when it cannot be."""
    if entry.is_local:
        return LocalHost(name)
    given = entry.model_fields_set  # what the inventory leaves out is ~/.ssh/config's to say
    wish = Wish(
        alias=entry.address,
        user=entry.user if "user" in given else None,
        port=entry.port if "port" in given else None,
        identity_file=entry.identity_file,
    )
    return SSHHost(name, target_of(name, wish))


def as_text(reports: Sequence[Report]) -> str:
    """One line for each host: its state, and how much was changed in how long."""
    return "\n".join(
        f"{report.host}  {report.state}, {len(report.changes)} changes, {report.seconds:.1f} s"
        for report in reports
    )


def as_json(reports: Sequence[Report]) -> str:
    """The reports for machines."""
    hosts = [
        {
            "host": report.host,
            "state": report.state,
            "changes": report.changes,
            "problems": [problem.message for problem in report.diagnostics],
            "seconds": round(report.seconds, 3),
        }
        for report in reports
    ]
    return json.dumps({"hosts": hosts}, indent=2)
