"""A machine that runs commands as root: the port, its local form, and scripts sent in one piece.

Never knows what the commands mean, and never raises for a command that merely fails.
"""

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import IO, Protocol

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.errors import HostFailed

CHUNK_BYTES = 65536
OnLine = Callable[[str], None]
# What sudo says when it will not run the command at all, in the words of sudo 1.8 to 1.9.
SUDO_REFUSALS = (
    "a password is required",
    "a terminal is required",
    "must have a tty",
    "is not in the sudoers file",
    "is not allowed to execute",
    "may not run sudo",
    "effective uid is not 0",
)
# Some scripts are made of parts that others have too, or that are read better by themselves.
PARTS = {
    "facts": ("common", "dns", "facts"),
    "lock": ("common", "turn", "lock"),
    "issue": ("common", "issue_keep", "issue"),
    "unissue": ("common", "issue_keep", "unissue"),
    "stage": ("common", "turn", "validate", "stage"),
    "swap": ("common", "arm", "services", "sessions", "sockets", "websocket", "verify", "swap"),
    "register": ("common", "websocket", "register"),
    "build_asterisk": ("build_asterisk",),  # run by a user without rights, away from the others
    "trial_asterisk": ("sockets", "trial_asterisk"),
    "trial_kamailio": ("sockets", "trial_kamailio"),
}
SUDO_MISSING = ("sudo: not found", "sudo: command not found", "command not found: sudo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a command left: its exit status (negative: ended by a signal) and both outputs."""

    status: int
    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def text(self) -> str:
        """Standard output as text; bytes that are no UTF-8 are replaced."""
        return self.stdout.decode(errors="replace")

    @property
    def words(self) -> str:
        """Both outputs as text, for a person to read."""
        return (self.stdout + self.stderr).decode(errors="replace").strip()


class Host(Protocol):
    """A machine: `run` is all that is ever done to it."""

    name: str

    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",  # noqa: A002 - the word of subprocess.run
        on_line: OnLine | None = None,
        timeout_seconds: float = 60,
    ) -> Result:
        """Run argv as root and give what it left; HostFailed only when the host itself is lost."""
        ...

    def close(self) -> None:
        """End the connection; safe to call twice."""
        ...


def host_failed(
    code: str, message: str, *, help_: str = "", notes: tuple[str, ...] = ()
) -> HostFailed:
    """The error of one problem, for the host layers."""
    problem = Diagnostic(code=code, severity="error", message=message, notes=notes, help=help_)
    return HostFailed([problem])


def run_script(
    host: Host,
    words: Sequence[str],
    *,
    input: bytes = b"",  # noqa: A002
    on_line: OnLine | None = None,
    timeout_seconds: float = 60,
) -> Result:
    """Run `scripts/NAME.sh ARGUMENTS` on the host in one exchange; words are name and arguments.

    The script itself travels on stdin, so argv (which process lists and sudo's log show) stays
    short. `head -c` reads no byte too many, so the input after it is left for the script to read.
    """
    name, *arguments = words
    script = script_text(name)
    reader = 'n=$1; shift; eval "$(head -c "$n")"'
    argv = ["sh", "-c", reader, f"sipdeploy-{name}", str(len(script)), *arguments]
    return host.run(argv, input=script + input, on_line=on_line, timeout_seconds=timeout_seconds)


def script_text(name: str) -> bytes:
    """The POSIX shell text of a script, the parts that it stands on first."""
    folder = resources.files("sipdeploy") / "scripts"
    parts = PARTS.get(name, ("common", name))
    return b"".join((folder / f"{part}.sh").read_bytes() for part in parts)


