"""Claims of lab numbers on this machine, and the cleanup after a lab.

An exclusive lock on its file claims a number. The kernel releases the lock when the owner dies;
everything that still carries the number is then abandoned.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from lab import hosts, images
from lab.machine import LabError
from lab.network import NUMBERS, Network

if TYPE_CHECKING:
    from collections.abc import Iterator

CLAIMS = Path("/run/sipdeploy-lab")

_log = logging.getLogger(__name__)


class Claim:
    """A lab number that this process owns until `release` or its death."""

    def __init__(self, number: int, file: IO[str]) -> None:
        """Take over the locked claim file."""
        self.network = Network(number)
        self._file = file
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def directory(self) -> Path:
        """The directory of the keys and disks of this lab."""
        return Path(self._file_text() or images.cache_directory() / "labs" / self.network.name)

    @property
    def is_clean(self) -> bool:
        """Whether an earlier lab has left nothing under this number."""
        return not self._file_text()

    def begin(self) -> Path:
        """Create the directory of this lab, and start a guard process that outlives this one."""
        directory = self.directory
        self._file.write(str(directory))
        self._file.flush()
        directory.mkdir(parents=True, mode=0o700)
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "lab", "guard", str(self.network.number)],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # protects it from Ctrl-C and from the end of the terminal
        )
        return directory

    def release(self) -> None:
        """Remove everything under this number, and release it."""
        self.sweep()
        if self._guard:  # last, so that it finishes an interrupted sweep
            self._guard.kill()
            self._guard.wait()
        self._file.close()

    def sweep(self) -> None:
        """Remove the processes, network and disks of this number, also after failures."""
        if self.is_clean:
            return
        name, directory = self.network.name, self.directory
        with _reported():
            hosts.kill_group(hosts.group(name))
        with _reported():
            self.network.remove()
        for archives in directory.glob("*/archives"):
            images.collect_packages(archives)
        shutil.rmtree(directory, ignore_errors=True)
        for leftover in Path("/run/systemd/nspawn").glob(f"*/{name}-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        if not directory.exists() and not self.network.exists():
            self._file.truncate(0)

    def _file_text(self) -> str:
        return Path(self._file.name).read_text("utf-8")


def claim() -> Claim:
    """Claim an unused number whose subnet this machine does not route; LabError if none."""
    # Do not start with the lowest number, which another lab may have just released.
    start = os.getpid() % len(NUMBERS)
    for number in (*NUMBERS[start:], *NUMBERS[:start]):
        if (claimed := _try(number)) is None:
            continue
        claimed.sweep()
        if claimed.is_clean and not claimed.network.is_taken():
            return claimed
        claimed.release()
    raise LabError("every subnet of 10.77.0.0/16 is in use: try `python -m lab clean`")


def abandoned() -> Iterator[Claim]:
    """Yield a claim for every number whose owner died without a cleanup."""
    for file in sorted(CLAIMS.glob("*.lock")):
        if file.read_text("utf-8") and (claimed := _try(int(file.stem))):
            yield claimed


def guard(number: int) -> None:
    """Wait for the end of the owner of a number, then remove its remains."""
    Claim(number, _open(number, fcntl.LOCK_EX)).release()


def _try(number: int) -> Claim | None:
    try:
        return Claim(number, _open(number, fcntl.LOCK_EX | fcntl.LOCK_NB))
    except BlockingIOError:
        return None


def _open(number: int, operation: int) -> IO[str]:
    CLAIMS.mkdir(mode=0o755, exist_ok=True)
    file = (CLAIMS / f"{number}.lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        file.close()
        raise
    return file


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except (LabError, OSError) as failure:
        _log.warning("%s", failure)
