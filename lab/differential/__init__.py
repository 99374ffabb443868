"""Kamailio and Asterisk read the same bytes: do they read the same thing?

A fuzzer that holds two parsers against each other, on the real daemons of a host that `apply`
made. Mutated SIP messages go over the real WSS of that host. A lab-only stamp carries Kamailio's
reading of each message that it let through, and a lab-only dialplan writes Asterisk's reading
beside it. A difference in who somebody is, or in where something goes, is a finding.

    python -m lab.differential --messages 100000    # the long form, a host for each mode
    pytest tests/lab/test_differential.py           # the short form

The corpus is data: tests/lab/differential/corpus.toml. The same seed makes the same messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.differential.corpus import SEED, Corpus
from lab.differential.line import Office
from lab.differential.probe import Probe
from lab.differential.traffic import KINDS, Finding, Fuzzer, Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.hosts import Host

__all__ = ["SEED", "Finding", "Report", "Target", "fuzz"]


@dataclass(frozen=True, slots=True)
class Target:
    """A calling system: 1001 to 1003 are its users, 6001 and 6002 its services."""

    host: Host
    mode: str
    domain: str
    password: Callable[[str], str]


async def fuzz(
    target: Target,
    messages: int,
    *,
    seed: int = SEED,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Send so many mutants and judge what the target made of them."""
    office = Office(
        (target.host.address, 8443),
        target.domain,
        target.password,
        registers=target.mode == "asterisk",
    )
    with Probe(target.host) as probe:
        fuzzer = Fuzzer(probe, office, target.mode, progress)
        return await fuzzer.run(Corpus().mutants(messages, seed, KINDS))
