"""Checks whether the packet filters of a host let phones, media and the ACME server in. Pure.

Any tool may have written the rules: the answer is what the kernel does with a packet to each port.
What filters outside the host do (a provider's firewall) cannot be seen from here.
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sipdeploy.diagnostics import Diagnostic, Severity
from sipdeploy.facts import Facts
from sipdeploy.inventory.site import HostEntry, Site, Turn
from sipdeploy.plan.preflight.filters import (
    Cause,
    Chain,
    Packet,
    Protocol,
    Rule,
    Table,
    always,
    decide,
    iptables,
    nft,
)
from sipdeploy.services import acme, firewall

CHALLENGE = "tcp dport @challenge"  # of sipdeploy's own table, after the rules for phones
OUR_TABLE = ("inet", "sipdeploy")
RATE = "relay_rate"  # its chain that limits the relay to the rate of the inventory
UFW_CHAINS = ("ufw-user-input", "ufw6-user-input")  # to their end ufw adds rules
_MOST_PARTS = 64  # of the range for media; enough for any rules that people write


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """Ports that must be reached from outside, and by whom.

    `is_answer`: it is about what the host sends from there.
    """

    protocol: Protocol
    first: int
    last: int
    who: str
    code: str = "SD518"
    is_answer: bool = False

    def shown(self, mark: str = "-") -> str:
        """The ports as tools write them: `8443`, or `10000-20000` with their mark."""
        return f"{self.first}{mark}{self.last}" if self.last > self.first else f"{self.first}"

    @property
    def end(self) -> str:
        """The end of a packet that has these ports, as tools name it."""
        return "sport" if self.is_answer else "dport"

    def __str__(self) -> str:
        """`TCP port 8443 (phones)`."""
        plural = "s" if self.last > self.first else ""
        return f"{self.protocol.upper()} port{plural} {self.shown()} ({self.who})"


def problems(site: Site, name: str, facts: Facts) -> Iterator[Diagnostic]:
    """SD518 and SD614 for each rule that closes a port, and for rules that cannot be read."""
    try:
        yield from [*_closed_ports(site, name, facts)]
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        # cut off because there are very many, or in a form that no known version writes
        yield Diagnostic(
            "SD518",
            f"sipdeploy cannot read the firewall rules of `{name}`, so it does not know whether "
            "they let phones in",
            severity="note",
            help=f"on `{name}`: `nft list ruleset` shows them",
        )


def rule_against(host: HostEntry, facts: Facts, aim: Aim) -> tuple[str, str] | None:
    """The rule that closes ports at this moment to everybody, and the command that opens them.

    None if there is none, or if the rules cannot be read.
    """
    try:
        packet = packet_to(aim.protocol, aim.first, _local(host), facts)
        packet = replace(packet, is_answer=aim.is_answer)
        found = [*_findings(_tables(facts), packet, aim, _edges(facts))]
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return None
    closed = [each.cause for each in found if each.kind in ("closed", "listed")]
    if not closed:
        return None
    cause = closed[0]
    if (cause.table.family, cause.table.name) == OUR_TABLE:
        fix = "`systemctl restart sipdeploy-firewall` loads the rules of the last apply again"
        return _shown(cause), f"{fix}; your own rules are in /etc/sipdeploy/local.nft"
    return _shown(cause), _remedy(cause, [aim])


def _closed_ports(site: Site, name: str, facts: Facts) -> Iterator[Diagnostic]:
    host = site.hosts[name]
    tables = read_tables(site, facts, host)
    edges = _edges(facts)
    for address in _addresses(host, facts):
        aims = [*_aims(site, is_main=address == _local(host))]
        found: dict[tuple[str, _Finding], list[Aim]] = {}
        for aim in aims:
            packet = packet_to(aim.protocol, aim.first, address, facts)
            for finding in _findings(tables, packet, aim, edges):
                found.setdefault((aim.code, finding), []).append(aim)
        for (code, finding), closed in found.items():
            is_main = address == _local(host)
            is_near = facts.lineage is None or bool(facts.records)
            yield Diagnostic(
                code,
                _message(name, finding, closed, is_main=is_main),
                severity=_severity(code, finding, is_main=is_main, is_near=is_near),
                help=f"on `{name}`: {_remedy(finding.cause, closed)}",
            )


def _severity(code: str, finding: "_Finding", *, is_main: bool, is_near: bool) -> Severity:
    """A request to the ACME server that must fail is an error: failed attempts are limited.

    Phones may come in by a way that sipdeploy does not know, such as a proxy on the host.
    """
    if not is_main or finding.kind == "doubtful":
        return "note"
    return "error" if code == "SD614" and finding.kind == "closed" and is_near else "warning"


def _aims(site: Site, *, is_main: bool) -> Iterator[Aim]:
    ports = site.ports
    yield Aim(protocol="tcp", first=ports.wss, last=ports.wss, who="phones")
    if is_main and site.services:
        rtp = ports.rtp
        yield Aim(protocol="udp", first=rtp.start, last=rtp.end, who="media of services")
    if is_main and (turn := site.turn):
        yield from _relay_aims(turn)
    if is_main and site.phone:
        port = site.phone.port
        yield Aim(protocol="tcp", first=port, last=port, who="the web phone")
    order = acme.order(site)
    if order is not None and order.challenge == "http-01":
        yield Aim(protocol="tcp", first=80, last=80, who="the ACME server", code="SD614")


def _relay_aims(turn: Turn) -> Iterator[Aim]:
    yield Aim(protocol="udp", first=turn.port, last=turn.port, who="the relay")
    for port in (turn.port, turn.tls):
        yield Aim(protocol="tcp", first=port, last=port, who="the relay")
    relay = turn.relay
    yield Aim(protocol="udp", first=relay.start, last=relay.end, who="relayed media")


def _local(host: HostEntry) -> str:
    return host.private_address or host.media_address


def _addresses(host: HostEntry, facts: Facts) -> Iterator[str]:
    """The address that phones use, and one of the other IP version if the host has it."""
    local = _local(host)
    yield local
    is_ipv6 = ":" in local
    others = (each for each in facts.addresses if (":" in each) != is_ipv6)
    public = (each for each in others if ipaddress.ip_address(each).is_global)
    yield from [*public][:1]


def packet_to(protocol: Protocol, port: int, address: str, facts: Facts) -> Packet:
    """The first packet of a phone to a port at an address of the host."""
    interface = facts.interfaces.get(address)
    return Packet(protocol=protocol, port=port, address=address, interface=interface)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finding:
    """A rule, and what it does to a port.

    closed: it lets nobody in; listed: only addresses that rules name; limited: only some packets
    in a time; doubtful: it may close the port, and sipdeploy does not understand it.
    """

    cause: Cause
    kind: Literal["closed", "listed", "limited", "doubtful"]


def _findings(
    tables: Sequence[Table], packet: Packet, aim: Aim, edges: Iterable[int]
) -> Iterator[_Finding]:
    """Each finding once. Between two edges all ports have the same answer."""
    starts = {aim.first, *(edge for edge in edges if aim.first < edge <= aim.last)}
    found: dict[Cause, _Finding] = {}
    for port in sorted(starts)[:_MOST_PARTS]:
        at = replace(packet, port=port)
        calm = decide(tables, at)
        is_listed = calm.closed and decide(tables, replace(at, is_listed=True)).is_open
        for cause in calm.closed:
            found[cause] = _Finding(cause=cause, kind="listed" if is_listed else "closed")
        for cause in calm.doubts:
            found.setdefault(cause, _Finding(cause=cause, kind="doubtful"))
        flood = decide(tables, replace(at, is_flood=True)) if calm.is_open else calm
        for cause in flood.closed:
            found.setdefault(cause, _Finding(cause=cause, kind="limited"))
    yield from found.values()


# Reading the rules.


def read_tables(site: Site, facts: Facts, host: HostEntry) -> list[Table]:
    """The tables of all tools, as they will be after an apply; raises as `nft.tables`."""
    wanted = firewall.firewall_of(
        site, is_ufw_active=facts.is_ufw_active, ssh_ports=(), entry_port=host.port
    )
    return [_after_apply(table, is_ufw=wanted.kind == "ufw") for table in _tables(facts)]


def _tables(facts: Facts) -> list[Table]:
    """The tables of all tools as they are; raises as `nft.tables`."""
    classic = [
        table for tool, text in facts.iptables.items() for table in iptables.tables(tool, text)
    ]
    # iptables on nftables writes tables of nft, with expressions that only itself can show
    shown = {(t.family, t.name) for t in classic if not t.tool.endswith("-legacy")}
    native = (t for t in nft.tables(facts.nftables) if (t.family, t.name) not in shown)
    return [*classic, *native]


def _after_apply(table: Table, *, is_ufw: bool) -> Table:
    """The table with the rules that an apply adds, to the chains of ufw or to sipdeploy's own."""
    accept = Rule(verdicts=always("accept"))
    chains = dict(table.chains)
    if (table.family, table.name) == OUR_TABLE and "input" in chains:
        texts = [rule.text for rule in chains["input"].rules]
        # before them, and before those for phones and media, are the rules of local.nft
        at = texts.index(CHALLENGE) - 2 if CHALLENGE in texts else len(texts)
        rules = (*chains["input"].rules[: max(at, 0)], accept)
        chains["input"] = replace(chains["input"], rules=rules)
        chains.pop(RATE, None)
    for name in UFW_CHAINS if is_ufw else ():
        if name in chains:
            chains[name] = replace(chains[name], rules=(*chains[name].rules, accept))
    return replace(table, chains=chains)


