"""The plan: desired state minus facts, as data. Touches no host.

`sipdeploy plan` prints the same plan that `apply` carries out.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

from sipdeploy.facts import Facts, PathFact, Unit
from sipdeploy.plan import prerequisites
from sipdeploy.plan.desired import Desired, GeneratedFile
from sipdeploy.plan.prerequisites import Replacement
from sipdeploy.services import SERVICES, acme, certbot, certificates, extensions, firewall
from sipdeploy.services import install as repository
from sipdeploy.services.acme import Order
from sipdeploy.services.install import Build, Repository
from sipdeploy.services.render import ManagedFile
from sipdeploy.services.service import Directory

# `park` renames a renewal configuration of certbot to NAME.parked, so certbot stops renewing it.
Kind = Literal["create", "update", "mode", "delete", "directory", "park", "unpark"]
Effect = Literal["none", "reload", "restart"]
Action = Literal["none", "reload", "restart", "start", "stop"]
UNIT_FILES = "/etc/systemd/system/"
QUIET = (certbot.NAME, repository.NAME)  # deleting their files needs no restart
MARKS: Mapping[Kind, str] = {
    "create": "+",
    "update": "~",
    "mode": "~",
    "delete": "-",
    "directory": "+",
    "park": "-",
    "unpark": "+",
}
NO_UNIT = Unit(
    active="inactive",
    is_enabled=False,
    needs_daemon_reload=False,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The change of one path, and its effect on the service.

    `before` and `after` are SHA-256 in hex, empty without a file; `detail` describes a change of
    mode or owner. `is_drift`: somebody has edited the file since the last apply.
    """

    kind: Kind
    path: str
    mode: int
    owner: str
    service: str
    effect: Effect
    reload: tuple[str, ...] | None = None
    sensitive: bool = False
    before: str = ""
    after: str = ""
    detail: str = ""
    is_drift: bool = False

    def __str__(self) -> str:
        """`~ /etc/... (restart kamailio)`."""
        cost = f" ({self.effect} {self.service})" if self.effect != "none" else ""
        what = f" ({self.detail})" if self.detail else ""
        drift = " (edited on the host)" if self.is_drift else ""
        return f"{MARKS[self.kind]} {self.path}{what}{drift}{cost}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitChange:
    """The action on a unit, and its previous state, which an undo restores."""

    unit: str
    action: Action
    was_active: bool
    was_enabled: bool

    @property
    def is_settled(self) -> bool:
        """Whether the unit needs no `systemctl enable`."""
        return self.action == "stop" or self.was_enabled


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that an apply does to one host; equal input gives an equal plan."""

    desired: Desired
    packages: Mapping[str, str]
    changes: tuple[Change, ...]
    to_generate: frozenset[str]
    units: tuple[UnitChange, ...]
    reloads: tuple[tuple[str, ...], ...]
    needs_daemon_reload: bool
    drift: tuple[Change, ...] = ()
    release: int = 0
    order: Order | None = None  # carried out first; None if certbot has a suitable certificate
    build: Build | None = None  # likewise; None if the host has built it
    repository: Repository | None = None  # likewise; None if apt has it
    left: tuple[Change, ...] = ()  # edits on the host that a change of only users leaves alone
    replacements: tuple[Replacement, ...] = ()  # of packages, in the swap, with their way back

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        touched = any(unit.action != "none" or not unit.is_settled for unit in self.units)
        before = self.packages or self.order or self.build or self.repository or self.replacements
        brings = self.changes or self.desired.brings
        return not (before or brings or self.needs_daemon_reload or touched)

    @property
    def is_only_data(self) -> bool:
        """Whether it changes only users and services, and restarts nothing."""
        data = {file.path for file in self.desired.files if file.is_data}
        before = self.packages or self.order or self.build or self.repository or self.replacements
        return (
            not before
            and not self.needs_daemon_reload
            and all(change.path in data for change in self.changes)
            and all(unit.action in ("none", "reload") and unit.is_settled for unit in self.units)
        )

    def lines(self) -> tuple[str, ...]:
        """The plan as text, one line for each item."""
        added = (f"+ repository {r.url}" for r in (self.repository,) if r)
        packages = (f"+ package {name} {version}" for name, version in self.packages.items())
        replaced = (str(each) for each in self.replacements)
        built = (f"+ build asterisk {b.version} from source" for b in (self.build,) if b)
        wanted = (f"+ certificate for {o.domain} from {o.server}" for o in (self.order,) if o)
        changes = (
            *(str(change) for change in self.changes),
            *(f"+ {each}" for each in self.desired.brings),
        )
        units = (f"! {unit.action} {unit.unit}" for unit in self.units if unit.action != "none")
        enabled = (f"! enable {unit.unit}" for unit in self.units if not unit.is_settled)
        return (*added, *packages, *replaced, *built, *wanted, *changes, *units, *enabled)

    def fingerprint(self) -> str:
        """SHA-256 in hex over all changes and the state that they start from, without contents."""
        changes = (
            (c.kind, c.path, f"{c.mode:o}", c.owner, c.before, c.after, c.detail)
            for c in self.changes
        )
        units = ((u.unit, u.action, u.was_active, u.was_enabled) for u in self.units)
        data = [sorted(self.packages.items()), [*changes], [*units], [*self.reloads], self.release]
        data += [asdict(part) for part in (self.order, self.build, self.repository) if part]
        data += [asdict(each) for each in self.replacements]
        return hashlib.sha256(json.dumps(data).encode()).hexdigest()


def make_plan(desired: Desired, facts: Facts, now: float, *, overwrites: bool = False) -> Plan:
    """Desired state minus facts; `now` (seconds since 1970) decides which certificates expire.

    A user must be removable at any time. So if the plan would change only users, apart from edits
    on the host, it leaves these edits alone, unless it `overwrites` them.
    """
    order = prerequisites.order(desired, facts, now)
    to_generate = prerequisites.to_generate(desired, facts, order, now)
    changes = tuple(_changes(desired, facts, to_generate, now))
    plan = _plan(desired, facts, changes, order, to_generate)
    edits = () if overwrites else tuple(c for c in plan.drift if _is_unrelated(c, facts))
    if not edits:
        return plan
    rest = tuple(change for change in changes if change not in edits)
    smaller = replace(_plan(desired, facts, rest, order, to_generate), left=edits)
    if any(edit.path.startswith(UNIT_FILES) for edit in edits):  # systemd wants to read the edit
        smaller = replace(smaller, needs_daemon_reload=False)
    runs = {word for command in smaller.reloads for word in command}
    is_safe = smaller.is_only_data and not runs & {edit.path for edit in edits}
    return smaller if rest and is_safe else plan


def _is_unrelated(change: Change, facts: Facts) -> bool:
    """Whether a change only undoes an edit: the last apply wrote what this one would write."""
    written = facts.managed.get(change.path)
    return change.kind == "update" and written is not None and change.after == written.digest


def _plan(
    desired: Desired,
    facts: Facts,
    changes: tuple[Change, ...],
    order: Order | None,
    to_generate: frozenset[str],
) -> Plan:
    replacements = prerequisites.replacements(desired, facts)
    actions = {
        service: _action(service, facts.units.get(unit, NO_UNIT), changes)
        for service, unit in desired.units.items()
    }
    for name in {each.service for each in replacements} & actions.keys():
        actions[name] = "start" if actions[name] == "start" else "restart"
    if _is_firewall_gone(desired, facts) and actions[firewall.NAME] in ("none", "reload"):
        actions[firewall.NAME] = "restart"
    readers = _certificate_readers(desired, changes)
    actions |= {name: "reload" for name in readers if actions[name] == "none"}
    reloads = [
        change.reload
        for change in changes
        if change.reload and change.effect == "reload" and actions.get(change.service) == "reload"
    ]
    reloads += [
        ("systemctl", "reload", desired.units[name])
        for name in readers
        if actions[name] == "reload"
    ]
    return Plan(
        desired=desired,
        packages=prerequisites.packages(desired, facts),
        changes=changes,
        to_generate=to_generate,
        units=tuple(_units(desired, facts, actions)),
        reloads=tuple(dict.fromkeys(reloads)),
        needs_daemon_reload=_needs_daemon_reload(desired, facts, changes),
        drift=tuple(change for change in changes if change.is_drift),
        release=facts.release,
        order=order,
        build=prerequisites.build(desired, facts),
        repository=prerequisites.repository(desired, facts, [change.path for change in changes]),
        replacements=replacements,
    )


def _certificate_readers(desired: Desired, changes: tuple[Change, ...]) -> list[str]:
    """The services that must read a new certificate, which belongs to another service."""
    pair = (certificates.PATH, certificates.KEY_PATH)
    is_new = any(c.path in pair and c.kind in ("create", "update") for c in changes)
    return [name for name in desired.units if is_new and SERVICES[name].reads_certificate]


def _is_firewall_gone(desired: Desired, facts: Facts) -> bool:
    """Whether sipdeploy's nftables table is missing, because somebody flushed the ruleset."""
    rules = (firewall.NFTABLES, firewall.LOOPBACK_RULES)
    has_table = any(file.path in rules for file in desired.files)
    return has_table and not facts.has_firewall_table


