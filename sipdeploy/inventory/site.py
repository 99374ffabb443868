"""Validates an inventory: from its text to a `Site`, with every check that needs only the text.

Pure. Reports all problems at once; never reads a file, and never shows a password.
"""

from __future__ import annotations

import difflib
import ipaddress
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from sipdeploy.diagnostics import Diagnostic, Source, has_errors
from sipdeploy.inventory.document import Document, Path, parse
from sipdeploy.inventory.fields import Invalid, PortRange
from sipdeploy.inventory.models import (
    HostEntry,
    Install,
    Phone,
    Ports,
    Service,
    Site,
    Tls,
    Turn,
    User,
    Versions,
)
from sipdeploy.inventory.own import checks as own

if TYPE_CHECKING:
    from pydantic import BaseModel


__all__ = [
    "BAD_PORTS",
    "HostEntry",
    "Install",
    "Phone",
    "Ports",
    "Service",
    "Site",
    "Tls",
    "Turn",
    "User",
    "Versions",
    "is_secret",
    "json_schema",
    "load_site",
    "source",
]

PLAIN_USER_KEYS = frozenset({"name", "voicemail", "max_contacts"})
_OF_SUDO = re.compile("sudo|pas|word|secret", re.IGNORECASE)  # a key of a host, also misspelt
PLAIN_SERVICE_KEYS = frozenset(Service.model_fields) - {"pin"}
_PLAIN_KEYS = {"users": PLAIN_USER_KEYS, "services": PLAIN_SERVICE_KEYS}


def is_secret(path: Path) -> bool:
    """Whether the value at a path of the inventory can be a password, which is never shown.

    Below a user or a service, all keys except the known harmless ones count, because a key can be
    misspelt; below a host, those that look like the password of sudo.
    """
    match path:
        case ("users", _):
            return True  # `source` hides it unless it is a mapping
        case ("users" | "services", _, "password" | "pin", "env" | "file" | "command"):
            return False
        case ("hosts", _, "sudo_password", "env" | "file" | "command"):
            return False
        case ("users" | "services", _, key, *_):
            return key not in _PLAIN_KEYS[str(path[0])]
        case ("hosts", _, key, *_):
            return _OF_SUDO.search(str(key)) is not None
    return False


def source(document: Document) -> Source:
    """Return the lines of an inventory for excerpts, without its passwords."""
    users = document.data.get("users") if isinstance(document.data, dict) else None
    entries = users.items() if isinstance(users, dict) else ()
    mappings = {number for number, user in entries if isinstance(user, dict)}

    def hidden(path: Path) -> bool:
        if path == ("users",):
            return not isinstance(users, dict | None)
        if len(path) == 2:  # noqa: PLR2004  # ("users", NUMBER)
            return path[0] == "users" and path[1] not in mappings
        keys = {"password", "sudo_password", "pin"}
        if path and path[-1] in keys and _holds_source(document.data, path):
            return False
        return is_secret(path)

    return document.source(hidden)


