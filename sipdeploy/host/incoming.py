"""Limits the output of a host and makes it printable, because a host may be compromised.

Only this module decodes bytes of a host, so other code may print the text as it is.
"""

import re
import threading
from collections.abc import Callable

from sipdeploy.diagnostics.escapes import shown

MEBIBYTE = 1024 * 1024
MOST_BYTES = 8 * MEBIBYTE  # of both outputs of one command
MOST_DATA_BYTES = 128 * MEBIBYTE  # of output that grows: 100,000 users take half of it
MOST_LINES = 100_000  # reported while a command runs
MOST_COLUMNS = 2000  # of a reported line
MOST_SECONDS = 253_402_300_799  # since 1970: the end of the year 9999
OnLine = Callable[[str], None]
OnError = Callable[[bytes], None]
Sink = Callable[[bytes], bool]  # takes output as it arrives; False ends the command
HEAD_BYTES = 65_536  # of an output that goes to a sink: the marks of login, sudo and script
_WHOLE = re.compile(r"[0-9]{1,15}", re.ASCII)


def decoded(data: bytes) -> str:
    """Bytes of a host as printable text; invalid UTF-8 is replaced."""
    return shown(data.decode(errors="replace").replace("\r\n", "\n"))


def whole(text: str, default: int = 0) -> int:
    """Read a whole number of at most 15 digits, or return the default."""
    text = text.strip()
    return int(text) if _WHOLE.fullmatch(text) else default


def number(text: str, default: float) -> float:
    """Read a number that is a valid time in seconds, or return the default."""
    try:
        value = float(text)
    except ValueError:
        return default
    return value if 0 <= value <= MOST_SECONDS else default


class After:
    """Passes on the lines that follow a mark, and drops those before it, such as a greeting."""

    def __init__(self, on_line: OnLine, mark: str) -> None:
        self._on_line = on_line
        self._mark = mark
        self._has_begun = False

    def __call__(self, line: str) -> None:
        """Take the next line; the greeting may lack the end of its last line."""
        if self._has_begun:
            self._on_line(line)
        self._has_begun = self._has_begun or line.endswith(self._mark)


class Body:
    """Passes the bytes that follow a mark on to a sink, and drops those before it."""

    def __init__(self, sink: Sink, mark: bytes) -> None:
        self._sink = sink
        self._mark = mark
        self._before: bytes | None = b""

    def __call__(self, chunk: bytes) -> bool:
        """Take the next bytes; False ends the command."""
        if self._before is None:
            return self._sink(chunk)
        self._before += chunk
        _, has_begun, body = self._before.partition(self._mark)
        if has_begun:
            self._before = None
            return self._sink(body) if body else True
        return len(self._before) < HEAD_BYTES


class Intake:
    """Collects both outputs of a command up to a limit, and reports the lines of stdout.

    Safe for two threads, one for each output. Above the limit it drops everything and calls `stop`
    once, which its owner sets and which must end the command. Standard output that goes to a
    `sink` has no limit here, and only its beginning is kept.
    """

    def __init__(
        self,
        on_line: OnLine | None,
        most_bytes: int,
        sink: Sink | None = None,
        *,
        on_error: OnError | None = None,
    ) -> None:
        self.is_over = False
        self.is_ended = False  # by the sink
        self.stop: Callable[[], None] = lambda: None
        self._sink = sink
        self._on_error = on_error
        self._head = HEAD_BYTES
        self._on_line = on_line
        self._left = self.most_bytes = most_bytes
        self._lock = threading.Lock()
        self._output: list[bytes] = []
        self._errors: list[bytes] = []
        self._rest = b""
        self._lines = 0

    def take(self, chunk: bytes) -> bool:
        """Add a chunk of standard output and report its complete lines; False: stop reading."""
        if self._sink is not None:
            self._output.append(chunk[: self._head])
            self._head -= len(self._output[-1])
            self.is_ended = not self._sink(chunk)
            return not self.is_ended
        if not self._keep(self._output, chunk):
            return False
        if self._on_line is not None:
            *lines, rest = chunk.split(b"\n")
            for line in lines:
                self._report(self._rest + line)
                self._rest = b""
            self._rest += rest[: max(0, MOST_COLUMNS - len(self._rest))]
        return True

    def take_error(self, chunk: bytes) -> bool:
        """Add a chunk of standard error; False: stop reading."""
        if self._on_error is not None:
            self._on_error(chunk)
        return self._keep(self._errors, chunk)

    def end(self) -> tuple[bytes, bytes]:
        """Report the last line, if it has no line end, and return both outputs."""
        if self._rest:
            self._report(self._rest)
        self._rest = b""
        return b"".join(self._output), b"".join(self._errors)

    def _keep(self, chunks: list[bytes], chunk: bytes) -> bool:
        with self._lock:
            self._left -= len(chunk)
            if self._left >= 0:
                chunks.append(chunk)
                return True
            is_first, self.is_over = not self.is_over, True
            chunks.clear()
        if is_first:
            self.stop()
        return False

    def _report(self, line: bytes) -> None:
        self._lines += 1
        if self._on_line is not None and self._lines <= MOST_LINES:
            self._on_line(decoded(line.rstrip(b"\r"))[:MOST_COLUMNS])
