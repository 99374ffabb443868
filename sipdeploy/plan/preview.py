"""What a plan would replace, and how many people it would reach: asked only to show it.

Changes nothing. A no-op apply never asks, and an apply that nobody watches does not either.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from sipdeploy.facts import STATE
from sipdeploy.host import Host, host_failed, run_script, sections
from sipdeploy.host.incoming import whole
from sipdeploy.plan import Plan
from sipdeploy.services import acme

PREVIEW_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How busy the daemons are now; None where one does not run or does not tell."""

    registrations: int | None = None
    calls: int | None = None
    ringing: int | None = None
    channels: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """The contents of files that change: as they are, and as the last apply wrote them."""

    current: Mapping[str, bytes] = field(default_factory=dict)
    written: Mapping[str, bytes] = field(default_factory=dict)
    load: Load = Load()


def preview(host: Host, plan: Plan, state: str = STATE) -> Present:
    """Ask in one exchange; HostFailed when the host is lost."""
    paths = [
        c.path for c in plan.changes if c.kind in ("update", "delete") and not _is_key(c.path)
    ]
    asked = [
        name
        for name, unit in plan.desired.units.items()
        if any(u.unit == unit and u.action in ("restart", "reload") for u in plan.units)
    ]
    data = "".join(f"{path}\n" for path in paths).encode()
    words = ("preview", state, " ".join(asked))
    result = run_script(host, words, input=data, timeout_seconds=PREVIEW_SECONDS)
    found = sections(result.text)
    if "end" not in found:
        raise host_failed("SD509", f"`{host.name}` did not send the files that would change")
    try:
        contents = {
            name.removeprefix("file "): base64.b64decode(text)
            for name, text in found.items()
            if name.startswith("file ")
        }
    except ValueError as wrong:
        raise host_failed(
            "SD509", f"`{host.name}` sent the files that would change in an unknown format"
        ) from wrong
    return Present(
        current=_numbered(paths, contents, 0),
        written=_numbered(paths, contents, 1),
        load=_load(found),
    )


def _is_key(path: str) -> bool:
    """Private keys stay where they are, also when somebody wants to see what changes."""
    return path.endswith((".key", "dialog-key.cfg", acme.CREDENTIALS))


def _numbered(paths: list[str], contents: Mapping[str, bytes], offset: int) -> Mapping[str, bytes]:
    numbers = ((path, str(2 * i + offset)) for i, path in enumerate(paths))
    return {path: contents[number] for path, number in numbers if number in contents}


def _load(found: Mapping[str, str]) -> Load:
    tables = _tables(found.get("tables", ""))
    return Load(
        registrations=_number(r"location[-_]contacts = (\d+)", found.get("contacts", "")),
        calls=tables.get("calls"),
        ringing=tables.get("ringing"),
        channels=_number(r"(\d+) active channel", found.get("channels", "")),
    )


def _tables(text: str) -> Mapping[str, int]:
    """Read `kamcmd htable.stats`: blocks with `name:` and `all:`."""
    names = re.findall(r"^\s*name: (\S+)", text, re.MULTILINE)
    counts = re.findall(r"^\s*all: (\d+)", text, re.MULTILINE)
    return {name: whole(count) for name, count in zip(names, counts, strict=False)}


def _number(pattern: str, text: str) -> int | None:
    match = re.search(pattern, text)
    return whole(match[1]) if match else None
