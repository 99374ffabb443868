"""Asks git whether it has a file, or would take it, and runs nothing that a repository names.

The settings of a repository can run programs, and a folder from a stranger can be a repository. So
git gets a repository of our own, which is empty: of the one that the file is in, it sees the index
and the list of what to ignore, which are data.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sipdeploy.inventory import reading

_SECONDS = 10
# Against whatever else git would do: none of these is set in the repository that it gets.
_SETTINGS = (
    *("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"),
    *("-c", "safe.bareRepository=explicit", "-c", "protocol.allow=never"),
)
_SHA256 = re.compile(rb"(?im)^\s*objectformat\s*=\s*\"?sha256\b")
_LINK = re.compile(rb"gitdir: ([^\0\n]+)\n*")


@dataclass(frozen=True, slots=True, kw_only=True)
class GitState:
    """What git does with a file: has it, or would take it with the next `git add`."""

    is_tracked: bool = False
    is_unignored: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repository:
    """Where the data of a repository are; `top` is the folder of its files."""

    top: Path
    index: Path
    common: Path


def state_of(folder: Path, name: Path) -> GitState:
    """Ask about a file `name`, relative to `folder`, in the repository that `folder` is in."""
    folder = Path(os.path.realpath(folder))
    # From no folder that PATH names in relation to where we are: that may be a stranger's.
    folders = [each for each in os.environ.get("PATH", os.defpath).split(":") if each[:1] == "/"]
    program = shutil.which("git", path=":".join(folders))
    found = _repository(folder)
    path = Path(os.path.normpath(folder / name))
    if found is None or program is None or not reading.is_below(str(found.top), str(path)):
        return GitState()
    place = str(path.relative_to(found.top))
    try:
        with tempfile.TemporaryDirectory(prefix="sipdeploy-git-") as own:
            return _asked(program, found, Path(own), place)
    except (OSError, subprocess.TimeoutExpired):
        return GitState()


def _repository(folder: Path) -> _Repository | None:
    """The repository of a folder: the nearest `.git` above it. A bare one is none."""
    for top in (folder, *folder.parents):
        marker = top / ".git"
        if marker.is_dir():
            return _Repository(top=top, index=marker / "index", common=marker)
        if marker.is_file():  # of a further working tree, or a submodule
            return _linked(top, marker)
    return None


def _linked(top: Path, marker: Path) -> _Repository | None:
    try:
        link = _LINK.fullmatch(reading.regular(marker, 4096).raw)
        if link is None:
            return None
        own = top / os.fsdecode(link[1])
        common = own
        if (own / "commondir").is_file():
            common = own / os.fsdecode(reading.regular(own / "commondir", 4096).raw.strip())
    except OSError:
        return None
    return _Repository(top=top, index=own / "index", common=common)


def _asked(program: str, found: _Repository, own: Path, place: str) -> GitState:
    _make(own, _data(found.common / "config"), _data(found.common / "info/exclude"))

    def ask(*words: str) -> int:
        return _run(program, found, own, words)

    # `./` and the option: no part of the name means anything to git.
    has = ("--literal-pathspecs", "ls-files", "--error-unmatch", "--", place)
    tracked = ask(*has) if found.index.is_file() else 1
    ignores = ask("check-ignore", "-q", "--no-index", "--", f"./{place}")
    return GitState(is_tracked=tracked == 0, is_unignored=ignores == 1)


def _data(path: Path) -> bytes:
    return reading.regular(path).raw if path.is_file() else b""


def _make(own: Path, config: bytes, ignored: bytes) -> None:
    """Make an empty repository: what git asks of one, and no more.

    Of the settings of the real one it has a single word: how the hashes in the index are made.
    """
    for name in ("objects", "refs", "info"):
        (own / name).mkdir()
    is_new = _SHA256.search(config) is not None
    kind = "\trepositoryFormatVersion = 1\n[extensions]\n\tobjectFormat = sha256\n"
    (own / "HEAD").write_text("ref: refs/heads/main\n")
    (own / "config").write_text(f"[core]\n{kind if is_new else ''}")
    (own / "info/exclude").write_bytes(ignored)


def _run(program: str, found: _Repository, own: Path, words: tuple[str, ...]) -> int:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    settings = {
        "GIT_DIR": str(own),
        "GIT_WORK_TREE": str(found.top),
        "GIT_INDEX_FILE": str(found.index),
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }
    return subprocess.run(  # noqa: S603 - the program was found by us, and the words are ours
        [program, *_SETTINGS, *words],
        cwd=found.top,
        env=kept | settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=_SECONDS,
    ).returncode
