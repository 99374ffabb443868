"""Kamailio: its files, its packages, its own judgement of a candidate."""

import math
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sipdeploy.render import ManagedFile, display_name, render
from sipdeploy.service import LOOPBACK, Deployment, Directory, Port, Verdict
from sipdeploy.site import HostEntry, Site

NAME = "kamailio"
UNIT = "kamailio.service"
OWNER = "root:kamailio"
DATABASE = "/etc/kamailio/sipdeploy.db"
CERTIFICATE = "/etc/kamailio/tls/server.crt"
PRIVATE_KEY = "/etc/kamailio/tls/server.key"
DIALOG_KEY = "/etc/kamailio/dialog-key.cfg"
TABLES = ("credentials", "users", "names", "services")
DIRECTORIES = (
    Directory(path="/etc/kamailio", mode=0o755, owner="root:root"),
    Directory(path="/etc/kamailio/tls", mode=0o750, owner=OWNER),
    Directory(path="/etc/systemd/system/kamailio.service.d", mode=0o755, owner="root:root"),
)
# tls.cfg is read when Kamailio starts and by tls.reload; the tables by htable.reload, one by one.
RELOAD_TLS = ("kamcmd", "tls.reload")
RELOAD_TABLES = (
    "sh",
    "-c",
    'for table in "$@"; do kamcmd htable.reload "$table" || exit; done',
    "sipdeploy",
    *TABLES,
)

# Measured: a WSS connection takes 134 to 160 KiB of shared memory; 100,000 users load into 64 MiB
# of private memory (sip-config.md 3.6). Memory that nobody uses is not touched, so room is cheap.
MIB_PER_CONNECTION = 0.2
MIB_PER_USER = 0.0006
BASE_CONNECTIONS = 256
CONNECTIONS_PER_USER = 2
BASE_SHARED_MIB = 96
BASE_PRIVATE_MIB = 16

# `parse error in config file F, line N, column C[-D]: text`; with several lines, `from line N, column C`.
COMPLAINT = re.compile(
    r"(?:parse error|warning) in config file (?P<path>[^,]+), (?:from )?line (?P<line>\d+), "
    r"column (?P<column>\d+)[^:]*: (?P<text>.*)"
)
LOAD_COMPLAINT = re.compile(r"(?:ERROR|CRITICAL): (?P<text>.*)")


def packages(os_id: str, codename: str) -> tuple[str, ...]:
    """The Debian packages, the same wherever Kamailio is packaged."""
    del os_id, codename
    return (
        "kamailio",
        "kamailio-sqlite-modules",
        "kamailio-tls-modules",
        "kamailio-websocket-modules",
        "openssl",
    )


def connections(site: Site) -> int:
    """How many WebSocket connections are provided for."""
    return BASE_CONNECTIONS + CONNECTIONS_PER_USER * len(site.users)


def shared_memory_mib(site: Site) -> int:
    """Shared memory to ask for, MiB: TLS state of the connections, and the tables."""
    need = BASE_SHARED_MIB + MIB_PER_CONNECTION * connections(site)
    return math.ceil(need + MIB_PER_USER * len(site.users))


def private_memory_mib(site: Site) -> int:
    """Private memory of a process, MiB: the whole of a table passes through it when it loads."""
    return math.ceil(BASE_PRIVATE_MIB + MIB_PER_USER * len(site.users))


def files(deployment: Deployment) -> Iterator[ManagedFile]:
    """Every managed file of Kamailio."""
    values = _values(deployment)
    for path, template, mode, reload in (
        ("/etc/kamailio/kamailio.cfg", "kamailio/kamailio.cfg.j2", 0o640, None),
        ("/etc/kamailio/tls.cfg", "kamailio/tls.cfg.j2", 0o640, RELOAD_TLS),
        (
            "/etc/systemd/system/kamailio.service.d/sipdeploy.conf",
            "kamailio/override.conf.j2",
            0o644,
            None,
        ),
    ):
        yield ManagedFile(
            path=path,
            content=render(template, values),
            mode=mode,
            owner="root:root" if path.endswith(".conf") else OWNER,
            service=NAME,
            reload=reload,
            template=template,
        )
    yield ManagedFile(
        path=DATABASE,
        content=database(_tables(deployment)),
        mode=0o640,
        owner=OWNER,
        service=NAME,
        reload=RELOAD_TABLES,
        sensitive=True,
        template="(users and services)",
    )