def _holds_source(data: Any, path: Path) -> bool:
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
    return isinstance(data, dict)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of an inventory, for editors."""
    schema = Site.model_json_schema(mode="validation")
    parts = [schema, *schema["$defs"].values()]
    for part in (each for one in parts for each in one.get("properties", {}).values()):
        if "patternProperties" in part:
            part["additionalProperties"] = False
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def load_site(text: str, path: str) -> tuple[Site | None, list[Diagnostic], Document]:
    """Parse an inventory: the site, or None if there is an error; every problem; the document.

    Diagnostics show `path`. Never raises for invalid text, and uses nothing but the text.
    """
    document, problems = parse(text, path)
    if document.data is None:
        return None, problems, document
    try:
        site, faults = Site.model_validate(document.data), []
    except ValidationError as failure:
        faults = failure.errors(include_url=False)
        site = _sound(document.data, faults)
    problems += verdicts(document, faults, Site)
    problems += (_diagnostic(document, p, "value", _EMPTY) for p in _empty_values(document.data))
    # a key with a wrong value is told as such, and not as missing too
    doubtful = {plain_path(fault["loc"])[:2] for fault in faults}
    for check in CHECKS:
        problems += (
            _diagnostic(document, path, where, fault)
            for path, where, fault in check(site)
            if fault.code != "SD251" or path[:2] not in doubtful
        )
    return (None if has_errors(problems) else site), problems, document


def site_of_host(document: Document, name: str) -> Site | None:
    """The valid parts of an inventory with errors; None unless the entry of a host is sound.

    A key of the entry that is wrong, misspelt or repeated could lead to another machine.
    """
    if document.data is None:
        return None
    try:
        site, paths = Site.model_validate(document.data), []
    except ValidationError as failure:
        faults = failure.errors(include_url=False)
        site, paths = _sound(document.data, faults), [plain_path(f["loc"]) for f in faults]
    repeated = [path for path in document.marks if any("#" in str(part) for part in path)]
    paths += [tuple(str(part).partition("#")[0] for part in path) for path in repeated]
    is_doubtful = any(path[0] == "hosts" and path[1:2] in ((), (name,)) for path in paths)
    return None if is_doubtful or name not in site.hosts else site


# Placeholders for missing parts, so that the checks of the rest still run.
_STAND_INS: Mapping[str, Any] = {
    "domain": "stand-in.invalid",
    "email": "stand@in.invalid",
    "hosts": {"stand-in": {"address": "192.0.2.1"}},
    "users": {},
}


def _sound(data: Mapping[str, Any], faults: Sequence[Any]) -> Site:
    """Build a site from the valid parts, without the invalid keys, entries or sections."""
    rest = dict(data)
    copies: dict[int, Any] = {}
    for depth in (3, 2):
        for fault in faults:
            path = plain_path(fault["loc"])
            _remove(rest, path[:depth] if path[0] in _ENTRIES else path[:1], copies)
        rest = {**_STAND_INS, **rest, "hosts": rest.get("hosts") or _STAND_INS["hosts"]}
        try:
            return Site.model_validate(rest)
        except ValidationError as failure:  # the entry requires a key that was removed
            faults = failure.errors(include_url=False)
    return Site.model_validate(_STAND_INS)


def _remove(data: dict[Any, Any], path: Sequence[str | int], copies: dict[int, Any]) -> None:
    """Remove the key at `path`, or its parent if that is not a mapping; keep the original data.

    `copies` contains the mappings copied so far, so that each is copied only once.
    """
    key, *inner = path
    below = data.get(key)
    if inner and inner != ["[key]"] and isinstance(below, dict) and inner[0] in below:
        if id(below) not in copies:
            below = data[key] = dict(below)
            copies[id(below)] = below
        _remove(below, inner, copies)
    else:
        data.pop(key, None)


_ENTRIES = frozenset({"hosts", "users", "services"})
_EMPTY = Invalid("SD204", "the value is empty", advice="write a value, or delete the key")


def _empty_values(data: Mapping[str, Any]) -> Iterator[Path]:
    """Paths of keys without a value that the models would treat as absent."""
    parts: list[tuple[Path, Any]] = [((key,), data.get(key)) for key in ("tls", "install")]
    for section in ("hosts", "users"):
        entries = data.get(section)
        if isinstance(entries, dict):
            parts += [((section, name), entry) for name, entry in entries.items()]
    for path, part in parts:
        if isinstance(part, dict) and None in part.values():
            yield from ((*path, key) for key, value in part.items() if value is None)


def _diagnostic(document: Document, path: Path, where: str, fault: Invalid) -> Diagnostic:
    key = document.key_span(path)
    span = key if where == "key" else document.value_span(path)
    # a span of a parent, or of the key instead of its value, is no place for the right text
    is_alone = where == "key" or isinstance(path[-1], int)  # an item of a list has no key
    is_exact = path in document.marks and (is_alone or span != key)
    problem = fault.at(span)
    return problem if is_exact else replace(problem, fix=None)


_TAGS = frozenset({"<text>", "<mapping>"})  # of unions; not part of the document
_UNIONS = frozenset({"password", "pin", "secrets", "asterisk", "kamailio"})
_KEY = "[key]"  # pydantic marks an error of the key, not of its value

_PARTS: Mapping[str, str] = {"hosts": "a host", "users": "a user", "services": "a service"}


def verdicts(
    document: Document, faults: Sequence[Any], model: type[BaseModel]
) -> list[Diagnostic]:
    """Convert pydantic's errors into diagnostics; `model` defines the known keys."""
    misspelt = {
        (*path[:-1], near)
        for path in (plain_path(f["loc"]) for f in faults if f["type"] == "extra_forbidden")
        for near in _near(str(path[-1]), _keys(model, path[:-1]))
    }
    diagnostics = (
        _verdict(document, fault, model)
        for fault in faults
        if fault["type"] != "missing" or plain_path(fault["loc"]) not in misspelt
    )
    return list(dict.fromkeys(diagnostics))


def plain_path(location: Sequence[str | int]) -> Path:
    """The path in the document, without the tags that pydantic adds for unions."""
    return tuple(
        part
        for before, part in itertools.pairwise(("", *location))
        if not (part in _TAGS and before in _UNIONS)
    )


