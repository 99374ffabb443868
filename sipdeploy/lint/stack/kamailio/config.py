"""A parsed kamailio.cfg with its tls.cfg: the input of the rules."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from sipdeploy.lint.stack.kamailio.flow import Flow
from sipdeploy.lint.stack.kamailio.parser import Parser
from sipdeploy.lint.stack.kamailio.syntax import NO_FILE, Assign, Setting, Syntax, statements_of
from sipdeploy.lint.stack.rules import Finding

if TYPE_CHECKING:
    from sipdeploy.lint.stack.files import StackFile
    from sipdeploy.lint.stack.kamailio.tokens import Token
    from sipdeploy.lint.stack.rules import Stack

_LINE = re.compile(
    r"^[ \t]*(?:\[(?P<section>[^\]\n]*)\]|(?P<key>\w+)[ \t]*=[ \t]*(?P<value>[^\n#;]*))",
    re.MULTILINE,
)
_LISTEN = re.compile(
    r"(?:(?P<protocol>udp|tcp|tls|sctp|ws|wss):)?(?P<host>\[[^\]]*\]|[^:\s]*)(?::(?P<port>\d{1,5}))?"
    r"(?:.*?\badvertise (?P<advertised>\[[^\]]*\]|[^:\s]*))?",
    re.DOTALL,
)
_LOOPBACK = re.compile(r"127\.[\d.]+|\[::1\]|localhost|lo")
_BEHIND_A_SOCKET = ("advertise ", "name ", "virtual")
_YES = {"yes", "on", "1", "true"}


class TlsValue(NamedTuple):
    """A line of tls.cfg with its section."""

    section: str
    key: str
    value: str
    file: StackFile
    start: int
    end: int


class Socket(NamedTuple):
    """A `listen` of kamailio.cfg."""

    setting: Setting
    protocol: str  # empty: udp and tcp
    host: str
    port: str
    advertised: str

    @property
    def is_wildcard(self) -> bool:
        """Whether it listens on every address."""
        return self.host in {"0.0.0.0", "[::]", "*", "any"}  # noqa: S104  # read, not bound

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return bool(_LOOPBACK.fullmatch(self.host))

    @property
    def address(self) -> str | None:
        """The address, empty for every one; None for a name or an interface."""
        if self.is_wildcard:
            return ""
        host = "127.0.0.1" if self.host == "lo" else self.host.strip("[]")
        try:
            return host if host == "localhost" else str(ipaddress.ip_address(host))
        except ValueError:
            return None

    @property
    def is_single(self) -> bool:
        """Whether nothing but its options follows: the syntax allows several addresses."""
        _, _, rest = self.setting.value.partition(" ")
        return not rest or rest.startswith(_BEHIND_A_SOCKET)


class Listener(NamedTuple):
    """A port of a transport protocol on an address; an empty address is every one."""

    proto: str
    address: str
    port: int
    file: StackFile
    start: int
    end: int


class Destination(NamedTuple):
    """A literal URI to which requests go."""

    uri: str
    file: StackFile
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Config:
    """Kamailio's files, parsed, and the paths of requests through them."""

    root: StackFile = NO_FILE
    syntax: Syntax = field(default_factory=Syntax)
    tls: tuple[TlsValue, ...] = ()

    @cached_property
    def flow(self) -> Flow:
        """The paths of requests."""
        return Flow(self.syntax)

    @cached_property
    def sockets(self) -> tuple[Socket, ...]:
        """The sockets of `listen`."""
        found = []
        for setting in self.syntax.settings:
            match = _LISTEN.match(setting.value.strip("()")) if setting.name == "listen" else None
            if match:
                parts = (match[name] or "" for name in ("protocol", "host", "port", "advertised"))
                found.append(Socket(setting, *parts))
        return tuple(found)

    @cached_property
    def listeners(self) -> tuple[Listener, ...]:
        """What `listen` opens, as far as its address is in the file."""
        return tuple(
            Listener(proto, socket.address, self._port(socket, proto), *_place(socket.setting))
            for socket in self.sockets
            for proto in _TRANSPORTS.get(socket.protocol, (socket.protocol,))
            if socket.address is not None
        )

    def _port(self, socket: Socket, proto: str) -> int:
        common = self.syntax.setting("port")
        given = socket.port or (common.value if common else "")
        default = 5061 if proto == "tls" else 5060
        return int(given) if re.fullmatch(r"\d{1,5}", given) else default

    @property
    def knows_listeners(self) -> bool:
        """Whether `listeners` are all."""
        is_known = all(each.address is not None and each.is_single for each in self.sockets)
        has_block = self.syntax.setting("socket") is not None
        return bool(self.sockets) and is_known and not has_block and self.syntax.is_complete

    @cached_property
    def destinations(self) -> tuple[Destination, ...]:
        """The literal URIs that become the destination, `$du`."""
        assignments = (
            statement
            for route in self.syntax.routes
            for statement in statements_of(route.body)
            if isinstance(statement, Assign) and statement.target.value == "$du"
        )
        return tuple(
            Destination(token.value, token.file, token.start, token.end)
            for each in assignments
            for token in each.value
            if len(each.value) == 1 and token.kind == "string" and ":" in token.value
        )

    @property
    def is_reachable(self) -> bool:
        """Whether other machines can send requests: without `listen`, on all addresses."""
        return not self.sockets or any(not socket.is_loopback for socket in self.sockets)

    @property
    def websocket(self) -> Token | None:
        """Where the WebSocket module is loaded or used."""
        call = self.syntax.called("ws_handle_handshake")
        return self.syntax.loaded.get("websocket") or (call.token if call else None)

    def is_on(self, name: str) -> bool:
        """Whether a global parameter is switched on."""
        setting = self.syntax.setting(name)
        return setting is not None and setting.value.lower() in _YES


