"""What the text of an address or SIP URI means, for the rules of both daemons. Pure."""

from __future__ import annotations

import ipaddress
import re

_URI = re.compile(r"sips?:(?:[^@;]*@)?(\[[^\]]*\]|[^:;>?\s]+)(?::([0-9]{1,5}))?")
_LOOPBACK = re.compile(r"127\.[\d.]+|\[?::1\]?|localhost")
_WILDCARDS = {"", "0.0.0.0", "::", "[::]", "0.0.0.0:0"}  # noqa: S104  # compared, not bound


def host_and_port(uri: str) -> tuple[str, int]:
    """Host and port of the first SIP URI in a text; 5060 if there is no port."""
    match = _URI.search(uri)
    return (match[1].strip("[]"), int(match[2] or 5060)) if match else ("", 0)


def is_private(host: str) -> bool:
    """Whether a host is a private or loopback address; a name is neither."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host == "localhost"
    return address.is_private and not address.is_unspecified


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    return bool(_LOOPBACK.fullmatch(host))


def is_wildcard(address: str) -> bool:
    """Whether a socket that Asterisk binds to this is on all addresses, as it is without one."""
    return address in _WILDCARDS
