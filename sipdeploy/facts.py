"""The present state of a host, read by one script in one exchange and parsed by pure functions.

Changes nothing on the host, and needs only a Debian base system there.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TypeVar

from sipdeploy.diagnostics.escapes import shown_line
from sipdeploy.host import Host, host_failed, run_script, sections
from sipdeploy.host.incoming import number, whole
from sipdeploy.services import acme, certificates
from sipdeploy.services.acme import Lineage
from sipdeploy.services.certificates import Certificate

STATE = "/var/lib/sipdeploy"
FIREWALL_TABLE = "table inet sipdeploy "


@dataclass(frozen=True, slots=True, kw_only=True)
class PathFact:
    """A file or directory: mode, `user:group`, SHA-256 in hex (empty for a directory)."""

    mode: int
    owner: str
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A systemd unit."""

    active: str
    is_enabled: bool
    needs_daemon_reload: bool
    is_masked: bool = False

    @property
    def is_active(self) -> bool:
        """Whether the unit runs or is starting."""
        return self.active in ("active", "reloading", "activating")


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket:
    """A listening socket and its program; the address `*` means all addresses."""

    proto: str
    address: str
    port: int
    program: str = ""
    pid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Managed:
    """A file as the last confirmed apply wrote it: its service, and its SHA-256 in hex."""

    service: str
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfRollback:
    """A rollback by the host itself.

    `when` is in seconds since 1970, `how` is `timer`, `trial` or `boot`, `owner` owned the undone
    apply.
    """

    when: float
    how: str
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """The arguments of the script `facts`: everything that depends on the site.

    `packages` and `with_build` map `ID/CODENAME` of os-release, or `other`, to the packages that a
    host needs; `with_build` if it runs an Asterisk that it built, and packages depend on that.
    """

    domain: str
    packages: Mapping[str, tuple[str, ...]]
    units: tuple[str, ...]
    trees: tuple[str, ...]
    directories: tuple[str, ...]
    lineage: str = ""  # name of certbot's lineage, which need not exist
    with_build: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    has_order: bool = False  # the site needs a certificate of an ACME server
    state: str = STATE


# Parsers of the output of programs on the host. They skip lines that they cannot read.


