"""Kamailio and Asterisk parse mutated messages alike: a short run of the fuzzer."""

import asyncio

import pytest
from system import DOMAIN, password

from lab.differential import Target, fuzz

pytestmark = pytest.mark.lab

MESSAGES = 1500


def test_both_parsers_read_the_same_identity(system):
    target = Target(system.host, system.mode, DOMAIN, password)
    report = asyncio.run(asyncio.wait_for(fuzz(target, MESSAGES), 240))
    assert report.sent.total() == MESSAGES
    # otherwise the run has tested nothing
    assert report.read["invite"] > 60, report.table()
    kinds = ("register", "subscribe", "dialog", "message")
    assert all(report.read[kind] > 2 for kind in kinds), report.table()
    assert not report.findings, report.table()
