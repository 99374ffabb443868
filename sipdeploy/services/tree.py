"""Renders the files of hosts to a local directory.

Removes only files that an earlier run wrote into the same directory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from sipdeploy import services
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import InvalidFiles, WrongUsage
from sipdeploy.inventory import reading
from sipdeploy.inventory.files import check_writable, replace_file, unwritable
from sipdeploy.services.phone import page

if TYPE_CHECKING:
    from sipdeploy.inventory.own.files import Attachments
    from sipdeploy.inventory.site import Site
    from sipdeploy.services.render import FileSet, ManagedFile

MARKER = ".sipdeploy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A written file: its host, its path there, the local file, and its attributes on the host."""

    host: str
    path: str
    file: str
    mode: str
    owner: str
    service: str
    sensitive: bool
    bytes: int
    sha256: str


def as_json(written: Sequence[Written]) -> str:
    """The written files as a JSON list."""
    return json.dumps([asdict(each) for each in written], indent=2)


def render_hosts(
    site: Site,
    hosts: Sequence[str],
    *,
    credentials: Mapping[str, str],
    attachments: Attachments | None = None,
) -> dict[str, FileSet]:
    """Render the files of the named hosts for the versions in the inventory: host -> files.

    InvalidFiles (SD720) if the site serves the web phone, and this installation has none.
    """
    page.require(site)
    return {
        host: services.file_set(
            site.of(host),
            host,
            versions=site.of(host).versions,
            credentials=credentials,
            attachments=attachments,
        )
        for host in hosts
    }


def write(files: FileSet, host: str, directory: Path) -> list[Written]:
    """Write the files of a host below `directory`/HOST, each one atomically.

    Removes files of an earlier run that are no longer rendered. Raises WrongUsage (SD420) if the
    directory has other content or is a link, and InvalidFiles (SD420) if a write fails.
    """
    root = directory / host
    for folder in (directory, root):
        if folder.is_symlink():
            message = f"`{folder}` is a link"
            raise WrongUsage([_problem(message, "name a directory that is not a link: `-o DIR`")])
    try:
        earlier = _claim(root)
        wanted = {file.path.lstrip("/") for file in files.files}
        _mark(root, earlier | wanted)
        written = [_write(file, host, root) for file in files.files]
        _remove(root, earlier - wanted)
        _mark(root, wanted)
    except OSError as failure:
        raise InvalidFiles([unwritable(failure, "SD420")]) from failure
    return written


def check(directory: Path) -> None:
    """Raise InvalidFiles (SD420) if `write` could not create files in the directory."""
    nearest = next(each for each in (directory, *directory.parents) if each.exists())
    try:
        check_writable(nearest / MARKER)
    except OSError as failure:
        raise InvalidFiles([unwritable(failure, "SD420")]) from failure


def _problem(message: str, advice: str = "") -> Diagnostic:
    return Diagnostic("SD420", message, help=advice)


def _claim(root: Path) -> set[str]:
    """Create the directory, or reuse it; return the paths that an earlier run wrote there."""
    root.mkdir(parents=True, exist_ok=True)
    marker = root / MARKER
    if marker.is_file() and not marker.is_symlink():
        lines = reading.regular(marker, is_linked=False).raw.decode("utf-8", "replace").split("\n")
        return {line for line in lines if line and not line.startswith("#")}
    if any(root.iterdir()):
        message = f"`{root}` is not empty, and sipdeploy did not create it"
        raise WrongUsage([_problem(message, "name another directory with `-o DIR`")])
    # An HA1 is as good as the password for SIP, so git must ignore the tree.
    (root / ".gitignore").write_text("*\n", "utf-8")
    return set()


def _mark(root: Path, paths: set[str]) -> None:
    head = "# made by `sipdeploy render`; it replaces and removes these files:\n"
    content = head + "".join(f"{path}\n" for path in sorted(paths))
    replace_file(root / MARKER, content.encode(), 0o644)


def _write(file: ManagedFile, host: str, root: Path) -> Written:
    target = root / file.path.lstrip("/")
    _inside(target, root)
    target.parent.mkdir(parents=True, exist_ok=True)
    replace_file(target, file.content, file.mode)
    return Written(
        host=host,
        path=file.path,
        file=str(target),
        mode=f"{file.mode:04o}",
        owner=file.owner,
        service=file.service,
        sensitive=file.sensitive,
        bytes=len(file.content),
        sha256=hashlib.sha256(file.content).hexdigest(),
    )


def _inside(target: Path, root: Path) -> None:
    """Raise WrongUsage for a link that leads out of the directory."""
    if not target.parent.resolve().is_relative_to(root.resolve()):
        message = f"`{target.parent}` is a link to a place outside `{root}`"
        raise WrongUsage([_problem(message, f"remove the link: `rm {target.parent}`")])


def _remove(root: Path, paths: set[str]) -> None:
    """Remove files of an earlier run, and directories that are empty afterwards."""
    for path in sorted(paths):
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts:
            continue
        target = root / pure
        if not target.parent.resolve().is_relative_to(root.resolve()):
            continue
        target.unlink(missing_ok=True)
        for parent in (root / above for above in pure.parents if above != PurePosixPath()):
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
