"""The models of an inventory: its keys, with their types, defaults and descriptions.

Pure. Checks single values; `site` checks how they fit together.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
)

from sipdeploy.inventory import fields
from sipdeploy.inventory.fields import Invalid, PortRange
from sipdeploy.inventory.secret import PasswordSource, Secret, SecretsCommand

_URL = re.compile(r"[A-Za-z0-9._~:/?#@!$&()*+,;=%-]+")
_PLACE = re.compile(r"[A-Za-z0-9._:/+-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FINGERPRINT = re.compile(r"[0-9A-F]{40}")
_RELEASE = re.compile(r"([0-9]{2})\.[0-9]{1,2}\.[0-9]{1,2}", re.ASCII)
# The series whose TLS is stable with OpenSSL 3 in every patch release.
KAMAILIO_SERIES = ("5.8", "6.0", "6.1")


def _url(value: Any) -> str:
    """Accept the URL of a download; http is sufficient, because the download is verified."""
    text = fields.line(value)
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or not _URL.fullmatch(text):
        advice = "write a URL such as `https://example.com/file.tar.gz`"
        raise Invalid("SD227", f"`{text}` is not an http or https URL", advice=advice)
    return text


def _place(value: Any) -> str:
    """Accept the URL of an apt repository."""
    text = _url(value)
    if not _PLACE.fullmatch(text):
        advice = "write a URL such as `https://deb.kamailio.org/kamailio61`"
        raise Invalid("SD227", f"`{text}` is not the URL of an apt repository", advice=advice)
    return text


def _sha256(value: Any) -> str:
    text = fields.line(value).lower()
    if not _SHA256.fullmatch(text):
        advice = "write the output of `sha256sum FILE`"
        raise Invalid(
            "SD227", f"`{value}` is not a SHA-256", "64 hexadecimal digits", advice=advice
        )
    return text


def _fingerprint(value: Any) -> str:
    text = fields.line(value).upper().replace(" ", "")
    if not _FINGERPRINT.fullmatch(text):
        advice = "write the output of `gpg --show-keys FILE`"
        label = "40 hexadecimal digits"
        raise Invalid("SD227", f"`{value}` is not the fingerprint of a key", label, advice=advice)
    return text


def _release(value: Any) -> str:
    text = fields.line(value)
    match = _RELEASE.fullmatch(text)
    if not match:
        advice = "write a full version, such as `22.11.0`"
        raise Invalid("SD222", f"`{text}` is not a release of Asterisk", advice=advice)
    fields.version("Asterisk", fields.ASTERISK_VERSIONS)(match[1])
    return text


def _kind(value: Any) -> str:
    """The tag of a value in a union of text and mapping."""
    return "<text>" if isinstance(value, str | Secret) else "<mapping>"


Url = Annotated[str, BeforeValidator(_url)]
Sha256 = Annotated[str, BeforeValidator(_sha256)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Archive(_Part):
    """A tarball: its URL and its checksum."""

    url: Url = Field(description="http or https")
    sha256: Sha256 = Field(description="of the tarball, as `sha256sum` prints it")


class AsteriskSource(Archive):
    """A release of Asterisk that the host builds."""

    version: Annotated[str, BeforeValidator(_release)] = Field(description="such as 22.11.0")
    pjproject: Archive | None = Field(
        default=None,
        description="the pjproject release that its third-party/ names; default: the build "
        "downloads it and verifies the checksum in the tarball",
    )


class KamailioRepository(_Part):
    """An apt repository with Kamailio; the fingerprint identifies its signing key."""

    version: Annotated[str, BeforeValidator(fields.choice(*KAMAILIO_SERIES))] = Field(
        default=KAMAILIO_SERIES[-1], description=", ".join(KAMAILIO_SERIES)
    )
    url: Annotated[str, BeforeValidator(_place)] | None = Field(
        default=None,
        description="default: the repository of the version, such as "
        "https://deb.kamailio.org/kamailio61",
    )
    key: Url = Field(
        default="https://deb.kamailio.org/kamailiodebkey.gpg", description="URL of the key"
    )
    fingerprint: Annotated[str, BeforeValidator(_fingerprint)] = Field(
        default="E79ACECB87D8DCD23A20AD2FFB40D3E6508EA4C8",
        description="of the only key that may sign the repository",
    )

    @property
    def place(self) -> str:
        """The URL of the repository."""
        return self.url or f"https://deb.kamailio.org/kamailio{self.version.replace('.', '')}"


# The checksum agrees with those that several distributions publish.
ASTERISK = AsteriskSource(
    version="22.11.0",
    url="https://downloads.asterisk.org/pub/telephony/asterisk/releases/asterisk-22.11.0.tar.gz",
    sha256="3bd5ee040509a3d3cd9b1ba9520c18e6ec0a7e7981ca68c457dcd36ba3c54d94",
)


class Install(_Part):
    """The source of the daemons. With `auto`, the facts of the host decide."""

    asterisk: Annotated[
        Annotated[
            Literal["auto", "package", "source"],
            BeforeValidator(fields.choice("auto", "package", "source")),
            Tag("<text>"),
        ]
        | Annotated[AsteriskSource, Tag("<mapping>")],
        Discriminator(_kind),
    ] = Field(
        default="auto",
        description="auto: the distribution's package where it has one, else as `source`; "
        f"package: the distribution's; source: the host builds {ASTERISK.version}, or the release "
        "described here",
    )
    kamailio: Annotated[
        Annotated[
            Literal["auto", "package", "repository"],
            BeforeValidator(fields.choice("auto", "package", "repository")),
            Tag("<text>"),
        ]
        | Annotated[KamailioRepository, Tag("<mapping>")],
        Discriminator(_kind),
    ] = Field(
        default="auto",
        description="auto: the distribution's package where its TLS is stable, else as "
        "`repository`; package: the distribution's; repository: Kamailio's own apt repository, "
        "or the one described here",
    )

    @property
    def source(self) -> AsteriskSource | None:
        """The release of Asterisk to build; None if it comes as a package, or nobody knows yet."""
        if isinstance(self.asterisk, AsteriskSource):
            return self.asterisk
        return ASTERISK if self.asterisk == "source" else None

    @property
    def repository(self) -> KamailioRepository | None:
        """Kamailio's apt repository; None for the distribution's, or if nobody knows yet."""
        if isinstance(self.kamailio, KamailioRepository):
            return self.kamailio
        return KamailioRepository() if self.kamailio == "repository" else None


_LOOSE_TEXT = {"type": ["string", "number"]}  # YAML without quotation marks: 6.1, 1234


def _or_empty(value: Any) -> Any:
    """Read an empty value as an empty mapping, for parts whose keys all have defaults."""
    return {} if value is None else value


Empty = BeforeValidator(_or_empty)


def _password(value: Any) -> Any:
    return value if isinstance(value, Secret) else Secret(fields.line(value))


def _sudo_source(value: Any) -> Any:
    if value is None or isinstance(value, dict | PasswordSource):
        return value
    # The value is not shown: it can be the password.
    raise Invalid(
        "SD234",
        "an inventory does not contain the password of sudo",
        advice="write its source: `{command: pass show sip1}`, `{env: NAME}` or `{file: FILE}`; "
        "or leave the key out, and use `--ask-sudo-password`",
    )


def _digits(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern})


Line = Annotated[str, BeforeValidator(fields.line)]
Whether = Annotated[bool, BeforeValidator(fields.boolean)]
Port = Annotated[int, BeforeValidator(fields.port)]
Range = Annotated[
    PortRange, BeforeValidator(fields.port_range), WithJsonSchema({"type": "string"})
]
Media = Annotated[str, BeforeValidator(fields.media_address)]
Password = Annotated[
    Annotated[Secret, BeforeValidator(_password), Tag("<text>"), WithJsonSchema(_LOOSE_TEXT)]
    | Annotated[PasswordSource, Tag("<mapping>")],
    Discriminator(_kind),
]
Secrets = Annotated[
    Annotated[Line, Tag("<text>")] | Annotated[SecretsCommand, Tag("<mapping>")],
    Discriminator(_kind),
]


class Versions(_Part):
    """Versions of the services that `render` and `lint` write configuration for."""

    kamailio: Annotated[
        str,
        BeforeValidator(fields.version("Kamailio", fields.KAMAILIO_VERSIONS)),
        WithJsonSchema(_LOOSE_TEXT),
    ] = Field(
        default=fields.KAMAILIO_VERSIONS[-1], description=", ".join(fields.KAMAILIO_VERSIONS)
    )
    asterisk: Annotated[
        str,
        BeforeValidator(fields.version("Asterisk", fields.ASTERISK_VERSIONS)),
        WithJsonSchema(_LOOSE_TEXT),
    ] = Field(
        default=fields.ASTERISK_VERSIONS[-1], description=", ".join(fields.ASTERISK_VERSIONS)
    )


Destination = Annotated[
    fields.Destination,
    BeforeValidator(fields.destination),
    WithJsonSchema({**_LOOSE_TEXT, "pattern": r"^(voicemail +)?[0-9*]{1,15}$"}),
]
MOST_MEMBERS = 30


class HostEntry(_Part):
    """A host that sipdeploy manages."""

    address: Annotated[str, BeforeValidator(fields.address)] = Field(
        description="IPv4, IPv6 or host name for SSH; `local`: this machine, without SSH"
    )
    user: Annotated[str, BeforeValidator(fields.login)] = Field(
        default="root", description="login; other than root needs sudo"
    )
    sudo_password: Annotated[PasswordSource | None, BeforeValidator(_sudo_source)] = Field(
        default=None,
        description="where the password of sudo comes from: `env`, `file` or `command`; default: "
        "sudo without a password, or `--ask-sudo-password`",
    )
    port: Port = Field(default=22, description="of SSH")
    identity_file: Line | None = Field(default=None, description="private key of SSH")
    public_address: Media | None = Field(
        default=None, description="numeric address at which browsers reach media; default: address"
    )
    private_address: Media | None = Field(
        default=None,
        description="the host's own numeric address, if a public one is mapped to it (1:1 NAT)",
    )
    install: Annotated[Install | None, Empty] = Field(
        default=None, description="the source of the daemons here; default: that of the site"
    )
    versions: Annotated[Versions | None, Empty] = Field(
        default=None, description="versions for `render` and `lint`; default: those of the site"
    )

    @property
    def is_local(self) -> bool:
        """Whether the host is this machine."""
        return self.address == fields.LOCAL

    @property
    def media_address(self) -> str:
        """The numeric address announced for media; `load_site` has validated it."""
        return fields.media_address(self.public_address or self.address)


class Ports(_Part):
    """Ports of the services; only `wss` and `rtp` are public."""

    wss: Port = Field(default=8443, description="WebSocket over TLS, public")
    kamailio: Port = Field(default=5062, description="Kamailio towards Asterisk, private")
    asterisk: Port = Field(default=5060, description="Asterisk towards Kamailio, private")
    registrar: Port = Field(
        default=5063, description="Kamailio relays REGISTER and SUBSCRIBE from here, private"
    )
    rtp: Range = Field(
        default=PortRange(10000, 20000), description="media of Asterisk, public, UDP"
    )


class Turn(_Part):
    """The relay for phones whose networks let no direct media through; its realm is the domain."""

    port: Port = Field(default=3478, description="STUN and TURN, UDP and TCP, public")
    tls: Port = Field(
        default=5349, description="TURN over TLS, public; 443 passes the strictest firewalls"
    )
    relay: Range = Field(default=PortRange(20001, 30000), description="relayed media, public, UDP")
    user_quota: Annotated[int, BeforeValidator(fields.whole(1, 1000))] = Field(
        default=60,
        description="allocations of a user at once; a call takes one to ten on each side that "
        "has a relay",
    )
    total_quota: Annotated[int, BeforeValidator(fields.whole(1, 30_000))] = Field(
        default=3000, description="allocations of all users at once, 0.2 MiB of memory each"
    )
    kbit_per_allocation: Annotated[int, BeforeValidator(fields.whole(32, 100_000))] = Field(
        default=2500, description="kbit/s in each direction; audio needs 100"
    )
    mbit_total: Annotated[int, BeforeValidator(fields.whole(1, 100_000))] = Field(
        default=200,
        description="Mbit/s that phones and peers send to the relay; the firewall drops the rest",
    )


class Phone(_Part):
    """The web phone, which nginx on the host serves to browsers."""

    port: Port = Field(
        default=443, description="of the page, HTTPS, public; 443 needs no port in the address"
    )


class Tls(_Part):
    """The certificate of the domain."""

    provider: Annotated[
        fields.Provider,
        BeforeValidator(fields.choice("letsencrypt", "files", "self-signed")),
    ] = Field(default="letsencrypt", description="source of the certificate")
    server: Annotated[str, BeforeValidator(fields.url)] | None = Field(
        default=None, description="letsencrypt: another ACME directory"
    )
    ca_bundle: Line | None = Field(
        default=None, description="letsencrypt: root certificate of that ACME server"
    )
    challenge: Annotated[fields.Challenge, BeforeValidator(fields.choice("http-01", "dns-01"))] = (
        Field(default="http-01", description="letsencrypt: how to prove the domain")
    )
    webroot: Annotated[str, BeforeValidator(fields.folder)] | None = Field(
        default=None,
        description="http-01: directory that a web server of the host serves on port 80; "
        "default: certbot itself answers on port 80",
    )
    dns_plugin: Annotated[str, BeforeValidator(fields.dns_plugin)] | None = Field(
        default=None, description="dns-01: plugin of certbot, such as `rfc2136` or `cloudflare`"
    )
    dns_credentials: Line | None = Field(
        default=None, description="dns-01: credentials file of the plugin, see its manual"
    )
    dns_wait: Annotated[int, BeforeValidator(fields.whole(0, 3600))] = Field(
        default=60, description="dns-01: seconds until all name servers have the record"
    )
    certificate: Line | None = Field(
        default=None, description="files: PEM, server first, then chain"
    )
    private_key: Line | None = Field(default=None, description="files: PEM, without a passphrase")

    @property
    def is_public(self) -> bool:
        """Whether Let's Encrypt itself issues it, which knows only names of the public DNS."""
        return self.provider == "letsencrypt" and self.server is None