def os_release(text: str) -> dict[str, str]:
    """Read os-release(5)."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}


def parse_os(key: str, text: str, default: str = "") -> str:
    """The value of a key of os-release(5)."""
    return os_release(text).get(key, default)


def parse_flag(text: str) -> bool:
    """Whether there is any text but white space."""
    return bool(text.strip())


def parse_words(text: str) -> tuple[str, ...]:
    """Names without spaces, each on its own line."""
    return tuple(text.split())


def parse_free(text: str) -> dict[str, int]:
    """Read `df -Pk / /var /etc`: path -> free bytes."""
    lines = (line.split() for line in text.splitlines() if not line.startswith("Filesystem"))
    return {
        path: whole(fields[3]) * 1024
        for path, fields in zip(("/", "/var", "/etc"), lines, strict=False)
        if len(fields) > 3  # noqa: PLR2004 - device, size, used, free
    }


def parse_memory(text: str) -> int:
    """Read the first line of /proc/meminfo (MemTotal): bytes."""
    match = re.search(r"(\d+) kB", text)
    return whole(match[1]) * 1024 if match else 0


def parse_sockets(text: str) -> tuple[Socket, ...]:
    """Read `ss -H -tulnp`."""
    parsed = (_socket(line.split(None, 6)) for line in text.splitlines())
    return tuple(socket for socket in parsed if socket is not None)


def _socket(fields: Sequence[str]) -> Socket | None:
    if len(fields) < 6:  # noqa: PLR2004 - proto, state, two queues, local, peer
        return None
    address, _, port = fields[4].rpartition(":")
    owner = re.search(r'\("([^"]*)",pid=(\d+)', fields[6]) if len(fields) > 6 else None  # noqa: PLR2004
    bare = address.strip("[]").partition("%")[0]
    return Socket(
        proto=fields[0],
        address="*" if bare in ("0.0.0.0", "::") else bare,  # noqa: S104 - read, not bound
        port=whole(port),
        program=owner[1] if owner else "",
        pid=whole(owner[2]) if owner else 0,
    )


def parse_addresses(text: str) -> tuple[str, ...]:
    """Read `ip -o addr show`, without loopback and link-local addresses."""
    matches = re.findall(r"\binet6? ([0-9a-f.:]+)", text)
    passed_over = ("127.", "::1", "fe80:")
    return tuple(address for address in matches if not address.startswith(passed_over))


def parse_installed(text: str) -> dict[str, str]:
    """Read `dpkg-query`: installed package -> version."""
    rows = (line.split("\t") for line in text.splitlines())
    return {row[0]: row[1] for row in rows if row[2:] == ["installed"]}


def parse_candidates(text: str) -> dict[str, str]:
    """Read `apt-cache policy`: package -> candidate, without `(none)`."""
    matches = re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (\S+)", text, re.MULTILINE)
    return {name: version for name, version in matches if version != "(none)"}


def parse_lists_age(text: str, clock: str) -> float | None:
    """Seconds since the last update of the package lists; None if there are no lists."""
    count, _, updated = text.partition("\n")
    if whole(count) == 0:
        return None
    return float(clock) - number(updated, 0.0)


def parse_domain(text: str) -> tuple[str, ...] | None:
    """Read `getent ahosts`: addresses; None if the script did not query the name."""
    if not text:
        return None
    lines = (line.split() for line in text.splitlines())
    return tuple(dict.fromkeys(fields[0] for fields in lines if fields and fields[0] != "none"))


def parse_units(text: str) -> dict[str, Unit]:
    """Read `systemctl show` (a block of KEY=VALUE for each unit): name -> unit."""
    blocks = (os_release(block) for block in text.split("\n\n"))
    return {block["Id"]: _unit(block) for block in blocks if "Id" in block}


def _unit(values: Mapping[str, str]) -> Unit:
    return Unit(
        active=values.get("ActiveState", ""),
        is_enabled=values.get("UnitFileState") == "enabled",
        needs_daemon_reload=values.get("NeedDaemonReload") == "yes",
        is_masked=values.get("UnitFileState", "").startswith("masked"),
    )


def parse_age(text: str, clock: str) -> float | None:
    """Seconds since a time in seconds since 1970; None if the text has no time."""
    began = number(text.strip(), 0.0)
    return float(clock) - began if began else None


def parse_left(text: str, clock: str) -> float | None:
    """Seconds until a time in seconds since 1970; None if the text has no time."""
    end = number(text.strip(), 0.0)
    return max(0.0, end - float(clock)) if end else None


def parse_outcome(text: str) -> SelfRollback | None:
    """Read the record of a rollback by the host itself: time, cause, owner; None without one."""
    fields = text.strip().split("\t")
    if len(fields) != 3:  # noqa: PLR2004 - when, how, owner
        return None
    return SelfRollback(when=number(fields[0], 0.0), how=fields[1], owner=fields[2])


def parse_interfaces(text: str) -> dict[str, str]:
    """Read `ip -o addr show`: address -> interface."""
    matches = re.findall(r"^\d+: (\S+)\s+inet6? ([0-9a-f.:]+)", text, re.MULTILINE)
    return {address: name for name, address in matches}


def parse_iptables(*texts: str) -> dict[str, str]:
    """The outputs of iptables-save and its kin, by the command that changes these rules."""
    return {tool: text for tool, text in zip(IPTABLES, texts, strict=True) if text.strip()}


def parse_ssh_ports(listening: str, connection: str) -> tuple[int, ...]:
    """The ports of sshd, and the port of this connection (SSH_CONNECTION in ssh(1))."""
    listening_ports = {
        socket.port for socket in parse_sockets(listening) if socket.program == "sshd"
    }
    fields = connection.split()
    mine = {whole(fields[3])} if len(fields) == 4 and whole(fields[3]) else set()  # noqa: PLR2004
    return tuple(sorted(listening_ports | mine))


def parse_managed(text: str) -> dict[str, Managed]:
    """Read the table of files that the last apply wrote: path -> service and digest."""
    rows = (line.split("\t") for line in text.splitlines())
    return {row[0]: Managed(service=row[1], digest="".join(row[2:])) for row in rows if row[1:]}


def parse_modes(text: str) -> dict[str, PathFact]:
    """Read `stat -c '%a %U:%G %n'`: path -> mode and owner."""
    rows = (line.split(" ", 2) for line in text.splitlines())
    # A name with a line break gives an invalid line; sipdeploy has no file with such a name.
    return {
        row[2]: PathFact(mode=int(row[0], 8), owner=row[1])
        for row in rows
        if len(row) == 3 and re.fullmatch(r"[0-7]{1,5}", row[0])  # noqa: PLR2004 - mode, owner, path
    }


def parse_files(digests: str, permissions: str) -> dict[str, PathFact]:
    """Join `sha256sum` and `stat` of the same files: path -> mode, owner and digest."""
    rows = (line.partition("  ") for line in digests.splitlines())
    by_path = {path: digest for digest, _, path in rows}
    return {
        path: PathFact(mode=fact.mode, owner=fact.owner, digest=by_path[path])
        for path, fact in parse_modes(permissions).items()
        if path in by_path
    }


def parse_certificate(chain: str, public_key: str) -> Certificate | None:
    """Read a PEM chain and a PEM public key; None without a readable certificate."""
    return certificates.parse(chain.encode(), public_key.encode())


def parse_room(text: str) -> int:
    """The users that Kamailio's drop-in was written for; 0 if it does not say."""
    match = re.search(r"Room for (\d+) users", text)
    return whole(match[1]) if match else 0


