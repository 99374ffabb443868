"""coturn: STUN, and TURN for phones whose networks let no direct media through."""

import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sipdeploy.inventory.models import Turn
from sipdeploy.inventory.site import HostEntry, Site
from sipdeploy.services.coturn import peers
from sipdeploy.services.coturn.credentials import turn_keys
from sipdeploy.services.render import ManagedFile, rendered
from sipdeploy.services.service import Deployment, Directory, Port, Service
from sipdeploy.services.user_database import serialized

NAME = "coturn"
UNIT = "coturn.service"
ACCOUNT = "turnserver"
OWNER = f"root:{ACCOUNT}"
CONFIGURATION = "/etc/coturn/turnserver.conf"
DATABASE = "/etc/coturn/users.db"
# coturn keeps its database open, so it reads a copy: an apply replaces the original.
OPENED = "/run/sipdeploy-coturn/users.db"
# Only rows that differ, in one transaction. After `.restore` the schema counts as new, and coturn,
# which uses SQLite's oldest interface, refuses the next user of each of its threads (measured).
_CHANGE = (
    "ATTACH '/etc/coturn/users.db' AS wanted; BEGIN IMMEDIATE;"
    " DELETE FROM main.turnusers_lt WHERE NOT EXISTS (SELECT 1 FROM wanted.turnusers_lt AS w"
    " WHERE w.realm = turnusers_lt.realm AND w.name = turnusers_lt.name"
    " AND w.hmackey = turnusers_lt.hmackey);"
    " INSERT OR IGNORE INTO main.turnusers_lt SELECT * FROM wanted.turnusers_lt; COMMIT;"
)
RELOAD_USERS = ("sqlite3", "-bail", "-cmd", ".timeout 5000", OPENED, _CHANGE)
OVERRIDE = "/etc/systemd/system/coturn.service.d/sipdeploy.conf"
DIRECTORIES = (
    Directory(path="/etc/coturn", mode=0o755, owner="root:root"),
    Directory(path="/etc/systemd/system/coturn.service.d", mode=0o755, owner="root:root"),
)
# Measured: an idle allocation over TLS takes 0.06 MiB; queues of a slow client take more.
MIB_PER_ALLOCATION = 0.2
BASE_MIB = 128
OPEN_FILES = 65536


def packages(site: Site, os_id: str, codename: str) -> tuple[str, ...]:
    """The Debian packages, the same on every system; the SQLite shell changes users."""
    del os_id, codename
    return ("coturn", "sqlite3") if site.turn else ()


def files(deployment: Deployment) -> Iterator[ManagedFile]:
    """Every managed file of coturn; none without `turn`."""
    turn = deployment.site.turn
    if turn is None:
        return
    values = _values(deployment, turn)
    for path, template, mode, owner in (
        (CONFIGURATION, "coturn/turnserver.conf.j2", 0o640, OWNER),
        (OVERRIDE, "coturn/override.conf.j2", 0o644, "root:root"),
    ):
        yield rendered(
            template, values, path=path, mode=mode, service=NAME, reload=None, owner=owner
        )
    site = deployment.site
    yield ManagedFile(
        path=DATABASE,
        content=database(site.domain, turn_keys(site.domain, deployment.credentials)),
        mode=0o640,
        owner=OWNER,
        service=NAME,
        reload=RELOAD_USERS,
        sensitive=True,
        template="(users)",
        is_data=True,
    )


def _values(deployment: Deployment, turn: Turn) -> Mapping[str, Any]:
    return {
        "domain": deployment.site.domain,
        "local": deployment.local_address,
        "public": deployment.host.media_address,
        "turn": turn,
        "bytes_per_second": turn.kbit_per_allocation * 1000 // 8,
        "denied": tuple(peers.ranges()),
        "open_files": OPEN_FILES,
        "memory_mib": math.ceil(BASE_MIB + MIB_PER_ALLOCATION * turn.total_quota),
    }


def database(realm: str, keys: Mapping[str, str]) -> bytes:
    """The table of users that coturn reads, number -> key in hex; equal keys give equal bytes."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("PRAGMA page_size=4096")
    connection.execute("BEGIN")
    connection.execute(
        "CREATE TABLE turnusers_lt"
        " (realm TEXT, name TEXT, hmackey TEXT, PRIMARY KEY (realm, name)) WITHOUT ROWID"
    )
    rows = ((realm, number, key) for number, key in sorted(keys.items()))
    connection.executemany("INSERT INTO turnusers_lt VALUES (?, ?, ?)", rows)
    connection.execute("COMMIT")
    return serialized(connection)


def listens(site: Site, host: HostEntry) -> Sequence[Port]:
    """The ports that must answer."""
    if site.turn is None:
        return ()
    local, plain, tls = host.private_address or host.media_address, site.turn.port, site.turn.tls
    rows = (
        ("udp", plain, "port", False),
        ("tcp", plain, "port", False),
        ("tcp", tls, "tls", True),
    )
    return tuple(
        Port(
            protocol=protocol,
            address=local,
            number=number,
            process=ACCOUNT,  # the name of the program too
            key=f"turn.{key}",
            is_tls=is_tls,
        )
        for protocol, number, key, is_tls in rows
    )


SERVICE = Service(
    name=NAME,
    unit=UNIT,
    directories=DIRECTORIES,
    packages=packages,
    files=files,
    listens=listens,
    reads_certificate=True,
)
