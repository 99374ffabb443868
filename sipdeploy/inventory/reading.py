"""Reads files named by people: regular files of limited size, so that every read ends.

An inventory can come from a stranger. Then sipdeploy reads only files below its directory, and
follows no link out of it. An exception never contains the content of a file.
"""

import errno
import os
import re
import shlex
import stat
from pathlib import Path
from typing import NamedTuple

from sipdeploy.diagnostics import Diagnostic, Span, reason_of

BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")  # the line breaks of libyaml
MOST = 16 << 20  # for an inventory or a secrets file; 100,000 users take 8 MiB
MOST_OF_A_KEY = 1 << 20  # for a certificate or a key
MOST_OF_A_SECRET = 4096  # for a password or a PIN: an inventory can name a file for each user
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW


class OutsideError(OSError):
    """The file is outside the permitted directory."""


class Regular(NamedTuple):
    """The content and mode of a file."""

    raw: bytes
    mode: int


def regular(path: Path, most: int = MOST, *, is_linked: bool = True) -> Regular:
    """Read a regular file; OSError if it is not one, or is larger than `most` bytes.

    Without `is_linked` the path itself must not be a symbolic link.
    """
    return _read(os.fspath(path), os.fspath(path), most, is_linked=is_linked)


def named(path: Path, most: int = MOST) -> bytes:
    """Read a file from the user's own command line, which can be a pipe."""
    with path.open("rb") as stream:
        raw = stream.read(most + 1)
    if len(raw) > most:
        raise _too_large(str(path), most)
    return raw


def below(folder: Path, name: Path, most: int = MOST) -> Regular:
    """Read a regular file below a directory; OutsideError if it, or its link target, is outside.

    A directory that is replaced by a link during the read is not followed.
    """
    root = os.path.realpath(folder)
    place = os.path.realpath(os.path.join(root, name))  # noqa: PTH118 - as realpath takes it
    if not is_below(root, place):
        raise OutsideError(errno.EACCES, "it is outside the inventory's directory", str(name))
    *parents, last = Path(os.path.relpath(place, root)).parts
    handle = os.open(root, _FOLDER)
    try:
        for parent in parents:
            inner = os.open(parent, _FOLDER, dir_fd=handle)
            os.close(handle)
            handle = inner
        return _read(last, str(name), most, is_linked=False, folder=handle)
    finally:
        os.close(handle)


def is_below(root: str, place: str) -> bool:
    """Whether a path without symbolic links is below another one."""
    return place != root and os.path.commonpath((root, place)) == root


def _read(
    path: str, shown: str, most: int, *, is_linked: bool, folder: int | None = None
) -> Regular:
    # Check before the open: opening a device or a FIFO can have side effects, or block.
    _check(os.stat(path, dir_fd=folder, follow_symlinks=is_linked), shown, most)
    handle = os.open(path, _FLAGS | (0 if is_linked else os.O_NOFOLLOW), dir_fd=folder)
    with open(handle, "rb") as stream:  # noqa: PTH123 - a handle, not a path
        status = os.fstat(handle)
        _check(status, shown, most)
        raw = stream.read(most + 1)
    if len(raw) > most:  # it grew, or is in /proc, where files have no size
        raise _too_large(shown, most)
    return Regular(raw, status.st_mode)


def _check(status: os.stat_result, shown: str, most: int) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, "it is a symbolic link", shown)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), shown)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", shown)
    if status.st_size > most:
        raise _too_large(shown, most)


def _too_large(shown: str, most: int) -> OSError:
    size = f"{most >> 20} MiB" if most >> 20 else f"{most >> 10} KiB"
    return OSError(errno.EFBIG, f"it is larger than {size}", shown)


INVENTORY_HELP = "`sipdeploy init` writes an inventory; `sipdeploy -i FILE` selects another one"


def read(
    path: Path, *, is_trusted: bool = True, absent: str = INVENTORY_HELP
) -> tuple[str | None, list[Diagnostic]]:
    """Read a file as text. SD110 if it cannot be read, SD102 if it is not UTF-8.

    `absent` is the help for a file that is not there.
    An untrusted file must not be a symbolic link: diagnostics show lines, and the link could lead
    to any file.
    """
    try:
        raw = named(path) if is_trusted else regular(path, is_linked=False).raw
    except OSError as failure:
        return None, [unreadable(path, failure, absent)]
    return decode(raw, str(path))


def unreadable(path: Path, failure: OSError, absent: str = INVENTORY_HELP) -> Diagnostic:
    """The diagnostic for a file that cannot be read, with the reason (SD110)."""
    advice = f"`ls -ld {shlex.quote(str(path))}` shows owner and mode"
    if isinstance(failure, FileNotFoundError):
        advice = absent
    if failure.errno == errno.ELOOP:
        advice = "name the file itself, or add `--trusted` if the link is your own"
    return Diagnostic("SD110", f"cannot read `{path}`: {reason_of(failure)}", help=advice)


def decode(raw: bytes, path: str) -> tuple[str | None, list[Diagnostic]]:
    """Decode bytes as UTF-8, without a byte order mark."""
    try:
        return raw.decode("utf-8-sig"), []
    except UnicodeDecodeError as failure:
        rest = failure.object  # without the byte order mark, as an editor counts
        span = after(rest[: failure.start].decode("utf-8", "replace"), path)
        message = f"the file is not UTF-8: invalid byte 0x{rest[failure.start]:02x}"
        return None, [Diagnostic("SD102", message, span=span, help="save the file as UTF-8")]


def after(text: str, path: str) -> Span:
    """The span of the end of a text."""
    lines = BREAK.split(text)
    return Span(path=path, line=len(lines), column=len(lines[-1]) + 1)