def _verdict(document: Document, fault: Mapping[str, Any], model: type[BaseModel]) -> Diagnostic:
    kind = fault["type"]
    path = plain_path(fault["loc"])
    at_key = path[-1:] == (_KEY,)
    path = path[:-1] if at_key else path
    if kind == "extra_forbidden":
        verdict, at_key = _unknown_key(path, _keys(model, path[:-1])), True
    elif kind == "missing":
        verdict, at_key, path = _missing_key(path), True, path[:-1]
    else:
        verdict = _judge(kind, fault, path)
    return _diagnostic(document, path, "key" if at_key else "value", verdict)


def _judge(kind: str, fault: Mapping[str, Any], path: Path) -> Invalid:
    own = fault.get("ctx", {}).get("error")
    if isinstance(own, Invalid):
        return own
    if fault["input"] is None or kind == "string_too_short":
        return Invalid("SD204", "the value is empty", advice="write a value, or delete the key")
    if kind == "one_source":
        what = "PIN" if path[-1] == "pin" else "password"
        message = f"a {what} has exactly one source"
        return Invalid("SD221", message, advice="write one of `env`, `file`, `command`")
    expected = "a list" if "tuple" in kind else "text" if "string" in kind else "a mapping"
    advice = {
        "a list": "write `[a, b]`, or lines that start with `- `",
        "a mapping": "write indented lines of `key: value` below the key",
        "text": "write one value on one line",
    }[expected]
    if path in _SWITCHES and (is_on := _WORDS.get(str(fault["input"]).lower())) is not None:
        advice = f"write `{path[0]}: {{}}`" if is_on else "delete the line"
    return Invalid("SD203", f"expected {expected}", advice=advice)


# Sections whose presence alone switches something on, and what people write in their place.
_SWITCHES: frozenset[Path] = frozenset({("turn",), ("phone",)})
_WORDS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


def _keys(model: Any, path: Path) -> tuple[str, ...]:
    """The known keys of the mapping at `path`."""
    for part in path:
        inner = getattr(model, "model_fields", {}).get(part)
        model = inner.annotation if inner else model
        model = next(iter(_models(model)), model)
    return tuple(getattr(model, "model_fields", ()))


def _models(annotation: Any) -> Iterator[Any]:
    """The models inside a type such as `dict[str, User]`, outermost first."""
    if hasattr(annotation, "model_fields"):
        yield annotation
    for inner in (*getattr(annotation, "__args__", ()), getattr(annotation, "__origin__", None)):
        if inner is not None and inner is not annotation:
            yield from _models(inner)


def _unknown_key(path: Path, known: tuple[str, ...]) -> Invalid:
    word = str(path[-1])
    place = ".".join(str(part) for part in path[:-1])
    message = f"unknown key `{word}`" + (f" in `{place}`" if place else "")
    for near in _near(word, known):
        return Invalid("SD201", message, advice=f"did you mean `{near}`?", right=near)
    what = _PARTS.get(str(path[0])) if len(path) == 3 else None  # noqa: PLR2004  # in an entry
    keys = ", ".join(f"`{key}`" for key in known)
    return Invalid("SD201", message, advice=f"the keys of {what or 'this mapping'} are {keys}")


def _near(word: str, known: tuple[str, ...]) -> list[str]:
    """The known key most similar to a word; empty if several are similar."""
    near = difflib.get_close_matches(word.lower().replace("-", "_"), known, n=2, cutoff=0.75)
    return near if len(near) == 1 else []


def _missing_key(path: Path) -> Invalid:
    key = path[-1]
    place = ".".join(str(part) for part in path[:-1])
    message = f"`{key}` is missing" + (f" in `{place}`" if place else "")
    return Invalid("SD202", message, advice=f"add `{key}: {_EXAMPLES.get(str(key), '...')}`")


_EXAMPLES: Mapping[str, str] = {
    "domain": "sip.example.com",
    "email": "ops@example.com",
    "hosts": "{sip1: {address: 203.0.113.10}}",
    "users": "{1001: {name: Alice}}",
    "address": "203.0.113.10",
    "kind": "echo",
    "command": "sops -d secrets.enc.yaml",
    "version": "22.11.0",
    "url": "https://example.com/asterisk-22.11.0.tar.gz",
}


Fault = tuple[Path, Literal["key", "value"], Invalid]

_OPENED: tuple[Path, ...] = (("ports", "wss"), ("phone", "port"))  # by browsers, with fetch
# The bad ports of the Fetch standard (fetch.spec.whatwg.org, section "port blocking").
BAD_PORTS = frozenset(
    (
        *(0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95),
        *(101, 102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161),
        *(179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563),
        *(587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060),
        *(5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080),
    )
)