def check_sudo(host_name: str, user: str, result: Result) -> None:
    """Raise HostFailed when it was sudo, not the command, that said no."""
    if result.status == 0 or result.stdout:
        return
    words = result.stderr.decode(errors="replace").strip()
    if any(text in words for text in SUDO_MISSING):
        raise host_failed(
            "SD505",
            f"`{host_name}` has no sudo, and the login `{user}` is not root",
            help_=f"install sudo on `{host_name}`, or set `user: root` for this host",
        )
    if words.startswith("sudo:") and any(text in words for text in SUDO_REFUSALS):
        raise host_failed(
            "SD505",
            f"`{user}` may not use sudo without a password on `{host_name}`",
            notes=(words.splitlines()[0],),
            help_=f"on `{host_name}` as root: "
            f"`echo '{user} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/sipdeploy`",
        )


class LineSplitter:
    """Cuts a stream of chunks into lines as they come; keeps every byte."""

    def __init__(self, on_line: OnLine | None) -> None:
        self._on_line = on_line
        self._chunks: list[bytes] = []
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk and tell every line that it ends."""
        self._chunks.append(chunk)
        if self._on_line is None:
            return
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._on_line(line.decode(errors="replace").rstrip("\r"))

    def end(self) -> bytes:
        """Tell what is left without a line end, and give everything that was fed."""
        if self._rest and self._on_line is not None:
            self._on_line(self._rest.decode(errors="replace"))
        self._rest = b""
        return b"".join(self._chunks)


class LocalHost:
    """The machine that sipdeploy runs on: `address: local`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._prefix = () if os.geteuid() == 0 else ("sudo", "-n", "--")

    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",  # noqa: A002
        on_line: OnLine | None = None,
        timeout_seconds: float = 60,
    ) -> Result:
        """As Host.run, in a child process."""
        try:
            process = subprocess.Popen(  # noqa: S603 - argv is ours, no shell reads it
                [*self._prefix, *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # a Ctrl-C must not reach apt: undo comes first
            )
        except FileNotFoundError as missing:
            return self._not_found(argv, missing)
        result = _exchange(process, input, LineSplitter(on_line), timeout_seconds)
        if result is None:
            raise host_failed(
                "SD506", f"`{argv[0]}` did not end on `{self.name}` within {timeout_seconds:g} s"
            )
        if self._prefix:
            check_sudo(self.name, _login(), result)
        return result

    def close(self) -> None:
        """Nothing to end here."""

    def _not_found(self, argv: Sequence[str], missing: FileNotFoundError) -> Result:
        name = self._prefix[0] if self._prefix else argv[0]
        result = Result(status=127, stderr=f"{name}: command not found: {missing}".encode())
        if self._prefix:
            check_sudo(self.name, _login(), Result(status=127, stderr=b"sudo: not found"))
        return result


def _login() -> str:
    return os.environ.get("USER", str(os.geteuid()))


def _exchange(
    process: "subprocess.Popen[bytes]", data: bytes, lines: LineSplitter, timeout_seconds: float
) -> Result | None:
    """Write and read at the same time, so neither side waits for the other; None: out of time."""
    assert process.stdin is not None  # noqa: S101 - all three are pipes
    assert process.stdout is not None  # noqa: S101
    assert process.stderr is not None  # noqa: S101
    errors: list[bytes] = []
    helpers = [
        threading.Thread(target=_write_all, args=(process.stdin, data), daemon=True),
        threading.Thread(target=_read_all, args=(process.stderr, errors.append), daemon=True),
    ]
    late = threading.Event()
    timer = threading.Timer(timeout_seconds, _stop, args=(process, late))
    for helper in (*helpers, timer):
        helper.start()
    try:
        _read_all(process.stdout, lines.feed)
        status = process.wait()
    except BaseException:
        _stop(process, late)
        raise
    finally:
        timer.cancel()
    for helper in helpers:
        helper.join()
    if late.is_set():
        return None
    return Result(status=status, stdout=lines.end(), stderr=b"".join(errors))


def _write_all(stream: IO[bytes], data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), stream:  # a command need not read its input
        stream.write(data)


def _read_all(stream: IO[bytes], take: Callable[[bytes], None]) -> None:
    with stream:
        while chunk := os.read(stream.fileno(), CHUNK_BYTES):
            take(chunk)


def _stop(process: "subprocess.Popen[bytes]", late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, 9)
