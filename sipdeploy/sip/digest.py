"""Digest credentials: RFC 7616 with MD5, the form of RFC 2617 that Kamailio and JsSIP use.

This module owns the challenge and the nonce count. The caller decides whether to answer.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from sipdeploy.sip.message import MalformedMessage, Reply, token

_AUTH_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """A WWW-Authenticate or Proxy-Authenticate value."""

    realm: str
    nonce: str
    opaque: str = ""
    algorithm: str = "MD5"
    qop: bool = False  # whether the server offers "auth"; auth-int is not supported
    stale: bool = False
    proxy: bool = False

    @classmethod
    def from_reply(cls, reply: Reply) -> Challenge:
        """The first MD5 challenge of a 401 or 407; MalformedMessage if there is none."""
        proxy = reply.status == 407  # noqa: PLR2004 - the status itself is the name
        for value in reply.values("Proxy-Authenticate" if proxy else "WWW-Authenticate"):
            challenge = parse_challenge(value, proxy=proxy)
            if challenge.algorithm.upper() == "MD5":
                return challenge
        raise MalformedMessage(f"{reply.status} without an MD5 challenge")


def parse_challenge(value: str, *, proxy: bool = False) -> Challenge:
    """Parse a `Digest ...` value; MalformedMessage for another scheme or a missing nonce."""
    scheme, _, rest = value.partition(" ")
    parameters = {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) or plain
        for name, quoted, plain in _AUTH_PARAMETER.findall(rest)
    }
    if scheme.lower() != "digest" or "nonce" not in parameters:
        raise MalformedMessage(f"not a digest challenge: {value[:80]!r}")
    offered = {option.strip().lower() for option in parameters.get("qop", "").split(",")}
    return Challenge(
        realm=parameters.get("realm", ""),
        nonce=parameters["nonce"],
        opaque=parameters.get("opaque", ""),
        algorithm=parameters.get("algorithm", "MD5"),
        qop="auth" in offered,
        stale=parameters.get("stale", "").lower() == "true",
        proxy=proxy,
    )


@dataclass(slots=True, kw_only=True)
class Credentials:
    """The credentials of a user: the last challenge, and how often its nonce was used."""

    user: str
    password: str
    challenge: Challenge | None = None
    count: int = 0

    def accept(self, challenge: Challenge) -> None:
        """Use this challenge from now on, with a nonce count that starts at 1."""
        self.challenge, self.count = challenge, 0

    def header(self, method: str, uri: str, cnonce: str = "") -> tuple[str, str]:
        """Name and value of the credentials header; ValueError before the first challenge."""
        if self.challenge is None:
            raise ValueError("no challenge was accepted yet")
        self.count += 1
        asked, cnonce = self.challenge, cnonce or token(16)
        answer = self._response(f"{method}:{uri}", cnonce)
        parts = [
            f'username="{self.user}"',
            f'realm="{asked.realm}"',
            f'nonce="{asked.nonce}"',
            f'uri="{uri}"',
            f'response="{answer}"',
            "algorithm=MD5",
        ]
        if asked.opaque:
            parts.append(f'opaque="{asked.opaque}"')
        if asked.qop:
            parts += ["qop=auth", f'cnonce="{cnonce}"', f"nc={self.count:08x}"]
        name = "Proxy-Authorization" if asked.proxy else "Authorization"
        return name, "Digest " + ", ".join(parts)

    def _response(self, a2: str, cnonce: str) -> str:
        """The response (RFC 7616 section 3.4.1) with MD5."""
        asked = self.challenge
        if asked is None:
            raise ValueError("no challenge was accepted yet")
        ha1 = _md5(f"{self.user}:{asked.realm}:{self.password}")
        middle = f":{self.count:08x}:{cnonce}:auth" if asked.qop else ""
        return _md5(f"{ha1}:{asked.nonce}{middle}:{_md5(a2)}")


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
