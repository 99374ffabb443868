"""Keeps the result of a proof on the host, where `status` finds it from any machine."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.facts import STATE
from sipdeploy.host import ask

if TYPE_CHECKING:
    from sipdeploy.host import Host
    from sipdeploy.proof.outside.step import Proof

KEEP_SECONDS = 30


def dump(proof: Proof) -> bytes:
    """A proof as JSON in one line: when, which level, how many steps, which failed."""
    tried = sum(each.status != "skipped" for each in proof.results)
    data = {
        "began": round(proof.began, 3),
        "level": proof.level,
        "steps": tried,
        "failed": [each.name for each in proof.failed],
    }
    return json.dumps(data).encode() + b"\n"


def keep(host: Host, proof: Proof, folder: str = STATE) -> None:
    """Keep a proof in a folder of the host. A host that cannot do this is still proved."""
    problem = ("SD739", "the result of the proof cannot be kept")
    with contextlib.suppress(HostFailed):
        ask(host, ("proof", folder), problem, data=dump(proof), timeout_seconds=KEEP_SECONDS)
