"""Asterisk's part of groups, menus, conferences and dialplan of one's own: values and files."""

from collections.abc import Iterator, Mapping
from typing import Any

from sipdeploy.inventory.fields import Destination
from sipdeploy.inventory.models import Service
from sipdeploy.inventory.own.files import Attachments, rate_of
from sipdeploy.inventory.secret import Secret
from sipdeploy.inventory.site import Site
from sipdeploy.services.extensions import modules
from sipdeploy.services.render import ManagedFile
from sipdeploy.services.service import NOTHING

DIALPLAN = "/etc/asterisk/dialplan"
PROMPTS = "/etc/asterisk/prompts"
FOLDERS = (DIALPLAN, PROMPTS)
# Kinds whose calls have a second leg, to a phone of a user.
DIALLING = frozenset({"group", "menu", "dialplan"})


def name_of(number: str) -> str:
    """The number of a service in names of contexts and files, where a star has a meaning."""
    return number.replace("*", "star")


def kinds(site: Site) -> frozenset[str]:
    """The kinds of services that a site has."""
    return frozenset(service.kind for service in site.services.values())


def modules_of(site: Site, attachments: Attachments) -> tuple[str, ...]:
    """The modules of Asterisk that only these services need."""
    needed = set(modules.CONFERENCE) if "conference" in kinds(site) else set()
    for file in attachments.dialplan.values():
        needed |= modules.used(file.text)
    return tuple(sorted(needed))


def values(site: Site, attachments: Attachments) -> Mapping[str, Any]:
    """The values of the templates."""
    services = tuple(
        _service(number, each, site, attachments) for number, each in site.services.items()
    )
    return {
        "services": services,
        "groups": tuple(each for each in services if each["kind"] == "group"),
        "menus": tuple(each for each in services if each["kind"] == "menu"),
        "conferences": tuple(each for each in services if each["kind"] == "conference"),
        "dials": bool(kinds(site) & DIALLING),
        "dialplan_files": tuple(sorted(attachments.dialplan)),
    }


def _service(
    number: str, service: Service, site: Site, attachments: Attachments
) -> Mapping[str, Any]:
    return {
        "number": number,
        "name": name_of(number),
        "kind": service.kind,
        "context": service.context or "sipdeploy-nobody",
        "members": service.members,
        "ring": service.ring,
        "seconds": service.seconds,
        "rings_at_once": len(service.members) if service.ring == "all" else 1,
        "then": _place(site, service.then),
        "keys": tuple((key, _place(site, each)) for key, each in service.keys.items()),
        "attempts": service.attempts,
        "has_prompt": number in attachments.prompts,
        "pin": attachments.pins.get(number, Secret("")).reveal(),
        "max_members": service.max_members,
        "spoken": tuple(
            (_spoken(key), [*map(_spoken, each.number)]) for key, each in service.keys.items()
        ),
    }


def _place(site: Site, destination: Destination | None) -> Mapping[str, str]:
    """The context and extension of a destination; a call without one finds nobody."""
    if destination is None:
        return {"context": "sipdeploy-nobody", "extension": "s"}
    context = "services" if destination.number in site.services else "sipdeploy-phones"
    context = "sipdeploy-boxes" if destination.is_mailbox else context
    return {"context": context, "extension": destination.number}


def _spoken(key: str) -> str:
    """The sound of a key."""
    return "digits/" + {"*": "star", "#": "pound"}.get(key, key)


def files(attachments: Attachments, owner: str, reload: tuple[str, ...]) -> Iterator[ManagedFile]:
    """The files of people, as they are: each keeps its lines, so messages name the right one."""
    for name, file in attachments.dialplan.items():
        yield ManagedFile(
            path=f"{DIALPLAN}/{name}",
            content=file.text.encode(),
            mode=0o640,
            owner=owner,
            service="asterisk",
            reload=reload,
            template=file.path,
        )
    for number, prompt in attachments.prompts.items():
        yield ManagedFile(
            path=f"{PROMPTS}/{name_of(number)}.{'wav' if rate_of(prompt) == 8000 else 'wav16'}",  # noqa: PLR2004
            content=prompt,
            mode=0o640,
            owner=owner,
            service="asterisk",
            reload=NOTHING,
            template=f"(services.{number}.prompt)",
        )


def source_of(file: ManagedFile) -> str:
    """The local path of a file that people wrote, and that is deployed as it is; else empty."""
    return file.template if file.path.startswith(f"{DIALPLAN}/") else ""


def is_read_when_used(path: str) -> bool:
    """Whether a file can go without a restart: extensions.conf, which is reloaded, names it."""
    return path.startswith((f"{DIALPLAN}/", f"{PROMPTS}/"))