def _sockets(site: Site) -> dict[Path, int]:
    """The ports of the services by the path of their keys."""
    keys: list[Path] = [("ports", key) for key in ("wss", "kamailio", "asterisk", "registrar")]
    keys += [("turn", key) for key in ("port", "tls") if site.turn]
    keys += [("phone", "port")] if site.phone else []
    return {(part, key): getattr(getattr(site, str(part)), str(key)) for part, key in keys}


def _ranges(site: Site) -> dict[Path, PortRange]:
    """The ranges of ports for media by the path of their keys."""
    ranges: dict[Path, PortRange] = {("ports", "rtp"): site.ports.rtp}
    if site.turn:
        ranges["turn", "relay"] = site.turn.relay
    return ranges


def _narrower(place: Path | None) -> str:
    """The advice where ranges leave no port free."""
    default = f"relay: {Turn().relay}" if place == ("turn", "relay") else f"rtp: {Ports().rtp}"
    return f"write a narrower range, such as `{default}`"


def _port_clashes(site: Site) -> Iterator[Fault]:
    """Every socket needs its own port; 22 is for SSH, 80 for ACME challenges."""
    seen, ranges = {22: "SSH", 80: "ACME challenges"}, _ranges(site)
    for path, number in _sockets(site).items():
        name, key = ".".join(map(str, path)), path[-1]
        around = (each for each, r in ranges.items() if r.start <= number <= r.end)
        place, code = next(around, None), ""
        if number in seen:
            code, message = "SD213", f"`{name}` is {number}, which {seen[number]} uses"
        elif place:
            inside = f"`{'.'.join(map(str, place))}` {ranges[place]}"
            code, message = "SD214", f"`{name}` is {number}, which is inside {inside}"
        elif path in _OPENED and number in BAD_PORTS:
            code, message = "SD722", f"`{name}` is {number}, a port that browsers refuse"
        if code:
            free = _free_port(site, path)
            advice = f"write another port, such as `{key}: {free}`" if free else _narrower(place)
            yield path, "value", Invalid(code, message, advice=advice)
        seen.setdefault(number, f"`{name}`")
    yield from _range_clash(site)


def _range_clash(site: Site) -> Iterator[Fault]:
    """Asterisk and the relay cannot have the same ports for media."""
    if site.turn is None:
        return
    rtp, relay = site.ports.rtp, site.turn.relay
    if relay.start <= rtp.end and rtp.start <= relay.end:
        others = (PortRange(start, start + 9_999) for start in (20001, 30001, 40001, 50001, 2001))
        free = next(
            (each for each in others if each.end < rtp.start or rtp.end < each.start), None
        )
        message = f"`turn.relay` {relay} and `ports.rtp` {rtp} have ports in common"
        advice = f"write another range, such as `relay: {free}`" if free else _narrower(None)
        yield ("turn", "relay"), "value", Invalid("SD214", message, advice=advice)


def _free_port(site: Site, path: Path) -> int:
    """The first port, starting at the default of the key, that no part of the site uses; or 0."""
    used = {*_sockets(site).values(), *(host.port for host in site.hosts.values())}
    used |= BAD_PORTS if path in _OPENED else frozenset()
    for each in _ranges(site).values():
        used |= {*range(each.start, each.end + 1)}
    parts = {"ports": Ports(), "turn": Turn(), "phone": Phone()}
    default = getattr(parts[str(path[0])], str(path[1]))
    first = max(default, 8444 if path == ("phone", "port") else 0)
    candidates = itertools.chain([default], range(first, 65536), range(1024, 65536))
    return next((number for number in candidates if number not in used), 0)


def _ssh_ports(site: Site) -> Iterator[Fault]:
    """SSH of a host cannot use the port of a service."""
    for name, host in site.hosts.items():
        for path, number in _sockets(site).items():
            is_same = host.port == number != 22  # noqa: PLR2004  # _port_clashes reports 22
            if is_same and not host.is_local:
                part, key = path
                message = f"SSH of `{name}` and `{part}.{key}` use the same port {host.port}"
                free = _free_port(site, path)
                advice = f"write another port, such as `{part}: {{{key}: {free}}}`"
                advice = advice if free else _narrower(None)
                fault = Invalid("SD213", message, advice=advice)
                yield ("hosts", name, "port"), "value", fault


def _shared_numbers(site: Site) -> Iterator[Fault]:
    for number in site.services.keys() & site.users.keys():
        message = f"`{number}` is both a service and a user"
        fault = Invalid("SD216", message, advice="give one of them another number")
        yield ("services", number), "key", fault


