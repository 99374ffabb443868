"""How the keys of services fit together: groups, menus, conferences and dialplan. Pure."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from sipdeploy.inventory.fields import Destination, Invalid
from sipdeploy.inventory.models import MOST_MEMBERS, Service, Site
from sipdeploy.inventory.secret import Secret

Fault = tuple[tuple[str | int, ...], Literal["key", "value"], Invalid]

PIN = re.compile(r"[0-9]{4,15}", re.ASCII)
MOST_SECONDS = 300  # that Kamailio lets a call ring, see kamailio.cfg
_KINDS_OF: Mapping[str, tuple[str, ...]] = {
    "context": ("dialplan",),
    "members": ("group",),
    "ring": ("group",),
    "timeout": ("group", "menu"),
    "then": ("group", "menu"),
    "prompt": ("menu",),
    "keys": ("menu",),
    "attempts": ("menu",),
    "pin": ("conference",),
    "max_members": ("conference",),
}
_REQUIRED: Mapping[str, tuple[str, str]] = {
    "dialplan": ("context", "context: shop"),
    "group": ("members", "members: [1001, 1002]"),
    "menu": ("keys", "keys: {1: 1001}"),
}


def _keys(site: Site) -> Iterator[Fault]:
    """Each kind has keys of its own, and may need one of them."""
    for number, service in site.services.items():
        path = ("services", number)
        for key, kinds in _KINDS_OF.items():
            if key in service.model_fields_set and service.kind not in kinds:
                owner = " or ".join(f"`kind: {kind}`" for kind in kinds)
                message = f"`services.{number}.{key}` requires {owner}"
                label = f"the kind is `{service.kind}`"
                yield (*path, key), "key", Invalid("SD250", message, label, advice="delete it")
        key, example = _REQUIRED.get(service.kind, ("", ""))
        if key and not getattr(service, key):
            message = f"`services.{number}.{key}` is missing"
            label = f"`{service.kind}` requires it"
            place = (*path, key) if key in service.model_fields_set else (*path, "kind")
            yield place, "value", Invalid("SD251", message, label, advice=f"add `{example}`")


def _members(site: Site) -> Iterator[Fault]:
    """The members of a group are users, each once."""
    for number, service in site.services.items():
        path = ("services", number, "members")
        if len(service.members) > MOST_MEMBERS:
            message = f"the group has {len(service.members)} members"
            advice = f"write at most {MOST_MEMBERS}; `then` can lead to another group"
            yield path, "value", Invalid("SD254", message, advice=advice)
        for place, member in enumerate(service.members):
            if member not in site.users:
                yield (*path, place), "value", _no_user(site, member)
            elif member in service.members[:place]:
                fault = Invalid("SD254", f"`{member}` is a member twice", advice="delete one")
                yield (*path, place), "value", fault


def _no_user(site: Site, number: str) -> Invalid:
    message = f"`{number}` is not a user"
    advice = "write the number of a user, or add it with `sipdeploy add-user`"
    if number in site.services:
        advice = "a member is a user; `then: " + f"{number}` sends the call there afterwards"
        return Invalid("SD252", message, "it is a service", advice=advice)
    return Invalid("SD252", message, advice=advice)


def _destinations(site: Site) -> Iterator[Fault]:
    """A call is sent to a number of the site, or to a mailbox that exists."""
    for number, service in site.services.items():
        for key, destination in service.destinations:
            if fault := _nowhere(site, destination):
                yield ("services", number, *key), "value", fault


def _nowhere(site: Site, destination: Destination) -> Invalid | None:
    number = destination.number
    if not destination.is_mailbox:
        if number in site.users or number in site.services:
            return None
        message = f"`{number}` is neither a user nor a service"
        return Invalid("SD252", message, advice="write a number of this site")
    if number not in site.users:
        return _no_user(site, number)
    if site.users[number].voicemail:
        return None
    advice = f"add `voicemail: true` to `users.{number}`"
    return Invalid("SD252", f"user `{number}` has no mailbox", advice=advice)


def uses_of(site: Site, number: str) -> Iterator[tuple[str | int, ...]]:
    """The paths of the members and destinations that name a number."""
    for name, service in site.services.items():
        for place, member in enumerate(service.members):
            if member == number:
                yield "services", name, "members", place
        for key, destination in service.destinations:
            if destination.number == number:
                yield ("services", name, *key)


def next_of(service: Service) -> str:
    """The number to which a service sends a call by itself, without a key; empty if to none."""
    then = service.then
    return then.number if then and not then.is_mailbox else ""


def _loops(site: Site) -> Iterator[Fault]:
    """No call goes round by itself; a caller who presses keys may."""
    told: set[str] = set()
    for start in site.services:
        way = [start]
        while (number := next_of(site.services[way[-1]])) in site.services and number not in way:
            way.append(number)
        if number in way and not told & set(way):
            told |= set(way)
            circle = [*way[way.index(number) :], number]
            message = f"the call goes round in a loop: {' -> '.join(circle)}"
            fault = Invalid("SD253", message, advice="send it to a user, or delete `then`")
            yield ("services", circle[-2], "then"), "value", fault


def _pins(site: Site) -> Iterator[Fault]:
    """A PIN is typed with the keys of a phone."""
    for number, service in site.services.items():
        pin = service.pin if service.kind == "conference" else None
        if isinstance(pin, Secret) and not PIN.fullmatch(pin.reveal()):
            fault = Invalid("SD259", "a PIN has 4 to 15 digits", advice="write such as `73058`")
            yield ("services", number, "pin"), "value", fault


CHECKS: tuple[Callable[[Site], Iterator[Fault]], ...] = (
    _keys,
    _members,
    _destinations,
    _loops,
    _pins,
)
