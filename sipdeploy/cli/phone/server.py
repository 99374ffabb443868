"""The web phone on this machine, for `sipdeploy phone --open`.

It hands out the HA1 of a user, so it answers only the person who started it. Its address has a
random path, which no page of another site can guess. Other users of this machine see that path in
the arguments of the browser; they are refused by the owner of their connection. A name that leads
to this machine (DNS rebinding) is refused by the Host field.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

from sipdeploy.services.phone import page

if TYPE_CHECKING:
    from sipdeploy.inventory.site import Site

ADDRESS = "127.0.0.1"  # not `localhost`, which another user can serve on ::1
TCP_TABLE = Path("/proc/net/tcp")
ESTABLISHED = "01"
PLACES = ("first/", "second/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """An answer. `key` is the credential that it needs, as `NUMBER:KEY`."""

    body: bytes = field(repr=False)
    type: str
    key: str = field(default="", repr=False)


def contents(
    site: Site, credentials: Mapping[str, str], numbers: Sequence[str], folder: Path
) -> dict[str, Content]:
    """Path -> content for one phone, or for two side by side."""
    files = {
        each.name: Content(body=each.read_bytes(), type=page.TYPES[each.suffix])
        for each in folder.iterdir()
        if each.suffix in page.TYPES
    }
    if len(numbers) == 1:
        return _phone("", site, credentials, numbers[0], files)
    both = {name: files[name] for name in ("style.css", "icon.svg")} | {"": files["two.html"]}
    for place, number in zip(PLACES, numbers, strict=True):
        both |= _phone(place, site, credentials, number, files)
    return both


def _phone(
    place: str,
    site: Site,
    credentials: Mapping[str, str],
    number: str,
    files: Mapping[str, Content],
) -> dict[str, Content]:
    ha1 = credentials[number]
    key = f"{number}:{page.derived_key(ha1, 'contacts')}"
    account = json.dumps({"number": number, "ha1": ha1})
    texts = {
        "config.json": (page.config(site, is_local=True), ""),
        "account.json": (account, ""),
        "contacts.json": (page.contacts(site), key),
    }
    data = {
        name: Content(body=text.encode(), type=page.TYPES[".json"], key=needs)
        for name, (text, needs) in texts.items()
    }
    return {f"{place}{name}": each for name, each in {**files, **data}.items()} | {
        place: files["index.html"]
    }


class PhoneServer(ThreadingHTTPServer):
    """Serves the contents to this user alone, until `shutdown`."""

    daemon_threads = True

    def __init__(self, site: Site, contents: Mapping[str, Content], port: int = 0) -> None:
        super().__init__((ADDRESS, port), _Handler)
        token = secrets.token_urlsafe(24)
        self.contents = {f"/{token}/{path}": each for path, each in contents.items()}
        self.headers = page.headers(site, is_local=True)
        self.origin = f"http://{ADDRESS}:{self.server_port}"
        self.address = f"{self.origin}/{token}/"


class _Handler(BaseHTTPRequestHandler):
    server: PhoneServer
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        """Answer with a content, or say why not."""
        content = self.server.contents.get(self.path.partition("?")[0])
        if self.headers.get("Host", "") != self.server.origin.removeprefix("http://"):
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
        elif not is_own(self.client_address, (ADDRESS, self.server.server_port)):
            self._refuse(HTTPStatus.FORBIDDEN, "this phone belongs to another user")
        elif content is None:
            self._refuse(HTTPStatus.NOT_FOUND)
        elif content.key and not hmac.compare_digest(self._credentials(), content.key.encode()):
            self._refuse(HTTPStatus.UNAUTHORIZED)
        else:
            self._send(HTTPStatus.OK, content)

    def _credentials(self) -> bytes:
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        try:
            return base64.b64decode(given, validate=True) if scheme == "Basic" else b""
        except ValueError:
            return b""

    def _refuse(self, status: HTTPStatus, why: str = "") -> None:
        body = f"{status.value} {why or status.phrase}\n".encode()
        self._send(status, Content(body=body, type=page.TYPES[".txt"]))

    def _send(self, status: HTTPStatus, content: Content) -> None:
        self.send_response(status)
        fields = {
            "Content-Type": content.type,
            "Content-Length": str(len(content.body)),
            "Cache-Control": "no-store",
            **self.server.headers,
        }
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content.body)

    def version_string(self) -> str:
        """Name no versions."""
        return "sipdeploy"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base
        """Log nothing: a path contains the token."""


def is_own(client: tuple[str, int], server: tuple[str, int], table: Path = TCP_TABLE) -> bool:
    """Whether a connection from this machine belongs to this user, or to root.

    Linux lists the owner of each connection. Elsewhere only the random path protects. The list
    gives closed connections to root, so only an open one counts.
    """
    try:
        lines = table.read_text("ascii").splitlines()[1:]
    except OSError:
        return True
    wanted = [_listed(*client), _listed(*server), ESTABLISHED]
    owners = {int(row[7]) for row in map(str.split, lines) if row[1:4] == wanted}
    return bool(owners) and owners <= {os.geteuid(), 0}


def _listed(address: str, port: int) -> str:
    """An IPv4 address and port as the kernel lists them: `0100007F:1F90`."""
    number = int.from_bytes(socket.inet_aton(address), sys.byteorder)
    return f"{number:08X}:{port:04X}"