def _edges(facts: Facts) -> set[int]:
    """Ports at which the answer may change: where a range begins, or just after its end."""
    numbers = nft.ports(facts.nftables)
    for text in facts.iptables.values():
        numbers |= iptables.ports(text)
    return numbers | {number + 1 for number in numbers}


# What to say, and what to type.


def _message(name: str, finding: _Finding, aims: Sequence[Aim], *, is_main: bool) -> str:
    what = " and ".join(map(str, aims))
    verb = {
        "closed": f"closes {what}",
        "listed": f"lets only some addresses in to {what}",
        "limited": f"lets only a limited number of packets in to {what}",
        "doubtful": f"may close {what}, which sipdeploy cannot tell",
    }[finding.kind]
    end = "" if is_main else "; it matters if the domain has an address of this IP version too"
    return f"the firewall of `{name}` {verb}: {_shown(finding.cause)}{end}"


def _shown(cause: Cause) -> str:
    """`rule 7 of the chain `INPUT` of iptables, `-j REJECT``."""
    table, chain, rule = cause.table, cause.chain, cause.rule
    if table.tool == "nft":
        where = f"the chain `{table.family} {table.name} {chain.name}`"
        place = "the rule with the handle {}"
    else:
        where = f"the chain `{chain.name}` of {table.tool}"
        where += "" if table.name == "filter" else f" (table {table.name})"
        place = "rule {}"
    if rule is None:
        return f"the policy `{chain.policy}` of {where}"
    return f"{place.format(rule.place)} of {where}" + (f", `{rule.text}`" if rule.text else "")


