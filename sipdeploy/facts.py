"""What a host is now, read in one exchange by one script and parsed by pure functions.

Changes nothing on the host; needs no more there than a Debian base system.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sipdeploy import certificates
from sipdeploy.certificates import Certificate
from sipdeploy.hosts import Host, host_failed, run_script

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
    state: str = STATE


@dataclass(frozen=True, slots=True, kw_only=True)
class PathFact:
    """A file or directory: permissions, `user:group`, SHA-256 in hex (none of a directory)."""

    mode: int
    owner: str
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A systemd unit."""

    active: str
    is_enabled: bool
    needs_daemon_reload: bool

    @property
    def is_active(self) -> bool:
        """Whether it runs, or is on its way to."""
        return self.active in ("active", "reloading", "activating")


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket:
    """A listening socket, and who has it; an address of `*` is every address."""

    proto: str
    address: str
    port: int
    program: str = ""
    pid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Managed:
    """A file as the last confirmed apply wrote it: whose it is, and its SHA-256 in hex."""

    service: str
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the host did by itself: `how` is `timer` or `boot`; whose apply it undid."""

    when: float
    how: str
    holder: str


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
    result = run_script(host, ("facts", *words, certificates.PATH, certificates.KEY_PATH))
    found = sections(result.text)
    if "end" not in found:
        raise host_failed(
            "SD509",
            f"`{host.name}` does not run a POSIX shell script as expected",
            notes=tuple(result.words.splitlines()[-3:]),
            help_="the login needs a plain shell: `getent passwd root` shows which it has",
        )
    return parse(found, began)


def sections(text: str) -> dict[str, str]:
    """Cut what a script printed at its marks: name -> text, the first line is the name."""
    parts = (part.partition("\n") for part in text.split("\x1e")[1:])
    return {name.strip(): body for name, _, body in parts}


def parse(found: Mapping[str, str], now: float) -> Facts:
    """Make facts of the sections; `now` is our own clock, in seconds since 1970."""
    release = _release(found["os"])
    clock = _number(found["clock"], now)
    return Facts(
        os_id=release.get("ID", ""),
        os_version=release.get("VERSION_ID", ""),
        os_name=release.get("PRETTY_NAME", "an unknown system"),
        codename=release.get("VERSION_CODENAME", ""),
        has_systemd=bool(found["systemd"].strip()),
        free_bytes=_free(found["disk"]),
        memory_bytes=_memory(found["memory"]),
        skew_seconds=clock - now,
        sockets=_sockets(found["sockets"]),
        addresses=_addresses(found["addresses"]),
        installed=_installed(found["packages"]),
        candidates=_candidates(found.get("candidates", "")),
        lists_age_seconds=_lists_age(found["lists"], clock),
        domain_addresses=_domain(found.get("domain")),
        units=_units(found["units"]),
        files=_files(found["digests"], found["modes"]),
        directories=_modes(found["directories"]),
        managed=_managed(found["managed"]),
        serial=found["serial"].strip(),
        lock_holder=found["lock"].strip(),
        has_abandoned_run=bool(found["abandoned"].strip()),
        release=int(_number(found["release"].strip(), 0)),
        lock_purpose=found["purpose"].strip(),
        lock_seconds=_age(found["since"], clock),
        run_holder=found["runner"].strip(),
        outcome=_outcome(found["outcome"]),
        has_timer=bool(found["timer"].strip()),
        is_ufw_active=bool(found["ufw"].strip()),
        has_firewall_table=FIREWALL_TABLE in found["chains"],
        closing_chains=_closing_chains(found["chains"]),
        ssh_ports=_ssh_ports(found["sockets"], found["connection"]),
        certificate=certificates.parse(found["certificate"].encode(), found["key"].encode()),
    )


def _number(text: str, default: float) -> float:
    try:
        return float(text)
    except ValueError:
        return default


def _release(text: str) -> dict[str, str]:
    """Read os-release(5)."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}


def _free(text: str) -> dict[str, int]:
    """Read df -Pk of `/`, `/var` and `/etc`: one line each, in that order."""
    lines = (line.split() for line in text.splitlines())
    return {
        path: int(words[3]) * 1024
        for path, words in zip(("/", "/var", "/etc"), lines, strict=False)
    }


def _memory(text: str) -> int:
    match = re.search(r"(\d+) kB", text)
    return int(match[1]) * 1024 if match else 0


def _sockets(text: str) -> tuple[Socket, ...]:
    """Read `ss -H -tulnp`."""
    found = (_socket(line.split(None, 6)) for line in text.splitlines())
    return tuple(socket for socket in found if socket is not None)


