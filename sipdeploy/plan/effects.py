"""What a plan means for people: the users whom it adds, removes or disconnects, and phones. Pure.

It compares the files that a host has with those that the plan writes, so it knows the effect
whatever caused it: a command, an edit of the inventory, another secrets file, a rollback.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sipdeploy.plan import Plan, tables
from sipdeploy.plan.preview import Present
from sipdeploy.services import certificates, kamailio

MOST_NAMED = 10
SUM = re.compile(r"^([0-9*]{1,15})@(\S{1,253}) ([0-9a-f]{16})$", re.MULTILINE)
LISTEN = re.compile(r"^listen=tls:\S+:(\d{1,5})(?: |$)", re.MULTILINE)
NUMBER = re.compile(r"[0-9*]{1,15}")
SETTINGS = re.compile(r"voicemail=(?P<voicemail>[01]);contacts=(?P<contacts>\d{1,3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class UserEffects:
    """The numbers that a plan adds and disconnects; `registered` of these, None if unknown."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    total: int = 0  # of users before
    is_of_domain: bool = False  # the cause is another domain
    registered: frozenset[str] | None = frozenset()

    @property
    def disconnected(self) -> frozenset[str]:
        """The numbers whose phones the host disconnects."""
        return frozenset((*self.removed, *self.changed))

    def as_data(self) -> dict[str, Any]:
        """The effects as JSON data."""
        return {
            "added": list(self.added),
            "removed": list(self.removed),
            "changed": list(self.changed),
            "disconnected_now": None if self.registered is None else sorted(self.registered),
        }

    def lines(self) -> Iterator[str]:
        """One line for each kind of effect."""
        if self.added:
            yield f"adds {named(self.added)}"
        for numbers, what in (
            (self.removed, "removes {}, and disconnects them"),
            (self.changed, f"disconnects {{}}: {self._reason}"),
        ):
            if numbers:
                yield f"{what.format(named(numbers, self.total))}; {self._now(numbers)}"

    @property
    def _reason(self) -> str:
        if self.is_of_domain:
            return "the domain changes"
        return "their passwords change"

    def _now(self, numbers: Collection[str]) -> str:
        if self.registered is None:
            return "how many are registered now is unknown"
        return f"{len(self.registered & set(numbers))} registered now"


def user_effects(plan: Plan, present: Present) -> UserEffects:
    """Compare the users and credentials of a host with those of a plan."""
    before = credential_sums(present.current.get(kamailio.SUMS))
    after = credential_sums(_new(plan, kamailio.SUMS))
    if before is None or after is None:
        return UserEffects()
    common = before.keys() & after.keys()
    removed = tuple(number for number in before if number not in common)
    changed = tuple(n for n in before if n in common and before[n] != after[n])
    ended, registered = {*removed, *changed}, present.registered
    return UserEffects(
        added=tuple(number for number in after if number not in common),
        removed=removed,
        changed=changed,
        total=len(before),
        is_of_domain=any(before[number][0] != after[number][0] for number in common),
        registered=None if registered is None else frozenset(ended & registered),
    )


def wider_effects(plan: Plan, present: Present) -> Iterator[str]:
    """The effects on phones that stay connected, and on callers; one line for each."""
    changed = _new(plan, kamailio.DATABASE)
    before, after = _tables(present.current.get(kamailio.DATABASE)), _tables(changed)
    lowered, boxes = [], []
    for number, settings in before["users"].items():
        old = SETTINGS.fullmatch(settings)
        new = SETTINGS.fullmatch(after["users"].get(number, ""))
        if old and new and int(new["contacts"]) < int(old["contacts"]):
            lowered.append(number)
        if old and new and new["voicemail"] < old["voicemail"]:
            boxes.append(number)
    services = [number for number in before["services"] if number not in after["services"]]
    if lowered:
        yield (
            f"lowers max_contacts of {named(lowered)}: phones above it stay until they register "
            "again, which then gets 503"
        )
    if boxes:
        yield f"callers cannot leave messages for {named(boxes)} any more; existing messages stay"
    if services and changed is not None:
        yield f"{', '.join(services[:MOST_NAMED])}: no service answers there any more"
    is_new = certificates.PATH in plan.to_generate and any(
        file.path == certificates.PATH and file.recipe == "certificate"
        for file in plan.desired.made
    )
    if is_new and any(c.path == certificates.PATH and c.kind == "update" for c in plan.changes):
        yield "a new self-signed certificate: browsers must accept it before they connect again"


def new_port(plan: Plan, present: Present) -> str:
    """The port for phones, if the plan changes it; otherwise empty."""
    contents = (present.current.get(kamailio.CONFIGURATION), _new(plan, kamailio.CONFIGURATION))
    ports = [LISTEN.findall((content or b"").decode("utf-8", "replace")) for content in contents]
    return str(ports[1][0]) if all(ports) and ports[0] != ports[1] else ""


def credential_sums(content: bytes | None) -> Mapping[str, tuple[str, str]] | None:
    """Number -> domain and checksum of its credential; None without the file."""
    if content is None:
        return None
    rows = SUM.findall(content.decode("ascii", "replace"))
    return {number: (domain, digest) for number, domain, digest in rows}


def _tables(content: bytes | None) -> Mapping[str, Mapping[str, str]]:
    """The tables of users and services: number -> value."""
    found: dict[str, dict[str, str]] = {"users": {}, "services": {}}
    for row in tables.rows(content) if content and tables.is_database(content) else ():
        table, number, value = (*row.split(" ", 2), "", "")[:3]
        if table in found and NUMBER.fullmatch(number):
            found[table][number] = value
    return found


def _new(plan: Plan, path: str) -> bytes | None:
    """The content that the plan gives a file; None if it does not change the file."""
    if not any(change.path == path for change in plan.changes):
        return None
    return next((file.content for file in plan.desired.files if file.path == path), None)


def named(numbers: Collection[str], total: int = 0) -> str:
    """`2 users (1001, 1002)`; `all 5000 users (...)` if these are all of `total`."""
    shown = ", ".join(islice(numbers, MOST_NAMED))
    more = f" and {len(numbers) - MOST_NAMED} more" if len(numbers) > MOST_NAMED else ""
    every = "all " if 1 < len(numbers) == total else ""
    return f"{every}{len(numbers)} user{'' if len(numbers) == 1 else 's'} ({shown}{more})"
