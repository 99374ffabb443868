"""A differential fuzzer: do Kamailio and Asterisk parse the same message in the same way?

It sends mutated SIP messages over WSS to a host that `sipdeploy apply` has configured. In the lab,
Kamailio adds a header with the caller and the callee that it has parsed, and a dialplan logs this
header together with the values that Asterisk has parsed. A difference in the caller, in the
destination or in the dialog is a finding.

    python -m lab.differential --messages 100000    # the long run, one host for each mode
    pytest tests/lab/test_differential.py           # the short run

The corpus is in tests/lab/differential/corpus.toml. The same seed gives the same messages.
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
    """A calling system with the users 1001 to 1003 and the services 6001 and 6002."""

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
    """Send `messages` mutants to the target, and report how its daemons parsed them."""
    office = Office(
        (target.host.address, 8443),
        target.domain,
        target.password,
        registers=target.mode == "asterisk",
    )
    with Probe(target.host) as probe:
        fuzzer = Fuzzer(probe, office, target.mode, progress)
        return await fuzzer.run(Corpus().mutants(messages, seed, KINDS))
