"""What the kernel's packet filters do with a packet to this host, by their rules. Pure.

`nft.py` and `iptables.py` read the rules of the tools that write them; this module walks a packet
through them. A rule that it does not understand may match or not: then the answer is that it
cannot say, and never a guess.
"""

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal[
    "accept", "drop", "reject", "elsewhere", "return", "continue", "jump", "goto", "unknown"
]
Protocol = Literal["tcp", "udp"]
Answer = bool | None  # None: cannot say
IN = ("ingress", "prerouting", "input")
OUT = ("output", "postrouting", "egress")
EPHEMERAL = range(1024, 65536)  # from which a phone connects
_DEEPEST = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """The first packet of a phone to a port of the host.

    It comes from anywhere, not from an address that a rule names, unless `is_listed`. Phones of a
    host with a private `address` are in the same private network. `is_flood`: rules that accept
    only some packets in a time have accepted these already. `is_answer`: it is not that packet but
    one that the host sends back, from the port.
    """

    protocol: Protocol
    port: int
    address: str
    interface: str | None = None
    is_listed: bool = False
    is_flood: bool = False
    is_answer: bool = False

    @property
    def is_ipv6(self) -> bool:
        """Whether it is an IPv6 packet."""
        return ":" in self.address

    def comes_from(self, network: str) -> Answer:
        """Whether its source is in a network, which is written as an address or a prefix."""
        return self._is_of_host(network) if self.is_answer else self._is_of_phone(network)

    def goes_to(self, network: str) -> Answer:
        """Whether its destination is in a network."""
        return self._is_of_phone(network) if self.is_answer else self._is_of_host(network)

    def _is_of_phone(self, network: str) -> Answer:
        parsed = _network(network)
        if parsed is None:
            return None
        if parsed.version != (6 if self.is_ipv6 else 4):
            return False
        own = ipaddress.ip_address(self.address)
        is_near = own.is_private and parsed.num_addresses > 1 and own in parsed
        return parsed.prefixlen == 0 or self.is_listed or is_near

    def _is_of_host(self, network: str) -> Answer:
        parsed = _network(network)
        return None if parsed is None else ipaddress.ip_address(self.address) in parsed

    def enters(self, pattern: str) -> Answer:
        """Whether it comes in by an interface; a pattern may end in `*`."""
        return False if self.is_answer else self._passes(pattern)

    def leaves(self, pattern: str) -> Answer:
        """Whether it goes out by an interface."""
        return self._passes(pattern) if self.is_answer else False

    @property
    def state(self) -> str:
        """Its state for the tracking of connections."""
        return "established" if self.is_answer else "new"

    def _passes(self, pattern: str) -> Answer:
        if self.interface is None:
            return False if pattern == "lo" else None
        if pattern.endswith("*"):
            return self.interface.startswith(pattern[:-1])
        return self.interface == pattern


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


