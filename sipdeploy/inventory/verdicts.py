"""What pydantic finds wrong with an inventory, told in the words and at the places of its text.

Pure. Never shows a value itself: the checks of `fields` decide what may be shown.
"""

from __future__ import annotations

import difflib
import itertools
from typing import TYPE_CHECKING, Any

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.inventory.fields import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic import BaseModel

    from sipdeploy.inventory.document import Document, Path

_TAGS = frozenset({"<text>", "<mapping>"})  # of unions; they lead nowhere in the document
_UNIONS = frozenset({"password", "secrets", "asterisk", "kamailio"})
_KEY = "[key]"  # pydantic's way to say: not the value, its key

EXPLAIN: Mapping[str, str] = {
    "SD201": "The key is not known. Keys are listed in inventory.example.yaml.",
    "SD202": "A key that has no default is missing.",
    "SD203": "The value is of another kind: text, a list (`- a`) or a mapping (`key: value`).",
    "SD204": "The key is there, its value is not.",
    "SD205": "A whole number within bounds is wanted.",
    "SD206": "`true` or `false` is wanted (`yes`, `no`, `on`, `off` do as well).",
    "SD207": "One of a few words is wanted.",
    "SD208": "Users have 2 to 15 digits; services 1 to 15 digits and stars.",
    "SD209": "The domain is a full DNS name: certificate, SIP realm and WebSocket carry it.",
    "SD210": "The e-mail address is that of the ACME account, to which warnings are sent.",
    "SD211": "An address is IPv4, IPv6, a host name that SSH can resolve, or `local`.",
    "SD212": "Media needs a numeric address that browsers reach; ICE candidates hold no names.",
    "SD213": "Two sockets cannot share a port. 22 is for SSH, 80 for ACME challenges.",
    "SD214": "Asterisk takes any port of `ports.rtp` for a call, so nothing else may be in it.",
    "SD215": "A range of ports is `FIRST-LAST`, from 1024 to 65535.",
    "SD216": "One number cannot be a user and a service: which one would ring?",
    "SD217": "A key that the chosen provider of certificates needs is missing.",
    "SD218": "A key has no effect with the chosen provider of certificates.",
    "SD219": "A web origin is scheme, host and port, as browsers send it, without a path.",
    "SD220": "The text has a control character, a line break, or too many characters.",
    "SD221": "A password is text, or exactly one of `env`, `file`, `command`.",
    "SD222": "sipdeploy writes for Kamailio 5.4 to 6.1 and Asterisk 16 to 22.",
    "SD223": "Names of hosts and logins go into paths and commands, so they are kept simple.",
    "SD224": "Two entries name one machine; the second would undo the first.",
    "SD225": "An ACME directory is an https URL.",
    "SD226": "A folder of a host is an absolute path; a DNS plugin of certbot is one word.",
    "SD227": "Where software comes from is a URL, and what it must be a SHA-256 or a fingerprint.",
}
_PARTS: Mapping[str, str] = {"hosts": "a host", "users": "a user", "services": "a service"}


def verdicts(
    document: Document, faults: Sequence[Any], model: type[BaseModel]
) -> list[Diagnostic]:
    """Turn pydantic's errors into diagnostics; `model` tells which keys there are."""
    misspelt = {
        (*path[:-1], near)
        for path in (plain_path(f["loc"]) for f in faults if f["type"] == "extra_forbidden")
        for near in _near(str(path[-1]), _keys(model, path[:-1]))
    }
    told = (
        _verdict(document, fault, model)
        for fault in faults
        if fault["type"] != "missing" or plain_path(fault["loc"]) not in misspelt
    )
    return list(dict.fromkeys(told))


def plain_path(location: Sequence[str | int]) -> Path:
    """Give the path in the document; pydantic adds which part of a union it has tried."""
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
        verdict = _judge(kind, fault)
    return Diagnostic(
        code=verdict.code,
        severity="error",
        message=verdict.message,
        span=document.key_span(path) if at_key else document.value_span(path),
        label=verdict.label,
        help=verdict.advice,
    )


def _judge(kind: str, fault: Mapping[str, Any]) -> Invalid:
    own = fault.get("ctx", {}).get("error")
    if isinstance(own, Invalid):
        return own
    if fault["input"] is None or kind == "string_too_short":
        return Invalid("SD204", "the value is empty", advice="write a value, or delete the key")
    if kind == "one_source":
        message = "a password comes from exactly one source"
        return Invalid("SD221", message, advice="write one of `env`, `file`, `command`")
    wanted = "a list" if "tuple" in kind else "text" if "string" in kind else "a mapping"
    advice = {
        "a list": "write `[a, b]`, or lines that begin with `- `",
        "a mapping": "write lines of `key: value`, indented, below the key",
    }.get(wanted, "")
    return Invalid("SD203", f"{wanted} is wanted here", advice=advice)


def _keys(model: Any, path: Path) -> tuple[str, ...]:
    """Find the keys that the mapping at `path` may have."""
    for part in path:
        inner = getattr(model, "model_fields", {}).get(part)
        model = inner.annotation if inner else model
        model = next(iter(_models(model)), model)
    return tuple(getattr(model, "model_fields", ()))


def _models(annotation: Any) -> Iterator[Any]:
    """Find the models inside a type such as `dict[str, User]`, outermost first."""
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
        return Invalid("SD201", message, advice=f"did you mean `{near}`?")
    what = _PARTS.get(str(path[0])) if len(path) == 3 else None  # noqa: PLR2004  # in an entry
    keys = ", ".join(f"`{key}`" for key in known)
    return Invalid("SD201", message, advice=f"the keys of {what or 'this mapping'} are {keys}")


def _near(word: str, known: tuple[str, ...]) -> list[str]:
    """Find the one key that was meant; none when there are several candidates."""
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
