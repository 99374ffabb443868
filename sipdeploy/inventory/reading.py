"""Reads files that people name: regular files of bounded size, so that a read always ends.

An inventory may come from a stranger. What it names is then read below its own folder alone, and
no link leads out of there. The content is never part of an exception.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import NamedTuple

MOST = 16 << 20  # of an inventory or a secrets file; that of 100,000 users has 8 MiB
MOST_OF_A_KEY = 1 << 20  # of a certificate, a key, a password
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW


class OutsideError(OSError):
    """The file is not below the folder in which it has to be."""


class Regular(NamedTuple):
    """A file as it was read."""

    raw: bytes
    mode: int


def regular(path: Path, most: int = MOST, *, is_linked: bool = True) -> Regular:
    """Read a regular file; OSError when it is none, or larger than `most` bytes.

    Without `is_linked` the path itself may not be a link.
    """
    return _read(os.fspath(path), os.fspath(path), most, is_linked=is_linked)


def named(path: Path, most: int = MOST) -> bytes:
    """Read what somebody named on a command line of their own: it may be a pipe, and wait."""
    with path.open("rb") as stream:
        raw = stream.read(most + 1)
    if len(raw) > most:
        raise _too_large(str(path), most)
    return raw


def below(folder: Path, name: Path, most: int = MOST) -> Regular:
    """Read a regular file below a folder; OutsideError when it, or what it links to, is not there.

    No directory on the way is followed through a link that appears after the look.
    """
    root = os.path.realpath(folder)
    place = os.path.realpath(os.path.join(root, name))  # noqa: PTH118 - as realpath takes it
    if not is_below(root, place):
        raise OutsideError(errno.EACCES, "it is outside of the folder of the inventory", str(name))
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
    """Whether a path without links is below another one."""
    return place != root and os.path.commonpath((root, place)) == root


def _read(
    path: str, shown: str, most: int, *, is_linked: bool, folder: int | None = None
) -> Regular:
    # Looked at before it is opened: to open a device or a FIFO can itself do something, or wait.
    _check(os.stat(path, dir_fd=folder, follow_symlinks=is_linked), shown, most)
    handle = os.open(path, _FLAGS | (0 if is_linked else os.O_NOFOLLOW), dir_fd=folder)
    with open(handle, "rb") as stream:  # noqa: PTH123 - a handle, not a path
        found = os.fstat(handle)
        _check(found, shown, most)
        raw = stream.read(most + 1)
    if len(raw) > most:  # it grew, or is one of those in /proc, which have no size
        raise _too_large(shown, most)
    return Regular(raw, found.st_mode)


def _check(found: os.stat_result, shown: str, most: int) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, "it is a symbolic link", shown)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), shown)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", shown)
    if found.st_size > most:
        raise _too_large(shown, most)


def _too_large(shown: str, most: int) -> OSError:
    return OSError(errno.EFBIG, f"it is larger than {most >> 20} MiB", shown)
