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


class Intake:
    """Collects both outputs of a command up to a limit, and reports the lines of stdout.

    Safe for two threads, one for each output. Above the limit it drops everything and calls `stop`
    once, which must end the command.
    """

    def __init__(self, on_line: OnLine | None, most_bytes: int, stop: Callable[[], None]) -> None:
        self.is_over = False
        self._on_line = on_line
        self._left = most_bytes
        self._stop = stop
        self._lock = threading.Lock()
        self._output: list[bytes] = []
        self._errors: list[bytes] = []
        self._rest = b""
        self._lines = 0

    def take(self, chunk: bytes) -> bool:
        """Add a chunk of standard output and report its complete lines; False: stop reading."""
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
            self._stop()
        return False

    def _report(self, line: bytes) -> None:
        self._lines += 1
        if self._on_line is not None and self._lines <= MOST_LINES:
            self._on_line(decoded(line.rstrip(b"\r"))[:MOST_COLUMNS])
