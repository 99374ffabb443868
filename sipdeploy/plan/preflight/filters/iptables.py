"""Reads the output of iptables-save: of iptables on nftables, and of the older one."""

import re
import shlex
from collections.abc import Callable, Iterator, Sequence

from sipdeploy.plan.preflight.filters import (
    EPHEMERAL,
    Answer,
    Chain,
    Kind,
    Match,
    Packet,
    Rule,
    Table,
    always,
    any_of,
    negated,
)

_HOOKS = {
    "PREROUTING": "prerouting",
    "INPUT": "input",
    "OUTPUT": "output",
    "POSTROUTING": "postrouting",
}
_TARGETS: dict[str, Kind] = {
    "ACCEPT": "accept",
    "DROP": "drop",
    "TARPIT": "drop",
    "STEAL": "drop",
    "REJECT": "reject",
    "DNAT": "elsewhere",
    "REDIRECT": "elsewhere",
    "TPROXY": "elsewhere",
    "NETMAP": "elsewhere",
    "RETURN": "return",
    "QUEUE": "unknown",
    "NFQUEUE": "unknown",
    "SYNPROXY": "unknown",
}
_OPTION = re.compile(r"--?[a-z]")
_PORTS = re.compile(r"[\d:,]+")


def tables(tool: str, text: str) -> Iterator[Table]:
    """The tables in the output of `TOOL-save`; `tool` begins with iptables or ip6tables."""
    family = "ip6" if tool.startswith("ip6") else "ip"
    for part in re.split(r"^\*", text, flags=re.MULTILINE)[1:]:
        name, _, body = part.partition("\n")
        policies = dict(re.findall(r"^:(\S+) (\S+)", body, re.MULTILINE))
        rules: dict[str, list[Rule]] = {chain: [] for chain in policies}
        for line in re.findall(r"^-A (.+)$", body, re.MULTILINE):
            chain, _, rest = line.partition(" ")
            rules.setdefault(chain, []).append(_rule(rest, len(rules.get(chain, ())) + 1, rules))
        yield Table(
            tool=tool,
            family=family,
            name=name.strip(),
            chains={
                chain: Chain(
                    name=chain,
                    rules=tuple(rows),
                    hook=_HOOKS.get(chain, ""),
                    policy="drop" if policies.get(chain) == "DROP" else "accept",
                )
                for chain, rows in rules.items()
            },
        )


def ports(text: str) -> set[int]:
    """The ports at which a rule for ports may begin or end."""
    options = re.findall(
        r"--(?:[ds]port|[ds]ports|ports|(?:destination|source)-ports?) (\S+)", text
    )
    return {int(number) for each in options for number in re.findall(r"\d+", each)}


def _rule(text: str, place: int, chains: "dict[str, list[Rule]]") -> Rule:
    try:
        words = shlex.split(text)
    except ValueError:
        return Rule(verdicts=always("unknown"), text=text, place=place)
    matches: list[Match] = []
    kind: Kind = "continue"
    target = ""
    for option, values, is_negated in _options(words):
        if option in ("-j", "-g"):
            target = values[0] if values else ""
            is_chain = target in chains
            kind = ("jump" if option == "-j" else "goto") if is_chain else _kind(target)
            break  # what follows are options of the target
        match = _match(option, values)
        if match is not None:
            matches.append(negated(match) if is_negated else match)
    return Rule(matches=tuple(matches), verdicts=always(kind, target), text=text, place=place)


def _kind(target: str) -> Kind:
    # LOG, MARK, CT and the like change nothing about where a packet goes
    return _TARGETS.get(target, "continue")


def _options(words: Sequence[str]) -> Iterator[tuple[str, list[str], bool]]:
    """Option, values and whether `!` is before it."""
    at = 0
    while at < len(words):
        is_negated = words[at] == "!"
        at += is_negated
        if at >= len(words):
            return
        option, at = words[at], at + 1
        values = []
        while at < len(words) and words[at] != "!" and not _OPTION.match(words[at]):
            values.append(words[at])
            at += 1
        yield option, values, is_negated


def _match(option: str, values: Sequence[str]) -> Match | None:
    """The match of an option; None for one that only loads a module or comments."""
    if option in _IGNORED:
        return None
    make = _MATCHES.get(option)
    if make is None or not values:
        return _SWITCHES.get(option, _unknown)
    return make(*values)


def _unknown(packet: Packet) -> Answer:
    del packet
    return None


def _protocol(name: str, *_: str) -> Match:
    numbers = {"6": "tcp", "17": "udp"}
    return lambda packet: numbers.get(name, name) in (packet.protocol, "all", "0")


def _source(networks: str, *_: str) -> Match:
    return lambda packet: any_of(packet.comes_from(each) for each in networks.split(","))


def _destination(networks: str, *_: str) -> Match:
    return lambda packet: any_of(packet.goes_to(each) for each in networks.split(","))


