"""The steps of an apply, in order."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field

from sipdeploy.facts import Facts
from sipdeploy.plan import Plan
from sipdeploy.proof.inside.register import Register
from sipdeploy.proof.outside.step import Level
from sipdeploy.services import install as repository
from sipdeploy.services import nginx
from sipdeploy.transaction import release
from sipdeploy.transaction.certificate import Issue
from sipdeploy.transaction.files import Stage, Swap
from sipdeploy.transaction.lock import Confirm, Lock, Owner
from sipdeploy.transaction.options import Keepsakes, Run
from sipdeploy.transaction.outside.reachability import (
    Seen,
    changes_firewall,
    present_port,
    takes_probes,
)
from sipdeploy.transaction.packages import AddRepository, BuildAsterisk, Packages
from sipdeploy.transaction.runner import Step
from sipdeploy.transaction.trial import OpenTrial, Watched
from sipdeploy.transaction.upgrade.steps import KeepPackages

PER_FURTHER_HOST_SECONDS = 60
PACKAGES_SECONDS = 300  # a slow host needs this long to unpack and configure them


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The input of the steps on one host."""

    plan: Plan
    owner: Owner
    run: Run
    facts: Facts | None = None
    seen: Seen = field(default_factory=Seen)
    watched: Watched = field(default_factory=Watched)


@dataclass(frozen=True, slots=True)
class StepOf:
    """A step of an apply: name in docs/apply.md, condition, and constructor."""

    name: str
    is_needed: Callable[[Work], bool]
    make: Callable[[Work], Step]


def _always(work: Work) -> bool:
    del work
    return True


def _needs_prerequisites(work: Work) -> bool:
    plan = work.plan
    comes = plan.repository or plan.packages or plan.replacements or plan.build or plan.order
    return bool(comes or _restores(work))


def _restores(work: Work) -> bool:
    return work.run.options.keepsakes is not None


def _keepsakes(work: Work) -> Keepsakes:
    keepsakes = work.run.options.keepsakes
    assert keepsakes is not None  # noqa: S101 - else it is not needed
    return keepsakes


def _add_repository(work: Work) -> Step:
    plan = work.plan
    assert plan.repository is not None  # noqa: S101 - else it is not needed
    file = next(f for f in plan.desired.files if f.path == repository.SOURCE)
    return AddRepository(repository=plan.repository, source=file.content)


def _install_packages(work: Work) -> Step:
    plan = work.plan
    unsettled = [unit.unit for unit in plan.units if not unit.is_settled]
    unsettled += [nginx.IDLE_UNIT] if "nginx" in plan.packages else []
    return Packages(names=tuple(plan.packages), disabled_units=tuple(unsettled))


def _build_asterisk(work: Work) -> Step:
    build = work.plan.build
    assert build is not None  # noqa: S101 - else it is not needed
    return BuildAsterisk(build=build)


def _get_certificate(work: Work) -> Step:
    plan = work.plan
    assert plan.order is not None  # noqa: S101 - else it is not needed
    return Issue(owner=work.owner, plan=plan, order=plan.order)


def _stage_files(work: Work) -> Step:
    plan, run = work.plan, work.run
    signature = release.Signature(
        who=run.owner.partition(" (")[0],
        when=dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        purpose=run.options.purpose,
        what=plan.lines(),
    )
    return Stage(owner=work.owner, plan=plan, release=release.dump(plan.desired, signature))


def _swap_files(work: Work) -> Step:
    seconds = work.run.options.confirm_seconds
    if work.run.options.all_or_nothing:
        seconds += PER_FURTHER_HOST_SECONDS * (work.run.hosts - 1)
    if work.plan.replacements:
        seconds += PACKAGES_SECONDS
    return Swap(owner=work.owner, plan=work.plan, timeout_seconds=seconds)


def _register(work: Work) -> Step:
    desired, prove = work.plan.desired, work.run.options.prove
    return Register(desired=desired, credentials=prove)


def _needs_proof(work: Work) -> bool:
    return work.run.options.verify != "none"


