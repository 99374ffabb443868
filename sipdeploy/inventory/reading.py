"""Reads files that people name: regular files of bounded size, so that a read always ends.

An inventory may come from a stranger. What it names is then read below its own folder alone, and
no link leads out of there. The content is never part of an exception.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

from sipdeploy.diagnostics import Diagnostic, Span

BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")  # what libyaml counts as the end of a line
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


def read(path: Path, *, is_trusted: bool = True) -> tuple[str | None, list[Diagnostic]]:
    """Read a file as text. SD110 when it cannot be read, SD102 when it is not UTF-8.

    One that is not trusted may be no link: problems show lines, and it could lead to any file.
    """
    try:
        raw = named(path) if is_trusted else regular(path, is_linked=False).raw
    except OSError as failure:
        return None, [unreadable(path, failure)]
    return decode(raw, str(path))


def unreadable(path: Path, failure: OSError) -> Diagnostic:
    """Say that a file cannot be read, and why (SD110)."""
    reason = (failure.strerror or str(failure)).lower()
    is_absent = isinstance(failure, FileNotFoundError)
    advice = "`sipdeploy init` writes an inventory; `-i FILE` names another" * is_absent
    if failure.errno == errno.ELOOP:
        advice = "name the file itself; `--trusted` follows a link of your own"
    return error("SD110", f"cannot read `{path}`: {reason}", None, advice)


def decode(raw: bytes, path: str) -> tuple[str | None, list[Diagnostic]]:
    """Turn bytes into text; a UTF-8 byte order mark is dropped."""
    try:
        return raw.decode("utf-8-sig"), []
    except UnicodeDecodeError as failure:
        span = after(raw[: failure.start].decode("utf-8", "replace"), path)
        message = f"the file is not UTF-8: byte 0x{raw[failure.start]:02x} is not part of a letter"
        return None, [error("SD102", message, span, "save the file as UTF-8")]


def error(code: str, message: str, span: Span | None, advice: str = "") -> Diagnostic:
    """One error."""
    return Diagnostic(code=code, severity="error", message=message, span=span, help=advice)


def after(text: str, path: str) -> Span:
    """Give the place where a text ends."""
    lines = BREAK.split(text)
    return Span(path=path, line=len(lines), column=len(lines[-1]) + 1)
