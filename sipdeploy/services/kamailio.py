"""Kamailio: its files, packages, sizes, and its checks of a candidate."""

import hashlib
import math
import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sipdeploy.inventory.models import MOST_CONNECTIONS
from sipdeploy.inventory.site import HostEntry, Site
from sipdeploy.services.phone import page
from sipdeploy.services.render import ManagedFile, display_name, rendered
from sipdeploy.services.service import (
    LOOPBACK,
    NOTHING,
    Check,
    Complaint,
    Deployment,
    Directory,
    HostProfile,
    Port,
    Service,
)
from sipdeploy.services.user_database import serialized

NAME = "kamailio"
UNIT = "kamailio.service"
OWNER = "root:kamailio"
CONFIGURATION = "/etc/kamailio/kamailio.cfg"
DATABASE = "/etc/kamailio/sipdeploy.db"
SUMS = "/etc/kamailio/credentials.sum"
TABLES = ("credentials", "users", "names", "services")
DIRECTORIES = (
    Directory(path="/etc/kamailio", mode=0o755, owner="root:root"),
    Directory(path="/etc/kamailio/tls", mode=0o750, owner=OWNER),
    Directory(path="/etc/systemd/system/kamailio.service.d", mode=0o755, owner="root:root"),
)
# `tls.reload` reads tls.cfg again; tables.sh reloads the tables with `htable.reload`.
RELOAD_TLS = ("kamcmd", "tls.reload")
RELOAD_TABLES = ("sh", "/etc/kamailio/tables.sh")

# Measured: a WSS connection takes 130 to 140 KiB of shared memory; 100,000 users load into 64 MiB
# of private memory. Linux allocates memory only when it is used, so unused room is cheap.
MIB_PER_CONNECTION = 0.2
MIB_PER_USER = 0.0006
BASE_CONNECTIONS = 256
CONNECTIONS_PER_USER = 1.5
# One address may have `connections` connections, so a whole site behind one NAT fits. Kamailio
# accepts twice as many, so other addresses can still connect; a share may be unproven. The shared
# memory is for `connections`: a connection before its handshake lasts seconds and needs a quarter.
ACCEPTED_PER_CONNECTION = 2
UNPROVEN_SHARE = 4
BASE_SHARED_MIB = 96
BASE_PRIVATE_MIB = 16

# `parse error in config file F, line N, column C[-D]: text`, or `from line N, column C` where the
# error spans lines. An ERROR line before it often says what the parser expected.
COMPLAINT = re.compile(
    r"parse error in config file (?P<path>[^,]+), (?:from )?line (?P<line>\d+), "
    r"column (?P<column>\d+)[^:]*: *(?P<text>.*)"
)
REASON = re.compile(r"(?:ERROR|CRITICAL): (?:<?\w+>? \[[^]]*\]: \w+\(\): )?(?P<text>.*)")
AT_LINE = re.compile(r"error at cfg line (\d+)")
# Errors that the trial start finds with queries, with or without a place.
ASKED = re.compile(
    r"^trial: (?:(?P<path>/[^:]+):(?P<line>\d+):(?P<column>\d+): )?(?P<text>.*)$", re.MULTILINE
)