def _values(deployment: Deployment) -> Mapping[str, Any]:
    site = deployment.site
    count = connections(site)
    return {
        "domain": site.domain,
        "authentication": site.authentication,
        "kamailio": deployment.kamailio,
        "asterisk": {"address": LOOPBACK, "port": site.ports.asterisk},
        "trunk": {"address": LOOPBACK, "port": site.ports.kamailio},
        "registrar": {"address": LOOPBACK, "port": site.ports.registrar},
        "listen": {
            "address": deployment.host.private_address or "0.0.0.0",  # noqa: S104  # public by design
            "advertise": deployment.host.media_address,
            "port": site.ports.wss,
        },
        "origins": site.origins,
        "connections": count,
        "table_size": min(14, max(8, math.ceil(math.log2(count)))),
        "shared_memory_mib": shared_memory_mib(site),
        "private_memory_mib": private_memory_mib(site),
        "open_files": max(65536, 2 * count),
    }


def _tables(deployment: Deployment) -> Mapping[str, Iterable[tuple[str, str]]]:
    """The tables that Kamailio reads at run time, number -> value."""
    users = deployment.site.users
    challenged = deployment.site.authentication == "kamailio"
    return {
        "credentials": deployment.credentials.items() if challenged else (),
        "users": (
            (number, f"voicemail={int(user.voicemail)};contacts={user.max_contacts}")
            for number, user in users.items()
        ),
        "names": (
            (number, display_name(user.name)) for number, user in users.items() if user.name
        ),
        "services": ((number, item.kind) for number, item in deployment.site.services.items()),
    }


def database(tables: Mapping[str, Iterable[tuple[str, str]]]) -> bytes:
    """An SQLite database in the shape of the htable module (its README, 1.2), the same bytes always."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("PRAGMA page_size=4096")
    connection.execute("CREATE TABLE version (table_name TEXT PRIMARY KEY, table_version INTEGER)")
    connection.execute("BEGIN")
    for table, rows in tables.items():
        connection.execute(f"INSERT INTO version VALUES ('{table}', 2)")  # noqa: S608  # our names
        connection.execute(
            f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, key_name TEXT, key_type INTEGER,"
            " value_type INTEGER, key_value TEXT, expires INTEGER)"
        )
        connection.executemany(
            f"INSERT INTO {table} (key_name, key_type, value_type, key_value, expires)"  # noqa: S608
            " VALUES (?, 0, 0, ?, 0)",
            sorted(rows),
        )
    connection.execute("COMMIT")
    content = bytearray(connection.serialize())
    connection.close()
    # Bytes 92 to 99 only tell which SQLite wrote last (fileformat2.html, 1.3.23): not our business.
    content[92:100] = bytes(8)
    return bytes(content)


def listens(site: Site, host: HostEntry) -> Sequence[Port]:
    """The ports that must answer."""
    private = [
        Port(protocol="udp", address=LOOPBACK, number=number, process=NAME, key=f"ports.{key}")
        for key, number in (("kamailio", site.ports.kamailio), ("registrar", site.ports.registrar))
    ]
    address = host.private_address or "0.0.0.0"  # noqa: S104  # public by design
    public = Port(
        protocol="tcp", address=address, number=site.ports.wss, process=NAME, key="ports.wss"
    )
    return (public, *private)


def check(tree: str) -> tuple[str, ...]:
    """Kamailio's own verdict over the staged tree. It parses; it opens no socket and no file."""
    return ("kamailio", "-c", "-f", f"{tree}/etc/kamailio/kamailio.cfg")


def parse_check(output: str) -> list[Verdict]:
    """The complaints of `kamailio -c`, which come on both outputs."""
    found = [
        Verdict(
            path=match["path"],
            line=int(match["line"]),
            column=int(match["column"]),
            text=match["text"].strip(),
        )
        for match in COMPLAINT.finditer(output)
    ]
    if found:
        return found
    texts = [match["text"].strip() for match in LOAD_COMPLAINT.finditer(output)]
    return [Verdict(path="/etc/kamailio/kamailio.cfg", line=1, column=1, text=t) for t in texts]