def _remedy(cause: Cause, aims: Sequence[Aim]) -> str:
    """The command that opens the ports, for the tool that has closed them."""
    table, chain, rule = cause.table, cause.chain, cause.rule
    if cause.kind == "elsewhere" and rule is not None:
        return f"`{_deletion(table, chain, rule)}` deletes the rule; or choose another port"
    if chain.name.startswith("ufw") and any(aim.is_answer for aim in aims):
        return _typed(
            f"ufw allow out proto {a.protocol} from any port {a.shown(':')}" for a in aims
        )
    if chain.name.startswith("ufw"):
        verb = "ufw insert 1 allow" if chain.name in UFW_CHAINS else "ufw allow"
        return _typed(f"{verb} {a.shown(':')}/{a.protocol}" for a in aims)
    if table.name == "firewalld" or re.match(r"IN_|INPUT_ZONES", chain.name):
        return f"`{_firewalld(chain, aims)}`"
    if table.tool == "nft":
        rules = [f"{a.protocol} {a.end} {a.shown()} accept" for a in aims]
        verb = f"add rule {table.family} {table.name} {chain.name}"
        if rule is not None:
            verb = f"insert rule {table.family} {table.name} {chain.name} handle {rule.place}"
        return (
            f"{_typed(f'nft {verb} {each}' for each in rules)}; to keep it, write "
            f"`{'; '.join(rules)}` into the file of that chain (/etc/nftables.conf on Debian)"
        )
    option = "" if table.name == "filter" else f"-t {table.name} "
    where = f"-A {chain.name}" if rule is None else f"-I {chain.name} {rule.place}"
    commands = (
        f"{table.tool} {option}{where} -p {a.protocol} --{a.end} {a.shown(':')} -j ACCEPT"
        for a in aims
    )
    return f"{_typed(commands)}; `netfilter-persistent save` keeps it, if that is installed"


def _typed(commands: Iterable[str]) -> str:
    return f"`{' && '.join(commands)}`"


def _deletion(table: Table, chain: Chain, rule: Rule) -> str:
    if table.tool == "nft":
        return f"nft delete rule {table.family} {table.name} {chain.name} handle {rule.place}"
    return f"{table.tool} -t {table.name} -D {chain.name} {rule.place}"


def _firewalld(chain: Chain, aims: Sequence[Aim]) -> str:
    zone = re.match(
        r"(?:filter_)?IN_(\w+?)(?:_(?:to_HOST|pre|log|deny|allow|post))?\Z", chain.name
    )
    chosen = f" --zone={zone[1]}" if zone else ""
    added = " ".join(f"--add-port={a.shown()}/{a.protocol}" for a in aims)
    return f"firewall-cmd --permanent{chosen} {added} && firewall-cmd --reload"
