"""Validators for single values of an inventory: take text, return the checked value.

Each function raises `Invalid` for a value that it rejects. Knows nothing about positions.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args
from urllib.parse import urlsplit

from sipdeploy.diagnostics import Diagnostic, Fix

if TYPE_CHECKING:
    from sipdeploy.diagnostics import Span

LOCAL = "local"
KAMAILIO_VERSIONS = ("5.4", "5.5", "5.6", "5.7", "5.8", "6.0", "6.1")
ASTERISK_VERSIONS = ("16", "17", "18", "19", "20", "21", "22")

# Control characters, line breaks, and characters that change the text direction.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
# Names for which no public ACME server issues a certificate (RFC 2606, RFC 6761, RFC 6762,
# RFC 8375; reserved by ICANN; never delegated), alone or after a dot or an `@`.
EXAMPLE_NAME = re.compile(r"(?i)(?:.*[.@])?(?:example\.(?:com|net|org)|example)")
PRIVATE_NAME = re.compile(
    r"(?i)(?:.*[.@])?(?:test|invalid|localhost|local|onion|home\.arpa|internal|home|corp|mail"
    r"|lan|localdomain|intranet|private)"
)
_DOCUMENTATION = tuple(  # RFC 5737, RFC 3849, RFC 9637
    map(
        ipaddress.ip_network,
        ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"),
    )
)
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)", re.ASCII)
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LOGIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_USER_NUMBER = re.compile(r"[0-9]{2,15}", re.ASCII)
_SERVICE_NUMBER = re.compile(r"[0-9*]{1,15}", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)
_RANGE = re.compile(r"([0-9]{1,5})\s*-\s*([0-9]{1,5})", re.ASCII)
_FOLDER = re.compile(r"(/[A-Za-z0-9_][A-Za-z0-9._-]*)+", re.ASCII)
_CONTEXT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,78}", re.ASCII)
_DESTINATION = re.compile(r"(voicemail\s+)?([0-9*]{1,15})", re.ASCII)
_MENU_KEY = re.compile(r"[0-9*#]", re.ASCII)
# Contexts of Asterisk that sipdeploy writes, and sections with another meaning.
_RESERVED = frozenset(
    [
        *("general", "from-kamailio", "from-user", "services", "mailboxes", "presence", "hints"),
        *("ivr-test", "voicemail", "echo", "loaded"),
    ]
)
_RESERVED_PREFIX = "sipdeploy-"
_PLUGIN = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)
_YES = frozenset({"true", "yes", "on"})
_NO = frozenset({"false", "no", "off"})
_NAME_LENGTH = 80
_LAST_PORT = 65535


class Invalid(ValueError):  # noqa: N818  # a verdict, not a failure
    """The reason why a value is rejected: code, message, label and help of its diagnostic.

    `right` is the text that should be in its place, if only one can be right.
    """

    def __init__(
        self, code: str, message: str, label: str = "", *, advice: str = "", right: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.label = label
        self.advice = advice
        self.right = right

    def at(self, span: Span | None = None) -> Diagnostic:
        """Return the diagnostic for a value at this span."""
        fix = None
        if self.right and span is not None and span.end_column is not None:
            fix = Fix(span=span, text=self.right)
        return Diagnostic(
            self.code,
            self.message,
            span=span,
            label=self.label,
            help=self.advice,
            fix=fix,
        )


def faults(checks: Iterable[tuple[Callable[[Any], object], object]]) -> Iterator[Invalid]:
    """Apply each validator to its value; yield why it rejects the value."""
    for check, value in checks:
        try:
            check(value)
        except Invalid as fault:
            yield fault


def is_documentation(text: str) -> bool:
    """Whether a text is an address that is reserved for documentation, and leads nowhere."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return any(address.version == net.version and address in net for net in _DOCUMENTATION)


class PortRange(NamedTuple):
    """Ports from `start` to `end`, both included."""

    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.start}-{self.end}"


def _text(value: Any) -> str:
    """Accept text; a mapping or list is SD203, an empty value SD204."""
    if value is None or value == "":
        raise Invalid("SD204", "the value is empty", advice="write a value, or delete the key")
    if not isinstance(value, str):
        kind = "a mapping" if isinstance(value, dict) else "a list"
        raise Invalid("SD203", f"expected text, not {kind}", advice="write one value on one line")
    return value


