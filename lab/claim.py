"""Who uses which lab number on this machine, and what is to be swept once nobody does.

A number is claimed by an exclusive lock on its file. The kernel drops the lock when its owner
dies, however that happens: what then still carries the number belongs to nobody.
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
    """A lab number that this process owns, until `release` or its death."""

    def __init__(self, number: int, file: IO[str]) -> None:
        """Take over the locked claim file."""
        self.network = Network(number)
        self._file = file
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def directory(self) -> Path:
        """Where this lab keeps its keys and its hosts' disks."""
        return Path(self._file_text() or images.cache_directory() / "labs" / self.network.name)

    @property
    def is_clean(self) -> bool:
        """Whether nothing of an earlier lab is left under this number."""
        return not self._file_text()

    def begin(self) -> Path:
        """Make the empty directory of this lab, and post a guard that outlives this process."""
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
            start_new_session=True,  # neither Ctrl-C nor the end of a terminal reaches it
        )
        return directory

    def release(self) -> None:
        """Sweep whatever carries this number, then let others have it."""
        self.sweep()
        if self._guard:  # to the last, so that an interrupted sweep is finished too
            self._guard.kill()
            self._guard.wait()
        self._file.close()

    def sweep(self) -> None:
        """Remove the processes, network and disks of this number; go on past failures."""
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
    """Claim a number that nobody uses and whose subnet this machine does not know."""
    # Not always the lowest: what one lab has just left should not be the next one's first choice.
    start = os.getpid() % len(NUMBERS)
    for number in (*NUMBERS[start:], *NUMBERS[:start]):
        if (found := _try(number)) is None:
            continue
        found.sweep()
        if found.is_clean and not found.network.is_taken():
            return found
        found.release()
    raise LabError("every subnet of 10.77.0.0/16 is taken: `python -m lab clean` may help")


def abandoned() -> Iterator[Claim]:
    """Yield a claim for every number whose owner has died and left something."""
    for file in sorted(CLAIMS.glob("*.lock")):
        if file.read_text("utf-8") and (found := _try(int(file.stem))):
            yield found


def guard(number: int) -> None:
    """Wait until the owner of a number is gone, then sweep what it left."""
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
