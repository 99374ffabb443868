"""What separates a host from its site, as data: files, packages, services. Touches no host.

`plan` shows it and `apply` carries it out, so that both always speak of the same.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from sipdeploy import certificates
from sipdeploy.facts import Facts, Unit
from sipdeploy.plan.desired import Desired, MadeFile
from sipdeploy.render import ManagedFile

Kind = Literal["create", "update", "mode", "delete", "directory"]
Effect = Literal["none", "reload", "restart"]
Action = Literal["none", "reload", "restart", "start"]
UNIT_FILES = "/etc/systemd/system/"
MARKS: Mapping[Kind, str] = {
    "create": "+",
    "update": "~",
    "mode": "~",
    "delete": "-",
    "directory": "+",
}
NO_UNIT = Unit(
    active="inactive",
    is_enabled=False,
    needs_daemon_reload=False,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One path that is to change, and what it costs its service to take the change in."""

    kind: Kind
    path: str
    mode: int
    owner: str
    service: str
    effect: Effect
    reload: tuple[str, ...] | None = None
    sensitive: bool = False

    def __str__(self) -> str:
        """`~ /etc/... (restart kamailio)`."""
        cost = f" ({self.effect} {self.service})" if self.effect != "none" else ""
        what = " (mode and owner)" if self.kind == "mode" else ""
        return f"{MARKS[self.kind]} {self.path}{what}{cost}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitChange:
    """What happens to a unit, and how it was before, which an undo brings back."""

    unit: str
    action: Action
    was_active: bool
    was_enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that an apply would do to one host; equal input gives an equal plan."""

    desired: Desired
    packages: Mapping[str, str]
    changes: tuple[Change, ...]
    to_make: frozenset[str]
    units: tuple[UnitChange, ...]
    reloads: tuple[tuple[str, ...], ...]
    needs_daemon_reload: bool

    @property
    def is_empty(self) -> bool:
        """Whether the host is already what it should be."""
        touched = any(unit.action != "none" or not unit.was_enabled for unit in self.units)
        return not (self.packages or self.changes or touched or self.needs_daemon_reload)

    def lines(self) -> tuple[str, ...]:
        """The plan for people, one line for each thing."""
        packages = (f"+ package {name} {version}" for name, version in self.packages.items())
        changes = (str(change) for change in self.changes)
        units = (f"! {unit.action} {unit.unit}" for unit in self.units if unit.action != "none")
        return (*packages, *changes, *units)


def make_plan(desired: Desired, facts: Facts, now: float) -> Plan:
    """Desired minus facts; `now` (seconds since 1970) decides whether a certificate is too old."""
    to_make = _to_make(desired, facts, now)
    changes = tuple(_changes(desired, facts, to_make))
    actions = {
        service: _action(service, facts.units.get(unit, NO_UNIT), changes)
        for service, unit in desired.units.items()
    }
    reloads = (
        change.reload
        for change in changes
        if change.reload and change.effect == "reload" and actions[change.service] == "reload"
    )
    missing = (name for name in desired.packages if name not in facts.installed)
    return Plan(
        desired=desired,
        packages={name: facts.candidates.get(name, "") for name in missing},
        changes=changes,
        to_make=to_make,
        units=tuple(_units(desired, facts, actions)),
        reloads=tuple(dict.fromkeys(reloads)),
        needs_daemon_reload=_needs_daemon_reload(desired, facts, changes),
    )


def _to_make(desired: Desired, facts: Facts, now: float) -> frozenset[str]:
    """What the host must make: what is missing, and a certificate that will not do any more."""
    found = facts.certificate
    left = certificates.RENEW_BEFORE.total_seconds()
    is_good = (
        found is not None
        and found.key_matches
        and found.covers(desired.domain)
        and found.not_after.timestamp() - now > left
    )
    missing = {made.path for made in desired.made if made.path not in facts.files}
    pair = {made.path for made in desired.made if made.recipe != "dialog-key"}
    return frozenset(missing if is_good else missing | pair)


def _changes(desired: Desired, facts: Facts, to_make: frozenset[str]) -> Iterator[Change]:
    for directory in desired.directories:
        fact = facts.directories.get(directory.path)
        if fact is None or (fact.mode, fact.owner) != (directory.mode, directory.owner):
            yield Change(
                kind="directory",
                path=directory.path,
                mode=directory.mode,
                owner=directory.owner,
                service="",
                effect="none",
            )
    for file in desired.files:
        digest = hashlib.sha256(file.content).hexdigest()
        kind = _kind(file, facts, is_same=digest == _digest(facts, file.path))
        if kind:
            yield _change(kind, file, sensitive=file.sensitive)
    for made in desired.made:
        kind = _kind(made, facts, is_same=made.path not in to_make)
        if kind:
            yield _change(kind, made, sensitive=True)
    yield from _deletions(desired, facts)


def _digest(facts: Facts, path: str) -> str:
    return facts.files[path].digest if path in facts.files else ""


def _kind(file: ManagedFile | MadeFile, facts: Facts, *, is_same: bool) -> Kind | None:
    fact = facts.files.get(file.path)
    if fact is None:
        return "create"
    if not is_same:
        return "update"
    return None if (fact.mode, fact.owner) == (file.mode, file.owner) else "mode"


def _change(kind: Kind, file: ManagedFile | MadeFile, *, sensitive: bool) -> Change:
    effect: Effect = "none"
    if kind != "mode":
        effect = "restart" if file.reload is None else "reload"
    return Change(
        kind=kind,
        path=file.path,
        mode=file.mode,
        owner=file.owner,
        service=file.service,
        effect=effect,
        reload=file.reload,
        sensitive=sensitive,
    )


def _deletions(desired: Desired, facts: Facts) -> Iterator[Change]:
    """Files of an earlier apply that the site has no more."""
    wanted = {file.path for file in desired.files} | {made.path for made in desired.made}
    for path in sorted(facts.managed.keys() & facts.files.keys() - wanted):
        yield Change(
            kind="delete",
            path=path,
            mode=facts.files[path].mode,
            owner=facts.files[path].owner,
            service=facts.managed[path],
            effect="restart",
        )


def _action(service: str, unit: Unit, changes: tuple[Change, ...]) -> Action:
    """The least that makes the changes of a service live."""
    if not unit.is_active:
        return "start"
    effects = {change.effect for change in changes if change.service == service}
    if "restart" in effects:
        return "restart"
    return "reload" if "reload" in effects else "none"


def _units(desired: Desired, facts: Facts, actions: Mapping[str, Action]) -> Iterator[UnitChange]:
    for service, name in desired.units.items():
        unit = facts.units.get(name, NO_UNIT)
        yield UnitChange(
            unit=name,
            action=actions[service],
            was_active=unit.is_active,
            was_enabled=unit.is_enabled,
        )


def _needs_daemon_reload(desired: Desired, facts: Facts, changes: tuple[Change, ...]) -> bool:
    units = (facts.units.get(name, NO_UNIT) for name in desired.units.values())
    return any(unit.needs_daemon_reload for unit in units) or any(
        change.path.startswith(UNIT_FILES) and change.kind != "directory" for change in changes
    )
