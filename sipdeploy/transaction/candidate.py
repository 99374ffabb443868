"""The candidate as sent to a host: one archive with files and instructions. Pure."""

import contextlib
import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator, Sequence

from sipdeploy.diagnostics import count
from sipdeploy.host import script_text
from sipdeploy.plan import Plan
from sipdeploy.plan.desired import DAEMONS
from sipdeploy.plan.kept_users import configuration
from sipdeploy.plan.prerequisites import Replacement
from sipdeploy.services import certificates, nginx
from sipdeploy.services.render import ManagedFile
from sipdeploy.services.service import Check, url_host

Rows = Iterable[Iterable[str]]
NOTHING = "-"  # an empty cell; a shell ignores an empty word between two tabs


def archive(
    plan: Plan, checks: Sequence[Check], release: bytes, *, after: Sequence[Check] = ()
) -> bytes:
    """A tar.gz with the files below `tree/`, and tables and scripts for stage, swap and confirm.

    `checks` validate the tree, and those of `after` once its packages are there; `release` is its
    `release.json`. Equal input gives equal bytes.
    """
    buffer = io.BytesIO()
    with _packed(buffer) as tar:
        for name, rows in _instructions(plan, checks, after).items():
            _add(tar, name, table(rows), mode=0o600, owner="root:root")
        _add(tar, "release.json", release, mode=0o600, owner="root:root")
        for script in ("restore", *sorted({check.script for check in (*checks, *after)})):
            name = script if script == "restore" else f"scripts/{script}"
            _add(tar, name, script_text(script), mode=0o700, owner="root:root")
        _add_files(tar, plan.desired.files)
    return buffer.getvalue()


def tree(files: Iterable[ManagedFile]) -> bytes:
    """A tar.gz with only the files, below `tree/`."""
    buffer = io.BytesIO()
    with _packed(buffer) as tar:
        _add_files(tar, files)
    return buffer.getvalue()


@contextlib.contextmanager
def _packed(buffer: io.BytesIO) -> Iterator[tarfile.TarFile]:
    """A tar.gz without the time of its making."""
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        yield tar


def _add_files(tar: tarfile.TarFile, files: Iterable[ManagedFile]) -> None:
    for file in files:
        _add(tar, f"tree{file.path}", file.content, mode=file.mode, owner=file.owner)


def _generated_rows(plan: Plan) -> Rows:
    return (
        (
            file.recipe if file.path in plan.to_generate else "keep",
            *(f"{file.mode:o}", file.owner, file.path),
        )
        for file in plan.desired.made
    )


def _check_rows(checks: Sequence[Check]) -> Rows:
    return ((check.service, check.title, check.script) for check in checks)


def package_rows(replacements: Sequence[Replacement]) -> Rows:
    """The table of packages: name, version before, version after."""
    return ((each.name, each.before or NOTHING, each.after) for each in replacements)


def _instructions(plan: Plan, checks: Sequence[Check], after: Sequence[Check]) -> dict[str, Rows]:
    """The tables that the scripts read, by name; the scripts document the columns."""
    desired = plan.desired
    made = desired.made
    owners = {
        *(file.owner for file in desired.files),
        *(file.owner for file in made),
        *(directory.owner for directory in desired.directories),
    }
    tables: dict[str, Rows] = {
        "owners": ((owner,) for owner in sorted(owners)),
        "generated": _generated_rows(plan),
        "checks": _check_rows(checks),
        "checks-after": _check_rows(after),
        "packages": package_rows(plan.replacements),
        "daemons": ((name,) for name in DAEMONS if name in desired.units),
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
        "configuration": [(configuration(desired),)],
    }
    return tables | ({"daemon-reload": ()} if plan.needs_daemon_reload else {})


def titles(plan: Plan) -> dict[str, str]:
    """The titles of the parts of a swap; the progress does not show a part without one."""
    files = [change for change in plan.changes if change.kind != "directory"]
    reloads = [unit.unit for unit in plan.units if unit.action == "reload"]
    daemons = ", ".join(unit.removesuffix(".service") for unit in reloads)
    every = {
        "arm": "arm the rollback timer",
        "upgrade": f"replace {count(len(plan.replacements), 'package')}",
        "validate": "validate with the new packages",
        "swap": f"swap {count(len(files), 'file')}",
        "reload": f"reload {daemons}",
        "sessions": "end old sessions",
        "verify": "verify ports, certificate and SIP",
    }
    return every if daemons else {key: every[key] for key in every if key != "reload"}


def _probes(plan: Plan) -> Iterator[tuple[str, ...]]:
    """The checks after the swap: units, listening sockets, and SIP over the WebSocket port."""
    actions = {unit.unit: unit.action for unit in plan.units}
    desired = plan.desired
    for unit in desired.units.values():
        yield "unit", unit, actions.get(unit, "none")
    for port in desired.ports:
        yield "port", port.protocol, port.address, str(port.number), port.process
    probe = desired.probe
    for port in desired.ports if probe else ():
        if probe and port.key == "ports.wss":
            cells = (probe.domain, certificates.PATH, probe.origin or NOTHING)
            yield "wss", url_host(port), str(port.number), *cells, probe.number or "probe"
        elif probe and port.is_tls:
            kind = "https" if port.process == nginx.PROGRAM else "tls"
            yield kind, url_host(port), str(port.number), probe.domain, certificates.PATH


def table(rows: Rows) -> bytes:
    """Rows of cells as lines with tabs; ValueError for an empty cell, a tab or a line break."""
    lines = []
    for row in rows:
        cells = list(row)
        if not all(cells) or any(mark in cell for cell in cells for mark in "\t\n"):
            raise ValueError(f"a cell is empty or has a tab or a line break: {cells!r}")
        lines.append("\t".join(cells) + "\n")
    return "".join(lines).encode()


def _add(tar: tarfile.TarFile, name: str, content: bytes, *, mode: int, owner: str) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = mode
    info.uname, _, info.gname = owner.partition(":")
    tar.addfile(info, io.BytesIO(content))
