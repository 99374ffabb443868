"""Reads, locks and atomically replaces local files that people edit.

Knows nothing about their contents.
"""

import contextlib
import errno
import fcntl
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from sipdeploy.diagnostics import Diagnostic, reason_of
from sipdeploy.inventory import reading

BOM = b"\xef\xbb\xbf"
LOCK_SECONDS = 120.0
_POLL_SECONDS = 0.05
# Some network file systems have no locks. There, only the comparison before each replacement
# protects against concurrent changes.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.EBADF, errno.ENOTSUP, errno.EINVAL})


class ChangedError(Exception):
    """A file has changed since it was read; the text is its path."""


class BusyError(Exception):
    """Another process held the lock until the timeout; the text is the directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFile:
    """A file as it was read: its bytes, or None if it did not exist. `mode` is for a new file.

    `path` is the path as given; writes follow its symbolic links.
    """

    path: Path
    raw: bytes | None = field(repr=False)  # can contain passwords
    mode: int

    @property
    def place(self) -> Path:
        """The path with all symbolic links resolved."""
        return Path(os.path.realpath(self.path))

    def encoded(self, text: str) -> bytes:
        """The bytes of a new text; keeps a byte order mark."""
        mark = BOM if self.raw is not None and self.raw.startswith(BOM) else b""
        return mark + text.encode()


def read(path: Path, mode: int) -> TextFile:
    """Read a file that may be absent; OSError if it exists and cannot be read."""
    try:
        return TextFile(path=path, raw=reading.regular(path).raw, mode=mode)
    except FileNotFoundError:
        return TextFile(path=path, raw=None, mode=mode)


@contextlib.contextmanager
def locked(folder: Path, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold an exclusive lock on the files of a directory; BusyError after `seconds`.

    The lock is on the directory itself (flock(2)), because a lock on a file would stay with the
    replaced file. The kernel releases it if the process dies.
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
    """Replace the texts of files in the given order, all or none of them.

    Writes and syncs all new files before it renames the first. ChangedError if a file has changed
    since it was read. OSError if a file cannot be written; then the files before it are restored.
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


def _check_unchanged(originals: Iterable[TextFile]) -> None:
    for file in originals:
        if read(file.path, file.mode).raw != file.raw:
            raise ChangedError(str(file.path))


def _put_back(file: TextFile) -> None:
    if file.raw is None:
        file.place.unlink(missing_ok=True)
    else:
        _prepared(file, file.raw).replace(file.place)


def _prepared(file: TextFile, content: bytes) -> Path:
    """Write the content to a temporary file with the mode and owner of the original."""
    target = file.place
    return _beside(target, content, lambda handle: _take_after(handle, target, file.mode))


def _beside(target: Path, content: bytes, dress: Callable[[int], None]) -> Path:
    """Write and sync a temporary file in the same directory; private until `dress` changes it.

    An OSError names the target, because nobody knows the temporary file.
    """
    name = ""
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            dress(stream.fileno())
            os.fsync(stream.fileno())
    except BaseException as failure:
        if name:
            Path(name).unlink(missing_ok=True)
        if isinstance(failure, OSError):
            failure.filename = str(target)
        raise
    return Path(name)


def _take_after(handle: int, target: Path, mode: int) -> None:
    """Copy owner and mode of the file to replace; without one, set `mode`."""
    try:
        old = target.stat()
    except FileNotFoundError:
        os.fchmod(handle, mode)
        return
    own = os.fstat(handle)
    if (own.st_uid, own.st_gid) != (old.st_uid, old.st_gid):
        # without the privilege to change the owner, keep it; the mode stays the same
        with contextlib.suppress(PermissionError):
            os.fchown(handle, old.st_uid, old.st_gid)
    os.fchmod(handle, old.st_mode & 0o7777)


def _sync(folder: Path) -> None:
    """Sync the directory, so that the rename survives a crash."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_writable(target: Path) -> None:
    """OSError if a file cannot be written; for use before long work that would be lost."""
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    _beside(target, b"", lambda _: None).unlink()


def create_file(target: Path, content: bytes, mode: int) -> None:
    """Write a new file; FileExistsError for anything that is there, also a symbolic link."""
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def unwritable(failure: OSError, code: str = "SD110") -> Diagnostic:
    """The diagnostic for a file that cannot be written: the reason, and the command that helps."""
    path = failure.filename2 or failure.filename  # of a rename: the target
    folder = shlex.quote(str(Path(path).parent))
    remedies = {errno.ENOENT: f"`mkdir -p {folder}`", errno.ENOSPC: f"`df -h {folder}` shows why"}
    advice = f"`ls -ld {folder}` shows owner and mode of the directory"
    advice = remedies.get(failure.errno or 0, advice)
    return Diagnostic(code, f"cannot write `{path}`: {reason_of(failure)}", help=advice)


def replace_file(target: Path, content: bytes, mode: int) -> None:
    """Replace a file atomically; the temporary file is private."""
    temporary = _beside(target, content, lambda handle: os.fchmod(handle, mode))
    try:
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def new_file(target: Path, mode: int) -> Iterator[BinaryIO]:
    """A stream to a file that replaces `target` when the work on it has succeeded.

    Until then the content is in a private file beside it. An OSError names the target.
    """
    temporary = _beside(target, b"", lambda _: None)
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        temporary.replace(target)
        _sync(target.parent)
    except OSError as failure:
        if failure.filename in {None, str(temporary)}:
            failure.filename = str(target)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def expanded(path: str) -> Path:
    """Expand `~` and `~user`; the path of an unknown user stays unchanged.

    The caller's attempt to open it then fails with the name as written.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def own_folder(variable: str, default: str, *parts: str) -> Path:
    """A directory below an XDG base directory; `default` is relative to the home directory."""
    configured = os.environ.get(variable, "")
    base = Path(configured) if configured.startswith("/") else Path.home() / default
    return base.joinpath("sipdeploy", *parts)


def cache_folder(name: str) -> Path | None:
    """A cache directory that only this user can write to; None if there is none."""
    try:
        folder = own_folder("XDG_CACHE_HOME", ".cache", name)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.stat()
    except (OSError, RuntimeError):  # no home directory, or no permission to write
        return None
    is_ours = status.st_uid == os.geteuid() and not status.st_mode & 0o022
    return folder if is_ours else None
