"""A plan as text and as JSON data: changes, differences, and their effect on calls now. Pure.

Never shows a secret: differences hide the values of passwords, and omit keys.
"""

import difflib
import re
from collections.abc import Collection, Iterator
from dataclasses import asdict
from typing import Any

from sipdeploy.diagnostics import HIDDEN, count
from sipdeploy.host.incoming import MOST_COLUMNS, decoded
from sipdeploy.plan import Change, Plan, tables
from sipdeploy.plan.effects import new_port, user_effects, wider_effects
from sipdeploy.plan.preview import Present
from sipdeploy.services import nginx
from sipdeploy.services.service import local_place

QUIET = ("sipdeploy-firewall", "sipdeploy-nginx")  # no call or registration runs through them
MOST_LINES = 60
MOST_COMPARED = 4000
SECRET = re.compile(
    r"^([-+ ]?\s*(?:password_digest|md5_cred|password|pin)\s*=\s*).+$"
)  # of a diff
# HA1, checksums of it, and hashes of keys that are derived from it
HASH = re.compile(r"\b(?:[0-9a-f]{16}){1,2}\b|(?<=\{SHA\})\S+")


_PROOFS = {
    "ports": ", then from here: name, port, certificate, WebSocket (level ports)",
    "quick": ", then from here: registration, calls and a service by signalling (level quick)",
    "full": ", then from here: calls with sound (level full)",
}


def as_text(
    name: str,
    plan: Plan,
    present: Present,
    *,
    diffs: bool,
    is_whole: bool = False,
    proof: str = "none",
) -> str:
    """The plan of one host: one line for each item, differences below their file.

    With `is_whole` it has the unchanged files too, and all lines of long differences. `proof` is
    the level of the proof that the deploying machine makes.
    """
    lines = [name, *(unchanged(plan) if is_whole else ())]
    if plan.is_empty:
        return "\n".join([*lines, "  no changes"])
    shown = {str(change): change for change in plan.changes}
    for line in plan.lines():
        lines.append(f"  {line}")
        change = shown.get(line)
        if change and diffs:
            rows = difference(change, plan, present, most=0 if is_whole else MOST_LINES)
            lines += (f"      {row}" for row in rows)
    for edit in plan.left:
        lines.append(f"  ? {edit.path} (edited on the host, left alone)")
        lines += (f"      {row}" for row in difference(edit, plan, present) if diffs)
    lines += (f"  = {note}" for note in (*plan.desired.notes, *costs(plan, present)))
    lines.append(f"  = proof: on the host{_PROOFS.get(proof, '')}")
    lines.append(f"  {_total(plan)}")
    return "\n".join(lines)


def as_data(name: str, plan: Plan, present: Present) -> dict[str, Any]:
    """The plan of one host as JSON data."""
    return {
        "host": name,
        "release": plan.release,
        "is_empty": plan.is_empty,
        "fingerprint": plan.fingerprint(),
        "repository": plan.repository.url if plan.repository else None,
        "packages": [{"name": n, "version": v} for n, v in plan.packages.items()],
        "replacements": [asdict(each) for each in plan.replacements],
        "build": plan.build.name if plan.build else None,
        "changes": [
            {
                "kind": change.kind,
                "path": change.path,
                "mode": f"{change.mode:04o}",
                "owner": change.owner,
                "service": change.service,
                "effect": change.effect,
                "is_sensitive": change.sensitive,
                "is_drift": change.is_drift,
                "diff": difference(change, plan, present),
            }
            for change in plan.changes
        ],
        "left": [
            {"path": edit.path, "diff": difference(edit, plan, present)} for edit in plan.left
        ],
        "units": [
            {"unit": u.unit, "action": u.action, "enable": not u.is_settled} for u in plan.units
        ],
        "users": user_effects(plan, present).as_data(),
        "costs": list(costs(plan, present)),
        "notes": list(plan.desired.notes),
    }


def _total(plan: Plan) -> str:
    files = sum(change.kind != "directory" for change in plan.changes)
    packages = len(plan.packages) + len(plan.replacements)
    counts = [(1 if plan.repository else 0, "repository"), (packages, "package")]
    counts += [(1 if plan.build else 0, "build"), (files, "file")]
    counts += [
        (sum(unit.action == action for unit in plan.units), action)
        for action in ("start", "restart", "reload", "stop")
    ]
    parts = [count(n, noun) for n, noun in counts if n]
    return ", ".join(parts) or "units to enable"


