"""Makes a backup of a host: one exchange, whose output is checked and written as it arrives."""

import contextlib
import datetime as dt
import os
import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sipdeploy import __version__
from sipdeploy.diagnostics import Diagnostic, reason_of
from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.diagnostics.escapes import shown_line
from sipdeploy.facts import STATE
from sipdeploy.host import Host, Result, host_failed, run_script, script_text
from sipdeploy.host.incoming import decoded, whole
from sipdeploy.inventory import files
from sipdeploy.keeping import age, archive, known
from sipdeploy.keeping.archive import Backup, DamagedError, Origin

BACKUP_SECONDS = 24 * 3600
HEADER = "header"
MOST_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A backup that was written, and what is worth a warning."""

    backup: Backup
    warnings: tuple[Diagnostic, ...]


def make(host: Host, target: Path, recipients: Sequence[str], state: str = STATE) -> Made:
    """Write a backup of a host to `target`, encrypted if there are recipients.

    HostFailed (SD740) if the host cannot be read, InvalidFiles if the file cannot be written
    (SD110) or encrypted (SD742). Then `target` is as it was.
    """
    try:
        with files.new_file(target, 0o600) as stream, _packed(stream, recipients) as packed:
            return _written(host, packed, state)
    except OSError as failure:
        raise InvalidFiles([files.unwritable(failure)]) from failure


@contextlib.contextmanager
def _packed(stream: IO[bytes], recipients: Sequence[str]) -> Iterator[IO[bytes]]:
    if not recipients:
        yield stream
        return
    with age.encrypting(stream, recipients) as encrypted:
        yield encrypted


def _written(host: Host, stream: IO[bytes], state: str) -> Made:
    writer = archive.Writer(stream)
    received = _Received(host.name, writer)
    result = _run(host, received.take, state)
    complaints = result.complaint.splitlines()
    if result.status != 0:
        raise host_failed(
            "SD740",
            f"no backup of `{host.name}` was made",
            notes=tuple(complaints[-5:]) or (f"the script ended with status {result.status}",),
            help_="correct this, and make the backup again",
        )
    origin = received.origin()
    writer.finish(origin)
    backup = Backup(origin=origin, files=tuple(writer.entries))
    return Made(backup=backup, warnings=tuple(received.warnings(complaints)))


class _Received:
    """Takes the tar of a host: what a backup may have goes on, the rest is counted."""

    def __init__(self, name: str, writer: archive.Writer) -> None:
        self._name = name
        self._writer = writer
        self._facts: dict[str, str] = {}
        self._left_out: list[str] = []

    def take(self, stream: IO[bytes]) -> None:
        """Read the tar to its end; DamagedError if it is not what the script prints."""
        for member in archive.members(stream):
            path = f"/{member.name}"
            kind = known.kind_of(path)
            if member.name == HEADER:
                text = decoded(member.content(known.SMALL))
                self._facts = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
            elif kind is None or member.size > kind.most_bytes:
                self._left_out.append(known.shown(path))
                for _ in member.chunks():
                    pass
            else:
                self._writer.add(path, member)

    def origin(self) -> Origin:
        """What the host says about itself."""
        facts = {key: shown_line(value)[:200] for key, value in self._facts.items()}
        return Origin(
            host=self._name,
            domain=facts.get("domain", ""),
            release=whole(facts.get("release", "")),
            created=dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            sipdeploy=__version__,
            versions={key: facts.get(key, "") for key in ("os", "kamailio", "asterisk")},
        )

    def warnings(self, complaints: Sequence[str]) -> Iterator[Diagnostic]:
        """SD743 for files that are not in the backup, and for what the host says."""
        if self._left_out:
            more = len(self._left_out) - MOST_NAMED
            yield Diagnostic(
                "SD743",
                f"files of `{self._name}` are not in the backup",
                severity="warning",
                notes=(
                    *self._left_out[:MOST_NAMED],
                    *((f"and {more} more",) if more > 0 else ()),
                ),
                help="copy them yourself if you need them",
            )
        for line in complaints[:MOST_NAMED]:
            yield Diagnostic("SD743", f"`{self._name}`: {line}", severity="warning")


def _run(host: Host, take: Callable[[IO[bytes]], None], state: str) -> Result:
    """Run the script, and let `take` read its output through a pipe, which bounds the memory."""
    source, sink = os.pipe()
    done: list[Result | BaseException] = []
    thread = threading.Thread(target=_pour, args=(host, sink, done, state), daemon=True)
    thread.start()
    damage: DamagedError | None = None
    try:
        with os.fdopen(source, "rb") as stream:
            take(stream)
    except DamagedError as wrong:
        damage = wrong
    except BaseException:
        host.close()
        thread.join()
        raise
    thread.join()
    (result,) = done
    if isinstance(result, BaseException):
        raise result
    if damage and result.status <= 0:
        raise host_failed(
            "SD740",
            f"`{host.name}` sent something else than a backup: {damage}",
            help_="make the backup again",
        )
    return result


def _pour(host: Host, sink: int, done: list[Result | BaseException], state: str) -> None:
    def pour(chunk: bytes) -> bool:
        view = memoryview(chunk)
        try:
            while view:
                view = view[os.write(sink, view) :]
        except BrokenPipeError:
            return False
        return True

    try:
        done.append(
            run_script(
                host,
                ("backup", state),
                input=script_text("snapshot"),
                sink=pour,
                timeout_seconds=BACKUP_SECONDS,
            )
        )
    except BaseException as failure:  # noqa: BLE001 - `_run` raises it
        done.append(failure)
    finally:
        os.close(sink)


@contextlib.contextmanager
def opened(path: Path, identities: Sequence[Path]) -> Iterator[IO[bytes]]:
    """The compressed tar in a file, decrypted if necessary; OSError if it cannot be read."""
    with path.open("rb") as stream:
        head = stream.read(64)
        if not age.is_encrypted(head):
            stream.seek(0)
            yield stream
            return
    if not identities:
        problem = Diagnostic(
            "SD742",
            f"`{path}` is encrypted",
            help="add `--identity FILE`, the file with the private key of age",
        )
        raise InvalidFiles([problem])
    with age.decrypting(path, identities) as plain:
        yield plain


def read(path: Path, identities: Sequence[Path]) -> Backup:
    """Read a backup to its end; InvalidFiles (SD741) if it is damaged, (SD110) if unreadable."""
    try:
        with opened(path, identities) as stream:
            return archive.read(stream)
    except OSError as failure:
        folder = shlex.quote(str(path.parent))
        advice = f"`ls -l {shlex.quote(str(path))}` shows owner and mode"
        if isinstance(failure, FileNotFoundError):
            advice = f"`ls {folder}` shows which files are there"
        message = f"cannot read `{path}`: {reason_of(failure)}"
        raise InvalidFiles([Diagnostic("SD110", message, help=advice)]) from failure
    except DamagedError as wrong:
        raise damaged(path, wrong) from wrong


def damaged(path: Path, wrong: DamagedError) -> InvalidFiles:
    """SD741: the file cannot be used."""
    return InvalidFiles(
        [
            Diagnostic(
                "SD741",
                f"`{path}` cannot be used as a backup: {wrong}",
                notes=("no host was changed",),
                help="take another backup; `sipdeploy backup --verify FILE` checks one",
            )
        ]
    )
