"""The machine that sipdeploy runs on: `address: local`.

A command that must end, because of Ctrl-C or its time limit, ends with all its children, also with
those of root that sudo started.
"""

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from sipdeploy.host import (
    CHUNK_BYTES,
    NO_SUCH_PROGRAM,
    Input,
    Result,
    Sudo,
    chunks,
    host_failed,
    sent_too_much,
    title_of,
)
from sipdeploy.host.incoming import MOST_BYTES, Intake, OnLine, Sink

GRACE_SECONDS = 2.0  # between SIGTERM and SIGKILL
POLL_SECONDS = 0.05
KILL_SECONDS = 10


class LocalHost:
    """The machine that sipdeploy runs on."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.login = os.environ.get("USER", str(os.geteuid()))
        self._needs_sudo = os.geteuid() != 0
        self._running: set[_Child] = set()

    def run(
        self,
        argv: Sequence[str],
        *,
        input: Input = b"",  # noqa: A002
        on_line: OnLine | None = None,
        sink: Sink | None = None,
        timeout_seconds: float = 60,
        most_bytes: int = MOST_BYTES,
    ) -> Result:
        """As Host.run, in a child process."""
        sudo = Sudo(self.name, self.login) if self._needs_sudo else None
        try:
            child = _Child(sudo.argv(argv) if sudo else argv)
        except FileNotFoundError as missing:
            result = Result(status=NO_SUCH_PROGRAM, stderr=str(missing).encode())
            return sudo.checked(result, has_shell=False) if sudo else result
        self._running.add(child)
        try:
            intake = Intake(on_line, most_bytes, child.end, sink)
            result = child.exchange(input, intake, timeout_seconds)
        finally:
            self._running.discard(child)
        if intake.is_over:
            raise sent_too_much(self.name, argv, most_bytes)
        if intake.is_ended:
            return Result(status=-1)
        if child.is_late:
            raise host_failed(
                "SD506",
                f"`{title_of(argv)}` did not end on `{self.name}` within {timeout_seconds:g} s",
            )
        return sudo.checked(result, has_shell=False) if sudo else result

    def close(self) -> None:
        """End the running commands."""
        for child in tuple(self._running):
            child.end()


class _Child:
    """A command in a session of its own, so that Ctrl-C reaches it only through `end`."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - argv is ours, no shell reads it
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._ends = threading.Event()
        self.is_late = False

    def exchange(self, data: Input, intake: Intake, seconds: float) -> Result:
        """Write and read at the same time, so neither side blocks."""
        process = self._process
        assert process.stdin is not None  # noqa: S101 - all three are pipes
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        helpers = [
            threading.Thread(target=_write_all, args=(process.stdin, data), daemon=True),
            threading.Thread(
                target=self._read_all, args=(process.stderr, intake.take_error), daemon=True
            ),
        ]
        timer = threading.Timer(seconds, self._end_late)
        for helper in (*helpers, timer):
            helper.start()
        try:
            self._read_all(process.stdout, intake.take)
            if intake.is_ended:
                self.end()
            status = process.wait()
        except BaseException:
            self.end()
            raise
        finally:
            timer.cancel()
        for helper in helpers:
            helper.join()
        stdout, stderr = intake.end()
        return Result(status=status, stdout=stdout, stderr=stderr)

    def end(self) -> None:
        """End the command and its children: SIGTERM, which lets scripts clean up, then SIGKILL."""
        try:
            deadline = time.monotonic() + GRACE_SECONDS
            _signal(_family(self._process.pid), signal.SIGTERM)
            while _family(self._process.pid) and time.monotonic() < deadline:
                self._process.poll()  # reaps it, else it stays in the family
                time.sleep(POLL_SECONDS)
        finally:
            _signal(_family(self._process.pid), signal.SIGKILL)
            self._ends.set()

    def _end_late(self) -> None:
        self.is_late = True
        self.end()

    def _read_all(self, stream: IO[bytes], take: Callable[[bytes], bool]) -> None:
        """Read to the end of the stream; a daemon that survived `end` may hold it open."""
        with stream:
            while True:
                ready, *_ = select.select([stream], [], [], 0.5)
                if ready:
                    chunk = os.read(stream.fileno(), CHUNK_BYTES)
                    if not chunk or not take(chunk):
                        return
                elif self._ends.is_set():
                    return


def _write_all(stream: IO[bytes], data: Input) -> None:
    with contextlib.suppress(BrokenPipeError), stream:  # a command need not read its input
        for chunk in chunks(data):
            stream.write(chunk)


def _family(leader: int) -> set[int]:
    """The processes in the session of `leader`, and all their children, also in other sessions.

    sudo starts a session for root's command. Dead processes that nobody has reaped do not count.
    """
    rows = list(_processes())
    family: set[int] = set()
    while True:
        more = {
            pid
            for pid, parent, session in rows
            if session == leader or parent in family or session in family
        }
        if more <= family:
            return family
        family |= more


def _processes() -> Iterator[tuple[int, int, int]]:
    """Process, parent and session of every living process; see proc_pid_stat(5)."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid, _, rest = path.read_text("utf-8", errors="replace").partition(" (")
            state, parent, _, session = rest.rpartition(") ")[2].split()[:4]
            if state not in "ZX":
                yield int(pid), int(parent), int(session)


def _signal(processes: set[int], number: signal.Signals) -> None:
    """Send a signal; with sudo to the processes of root."""
    foreign = []
    for pid in processes:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
        except PermissionError:
            foreign.append(str(pid))
    if foreign:
        kill = f'kill -s {number.name.removeprefix("SIG")} "$@"'
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(  # noqa: S603 - no shell reads the numbers
                ["sudo", "-n", "--", "sh", "-c", kill, "sipdeploy-kill", *foreign],  # noqa: S607
                capture_output=True,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                timeout=KILL_SECONDS,
                check=False,
            )