_TRANSPORTS = {"": ("udp", "tcp"), "ws": ("tcp",), "wss": ("tls",)}


def _place(setting: Setting) -> tuple[StackFile, int, int]:
    return setting.token.file, setting.token.start, max(setting.end, setting.token.end)


_EMPTY = Config()


def of(stack: Stack) -> Config:
    """Kamailio's part of a stack; without one, an empty one, in which no rule finds anything."""
    return stack.kamailio if isinstance(stack.kamailio, Config) else _EMPTY


def parse(root: StackFile, files: Mapping[str, StackFile]) -> Config:
    """Parse kamailio.cfg, or a tls.cfg alone. `files` are all files by their place."""
    if _is_tls(root):
        return Config(root=root, tls=tuple(_tls(root)))
    syntax = Parser(root, files).parse()
    named = syntax.parameter("tls", "config")
    place = named.value if named else "/etc/kamailio/tls.cfg"
    is_loaded = "tls" in syntax.loaded and place in files
    return Config(root=root, syntax=syntax, tls=tuple(_tls(files[place])) if is_loaded else ())


def _is_tls(file: StackFile) -> bool:
    first = next((match for match in _LINE.finditer(file.text)), None)
    return first is not None and (first["section"] or "").startswith(("server:", "client:"))


def _tls(file: StackFile) -> Iterator[TlsValue]:
    section = ""
    for match in _LINE.finditer(file.text):
        if match["section"] is not None:
            section = match["section"]
        else:
            value = match["value"].strip()
            start = match.start("value")
            yield TlsValue(
                section, match["key"], value, file, match.start("key"), start + len(value)
            )


def at(token: Token, message: str, *, label: str = "", help: str = "") -> Finding:  # noqa: A002
    """A finding at a token."""
    return Finding(
        file=token.file, start=token.start, end=token.end, message=message, label=label, help=help
    )


def at_setting(setting: Setting, message: str, *, label: str = "", help: str = "") -> Finding:  # noqa: A002
    """A finding at a global parameter and its value."""
    token = setting.token._replace(end=max(setting.end, setting.token.end))
    return at(token, message, label=label, help=help)
