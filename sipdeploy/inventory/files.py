"""Local files that people own: read with what they were, locked, and replaced whole or not at all.

Knows nothing of what stands in them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sipdeploy.inventory import reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


BOM = b"\xef\xbb\xbf"
LOCK_SECONDS = 120.0
_POLL_SECONDS = 0.05
# A file system that knows no locks, as some network ones: there the comparison before each
# replacement is what is left.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.EBADF, errno.ENOTSUP, errno.EINVAL})


class ChangedError(Exception):
    """A file is not any more what was read; the text is its path."""


class BusyError(Exception):
    """Another process has held the lock all the time; the text is the folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFile:
    """A file as it was read: bytes, and None where there was none. `mode` is for a new one.

    `path` is as it was named; what is written goes to where its links lead.
    """

    path: Path
    raw: bytes | None = field(repr=False)  # may be full of passwords
    mode: int

    @property
    def place(self) -> Path:
        """The file itself, behind all links."""
        return Path(os.path.realpath(self.path))

    def encoded(self, text: str) -> bytes:
        """The bytes of a new text; a byte order mark stays."""
        mark = BOM if self.raw is not None and self.raw.startswith(BOM) else b""
        return mark + text.encode()


def read(path: Path, mode: int) -> TextFile:
    """Read a file that may be absent; OSError when it is there and cannot be read."""
    try:
        return TextFile(path=path, raw=reading.regular(path).raw, mode=mode)
    except FileNotFoundError:
        return TextFile(path=path, raw=None, mode=mode)


@contextlib.contextmanager
def locked(folder: Path, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Be the only one who changes files of that folder; BusyError after `seconds`.

    The folder itself carries the lock (flock(2)): files are replaced, and a lock would stay with
    the old one. The kernel takes it back from whoever dies.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        end = time.monotonic() + seconds
        while not _try_lock(handle):
            if time.monotonic() > end:
                raise BusyError(str(folder))
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as failure:
        if failure.errno not in _NO_LOCKS:
            raise
    return True


def replace_all(changes: Sequence[tuple[TextFile, str]]) -> None:
    """Give files new texts, all or none of them, the first one first.

    All are written beside their places and on the disk before the first is renamed. ChangedError
    when one is not any more what was read. OSError when one cannot be written: then those before
    it are as they were.
    """
    prepared: list[tuple[TextFile, Path]] = []
    done: list[TextFile] = []
    try:
        prepared.extend((file, _prepared(file, file.encoded(text))) for file, text in changes)
        _check_unchanged(file for file, _ in prepared)
        for file, temporary in prepared:
            temporary.replace(file.place)
            done.append(file)
            _sync(file.place.parent)
    except BaseException:
        for file in reversed(done):
            _put_back(file)
        raise
    finally:
        for _, temporary in prepared:
            temporary.unlink(missing_ok=True)


def _check_unchanged(kept: Iterable[TextFile]) -> None:
    for file in kept:
        if read(file.path, file.mode).raw != file.raw:
            raise ChangedError(str(file.path))


def _put_back(file: TextFile) -> None:
    if file.raw is None:
        file.place.unlink(missing_ok=True)
    else:
        _prepared(file, file.raw).replace(file.place)


def _prepared(file: TextFile, content: bytes) -> Path:
    """Write the content beside the file, with the mode and the owner that it has."""
    target = file.place
    return _beside(target, content, lambda handle: _take_after(handle, target, file.mode))


def _beside(target: Path, content: bytes, dress: Callable[[int], None]) -> Path:
    """Write and sync a file beside its place, for its owner alone until it is dressed."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            dress(stream.fileno())
            os.fsync(stream.fileno())
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def _take_after(handle: int, target: Path, mode: int) -> None:
    """Give a new file the owner and mode of the one that it replaces; of none, `mode`."""
    try:
        old = target.stat()
    except FileNotFoundError:
        os.fchmod(handle, mode)
        return
    own = os.fstat(handle)
    if (own.st_uid, own.st_gid) != (old.st_uid, old.st_gid):
        # who may not give a file away keeps it, with the same rights for the others
        with contextlib.suppress(PermissionError):
            os.fchown(handle, old.st_uid, old.st_gid)
    os.fchmod(handle, old.st_mode & 0o7777)


def _sync(folder: Path) -> None:
    """Have the rename itself on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(target: Path, content: bytes, mode: int) -> None:
    """Put a file in place, whole or not at all; nobody else can read it on the way."""
    temporary = _beside(target, content, lambda handle: os.fchmod(handle, mode))
    try:
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def expanded(path: str) -> Path:
    """Put the home directory for `~` and `~user`; a user that there is not stays as it is.

    Whoever opens the path then tells that it is not there, by the name that was written.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def own_folder(variable: str, default: str, *parts: str) -> Path:
    """A folder below a base directory of the XDG specification, `default` below the home."""
    given = os.environ.get(variable, "")
    base = Path(given) if given.startswith("/") else Path.home() / default
    return base.joinpath("sipdeploy", *parts)


def cache_folder(name: str) -> Path | None:
    """A cache that nobody but us can write to; None where there is no such."""
    try:
        folder = own_folder("XDG_CACHE_HOME", ".cache", name)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.stat()
    except (OSError, RuntimeError):  # no home, or not ours to write to
        return None
    is_ours = found.st_uid == os.geteuid() and not found.st_mode & 0o022
    return folder if is_ours else None