def _changes(
    desired: Desired, facts: Facts, to_generate: frozenset[str], now: float
) -> Iterator[Change]:
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
                detail=_detail(fact, directory) if fact else "",
            )
    for file in desired.files:
        digest = hashlib.sha256(file.content).hexdigest()
        kind = _kind(file, facts, is_same=digest == _digest(facts, file.path))
        if kind:
            yield _change(kind, file, facts, after=digest)
    for generated in desired.made:
        kind = _kind(generated, facts, is_same=generated.path not in to_generate)
        if kind:
            yield _change(kind, generated, facts)
    yield from _deletions(desired, facts)
    yield from _renewals(desired, facts, now)


def _detail(fact: PathFact, wanted: ManagedFile | GeneratedFile | Directory) -> str:
    """`0644 root:root -> 0640 root:kamailio`; empty if neither mode nor owner changes."""
    before, after = f"{fact.mode:04o} {fact.owner}", f"{wanted.mode:04o} {wanted.owner}"
    return f"{before} -> {after}" if before != after else ""


def _is_edited(facts: Facts, path: str) -> bool:
    """Whether a file exists and differs from the one that the last apply wrote."""
    written = facts.managed.get(path)
    current = _digest(facts, path)
    return bool(written and written.digest and current and current != written.digest)


