"""Reads the output of `nft -j list ruleset` (libnftables-json(5))."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sipdeploy.plan.preflight.filters import (
    EPHEMERAL,
    Answer,
    Chain,
    Kind,
    Match,
    Packet,
    Rule,
    Table,
    Verdict,
    always,
    any_of,
    negated,
)

Json = Any
_VERDICTS: Mapping[str, Kind] = {
    "accept": "accept",
    "drop": "drop",
    "reject": "reject",
    "return": "return",
    "continue": "continue",
    "jump": "jump",
    "goto": "goto",
    "queue": "unknown",
    "synproxy": "unknown",
    "dnat": "elsewhere",
    "redirect": "elsewhere",
    "tproxy": "elsewhere",
}
# Statements that do not change where a packet goes.
_QUIET = {
    *("counter", "log", "mangle", "notrack", "comment", "ct helper", "ct timeout", "secmark"),
    *("ct expectation", "flow", "dup", "map", "last", "optstrip"),
}
_PROTOCOLS = {"tcp": 6, "udp": 17}
_OTHERS = ("icmp", "icmpv6", "igmp", "sctp", "dccp", "udplite", "esp", "ah", "comp", "gre")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    """A table while its rules are read: its family, and its named sets and maps."""

    family: str
    sets: Mapping[str, Sequence[Json]] = field(default_factory=dict)


def tables(text: str) -> Iterator[Table]:
    """The tables of a ruleset.

    Raises ValueError, LookupError, TypeError or AttributeError for text that is not one.
    """
    entries = _entries(text)
    for kind, table in entries:
        if kind == "table" and "dormant" not in table.get("flags", ()):
            yield _table(table["family"], table["name"], entries)


def ports(text: str) -> set[int]:
    """Numbers at which a rule for ports may begin or end. Raises as `tables`."""
    found: set[int] = set()
    for kind, value in _entries(text):
        if kind in ("set", "map"):
            found |= _numbers(value.get("elem"))
        for statement in value.get("expr", ()) if kind == "rule" else ():
            if isinstance(statement, dict) and statement.keys() & {"match", "vmap"}:
                found |= _numbers([*statement.values()])
    return found


def _entries(text: str) -> list[tuple[str, Json]]:
    rows = json.loads(text)["nftables"] if text.strip() else ()
    return [(key, value) for row in rows for key, value in row.items()]


def _numbers(value: Json) -> set[int]:
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, list):
        return {number for each in value for number in _numbers(each)}
    return {value} if isinstance(value, int) else set()


def _table(family: str, name: str, entries: Sequence[tuple[str, Json]]) -> Table:
    mine = [
        (kind, value)
        for kind, value in entries
        if isinstance(value, dict) and (value.get("family"), value.get("table")) == (family, name)
    ]
    scope = _Scope(
        family=family,
        sets={
            value["name"]: value.get("elem", ()) for kind, value in mine if kind in ("set", "map")
        },
    )
    rules: dict[str, list[Rule]] = {}
    for kind, value in mine:
        if kind == "rule":
            rules.setdefault(value["chain"], []).append(_rule(value, scope))
    chains = {
        value["name"]: _chain(value, rules.get(value["name"], ()))
        for kind, value in mine
        if kind == "chain"
    }
    return Table(tool="nft", family=family, name=name, chains=chains)


def _chain(value: Json, rules: Iterable[Rule]) -> Chain:
    devices = value.get("dev", ())
    return Chain(
        name=value["name"],
        rules=tuple(rules),
        hook=value.get("hook", ""),
        policy=value.get("policy", "accept"),
        devices=(devices,) if isinstance(devices, str) else tuple(devices),
    )


def _rule(value: Json, scope: _Scope) -> Rule:
    matches: list[Match] = []
    verdicts: Callable[[Packet], Sequence[Verdict]] = always("continue")
    for statement in value.get("expr", ()):
        ((kind, content),) = (
            statement.items() if isinstance(statement, dict) else ((statement, 0),)
        )
        if kind == "match":
            matches.append(_match(content, scope))
        elif kind in _LIMITS:
            matches.append(_LIMITS[kind](content))
        elif kind == "xt":  # an expression of iptables: a match or a target, often without a name
            is_quiet = isinstance(content, dict) and content.get("name") in ("LOG", "comment")
            matches += [] if is_quiet else [_cannot_say]
            verdicts = verdicts if is_quiet else always("unknown")
        elif kind == "vmap":
            verdicts = partial(_looked_up, content, scope)
        elif kind in _VERDICTS:
            verdicts = always(*_verdict(kind, content))
        elif kind not in _QUIET:
            verdicts = always("unknown")
    return Rule(
        matches=tuple(matches), verdicts=verdicts, text=_shown(value), place=value.get("handle", 0)
    )


def _cannot_say(packet: Packet) -> Answer:
    del packet
    return None


def _verdict(kind: str, content: Json) -> Verdict:
    target = content.get("target", "") if isinstance(content, dict) else ""
    return _VERDICTS[kind], str(target)


def _shown(value: Json) -> str:
    """A rule as a person recognizes it: what it does, and its comment."""
    words = []
    for statement in value.get("expr", ()):
        if isinstance(statement, dict):
            ((kind, content),) = statement.items()
            if kind in _VERDICTS and (
                _VERDICTS[kind] in ("drop", "reject", "elsewhere") or kind == "queue"
            ):
                words.append(kind)
            elif kind == "match":
                words.append(_shown_match(content))
            elif kind in ("jump", "goto"):
                words.append(f"{kind} {content.get('target', '')}")
            elif kind == "xt":
                words.append(f"xt {(content or {}).get('name', '')}".strip())
    comment = f" ({value['comment']})" if "comment" in value else ""
    return " ".join(word for word in words if word) + comment


def _shown_match(content: Json) -> str:
    left, right = content.get("left"), content.get("right")
    if not isinstance(left, dict) or len(left) != 1:
        return ""
    ((kind, what),) = left.items()
    if not isinstance(what, dict):
        return ""
    key = what.get("field") or what.get("key") or ""
    name = f"{what.get('protocol', kind)} {key}".strip()
    mark = "" if content.get("op") in ("==", "in") else f"{content.get('op')} "
    return f"{name} {mark}{right}" if isinstance(right, str | int) else f"{name} ..."


# Statements that let a rule apply only below or above a limit.


def _limit(content: Json) -> Match:
    is_over = isinstance(content, dict) and content.get("inv", False)
    return lambda packet: False if is_over else not packet.is_flood


def _noted(content: Json) -> Match:
    """A statement that adds to a set applies if the statements at the element do."""
    inner = content.get("stmt", ()) if isinstance(content, dict) else ()
    inner = inner if isinstance(inner, list) else [inner]
    limits = [
        _LIMITS[kind](value)
        for each in inner
        if isinstance(each, dict)
        for kind, value in each.items()
        if kind in ("limit", "ct count", "quota")
    ]
    return lambda packet: all(limit(packet) for limit in limits)


_LIMITS: Mapping[str, Callable[[Json], Match]] = {
    "limit": _limit,
    "ct count": _limit,
    "quota": _limit,
    "set": _noted,
    "meter": _noted,
}


# Matches.


def _match(content: Json, scope: _Scope) -> Match:
    op, left, right = content.get("op", "=="), content.get("left"), content.get("right")
    holds = partial(_holds, left, right, scope)
    if op in ("==", "in"):
        return holds
    if op == "!=":
        # `tcp dport != 22` is about TCP only
        return lambda packet: negated(holds)(packet) if _has(left, packet) else False
    return partial(_compares, op, left, right)


def _has(left: Json, packet: Packet) -> bool:
    """Whether a packet has the field at all."""
    if not isinstance(left, dict):
        return True
    parts = left.get("concat") or left.get("&")
    if isinstance(parts, list):
        return all(_has(each, packet) for each in parts)
    payload = left.get("payload")
    protocol = payload.get("protocol") if isinstance(payload, dict) else None
    if protocol in ("ip", "ip6"):
        return packet.is_ipv6 is (protocol == "ip6")
    is_other = protocol in _OTHERS or protocol in _PROTOCOLS.keys() - {packet.protocol}
    return not is_other and "exthdr" not in left


def _compares(op: str, left: Json, right: Json, packet: Packet) -> Answer:
    own = "sport" if packet.is_answer else "dport"
    if _field(left) != own or not isinstance(right, int):
        return None
    if not _has(left, packet):
        return False
    port = packet.port
    return {"<": port < right, ">": port > right, "<=": port <= right, ">=": port >= right}.get(op)


def _field(left: Json) -> str:
    payload = left.get("payload") if isinstance(left, dict) else None
    return payload.get("field", "") if isinstance(payload, dict) else ""


def _holds(left: Json, right: Json, scope: _Scope, packet: Packet) -> Answer:
    """Whether `left == right`, where right may be a set, a range or a prefix."""
    if not _has(left, packet):
        return False
    if isinstance(left, dict) and "concat" in left:
        return any_of(_parts(left["concat"], each, scope, packet) for each in _each(right, scope))
    test = _test(left, packet)
    if test is None:
        return None
    if callable(test):
        return any_of(test(each) for each in _each(right, scope))
    return test


def _parts(lefts: Sequence[Json], row: Json, scope: _Scope, packet: Packet) -> Answer:
    """Whether every part of a concatenation holds."""
    rights = row.get("concat") if isinstance(row, dict) else None
    if not isinstance(rights, list) or len(rights) != len(lefts):
        return None
    answers = {
        _holds(left, right, scope, packet) for left, right in zip(lefts, rights, strict=True)
    }
    return False if False in answers else None if None in answers else True


def _each(right: Json, scope: _Scope) -> Iterator[Json]:
    """The elements of a set, anonymous or named; anything else is its own only element."""
    if isinstance(right, str) and right.startswith("@"):
        right = list(scope.sets.get(right[1:], [None]))
    if isinstance(right, dict) and "set" in right:
        right = right["set"]
    for each in right if isinstance(right, list) else [right]:
        yield each["elem"].get("val") if isinstance(each, dict) and "elem" in each else each


Test = Callable[[Json], Answer]


def _test(left: Json, packet: Packet) -> Test | Answer:
    """The test of one value on the right, or an answer that no value changes."""
    if not isinstance(left, dict) or len(left) != 1:
        return None
    ((kind, what),) = left.items()
    if kind == "&":
        return _masked(what)
    key = what.get("key", "") if isinstance(what, dict) else ""
    if kind == "payload" and isinstance(what, dict):
        return _payload(what, packet)
    if kind == "fib" and isinstance(what, dict):
        return _fib(what)
    tests: Mapping[tuple[str, Json], Test] = {
        ("meta", "iifname"): partial(_interface, packet.enters),
        ("meta", "iif"): partial(_interface, packet.enters),
        ("meta", "oifname"): partial(_interface, packet.leaves),
        ("meta", "oif"): partial(_interface, packet.leaves),
        ("meta", "l4proto"): partial(_protocol, packet),
        ("meta", "nfproto"): lambda v: v in (("ipv6", 10) if packet.is_ipv6 else ("ipv4", 2)),
        ("meta", "protocol"): lambda v: v == ("ip6" if packet.is_ipv6 else "ip"),
        ("meta", "pkttype"): lambda v: v in ("host", "unicast", 0),
        ("meta", "mark"): _is_zero,
        ("ct", "mark"): _is_zero,
        ("ct", "state"): lambda v: v == packet.state,
        ("ct", "status"): lambda _: False,
        ("ct", "direction"): lambda v: (
            v in (("reply", 1) if packet.is_answer else ("original", 0))
        ),
    }
    return tests.get((kind, key))


def _is_zero(value: Json) -> Answer:
    return value == 0 if isinstance(value, int) else None


def _interface(passes: Callable[[str], Answer], value: Json) -> Answer:
    return passes(value) if isinstance(value, str) else None


def _protocol(packet: Packet, value: Json) -> Answer:
    return value in (packet.protocol, _PROTOCOLS[packet.protocol])


def _payload(what: Mapping[str, Json], packet: Packet) -> Test | Answer:
    protocol, name = what.get("protocol"), what.get("field")
    if protocol in ("tcp", "udp", "th"):
        own = partial(_in_range, (packet.port, packet.port))
        phones = partial(_in_range, (EPHEMERAL[0], EPHEMERAL[-1]))
        tests: Mapping[Json, Test] = {
            "dport": phones if packet.is_answer else own,
            "sport": own if packet.is_answer else phones,
            "flags": lambda value: value == "syn",
        }
        return tests.get(name)
    if protocol in ("ip", "ip6"):
        tests = {
            "saddr": partial(_address, packet.comes_from),
            "daddr": partial(_address, packet.goes_to),
            "protocol": partial(_protocol, packet),
            "nexthdr": partial(_protocol, packet),
        }
        return tests.get(name)
    if protocol == "ether":
        return packet.is_listed if name == "saddr" else None
    return None


def _in_range(ours: tuple[int, int], value: Json) -> Answer:
    """Whether all of our ports are in a value; None if only some of many are."""
    low, high = value["range"] if isinstance(value, dict) and "range" in value else (value, value)
    if not isinstance(low, int) or not isinstance(high, int):
        return None
    if low <= ours[0] and ours[1] <= high:
        return True
    is_single = low == high
    return False if is_single or high < ours[0] or low > ours[1] else None


def _address(test: Callable[[str], Answer], value: Json) -> Answer:
    if isinstance(value, dict) and "prefix" in value:
        return test(f"{value['prefix'].get('addr')}/{value['prefix'].get('len')}")
    if isinstance(value, dict) and "range" in value:
        return any_of(map(test, value["range"]))
    return test(value) if isinstance(value, str) else None


def _masked(parts: Json) -> Test | Answer:
    """Flags of TCP under a mask: the first packet has SYN alone."""
    if not isinstance(parts, list) or len(parts) != 2 or _field(parts[0]) != "flags":  # noqa: PLR2004
        return None
    ours = {"syn"} & _flags(parts[1])
    return lambda value: ours == _flags(value)


def _flags(value: Json) -> set[str]:
    if isinstance(value, dict):
        value = value.get("|", ())
    names = [value] if isinstance(value, str) else value if isinstance(value, list) else ()
    return {name for each in names for name in ([each] if isinstance(each, str) else _flags(each))}


def _fib(what: Mapping[str, Json]) -> Test | Answer:
    """A packet for a local address, from a source that is reached by the same interface."""
    is_source = "saddr" in what.get("flags", ())
    if what.get("result") == "type":
        return lambda value: value == ("unicast" if is_source else "local")
    if is_source and what.get("result") in ("oif", "oifname", "check"):
        return lambda value: value not in (False, 0, "missing")
    return None


def _looked_up(content: Json, scope: _Scope, packet: Packet) -> Sequence[Verdict]:
    """The verdicts of a verdict map; a key that is not in it goes on."""
    found: list[Verdict] = []
    for row in _pairs(content.get("data"), scope):
        if not isinstance(row, list) or len(row) != 2:  # noqa: PLR2004 - key and verdict
            return (("unknown", ""),)
        answer = _holds(content.get("key"), {"set": [row[0]]}, scope, packet)
        if answer is False:
            continue
        ((kind, value),) = row[1].items() if isinstance(row[1], dict) else ((row[1], None),)
        verdict = _verdict(kind, value) if kind in _VERDICTS else ("unknown", "")
        if answer:
            return (verdict,)
        found.append(verdict)
    return (*found, ("unknown" if found else "continue", ""))


def _pairs(data: Json, scope: _Scope) -> Iterator[Json]:
    if isinstance(data, str) and data.startswith("@"):
        data = scope.sets.get(data[1:], [None])
    if isinstance(data, dict):
        data = data.get("set", [None])
    yield from data if isinstance(data, list) else [None]
