"""Climbs the ladder until a rung is broken, and says why that one is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sipdeploy.proof.doctor.connect import UNASKED
from sipdeploy.proof.doctor.ladder import of_topic
from sipdeploy.proof.doctor.rung import Case, Diagnosis, Rung, RungResult, Topic, broken, first
from sipdeploy.proof.outside.run import attempt
from sipdeploy.proof.outside.step import Step, StepResult

if TYPE_CHECKING:
    from sipdeploy.diagnostics import Diagnostic
    from sipdeploy.host import Host
    from sipdeploy.proof.outside.subject import Account, Subject

# Called when a rung begins (None), and with its result.
Watch = Callable[[Rung, RungResult | None], None]


def unwatched(rung: Rung, result: RungResult | None) -> None:
    """Show nothing."""
    del rung, result


def diagnose_host(
    subject: Subject,
    connect: Callable[[], Host],
    *,
    topic: Topic | None = None,
    account: Account | None = None,
    watch: Watch = unwatched,
) -> Diagnosis:
    """Diagnose one host, and remove the probe accounts. Raises nothing for what is broken."""
    case = Case(subject=subject, connect=connect, account=account)
    try:
        return asyncio.run(_diagnose(case, topic, watch))
    finally:
        if subject.probes is not None:
            subject.probes.remove()


async def _diagnose(case: Case, topic: Topic | None, watch: Watch) -> Diagnosis:
    try:
        return await walk(case, of_topic(topic), topic, watch)
    finally:
        await case.subject.hang_up()


async def walk(
    case: Case, rungs: Sequence[Rung], topic: Topic | None = None, watch: Watch = unwatched
) -> Diagnosis:
    """Climb the rungs in order; the first that is broken is the last."""
    results: list[RungResult] = []
    verdict = None
    for rung in rungs:
        watch(rung, None)
        result, verdict = await climb(rung, case)
        watch(rung, result)
        results.append(result)
        if verdict is not None:
            break
    return Diagnosis(
        host=case.name,
        topic=topic,
        results=tuple(results),
        verdict=verdict,
        unasked=case.unasked,
    )


async def climb(rung: Rung, case: Case) -> tuple[RungResult, Diagnostic | None]:
    """One rung: its result, and the verdict if it is broken."""
    began = time.monotonic()
    case.result = await _outside(rung, case)
    verdict = _verdict(rung, case)
    status, message = case.result.status, case.result.message
    if verdict is not None:
        status, message = "failed", verdict.message
    return (
        RungResult(
            name=rung.name, status=status, message=message, seconds=time.monotonic() - began
        ),
        verdict,
    )


async def _outside(rung: Rung, case: Case) -> StepResult:
    """What the step of a rung finds from outside."""
    step = rung.step
    if rung.ask is not None:
        ask = rung.ask
        step = Step(
            name=rung.name,
            level="quick",
            run=lambda _: ask(case),
            code=rung.code,
            seconds=rung.seconds,
        )
    if step is None:
        if case.inside is None:
            return StepResult(name=rung.name, status="skipped", message=UNASKED)
        return StepResult(name=rung.name, status="ok")
    needs_accounts = rung.topic != "connect"
    if needs_accounts and case.inside is None and not case.subject.accounts:
        return StepResult(name=rung.name, status="skipped", message=f"{UNASKED} for accounts")
    return await attempt(step, case.subject)


def _verdict(rung: Rung, case: Case) -> Diagnostic | None:
    """Why the rung is broken; None if it holds."""
    result = case.result
    if result is not None and result.status == "failed":
        found = first(rung.causes, case) or first(rung.faults, case)
        return found or _unexplained(rung, case)
    if result is not None and result.status == "skipped" and rung.name != "name":
        return None
    return first(rung.faults, case)


def _unexplained(rung: Rung, case: Case) -> Diagnostic:
    """What verify says, if doctor knows no cause."""
    problem = case.problem
    if problem is None:
        said = case.result.message if case.result else ""
        return broken(
            rung.code, f"`{rung.name}` fails on `{case.name}`: {said}", fix=case.subject.logs
        )
    return replace(problem, code=rung.code, help=problem.help or case.subject.logs)
