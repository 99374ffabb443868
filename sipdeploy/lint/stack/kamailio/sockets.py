"""Rules of listeners, TLS and limits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import listed
from sipdeploy.lint.stack.kamailio.config import Config, Socket, at, at_setting, of
from sipdeploy.lint.stack.rules import Finding, Stack, rule

if TYPE_CHECKING:
    from sipdeploy.lint.stack.kamailio.tokens import Token

_PRIVATE = re.compile(r"127\.|10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|\[::1\]|localhost")
_SOURCES = {"$si", "src_ip", "$siz"}


@rule("SD808", "error")
def tls_switched_off(stack: Stack) -> Iterator[Finding]:
    """TLS listener without TLS: Kamailio says nothing and does not open the port.

    `kamailio -c` accepts it.

    Bad:
        loadmodule "tls.so"
        listen=tls:203.0.113.10:8443
    Good:
        enable_tls=yes
        loadmodule "tls.so"
        listen=tls:203.0.113.10:8443
    """
    config = of(stack)
    if not config.syntax.is_complete:
        return
    for socket in config.sockets:
        if socket.protocol != "tls":
            continue
        if not config.is_on("enable_tls"):
            yield at_setting(
                socket.setting,
                "the TLS port does not open: `enable_tls` is not set",
                help="add `enable_tls=yes`",
            )
        elif "tls" not in config.syntax.loaded:
            yield at_setting(
                socket.setting,
                "the TLS port does not work: module `tls` is not loaded",
                help='add `loadmodule "tls.so"`',
            )


@rule("SD809", "error")
def refused_handshake(stack: Stack) -> Iterator[Finding]:
    """WebSocket without `tcp_accept_no_cl`: Kamailio refuses the handshake of every browser.

    The GET of a browser has no Content-Length. `kamailio -c` accepts it.

    Bad:
        loadmodule "websocket.so"
    Good:
        tcp_accept_no_cl=yes
        loadmodule "websocket.so"
    """
    config = of(stack)
    if config.websocket and config.syntax.is_complete and not config.is_on("tcp_accept_no_cl"):
        yield at(
            config.websocket,
            "browsers cannot connect: `tcp_accept_no_cl` is not set",
            help="add `tcp_accept_no_cl=yes`",
        )


@rule("SD815", "warning")
def kept_contacts(stack: Stack) -> Iterator[Finding]:
    """Contacts outlive their WebSocket connection: calls to them fail until they expire.

    Bad:
        loadmodule "websocket.so"
        loadmodule "usrloc.so"
    Good:
        loadmodule "websocket.so"
        loadmodule "usrloc.so"
        modparam("usrloc", "handle_lost_tcp", 1)
    """
    config = of(stack)
    lost = config.syntax.parameter("usrloc", "handle_lost_tcp")
    usrloc = config.syntax.loaded.get("usrloc")
    is_handled = lost is not None and lost.value != "0"
    if config.websocket and usrloc and not is_handled and config.syntax.is_complete:
        found = at(
            lost.name if lost else usrloc,
            "contacts stay when their connection is lost",
            help='add `modparam("usrloc", "handle_lost_tcp", 1)`',
        )
        mode = config.syntax.parameter("usrloc", "db_mode")
        memory = mode.name if mode and mode.value == "0" else None
        text = "in memory only: a restart forgets all contacts"
        other = ((memory.file, memory.start, memory.end, text),) if memory else ()
        yield replace(found, other=other)


@rule("SD816", "warning")
def private_socket_on_every_address(stack: Stack) -> Iterator[Finding]:
    """Socket for a server behind Kamailio that listens on every address.

    Strangers reach it too, and only routing keeps them out.

    Bad:
        listen=udp:0.0.0.0:5062 advertise 127.0.0.1:5062
    Good:
        listen=udp:127.0.0.1:5062
    """
    config = of(stack)
    private = {s.port for s in config.sockets if _PRIVATE.match(s.advertised)}
    has_backend = config.websocket is not None and _trusts_a_private_address(config)
    for socket in config.sockets:
        is_backend = socket.port in private or (has_backend and not socket.advertised)
        if socket.is_wildcard and socket.protocol in {"", "udp", "tcp"} and is_backend:
            yield at_setting(
                socket.setting,
                "a socket for another server listens on every address",
                help=f"write `{_narrow(socket)}`, or the address that the other server reaches",
            )


def _trusts_a_private_address(config: Config) -> bool:
    return any(
        compare.left[0].value in _SOURCES and _PRIVATE.match(compare.right[0].value)
        for compare in config.syntax.conditions
        if compare.left and compare.right
    )


def _narrow(socket: Socket) -> str:
    host = socket.advertised if _PRIVATE.match(socket.advertised) else "127.0.0.1"
    protocol = f"{socket.protocol}:" if socket.protocol else ""
    return f"listen={protocol}{host}" + (f":{socket.port}" if socket.port else "")


@rule("SD817", "note")
def no_control(stack: Stack) -> Iterator[Finding]:
    """No module for commands: `kamcmd` and `kamctl` cannot reach this Kamailio.

    Bad:
        loadmodule "tm.so"
        request_route {
            exit;
        }
    Good:
        loadmodule "tm.so"
        loadmodule "ctl.so"
        request_route {
            exit;
        }
    """
    syntax = of(stack).syntax
    doors = {"ctl", "jsonrpcs", "xhttp_rpc", "xmlrpc"}
    if syntax.modules and syntax.is_complete and not doors & syntax.loaded.keys():
        yield at(
            syntax.modules[0][1],
            "`kamcmd` cannot connect: module `ctl` is not loaded",
            help='add `loadmodule "ctl.so"`',
        )


# --- TLS -----------------------------------------------------------------------------------------

_OLD = re.compile(r"(SSLv\d+|TLSv1(\.[01])?)\+?")


@rule("SD820", "warning")
def old_tls(stack: Stack) -> Iterator[Finding]:
    """TLS below 1.2 (RFC 8996): browsers do not need it, and attackers do.

    Bad:
        loadmodule "tls.so"
        modparam("tls", "tls_method", "TLSv1+")
    Good:
        loadmodule "tls.so"
        modparam("tls", "tls_method", "TLSv1.2+")
    """
    config = of(stack)
    message, remedy = "`{}` allows TLS below 1.2", "write `TLSv1.2+`"
    for line in config.tls:
        if line.key in {"method", "tls_method"} and _OLD.fullmatch(line.value):
            yield Finding(
                file=line.file,
                start=line.end - len(line.value),
                end=line.end,
                message=message.format(line.value),
                help=remedy,
            )
    method = config.syntax.parameter("tls", "tls_method")
    if method and _OLD.fullmatch(method.value):
        yield at(method.name, message.format(method.value), help=remedy)


_THREADS_UNSAFE = {(5, 7), (5, 8)}  # 5.7.5 added the parameter; 6.0 made 2 its default


@rule("SD823", "warning")
def unsafe_openssl_threads(stack: Stack) -> Iterator[Finding]:
    """OpenSSL 3 in the processes of Kamailio without `tls_threads_mode`: memory can be corrupted.

    The parameter exists from 5.7.5; its default is 0 in 5.7 and 5.8, and 2 from 6.0.

    Bad:
        loadmodule "tls.so"
        tls_threads_mode=0
    Good:
        loadmodule "tls.so"
        tls_threads_mode=2
    """
    config = of(stack)
    module, mode = config.syntax.loaded.get("tls"), config.syntax.setting("tls_threads_mode")
    version = (stack.kamailio_version or ())[:2]
    if module and mode and mode.value == "0":
        yield at_setting(
            mode,
            "`tls_threads_mode=0` is not safe with OpenSSL 3",
            help="write `tls_threads_mode=2`",
        )
    elif module and not mode and version in _THREADS_UNSAFE and config.syntax.is_complete:
        yield at(
            module,
            "`tls` is not safe with OpenSSL 3 in this version",
            help="add `tls_threads_mode=2`, from 5.7.5",
        )


# Global parameters that the oldest supported versions do not have, with the first that has them.
_SINCE = {"tcp_accept_iplimit": (5, 7, 3), "tls_threads_mode": (5, 7, 5)}


@rule("SD825", "error")
def parameter_of_a_later_version(stack: Stack) -> Iterator[Finding]:
    """Global parameter that only a later version of Kamailio has: it does not start.

    The linter knows it only if you name your version. These are for Kamailio 5.6.

    Bad:
        tls_threads_mode=2
    Good:
        tcp_max_connections=4096
    """
    version = stack.kamailio_version
    for setting in of(stack).syntax.settings if version else ():
        since = _SINCE.get(setting.name, ())
        if (version or ())[:2] < since[:2]:
            first, present = (".".join(map(str, v)) for v in (since, version or ()))
            yield at_setting(
                setting,
                f"`{setting.name}` exists from Kamailio {first}, not in {present}",
                help="remove the line",
            )


# --- limits --------------------------------------------------------------------------------------


def _stream(config: Config) -> Token | None:
    """The listener or module that takes many connections."""
    tls = (socket.setting.token for socket in config.sockets if socket.protocol == "tls")
    return next(tls, config.websocket) if config.syntax.is_complete else None


@rule("SD821", "note")
def default_connection_limits(stack: Stack) -> Iterator[Finding]:
    """Limits of connections are the default of 2048, for all phones together.

    A phone in a browser needs one, and 130 to 160 KiB of shared memory, which the option `-m` sets
    (64 MiB by default: about 280 to 400 phones).

    Bad:
        listen=tls:203.0.113.10:8443
    Good:
        listen=tls:203.0.113.10:8443
        tcp_max_connections=10000
        tls_max_connections=10000
    """
    config = of(stack)
    stream = _stream(config)
    names = ("tcp_max_connections", "tls_max_connections")
    absent = [name for name in names if not config.syntax.setting(name)]
    if stream and absent:
        yield at(
            stream,
            f"the default of {listed(absent)} allows 2048 connections",
            help=f"set {listed(absent)} and the option `-m` (MiB) for your number of phones",
        )


@rule("SD822", "note")
def default_connections_of_an_address(stack: Stack) -> Iterator[Finding]:
    """Kamailio 5.7.3 and later accept 1024 connections of one address: of one NAT or proxy.

    Bad:
        listen=tls:203.0.113.10:8443
    Good:
        listen=tls:203.0.113.10:8443
        tcp_accept_iplimit=4096
    """
    config = of(stack)
    stream = _stream(config)
    if stream and _has_limit(stack) and not config.syntax.setting("tcp_accept_iplimit"):
        yield at(
            stream,
            "one address can have 1024 connections by default",
            help="from 5.7.3, set `tcp_accept_iplimit` for the largest network behind one address",
        )


def _has_limit(stack: Stack) -> bool:
    """Whether the version has `tcp_accept_iplimit`; without a version, the newest counts."""
    version = stack.kamailio_version
    return version is None or version >= (5, 7, 3) or version == (5, 7)