class User(_Part):
    """A person with a phone."""

    name: Annotated[str, BeforeValidator(fields.name), WithJsonSchema(_LOOSE_TEXT)] = Field(
        default="", description="as phones show it"
    )
    password: Password | None = Field(
        default=None, description="default: from the secrets file", repr=False
    )
    voicemail: Whether = Field(default=False, description="has a mailbox")
    max_contacts: Annotated[int, BeforeValidator(fields.whole(1, 100))] = Field(
        default=5, description="phones and browser tabs at once"
    )


class Service(_Part):
    """A service extension, answered by Asterisk."""

    kind: Annotated[fields.Kind, BeforeValidator(fields.choice(*fields.KINDS))] = Field(
        description="the service"
    )
    context: Annotated[str, BeforeValidator(fields.context)] | None = Field(
        default=None, description="dialplan: the context of your dialplan/*.conf; required"
    )
    members: tuple[
        Annotated[str, BeforeValidator(fields.user_number), WithJsonSchema(_LOOSE_TEXT)], ...
    ] = Field(default=(), description="group: the users whose phones ring")
    ring: Annotated[fields.Ring, BeforeValidator(fields.choice("all", "in-turn"))] = Field(
        default="all", description="group: all members at once, or one after the other"
    )
    timeout: Annotated[int, BeforeValidator(fields.whole(1, 120))] | None = Field(
        default=None,
        description="group: seconds that phones ring, of all or of each member, default 20; menu: "
        "seconds to press a key after the prompt, default 5",
    )
    then: Destination | None = Field(
        default=None,
        description="group: who gets the call if nobody answers; menu: who gets it if nobody "
        "presses a valid key. A number of this site, or `voicemail NUMBER`; default: nobody",
    )
    prompt: Line | None = Field(
        default=None,
        description="menu: a WAV file, mono, 16 bits, 8000 or 16000 Hz; default: Asterisk speaks "
        "the keys and their numbers",
    )
    keys: dict[
        Annotated[str, BeforeValidator(fields.menu_key), _digits("^[0-9*#]$")], Destination
    ] = Field(default_factory=dict, description="menu: who gets the call, by the key of the phone")
    attempts: Annotated[int, BeforeValidator(fields.whole(1, 10))] = Field(
        default=3, description="menu: how often it plays the prompt"
    )
    pin: Password | None = Field(
        default=None, description="conference: 4 to 15 digits; default: none", repr=False
    )
    max_members: Annotated[int, BeforeValidator(fields.whole(2, 100))] = Field(
        default=20, description="conference: callers at once"
    )

    @property
    def seconds(self) -> int:
        """The timeout of a group or a menu."""
        return self.timeout or (20 if self.kind == "group" else 5)

    @property
    def destinations(self) -> Iterator[tuple[tuple[str, ...], fields.Destination]]:
        """Where it sends calls, by the path of the key."""
        yield from ((("keys", key), each) for key, each in self.keys.items())
        if self.then:
            yield ("then",), self.then


