"""Carries out the steps of a proof: in order where one needs another, else at the same time."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.proof.outside.ladder import LADDER
from sipdeploy.proof.outside.step import (
    PHONES,
    Proof,
    Status,
    Step,
    StepFailed,
    StepResult,
    StepSkipped,
    cause,
    of_level,
)
from sipdeploy.proof.outside.subject import Subject
from sipdeploy.sip.call import CallRefusedError

SECONDS = 95.0  # of a whole proof; the probe accounts live for a little longer
POLL_SECONDS = 0.2
# Called when a step begins (None), and when it ends.
Watch = Callable[[Step, StepResult | None], None]


def unwatched(step: Step, result: StepResult | None) -> None:
    """Show nothing."""
    del step, result


async def prove(subject: Subject, steps: Sequence[Step], watch: Watch = unwatched) -> Proof:
    """Carry out the steps; a failure stops only the steps that need it. Never raises for one."""
    began, clock = time.time(), time.monotonic()
    results: dict[str, asyncio.Task[StepResult]] = {}
    last: dict[str, asyncio.Task[StepResult]] = {}  # of each lane
    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                before = [results[need] for need in step.needs if need in results]
                lane = _lane(step, subject)
                turn = last.get(lane) if lane else None
                task = group.create_task(_one(step, subject, before, turn, watch))
                results[step.name] = task
                last[lane] = task
    finally:
        await subject.hang_up()
    return Proof(
        host=subject.name,
        level=subject.level,
        results=tuple(results[step.name].result() for step in steps),
        seconds=time.monotonic() - clock,
        began=began,
        traces=tuple((title, tuple(trace)) for title, trace in subject.traces),
        chain=subject.chain,
        sounds=tuple(subject.sounds),
    )


def _lane(step: Step, subject: Subject) -> str:
    """One account has one phone, so all its steps are one lane."""
    return PHONES if step.lane and len(subject.accounts) == 1 else step.lane


async def _one(
    step: Step,
    subject: Subject,
    needs: Sequence[asyncio.Task[StepResult]],
    turn: asyncio.Task[StepResult] | None,
    watch: Watch,
) -> StepResult:
    for need in needs:
        result = await need
        if result.status != "ok":
            why = f"needs `{result.name}`, which {_was(result)}"
            skipped = StepResult(name=step.name, status="skipped", message=why)
            watch(step, skipped)
            return skipped
    if turn is not None:
        await turn
    watch(step, None)
    result = await attempt(step, subject)
    if result.status == "failed" and _lane(step, subject) == PHONES:
        await subject.hang_up()  # the next step begins with new connections
    watch(step, result)
    return result


def _was(result: StepResult) -> str:
    return "failed" if result.status == "failed" else "was skipped"


async def attempt(step: Step, subject: Subject) -> StepResult:
    """Carry out one step within its time."""
    began = time.monotonic()
    message, problems = "", tuple[Diagnostic, ...]()
    status: Status = "ok"
    left = subject.ends - began
    try:
        if left <= 0:
            raise TimeoutError("the time of the whole proof is over")
        async with asyncio.timeout(min(step.seconds, left)):
            message = await step.run(subject)
    except StepSkipped as skipped:
        message, status = str(skipped), "skipped"
    except StepFailed as failure:
        message, status, problems = str(failure), "failed", failure.diagnostics
    # OSError: also TimeoutError and ConnectionError; the last two: a message that makes no sense
    except (OSError, CallRefusedError, RuntimeError, ValueError) as failure:
        message = cause(failure) or f"not done within {step.seconds:g} s"
        problem = Diagnostic(
            step.code, f"{step.name} failed on `{subject.name}`: {message}", help=subject.logs
        )
        status, problems = "failed", (problem,)
    return StepResult(
        name=step.name,
        status=status,
        seconds=time.monotonic() - began,
        began=began,
        message=message,
        diagnostics=(*problems, *subject.warnings.pop(step.name, ())),
    )


def prove_host(
    subject: Subject,
    *,
    watch: Watch = unwatched,
    stop: threading.Event | None = None,
    seconds: float = SECONDS,
) -> Proof | None:
    """Prove one host, and remove the probe accounts; None if `stop` was set before the end."""
    subject.ends = time.monotonic() + seconds
    steps = [step for step in of_level(LADDER, subject.level) if step.is_wanted(subject)]
    try:
        return asyncio.run(_unless(stop, prove(subject, steps, watch)))
    finally:
        if subject.probes is not None:
            subject.probes.remove()


async def _unless(
    stop: threading.Event | None, proving: Coroutine[None, None, Proof]
) -> Proof | None:
    """The proof; None if `stop` was set, which another thread or a signal handler may do."""
    task = asyncio.create_task(proving)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=POLL_SECONDS)
            if stop is not None and stop.is_set():
                break
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
    return None if task.cancelled() else task.result()
