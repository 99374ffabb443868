"""The files that a plan would replace, and the load of the daemons: read only to show the plan.

Changes nothing. An apply without changes, or without a terminal, skips this exchange.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from sipdeploy.facts import STATE
from sipdeploy.host import Host, host_failed, run_script, sections
from sipdeploy.host.incoming import whole
from sipdeploy.plan import Plan
from sipdeploy.services import acme, kamailio

PREVIEW_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The load of the daemons now; None if one does not run or does not answer."""

    registrations: int | None = None
    calls: int | None = None
    ringing: int | None = None
    channels: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """The files that change, path -> content: the current one, and the last apply's.

    `registered` has the numbers with a registration; None if they are not known.
    """

    current: Mapping[str, bytes] = field(default_factory=dict)
    written: Mapping[str, bytes] = field(default_factory=dict)
    load: Load = Load()
    registered: frozenset[str] | None = None


def preview(host: Host, plan: Plan, state: str = STATE) -> Present:
    """Read everything in one exchange.

    Raises HostFailed if the connection is lost (SD506) or the answer is incomplete (SD509).
    """
    paths = [
        c.path
        for c in (*plan.changes, *plan.left)
        if c.kind in ("update", "delete") and not _is_key(c.path)
    ]
    services = [
        name
        for name, unit in plan.desired.units.items()
        if any(u.unit == unit and u.action in ("restart", "reload") for u in plan.units)
    ]
    data = "".join(f"{path}\n" for path in paths).encode()
    argv = ("preview", state, " ".join(services))
    result = run_script(host, argv, input=data, timeout_seconds=PREVIEW_SECONDS)
    answer = sections(result.text)
    contents = _contents(host, answer)
    return Present(
        current=_numbered(paths, contents, 0),
        written=_numbered(paths, contents, 1),
        load=read_load(answer),
        registered=registered(answer),
    )


def read_sums(host: Host, state: str = STATE) -> bytes | None:
    """The checksums of the credentials of a host; None if it has none.

    Raises HostFailed (SD506, SD509) as `preview`.
    """
    result = run_script(host, ("preview", state, ""), input=f"{kamailio.SUMS}\n".encode())
    return _contents(host, sections(result.text)).get("0")


def _is_key(path: str) -> bool:
    """Whether a file has a private key or credentials, which must not leave the host."""
    return path.endswith((".key", "dialog-key.cfg", acme.CREDENTIALS))


def _contents(host: Host, answer: Mapping[str, str]) -> Mapping[str, bytes]:
    """The files in an answer, by the number of their section."""
    if "end" not in answer:
        raise host_failed("SD509", f"`{host.name}` did not send the files that would change")
    try:
        return {
            name.removeprefix("file "): base64.b64decode(text)
            for name, text in answer.items()
            if name.startswith("file ")
        }
    except ValueError as wrong:
        raise host_failed(
            "SD509", f"`{host.name}` sent the files that would change in an unknown format"
        ) from wrong


def _numbered(paths: list[str], contents: Mapping[str, bytes], offset: int) -> Mapping[str, bytes]:
    numbers = ((path, str(2 * i + offset)) for i, path in enumerate(paths))
    return {path: contents[number] for path, number in numbers if number in contents}


def registered(answer: Mapping[str, str]) -> frozenset[str] | None:
    """Numbers of addresses of record, one on each line; None if Kamailio did not list all."""
    text = answer.get("registered")
    return None if text is None else frozenset(re.findall(r"(?m)^([0-9*]{1,15})(?:@|$)", text))


def read_load(answer: Mapping[str, str]) -> Load:
    """The load in the sections `tables`, `contacts` and `channels`."""
    tables = _tables(answer.get("tables", ""))
    return Load(
        registrations=_number(r"location[-_]contacts = (\d+)", answer.get("contacts", "")),
        calls=tables.get("calls"),
        ringing=tables.get("ringing"),
        channels=_number(r"(\d+) active channel", answer.get("channels", "")),
    )


def _tables(text: str) -> Mapping[str, int]:
    """Read `kamcmd htable.stats`: blocks with `name:` and `all:`."""
    names = re.findall(r"^\s*name: (\S+)", text, re.MULTILINE)
    counts = re.findall(r"^\s*all: (\d+)", text, re.MULTILINE)
    return {name: whole(count) for name, count in zip(names, counts, strict=False)}


def _number(pattern: str, text: str) -> int | None:
    match = re.search(pattern, text)
    return whole(match[1]) if match else None
