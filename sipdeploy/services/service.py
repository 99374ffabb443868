"""The interface of a service, and the values that services exchange."""

import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sipdeploy.inventory.own.files import Attachments
from sipdeploy.inventory.site import HostEntry, Site
from sipdeploy.services.render import ManagedFile

Version = tuple[int, ...]
FirewallKind = Literal["nftables", "ufw", "none"]

# Kamailio and Asterisk run on one host and talk over loopback; only this line says so.
LOOPBACK = "127.0.0.1"
NEWEST = 999
# `reload` of a file that needs no command, because it is read at its next use.
NOTHING: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Firewall:
    """The kind of firewall of a host, and the ports of its sshd, which stay open."""

    kind: FirewallKind = "nftables"
    ssh_ports: tuple[int, ...] = (22,)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostProfile:
    """The properties of a host that its files depend on: its firewall and its present sizes.

    The present sizes matter, because otherwise one user more or less could restart a daemon.
    """

    firewall: Firewall = Firewall()
    room: int = 0
    has_user_database: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The input of the templates.

    One host of the site, its versions, number -> HA1 in hex, and what services take from beside
    the inventory.
    """

    site: Site
    host: HostEntry
    kamailio: Version
    asterisk: Version
    credentials: Mapping[str, str]
    profile: HostProfile = HostProfile()
    attachments: Attachments = field(default_factory=Attachments)

    @property
    def firewall(self) -> Firewall:
        """The firewall of the host."""
        return self.profile.firewall

    @property
    def local_address(self) -> str:
        """The address of the host's interface; with 1:1 NAT phones reach another one."""
        return self.host.private_address or self.host.media_address


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """A directory that a service needs; `owner` is `user:group`."""

    path: str
    mode: int
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port on which `process` must listen once the service runs; `key` is its inventory key.

    With `is_tls` it serves the certificate.
    """

    protocol: str
    address: str
    number: int
    process: str
    key: str
    is_tls: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check of the candidate by a daemon, on the host and before the swap.

    The host runs `script`, one of sipdeploy/host/scripts, with the candidate mounted over /etc.
    """

    service: str
    title: str
    script: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """One error that a daemon reports about a staged file; line 0: no line is known."""

    path: str
    line: int
    column: int
    text: str


def _no_ports(site: Site, host: HostEntry) -> Sequence[Port]:
    del site, host
    return ()


def _no_checks(paths: Collection[str]) -> tuple[Check, ...]:
    del paths
    return ()


def _no_complaints(output: str) -> list[Complaint]:
    del output
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A daemon that sipdeploy manages.

    `packages(site, os_id, codename)` returns the Debian packages, `files(deployment)` the managed
    files, `listens(site, host)` the ports that must answer, `checks(paths)` the checks to run if
    files at these paths change, and `parse_check(output)` the errors in the output of a check.
    A service that `reads_certificate`, which another one owns, reads a new one at a reload.
    """

    name: str
    unit: str
    directories: Sequence[Directory]
    packages: Callable[[Site, str, str], tuple[str, ...]]
    files: Callable[[Deployment], Iterable[ManagedFile]]
    listens: Callable[[Site, HostEntry], Sequence[Port]] = _no_ports
    checks: Callable[[Collection[str]], tuple[Check, ...]] = _no_checks
    parse_check: Callable[[str], list[Complaint]] = _no_complaints
    reads_certificate: bool = False


def answering_address(address: str) -> str:
    """A local address at which a socket bound to `address` answers: a wildcard gives loopback."""
    local = {"0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound
    return local.get(address, address)


def url_host(port: Port) -> str:
    """A local address at which the port must answer, in the form of a URL (IPv6 in brackets)."""
    address = answering_address(port.address)
    return f"[{address}]" if ":" in address else address


def parse_version(text: str) -> Version:
    """`6.1` -> (6, 1, 999): missing parts count as the newest. `5.6.3` -> (5, 6, 3)."""
    numbers = tuple(int(part) for part in text.split(".")[:3])
    return numbers + (NEWEST,) * (3 - len(numbers))


def prefix_length(address: str) -> int:
    """The bits of a single address: 32 or 128."""
    return ipaddress.ip_address(address).max_prefixlen


# The files of Asterisk that include /etc/asterisk/local/NAME, and where a setting belongs in it. A
# second section of a name that sipdeploy writes counts only with `(+)`, which adds to the first.
_LOCAL: Mapping[str, str] = {
    "asterisk.conf": "below `[options](+)`",
    "confbridge.conf": "below the name of its section, such as `[sipdeploy-6300](+)`",
    "extensions.conf": "as a context of your own; what sipdeploy's contexts have stays",
    "http.conf": "below `[general](+)`",
    "logger.conf": "below `[general](+)` or `[logfiles](+)`",
    "manager.conf": "below `[general](+)`",
    "modules.conf": "below `[modules](+)`",
    "pjsip.conf": "below the name of its section, such as `[trunk](+)`",
    "rtp.conf": "below `[general](+)`",
    "voicemail.conf": "below `[general](+)`",
}
_PART = re.compile(r"_(users|transport)\b")


def local_place(path: str) -> str:
    """Where a setting of a managed file belongs, which sipdeploy never touches; else empty.

    A path, and the place in that file: `/etc/asterisk/local/rtp.conf, below `[general](+)``.
    """
    folder, _, name = path.rpartition("/")
    if folder.endswith(".service.d"):  # systemd reads drop-ins by name: the last one counts
        return f"{folder}/zz-local.conf, below `[Service]`"
    if path == "/etc/kamailio/kamailio.cfg":
        return "/etc/kamailio/local.cfg"
    whole = _PART.sub("", name)
    if folder == "/etc/asterisk" and whole in _LOCAL:
        return f"{folder}/local/{whole}, {_LOCAL[whole]}"
    return "/etc/sipdeploy/local.nft" if path == "/etc/sipdeploy/firewall.nft" else ""
