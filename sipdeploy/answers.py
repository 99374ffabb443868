"""What the programs of a host print, read into values. Pure.

What cannot be read is left out: a host that answers in parts is judged by those.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sipdeploy.host.incoming import number, whole


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


def release(text: str) -> dict[str, str]:
    """Read os-release(5)."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}


def free(text: str) -> dict[str, int]:
    """Read df -Pk of `/`, `/var` and `/etc`: a line each, in that order, below their headings."""
    lines = (line.split() for line in text.splitlines() if not line.startswith("Filesystem"))
    return {
        path: whole(words[3]) * 1024
        for path, words in zip(("/", "/var", "/etc"), lines, strict=False)
        if len(words) > 3  # noqa: PLR2004 - device, size, used, free
    }


def memory(text: str) -> int:
    """Read the first line of /proc/meminfo: bytes."""
    match = re.search(r"(\d+) kB", text)
    return whole(match[1]) * 1024 if match else 0


def sockets(text: str) -> tuple[Socket, ...]:
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
        port=whole(port),
        program=owner[1] if owner else "",
        pid=whole(owner[2]) if owner else 0,
    )


def addresses(text: str) -> tuple[str, ...]:
    """Read `ip -o addr show`, without loopback and link-local addresses."""
    found = re.findall(r"\binet6? ([0-9a-f.:]+)", text)
    passed_over = ("127.", "::1", "fe80:")
    return tuple(address for address in found if not address.startswith(passed_over))


def installed(text: str) -> dict[str, str]:
    """Read `dpkg-query`: the packages that are there, with their versions."""
    rows = (line.split("\t") for line in text.splitlines())
    return {row[0]: row[1] for row in rows if row[2:] == ["installed"]}


def candidates(text: str) -> dict[str, str]:
    """Read `apt-cache policy`; `(none)` is no candidate."""
    found = re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (\S+)", text, re.MULTILINE)
    return {name: version for name, version in found if version != "(none)"}


def lists_age(text: str, clock: float) -> float | None:
    """Read how many package lists there are, and when they were fetched: seconds ago."""
    count, _, updated = text.partition("\n")
    if whole(count) == 0:
        return None
    return clock - number(updated, 0.0)


def domain(text: str | None) -> tuple[str, ...] | None:
    """Read `getent ahosts`; None where it was not asked."""
    if text is None:
        return None
    lines = (line.split() for line in text.splitlines())
    return tuple(dict.fromkeys(words[0] for words in lines if words and words[0] != "none"))


def units(text: str) -> dict[str, Unit]:
    """Read `systemctl show`: a block of KEY=VALUE for each unit."""
    blocks = (release(block) for block in text.split("\n\n"))
    return {block["Id"]: _unit(block) for block in blocks if "Id" in block}


def _unit(values: Mapping[str, str]) -> Unit:
    return Unit(
        active=values.get("ActiveState", ""),
        is_enabled=values.get("UnitFileState") == "enabled",
        needs_daemon_reload=values.get("NeedDaemonReload") == "yes",
    )


def age(text: str, clock: float) -> float | None:
    """Read when something was made: seconds ago, or None."""
    began = number(text.strip(), 0.0)
    return clock - began if began else None


def outcome(text: str) -> Outcome | None:
    """Read what the host did by itself: when, how, whose apply it undid."""
    words = text.strip().split("\t")
    if len(words) != 3:  # noqa: PLR2004 - when, how, holder
        return None
    return Outcome(when=number(words[0], 0.0), how=words[1], holder=words[2])


def closing_chains(text: str) -> tuple[str, ...]:
    """Read `nft list chains`: chains of the input hook with the policy `drop`."""
    found: list[str] = []
    table = chain = ""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["table"]:
            table = " ".join(words[1:3])
        elif words[:1] == ["chain"]:
            chain = " ".join(words[1:2])
        elif "hook input" in line and "policy drop" in line:
            found.append(f"{table} {chain}")
    return tuple(found)


def ssh_ports(listening: str, connection: str) -> tuple[int, ...]:
    """The ports that sshd hears, and the one that this connection came in by (ssh(1))."""
    heard = {socket.port for socket in sockets(listening) if socket.program == "sshd"}
    words = connection.split()
    mine = {whole(words[3])} if len(words) == 4 and whole(words[3]) else set()  # noqa: PLR2004
    return tuple(sorted(heard | mine))


def managed(text: str) -> dict[str, Managed]:
    """Read the table of files that the last apply wrote."""
    rows = (line.split("\t") for line in text.splitlines())
    return {row[0]: Managed(service=row[1], digest="".join(row[2:])) for row in rows if row[1:]}


def modes(text: str) -> dict[str, PathFact]:
    """Read `stat`."""
    rows = (line.split(" ", 2) for line in text.splitlines())
    # A name with a line break has lines of its own here; it is none of ours.
    return {
        row[2]: PathFact(mode=int(row[0], 8), owner=row[1])
        for row in rows
        if len(row) == 3 and re.fullmatch(r"[0-7]{1,5}", row[0])  # noqa: PLR2004 - mode, owner, path
    }


def files(digests: str, permissions: str) -> dict[str, PathFact]:
    """Read what `sha256sum` and `stat` say of the same files."""
    rows = (line.partition("  ") for line in digests.splitlines())
    found = {path: digest for digest, _, path in rows}
    return {
        path: PathFact(mode=fact.mode, owner=fact.owner, digest=found[path])
        for path, fact in modes(permissions).items()
        if path in found
    }


def room(text: str) -> int:
    """How many users Kamailio's unit was last written for; 0 where it does not say."""
    match = re.search(r"Room for (\d+) users", text)
    return whole(match[1]) if match else 0
