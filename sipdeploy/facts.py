"""What a host is now, read in one exchange by one script and parsed by pure functions.

Changes nothing on the host; needs no more there than a Debian base system.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sipdeploy import answers
from sipdeploy.answers import Managed, Outcome, PathFact, Socket, Unit
from sipdeploy.diagnostics.escapes import shown_line
from sipdeploy.host import Host, host_failed, run_script, sections
from sipdeploy.host.incoming import number, whole
from sipdeploy.services import acme, certificates
from sipdeploy.services.acme import Lineage
from sipdeploy.services.certificates import Certificate

STATE = "/var/lib/sipdeploy"
FIREWALL_TABLE = "table inet sipdeploy "


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to look for: everything that differs from site to site."""

    domain: str
    packages: Mapping[str, tuple[str, ...]]  # `ID/CODENAME` of os-release, or `other`
    units: tuple[str, ...]
    trees: tuple[str, ...]
    directories: tuple[str, ...]
    lineage: str = ""  # of certbot, whether or not it has one
    has_order: bool = False  # it is to have one
    state: str = STATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A host as it was at one moment; `skew_seconds` is positive when its clock is ahead."""

    os_id: str
    os_version: str
    os_name: str
    codename: str
    has_systemd: bool
    free_bytes: Mapping[str, int]
    memory_bytes: int
    skew_seconds: float
    sockets: tuple[Socket, ...]
    addresses: tuple[str, ...]
    installed: Mapping[str, str]
    candidates: Mapping[str, str]
    lists_age_seconds: float | None
    domain_addresses: tuple[str, ...] | None
    units: Mapping[str, Unit]
    files: Mapping[str, PathFact]
    directories: Mapping[str, PathFact]
    managed: Mapping[str, Managed]
    serial: str
    lock_holder: str
    has_abandoned_run: bool
    certificate: Certificate | None
    release: int = 0
    lock_purpose: str = ""
    lock_seconds: float | None = None  # its age
    run_holder: str = ""
    outcome: Outcome | None = None
    has_timer: bool = False
    is_ufw_active: bool = False
    has_firewall_table: bool = False
    closing_chains: tuple[str, ...] = ()  # `table/chain` of others that drop what they do not know
    ssh_ports: tuple[int, ...] = ()
    lineage: Lineage | None = None
    renewals: tuple[str, ...] = ()  # the files by which certbot renews what we had it fetch
    builds: tuple[str, ...] = ()  # of Asterisk, made for this system
    records: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # DNS, by `TYPE NAME`
    room: int = 0  # the users that Kamailio was last sized for

    def version(self, package: str) -> str | None:
        """The version that is installed, or else would be; None: neither."""
        return self.installed.get(package) or self.candidates.get(package)


def upstream(version: str) -> str:
    """The upstream part of a Debian version: `22.10.1` of `1:22.10.1~dfsg-1`."""
    match = re.match(r"\d+(\.\d+){0,2}", version.rpartition(":")[2])
    return match[0] if match else "0"


def read(host: Host, query: Query) -> Facts:
    """Ask the host everything at once; HostFailed when it is lost or answers in no known way."""
    choices = "\n".join(" ".join((key, *names)) for key, names in query.packages.items())
    lists = (query.units, query.trees, query.directories)
    words = [query.state, query.domain, choices, *(" ".join(part) for part in lists)]
    began = time.time()
    paths = (certificates.PATH, certificates.KEY_PATH)
    held = (query.lineage, "yes" if query.has_order else "")
    result = run_script(host, ("facts", *words, *paths, *held))
    found = sections(result.text)
    if "end" not in found:
        raise host_failed(
            "SD509",
            f"`{host.name}` does not run a POSIX shell script as expected",
            notes=tuple(result.words.splitlines()[-3:]),
            help_="the login needs a plain shell: `getent passwd root` shows which it has",
        )
    try:
        return parse(found, began)
    except (KeyError, ValueError) as wrong:
        raise host_failed(
            "SD509",
            f"`{host.name}` leaves out a part of what it was asked, or answers in no known way",
            notes=(f"{type(wrong).__name__}: {shown_line(str(wrong))[:200]}",),
        ) from wrong


def parse(found: Mapping[str, str], now: float) -> Facts:
    """Make facts of the sections; `now` is our own clock, in seconds since 1970."""
    return replace(
        _machine(found, now),
        lineage=acme.held(found),
        renewals=tuple(found.get("renewals", "").split()),
        builds=tuple(found.get("builds", "").split()),
        records=acme.records(found.get("dns", "")),
    )


def _machine(found: Mapping[str, str], now: float) -> Facts:
    release = answers.release(found["os"])
    clock = number(found["clock"], now)
    return Facts(
        os_id=release.get("ID", ""),
        os_version=release.get("VERSION_ID", ""),
        os_name=release.get("PRETTY_NAME", "an unknown system"),
        codename=release.get("VERSION_CODENAME", ""),
        has_systemd=bool(found["systemd"].strip()),
        free_bytes=answers.free(found["disk"]),
        memory_bytes=answers.memory(found["memory"]),
        skew_seconds=clock - now,
        sockets=answers.sockets(found["sockets"]),
        addresses=answers.addresses(found["addresses"]),
        installed=answers.installed(found["packages"]),
        candidates=answers.candidates(found.get("candidates", "")),
        lists_age_seconds=answers.lists_age(found["lists"], clock),
        domain_addresses=answers.domain(found.get("domain")),
        units=answers.units(found["units"]),
        files=answers.files(found.get("digests", ""), found.get("modes", "")),
        directories=answers.modes(found["directories"]),
        managed=answers.managed(found["managed"]),
        serial=found["serial"].strip(),
        lock_holder=found["lock"].strip(),
        has_abandoned_run=bool(found["abandoned"].strip()),
        release=whole(found["release"]),
        lock_purpose=found["purpose"].strip(),
        lock_seconds=answers.age(found["since"], clock),
        run_holder=found["runner"].strip(),
        outcome=answers.outcome(found["outcome"]),
        has_timer=bool(found["timer"].strip()),
        is_ufw_active=bool(found["ufw"].strip()),
        has_firewall_table=FIREWALL_TABLE in found["chains"],
        closing_chains=answers.closing_chains(found["chains"]),
        ssh_ports=answers.ssh_ports(found["sockets"], found["connection"]),
        certificate=certificates.parse(found["certificate"].encode(), found["key"].encode()),
        room=answers.room(found.get("room", "")),
    )
