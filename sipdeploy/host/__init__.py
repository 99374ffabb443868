"""A machine that runs commands as root: the interface, the local host, and `run_script`.

This package does not know what commands mean. A command that fails raises nothing: its exit status
is in the Result.
"""

import contextlib
import os
import secrets
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from typing import IO, Protocol

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host.incoming import MEBIBYTE, MOST_BYTES, MOST_DATA_BYTES, Intake, OnLine, decoded

CHUNK_BYTES = 65536
# Messages of sudo 1.8 and 1.9 when it refuses to run the command.
SUDO_REFUSALS = (
    "a password is required",
    "a terminal is required",
    "must have a tty",
    "is not in the sudoers file",
    "is not allowed to execute",
    "may not run sudo",
    "effective uid is not 0",
)
# Scripts that consist of several files; all others are `common` and their own file.
PARTS = {
    "facts": ("common", "dns", "facts"),
    "lock": ("common", "take_lock", "lock"),
    "issue": ("common", "issue_keep", "issue"),
    "unissue": ("common", "issue_keep", "unissue"),
    "stage": ("common", "take_lock", "validate", "stage"),
    "swap": ("common", "arm", "services", "sessions", "sockets", "websocket", "verify", "swap"),
    "register": ("common", "websocket", "register"),
    "build_asterisk": ("build_asterisk",),  # runs alone, as an unprivileged user
    "trial_asterisk": ("sockets", "trial_asterisk"),
    "trial_kamailio": ("sockets", "trial_kamailio"),
}
# Scripts whose output grows with the number of users.
DATA_SCRIPTS = ("preview", "registrations", "release")
MARK = "\x1e"  # ASCII record separator: begins a section of a script's output
SUDO_MISSING = ("sudo: not found", "sudo: command not found", "command not found: sudo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of a command: exit status (negative: ended by a signal) and both outputs.

    `stdout` and `stderr` are bytes as the host sent them; all text is printable. `token` tells the
    marks of sipdeploy's script from bytes that look like one.
    """

    status: int
    stdout: bytes = b""
    stderr: bytes = b""
    token: str = ""

    @property
    def text(self) -> str:
        """Standard output as text, with MARK only where the script itself printed one."""
        return with_marks(decoded(self.stdout), self.token)

    @property
    def output(self) -> str:
        """Both outputs as text, stripped, for messages."""
        return with_marks(decoded(self.stdout + self.stderr), self.token).strip()

    @property
    def complaint(self) -> str:
        """Standard error as text, stripped."""
        return decoded(self.stderr).strip()


class Host(Protocol):
    """A machine; `run` is the only access to it."""

    name: str

    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",  # noqa: A002 - as in subprocess.run
        on_line: OnLine | None = None,
        timeout_seconds: float = 60,
        most_bytes: int = MOST_BYTES,
    ) -> Result:
        """Run argv as root, with `input` on standard input; `on_line` gets each output line.

        Raises HostFailed if the connection is lost or the time is over (SD506), if sudo refuses
        (SD505), or if the command sends more than `most_bytes` (SD531).
        """
        ...

    def close(self) -> None:
        """End the connection; safe to call twice."""
        ...


def host_failed(
    code: str, message: str, *, help_: str = "", notes: tuple[str, ...] = ()
) -> HostFailed:
    """A HostFailed with one diagnostic."""
    problem = Diagnostic(code, message, notes=notes, help=help_)
    return HostFailed([problem])


def run_script(
    host: Host,
    argv: Sequence[str],
    *,
    input: bytes = b"",  # noqa: A002
    on_line: OnLine | None = None,
    timeout_seconds: float = 60,
) -> Result:
    """Run `scripts/NAME.sh ARGUMENTS` on the host in one exchange; `argv` is NAME and ARGUMENTS.

    The script is sent on standard input, so the remote argv, which process lists and sudo's log
    show, stays short. `head -c` reads no byte too many: the script reads the input after it. A
    random token is sent with the script. Only marks with this token divide the output, so neither
    a file nor a program on the host can forge a section. Raises as Host.run.
    """
    name, *arguments = argv
    token = secrets.token_hex(8)
    script = f"unset token; token={token}\n".encode() + script_text(name)
    reader = 'n=$1; shift; eval "$(head -c "$n")"'
    remote_argv = ["sh", "-c", reader, f"sipdeploy-{name}", str(len(script)), *arguments]
    result = host.run(
        remote_argv,
        input=script + input,
        on_line=None if on_line is None else partial(_tell_marked, on_line, token),
        timeout_seconds=timeout_seconds,
        most_bytes=MOST_DATA_BYTES if name in DATA_SCRIPTS else MOST_BYTES,
    )
    return replace(result, token=token)


def ask(
    host: Host,
    argv: Sequence[str],
    problem: tuple[str, ...],
    *,
    data: bytes = b"",
    on_line: OnLine | None = None,
    timeout_seconds: float = 120,
) -> dict[str, str]:
    """Run a script and return its sections, name -> text.

    Raises HostFailed if the script fails: `problem` is its code, message and optional help, and
    the last lines of standard error become its notes.
    """
    result = run_script(host, argv, input=data, on_line=on_line, timeout_seconds=timeout_seconds)
    if result.status == 0:
        return sections(result.text)
    errors = result.complaint.splitlines()[-5:]
    is_full = "No space left" in "".join(errors) or "disk full" in "".join(errors)
    code, message, *fix = problem
    raise host_failed(
        code,
        f"{message} on `{host.name}`",
        notes=tuple(errors) or (f"the script ended with status {result.status}",),
        help_=f"make room on `{host.name}`; see `df -h /etc /var`" if is_full else "".join(fix),
    )


def sections(text: str) -> dict[str, str]:
    """Split the output of a script at its marks: name (the first line) -> text.

    Sections with the same name are joined.
    """
    texts: dict[str, str] = {}
    for part in text.split(MARK)[1:]:
        name, _, body = part.partition("\n")
        texts[name.strip()] = texts.get(name.strip(), "") + body
    return texts


def with_marks(text: str, token: str) -> str:
    """Turn the escapes that carry the token back into marks."""
    return text.replace(f"\\x1e{token} ", MARK) if token else text


def _tell_marked(on_line: OnLine, token: str, line: str) -> None:
    on_line(with_marks(line, token))


def title_of(argv: Sequence[str]) -> str:
    """The name of a command in messages: `sipdeploy-NAME` of a script, else the program."""
    return next((word for word in argv if word.startswith("sipdeploy-")), argv[0])


def sent_too_much(host_name: str, argv: Sequence[str], most_bytes: int) -> HostFailed:
    """SD531: sipdeploy stopped a command whose output exceeded the limit."""
    title = title_of(argv)
    return host_failed(
        "SD531",
        f"`{title}` on `{host_name}` sent more than {most_bytes // MEBIBYTE} MiB; "
        "sipdeploy stopped it",
        help_=f"log in to `{host_name}` and find out why: no valid answer is that long",
    )


def script_text(name: str) -> bytes:
    """The POSIX shell text of a script, its parts first."""
    folder = resources.files("sipdeploy.host") / "scripts"
    parts = PARTS.get(name, ("common", name))
    return b"".join((folder / f"{part}.sh").read_bytes() for part in parts)


def check_sudo(host_name: str, user: str, result: Result) -> None:
    """Raise HostFailed (SD505) if sudo, and not the command, failed."""
    if result.status == 0 or result.stdout:
        return
    errors = result.complaint
    if any(text in errors for text in SUDO_MISSING):
        raise host_failed(
            "SD505",
            f"`{host_name}` has no sudo, and the login `{user}` is not root",
            help_=f"install sudo on `{host_name}`, or set `user: root` for this host",
        )
    if errors.startswith("sudo:") and any(text in errors for text in SUDO_REFUSALS):
        raise host_failed(
            "SD505",
            f"`{user}` cannot use sudo without a password on `{host_name}`",
            notes=(errors.splitlines()[0],),
            help_=f"on `{host_name}` as root: "
            f"`echo '{user} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/sipdeploy`",
        )


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
        most_bytes: int = MOST_BYTES,
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
        late = threading.Event()
        intake = Intake(on_line, most_bytes, lambda: _stop(process, late))
        result = _exchange(process, input, intake, (late, timeout_seconds))
        if intake.is_over:
            raise sent_too_much(self.name, argv, most_bytes)
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
    process: "subprocess.Popen[bytes]",
    data: bytes,
    intake: Intake,
    clock: tuple[threading.Event, float],
) -> Result | None:
    """Write and read at the same time, so neither side blocks; None if the time is over."""
    assert process.stdin is not None  # noqa: S101 - all three are pipes
    assert process.stdout is not None  # noqa: S101
    assert process.stderr is not None  # noqa: S101
    late, seconds = clock
    helpers = [
        threading.Thread(target=_write_all, args=(process.stdin, data), daemon=True),
        threading.Thread(target=_read_all, args=(process.stderr, intake.take_error), daemon=True),
    ]
    timer = threading.Timer(seconds, _stop, args=(process, late))
    for helper in (*helpers, timer):
        helper.start()
    try:
        _read_all(process.stdout, intake.take)
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
    stdout, stderr = intake.end()
    return Result(status=status, stdout=stdout, stderr=stderr)


def _write_all(stream: IO[bytes], data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), stream:  # a command need not read its input
        stream.write(data)


def _read_all(stream: IO[bytes], take: Callable[[bytes], bool]) -> None:
    with stream:
        while chunk := os.read(stream.fileno(), CHUNK_BYTES):
            if not take(chunk):
                return


def _stop(process: "subprocess.Popen[bytes]", late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, 9)
