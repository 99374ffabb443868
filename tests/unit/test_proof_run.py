"""The run of a proof: what stops what, what runs at the same time, and what a failure becomes."""

import asyncio
import time

import pytest

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.inventory.site import load_site
from sipdeploy.proof.outside.ladder import LADDER
from sipdeploy.proof.outside.run import prove
from sipdeploy.proof.outside.step import INCLUDED, LEVELS, Step, StepFailed, StepSkipped, of_level
from sipdeploy.proof.outside.subject import Subject
from sipdeploy.sip.message import MalformedMessage

TEXT = """\
domain: sip.example.com
email: ops@example.com
hosts: {sip1: {address: 203.0.113.10}}
users: {1001: {}}
"""


def subject():
    site, problems, _ = load_site(TEXT, "inventory.yaml")
    assert site, problems
    return Subject(name="sip1", site=site, entry=site.hosts["sip1"], level="quick")


def step(name, run=None, **fields):
    async def fine(_):
        await asyncio.sleep(0)
        return "seen"

    return Step(name=name, level="quick", run=run or fine, code="SD901", **fields)


def failing(error):
    async def run(_):
        raise error

    return run


def proof_of(*steps):
    return asyncio.run(prove(subject(), steps))


def statuses(proof):
    return {each.name: each.status for each in proof.results}


def test_a_failure_skips_only_what_needs_it():
    broken = failing(StepFailed(Diagnostic("SD901", "closed")))
    proof = proof_of(
        step("a", broken), step("b", needs=("a",)), step("c", needs=("b",)), step("d")
    )
    assert statuses(proof) == {"a": "failed", "b": "skipped", "c": "skipped", "d": "ok"}
    assert [each.name for each in proof.failed] == ["a"]
    assert proof.results[1].message == "needs `a`, which failed"
    assert [each.message for each in proof.diagnostics] == ["closed"]


def test_a_need_of_another_level_is_no_need():
    assert statuses(proof_of(step("b", needs=("a",)))) == {"b": "ok"}


def test_steps_that_need_nothing_run_at_the_same_time():
    async def slow(_):
        await asyncio.sleep(0.2)
        return ""

    began = time.monotonic()
    proof_of(step("a", slow), step("b", slow), step("c", slow))
    assert time.monotonic() - began < 0.5


def test_a_lane_runs_in_order_also_after_a_failure():
    order = []

    def noting(name, error=None):
        async def run(_):
            order.append(f"{name} begins")
            await asyncio.sleep(0.01)
            order.append(f"{name} ends")
            if error:
                raise error
            return ""

        return run

    proof = proof_of(
        step("a", noting("a", TimeoutError("no 180")), lane="phones"),
        step("b", noting("b"), lane="phones"),
    )
    assert order == ["a begins", "a ends", "b begins", "b ends"]
    assert statuses(proof) == {"a": "failed", "b": "ok"}


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("no 180"),
        ConnectionError("no 180"),
        MalformedMessage("no 180"),
        RuntimeError("no 180"),
    ],
)
def test_an_error_that_a_step_does_not_explain_has_its_code(error):
    (problem,) = proof_of(step("call", failing(error))).diagnostics
    assert problem.code == "SD901"
    assert problem.message == "call failed on `sip1`: no 180"
    assert "journalctl" in problem.help


def test_a_step_ends_with_its_time():
    async def endless(_):
        await asyncio.sleep(60)
        return ""

    (result,) = proof_of(step("call", endless, seconds=0.05)).results
    assert result.status == "failed"
    assert "not done within 0.05 s" in result.message


def test_what_cannot_be_tried_is_no_failure():
    (result,) = proof_of(step("dns", failing(StepSkipped("reserved")))).results
    assert (result.status, result.message, result.diagnostics) == ("skipped", "reserved", ())


def test_the_ladder_can_be_climbed():
    """Every need is a step above, of the same level or a lower one; names are unique."""
    names = [each.name for each in LADDER]
    assert len(names) == len(set(names))
    for number, each in enumerate(LADDER):
        for need in each.needs:
            assert need in names[:number]
            needed = LADDER[names.index(need)]
            assert needed.level in INCLUDED[each.level]


def test_a_level_includes_those_before_it():
    assert INCLUDED.keys() == set(LEVELS)
    before = set()
    for level in ("ports", "quick", "full"):
        names = {step.name for step in of_level(LADDER, level)}
        assert before < names
        before = names
    attacks = {step.name for step in of_level(LADDER, "attack")}
    assert {step.name for step in of_level(LADDER, "quick")} < attacks
    assert before | attacks == {step.name for step in LADDER}
