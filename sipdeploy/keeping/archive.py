"""A backup as one file: a tar of regular files, compressed, with a manifest at its end.

The reader trusts nothing: it takes only the paths of `known`, regular files with a plain ustar
header, and sizes within limits, and it holds one small file at a time in memory. Python's tarfile
reads the extended headers of other formats whole, whatever their length.
"""

import gzip
import hashlib
import json
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import IO, cast

from sipdeploy.diagnostics import count
from sipdeploy.keeping import known
from sipdeploy.keeping.known import Kind

FORMAT = 1
MANIFEST = "manifest.json"
BLOCK = tarfile.BLOCKSIZE
CHUNK_BYTES = 65_536
MEBIBYTE = 1024 * 1024
MOST_FILES = 1_000_000
MOST_BYTES = 1024 * 1024 * MEBIBYTE
# What a manifest can have: a base, and so much for each file before it. Parsed, a list of nothing
# but empty lists is thirty times as large.
MANIFEST_BYTES = (65_536, 1024)
MANIFEST_COMMAS = (1024, 8)
MANIFEST_BRACKETS = (64, 1)
MOST_PADDING = MEBIBYTE
MOST_KEPT_BYTES = 128 * MEBIBYTE
LEVEL = 6
_STRANGE = re.compile(r"[^A-Za-z0-9_.-]")  # in the name of an account


class DamagedError(ValueError):
    """Why a file cannot be used as a backup."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file: its path on the host, and how it was there. `owner` is `user:group`."""

    path: str
    size: int
    mode: int
    owner: str
    sha256: str

    @property
    def kind(self) -> Kind:
        """The kind of the file; the reader has refused a path without one."""
        kind = known.kind_of(self.path)
        assert kind is not None  # noqa: S101
        return kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where and when a backup was made, and the versions there, by program."""

    host: str
    domain: str
    release: int
    created: str
    sipdeploy: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A backup that was read to its end and is intact.

    `contents` has everything but the mailboxes.
    """

    origin: Origin
    files: tuple[Entry, ...]
    contents: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files)

    def of(self, *names: str) -> tuple[Entry, ...]:
        """The files of these kinds."""
        return tuple(entry for entry in self.files if entry.kind.name in names)


class Member:
    """A regular file of a tar; its content can be read once."""

    def __init__(self, info: tarfile.TarInfo, stream: IO[bytes]) -> None:
        self.name = info.name
        self.size = info.size
        self.mode = info.mode & 0o7777
        self.owner = ":".join(_STRANGE.sub("_", name)[:32] for name in (info.uname, info.gname))
        self._stream = stream
        self._left = info.size

    def chunks(self) -> Iterator[bytes]:
        """The content in pieces; DamagedError if the tar ends before it."""
        while self._left:
            chunk = _exactly(self._stream, min(CHUNK_BYTES, self._left))
            self._left -= len(chunk)
            yield chunk
        _exactly(self._stream, -self.size % BLOCK)

    def content(self, most: int) -> bytes:
        """The whole content; DamagedError above the limit."""
        if self.size > most:
            raise DamagedError(f"{known.shown(self.name)} has {self.size} bytes")
        return b"".join(self.chunks())


def members(stream: IO[bytes]) -> Iterator[Member]:
    """The files of a ustar, in order; the caller reads each one before the next.

    DamagedError for anything but regular files, for a wrong header, and for a missing end.
    """
    while True:
        header = _exactly(stream, BLOCK)
        if not header.strip(b"\0"):
            break
        try:
            info = tarfile.TarInfo.frombuf(header, "ascii", "backslashreplace")
        except tarfile.HeaderError as wrong:
            raise DamagedError("it is damaged: a header of its tar is not valid") from wrong
        if info.type not in {tarfile.REGTYPE, tarfile.AREGTYPE} or info.size < 0:
            raise DamagedError(f"{known.shown(info.name)} is not a regular file")
        yield Member(info, stream)
    _check_end(stream)


def _check_end(stream: IO[bytes]) -> None:
    left = MOST_PADDING
    while chunk := _read(stream, CHUNK_BYTES):
        left -= len(chunk)
        if chunk.strip(b"\0") or left < 0:
            raise DamagedError("it has data after its end")


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = _read(stream, size - len(data))
        if not chunk:
            raise DamagedError("it is not complete: its end is missing")
        data += chunk
    return data


def _read(stream: IO[bytes], size: int) -> bytes:
    try:
        return stream.read(size)
    except (EOFError, gzip.BadGzipFile, zlib.error) as wrong:
        is_other = isinstance(wrong, gzip.BadGzipFile) and stream.tell() == 0
        why = "it is not a backup of sipdeploy" if is_other else "it is damaged, or not complete"
        raise DamagedError(why) from wrong


