"""The options of a run, and the state that all its hosts share."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from sipdeploy.host import Host
from sipdeploy.inventory.site import HostEntry, Site
from sipdeploy.plan import Plan
from sipdeploy.plan.goal import Goal
from sipdeploy.plan.preview import Present
from sipdeploy.transaction.lock import Owner
from sipdeploy.transaction.runner import Say, Step


class Keepsakes(Protocol):
    """What a restore brings besides files of the plan, as steps that can be undone."""

    def receive(self, owner: Owner) -> Step:
        """Brings it to the host; a certificate and its account come into their place."""
        ...

    def place(self, owner: Owner) -> Step:
        """Puts messages into the mailboxes."""
        ...

    def finish(self, owner: Owner) -> Step:
        """Deletes the messages that were replaced."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of plan, apply and rollback.

    folder: where relative paths of the inventory start.
    purpose: the command, for the lock, the audit log and the release.
    agree: asks for consent to the plans of all hosts, before one of them changes.
    expects: whether a plan needs no consent.
    prove: numbers and their HA1; apply registers as each of them before it confirms a host.
    verify: the level of the proof from outside, or `none`.
    try_seconds: of a trial, which ends with a rollback unless somebody confirms; 0 is none.
    watch_seconds: how long to compare the host with before, until it is confirmed; 0 is none.
    saved: the only plans that apply may carry out, by host.
    foreign: what to do with a host that serves another inventory.
    connect: opens a host, or returns an open one.
    keepsakes: what a restore brings; None for an apply.
    """

    folder: Path = Path()
    purpose: str = "apply"
    agree: Callable[[Mapping[str, tuple[Plan, Present]]], bool] | None = None
    expects: Callable[[Plan], bool] | None = None
    prove: Mapping[str, str] = field(default_factory=dict, repr=False)
    verify: Literal["none", "ports", "quick", "full"] = "none"
    try_seconds: int = 0
    watch_seconds: int = 0
    saved: Mapping[str, Mapping[str, object]] | None = None
    foreign: Literal["refuse", "warn", "ignore"] = "ignore"
    overwrites: bool = False
    breaks_lock: bool = False
    lock_wait_seconds: int = 0
    confirm_seconds: int = 120
    parallel: int = 1
    all_or_nothing: bool = False
    connect: Callable[[str, HostEntry], Host] | None = None
    keepsakes: Keepsakes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The state that all hosts of a run share."""

    site: Site
    say: Say
    owner: str
    options: Options
    goal: Goal
    hosts: int = 1
    stop: threading.Event = field(default_factory=threading.Event)
