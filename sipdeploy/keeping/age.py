"""Encryption of a backup with the program `age`, as a pipe: no plain copy is on a disk."""

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import InvalidFiles, WrongUsage
from sipdeploy.host.incoming import decoded

MARKS = (b"age-encryption.org/v1", b"-----BEGIN AGE ENCRYPTED FILE-----")
_RECIPIENT = re.compile(r"age1[a-z0-9-]{20,4000}|ssh-(?:ed25519|rsa) [A-Za-z0-9+/=]+(?: .*)?")


def check_recipients(recipients: Sequence[str]) -> None:
    """WrongUsage (SD002) for a text that is no public key."""
    for recipient in recipients:
        if not _RECIPIENT.fullmatch(recipient):
            message = f"`{recipient}` is not a public key of age"
            advice = "`age-keygen -o key.txt` makes a key and prints its public part, age1..."
            raise WrongUsage([Diagnostic("SD002", message, help=advice)])


def is_encrypted(head: bytes) -> bool:
    """Whether a file that begins with these bytes is encrypted."""
    return head.startswith(MARKS)


@contextlib.contextmanager
def encrypting(target: IO[bytes], recipients: Sequence[str]) -> Iterator[IO[bytes]]:
    """A stream whose content reaches `target` encrypted; InvalidFiles (SD742) if age fails."""
    words = [word for recipient in recipients for word in ("-r", recipient)]
    with tempfile.TemporaryFile() as errors:
        process = _start(["age", *words], stdin=subprocess.PIPE, stdout=target, stderr=errors)
        assert process.stdin is not None  # noqa: S101 - a pipe
        with _ended(process):
            try:
                yield process.stdin
                process.stdin.close()
            except BrokenPipeError:
                pass  # age has ended, and says why
            if process.wait():
                raise _failed("encrypt the backup", errors)


@contextlib.contextmanager
def decrypting(path: Path, identities: Sequence[Path]) -> Iterator[IO[bytes]]:
    """The content of an encrypted file; InvalidFiles (SD742) if age cannot decrypt it."""
    words = [word for identity in identities for word in ("-i", str(identity))]
    with path.open("rb") as source, tempfile.TemporaryFile() as errors:
        process = _start(
            ["age", "--decrypt", *words], stdin=source, stdout=subprocess.PIPE, stderr=errors
        )
        assert process.stdout is not None  # noqa: S101 - a pipe
        with _ended(process):
            stream = process.stdout
            try:
                yield stream
            except ValueError:  # what age printed before it failed is not complete
                stream.close()
                if process.wait() > 0:
                    raise _failed(f"decrypt `{path}`", errors) from None
                raise
            stream.close()
            if process.wait() > 0:
                raise _failed(f"decrypt `{path}`", errors)


def _start(argv: list[str], **streams: IO[bytes] | int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(argv, **streams)  # type: ignore[call-overload,no-any-return]  # noqa: S603
    except FileNotFoundError:
        problem = Diagnostic(
            "SD742",
            "this machine has no `age`, which encrypts and decrypts backups",
            help="install it: `apt-get install age`, `brew install age`, or from "
            "github.com/FiloSottile/age",
        )
        raise InvalidFiles([problem]) from None


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End the program if the work on its stream fails."""
    try:
        yield
    finally:
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        if process.poll() is None:
            process.kill()
            process.wait()


def _failed(what: str, errors: IO[bytes]) -> InvalidFiles:
    errors.seek(0)
    lines = decoded(errors.read(4000)).strip().splitlines()
    advice = "`--identity FILE` names the file with the private key"
    return InvalidFiles(
        [
            Diagnostic(
                "SD742",
                f"age cannot {what}",
                notes=tuple(lines[-4:]),
                help=advice if what.startswith("decrypt") else "",
            )
        ]
    )