def _shared_addresses(site: Site) -> Iterator[Fault]:
    seen: dict[tuple[str, int], str] = {}
    for name, host in site.hosts.items():
        first = seen.setdefault((host.address, 0 if host.is_local else host.port), name)
        if first != name:
            message = f"hosts `{first}` and `{name}` are the same machine"
            fault = Invalid("SD224", message, advice="delete one of them, or correct its address")
            yield ("hosts", name, "address"), "value", fault


def _media_addresses(site: Site) -> Iterator[Fault]:
    for name, host in site.hosts.items():
        key = "public_address" if host.public_address else "address"
        try:
            host.media_address  # noqa: B018  # only to run its check
        except Invalid as fault:
            advice = (
                f"set `hosts.{name}.public_address` to the numeric address that browsers reach"
            )
            message = f"host `{name}` has no numeric address for media"
            is_name = fault.code == "SD211"
            yield (
                ("hosts", name, key),
                "value",
                Invalid(
                    "SD212", message if is_name else fault.message, fault.label, advice=advice
                ),
            )
        if host.private_address and not _same_family(host):
            message = "`private_address` and the public address have different IP versions"
            families = Invalid("SD212", message, advice="write both as IPv4, or both as IPv6")
            yield ("hosts", name, "private_address"), "value", families


def _same_family(host: HostEntry) -> bool:
    try:
        public = ipaddress.ip_address(host.public_address or host.address)
    except ValueError:
        return True  # reported elsewhere
    return public.version == ipaddress.ip_address(str(host.private_address)).version


_PROVIDER_KEYS: Mapping[str, str] = {
    "server": "letsencrypt",
    "ca_bundle": "letsencrypt",
    "challenge": "letsencrypt",
    "webroot": "letsencrypt",
    "dns_plugin": "letsencrypt",
    "dns_credentials": "letsencrypt",
    "dns_wait": "letsencrypt",
    "certificate": "files",
    "private_key": "files",
}


def _provider_keys(site: Site) -> Iterator[Fault]:
    for key, provider in _PROVIDER_KEYS.items():
        is_set = key in site.tls.model_fields_set and getattr(site.tls, key) is not None
        mine = provider == site.tls.provider
        if not is_set and mine and provider == "files":
            message = f"`tls.{key}` is missing"
            advice = f"add `{key}: FILE` (PEM)"
            fault = Invalid("SD217", message, "`files` requires it", advice=advice)
            yield ("tls", "provider"), "value", fault
        elif is_set and not mine:
            message = f"`tls.{key}` requires `provider: {provider}`"
            advice = f"delete it, or write `provider: {provider}`"
            label = f"the provider is `{site.tls.provider}`"
            yield ("tls", key), "key", Invalid("SD218", message, label, advice=advice)
    if site.tls.ca_bundle and site.tls.is_public:
        advice = "add `server: https://HOST/directory`, the ACME server with this root certificate"
        fault = Invalid(
            "SD217", "`tls.server` is missing", "`ca_bundle` requires it", advice=advice
        )
        yield ("tls", "ca_bundle"), "key", fault


_CHALLENGE_KEYS: Mapping[str, str] = {
    "webroot": "http-01",
    "dns_plugin": "dns-01",
    "dns_credentials": "dns-01",
    "dns_wait": "dns-01",
}


def _challenge_keys(site: Site) -> Iterator[Fault]:
    """The keys of one challenge have no effect with the other."""
    tls = site.tls
    if tls.provider != "letsencrypt":
        return
    for key, challenge in _CHALLENGE_KEYS.items():
        if key in tls.model_fields_set and challenge != tls.challenge:
            message = f"`tls.{key}` requires `challenge: {challenge}`"
            advice = f"delete it, or write `challenge: {challenge}`"
            label = f"the challenge is `{tls.challenge}`"
            yield ("tls", key), "key", Invalid("SD218", message, label, advice=advice)
    if tls.challenge == "dns-01" and tls.dns_plugin is None:
        message = "`tls.dns_plugin` is missing"
        advice = "add the plugin of your DNS provider, such as `dns_plugin: rfc2136`"
        fault = Invalid("SD217", message, "`dns-01` requires it", advice=advice)
        yield ("tls", "challenge"), "value", fault


CHECKS: tuple[Callable[[Site], Iterator[Fault]], ...] = (
    _port_clashes,
    _ssh_ports,
    _shared_numbers,
    _shared_addresses,
    _media_addresses,
    _provider_keys,
    _challenge_keys,
    *own.CHECKS,
)
