"""The progress of a proof: the begin and the end of each step, as events."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sipdeploy.proof.doctor.rung import Rung, RungResult
    from sipdeploy.proof.outside.step import Step, StepResult
    from sipdeploy.transaction.runner import Event

Watch = Callable[["Step | Rung", "StepResult | RungResult | None"], None]


def watch_of(name: str, say: Callable[[Event], None]) -> Watch:
    """Turn the begin and the end of steps, or of the rungs of doctor, into events."""
    from sipdeploy.diagnostics import printable
    from sipdeploy.transaction.runner import Event

    def watch(step: Step | Rung, result: StepResult | RungResult | None) -> None:
        if result is None:
            say(Event(host=name, title=step.name, state="start"))
            return
        text = "" if result.status == "failed" else printable(result.message)
        say(
            Event(
                host=name,
                title=step.name,
                state=result.status,
                seconds=result.seconds,
                text=text,
            )
        )

    return watch