def packages(site: Site, os_id: str, codename: str) -> tuple[str, ...]:
    """The Debian packages, the same on every system."""
    del site, os_id, codename
    return (
        "kamailio",
        "kamailio-sqlite-modules",
        "kamailio-systemd-modules",
        "kamailio-tls-modules",
        "kamailio-websocket-modules",
        # has /etc/protocols, without which Kamailio 5 cannot set TCP_NODELAY
        "netbase",
        "openssl",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Sizes of Kamailio: `room` in users and their connections, memory in MiB."""

    room: int
    connections: int
    shared_mib: int
    private_mib: int  # for each process: loading a table needs all of its rows in it

    @property
    def most_users(self) -> int:
        """The number of users above which the room doubles."""
        return math.floor((self.room - BASE_CONNECTIONS) / CONNECTIONS_PER_USER)


def sizes(site: Site, profile: HostProfile) -> Sizes:
    """The sizes for a site; all follow from the room, a power of two.

    A change of the room costs a restart. So the room doubles, and shrinks only if a quarter of it
    is enough.
    """
    need = math.ceil(BASE_CONNECTIONS + CONNECTIONS_PER_USER * len(site.users))
    step = 1 << (need - 1).bit_length()
    room = profile.room if profile.room == 2 * step else step
    connections = site.limits.connections or min(room, MOST_CONNECTIONS)
    return Sizes(
        room=room,
        connections=connections,
        shared_mib=math.ceil(
            BASE_SHARED_MIB + MIB_PER_CONNECTION * connections + MIB_PER_USER * room
        ),
        private_mib=math.ceil(BASE_PRIVATE_MIB + MIB_PER_USER * room),
    )


def notes(site: Site, profile: HostProfile) -> Iterator[str]:
    """Notes of a plan about a change of the room."""
    now = sizes(site, profile)
    if profile.room and now.room != profile.room:
        yield (
            f"kamailio restarts with room for {now.room} users and their connections "
            f"(now {profile.room}); the next restart for size comes above {now.most_users} users"
        )


def listen_address(host: HostEntry) -> str:
    """The address for phones: with 1:1 NAT the host's own address, else the wildcard."""
    everywhere = "::" if ":" in host.media_address else "0.0.0.0"  # noqa: S104  # public by design
    return host.private_address or everywhere


def files(deployment: Deployment) -> Iterator[ManagedFile]:
    """Every managed file of Kamailio."""
    values = _values(deployment)
    for path, template, mode, reload in (
        (CONFIGURATION, "kamailio/kamailio.cfg.j2", 0o640, None),
        ("/etc/kamailio/tls.cfg", "kamailio/tls.cfg.j2", 0o640, RELOAD_TLS),
        (RELOAD_TABLES[1], "kamailio/tables.sh.j2", 0o640, NOTHING),
        (
            "/etc/systemd/system/kamailio.service.d/sipdeploy.conf",
            "kamailio/override.conf.j2",
            0o644,
            None,
        ),
    ):
        owner = "root:root" if path.endswith(".conf") else OWNER
        yield rendered(
            template, values, path=path, mode=mode, service=NAME, reload=reload, owner=owner
        )
    yield from _data(deployment)


def _data(deployment: Deployment) -> Iterator[ManagedFile]:
    """The files that change with users and services."""
    sums = credential_sums(deployment.site.domain, deployment.credentials)
    for path, content, mode, owner in (
        (DATABASE, database(_tables(deployment)), 0o640, OWNER),
        (SUMS, sums, 0o600, "root:root"),
    ):
        yield ManagedFile(
            path=path,
            content=content,
            mode=mode,
            owner=owner,
            service=NAME,
            reload=RELOAD_TABLES,
            sensitive=True,
            template="(users and services)",
            is_data=True,
        )


def credential_sums(domain: str, credentials: Mapping[str, str]) -> bytes:
    """One line for each number with a checksum of its HA1, in the order of sort(1).

    The script `sessions` ends the sessions of each number whose line has changed.
    """
    rows = (
        f"{number}@{domain} {hashlib.sha256(ha1.encode()).hexdigest()[:16]}\n"
        for number, ha1 in credentials.items()
    )
    return "".join(sorted(rows)).encode()


def _values(deployment: Deployment) -> Mapping[str, Any]:
    site = deployment.site
    given = sizes(site, deployment.profile)
    accepted = ACCEPTED_PER_CONNECTION * given.connections
    return {
        "domain": site.domain,
        "authentication": site.authentication,
        "kamailio": deployment.kamailio,
        "asterisk": {"address": LOOPBACK, "port": site.ports.asterisk},
        "trunk": {"address": LOOPBACK, "port": site.ports.kamailio},
        "registrar": {"address": LOOPBACK, "port": site.ports.registrar},
        "listen": {
            "address": listen_address(deployment.host),
            "advertise": deployment.host.media_address,
            "port": site.ports.wss,
        },
        "origins": _origins(site),
        "room": given.room,
        "connections": given.connections,
        "accepted": accepted,
        "unproven": given.connections // UNPROVEN_SHARE,
        "table_size": min(14, given.room.bit_length() - 1),
        "shared_memory_mib": given.shared_mib,
        "private_memory_mib": given.private_mib,
        "open_files": max(65536, 2 * accepted),
        "lowest_port": min(site.ports.wss, site.ports.kamailio, site.ports.registrar),
    }


def _origins(site: Site) -> tuple[str, ...]:
    """The web origins that may open the WebSocket, with that of the page; () for any."""
    own = page.origin(site)
    is_limited = bool(site.origins and own and own not in site.origins)
    return (*site.origins, own) if is_limited else site.origins


def _tables(deployment: Deployment) -> Mapping[str, Iterable[tuple[str, str]]]:
    """The tables that Kamailio reads at run time, number -> value."""
    users = deployment.site.users
    challenged = deployment.site.authentication == "kamailio"
    return {
        "credentials": deployment.credentials.items() if challenged else (),
        "users": (
            (number, f"voicemail={int(user.voicemail)};contacts={user.max_contacts:d}")
            for number, user in users.items()
        ),
        "names": (
            (number, display_name(user.name)) for number, user in users.items() if user.name
        ),
        "services": ((number, item.kind) for number, item in deployment.site.services.items()),
    }


def database(tables: Mapping[str, Iterable[tuple[str, str]]]) -> bytes:
    """An SQLite database for htable (module README, section 1.2); equal rows give equal bytes."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("PRAGMA page_size=4096")
    connection.execute("CREATE TABLE version (table_name TEXT PRIMARY KEY, table_version INTEGER)")
    connection.execute("BEGIN")
    sorted_rows = {table: sorted(rows) for table, rows in tables.items()}
    digest = hashlib.sha256(repr(sorted_rows).encode()).hexdigest()[:24]
    for table, rows in {**sorted_rows, "loaded": [("digest", digest)]}.items():
        connection.execute(f"INSERT INTO version VALUES ('{table}', 2)")  # noqa: S608  # our names
        connection.execute(
            f"CREATE TABLE {table} (key_name TEXT PRIMARY KEY, key_type INTEGER,"
            " value_type INTEGER, key_value TEXT, expires INTEGER) WITHOUT ROWID"
        )
        connection.executemany(
            f"INSERT INTO {table} (key_name, key_type, value_type, key_value, expires)"  # noqa: S608
            " VALUES (?, 0, 0, ?, 0)",
            rows,
        )
    connection.execute("COMMIT")
    return serialized(connection)


def listens(site: Site, host: HostEntry) -> Sequence[Port]:
    """The ports that must answer."""
    private = [
        Port(protocol="udp", address=LOOPBACK, number=number, process=NAME, key=f"ports.{key}")
        for key, number in (("kamailio", site.ports.kamailio), ("registrar", site.ports.registrar))
    ]
    public = Port(
        protocol="tcp",
        address=listen_address(host),
        number=site.ports.wss,
        process=NAME,
        key="ports.wss",
        is_tls=True,
    )
    return (public, *private)


def checks(paths: Collection[str]) -> tuple[Check, ...]:
    """Kamailio's parser, and a trial start, which finds what the parser accepts.

    No checks if only the tables change.
    """
    if not any(
        path.startswith("/etc/kamailio/") and path not in (DATABASE, SUMS) for path in paths
    ):
        return ()
    return (
        Check(service=NAME, title="`kamailio -c`", script="check_kamailio"),
        Check(service=NAME, title="a trial start of Kamailio", script="trial_kamailio"),
    )


def parse_check(output: str) -> list[Complaint]:
    """The errors of `kamailio -c` and of a trial start, one for each line at fault."""
    complaints: dict[tuple[str, int], Complaint] = {}
    reasons: list[str] = []
    for line in output.splitlines():
        if complaint := COMPLAINT.search(line):
            _add(complaints, complaint, reasons)
            reasons = []
        elif (reason := REASON.search(line)) and "bad config file" not in line:
            reasons.append(reason["text"].strip())
    verdicts = [_asked(match) for match in ASKED.finditer(output)] + list(complaints.values())
    if verdicts or not reasons:
        return verdicts
    at_line = AT_LINE.search(output)
    number = int(at_line[1]) if at_line else 0  # an error of a start may name no line
    text = "; ".join(dict.fromkeys(reasons))
    return [Complaint(path=CONFIGURATION, line=number, column=1, text=text)]


def _asked(match: re.Match[str]) -> Complaint:
    return Complaint(
        path=match["path"] or CONFIGURATION,
        line=int(match["line"] or 0),
        column=int(match["column"] or 1),
        text=match["text"],
    )


def _add(
    complaints: dict[tuple[str, int], Complaint], complaint: re.Match[str], reasons: Sequence[str]
) -> None:
    """Add an error with its reasons; older versions report several errors for one place."""
    path = complaint["path"]
    # Kamailio counts the line of `include_file` twice; that line is above all possible errors.
    line = max(1, int(complaint["line"]) - path.endswith(CONFIGURATION))
    before = complaints.get((path, line))
    texts = [before.text] if before else []
    texts += [text for text in (complaint["text"].strip(), *reasons) if text]
    complaints[path, line] = Complaint(
        path=path,
        line=line,
        column=before.column if before else int(complaint["column"]),
        text="; ".join(dict.fromkeys(texts)),
    )


SERVICE = Service(
    name=NAME,
    unit=UNIT,
    directories=DIRECTORIES,
    packages=packages,
    files=files,
    listens=listens,
    checks=checks,
    parse_check=parse_check,
)
