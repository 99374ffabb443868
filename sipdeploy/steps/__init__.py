"""The reversible steps of an apply; every undo is safe twice, and after a run cut off anywhere.

This file only gathers them.
"""

from sipdeploy.steps.files import Stage, Swap
from sipdeploy.steps.packages import Packages, update_lists
from sipdeploy.steps.runner import Event, Say, Step, run_step, run_steps
from sipdeploy.steps.services import Check, Services
from sipdeploy.steps.turn import Confirm, Lock, recover

__all__ = [
    "Check",
    "Confirm",
    "Event",
    "Lock",
    "Packages",
    "Say",
    "Services",
    "Stage",
    "Step",
    "Swap",
    "recover",
    "run_step",
    "run_steps",
    "update_lists",
]
