"""The candidate as it travels to a host: one archive with files and instructions. Pure."""

import io
import tarfile
from collections.abc import Iterable, Mapping

from sipdeploy.plan import Plan

Rows = Iterable[Iterable[str]]


def archive(plan: Plan, checks: Mapping[str, tuple[str, ...]]) -> bytes:
    """A tar.gz: `tree/...` is the host's /, beside it what stage, swap and services go by.

    `checks` maps a service to the command that judges the tree. Equal input gives equal bytes.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name, rows in _instructions(plan, checks).items():
            _add(tar, name, table(rows), mode=0o600, owner="root:root")
        for file in plan.desired.files:
            _add(tar, f"tree{file.path}", file.content, mode=file.mode, owner=file.owner)
    return buffer.getvalue()


def _instructions(plan: Plan, checks: Mapping[str, tuple[str, ...]]) -> dict[str, Rows]:
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
        "checks": ((service, *argv) for service, argv in checks.items()),
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
        "managed": ((file.path, file.service) for file in desired.files),
    }
    return tables | ({"daemon-reload": ()} if plan.needs_daemon_reload else {})


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