# The default of `limits.connections` never exceeds this.
MOST_CONNECTIONS = 32_768


class Limits(_Part):
    """The capacity of the services; the defaults follow from the number of users."""

    connections: Annotated[int, BeforeValidator(fields.whole(256, 1_000_000))] | None = Field(
        default=None,
        description="concurrent WebSockets, 0.2 MiB of memory each; default: 256 and 1.5 for each "
        f"user, at most {MOST_CONNECTIONS}",
    )
    calls: Annotated[int, BeforeValidator(fields.whole(1, 10_000))] | None = Field(
        default=None,
        description="concurrent calls with services and mailboxes, 2 MiB of memory each; default: "
        "256 for up to 170 users, doubling with the number of users, at most 4096",
    )


def _some(value: Any) -> Any:
    if value is None or value == {}:
        advice = "write at least one, such as `sip1: {address: 203.0.113.10}`"
        raise Invalid("SD204", "`hosts` is empty", advice=advice)
    return value


Empty = BeforeValidator(_or_empty)


class Site(_Part):
    """A whole site. Only `load_site` also applies the checks across keys."""

    domain: Annotated[str, BeforeValidator(fields.domain)] = Field(
        description="SIP domain, realm, name in the certificate, and host of the WebSocket"
    )
    email: Annotated[str, BeforeValidator(fields.email)] = Field(description="ACME account")
    hosts: Annotated[
        dict[Annotated[str, BeforeValidator(fields.host_name)], Annotated[HostEntry, Empty]],
        BeforeValidator(_some),
    ] = Field(description="hosts by name")
    ports: Annotated[Ports, Empty] = Ports()
    tls: Annotated[Tls, Empty] = Tls()
    authentication: Annotated[
        fields.Authentication, BeforeValidator(fields.choice("kamailio", "asterisk"))
    ] = Field(
        default="kamailio",
        description="the daemon that checks passwords; `asterisk` is for small sites",
    )
    firewall: Annotated[
        fields.Firewall, BeforeValidator(fields.choice("auto", "nftables", "ufw", "none"))
    ] = Field(default="auto", description="auto: ufw if it is active, else an nftables table")
    origins: Annotated[
        tuple[Annotated[str, BeforeValidator(fields.origin)], ...],
        BeforeValidator(lambda value: () if value is None else value),
    ] = Field(default=(), description="web origins that may open the WebSocket; empty: any origin")
    users: Annotated[
        dict[
            Annotated[str, BeforeValidator(fields.user_number), _digits("^[0-9]{2,15}$")],
            Annotated[User, Empty],
        ],
        Empty,
    ] = Field(description="users by number")
    secrets: Secrets = Field(
        default="secrets.yaml", description="file or command with the passwords"
    )
    services: Annotated[
        dict[
            Annotated[str, BeforeValidator(fields.service_number), _digits("^[0-9*]{1,15}$")],
            Service,
        ],
        Empty,
    ] = Field(default_factory=dict, description="service extensions by number")
    turn: Annotated[Turn | None, Empty] = Field(
        default=None, description="a TURN server (coturn) on the host; absent: none"
    )
    phone: Annotated[Phone | None, Empty] = Field(
        default=None, description="the web phone, served by nginx on the host; absent: none"
    )
    limits: Annotated[Limits, Empty] = Limits()
    versions: Annotated[Versions, Empty] = Versions()
    install: Annotated[Install, Empty] = Install()

    def of(self, name: str) -> "Site":
        """The site as one of its hosts has it: what its entry says replaces single keys."""
        entry, changes = self.hosts[name], {}
        for key in ("install", "versions"):
            own = getattr(entry, key)
            if own is not None:
                given = {each: getattr(own, each) for each in own.model_fields_set}
                changes[key] = getattr(self, key).model_copy(update=given)
        return self.model_copy(update=changes) if changes else self
