"""A machine that runs commands as root: the interface, and `run_script`.

This package does not know what commands mean. A command that fails raises nothing: its exit status
is in the Result.
"""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from itertools import chain
from typing import Protocol

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host.incoming import (
    MEBIBYTE,
    MOST_BYTES,
    MOST_DATA_BYTES,
    After,
    Body,
    OnLine,
    Sink,
    decoded,
)

CHUNK_BYTES = 65536
# Scripts that consist of several files; all others are `common` and their own file.
PARTS = {
    "facts": ("common", "dns", "facts"),
    "doctor": ("common", "dns", "facts", "doctor"),
    "lock": ("common", "take_lock", "lock"),
    "packages": ("common", "apt", "packages"),
    "repository": ("common", "apt", "repository"),
    "issue": ("common", "issue_keep", "run_certbot", "issue"),
    "receive": ("common", "issue_keep", "receive"),
    "unreceive": ("common", "issue_keep", "unreceive"),
    "renew": ("common", "run_certbot", "renew"),
    "unissue": ("common", "issue_keep", "unissue"),
    "stage": ("common", "take_lock", "validate", "stage"),
    "try": ("common", "arm", "try"),
    "watch": ("common", "arm", "watch"),
    "swap": (
        *("common", "apt", "debs", "arm", "validate", "services", "sessions", "sockets"),
        *("websocket", "verify", "swap"),
    ),
    "restore": ("common", "apt", "debs", "restore"),
    "confirm": ("common", "debs", "confirm"),
    "upgrades": ("common", "debs", "upgrades"),
    "fetch_debs": ("common", "debs", "fetch_debs"),
    "register": ("common", "websocket", "register"),
    "build_asterisk": ("build_asterisk",),  # runs alone, as an unprivileged user
    "snapshot": ("snapshot",),  # runs alone, as the user `asterisk`
    "messages": ("messages",),  # likewise
    "trial_asterisk": ("sockets", "trial_asterisk"),
    "trial_kamailio": ("sockets", "trial_kamailio"),
}
# Scripts whose output grows with the number of users, or with the use of the host.
DATA_SCRIPTS = ("journal", "preview", "registrations", "release", "status", "watch")
MARK = "\x1e"  # ASCII record separator: begins a section of a script's output
NO_SUCH_PROGRAM = 127  # the status of a shell


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


Input = bytes | Iterable[bytes]  # chunks are read while the command runs, and must not raise


def chunks(data: Input) -> Iterable[bytes]:
    """The input of a command in pieces."""
    return (data,) if isinstance(data, bytes) else data


class Host(Protocol):
    """A machine; `run` is the only access to it. `login` is the account that it logs in as."""

    name: str
    login: str

    def run(
        self,
        argv: Sequence[str],
        *,
        input: Input = b"",  # noqa: A002 - as in subprocess.run
        on_line: OnLine | None = None,
        sink: Sink | None = None,
        timeout_seconds: float = 60,
        most_bytes: int = MOST_BYTES,
    ) -> Result:
        """Run argv as root, with `input` on standard input; `on_line` gets each output line.

        With a `sink`, standard output goes there, whatever its length, and the result has only
        its beginning; if the sink ends the command, the status is negative.
        Raises HostFailed if the connection is lost or the time is over (SD506), if sudo refuses
        (SD505), or if the command sends more than `most_bytes` (SD531).
        """
        ...

    def close(self) -> None:
        """End the connection and the running command, also from another thread.

        The next `run` connects again.
        """
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
    input: Input = b"",  # noqa: A002
    on_line: OnLine | None = None,
    sink: Sink | None = None,
    timeout_seconds: float = 60,
) -> Result:
    """Run `scripts/NAME.sh ARGUMENTS` on the host in one exchange; `argv` is NAME and ARGUMENTS.

    The script is sent on standard input, so the remote argv, which process lists and sudo's log
    show, stays short. `head -c` reads no byte too many: the script reads the input after it. A
    random token is sent with the script. Only marks with this token divide the output, so neither
    a file nor a program on the host can forge a section. The first mark says that the script has
    begun; what the login printed before it is dropped. Raises as Host.run, and HostFailed (SD509)
    if the host did not run the script.
    """
    name, *arguments = argv
    token = secrets.token_hex(8)
    first = f"unset token; token={token}\n" + "printf '\\036%s begin\\n' \"$token\"\n"
    script = first.encode() + script_text(name)
    reader = 'n=$1; shift; eval "$(head -c "$n")"'
    remote_argv = ["sh", "-c", reader, f"sipdeploy-{name}", str(len(script)), *arguments]
    result = host.run(
        remote_argv,
        input=script + input if isinstance(input, bytes) else chain((script,), input),
        sink=sink and Body(sink, f"\x1e{token} begin\n".encode()),
        on_line=on_line and After(partial(_tell_marked, on_line, token), f"\\x1e{token} begin"),
        timeout_seconds=timeout_seconds,
        most_bytes=MOST_DATA_BYTES if name in DATA_SCRIPTS else MOST_BYTES,
    )
    _, has_begun, output = result.stdout.partition(f"\x1e{token} begin\n".encode())
    if not has_begun:
        raise _not_run(host, result)
    return replace(result, stdout=output, token=token)


def _not_run(host: Host, result: Result) -> HostFailed:
    """SD509: the login answered something else, such as `Please login as the user ...`."""
    output = tuple(result.output.splitlines()[-3:])
    return host_failed(
        "SD509",
        f"`{host.name}` did not run the script of sipdeploy for the login `{host.login}`",
        notes=output or (f"it printed nothing, and ended with status {result.status}",),
        help_=f"if the host names another login, set `hosts.{host.name}.user` to it; otherwise it "
        f"needs a POSIX shell: on the host, `getent passwd {host.login}` shows which it has",
    )


def ask(
    host: Host,
    argv: Sequence[str],
    problem: tuple[str, ...],
    *,
    data: Input = b"",
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
