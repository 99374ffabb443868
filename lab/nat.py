"""Clients behind NAT: network namespaces in which a browser sees what a phone at home sees.

A client is in a namespace with a private address. Its router is another namespace, with one
interface on the bridge of the lab and the rules of its kind:

- open: no NAT; the client has a public address itself.
- cone: Linux keeps the port of a client where it can, so the mapping is independent of the
  destination (RFC 4787, section 4.1); the filter lets only contacted addresses and ports in. Most
  routers at home are of this kind.
- symmetric: `masquerade fully-random` takes another port for each destination, so an address that
  STUN finds is of no use to anybody else. Mobile networks and offices are of this kind.
- no-udp: as cone, and UDP passes in neither direction.
- web: as cone, and only TCP to the ports of `web_ports` passes.

The addresses outside are in 11.77.N.0/24, because a relay denies private ones. Nothing here leaves
the machine. The end of a lab removes the namespaces by their names, also after a kill.
"""

from __future__ import annotations

import contextlib
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lab.machine import LabError, run
from lab.network import ip

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lab.network import Network

Kind = Literal["open", "cone", "symmetric", "no-udp", "web"]
KINDS: Sequence[Kind] = ("open", "cone", "symmetric", "no-udp", "web")

INSIDE, ROUTER = "192.168.77.2", "192.168.77.1"
_RULES = """\
table ip nat {{
    chain out {{
        type nat hook postrouting priority srcnat; policy accept;
        oifname outside masquerade {random}
    }}
}}
table ip filter {{
    chain input {{
        # an unexpected packet must not take the port of a mapping
        type filter hook input priority filter; policy accept;
        iifname outside ct state new drop
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        ct state established,related accept
        iifname outside drop
        {only}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Client:
    """A namespace in which a phone runs."""

    kind: Kind
    namespace: str

    def command(self, program: str, folder: Path) -> Path:
        """A program that runs another one in the namespace."""
        path = folder / f"in-{self.namespace}"
        path.write_text(f'#!/bin/sh\nexec ip netns exec {self.namespace} {program} "$@"\n')
        path.chmod(0o755)
        return path


def public(network: Network) -> ipaddress.IPv4Network:
    """The addresses that count as public in a lab."""
    return ipaddress.IPv4Network(f"11.77.{network.number}.0/24")


def public_address(network: Network, octet: int) -> str:
    """The public address with this last octet."""
    return str(public(network)[octet])


@contextlib.contextmanager
def clients(
    network: Network, kinds: Sequence[Kind], *, web_ports: Sequence[int] = (443, 8443)
) -> Iterator[list[Client]]:
    """A client of each of these kinds, until the end of the block."""
    with contextlib.ExitStack() as opened:
        opened.callback(_public_end, network)
        ip(f"addr add {public_address(network, 1)}/24 dev {network.name}")
        made = []
        for number, kind in enumerate(kinds):
            opened.callback(_remove, network, number)
            made.append(_create(network, number, kind, web_ports))
        yield made


def _names(network: Network, number: int) -> tuple[str, str, str]:
    return (f"{network.name}-c{number}", f"{network.name}-r{number}", f"{network.name}-n{number}")


def _create(network: Network, number: int, kind: Kind, web_ports: Sequence[int]) -> Client:
    inside, router, plug = _names(network, number)
    edge = inside if kind == "open" else router
    ip(f"netns add {inside}", *((f"netns add {router}",) if edge == router else ()))
    ip(
        f"link add {plug} type veth peer name outside netns {edge}",
        f"link set {plug} master {network.name} up",
    )
    ip(
        "link set lo up",
        f"addr add {public_address(network, 100 + number)}/24 dev outside",
        "link set outside up",
        f"route add default via {public_address(network, 1)}",
        namespace=edge,
    )
    if edge == router:
        _join(inside, router)
        random = "fully-random" if kind == "symmetric" else ""
        ports = ", ".join(map(str, web_ports))
        only = {
            "no-udp": "meta l4proto udp drop",
            "web": f"meta l4proto != tcp drop; tcp dport != {{ {ports} }} drop",
        }.get(kind, "")
        run("ip", "netns", "exec", router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        rules = _RULES.format(random=random, only=only)
        run("ip", "netns", "exec", router, "nft", "-f", "-", input_text=rules)
    return Client(kind, inside)


def _join(inside: str, router: str) -> None:
    ip(f"link add inside type veth peer name eth0 netns {inside}", namespace=router)
    ip(f"addr add {ROUTER}/24 dev inside", "link set inside up", namespace=router)
    ip(
        "link set lo up",
        f"addr add {INSIDE}/24 dev eth0",
        "link set eth0 up",
        f"route add default via {ROUTER}",
        namespace=inside,
    )


def _public_end(network: Network) -> None:
    with contextlib.suppress(LabError):  # without its bridge there is no address
        ip(f"addr del {public_address(network, 1)}/24 dev {network.name}")


def _remove(network: Network, number: int) -> None:
    """Remove the namespaces, and with them their interfaces."""
    inside, router, _ = _names(network, number)
    for name in (inside, router):
        network.forget(name)