class Writer:
    """Writes a backup to a stream, one file after the other."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=LEVEL, mtime=0)
        self.entries: list[Entry] = []

    def add(self, path: str, member: Member) -> None:
        """Copy a file of another tar, under its path on the host."""
        self._stream.write(_header(path[1:], member.size, member.mode, member.owner))
        digest = hashlib.sha256()
        for chunk in member.chunks():
            digest.update(chunk)
            self._stream.write(chunk)
        self._stream.write(bytes(-member.size % BLOCK))
        self.entries.append(
            Entry(
                path=path,
                size=member.size,
                mode=member.mode,
                owner=member.owner,
                sha256=digest.hexdigest(),
            )
        )

    def finish(self, origin: Origin) -> None:
        """Write the manifest and the end; the stream itself stays open."""
        files = [asdict(entry) for entry in self.entries]
        data = json.dumps({"format": FORMAT, **asdict(origin), "files": files}, indent=1).encode()
        self._stream.write(_header(MANIFEST, len(data), 0o600, "root:root"))
        self._stream.write(data + bytes(-len(data) % BLOCK) + bytes(2 * BLOCK))
        self._stream.close()


def _header(name: str, size: int, mode: int, owner: str) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, mode
    info.uname, _, info.gname = owner.partition(":")
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "replace")


def files_of(stream: IO[bytes]) -> Iterator[Member]:
    """The files of a backup and its manifest, with their limits enforced.

    A name becomes the path on the host. DamagedError for what no backup has.
    """
    seen: set[str] = set()
    total = 0
    for member in members(cast("IO[bytes]", gzip.GzipFile(fileobj=stream, mode="rb"))):
        if MANIFEST in seen:
            raise DamagedError("it has files after its manifest")
        if member.name != MANIFEST:
            member.name = f"/{member.name}"
            kind = known.kind_of(member.name)
            if kind is None:
                raise DamagedError(f"no backup has a file {known.shown(member.name)}")
            if member.size > kind.most_bytes:
                raise DamagedError(f"{member.name} has {member.size} bytes")
        if member.name in seen:
            raise DamagedError(f"{member.name} is in it twice")
        seen.add(member.name)
        total += member.size
        if len(seen) > MOST_FILES or total > MOST_BYTES:
            raise DamagedError(f"it has more than {MOST_FILES} files, or 1 TiB")
        yield member
    if MANIFEST not in seen:
        raise DamagedError("it has no manifest")


def read(stream: IO[bytes]) -> Backup:
    """Read a whole backup, compare it with its manifest, and keep only small contents.

    DamagedError says what is wrong with it.
    """
    entries: list[Entry] = []
    contents: dict[str, bytes] = {}
    manifest = b""
    for member in files_of(stream):
        if member.name == MANIFEST:
            manifest = member.content(_most(MANIFEST_BYTES, entries))
            _check_sizes(manifest, entries)
            continue
        kind = known.kind_of(member.name)
        if kind is not None and known.is_small(kind):
            content = member.content(kind.most_bytes)
            contents |= _kept(member.name, kind, content)
            entries.append(_entry(member, (content,)))
        else:
            entries.append(_entry(member, member.chunks()))
        if sum(map(len, contents.values())) > MOST_KEPT_BYTES:
            raise DamagedError("its keys and local files have more than 128 MiB")
    return _compared(manifest, entries, contents)


def _most(limit: tuple[int, int], entries: Sequence[Entry]) -> int:
    base, of_a_file = limit
    return base + of_a_file * len(entries)


def _check_sizes(manifest: bytes, entries: Sequence[Entry]) -> None:
    """DamagedError if the manifest would become much more in memory than these files need."""
    brackets = manifest.count(b"[") + manifest.count(b"{")
    commas = manifest.count(b",")
    if brackets > _most(MANIFEST_BRACKETS, entries) or commas > _most(MANIFEST_COMMAS, entries):
        raise DamagedError(f"its manifest has more than its {count(len(entries), 'file')}")


def _kept(path: str, kind: Kind, content: bytes) -> dict[str, bytes]:
    """The content of a small file, unless it belongs to a mailbox; DamagedError if it is bad."""
    for fault in known.faults(path, content):
        raise DamagedError(f"{path} cannot be restored: {fault}")
    return {} if kind.name in known.MESSAGES else {path: content}


def _entry(member: Member, chunks: Iterable[bytes]) -> Entry:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return Entry(
        path=member.name,
        size=member.size,
        mode=member.mode,
        owner=member.owner,
        sha256=digest.hexdigest(),
    )


def _compared(manifest: bytes, entries: list[Entry], contents: Mapping[str, bytes]) -> Backup:
    origin, listed = load(manifest)
    for entry, wanted in zip(entries, listed, strict=False):
        if entry != wanted:
            raise DamagedError(f"{entry.path} differs from the manifest")
    if len(entries) != len(listed):
        raise DamagedError(f"it has {count(len(entries), 'file')}, its manifest {len(listed)}")
    return Backup(origin=origin, files=tuple(entries), contents=contents)


def load(manifest: bytes) -> tuple[Origin, list[Entry]]:
    """Read a manifest; DamagedError if it is not one, or of a newer format."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError  # noqa: PLC0415 - restores only

    try:
        data = json.loads(manifest)
        is_known = isinstance(data, dict) and data.pop("format", None) == FORMAT
        if is_known:
            rows, strict = data.pop("files", None), ConfigDict(extra="forbid")
            files = TypeAdapter(list[Entry], config=strict).validate_python(rows)
            (origin,) = TypeAdapter(list[Origin], config=strict).validate_python([data])
    except (ValidationError, ValueError, RecursionError) as wrong:
        raise DamagedError("its manifest is damaged") from wrong
    if not is_known:
        raise DamagedError("its format is unknown: perhaps a newer sipdeploy made it")
    return origin, files
