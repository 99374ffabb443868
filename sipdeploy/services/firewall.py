"""The firewall: opens the ports for phones and closes those between the daemons, and no others.

It is a service like the others: files, a unit that loads them at boot, a reload command.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sipdeploy.inventory.site import Site
from sipdeploy.services import acme
from sipdeploy.services.coturn import peers
from sipdeploy.services.render import ManagedFile, rendered
from sipdeploy.services.service import (
    Check,
    Complaint,
    Deployment,
    Directory,
    Firewall,
    Service,
)

NAME = "firewall"
UNIT = "sipdeploy-firewall.service"
UNIT_PATH = f"/etc/systemd/system/{UNIT}"
NFTABLES = "/etc/sipdeploy/firewall.nft"
UFW = "/etc/sipdeploy/ufw.sh"
LOOPBACK_RULES = "/etc/sipdeploy/loopback.nft"
FLUSHER = "/etc/systemd/system/nftables.service.d"
DIRECTORIES = (
    Directory(path="/etc/sipdeploy", mode=0o755, owner="root:root"),
    Directory(path=FLUSHER, mode=0o755, owner="root:root"),
)
# Asterisk: manager interface, HTTP with ARI, and over TLS. Kamailio: binrpc of ctl, jsonrpcs.
CONSOLES = (5038, 8088, 8089, 2046, 2049)
RELOADS: Mapping[str, tuple[str, ...]] = {
    "nftables": ("nft", "-f", NFTABLES),
    "ufw": ("sh", UFW, "open"),
    "loopback": ("nft", "-f", LOOPBACK_RULES),
}
# `FILE:LINE:COLUMN-COLUMN: Error: text`
COMPLAINT = re.compile(
    r"^(?P<path>[^\s:]+):(?P<line>\d+):(?P<column>\d+)(?:-\d+)?: Error: (?P<text>.*)"
)


def firewall_of(
    site: Site, *, is_ufw_active: bool, ssh_ports: tuple[int, ...], entry_port: int
) -> Firewall:
    """The firewall of a host, with the ports of sshd; `entry_port` if the facts name none."""
    kind = site.firewall
    if kind == "auto":
        kind = "ufw" if is_ufw_active else "nftables"
    return Firewall(kind=kind, ssh_ports=ssh_ports or (entry_port,))


def packages(site: Site, os_id: str, codename: str) -> tuple[str, ...]:
    """The Debian packages; ufw needs nftables too, because its rules cannot match accounts."""
    del os_id, codename
    return {"none": (), "ufw": ("ufw", "nftables")}.get(site.firewall, ("nftables",))


def files(deployment: Deployment) -> Iterator[ManagedFile]:
    """The rules, and the unit that loads them; no files with `firewall: none`."""
    kind = deployment.firewall.kind
    if kind == "none":
        return
    values = _values(deployment)
    nothing = ("true",)  # nftables.service uses it when it runs again
    rows: Mapping[str, Sequence[tuple[str, str, tuple[str, ...] | None]]] = {
        "nftables": (
            (NFTABLES, "firewall/firewall.nft.j2", RELOADS[kind]),
            (UNIT_PATH, "firewall/nftables.service.j2", None),
            (f"{FLUSHER}/sipdeploy.conf", "firewall/nftables.service.d.j2", nothing),
        ),
        "ufw": (
            (LOOPBACK_RULES, "firewall/loopback.nft.j2", RELOADS["loopback"]),
            (UFW, "firewall/ufw.sh.j2", RELOADS[kind]),
            (UNIT_PATH, "firewall/ufw.service.j2", None),
        ),
    }
    for place, template, reload in rows[kind]:
        yield rendered(template, values, path=place, mode=0o644, service=NAME, reload=reload)


def _values(deployment: Deployment) -> Mapping[str, Any]:
    ports, order = deployment.site.ports, acme.order(deployment.site)
    turn, phone = deployment.site.turn, deployment.site.phone
    public = {ports.wss, *deployment.firewall.ssh_ports, *((turn.port, turn.tls) if turn else ())}
    public |= {phone.port} if phone else set()
    inner = (ports.asterisk, ports.kamailio, ports.registrar, *CONSOLES)
    private = sorted({p for p in inner if p not in public} - _media(deployment))
    return {
        "ssh_ports": tuple(str(port) for port in deployment.firewall.ssh_ports),
        "wss": ports.wss,
        "asterisk": ports.asterisk,
        "proxy_ports": (str(ports.kamailio), str(ports.registrar)),
        "rtp": {"start": ports.rtp.start, "end": ports.rtp.end},
        "is_standalone": order is not None and order.is_standalone,
        "private": tuple(str(port) for port in private),
        "turn": turn,
        "page": phone.port if phone else 0,
        "local": deployment.local_address,
        "version": "ip6" if ":" in deployment.local_address else "ip",
        "no_peers": {"ip": peers.IPV4, "ip6": peers.IPV6},
    }


def _media(deployment: Deployment) -> set[int]:
    rtp, turn = deployment.site.ports.rtp, deployment.site.turn
    relayed = range(turn.relay.start, turn.relay.end + 1) if turn else ()
    return {*range(rtp.start, rtp.end + 1), *relayed}


def checks(paths: Collection[str]) -> tuple[Check, ...]:
    """`nft -c` over the rules, if they change."""
    if NFTABLES not in paths and LOOPBACK_RULES not in paths:
        return ()
    return (Check(service=NAME, title="`nft -c`", script="check_firewall"),)


def parse_check(output: str) -> list[Complaint]:
    """The errors of `nft -c`."""
    matches = (COMPLAINT.match(line) for line in output.splitlines())
    return [
        Complaint(
            path=match["path"],
            line=int(match["line"]),
            column=int(match["column"]),
            text=match["text"],
        )
        for match in matches
        if match
    ]


SERVICE = Service(
    name=NAME,
    unit=UNIT,
    directories=DIRECTORIES,
    packages=packages,
    files=files,
    checks=checks,
    parse_check=parse_check,
)