def _socket(words: Sequence[str]) -> Socket | None:
    if len(words) < 6:  # noqa: PLR2004 - proto, state, two queues, local, peer
        return None
    address, _, port = words[4].rpartition(":")
    owner = re.search(r'\("([^"]*)",pid=(\d+)', words[6]) if len(words) > 6 else None  # noqa: PLR2004
    bare = address.strip("[]").partition("%")[0]
    return Socket(
        proto=words[0],
        address="*" if bare in ("0.0.0.0", "::") else bare,  # noqa: S104 - read, not bound
        port=int(port) if port.isdigit() else 0,
        program=owner[1] if owner else "",
        pid=int(owner[2]) if owner else 0,
    )


def _addresses(text: str) -> tuple[str, ...]:
    """Read `ip -o addr show`, without loopback and link-local addresses."""
    found = re.findall(r"\binet6? ([0-9a-f.:]+)", text)
    passed_over = ("127.", "::1", "fe80:")
    return tuple(address for address in found if not address.startswith(passed_over))


def _installed(text: str) -> dict[str, str]:
    rows = (line.split("\t") for line in text.splitlines())
    return {row[0]: row[1] for row in rows if row[2:] == ["installed"]}


def _candidates(text: str) -> dict[str, str]:
    """Read `apt-cache policy`; `(none)` is no candidate."""
    found = re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (\S+)", text, re.MULTILINE)
    return {name: version for name, version in found if version != "(none)"}


def _lists_age(text: str, clock: float) -> float | None:
    count, _, updated = text.partition("\n")
    if not count.strip().isdigit() or int(count) == 0:
        return None
    return clock - _number(updated, 0.0)


def _domain(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    lines = (line.split() for line in text.splitlines())
    return tuple(dict.fromkeys(words[0] for words in lines if words and words[0] != "none"))


def _units(text: str) -> dict[str, Unit]:
    """Read `systemctl show`: a block of KEY=VALUE for each unit."""
    blocks = (_release(block) for block in text.split("\n\n"))
    return {block["Id"]: _unit(block) for block in blocks if "Id" in block}


def _unit(values: Mapping[str, str]) -> Unit:
    return Unit(
        active=values.get("ActiveState", ""),
        is_enabled=values.get("UnitFileState") == "enabled",
        needs_daemon_reload=values.get("NeedDaemonReload") == "yes",
    )


def _age(text: str, clock: float) -> float | None:
    began = _number(text.strip(), 0.0)
    return clock - began if began else None


def _outcome(text: str) -> Outcome | None:
    words = text.strip().split("\t")
    if len(words) != 3:  # noqa: PLR2004 - when, how, holder
        return None
    return Outcome(when=_number(words[0], 0.0), how=words[1], holder=words[2])


def _closing_chains(text: str) -> tuple[str, ...]:
    """Read `nft list chains`: chains of the input hook with the policy `drop`."""
    found: list[str] = []
    table = chain = ""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["table"]:
            table = " ".join(words[1:3])
        elif words[:1] == ["chain"]:
            chain = words[1]
        elif "hook input" in line and "policy drop" in line:
            found.append(f"{table} {chain}")
    return tuple(found)


def _ssh_ports(sockets: str, connection: str) -> tuple[int, ...]:
    """The ports that sshd hears, and the one that this connection came in by (ssh(1))."""
    heard = {socket.port for socket in _sockets(sockets) if socket.program == "sshd"}
    words = connection.split()
    mine = {int(words[3])} if len(words) == 4 and words[3].isdigit() else set()  # noqa: PLR2004
    return tuple(sorted(heard | mine))


def _managed(text: str) -> dict[str, Managed]:
    rows = (line.split("\t") for line in text.splitlines())
    return {row[0]: Managed(service=row[1], digest="".join(row[2:])) for row in rows if row[1:]}


def _modes(text: str) -> dict[str, PathFact]:
    rows = (line.split(" ", 2) for line in text.splitlines())
    # A name with a line break has lines of its own here; it is none of ours.
    return {
        row[2]: PathFact(mode=int(row[0], 8), owner=row[1])
        for row in rows
        if len(row) == 3 and re.fullmatch(r"[0-7]+", row[0])  # noqa: PLR2004 - mode, owner, path
    }


def _files(digests: str, modes: str) -> dict[str, PathFact]:
    rows = (line.partition("  ") for line in digests.splitlines())
    found = {path: digest for digest, _, path in rows}
    return {
        path: PathFact(mode=fact.mode, owner=fact.owner, digest=found[path])
        for path, fact in _modes(modes).items()
        if path in found
    }