def costs(plan: Plan, present: Present) -> Iterator[str]:
    """The effects on users, registrations and calls now, one line for each."""
    users = user_effects(plan, present)
    yield from users.lines()
    yield from wider_effects(plan, present)
    load = present.load
    for unit in plan.units:
        name = unit.unit.removesuffix(".service")
        if not unit.was_active or unit.action == "none":
            continue
        if unit.action == "reload" or name in QUIET:
            is_quiet = name != "kamailio" or not users.disconnected
            quiet = "no interruption" if is_quiet else "no interruption for other users"
            yield f"{unit.action} {name} ({quiet})"
        elif name == "kamailio":
            yield (
                f"{unit.action} kamailio: {_some(load.registrations, 'registration')} "
                f"{_return(plan, present, users.disconnected)}, "
                f"{_some(load.calls, 'call')} {_plural(load.calls, 'continues', 'continue')}, "
                f"{_some(load.ringing, 'call')} being set up "
                f"{_plural(load.ringing, 'is', 'are')} lost"
            )
        elif name == "coturn":
            yield "restart coturn: calls over the relay lose their sound; new calls have it"
        elif name == "asterisk":
            yield (
                f"{unit.action} asterisk: {_some(load.channels, 'call')} with services "
                f"{_plural(load.channels, 'is', 'are')} cut; calls between phones continue"
            )


def _return(plan: Plan, present: Present, disconnected: Collection[str]) -> str:
    """What becomes of the registrations when Kamailio restarts."""
    number = present.load.registrations
    if port := new_port(plan, present):
        return f"{_plural(number, 'ends', 'end')} until the phones are set to port {port}"
    but = ", except those of users whom this disconnects" if disconnected else ""
    return f"{_plural(number, 'reconnects', 'reconnect')}{but}"


def _some(number: int | None, noun: str) -> str:
    if number is None:
        return f"an unknown number of {noun}s"
    return count(number, noun)


def _plural(number: int | None, one: str, many: str) -> str:
    return one if number == 1 else many


def unchanged(plan: Plan) -> Iterator[str]:
    """The files that apply compares and leaves as they are, one line for each."""
    changed = {change.path for change in plan.changes}
    files = {file.path for file in plan.desired.files}
    files |= {file.path for file in plan.desired.made}
    return (f"  . {path}" for path in sorted(files - changed - plan.to_generate))


def difference(
    change: Change, plan: Plan, present: Present, *, most: int = MOST_LINES
) -> list[str]:
    """The lines of the unified difference of one file, without secrets; may be empty.

    At most `most` lines; 0 means all.
    """
    current = present.current.get(change.path)
    if current is None or change.kind not in ("update", "delete"):
        return []
    if change.path in plan.to_generate:  # the new content is on the host, or in a backup
        return []
    if change.path.startswith(f"{nginx.PAGE}/"):  # pictures, and scripts that were built
        return []
    after = next((f.content for f in plan.desired.files if f.path == change.path), b"")
    written = present.written.get(change.path)
    rows: list[str] = []
    if change.is_drift and written is not None:
        rows = ["edited on the host since the last apply:", *_diff(written, current)]
        place = local_place(change.path)
        rows += [f"(to keep the edit, move it to {place})"] if place else []
        if change in plan.left:
            return _cut(rows, most)
        rows.append("apply would change it to:")
    return _cut([*rows, *_diff(current, after)], most)


def _cut(rows: list[str], most: int) -> list[str]:
    left = len(rows) - (most or len(rows))
    return rows if left <= 0 else [*rows[:most], f"... and {count(left, 'more line')}"]


def _diff(before: bytes, after: bytes) -> list[str]:
    old, new = _readable(before), _readable(after)
    if max(len(old), len(new)) > MOST_COMPARED:
        changed = _lines_of_one(old, new)
    else:
        changed = list(difflib.unified_diff(old, new, lineterm="", n=2))[2:]
    return [_hide(row) for row in changed]


def _lines_of_one(old: list[str], new: list[str]) -> list[str]:
    """Lines that only one side has, without context: difflib is too slow for 100,000 lines."""
    gone, come = set(old) - set(new), set(new) - set(old)
    return [f"-{row}" for row in old if row in gone] + [f"+{row}" for row in new if row in come]


def _readable(content: bytes) -> list[str]:
    """Lines of a text, or rows of a database; empty for a private key and for sound."""
    if tables.is_database(content):
        return tables.rows(content)
    if content.startswith(b"RIFF"):
        return []
    if b"PRIVATE KEY" in content:
        return []
    return [line.expandtabs(4) for line in decoded(content).splitlines()]


def _hide(row: str) -> str:
    hidden = HASH.sub(HIDDEN, SECRET.sub(rf"\1{HIDDEN}", row))
    return hidden if len(hidden) <= MOST_COLUMNS else f"{hidden[:MOST_COLUMNS]}..."
