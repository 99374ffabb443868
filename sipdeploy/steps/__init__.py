"""The reversible steps of an apply; every undo is safe twice, and after a run cut off anywhere.

This file only gathers them.
"""

from sipdeploy.steps.build import BuildAsterisk
from sipdeploy.steps.certificate import Issue
from sipdeploy.steps.files import Stage, Swap
from sipdeploy.steps.packages import AddRepository, Packages, update_lists
from sipdeploy.steps.register import Register
from sipdeploy.steps.releases import fetch_release, history
from sipdeploy.steps.runner import Course, Event, Say, Step, run_step
from sipdeploy.steps.turn import Confirm, Lock, Turn, locked, recover

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
