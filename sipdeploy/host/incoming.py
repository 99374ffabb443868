"""Bounds what comes from a host, and makes printable text of it; a host may be compromised.

Bytes of a host become text here and nowhere else, so the code that prints need not think of it.
"""

import re
import threading
from collections.abc import Callable

from sipdeploy.diagnostics.escapes import shown

MEBIBYTE = 1024 * 1024
MOST_BYTES = 8 * MEBIBYTE  # of both outputs of one command
MOST_DATA_BYTES = 128 * MEBIBYTE  # of an answer that grows: 100,000 users take half of it
MOST_LINES = 100_000  # told while a command runs
MOST_COLUMNS = 2000  # of a line that is told
MOST_SECONDS = 253_402_300_799  # since 1970: the end of the year 9999
OnLine = Callable[[str], None]
_WHOLE = re.compile(r"[0-9]{1,15}", re.ASCII)


def decoded(data: bytes) -> str:
    """Bytes of a host as text that can be printed; what is no UTF-8 is replaced."""
    return shown(data.decode(errors="replace").replace("\r\n", "\n"))


def whole(text: str, default: int = 0) -> int:
    """Read a whole number of at most 15 digits, or give the default."""
    text = text.strip()
    return int(text) if _WHOLE.fullmatch(text) else default


def number(text: str, default: float) -> float:
    """Read a number that can be a time, or give the default."""
    try:
        found = float(text)
    except ValueError:
        return default
    return found if 0 <= found <= MOST_SECONDS else default


class Intake:
    """Takes both outputs of a command in chunks, up to a limit, and tells the lines of the first.

    Safe from two threads, one for each output. Past the limit it keeps nothing more and calls
    `stop` once, which is to end the command.
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
        self._told = 0

    def take(self, chunk: bytes) -> bool:
        """Keep a chunk of standard output and tell every line that it ends; False: no more."""
        if not self._keep(self._output, chunk):
            return False
        if self._on_line is not None:
            *lines, rest = chunk.split(b"\n")
            for line in lines:
                self._tell(self._rest + line)
                self._rest = b""
            self._rest += rest[: max(0, MOST_COLUMNS - len(self._rest))]
        return True

    def take_error(self, chunk: bytes) -> bool:
        """Keep a chunk of standard error; False: no more."""
        return self._keep(self._errors, chunk)

    def end(self) -> tuple[bytes, bytes]:
        """Tell what is left without a line end, and give both outputs."""
        if self._rest:
            self._tell(self._rest)
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

    def _tell(self, line: bytes) -> None:
        self._told += 1
        if self._on_line is not None and self._told <= MOST_LINES:
            self._on_line(decoded(line.rstrip(b"\r"))[:MOST_COLUMNS])