def _needs_proof_before(work: Work) -> bool:
    """Whether it matters if the host worked before: a change of users breaks no way to it."""
    return _needs_proof(work) and work.plan.release > 0 and not work.plan.is_only_data


def _ask_before(work: Work) -> Step:
    from sipdeploy.transaction.outside.steps import AskBefore  # noqa: PLC0415 - a phone is slow to import

    port = present_port(work.facts, work.run.site.ports.wss)
    return AskBefore(run_=work.run, level=_level(work), port=port, seen=work.seen)


def _prove_after(work: Work) -> Step:
    from sipdeploy.transaction.outside.steps import ProveAfter  # noqa: PLC0415 - as above

    level = _level(work) if takes_probes(work.plan.desired) else "ports"
    return ProveAfter(run_=work.run, level=level, plan=work.plan, facts=work.facts, seen=work.seen)


def _level(work: Work) -> Level:
    level = work.run.options.verify
    assert level != "none"  # noqa: S101 - else there is no proof
    return level


def _is_watched(work: Work) -> bool:
    return work.run.options.watch_seconds > 0


def _is_tried(work: Work) -> bool:
    return work.run.options.try_seconds > 0


def _read_before(work: Work) -> Step:
    from sipdeploy.transaction.trial.watch import ReadBefore  # noqa: PLC0415 - few applies need it

    return ReadBefore(watched=work.watched)


def _watch(work: Work) -> Step:
    from sipdeploy.transaction.trial.watch import Watch  # noqa: PLC0415 - as above

    options = work.run.options
    return Watch(
        owner=work.owner,
        seconds=options.watch_seconds,
        confirm_seconds=options.confirm_seconds,
        watched=work.watched,
        stop=work.run.stop,
    )


def _open_trial(work: Work) -> Step:
    plan = work.plan
    return OpenTrial(
        owner=work.owner,
        audit=plan.lines(),
        seconds=work.run.options.try_seconds,
        is_new_connection=changes_firewall(plan),
    )


def _confirm_release(work: Work) -> Step:
    plan = work.plan
    is_shut = changes_firewall(plan)
    return Confirm(owner=work.owner, audit=plan.lines(), is_new_connection=is_shut)


# An apply as a list; a test compares it with docs/apply.md.
# On all hosts, before a live file changes on one of them:
STAGE = (
    StepOf("lock", _needs_prerequisites, lambda work: Lock(owner=work.owner)),
    StepOf(
        "add the package repository",
        lambda work: bool(work.plan.repository),
        _add_repository,
    ),
    StepOf("install packages", lambda work: bool(work.plan.packages), _install_packages),
    StepOf(
        "fetch packages, and keep the present ones",
        lambda work: bool(work.plan.replacements),
        lambda work: KeepPackages(owner=work.owner, replacements=work.plan.replacements),
    ),
    StepOf("build asterisk", lambda work: bool(work.plan.build), _build_asterisk),
    StepOf("receive the backup", _restores, lambda work: _keepsakes(work).receive(work.owner)),
    StepOf("get a certificate", lambda work: bool(work.plan.order), _get_certificate),
    StepOf("stage and validate files", _always, _stage_files),
)
# Host by host:
SWAP = (
    StepOf("try from here, before the change", _needs_proof_before, _ask_before),
    StepOf("read how the host does", _is_watched, _read_before),
    StepOf("restore the messages", _restores, lambda work: _keepsakes(work).place(work.owner)),
    StepOf("swap files, reload or restart, verify", _always, _swap_files),
    StepOf("register as the new users", lambda work: bool(work.run.options.prove), _register),
    StepOf("prove from here", _needs_proof, _prove_after),
)
# On all hosts that were swapped together:
WATCH = (StepOf("watch", _is_watched, _watch),)
CONFIRM = (
    StepOf("open a trial", _is_tried, _open_trial),
    StepOf("confirm", lambda work: not _is_tried(work), _confirm_release),
    StepOf("delete the replaced messages", _restores, lambda w: _keepsakes(w).finish(w.owner)),
)