Match = Callable[[Packet], Answer]
Verdict = tuple[Kind, str]  # the string names the chain of a jump


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rule:
    """A rule: it applies if everything matches. `place` is its number or handle in the chain."""

    matches: tuple[Match, ...] = ()
    verdicts: Callable[[Packet], Sequence[Verdict]]
    text: str = ""
    place: int = 0

    def applies(self, packet: Packet) -> Answer:
        """Whether the rule applies to a packet."""
        answers = {match(packet) for match in self.matches}
        return False if False in answers else None if None in answers else True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chain:
    """A chain; only a base chain has a hook and a policy. `device` limits it to an interface."""

    name: str
    rules: tuple[Rule, ...] = ()
    hook: str = ""
    policy: str = "accept"
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """A table of one tool: `nft`, or the name of a command such as `iptables-legacy`."""

    tool: str
    family: str  # inet, ip, ip6 or netdev
    name: str
    chains: Mapping[str, Chain]

    def sees(self, packet: Packet) -> bool:
        """Whether packets of this kind pass through the table."""
        return self.family in ("inet", "netdev", "ip6" if packet.is_ipv6 else "ip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A rule that decides, or the policy of its chain if `rule` is None."""

    table: Table
    chain: Chain
    rule: Rule | None
    kind: Kind


End = Cause | Literal["end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What happens to a packet: `closed` names who ends it, `doubts` whom sipdeploy cannot read.

    With doubts, the packet may pass all the same.
    """

    closed: tuple[Cause, ...] = ()
    doubts: tuple[Cause, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether the packet passes for sure."""
        return not self.closed and not self.doubts


def decide(tables: Iterable[Table], packet: Packet) -> Decision:
    """Walk a packet through all base chains; it must pass each of them."""
    closed: list[Cause] = []
    doubts: list[Cause] = []
    for table in tables:
        for chain in table.chains.values() if table.sees(packet) else ():
            if chain.hook not in (OUT if packet.is_answer else IN):
                continue
            if chain.devices and not any(
                packet.enters(device) or packet.leaves(device) for device in chain.devices
            ):
                continue
            walk = _Walk(table=table, packet=packet)
            ends = [*walk.through(chain)]
            bad = [end for end in ends if end is not None]
            if bad and None not in ends:
                closed.append(bad[0])
            elif bad:
                doubts += walk.doubts
    return Decision(closed=tuple(closed), doubts=() if closed else tuple(doubts))


@dataclass(slots=True, kw_only=True)
class _Walk:
    """The way of a packet through one base chain. An end is a Cause, or None for accept."""

    table: Table
    packet: Packet
    doubts: list[Cause] = field(default_factory=list)
    known: dict[str, tuple[End | None, ...]] = field(default_factory=dict)

    def through(self, chain: Chain) -> Iterator[Cause | None]:
        """All ends that the packet may come to."""
        for end in self._ends(chain.name, 0):
            if end != "end":
                yield end
            elif chain.policy == "accept":
                yield None
            else:
                yield Cause(table=self.table, chain=chain, rule=None, kind="drop")

    def _ends(self, name: str, depth: int) -> tuple[End | None, ...]:
        """The ends in a chain; `end` goes on after the rule that jumped there."""
        chain = self.table.chains.get(name)
        if chain is None or depth > _DEEPEST:
            return ("end",)
        if name not in self.known:
            self.known[name] = tuple(dict.fromkeys(self._walk(chain, depth)))
        return self.known[name]

    def _walk(self, chain: Chain, depth: int) -> Iterator[End | None]:
        for rule in chain.rules:
            answer = rule.applies(self.packet)
            if answer is False:
                continue
            goes_on = False
            for kind, target in rule.verdicts(self.packet):
                cause = Cause(table=self.table, chain=chain, rule=rule, kind=kind)
                ends, is_passed = self._follow(cause, target, depth)
                goes_on |= is_passed
                yield from ends
                if kind == "unknown" or (answer is None and kind != "continue"):
                    self.doubts.append(replace(cause, kind="unknown"))
            if answer and not goes_on:
                return
        yield "end"

    def _follow(
        self, cause: Cause, target: str, depth: int
    ) -> tuple[tuple[End | None, ...], bool]:
        """The ends of a verdict, and whether the packet may come to the next rule."""
        if cause.kind == "goto":
            return self._ends(target, depth + 1), False
        if cause.kind == "jump":
            ends = self._ends(target, depth + 1)
            return tuple(end for end in ends if end != "end"), "end" in ends
        direct: Mapping[Kind, tuple[End | None, ...]] = {
            "accept": (None,),
            "return": ("end",),
            "unknown": (None, cause),
            "continue": (),
        }
        return direct.get(cause.kind, (cause,)), cause.kind in ("unknown", "continue")


def always(kind: Kind, target: str = "") -> Callable[[Packet], Sequence[Verdict]]:
    """The verdict of a rule that has only one."""
    return lambda _: ((kind, target),)


def negated(match: Match) -> Match:
    """The opposite of a match."""

    def opposite(packet: Packet) -> Answer:
        answer = match(packet)
        return None if answer is None else not answer

    return opposite


def any_of(answers: Iterable[Answer]) -> Answer:
    """Whether one of them holds."""
    known = set(answers)
    return True if True in known else None if None in known else False