IPTABLES = ("iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy")
# Sections that the script prints only if there is something to read.
OPTIONAL = (
    *("candidates", "domain", "digests", "modes", "denied"),
    *("lineage", "lineage-key", "renewal", "dns", "cli-ini", "applied"),
    *("nft", *IPTABLES, "trial", "debs"),
)
T = TypeVar("T")


def fact(parser: Callable[..., T], *sections: str) -> T:
    """A field of Facts: its parser gets the texts of these sections of the script `facts`.

    `clock` is the host's time and `now` is this machine's, in seconds since 1970.
    """
    value: T = field(metadata={"parser": parser, "sections": sections})
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A host at one moment; each field names its parser and the sections that it reads."""

    os_id: str = fact(partial(parse_os, "ID"), "os")
    os_version: str = fact(partial(parse_os, "VERSION_ID"), "os")
    os_name: str = fact(partial(parse_os, "PRETTY_NAME", default="an unknown system"), "os")
    codename: str = fact(partial(parse_os, "VERSION_CODENAME"), "os")
    has_systemd: bool = fact(parse_flag, "systemd")
    free_bytes: Mapping[str, int] = fact(parse_free, "disk")
    memory_bytes: int = fact(parse_memory, "memory")
    # positive if the host's clock is ahead of this machine's
    skew_seconds: float = fact(lambda clock, now: float(clock) - float(now), "clock", "now")
    sockets: tuple[Socket, ...] = fact(parse_sockets, "sockets")
    addresses: tuple[str, ...] = fact(parse_addresses, "addresses")
    interfaces: Mapping[str, str] = fact(parse_interfaces, "addresses")
    installed: Mapping[str, str] = fact(parse_installed, "packages")
    candidates: Mapping[str, str] = fact(parse_candidates, "candidates")
    lists_age_seconds: float | None = fact(parse_lists_age, "lists", "clock")
    domain_addresses: tuple[str, ...] | None = fact(parse_domain, "domain")
    units: Mapping[str, Unit] = fact(parse_units, "units")
    files: Mapping[str, PathFact] = fact(parse_files, "digests", "modes")
    directories: Mapping[str, PathFact] = fact(parse_modes, "directories")
    managed: Mapping[str, Managed] = fact(parse_managed, "managed")
    serial: str = fact(str.strip, "serial")
    release: int = fact(whole, "release")
    applied_domain: str = fact(str.strip, "applied")  # of the current release
    lock_owner: str = fact(str.strip, "lock")
    lock_purpose: str = fact(str.strip, "purpose")
    lock_seconds: float | None = fact(parse_age, "since", "clock")
    has_abandoned_run: bool = fact(parse_flag, "abandoned")
    run_owner: str = fact(str.strip, "runner")
    # until the host takes back the release on trial; None without an open trial
    trial_seconds: float | None = fact(parse_left, "trial", "clock")
    outcome: SelfRollback | None = fact(parse_outcome, "outcome")
    has_timer: bool = fact(parse_flag, "timer")
    is_ufw_active: bool = fact(parse_flag, "ufw")
    has_firewall_table: bool = fact(lambda text: FIREWALL_TABLE in text, "chains")
    denied: tuple[str, ...] = fact(parse_words, "denied")  # of `nft` and `namespaces`
    nftables: str = fact(str, "nft")  # all rules, in JSON
    iptables: Mapping[str, str] = fact(parse_iptables, *IPTABLES)
    ssh_ports: tuple[int, ...] = fact(parse_ssh_ports, "sockets", "connection")
    certificate: Certificate | None = fact(parse_certificate, "certificate", "key")
    lineage: Lineage | None = fact(acme.parse_lineage, "lineage", "lineage-key", "renewal")
    renewals: tuple[str, ...] = fact(parse_words, "renewals")  # certbot's, of our lineages
    # lines of certbot's cli.ini, each as code, option, file, and number of the line
    certbot_defaults: tuple[tuple[str, str, str, str], ...] = fact(
        lambda text: tuple(acme.bad_defaults(text)), "cli-ini"
    )
    builds: tuple[str, ...] = fact(parse_words, "builds")  # of Asterisk, for this system
    debs: tuple[str, ...] = fact(parse_words, "debs")  # files of packages that the host keeps
    records: Mapping[str, tuple[str, ...]] = fact(acme.records, "dns")  # by `TYPE NAME`
    room: int = fact(parse_room, "room")  # users that Kamailio's sizes provide for

    def version(self, package: str) -> str | None:
        """The installed version of a package, or else its candidate; None if there is neither."""
        return self.installed.get(package) or self.candidates.get(package)


def read(host: Host, query: Query) -> Facts:
    """Read all facts in one exchange.

    Raises HostFailed if the connection is lost (SD506), or if the answer is incomplete or in an
    unknown format (SD509).
    """
    return read_and_more(host, query)[0]


def read_and_more(
    host: Host, query: Query, script: str = "facts", more: Sequence[str] = ()
) -> tuple[Facts, Mapping[str, str]]:
    """Read all facts with a script that begins as `facts` and prints further sections.

    Returns all sections too. `more` are the arguments of its own. Raises as `read`.
    """
    choices = "\n".join(_choices(query))
    lists = (query.units, query.trees, query.directories)
    argv = [query.state, query.domain, choices, *(" ".join(part) for part in lists)]
    began = time.time()
    paths = (certificates.PATH, certificates.KEY_PATH)
    order = (query.lineage, "yes" if query.has_order else "")
    result = run_script(host, (script, *argv, *paths, *order, *more))
    answer = sections(result.text)
    if "end" not in answer:
        raise host_failed(
            "SD509",
            f"the script that reads the state of `{host.name}` did not end",
            notes=tuple(result.output.splitlines()[-3:]),
        )
    try:
        return parse(answer, began), answer
    except (KeyError, ValueError) as wrong:
        raise host_failed(
            "SD509",
            f"`{host.name}` sent facts that are incomplete or in an unknown format",
            notes=(f"{type(wrong).__name__}: {shown_line(str(wrong))[:200]}",),
        ) from wrong


def _choices(query: Query) -> Iterator[str]:
    """A line `SYSTEM PACKAGE... [/ PACKAGE...]` for each system, the second list with a build."""
    if not query.with_build:
        yield from (" ".join((key, *names)) for key, names in query.packages.items())
        return
    for key in dict.fromkeys((*query.packages, *query.with_build)):
        first, second = (
            lists.get(key, lists["other"]) for lists in (query.packages, query.with_build)
        )
        yield " ".join((key, *first, "/", *second))


def parse(answer: Mapping[str, str], now: float) -> Facts:
    """Parse the sections of the script `facts`; `now`: this machine's clock, seconds since 1970.

    Raises KeyError for a missing section, ValueError for an invalid one.
    """
    clock = number(answer["clock"], now)
    texts = {**dict.fromkeys(OPTIONAL, ""), **answer, "clock": str(clock), "now": str(now)}
    return Facts(
        **{
            each.name: each.metadata["parser"](
                *(texts[name] for name in each.metadata["sections"])
            )
            for each in fields(Facts)
        }
    )


def upstream(version: str) -> str:
    """The upstream part of a Debian version: `22.10.1` of `1:22.10.1~dfsg-1`."""
    match = re.match(r"\d+(\.\d+){0,2}", version.rpartition(":")[2])
    return match[0] if match else "0"
