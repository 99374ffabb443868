"""Saved plans: reviewed now, applied later, refused if host or inventory has changed. Pure.

A saved plan holds no content and no secret. `apply` computes the plan again from the inventory and
the host, and compares the fingerprints.
"""

import json
from collections.abc import Mapping

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.plan import Plan

FORMAT = 1


def dump(plans: Mapping[str, Plan]) -> str:
    """The plans by host as JSON; equal plans give equal text."""
    hosts = {
        name: {"fingerprint": plan.fingerprint(), "changes": list(plan.lines())}
        for name, plan in plans.items()
    }
    return json.dumps({"format": FORMAT, "hosts": hosts}, indent=2) + "\n"


def load(text: str, path: str) -> dict[str, dict[str, object]]:
    """Host name -> its saved plan; raises InvalidFiles if the text is not a saved plan."""
    try:
        data = json.loads(text)
        hosts = data["hosts"] if data["format"] == FORMAT else None
    except (ValueError, KeyError, TypeError):
        hosts = None
    if not isinstance(hosts, dict):
        problem = Diagnostic(
            "SD529",
            f"`{path}` is not a plan that this version of sipdeploy saved",
            help=f"save a new one: `sipdeploy plan -o {path}`",
        )
        raise InvalidFiles([problem])
    return hosts


def differences(
    saved: Mapping[str, Mapping[str, object]], name: str, plan: Plan
) -> list[Diagnostic]:
    """Why apply must refuse the saved plan of a host; empty if it is still the current plan."""
    row = saved[name]
    if row.get("fingerprint") == plan.fingerprint():
        return []
    before = row.get("changes")
    old = [str(line) for line in before] if isinstance(before, list) else []
    new = plan.lines()
    gone = [f"no longer: {line}" for line in old if line not in new]
    added = [f"now also: {line}" for line in new if line not in old]
    same = ["the same files, with other contents"] if not gone and not added else []
    return [
        Diagnostic(
            "SD529",
            f"the saved plan of `{name}` is out of date: the host or the inventory has changed",
            notes=tuple([*gone, *added, *same][:10]),
            help="save a new plan with `sipdeploy plan -o FILE`, review it, and apply that one",
        )
    ]
