"""A plan in a file: what was looked at and agreed to, to be applied later, or refused. Pure.

Holds no content and no secret: the plan is made anew from the inventory and the host, and must be
the same.
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
    """Host to its saved plan; InvalidFiles when the text is no saved plan."""
    try:
        data = json.loads(text)
        hosts = data["hosts"] if data["format"] == FORMAT else None
    except (ValueError, KeyError, TypeError):
        hosts = None
    if not isinstance(hosts, dict):
        problem = Diagnostic(
            "SD529",
            f"`{path}` is no plan that this version of sipdeploy has saved",
            help=f"`sipdeploy plan -o {path}` writes one",
        )
        raise InvalidFiles([problem])
    return hosts


def differences(
    saved: Mapping[str, Mapping[str, object]], name: str, plan: Plan
) -> list[Diagnostic]:
    """Why the saved plan of a host may not be carried out; nothing when it is still the plan."""
    row = saved[name]
    if row.get("fingerprint") == plan.fingerprint():
        return []
    before = row.get("changes")
    old = [str(line) for line in before] if isinstance(before, list) else []
    new = plan.lines()
    gone = [f"no more: {line}" for line in old if line not in new]
    come = [f"now also: {line}" for line in new if line not in old]
    same = ["the same files as before, but other contents"] if not gone and not come else []
    return [
        Diagnostic(
            "SD529",
            f"the saved plan of `{name}` is out of date: host or inventory has changed",
            notes=tuple([*gone, *come, *same][:10]),
            help="make a new one with `sipdeploy plan -o FILE`, look at it, and apply that",
        )
    ]