def line(value: Any) -> str:
    """Accept text without control characters and line breaks, such as a path or a command."""
    text = _text(value)
    if CONTROL.search(text):
        message = "the text contains a control character or a line break"
        raise Invalid("SD220", message, advice="delete it")
    return text


def name(value: Any) -> str:
    """Accept the name of a person as phones show it: at most 80 characters, may be empty."""
    text = "" if value == "" else line(value)
    if len(text) > _NAME_LENGTH:
        message = f"the name has {len(text)} characters"
        raise Invalid("SD220", message, advice=f"shorten it to {_NAME_LENGTH} characters")
    return text


def boolean(value: Any) -> bool:
    """Accept true or false in the forms of YAML 1.1 and 1.2."""
    if isinstance(value, bool):
        return value
    text = _text(value).lower()
    if text not in _YES | _NO:
        message = f"`{value}` is neither `true` nor `false`"
        raise Invalid("SD206", message, advice="write `true` or `false`")
    return text in _YES


def whole(low: int, high: int) -> Callable[[Any], int]:
    """Return a validator for a whole number from `low` to `high`."""
    advice = f"write a whole number from {low} to {high}"

    def check(value: Any) -> int:
        text = str(value) if isinstance(value, int) else _text(value)
        if not _WHOLE.fullmatch(text):
            raise Invalid("SD205", f"`{text}` is not a whole number", advice=advice)
        if not low <= int(text) <= high:
            raise Invalid("SD205", f"`{text}` is not from {low} to {high}", advice=advice)
        return int(text)

    return check


port = whole(1, _LAST_PORT)


def port_range(value: Any) -> PortRange:
    """Accept `FIRST-LAST`, such as `10000-20000`."""
    if isinstance(value, PortRange):
        return value
    match = _RANGE.fullmatch(_text(value))
    if not match:
        raise Invalid(
            "SD215", f"`{value}` is not a range of ports", advice="write it as `10000-20000`"
        )
    start, end = int(match[1]), int(match[2])
    if not 1024 <= start < end <= _LAST_PORT:  # noqa: PLR2004  # ports below are privileged
        raise Invalid(
            "SD215",
            f"`{value}` is not a usable range of ports",
            advice=f"write the lower port first, from 1024 to {_LAST_PORT}: `10000-20000`",
        )
    return PortRange(start, end)


def choice(*allowed: str) -> Callable[[Any], str]:
    """Return a validator for one of the allowed words."""

    def check(value: Any) -> str:
        text = _text(value)
        if text not in allowed:
            shown = ", ".join(f"`{each}`" for each in allowed)
            message = f"`{text}` is not a permitted value"
            raise Invalid("SD207", message, advice=f"write one of {shown}")
        return text

    return check


def version(service: str, supported: tuple[str, ...]) -> Callable[[Any], str]:
    """Return a validator for the supported versions of a service."""

    def check(value: Any) -> str:
        text = _text(value)
        if text in supported:
            return text
        near = [known for known in supported if text.startswith(f"{known}.")]
        advice = f"write `{near[0]}`" if near else f"write one of {', '.join(supported)}"
        raise Invalid("SD222", f"{service} `{text}` is not supported", advice=advice)

    return check


def user_number(value: Any) -> str:
    """Accept the number of a user: 2 to 15 digits (the maximum of E.164)."""
    text = _text(value)
    if not _USER_NUMBER.fullmatch(text):
        message = f"`{text}` is not the number of a user"
        raise Invalid("SD208", message, advice="write 2 to 15 digits, such as `1001`")
    return text


def service_number(value: Any) -> str:
    """Accept the number of a service: 1 to 15 digits and stars."""
    text = _text(value)
    if not _SERVICE_NUMBER.fullmatch(text):
        message = f"`{text}` is not the number of a service"
        advice = "write 1 to 15 digits and stars, such as `6000` or `*97`"
        raise Invalid("SD208", message, advice=advice)
    return text


class Destination(NamedTuple):
    """Where a group or a menu sends a call: a number, or the mailbox of a user."""

    number: str
    is_mailbox: bool = False

    def __str__(self) -> str:
        return f"voicemail {self.number}" if self.is_mailbox else self.number


