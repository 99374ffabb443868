"""The TURN credential of a user, and what a phone needs to know of the relay. Pure."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sipdeploy.inventory.site import Site

LABEL = b"turn"
DIGITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class IceServer:
    """An RTCIceServer (WebRTC 1.0, section 4.2.4): URLs with the credential of one user."""

    urls: tuple[str, ...]
    username: str
    credential: str = field(repr=False)

    def as_data(self) -> dict[str, Any]:
        """The object for `RTCPeerConnection({iceServers: [...]})`."""
        return {"urls": [*self.urls], "username": self.username, "credential": self.credential}


def turn_credential(number: str, ha1: str) -> tuple[str, str]:
    """The name and the password of a user at the relay.

    The password is the first 128 bits of HMAC-SHA256(HA1, "turn"), in hex. A phone that knows the
    SIP password can compute it, so no page has a secret that users share, and a new SIP password
    is a new one here. It is another secret than the HA1, because a relay is reached without TLS
    too: HMAC is a pseudorandom function (RFC 2104, RFC 5869), so it does not reveal the HA1.
    """
    return number, hmac.new(ha1.encode(), LABEL, hashlib.sha256).hexdigest()[:DIGITS]


def turn_key(number: str, realm: str, ha1: str) -> str:
    """The long-term key in hex that coturn stores (RFC 8489, section 9.2.2)."""
    name, password = turn_credential(number, ha1)
    text = f"{name}:{realm}:{password}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def turn_keys(realm: str, credentials: Mapping[str, str]) -> dict[str, str]:
    """The keys of all users by number; `credentials` has their HA1."""
    return {number: turn_key(number, realm, ha1) for number, ha1 in credentials.items()}


def urls(site: Site) -> tuple[str, ...]:
    """The relay in three ways, for firewalls that let only some of them out; empty without one."""
    if site.turn is None:
        return ()
    plain, tls = f"{site.domain}:{site.turn.port}", f"{site.domain}:{site.turn.tls}"
    return (
        f"turn:{plain}?transport=udp",
        f"turn:{plain}?transport=tcp",
        f"turns:{tls}?transport=tcp",
    )


def ice_servers(site: Site, number: str, ha1: str) -> tuple[IceServer, ...]:
    """The relay with the credential of a user; empty without one.

    Browsers try all of them at once, and use the best that works (RFC 8445). The same server
    answers STUN, so a phone needs no other STUN server.
    """
    if site.turn is None:
        return ()
    name, password = turn_credential(number, ha1)
    return (IceServer(urls=urls(site), username=name, credential=password),)
