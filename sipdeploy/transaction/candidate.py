"""The candidate as it travels to a host: one archive with files and instructions. Pure."""

import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator, Sequence

from sipdeploy.host import script_text
from sipdeploy.plan import Plan
from sipdeploy.services import certificates
from sipdeploy.services.render import ManagedFile
from sipdeploy.services.service import Check, url_host

Rows = Iterable[Iterable[str]]
NOTHING = "-"  # stands for an empty word, which a shell would not see between two tabs


def archive(plan: Plan, checks: Sequence[Check], release: bytes) -> bytes:
    """A tar.gz: `tree/...` is the host's /, beside it what stage, swap and confirm go by.

    `checks` judge the tree; `release` is its `release.json`. Equal input gives equal bytes.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name, rows in _instructions(plan, checks).items():
            _add(tar, name, table(rows), mode=0o600, owner="root:root")
        _add(tar, "release.json", release, mode=0o600, owner="root:root")
        for script in ("restore", *sorted({check.script for check in checks})):
            name = script if script == "restore" else f"scripts/{script}"
            _add(tar, name, script_text(script), mode=0o700, owner="root:root")
        _add_files(tar, plan.desired.files)
    return buffer.getvalue()


def tree(files: Iterable[ManagedFile]) -> bytes:
    """A tar.gz of files alone: `tree/...` is the host's /."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        _add_files(tar, files)
    return buffer.getvalue()


def _add_files(tar: tarfile.TarFile, files: Iterable[ManagedFile]) -> None:
    for file in files:
        _add(tar, f"tree{file.path}", file.content, mode=file.mode, owner=file.owner)


def _instructions(plan: Plan, checks: Sequence[Check]) -> dict[str, Rows]:
    """The tables that the scripts read, by name; their columns are told there."""
    desired = plan.desired
    kept = {made.path: "keep" for made in desired.made if made.path not in plan.to_make}
    owners = {
        *(file.owner for file in desired.files),
        *(made.owner for made in desired.made),
        *(directory.owner for directory in desired.directories),
    }
    tables: dict[str, Rows] = {
        "owners": ((owner,) for owner in sorted(owners)),
        "generated": (
            (kept.get(made.path, made.recipe), f"{made.mode:o}", made.owner, made.path)
            for made in desired.made
        ),
        "checks": ((check.service, check.title, check.script, *check.words) for check in checks),
        "changes": (
            (change.kind, f"{change.mode:o}", change.owner, change.path) for change in plan.changes
        ),
        "units": (
            (
                unit.unit,
                "active" if unit.was_active else "inactive",
                "enabled" if unit.was_enabled else "disabled",
                unit.action,
            )
            for unit in plan.units
        ),
        "reloads": plan.reloads,
        "managed": (
            (file.path, file.service, hashlib.sha256(file.content).hexdigest())
            for file in desired.files
        ),
        "probes": _probes(plan),
        "titles": titles(plan).items(),
    }
    return tables | ({"daemon-reload": ()} if plan.needs_daemon_reload else {})


def titles(plan: Plan) -> dict[str, str]:
    """How the parts of a swap are called while they run; a part that has none says nothing."""
    files = [change for change in plan.changes if change.kind != "directory"]
    reloads = [unit.unit for unit in plan.units if unit.action == "reload"]
    named = ", ".join(unit.removesuffix(".service") for unit in reloads)
    found = {
        "arm": "arm the rollback timer",
        "swap": f"swap {len(files)} file{'' if len(files) == 1 else 's'}",
        "reload": f"reload {named}",
        "sessions": "end old sessions",
        "verify": "verify ports, certificate and SIP",
    }
    return found if named else {key: found[key] for key in found if key != "reload"}


def _probes(plan: Plan) -> Iterator[tuple[str, ...]]:
    """What must hold after the swap: units, listening sockets, and SIP over the WebSocket port."""
    actions = {unit.unit: unit.action for unit in plan.units}
    desired = plan.desired
    for unit in desired.units.values():
        yield "unit", unit, actions.get(unit, "none")
    for port in desired.ports:
        yield "port", port.protocol, port.address, str(port.number), port.process
    probe = desired.probe
    for port in desired.ports if probe else ():
        if probe and port.protocol == "tcp":
            words = (probe.domain, certificates.PATH, probe.origin or NOTHING)
            yield "wss", url_host(port), str(port.number), *words, probe.number or "probe"


def table(rows: Rows) -> bytes:
    """Rows of words as lines with tabs; ValueError for a word that would not come back whole."""
    lines = []
    for row in rows:
        words = list(row)
        if not all(words) or any(mark in word for word in words for mark in "\t\n"):
            raise ValueError(f"a word is empty or has a tab or a line break: {words!r}")
        lines.append("\t".join(words) + "\n")
    return "".join(lines).encode()


def _add(tar: tarfile.TarFile, name: str, content: bytes, *, mode: int, owner: str) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = mode
    info.uname, _, info.gname = owner.partition(":")
    tar.addfile(info, io.BytesIO(content))
