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
    chunks,
    host_failed,
    sent_too_much,
    title_of,
)
from sipdeploy.host.incoming import MOST_BYTES, Intake, OnLine, Sink
from sipdeploy.host.sudo import Call, Sudo
from sipdeploy.host.sudo.password import SudoPassword

GRACE_SECONDS = 2.0  # between SIGTERM and SIGKILL
POLL_SECONDS = 0.05
KILL_SECONDS = 10
AGAIN_SECONDS = 0.5  # between one SIGKILL and the next


class LocalHost:
    """The machine that sipdeploy runs on."""

    def __init__(self, name: str, password: SudoPassword | None = None) -> None:
        self.name = name
        self.login = os.environ.get("USER", str(os.geteuid()))
        self._sudo = Sudo(name, self.login, password) if os.geteuid() != 0 else None
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

        def exchange(call: Call) -> tuple[Result, bool]:
            """Run one command; whether the sink ended it."""
            intake = Intake(on_line, most_bytes, sink, on_error=call.on_error)
            result = self._exchange(argv, call, intake, timeout_seconds)
            return result, intake.is_ended

        if self._sudo is not None:
            return self._sudo.run(argv, input, exchange, has_shell=False)
        return exchange(Call(argv=argv, input=input))[0]

    def _exchange(
        self, argv: Sequence[str], call: Call, intake: Intake, timeout_seconds: float
    ) -> Result:
        try:
            child = _Child(call.argv, self._sudo)
        except FileNotFoundError as missing:
            return Result(status=NO_SUCH_PROGRAM, stderr=str(missing).encode())
        self._running.add(child)
        intake.stop = child.end
        try:
            result = child.exchange(call.input, intake, timeout_seconds)
        finally:
            self._running.discard(child)
        if intake.is_over:
            raise sent_too_much(self.name, argv, intake.most_bytes)
        if intake.is_ended:
            return Result(status=-1)
        if child.is_late:
            raise host_failed(
                "SD506",
                f"`{title_of(argv)}` did not end on `{self.name}` within {timeout_seconds:g} s",
            )
        return result

    def close(self) -> None:
        """End the running commands."""
        for child in tuple(self._running):
            child.end()


class _Child:
    """A command in a session of its own, so that Ctrl-C reaches it only through `end`."""

    def __init__(self, argv: Sequence[str], sudo: Sudo | None) -> None:
        self._sudo = sudo
        self._process = subprocess.Popen(  # noqa: S603 - argv is ours, no shell reads it
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._sessions = {self._process.pid}  # of the command and of its children, also dead ones
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
        """End the command and its children: SIGTERM, which lets scripts clean up, then SIGKILL.

        SIGTERM is sent once, because a script cleans up by processes that it starts then. A
        process may start another one between the look at its family and the signal: so SIGKILL is
        sent until nobody is left, and a session is remembered after its leader has died.
        """
        try:
            deadline = time.monotonic() + GRACE_SECONDS
            _signal(_family(self._sessions), signal.SIGTERM, self._sudo)
            while _family(self._sessions) and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
        finally:
            deadline = time.monotonic() + KILL_SECONDS
            due = 0.0
            while (family := _family(self._sessions)) and time.monotonic() < deadline:
                if time.monotonic() >= due:  # sudo logs each attempt, so not at each look
                    _signal(family, signal.SIGKILL, self._sudo)
                    due = time.monotonic() + AGAIN_SECONDS
                time.sleep(POLL_SECONDS)
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


def _family(sessions: set[int]) -> set[int]:
    """The processes of these sessions, and all their children; their sessions join `sessions`.

    sudo starts a session for root's command. Dead processes that nobody has reaped do not count.
    """
    rows = list(_processes())
    family: set[int] = set()
    while True:
        more = {pid for pid, parent, session in rows if session in sessions or parent in family}
        if more <= family:
            return family
        family |= more
        sessions |= {session for pid, _, session in rows if pid in family}


def _processes() -> Iterator[tuple[int, int, int]]:
    """Process, parent and session of every living process; see proc_pid_stat(5)."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid, _, rest = path.read_text("utf-8", errors="replace").partition(" (")
            state, parent, _, session = rest.rpartition(") ")[2].split()[:4]
            if state not in "ZX":
                yield int(pid), int(parent), int(session)


def _signal(processes: set[int], number: signal.Signals, sudo: Sudo | None) -> None:
    """Send a signal; with sudo to the processes of root."""
    foreign = []
    for pid in processes:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
        except PermissionError:
            foreign.append(str(pid))
    if foreign and sudo:
        kill = f'kill -s {number.name.removeprefix("SIG")} "$@"'
        call = sudo.quiet_call(["sh", "-c", kill, "sipdeploy-kill", *foreign])
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(  # noqa: S603 - no shell reads the numbers
                call.argv,
                capture_output=True,
                input=b"".join(chunks(call.input)),
                start_new_session=True,
                timeout=KILL_SECONDS,
                check=False,
            )
