"""The site: what an inventory describes, after every check that needs nothing but its text.

Pure. Finds all problems at once; never reads a file, and never shows the value of a password.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sipdeploy.diagnostics import Diagnostic, Source, has_errors
from sipdeploy.inventory.checks import CHECKS
from sipdeploy.inventory.document import Document, Path, parse
from sipdeploy.inventory.fields import Invalid
from sipdeploy.inventory.install import Install
from sipdeploy.inventory.models import HostEntry, Ports, Service, Site, Tls, User, Versions
from sipdeploy.inventory.verdicts import plain_path, verdicts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


__all__ = [
    "HostEntry",
    "Install",
    "Ports",
    "Service",
    "Site",
    "Tls",
    "User",
    "Versions",
    "is_secret",
    "json_schema",
    "load_site",
    "source",
]

PLAIN_USER_KEYS = frozenset({"name", "voicemail", "max_contacts"})


def is_secret(path: Path) -> bool:
    """Tell whether the value at a path of the inventory may be a password: it is never shown.

    Under a user all but the known harmless keys count, for a key may be misspelt.
    """
    match path:
        case ("users", _):
            return True  # hidden only where it is no mapping, see `source`
        case ("users", _, "password", "env" | "file" | "command"):
            return False
        case ("users", _, key, *_):
            return key not in PLAIN_USER_KEYS
    return False


def source(document: Document) -> Source:
    """Give the lines of an inventory for excerpts, without its passwords."""
    users = document.data.get("users") if isinstance(document.data, dict) else None
    entries = users.items() if isinstance(users, dict) else ()
    mappings = {number for number, user in entries if isinstance(user, dict)}

    def hidden(path: Path) -> bool:
        if path == ("users",):
            return not isinstance(users, dict | None)
        if len(path) == 2:  # noqa: PLR2004  # ("users", NUMBER)
            return path[0] == "users" and path[1] not in mappings
        if path[-1:] == ("password",) and _holds_source(document.data, path):
            return False
        return is_secret(path)

    return document.source(hidden)


def _holds_source(data: Any, path: Path) -> bool:
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
    return isinstance(data, dict)


def json_schema() -> dict[str, Any]:
    """Give the JSON Schema (2020-12) of an inventory, for editors."""
    schema = Site.model_json_schema(mode="validation")
    for part in schema["properties"].values():
        if "patternProperties" in part:
            part["additionalProperties"] = False
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def load_site(text: str, path: str) -> tuple[Site | None, list[Diagnostic], Document]:
    """Read an inventory: the site, or None when there is an error; every problem; the document.

    `path` is what diagnostics show. Never raises for bad text, and asks nothing outside of it.
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
    problems += (_told(document, path, "value", _EMPTY) for path in _empty_values(document.data))
    for check in CHECKS:
        problems += (_told(document, *found) for found in check(site))
    return (None if has_errors(problems) else site), problems, document


# What stands in for a missing part, so that the rest can still be checked as a whole.
_STAND_INS: Mapping[str, Any] = {
    "domain": "stand-in.invalid",
    "email": "stand@in.invalid",
    "hosts": {"stand-in": {"address": "192.0.2.1"}},
    "users": {},
}


def _sound(data: Mapping[str, Any], faults: Sequence[Any]) -> Site:
    """Give a site of what is right: without the keys, entries or sections at fault."""
    rest = dict(data)
    copies: dict[int, Any] = {}
    for depth in (3, 2):
        for fault in faults:
            path = plain_path(fault["loc"])
            _remove(rest, path[:depth] if path[0] in _ENTRIES else path[:1], copies)
        rest = {**_STAND_INS, **rest, "hosts": rest.get("hosts") or _STAND_INS["hosts"]}
        try:
            return Site.model_validate(rest)
        except ValidationError as failure:  # a key was left out that its entry needs
            faults = failure.errors(include_url=False)
    return Site.model_validate(_STAND_INS)


def _remove(data: dict[Any, Any], path: Sequence[str | int], copies: dict[int, Any]) -> None:
    """Take the key at `path` out, or what holds it where that has no keys; the original stays.

    `copies` are those that were made before: each mapping is copied once, whatever is taken out.
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
    """Find keys with nothing after them which the models would read as not being there."""
    parts: list[tuple[Path, Any]] = [((key,), data.get(key)) for key in ("tls", "install")]
    for section in ("hosts", "users"):
        entries = data.get(section)
        if isinstance(entries, dict):
            parts += [((section, name), entry) for name, entry in entries.items()]
    for path, part in parts:
        if isinstance(part, dict) and None in part.values():
            yield from ((*path, key) for key, value in part.items() if value is None)


def _told(document: Document, path: Path, where: str, fault: Invalid) -> Diagnostic:
    return Diagnostic(
        code=fault.code,
        severity="error",
        message=fault.message,
        span=document.key_span(path) if where == "key" else document.value_span(path),
        label=fault.label,
        help=fault.advice,
    )