def destination(value: Any) -> Destination:
    """Accept a number of the site, or `voicemail NUMBER`."""
    if isinstance(value, Destination):
        return value
    match = _DESTINATION.fullmatch(_text(value))
    if not match:
        advice = "write a number, such as `1001` or `6000`, or a mailbox: `voicemail 1001`"
        raise Invalid("SD254", f"`{value}` is not a place to send a call to", advice=advice)
    return Destination(match[2], is_mailbox=match[1] is not None)


def menu_key(value: Any) -> str:
    """Accept a key of a phone: a digit, `*` or `#`."""
    text = _text(value)
    if not _MENU_KEY.fullmatch(text):
        advice = "write one digit, or `*` or `#` in quotation marks"
        raise Invalid("SD254", f"`{text}` is not a key of a phone", advice=advice)
    return text


def is_reserved(context: str) -> bool:
    """Whether a section of a dialplan belongs to sipdeploy, or is none for calls."""
    name = context.lower()
    return name in _RESERVED or name.startswith(_RESERVED_PREFIX)


def context(value: Any) -> str:
    """Accept the name of a context of one's own dialplan."""
    text = _text(value)
    if not _CONTEXT.fullmatch(text):
        advice = "write letters, digits, `.`, `_` and `-`, such as `shop`; at most 79"
        raise Invalid("SD254", f"`{text}` is not the name of a context", advice=advice)
    if is_reserved(text) or text == "globals":
        advice = "give your context another name, such as `shop`"
        raise Invalid("SD257", f"the context `{text}` belongs to sipdeploy", advice=advice)
    return text


def domain(value: Any) -> str:
    """Accept a fully qualified domain name (RFC 1123), in lower case, without a final dot."""
    text = _text(value).lower()
    if _numeric(text) is not None:
        raise Invalid("SD209", f"`{value}` is an address, not a domain", advice=_DOMAIN_ADVICE)
    if not text.isascii():
        raise Invalid(
            "SD209", f"the domain `{value}` is not in ASCII", advice=f"write `{_punycode(text)}`"
        )
    problem = _domain_problem(text)
    if problem:
        raise Invalid("SD209", f"`{value}` is not a domain", problem, advice=_DOMAIN_ADVICE)
    return text


_DOMAIN_ADVICE = "write a full domain name, such as `sip.example.com`"


def _domain_problem(text: str) -> str:
    labels = text.split(".")
    if len(text) > 253:  # noqa: PLR2004  # RFC 1035 section 2.3.4
        return "longer than 253 characters"
    if len(labels) < 2:  # noqa: PLR2004  # a host and a parent domain
        return "it has no dot"
    for label in labels:
        if not _LABEL.fullmatch(label):
            return f"`{label}` is not valid" if label else "two dots in a row, or a dot at the end"
    return "the last part has only digits" if labels[-1].isdigit() else ""


def _punycode(text: str) -> str:
    try:
        return text.encode("idna").decode("ascii")
    except UnicodeError:
        return "xn--..."


def email(value: Any) -> str:
    """Accept an e-mail address (RFC 5321, without quoted parts and address literals)."""
    text = _text(value)
    local, _, host = text.rpartition("@")
    is_name = host.isascii() and not _domain_problem(host.lower())
    if len(local) > 64 or not _LOCAL_PART.fullmatch(local) or not is_name:  # noqa: PLR2004
        raise Invalid("SD210", f"`{text}` is not an e-mail address", advice=_EMAIL_ADVICE)
    return text


_EMAIL_ADVICE = "write an address such as `ops@example.com`"


def _numeric(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def address(value: Any) -> str:
    """Accept the SSH address of a host: `local`, IPv4, IPv6, or a name that SSH can resolve."""
    text = _text(value)
    number = _numeric(text)
    if number is not None and "%" not in text:
        return str(number)
    looks_numeric = re.fullmatch(r"[0-9.]+", text) or ":" in text
    if looks_numeric or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}", text):
        raise Invalid(
            "SD211",
            f"`{text}` is not an address",
            advice="write an IPv4 or IPv6 address, a host name, or `local`",
        )
    return text


