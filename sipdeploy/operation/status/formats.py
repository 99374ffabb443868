"""Hosts as text, a screen for each, and as data. Pure."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sipdeploy.diagnostics import count, printable
from sipdeploy.operation.status import traffic
from sipdeploy.operation.status.values import FAILED

if TYPE_CHECKING:
    from sipdeploy.operation.status.state import State
    from sipdeploy.operation.status.values import Status, Verdict

WIDTH = 80
VERDICT, NAME = 7, 11  # columns
HEADS: dict[Verdict, str] = {
    "broken": "needs a person now",
    "look": "needs a look",
    "unknown": "not known",
}


Paint = Callable[["Verdict", str], str]


def plain(verdict: Verdict, text: str) -> str:
    """The text without colour."""
    del verdict
    return text


def as_text(statuses: Sequence[Status], paint: Paint = plain) -> str:
    """A block for each host, and a last line about several; `paint` colours the verdicts."""
    blocks = ["\n".join(_lines(status, paint)) for status in statuses]
    if len(statuses) > 1:
        blocks.append(summary(statuses))
    return "\n\n".join(blocks)


def _lines(status: Status, paint: Paint) -> Iterator[str]:
    yield from _wrapped(f"{status.host}  {headline(status)}", "  ")
    for value in status.values:
        begin = f"  {value.verdict:<{VERDICT}}  {value.name:<{NAME}}  "
        first, *rest = _wrapped(begin + printable(value.text), " " * len(begin))
        yield first.replace(value.verdict, paint(value.verdict, value.verdict), 1)
        yield from rest


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, subsequent_indent=indent, break_on_hyphens=False, drop_whitespace=True
    )


def headline(status: Status) -> str:
    """`fine`, or what needs a person, and what is not known."""
    parts = [
        f"{words}: {', '.join(names)}"
        for verdict, words in HEADS.items()
        if (names := status.named(verdict))
    ]
    return "; ".join(parts) or "fine"


def summary(statuses: Sequence[Status]) -> str:
    """`3 hosts: 1 fine; 1 needs a person (sip2); 1 not known (sip3)`."""
    parts = []
    for code, words in ((0, "fine"), (1, "in need of a person"), (FAILED, "not known")):
        names = [each.host for each in statuses if each.exit_code == code]
        if names:
            parts.append(f"{len(names)} {words}{_named(names) if code else ''}")
    return f"{count(len(statuses), 'host')}: {'; '.join(parts)}"


def _named(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})"


def as_json(statuses: Sequence[Status]) -> str:
    """The hosts as JSON; times are in seconds, and null is what a host has not told."""
    return json.dumps({"hosts": [_data(status) for status in statuses]}, indent=2)


def _data(status: Status) -> dict[str, Any]:
    return {
        "host": status.host,
        "verdict": status.verdict,
        "values": [
            {"name": value.name, "verdict": value.verdict, "text": value.text}
            for value in status.values
        ],
        "problems": [
            {"code": each.code, "message": each.message, "help": each.help}
            for each in status.problems
        ],
        "figures": figures(status.state) if status.state else None,
    }


def figures(state: State) -> dict[str, Any]:
    """The figures behind the values."""
    hour = traffic.summary(state.traffic) if state.traffic else None
    return {
        "time": state.now,
        "release": {"number": state.release.number, "when": state.release.when}
        if state.release
        else None,
        "units": {name: asdict(unit) for name, unit in (state.units or {}).items()},
        "versions": {name: asdict(each) for name, each in (state.packages or {}).items()},
        "certificate_expires": state.certificate.not_after.timestamp()
        if state.certificate
        else None,
        "phones": asdict(state.phones) if state.phones else None,
        "users": state.users,
        "networks": state.networks,
        "calls": asdict(state.calls) if state.calls else None,
        "last_hour": {**asdict(hour), "calls": hour.calls} if hour else None,
        "memory": asdict(state.memory) if state.memory else None,
        "connections": asdict(state.connections) if state.connections else None,
        "disks": [asdict(disk) for disk in state.disks or ()],
        "voicemail": {"messages": state.messages, "bytes": state.voicemail_bytes},
        "proof": asdict(state.proof) if state.proof else None,
        "changed_files": state.changed,
    }
