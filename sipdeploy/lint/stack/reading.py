"""Finds and reads the configuration of Kamailio and Asterisk below the paths that a user names.

The files may come from a stranger: it follows no link out of a path, opens no device or FIFO, and
its work has a limit. Whatever it cannot read is a problem with a position.
"""

from __future__ import annotations

import fnmatch
import os
import posixpath
import re
import shlex
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sipdeploy.diagnostics import Diagnostic, Span
from sipdeploy.inventory import reading
from sipdeploy.lint.stack.files import StackFile

MOST_FILES = 2000
MOST_ENTRIES = 100_000  # of all directories, such as those of a whole /etc
MOST_BYTES = 32 << 20  # of all files
MOST_OF_A_FILE = {"kamailio": 2 << 20, "asterisk": reading.MOST}  # 100,000 users are in one file
DEEPEST = 16
_NAMES: dict[str, tuple[str, ...]] = {
    "kamailio": ("kamailio.cfg", "kamailio-*.cfg", "tls.cfg"),
    "asterisk": (
        *("pjsip*.conf", "extensions*.conf", "rtp.conf"),
        *("voicemail*.conf", "http.conf", "manager.conf"),
    ),
}
# A directory with one of these belongs to the daemon; `http.conf` alone can be another program's.
_CERTAIN = {
    "kamailio": ("kamailio.cfg", "kamailio-*.cfg"),
    "asterisk": ("pjsip*.conf", "extensions*.conf"),
}
_INCLUDE = {
    "kamailio": re.compile(
        r"^[ \t]*(?:#!|!!)?(?:include|import)_file[ \t]+[\"']([^\"'\n]{1,1000})", re.MULTILINE
    ),
    "asterisk": re.compile(
        r"^[ \t]*#(?:try)?include[ \t]+[<\"]?([^<>\"\n;]{1,1000})", re.MULTILINE
    ),
}
_CONTROL = bytes([*range(9), *range(14, 32)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The files of one host, by the place where their daemon expects them."""

    files: dict[str, StackFile] = field(default_factory=dict)

    def of(self, daemon: str) -> dict[str, StackFile]:
        """The files of one daemon, `kamailio` or `asterisk`."""
        return {k: v for k, v in self.files.items() if k.startswith(f"/etc/{daemon}/")}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    """Where a file came from: the path of the user, which nothing leaves, and its directory.

    `base` stands for `/etc/DAEMON`.
    """

    daemon: str
    root: Path
    base: Path

    @property
    def host(self) -> str:
        """The directory above `etc`, or the one above `kamailio` and `asterisk`."""
        folder = Path(os.path.realpath(self.base))
        folder = folder.parent if folder.name == self.daemon else folder
        return str(folder.parent if folder.name == "etc" else folder)


def is_stack(path: Path) -> bool:
    """Whether a path is a directory, or a file with a name of Kamailio's or Asterisk's."""
    return path.is_dir() or bool(_daemon_of(path.name))


def _daemon_of(name: str) -> str:
    """The daemon that has a file of this name; empty if none."""
    return next((daemon for daemon, names in _NAMES.items() if _matching([name], names)), "")


def _matching(names: Iterable[str], patterns: tuple[str, ...]) -> list[str]:
    return [n for n in names if any(fnmatch.fnmatchcase(n, pattern) for pattern in patterns)]


def read_trees(paths: Iterable[Path]) -> tuple[list[Tree], list[Diagnostic]]:
    """Read the files below the paths, a tree for each host, and say what could not be read."""
    reader = _Reader()
    paths = list(paths)
    for path in paths:
        reader.take(path)
    reader.follow_includes()
    trees = [tree for tree in reader.trees.values() if tree.files]
    if not trees and not reader.problems:
        names = ", ".join(f"`{path}`" for path in paths)
        message = f"there is no configuration of Kamailio or Asterisk in {names}"
        advice = "name a file such as `kamailio.cfg`, or a directory such as `/etc`"
        reader.problems.append(Diagnostic("SD890", message, help=advice))
    return trees, reader.problems


@dataclass(slots=True)
class _Reader:
    """The work of one run, and its limits."""

    trees: dict[str, Tree] = field(default_factory=dict)
    problems: list[Diagnostic] = field(default_factory=list)
    origins: dict[str, _Origin] = field(default_factory=dict)  # by the path of the file
    size: int = 0
    entries: int = 0

    def take(self, path: Path) -> None:
        """Read a file, or the files of a directory."""
        try:
            is_folder = stat.S_ISDIR(path.stat().st_mode)
        except (OSError, ValueError) as failure:
            self.problems.append(_unreadable(path, failure))
            return
        if is_folder:
            for origin, file in self.found(path):
                self.read(origin, file, _place(origin, file))
            return
        daemon = _daemon_of(path.name) or ("kamailio" if path.suffix == ".cfg" else "asterisk")
        origin = _Origin(daemon=daemon, root=path.parent, base=path.parent)
        self.read(origin, path, _place(origin, path))

    def found(self, root: Path) -> Iterator[tuple[_Origin, Path]]:
        """Each file below `root` that a daemon reads, by its name and directory."""
        waiting: list[tuple[Path, int, frozenset[str]]] = [(root, 0, frozenset())]
        while waiting:
            folder, depth, taken = waiting.pop()
            files, inner = self.listed(folder)
            for daemon, names in _NAMES.items():
                is_own = _matching(files, _CERTAIN[daemon]) or folder.name == daemon
                if is_own and daemon not in taken:  # below its directory, only what it includes
                    taken |= {daemon}
                    origin = _Origin(daemon=daemon, root=root, base=folder)
                    yield from ((origin, folder / name) for name in _matching(files, names))
            if depth < DEEPEST:
                waiting += ((folder / name, depth + 1, taken) for name in reversed(inner))

    def listed(self, folder: Path) -> tuple[list[str], list[str]]:
        """The names of the files, and of the directories that are no links, in a directory."""
        files: list[str] = []
        inner: list[str] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if self.entries >= MOST_ENTRIES:
                        self.stop(f"there are more than {MOST_ENTRIES:,} files", folder)
                        break
                    self.entries += 1
                    (inner if entry.is_dir(follow_symlinks=False) else files).append(entry.name)
        except OSError as failure:
            self.problems.append(_unreadable(folder, failure))
        return sorted(files), sorted(inner)

    def read(self, origin: _Origin, path: Path, place: str) -> bool:
        """Read one file; a problem if that is not possible. Whether it was new."""
        if str(path) in self.origins:
            return False
        if len(self.origins) >= MOST_FILES or self.size >= MOST_BYTES:
            self.stop(f"there are more than {MOST_FILES} files or {MOST_BYTES >> 20} MiB", path)
            return False
        self.origins[str(path)] = origin
        try:
            name = path.relative_to(origin.root)
            raw = reading.below(origin.root, name, MOST_OF_A_FILE[origin.daemon]).raw
        except (OSError, ValueError) as failure:
            self.problems.append(_unreadable(path, failure))
            return False
        self.size += len(raw)
        text, problems = _decoded(raw, str(path))
        self.problems += problems
        if text is None:
            return False
        files = self.trees.setdefault(origin.host, Tree()).files
        files.setdefault(place, StackFile(path=str(path), place=place, text=text))
        return True

    def stop(self, limit: str, path: Path) -> None:
        """Report once that a limit was reached."""
        if all(each.code != "SD891" for each in self.problems):
            message = f"{limit}; lint read nothing from `{path}` on"
            advice = "name the directories of Kamailio and Asterisk, or single files"
            self.problems.append(Diagnostic("SD891", message, help=advice))

    def follow_includes(self) -> None:
        """Read the files that others include, if they are below the path that the user named."""
        waiting = [file for tree in self.trees.values() for file in tree.files.values()]
        while waiting:
            file = waiting.pop()
            origin = self.origins[file.path]
            for path, place in _included(file, origin):
                if self.read(origin, path, place):
                    waiting.append(self.trees[origin.host].files[place])


def _included(file: StackFile, origin: _Origin) -> Iterator[tuple[Path, str]]:
    """The existing files that a file includes, with their places."""
    home = f"/etc/{origin.daemon}"
    # Kamailio starts at the directory of the file, Asterisk at its own
    start = posixpath.dirname(file.place) if origin.daemon == "kamailio" else home
    for match in _INCLUDE[origin.daemon].finditer(file.text):
        whole = posixpath.normpath(posixpath.join(start, match[1].strip()))
        if "\0" in whole or not whole.startswith(f"{home}/"):
            continue
        folder, name = posixpath.split(whole)
        local = origin.base / folder[len(home) :].lstrip("/")
        for each in _expanded(local, name):
            if (local / each).exists():
                yield local / each, f"{folder}/{each}"


def _expanded(folder: Path, name: str) -> list[str]:
    """The names in a directory that a pattern of `#include` means."""
    if not any(sign in name for sign in "*?["):
        return [name]
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []
    return _matching(names, (name,))[:MOST_FILES]


def _place(origin: _Origin, path: Path) -> str:
    return f"/etc/{origin.daemon}/{path.relative_to(origin.base)}"


def _unreadable(path: Path, failure: OSError | ValueError) -> Diagnostic:
    span = Span(path=str(path), line=1, column=1)
    if isinstance(failure, reading.OutsideError):
        message = f"`{path}` leads out of the directory, which lint does not follow"
        advice = "name the file that it leads to, or its directory"
        return Diagnostic("SD892", message, span=span, help=advice)
    if not isinstance(failure, OSError):
        return Diagnostic("SD892", f"`{path}` is no path", span=span, help="name a file")
    absent = f"`ls {shlex.quote(str(path.parent))}` shows which files are there"
    problem = reading.unreadable(path, failure, absent=absent)
    return Diagnostic("SD892", problem.message, span=span, help=problem.help)


def _decoded(raw: bytes, path: str) -> tuple[str | None, list[Diagnostic]]:
    """Decode a file; a problem with a position if it is not text."""
    text, problems = reading.decode(raw, path)
    if text is None:
        advice = "convert it: `iconv -f LATIN1 -t UTF-8 FILE`; lint reads only UTF-8"
        found = [Diagnostic("SD893", p.message, span=p.span, help=advice) for p in problems]
        return None, found
    if len(raw.translate(None, _CONTROL)) != len(raw):  # much faster than a search for them
        at = min(place for place in map(raw.find, (bytes([c]) for c in _CONTROL)) if place >= 0)
        before = raw[:at].decode("utf-8-sig")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        message = f"the file is not text: it contains the character U+{raw[at]:04X}"
        span = Span(path=path, line=line, column=column)
        return None, [Diagnostic("SD893", message, span=span, help="name only text files")]
    return text, []