def media_address(value: Any) -> str:
    """Accept an address for media: numeric, and of a single reachable machine."""
    text = _text(value)
    number = _numeric(text)
    if number is None or "%" in text:
        raise Invalid("SD211", f"`{text}` is not a numeric address", advice=_MEDIA_ADVICE)
    useless = (
        ("means all addresses of a machine", number.is_unspecified),
        ("never leaves the machine", number.is_loopback),
        ("belongs to a multicast group", number.is_multicast),
        ("is valid only on one link", number.is_link_local),
        ("is the broadcast address", str(number) == "255.255.255.255"),
    )
    for reason, holds in useless:
        if holds:
            message = f"media cannot be sent to `{text}`"
            raise Invalid("SD212", message, f"this address {reason}", advice=_MEDIA_ADVICE)
    return str(number)


_MEDIA_ADVICE = "write the numeric address at which browsers reach the host"


def host_name(value: Any) -> str:
    """Accept the name of a host in the inventory; it also becomes the name of a directory."""
    text = _text(value)
    if not _HOST.fullmatch(text):
        raise Invalid(
            "SD223",
            f"`{text}` cannot be the name of a host",
            advice="write a letter or digit, then letters, digits, `.`, `-` and `_`; at most 63",
        )
    return text


def login(value: Any) -> str:
    """Accept the name of a Unix account."""
    text = _text(value)
    if not _LOGIN.fullmatch(text):
        advice = "write a letter or `_`, then letters, digits, `.`, `-` and `_`; at most 32"
        raise Invalid("SD223", f"`{text}` cannot be the name of a login", advice=advice)
    return text


def origin(value: Any) -> str:
    """Accept a web origin (RFC 6454): scheme, host, and a port other than the default."""
    text = _text(value)
    try:
        parts = urlsplit(text.lower())
        number = parts.port
    except ValueError:
        parts, number = urlsplit(""), None
    host = parts.hostname or ""
    is_host = _numeric(host) is not None or all(_LABEL.fullmatch(p) for p in host.split("."))
    if parts.scheme not in _SCHEME_PORTS or not is_host or "@" in text:
        raise Invalid("SD219", f"`{text}` is not a web origin", advice=_ORIGIN_ADVICE)
    shown = f"[{host}]" if ":" in host else host
    own = "" if number in {None, _SCHEME_PORTS[parts.scheme]} else f":{number}"
    canonical = f"{parts.scheme}://{shown}{own}"
    if parts.path or parts.query or parts.fragment or text.endswith(("?", "#", ":")):
        advice = f"write `{canonical}`"
        message = f"`{text}` contains more than a web origin"
        raise Invalid("SD219", message, advice=advice, right=canonical)
    return canonical


_SCHEME_PORTS: Mapping[str, int] = {"https": 443, "http": 80}
_ORIGIN_ADVICE = "write `https://HOST` or `https://HOST:PORT`"


def url(value: Any) -> str:
    """Accept the URL of an ACME directory (RFC 8555 section 6.1: https only)."""
    text = line(value)
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname or " " in text:
        advice = (
            "write the URL of the ACME directory, such as `https://acme.example.com/directory`"
        )
        raise Invalid("SD225", f"`{text}` is not an https URL", advice=advice)
    return text


def folder(value: Any) -> str:
    """Accept the absolute path of a directory on a host; it is used in commands and unit files."""
    text = line(value)
    if not _FOLDER.fullmatch(text) or ".." in text.split("/"):
        raise Invalid("SD226", f"`{text}` is not the path of a directory", advice=_FOLDER_ADVICE)
    return text


_FOLDER_ADVICE = "write an absolute path of letters, digits and `._-`, such as `/var/www/html`"


def dns_plugin(value: Any) -> str:
    """Accept the name of a DNS plugin of certbot, without the prefix `dns-`."""
    text = _text(value)
    if not _PLUGIN.fullmatch(text):
        advice = "write the last word of its package: `rfc2136` of `python3-certbot-dns-rfc2136`"
        raise Invalid("SD226", f"`{text}` is not the name of a DNS plugin", advice=advice)
    return text


Provider = Literal["letsencrypt", "files", "self-signed"]
Challenge = Literal["http-01", "dns-01"]
Authentication = Literal["kamailio", "asterisk"]
Firewall = Literal["auto", "nftables", "ufw", "none"]
Kind = Literal["ivr-test", "voicemail", "echo", "dialplan", "group", "menu", "conference"]
KINDS: tuple[str, ...] = get_args(Kind)
Ring = Literal["all", "in-turn"]
