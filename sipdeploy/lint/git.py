"""Asks git whether it tracks or ignores a file, without running what a repository configures.

The settings of a repository can run programs, and a stranger's directory can be a repository.
Therefore git runs on an empty temporary repository. It sees only data of the real one: the index
and the ignore patterns.
"""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sipdeploy.inventory import reading

_SECONDS = 10
# A second barrier: the temporary repository sets none of these.
_SETTINGS = (
    *("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"),
    *("-c", "safe.bareRepository=explicit", "-c", "protocol.allow=never"),
)
_SHA256 = re.compile(rb"(?im)^\s*objectformat\s*=\s*\"?sha256\b")
_LINK = re.compile(rb"gitdir: ([^\0\n]+)\n*")


@dataclass(frozen=True, slots=True, kw_only=True)
class GitState:
    """Whether git tracks a file, and whether the next `git add` would add it."""

    is_tracked: bool = False
    is_unignored: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repository:
    """The data files of a repository; `top` is the directory of its working tree."""

    top: Path
    index: Path
    common: Path


def state_of(folder: Path, name: Path) -> GitState:
    """The state of the file `name`, relative to `folder`, in the repository around `folder`."""
    folder = Path(os.path.realpath(folder))
    # Ignore relative directories in PATH: they can belong to a stranger.
    folders = [each for each in os.environ.get("PATH", os.defpath).split(":") if each[:1] == "/"]
    program = shutil.which("git", path=":".join(folders))
    repository = _repository(folder)
    path = Path(os.path.normpath(folder / name))
    if repository is None or program is None or not _contains(repository, path):
        return GitState()
    place = str(path.relative_to(repository.top))
    try:
        with tempfile.TemporaryDirectory(prefix="sipdeploy-git-") as own:
            return _asked(program, repository, Path(own), place)
    except (OSError, subprocess.TimeoutExpired):
        return GitState()


def _contains(repository: _Repository, path: Path) -> bool:
    return reading.is_below(str(repository.top), str(path))


def _repository(folder: Path) -> _Repository | None:
    """The repository of a directory: the nearest `.git` above it. Bare ones do not count."""
    for top in (folder, *folder.parents):
        marker = top / ".git"
        if marker.is_dir():
            return _Repository(top=top, index=marker / "index", common=marker)
        if marker.is_file():  # a linked working tree, or a submodule
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


def _asked(program: str, repository: _Repository, own: Path, place: str) -> GitState:
    _create(own, _data(repository.common / "config"), _data(repository.common / "info/exclude"))

    def ask(*argv: str) -> int:
        return _run(program, repository, own, argv)

    # `./` and the option keep git from interpreting any part of the name.
    has = ("--literal-pathspecs", "ls-files", "--error-unmatch", "--", place)
    tracked = ask(*has) if repository.index.is_file() else 1
    ignores = ask("check-ignore", "-q", "--no-index", "--", f"./{place}")
    return GitState(is_tracked=tracked == 0, is_unignored=ignores == 1)


def _data(path: Path) -> bytes:
    return reading.regular(path).raw if path.is_file() else b""


def _create(own: Path, config: bytes, ignored: bytes) -> None:
    """Create an empty repository with the minimum that git requires.

    It copies a single setting of the real one: the hash function of the index.
    """
    for name in ("objects", "refs", "info"):
        (own / name).mkdir()
    is_new = _SHA256.search(config) is not None
    kind = "\trepositoryFormatVersion = 1\n[extensions]\n\tobjectFormat = sha256\n"
    (own / "HEAD").write_text("ref: refs/heads/main\n")
    (own / "config").write_text(f"[core]\n{kind if is_new else ''}")
    (own / "info/exclude").write_bytes(ignored)


def _run(program: str, repository: _Repository, own: Path, argv: tuple[str, ...]) -> int:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_")
    }
    settings = {
        "GIT_DIR": str(own),
        "GIT_WORK_TREE": str(repository.top),
        "GIT_INDEX_FILE": str(repository.index),
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }
    return subprocess.run(  # noqa: S603 - an absolute path, and our own arguments
        [program, *_SETTINGS, *argv],
        cwd=repository.top,
        env=environment | settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=_SECONDS,
    ).returncode
