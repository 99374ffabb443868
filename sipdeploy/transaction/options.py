"""The options of a run, and what is the same for all of its hosts."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sipdeploy.facts import Facts
from sipdeploy.host import Host
from sipdeploy.inventory.site import HostEntry, Site
from sipdeploy.plan import Plan
from sipdeploy.plan.desired import Desired
from sipdeploy.plan.preview import Present
from sipdeploy.transaction.runner import Say


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to go about it: `folder` is where relative paths of the inventory begin.

    `agree` is asked, with the plans of all hosts, before anything is done to one of them; `saved`
    are the only plans that may be carried out; `expects` tells a plan that nobody needs to be
    asked about. `purpose` is what others read who find the lock. `connect` opens a host, or gives
    one that is open already. As the numbers of `prove`, with their HA1, a host has to let us
    register before it is confirmed.
    """

    folder: Path = Path()
    purpose: str = "apply"
    agree: Callable[[Mapping[str, tuple[Plan, Present]]], bool] | None = None
    expects: Callable[[Plan], bool] | None = None
    prove: Mapping[str, str] = field(default_factory=dict, repr=False)
    saved: Mapping[str, Mapping[str, object]] | None = None
    overwrites: bool = False
    breaks_lock: bool = False
    lock_wait_seconds: int = 0
    confirm_seconds: int = 120
    parallel: int = 1
    all_or_nothing: bool = False
    connect: Callable[[str, HostEntry], Host] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is the same for all hosts; `desired` turns facts into what a host should be."""

    site: Site
    say: Say
    owner: str
    options: Options
    desired: Callable[[Host, str, Facts], Desired]
    hosts: int = 1
    stop: threading.Event = field(default_factory=threading.Event)
