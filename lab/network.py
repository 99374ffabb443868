"""The network of a lab: one bridge, one /24 of 10.77.0.0/16, one masquerade rule.

All names contain the number of the lab, so that a cleanup after a killed run finds its remains by
their names and touches no other run.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
from dataclasses import dataclass
from pathlib import Path

from lab.machine import LabError, run

PREFIX = "sdlab"
NUMBERS = range(1, 255)
FIRST_HOST = 11
LAST_HOST = 254

_FORWARD = "ip filter FORWARD"  # the chain of iptables, Docker and ufw
_RULES = """\
table ip {name} {{
    chain outward {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {subnet} ip daddr != {subnet} masquerade
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Network:
    """The network of lab `number`: 10.77.<number>.0/24, with this machine at .1."""

    number: int

    @property
    def name(self) -> str:
        """The name of the bridge and of the nftables table, and the prefix of all other names."""
        return f"{PREFIX}{self.number}"

    @property
    def subnet(self) -> ipaddress.IPv4Network:
        """The /24 of the lab."""
        return ipaddress.IPv4Network(f"10.77.{self.number}.0/24")

    @property
    def address(self) -> str:
        """The address of this machine on the bridge, which is the gateway of the hosts."""
        return str(self.subnet[1])

    def host_address(self, octet: int) -> str:
        """Return the address of the host with this last octet."""
        return str(self.subnet[octet])

    def namespace(self, host: str) -> str:
        """Return the name of the network namespace (`ip netns`) and machine of a host."""
        return f"{self.name}-{host}"

    def create(self) -> None:
        """Create the bridge, and allow its hosts to reach the Internet."""
        ip(
            f"link add {self.name} address {self.hardware_address(1)} type bridge",
            f"addr add {self.address}/24 dev {self.name}",
            f"link set {self.name} up",
        )
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1", "ascii")
        run("nft", "-f", "-", input_text=_RULES.format(name=self.name, subnet=self.subnet))
        self._pass_firewall()

    def attach(self, host: str, octet: int) -> None:
        """Create the network namespace of a host, with one interface on the bridge."""
        namespace, plug, mac = (
            self.namespace(host),
            f"{self.name}-{octet}",
            self.hardware_address(octet),
        )
        ip(f"netns add {namespace}")
        ip(
            f"link add {plug} type veth peer name eth0 address {mac} netns {namespace}",
            f"link set {plug} master {self.name} up",
        )
        ip(
            "link set lo up",
            f"addr add {self.host_address(octet)}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {self.address}",
            namespace=namespace,
        )

    def detach(self, host: str, octet: int) -> None:
        """Remove the interface and the namespace of a host, with all its connections."""
        if f"{self.name}-{octet}" in _links():
            ip(f"link del {self.name}-{octet}")
        self.forget(self.namespace(host))

    def forget(self, namespace: str) -> None:
        """Remove a namespace, if it exists, with its interfaces."""
        if namespace in _namespaces():
            ip(f"netns del {namespace}")

    def remove(self) -> None:
        """Remove everything of this network that exists."""
        for kind, names in (("netns", _namespaces()), ("link", _links())):
            for name in filter(self._is_ours, names):
                with contextlib.suppress(
                    LabError
                ):  # it may have disappeared meanwhile; see `exists`
                    ip(f"{kind} del {name}")
        for handle in self._firewall_handles():
            run("nft", f"delete rule {_FORWARD} handle {handle}")
        # `add` before `delete` makes this succeed without the table.
        run("nft", f"add table ip {self.name}; delete table ip {self.name}")

    def exists(self) -> bool:
        """Return whether a part of this network exists."""
        return any(map(self._is_ours, [*_links(), *_namespaces()]))

    def is_taken(self) -> bool:
        """Return whether this machine already has a route into this subnet."""
        routes = json.loads(run("ip", "-json", "-4", "route", "show", "table", "all"))
        return any(
            self.subnet.overlaps(ipaddress.IPv4Network(route["dst"], strict=False))
            for route in routes
            if route["dst"] != "default"
        )

    def hardware_address(self, octet: int) -> str:
        """Return the MAC address of the host with this last octet."""
        # A fixed MAC for each address, because neighbours cache it across restarts.
        return f"02:53:49:50:{self.number:02x}:{octet:02x}"

    def _is_ours(self, name: str) -> bool:
        return name == self.name or name.startswith(f"{self.name}-")

    def _pass_firewall(self) -> None:
        # Docker and ufw drop unknown packets, and a verdict in our own table does not overrule
        # theirs: the rule must be in their chain.
        if _forward_chain():
            for direction in ("iifname", "oifname"):
                run("nft", f'insert rule {_FORWARD} {direction} "{self.name}" counter accept')

    def _firewall_handles(self) -> list[str]:
        return re.findall(rf'(?m)name "{self.name}" .*# handle (\d+)$', _forward_chain())


def _forward_chain() -> str:
    try:
        return run("nft", "--handle", f"list chain {_FORWARD}")
    except LabError:  # the chain does not exist
        return ""


def ip(*commands: str, namespace: str | None = None) -> None:
    """Run commands of `ip -batch`, in a namespace or in that of the machine; LabError."""
    where = ["-netns", namespace] if namespace else []
    try:
        run("ip", *where, "-batch", "-", input_text="\n".join(commands) + "\n")
    except LabError as failure:
        raise LabError(f"{failure} (in: {'; '.join(commands)})") from None


def _links() -> list[str]:
    return [link["ifname"] for link in json.loads(run("ip", "-json", "link", "show"))]


def _namespaces() -> list[str]:
    # `ip netns list` queries every namespace, and fails if one disappears meanwhile.
    return sorted(path.name for path in Path("/run/netns").glob("*"))
