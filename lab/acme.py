"""A certificate authority (pebble) and a name server (BIND) on a lab host.

Tests define the names below `example.test`. The name server forwards all other queries to the
servers of this machine, so that its clients still find their package archive.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.machine import LabError

if TYPE_CHECKING:
    from lab.hosts import Host

ZONE = "example.test"
NAME = f"acme.{ZONE}"  # of the authority itself
TSIG_KEY = "acme-updates"
_FIRST_PORT = 14000
_START_SECONDS = 15

_NAMED = """\
include "/etc/bind/updates.key";
options {{
    directory "/var/cache/bind";
    forwarders {{ {forwarders} }};
    forward only;
    dnssec-validation no;
    allow-query {{ any; }};
    allow-recursion {{ any; }};
    listen-on {{ any; }};
    listen-on-v6 {{ none; }};
}};
zone "{zone}" {{
    type primary;
    file "/var/cache/bind/{zone}";
    update-policy {{ grant local-ddns zonesub any; grant {key} zonesub TXT; }};
}};
"""
_ZONE = """\
$TTL 1
@ SOA ns hostmaster 1 60 60 600 1
@ NS ns
ns A {address}
acme A {address}
"""
_UNIT = """\
[Service]
{environment}
ExecStart=/usr/bin/pebble -config /etc/pebble/{name}.json -dnsserver 127.0.0.1:53
"""
_CONFIGURATION = """\
{{"pebble": {{
  "listenAddress": "0.0.0.0:{port}", "managementListenAddress": "0.0.0.0:{management}",
  "certificate": "/etc/pebble/server.crt", "privateKey": "/etc/pebble/server.key",
  "httpPort": 80, "tlsPort": 443, "ocspResponderURL": "", "externalAccountBindingRequired": false,
  "domainBlocklist": [{blocked}], "retryAfter": {{"authz": 1, "order": 1}},
  "keyAlgorithm": "ecdsa",
  "profiles": {{"default": {{"description": "as Let's Encrypt", "validityPeriod": {seconds}}}}}
}}}}
"""
PACKAGES = ("pebble", "bind9", "bind9-dnsutils", "openssl", "curl")  # of the host of an Authority
_CONFIGURE = """\
set -e
mkdir -p /etc/pebble && cd /etc/pebble
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=lab root" \
    -addext keyUsage=critical,keyCertSign -keyout root.key -out root.crt
openssl req -newkey rsa:2048 -nodes -subj "/CN=acme" -keyout server.key -out server.csr
printf '%s\n' subjectAltName=DNS:$1 authorityKeyIdentifier=keyid >extensions
openssl x509 -req -in server.csr -CA root.crt -CAkey root.key -CAcreateserial -days 30 \
    -extfile extensions -out server.crt
tsig-keygen -a hmac-sha256 $2 >/etc/bind/updates.key
chown bind:bind /etc/bind/updates.key
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """One ACME server: URL of its directory, and port of its management interface."""

    url: str
    management: int


class Authority:
    """The certificate authority and name server of a test, on its own host with PACKAGES."""

    def __init__(self, host: Host) -> None:
        """Make the authority's keys, and start the name server."""
        self.host = host
        self._ports = iter(range(_FIRST_PORT, _FIRST_PORT + 1000, 10))
        host.run(["sh", "-c", _CONFIGURE, "sh", NAME, TSIG_KEY], check=True)
        self._start_named()

    @property
    def server_root(self) -> str:
        """The root (PEM) of the HTTPS certificate of the ACME servers, for `ca_bundle`."""
        return self.host.read("/etc/pebble/root.crt").decode()

    @property
    def tsig_secret(self) -> str:
        """The HMAC-SHA256 key (base64) that may write TXT records."""
        text = self.host.read("/etc/bind/updates.key").decode()
        return text.split('secret "')[1].split('"')[0]

    def point(self, name: str, *records: str) -> None:
        """Replace the records of a name in the zone, for example with `A 10.77.1.11`."""
        lines = [f"update delete {name}."]
        lines += [f"update add {name}. 1 {record}" for record in records]
        text = "\n".join([*lines, "send", ""])
        self.host.run(["nsupdate", "-l"], check=True, input_bytes=text.encode())

    def is_asked_by(self, host: Host) -> None:
        """Make the host use only this name server."""
        host.run(f"echo nameserver {self.host.address} > /etc/resolv.conf", check=True)

    def serve(
        self, *faults: str, blocked: tuple[str, ...] = (), seconds: int = 90 * 86400
    ) -> Directory:
        """Start an ACME server; `faults` are environment variables of pebble, `NAME=value`.

        The server refuses `blocked` domains. Its certificates are valid for `seconds`.
        """
        port = next(self._ports)
        name = f"pebble{port}"
        configuration = _CONFIGURATION.format(
            port=port,
            management=port + 1,
            blocked=", ".join(f'"{domain}"' for domain in blocked),
            seconds=seconds,
        )
        options = faults or ("PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
        # Without reuse, each request needs a new challenge.
        options = (*options, "PEBBLE_AUTHZREUSE=0")
        environment = "\n".join(f"Environment={option}" for option in options)
        unit = _UNIT.format(name=name, environment=environment)
        self.host.write(f"/etc/pebble/{name}.json", configuration.encode())
        self.host.write(f"/etc/systemd/system/{name}.service", unit.encode())
        self.host.run(f"systemctl daemon-reload && systemctl start {name}", check=True)
        directory = Directory(url=f"https://{NAME}:{port}/dir", management=port + 1)
        self._wait(directory)
        return directory

    def root(self, directory: Directory) -> str:
        """The root (PEM) of the certificates that this ACME server signs."""
        return self._fetch(directory, "roots/0")

    def _wait(self, directory: Directory) -> None:
        end = time.monotonic() + _START_SECONDS
        while not self._fetch(directory, "roots/0").startswith("-----BEGIN"):
            if time.monotonic() > end:
                raise LabError(f"the ACME server at {directory.url} does not answer")
            time.sleep(0.1)

    def _fetch(self, directory: Directory, path: str) -> str:
        url = f"https://localhost:{directory.management}/{path}"
        return self.host.run(["curl", "-sk", url]).stdout

    def _start_named(self) -> None:
        servers = [
            line.split()[1]
            for line in self.host.read("/etc/resolv.conf").decode().splitlines()
            if line.startswith("nameserver")
        ]
        forwarders = "".join(f"{server}; " for server in servers)
        named = _NAMED.format(forwarders=forwarders, zone=ZONE, key=TSIG_KEY)
        self.host.write("/etc/bind/named.conf", named.encode())
        zone = _ZONE.format(address=self.host.address)
        self.host.write(f"/var/cache/bind/{ZONE}", zone.encode())
        own = f"chown -R bind:bind /var/cache/bind && systemctl restart named && {_UP}"
        self.host.run(own, check=True)


_UP = (
    f"for try in $(seq 50); do dig +short @127.0.0.1 {NAME} | grep -q . && break; sleep 0.1; done"
)
