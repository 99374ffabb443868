"""Where the daemons of a host come from: packages, a tarball to build, a repository. Pure.

Knows the release of Asterisk that is built, and the key of Kamailio's repository, by default.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from sipdeploy.inventory import fields
from sipdeploy.inventory.fields import Invalid

_URL = re.compile(r"[A-Za-z0-9._~:/?#@!$&()*+,;=%-]+")
_PLACE = re.compile(r"[A-Za-z0-9._:/+-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FINGERPRINT = re.compile(r"[0-9A-F]{40}")
_RELEASE = re.compile(r"([0-9]{2})\.[0-9]{1,2}\.[0-9]{1,2}", re.ASCII)
# Those whose TLS holds with OpenSSL 3 in every patch release.
KAMAILIO_SERIES = ("5.8", "6.0", "6.1")


def _url(value: Any) -> str:
    """Take a place to download from: what comes from there is checked, so http will do."""
    text = fields.line(value)
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or not _URL.fullmatch(text):
        raise Invalid("SD227", f"`{text}` is not an http or https URL")
    return text


def _place(value: Any) -> str:
    """Take the URL of an apt repository."""
    text = _url(value)
    if not _PLACE.fullmatch(text):
        raise Invalid("SD227", f"`{text}` is not the URL of an apt repository")
    return text


def _sha256(value: Any) -> str:
    text = fields.line(value).lower()
    if not _SHA256.fullmatch(text):
        advice = "write what `sha256sum FILE` prints"
        raise Invalid(
            "SD227", f"`{value}` is not a SHA-256", "64 hexadecimal digits", advice=advice
        )
    return text


def _fingerprint(value: Any) -> str:
    text = fields.line(value).upper().replace(" ", "")
    if not _FINGERPRINT.fullmatch(text):
        advice = "write what `gpg --show-keys FILE` prints"
        label = "40 hexadecimal digits"
        raise Invalid("SD227", f"`{value}` is not the fingerprint of a key", label, advice=advice)
    return text


def _release(value: Any) -> str:
    text = fields.line(value)
    found = _RELEASE.fullmatch(text)
    if not found:
        raise Invalid("SD222", f"`{text}` is not a release of Asterisk", "such as `22.11.0`")
    fields.version("Asterisk", fields.ASTERISK_VERSIONS)(found[1])
    return text


def _kind(value: Any) -> str:
    return "<text>" if isinstance(value, str) else "<mapping>"


Url = Annotated[str, BeforeValidator(_url)]
Sha256 = Annotated[str, BeforeValidator(_sha256)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Archive(_Part):
    """A tarball: where it is, and what it must be."""

    url: Url = Field(description="http or https")
    sha256: Sha256 = Field(description="of the tarball, as `sha256sum` prints it")


class AsteriskSource(Archive):
    """A release of Asterisk that the host builds."""

    version: Annotated[str, BeforeValidator(_release)] = Field(description="such as 22.11.0")
    pjproject: Archive | None = Field(
        default=None,
        description="the pjproject that its third-party/ names; default: its build downloads it, "
        "and checks it by the sum in the tarball",
    )


class KamailioRepository(_Part):
    """An apt repository with Kamailio, signed by a key that is known by its fingerprint."""

    version: Annotated[str, BeforeValidator(fields.choice(*KAMAILIO_SERIES))] = Field(
        default=KAMAILIO_SERIES[-1], description=", ".join(KAMAILIO_SERIES)
    )
    url: Annotated[str, BeforeValidator(_place)] | None = Field(
        default=None, description="default: https://deb.kamailio.org/kamailio61, by the version"
    )
    key: Url = Field(
        default="https://deb.kamailio.org/kamailiodebkey.gpg", description="where the key is"
    )
    fingerprint: Annotated[str, BeforeValidator(_fingerprint)] = Field(
        default="E79ACECB87D8DCD23A20AD2FFB40D3E6508EA4C8",
        description="of the one key that may sign the repository",
    )

    @property
    def place(self) -> str:
        """The URL of the repository."""
        return self.url or f"https://deb.kamailio.org/kamailio{self.version.replace('.', '')}"


# The sums were compared with what several distributions and images have published.
ASTERISK = AsteriskSource(
    version="22.11.0",
    url="https://downloads.asterisk.org/pub/telephony/asterisk/releases/asterisk-22.11.0.tar.gz",
    sha256="3bd5ee040509a3d3cd9b1ba9520c18e6ec0a7e7981ca68c457dcd36ba3c54d94",
)


class Install(_Part):
    """Where the daemons come from."""

    asterisk: Annotated[
        Annotated[
            Literal["package", "source"],
            BeforeValidator(fields.choice("package", "source")),
            Tag("<text>"),
        ]
        | Annotated[AsteriskSource, Tag("<mapping>")],
        Discriminator(_kind),
    ] = Field(
        default="package",
        description="package: the distribution's; source: built on the host, "
        f"{ASTERISK.version} or the release that is described here",
    )
    kamailio: Annotated[
        Annotated[
            Literal["package", "repository"],
            BeforeValidator(fields.choice("package", "repository")),
            Tag("<text>"),
        ]
        | Annotated[KamailioRepository, Tag("<mapping>")],
        Discriminator(_kind),
    ] = Field(
        default="package",
        description="package: the distribution's; repository: from Kamailio's own, "
        "or from the one that is described here",
    )

    @property
    def source(self) -> AsteriskSource | None:
        """The release of Asterisk to build; None: it is a package."""
        if isinstance(self.asterisk, AsteriskSource):
            return self.asterisk
        return ASTERISK if self.asterisk == "source" else None

    @property
    def repository(self) -> KamailioRepository | None:
        """Where Kamailio comes from; None: the distribution's archive."""
        if isinstance(self.kamailio, KamailioRepository):
            return self.kamailio
        return KamailioRepository() if self.kamailio == "repository" else None