def _interface(name: str, *_: str) -> Match:
    return lambda packet: packet.enters(re.sub(r"\+\Z", "*", name))


def _way_out(name: str, *_: str) -> Match:
    return lambda packet: packet.leaves(re.sub(r"\+\Z", "*", name))


def _has_port(listing: str, port: int) -> bool:
    for each in listing.split(","):
        low, mark, high = each.partition(":")
        if int(low or 0) <= port <= int(high or 65535 if mark else low):
            return True
    return False


def _to_ports(listing: str, *_: str) -> Match:
    return lambda packet: _of_phone(listing) if packet.is_answer else _of_host(listing, packet)


def _from_ports(listing: str, *_: str) -> Match:
    return lambda packet: _of_host(listing, packet) if packet.is_answer else _of_phone(listing)


def _any_ports(listing: str, *_: str) -> Match:
    return lambda packet: _of_host(listing, packet)


def _of_host(listing: str, packet: Packet) -> Answer:
    return _has_port(listing, packet.port) if _PORTS.fullmatch(listing) else None


def _of_phone(listing: str) -> Answer:
    """A phone's own port is any of EPHEMERAL."""
    if not _PORTS.fullmatch(listing):
        return None
    ends = {_has_port(listing, port) for port in (EPHEMERAL[0], 32768, 50000, EPHEMERAL[-1])}
    return None if len(ends) > 1 else ends.pop()


def _state(states: str, *_: str) -> Match:
    return lambda packet: packet.state.upper() in states.split(",")


def _flags(mask: str, wanted: str, *_: str) -> Match:
    """The first packet of a connection has the flag SYN alone."""
    covered = mask == "ALL" or "SYN" in mask.split(",")
    flags = {"SYN"} if covered else set()
    names = set() if wanted == "NONE" else set(wanted.split(","))
    return lambda _: flags == names


def _limit(*_: str) -> Match:
    return lambda packet: not packet.is_flood


def _never(*_: str) -> Match:
    return lambda _: False


def _set(name: str, direction: str = "", *_: str) -> Match:
    if direction.split(",") == ["src"]:
        return lambda packet: packet.is_listed
    return lambda packet: None if name else packet.is_listed


def _kind_of_address(kind: str, *_: str) -> Match:
    return lambda _: "LOCAL" in kind.split(",")


def _kind_of_packet(kind: str, *_: str) -> Match:
    return lambda _: kind in ("unicast", "host")


def _mark(value: str, *_: str) -> Match:
    number = value.partition("/")[0]
    return lambda _: int(number, 0) == 0 if re.fullmatch(r"0x[0-9a-f]+|\d+", number) else None


def _is_listed(*_: str) -> Match:
    return lambda packet: packet.is_listed


# Options after which a rule matches no packet of a phone that behaves: it is over no limit, and
# contains no text of a scanner.
_NEVER = (
    *("--connlimit-above", "--hashlimit-above", "--icmp-type", "--icmpv6-type", "--string"),
    *("--hex-string", "--hitcount"),
)
_MATCHES: dict[str, Callable[..., Match]] = {
    "-p": _protocol,
    "-s": _source,
    "-d": _destination,
    "-i": _interface,
    "-o": _way_out,
    "--dport": _to_ports,
    "--dports": _to_ports,
    "--ports": _any_ports,
    "--sport": _from_ports,
    "--sports": _from_ports,
    "--state": _state,
    "--ctstate": _state,
    "--ctstatus": _never,
    "--tcp-flags": _flags,
    "--limit": _limit,
    "--hashlimit-upto": _limit,
    "--connlimit-upto": _limit,
    "--match-set": _set,
    "--mark": _mark,
    "--dst-type": _kind_of_address,
    "--pkt-type": _kind_of_packet,
    "--src-range": _is_listed,
    "--mac-source": _is_listed,
    **dict.fromkeys(_NEVER, _never),
}
# Options without a value.
_SWITCHES: dict[str, Match] = {
    "--syn": lambda packet: packet.protocol == "tcp",
    "--set": lambda _: True,  # of the module recent, which only notes the address
    "--rcheck": _is_listed(),
    "--update": _is_listed(),
    "--rttl": lambda _: True,
}
_IGNORED = (
    *("-m", "--comment", "--limit-burst", "--hashlimit-burst", "--hashlimit-mode", "--algo"),
    *("--hashlimit-name", "--hashlimit-htable-expire", "--hashlimit-htable-size", "--to"),
    *("--hashlimit-htable-max", "--hashlimit-htable-gcinterval", "--hashlimit-srcmask"),
    *("--hashlimit-dstmask", "--connlimit-mask", "--connlimit-saddr", "--connlimit-daddr"),
    *("--name", "--mask", "--rsource", "--rdest", "--seconds", "--from", "--icase", "--reap"),
)
