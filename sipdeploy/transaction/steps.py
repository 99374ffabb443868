"""The reversible steps of an apply; every undo is safe twice, and after a run cut off anywhere.

This file only gathers them.
"""

from sipdeploy.proof.register import Register
from sipdeploy.transaction.build import BuildAsterisk
from sipdeploy.transaction.certificate import Issue
from sipdeploy.transaction.files import Stage, Swap
from sipdeploy.transaction.packages import AddRepository, Packages, update_lists
from sipdeploy.transaction.releases import fetch_release, history
from sipdeploy.transaction.runner import Course, Event, Say, Step, run_step
from sipdeploy.transaction.turn import Confirm, Lock, Turn, locked, recover

__all__ = [
    "AddRepository",
    "BuildAsterisk",
    "Confirm",
    "Course",
    "Event",
    "Issue",
    "Lock",
    "Packages",
    "Register",
    "Say",
    "Stage",
    "Step",
    "Swap",
    "Turn",
    "fetch_release",
    "history",
    "locked",
    "recover",
    "run_step",
    "update_lists",
]
