"""A lab's own network: one bridge, one /24 of 10.77.0.0/16, one masquerade rule.

Every name is made from the lab's number, so that whatever a killed run has left is found and
removed by its name alone, and nothing of another run ever is.
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

_FORWARD = "ip filter FORWARD"  # what iptables, and so Docker and ufw, calls its own
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
    """The network of lab `number`: 10.77.<number>.0/24, with the machine itself at .1."""

    number: int

    @property
    def name(self) -> str:
        """The bridge, the nftables table and the beginning of every other name of this lab."""
        return f"{PREFIX}{self.number}"

    @property
    def subnet(self) -> ipaddress.IPv4Network:
        """The lab's own /24."""
        return ipaddress.IPv4Network(f"10.77.{self.number}.0/24")

    @property
    def address(self) -> str:
        """The machine's own address on the bridge, which is the hosts' gateway."""
        return str(self.subnet[1])

    def host_address(self, octet: int) -> str:
        """Return the address of the host with this last octet."""
        return str(self.subnet[octet])

    def namespace(self, host: str) -> str:
        """Return the name of a host's network namespace (`ip netns`), also its machine name."""
        return f"{self.name}-{host}"

    def create(self) -> None:
        """Make the bridge and let its hosts out."""
        _ip(
            f"link add {self.name} address {self.hardware_address(1)} type bridge",
            f"addr add {self.address}/24 dev {self.name}",
            f"link set {self.name} up",
        )
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1", "ascii")
        run("nft", "-f", "-", input_text=_RULES.format(name=self.name, subnet=self.subnet))
        self._pass_firewall()

    def attach(self, host: str, octet: int) -> None:
        """Give a host a network namespace with one interface, plugged into the bridge."""
        namespace, plug, mac = (
            self.namespace(host),
            f"{self.name}-{octet}",
            self.hardware_address(octet),
        )
        _ip(f"netns add {namespace}")
        _ip(
            f"link add {plug} type veth peer name eth0 address {mac} netns {namespace}",
            f"link set {plug} master {self.name} up",
        )
        _ip(
            "link set lo up",
            f"addr add {self.host_address(octet)}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {self.address}",
            namespace=namespace,
        )

    def detach(self, host: str, octet: int) -> None:
        """Pull the plug and forget the namespace, with every connection that was in it."""
        if f"{self.name}-{octet}" in _links():
            _ip(f"link del {self.name}-{octet}")
        if self.namespace(host) in _namespaces():
            _ip(f"netns del {self.namespace(host)}")

    def remove(self) -> None:
        """Remove whatever there is of this network; nothing is fine too."""
        for kind, names in (("netns", _namespaces()), ("link", _links())):
            for name in filter(self._is_ours, names):
                with contextlib.suppress(LabError):  # gone by itself meanwhile; see `exists`
                    _ip(f"{kind} del {name}")
        for handle in self._firewall_handles():
            run("nft", f"delete rule {_FORWARD} handle {handle}")
        # `add` before `delete` succeeds whether or not the table is there.
        run("nft", f"add table ip {self.name}; delete table ip {self.name}")

    def exists(self) -> bool:
        """Tell whether anything of this network is there."""
        return any(map(self._is_ours, [*_links(), *_namespaces()]))

    def is_taken(self) -> bool:
        """Tell whether this machine already has a route into this subnet."""
        routes = json.loads(run("ip", "-json", "-4", "route", "show", "table", "all"))
        return any(
            self.subnet.overlaps(ipaddress.IPv4Network(route["dst"], strict=False))
            for route in routes
            if route["dst"] != "default"
        )

    def hardware_address(self, octet: int) -> str:
        """Return the MAC address of the host with this last octet."""
        # One address, one MAC: neighbours remember it, over restarts and when a plug is pulled.
        return f"02:53:49:50:{self.number:02x}:{octet:02x}"

    def _is_ours(self, name: str) -> bool:
        return name == self.name or name.startswith(f"{self.name}-")

    def _pass_firewall(self) -> None:
        # Docker and ufw drop what they do not know, and no verdict in a table of ours overrules
        # theirs: the rule has to stand in their chain.
        if _forward_chain():
            for direction in ("iifname", "oifname"):
                run("nft", f'insert rule {_FORWARD} {direction} "{self.name}" counter accept')

    def _firewall_handles(self) -> list[str]:
        return re.findall(rf'(?m)name "{self.name}" .*# handle (\d+)$', _forward_chain())


def _forward_chain() -> str:
    try:
        return run("nft", "--handle", f"list chain {_FORWARD}")
    except LabError:  # there is none
        return ""


def _ip(*commands: str, namespace: str | None = None) -> None:
    where = ["-netns", namespace] if namespace else []
    try:
        run("ip", *where, "-batch", "-", input_text="\n".join(commands) + "\n")
    except LabError as failure:
        raise LabError(f"{failure} (in: {'; '.join(commands)})") from None


def _links() -> list[str]:
    return [link["ifname"] for link in json.loads(run("ip", "-json", "link", "show"))]


def _namespaces() -> list[str]:
    # Not the same as `ip netns list`, which asks every namespace and fails if one goes meanwhile.
    return sorted(path.name for path in Path("/run/netns").glob("*"))
