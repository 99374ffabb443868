"""What a service is, and the values that services give."""

import ipaddress
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sipdeploy.inventory.site import HostEntry, Site
from sipdeploy.services.render import ManagedFile

Version = tuple[int, ...]
FirewallKind = Literal["nftables", "ufw", "none"]

# Kamailio and Asterisk live on one host and talk over loopback: said here and nowhere else.
LOOPBACK = "127.0.0.1"
NEWEST = 999
# The reload of a file that counts when it is next used.
NOTHING: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Firewall:
    """How a host is shut and what must stay open: the firewall, and the ports of its sshd."""

    kind: FirewallKind = "nftables"
    ssh_ports: tuple[int, ...] = (22,)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostProfile:
    """What a host is like, as far as files follow from it: how it is shut, what it was sized for.

    Sizes stay where a user more or less would restart a daemon each time.
    """

    firewall: Firewall = Firewall()
    room: int = 0
    has_user_database: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What the services render from: one host of the site, the versions on it, and the HA1s."""

    site: Site
    host: HostEntry
    kamailio: Version
    asterisk: Version
    credentials: Mapping[str, str]
    profile: HostProfile = HostProfile()

    @property
    def firewall(self) -> Firewall:
        """How the host is shut."""
        return self.profile.firewall

    @property
    def local_address(self) -> str:
        """The address that the host itself has; behind 1:1 NAT not the one that phones reach."""
        return self.host.private_address or self.host.media_address


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """A directory that a service needs; `owner` is `user:group`."""

    path: str
    mode: int
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port that must answer once the service runs, and the process that must be behind it."""

    protocol: str
    address: str
    number: int
    process: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A judgement that a daemon gives of the candidate, on the host and before the swap.

    `script` is one of sipdeploy/scripts, run with `words` where the candidate stands in for /etc.
    """

    service: str
    title: str
    script: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """One complaint of a daemon about a staged file."""

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
    """What sipdeploy has to know of a daemon. What a daemon does not have keeps its default.

    `packages(site, os_id, codename)` names the Debian packages, `files(deployment)` yields the
    managed files, `listens(site, host)` the ports that must answer, `checks(paths)` the judgements
    to ask for when files at those paths change, and `parse_check(output)` reads such a judgement.
    """

    name: str
    unit: str
    directories: Sequence[Directory]
    packages: Callable[[Site, str, str], tuple[str, ...]]
    files: Callable[[Deployment], Iterable[ManagedFile]]
    listens: Callable[[Site, HostEntry], Sequence[Port]] = _no_ports
    checks: Callable[[Collection[str]], tuple[Check, ...]] = _no_checks
    parse_check: Callable[[str], list[Complaint]] = _no_complaints


def answering_address(address: str) -> str:
    """An address of the host itself at which a socket that is bound to `address` answers."""
    local = {"0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound
    return local.get(address, address)


def url_host(port: Port) -> str:
    """An address of the host itself at which the port must answer, as URLs have it."""
    address = answering_address(port.address)
    return f"[{address}]" if ":" in address else address


def parse_version(text: str) -> Version:
    """`6.1` -> (6, 1, 999): what is not said counts as the newest. `5.6.3` -> (5, 6, 3)."""
    numbers = tuple(int(part) for part in text.split(".")[:3])
    return numbers + (NEWEST,) * (3 - len(numbers))


def prefix_length(address: str) -> int:
    """The bits of a single address: 32 or 128."""
    return ipaddress.ip_address(address).max_prefixlen


def local_place(path: str) -> str:
    """Where the administrator's own goes instead of into a managed file; empty: there is none."""
    folder, _, name = path.rpartition("/")
    if folder.endswith(".service.d"):
        return f"{folder}/local.conf"
    if path == "/etc/kamailio/kamailio.cfg":
        return "/etc/kamailio/local.cfg"
    if folder == "/etc/asterisk":
        return f"{folder}/local/{name.replace('_users', '')}"
    return "/etc/sipdeploy/local.nft" if path == "/etc/sipdeploy/firewall.nft" else ""
