"""Searches for leaked secrets: in the arguments of processes, in logs, in files."""

import contextlib
import os
import threading
import time
from pathlib import Path


class Arguments:
    """Reads /proc/*/cmdline of this machine, including the lab hosts, in a loop.

    `secrets` may grow meanwhile; `found` are the command lines with a secret.
    """

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self.found: set[str] = set()
        self.rounds = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        """Read new processes at once, because most end soon; read the others every second."""
        seen: set[str] = set()
        last = 0.0
        while not self._stop.wait(0.01):
            present = {name for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208 - quick
            is_whole = time.monotonic() - last > 1
            last = time.monotonic() if is_whole else last
            for number in present if is_whole else present - seen:
                self._read(number)
            seen = present
            self.rounds += is_whole

    def _read(self, number: str) -> None:
        with contextlib.suppress(OSError):
            line = Path("/proc", number, "cmdline").read_bytes()
            if any(secret.encode() in line for secret in list(self.secrets)):
                self.found.add(line.replace(b"\0", b" ").decode(errors="replace")[:200])

    def next_round(self) -> None:
        """Wait until all processes that run now have been read."""
        before = self.rounds
        while self.rounds < before + 2:
            time.sleep(0.1)


def on_host(host, secrets, places: str, *, only_readable: bool = False) -> list[str]:
    """The files of a host with one of the secrets; `only_readable`: only world-readable ones."""
    readable = "-perm -o=r" if only_readable else ""
    patterns = "".join(f"{secret}\n" for secret in secrets)
    command = (
        "cat >/run/lab-patterns; chmod 600 /run/lab-patterns;"
        f" find {places} -xdev -type f {readable} ! -name lab-patterns -print0"
        " | xargs -0 -r grep -alF -f /run/lab-patterns; rm -f /run/lab-patterns"
    )
    return host.run(command, input_bytes=patterns.encode()).stdout.split()


def in_journal(host, secrets) -> list[str]:
    """The lines of the journal with one of the secrets."""
    lines = host.run("journalctl --sync; journalctl --no-pager -o cat").stdout.splitlines()
    return [line for line in lines if any(secret in line for secret in secrets)]


def in_folder(folder: Path, secrets, besides=()) -> list[str]:
    """The files below a folder of this machine with one of the secrets."""
    patterns = [secret.encode() for secret in secrets]
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in besides)
    return [str(path) for path in files if any(each in path.read_bytes() for each in patterns)]