def _digest(facts: Facts, path: str) -> str:
    return facts.files[path].digest if path in facts.files else ""


def _kind(file: ManagedFile | GeneratedFile, facts: Facts, *, is_same: bool) -> Kind | None:
    fact = facts.files.get(file.path)
    if fact is None:
        return "create"
    if not is_same:
        return "update"
    return None if (fact.mode, fact.owner) == (file.mode, file.owner) else "mode"


def _change(
    kind: Kind, file: ManagedFile | GeneratedFile, facts: Facts, *, after: str = ""
) -> Change:
    effect: Effect = "none"
    if kind != "mode":
        effect = "restart" if file.reload is None else "reload" if file.reload else "none"
    return Change(
        kind=kind,
        path=file.path,
        mode=file.mode,
        owner=file.owner,
        service=file.service,
        effect=effect,
        reload=file.reload,
        sensitive=file.sensitive if isinstance(file, ManagedFile) else True,
        before=_digest(facts, file.path),
        after=after,
        detail=_detail(facts.files[file.path], file) if file.path in facts.files else "",
        is_drift=kind == "update" and _is_edited(facts, file.path),
    )


def _deletions(desired: Desired, facts: Facts) -> Iterator[Change]:
    """Deletions of files that an earlier apply wrote and the site no longer has."""
    wanted = {file.path for file in desired.files} | {file.path for file in desired.made}
    for path in sorted(facts.managed.keys() & facts.files.keys() - wanted):
        yield Change(
            kind="delete",
            path=path,
            mode=facts.files[path].mode,
            owner=facts.files[path].owner,
            service=facts.managed[path].service,
            effect="none" if _is_quiet(path, facts.managed[path].service) else "restart",
            before=facts.files[path].digest,
            is_drift=_is_edited(facts, path),
        )


def _is_quiet(path: str, service: str) -> bool:
    """Whether a file can be deleted without a restart."""
    return service in QUIET or extensions.is_read_when_used(path)


def _renewals(desired: Desired, facts: Facts, now: float) -> Iterator[Change]:
    """Parks renewals of sipdeploy that the site no longer uses; restores the one that it uses."""
    wanted = acme.renewal(desired.order.domain) if desired.order else ""
    rows: list[tuple[Kind, str]] = [("park", path) for path in facts.renewals if path != wanted]
    if (
        wanted
        and wanted not in facts.renewals
        and prerequisites.order(desired, facts, now) is None
    ):
        rows.append(("unpark", wanted))
    for kind, path in rows:
        yield Change(
            kind=kind,
            path=path,
            mode=0o644,
            owner="root:root",
            service=certbot.NAME,
            effect="none",
            detail="certbot " + ("stops renewing it" if kind == "park" else "renews it again"),
        )


def _action(service: str, unit: Unit, changes: tuple[Change, ...]) -> Action:
    """The least action that puts the changes of a service into use."""
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
    written = {managed.service for managed in facts.managed.values()}
    for name, known in SERVICES.items():
        unit = facts.units.get(known.unit, NO_UNIT)
        # certbot's timer stays: it may renew certificates of others
        is_left = name in written and name not in desired.units and name != certbot.NAME
        if is_left and (unit.is_active or unit.is_enabled):
            yield UnitChange(
                unit=known.unit,
                action="stop",
                was_active=unit.is_active,
                was_enabled=unit.is_enabled,
            )


def _needs_daemon_reload(desired: Desired, facts: Facts, changes: tuple[Change, ...]) -> bool:
    units = (facts.units.get(name, NO_UNIT) for name in desired.units.values())
    return any(unit.needs_daemon_reload for unit in units) or any(
        change.path.startswith(UNIT_FILES) and change.kind != "directory" for change in changes
    )
