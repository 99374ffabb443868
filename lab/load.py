"""Thousands of registered connections at once, in a few worker processes.

This module distributes users over the workers and adds up their results. It never retries,
because a failure is a result.

    async with register_many(("10.77.0.12", 8443), "sip.example.test", users) as fleet:
        assert not fleet.result.failed
        assert await fleet.open_connections() == 5000
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import sys
import time
from asyncio import sslproto
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sipdeploy.sip.phone import Phone
from sipdeploy.sip.wire import trusting_tls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

_LINE_BYTES = 16 * 2**20  # the users of one worker travel in one line
_SPARE_FILES = 200
_TLS_BUFFER_BYTES = 32 * 2**10
_CLOSE_SECONDS = 30
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of one run of registrations."""

    registered: int
    failed: tuple[tuple[str, str], ...]  # number and error
    seconds: float
    cpu_seconds: float  # of the workers: TLS handshakes, without session resumption


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How to connect. Every phone does a full TLS handshake, REGISTER, 401, REGISTER."""

    address: tuple[str, int]
    domain: str
    concurrency: int = 100  # connections that open at a time, in all workers
    workers: int = field(default_factory=lambda: min(4, os.cpu_count() or 1))
    origin: str | None = None
    sources: tuple[str, ...] = ()  # local addresses, in rotation
    expires: int = 600  # seconds; without a refresh, the connection then ends
    timeout_seconds: float = 30  # for each step of one phone


@dataclass(slots=True, eq=False)
class Fleet:
    """The registered connections, which answer pings until the context ends."""

    result: Result
    _workers: Sequence[asyncio.subprocess.Process]

    async def open_connections(self) -> int:
        """The number of connections that are still open."""
        return sum([answer["open"] for answer in await self._ask("count")])  # noqa: C419 - it awaits

    async def reconnect(self, per_second: float) -> Result:
        """Reconnect and register the closed phones, at most `per_second` of them in a second."""
        began = time.monotonic()
        answers = await self._ask(f"reconnect {per_second / len(self._workers)}")
        return _sum(answers, time.monotonic() - began)

    async def refresh(self) -> Result:
        """Register the open connections again."""
        began = time.monotonic()
        return _sum(await self._ask("refresh"), time.monotonic() - began)

    async def _ask(self, command: str) -> list[dict[str, Any]]:
        return await asyncio.gather(*(_ask(worker, command) for worker in self._workers))


@contextlib.asynccontextmanager
async def register_many(load: Load, users: Sequence[tuple[str, str]]) -> AsyncIterator[Fleet]:
    """Register all users (number, password), each over its own connection.

    The end of the context closes all connections. RuntimeError if a worker died.
    """
    shares = [users[first :: load.workers] for first in range(load.workers)]
    began = time.monotonic()
    workers = [await _spawn() for _ in shares]
    try:
        jobs = [json.dumps({"load": asdict(load), "users": share}) for share in shares]
        answers = await asyncio.gather(*map(_ask, workers, jobs))
        yield Fleet(_sum(answers, time.monotonic() - began), workers)
    finally:
        await asyncio.gather(*map(_dismiss, workers))


async def _spawn() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "lab.load"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
        limit=_LINE_BYTES,
    )


async def _ask(worker: asyncio.subprocess.Process, line: str) -> dict[str, Any]:
    if worker.stdin is None or worker.stdout is None:
        raise RuntimeError("a load worker without pipes")
    worker.stdin.write(f"{line}\n".encode())
    await worker.stdin.drain()
    if not (answer := await worker.stdout.readline()):
        raise RuntimeError("a load worker died; its reason is on stderr")
    decoded: dict[str, Any] = json.loads(answer)
    return decoded


async def _dismiss(worker: asyncio.subprocess.Process) -> None:
    """End a worker by closing its input; kill it if it does not end in time."""
    if worker.stdin is not None:
        worker.stdin.close()
    try:
        async with asyncio.timeout(_CLOSE_SECONDS + 5):
            await worker.wait()
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()


def _sum(answers: Iterable[dict[str, Any]], seconds: float) -> Result:
    answers = list(answers)
    return Result(
        registered=sum(answer["registered"] for answer in answers),
        failed=tuple((number, why) for answer in answers for number, why in answer["failed"]),
        seconds=seconds,
        cpu_seconds=sum(answer["cpu_seconds"] for answer in answers),
    )


# --- in the worker -------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Worker:
    load: Load
    phones: list[Phone]

    async def register(self, phones: Sequence[Phone], *, per_second: float = 0) -> dict[str, Any]:
        """Register phones; at most `per_second` start in a second, 0: no limit."""
        failed: list[tuple[str, str]] = []
        cpu, began = time.process_time(), time.monotonic()

        async def one(place: int, phone: Phone) -> None:
            if per_second:
                await asyncio.sleep(began + place / per_second - time.monotonic())
            if why := await self._register(phone):
                failed.append((phone.number, why))

        await self._some_at_a_time(one, phones)
        count, cpu = len(phones) - len(failed), time.process_time() - cpu
        return {"registered": count, "failed": failed, "cpu_seconds": cpu}

    async def _register(self, phone: Phone) -> str:
        """Connect if needed, and register; returns the error, or an empty text."""
        try:
            if phone.is_closed:
                await phone.connect()
            reply = await phone.register(expires=self.load.expires)
        except (OSError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"
        return "" if reply.status == 200 else f"{reply.status} {reply.reason}"  # noqa: PLR2004

    async def _some_at_a_time(
        self, action: Callable[[int, Phone], Awaitable[None]], phones: Sequence[Phone]
    ) -> None:
        queue = iter(enumerate(phones))

        async def take() -> None:
            for place, phone in queue:
                await action(place, phone)

        takers = max(1, self.load.concurrency // self.load.workers)
        await asyncio.gather(*(take() for _ in range(takers)))

    async def close(self) -> None:
        """Close all connections, within the time that the parent waits."""

        async def one(_: int, phone: Phone) -> None:
            with contextlib.suppress(OSError, TimeoutError):
                await phone.close()

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._some_at_a_time(one, self.phones)

    async def obey(self, command: str) -> dict[str, Any]:
        """Execute one command line of the parent."""
        closed = [phone for phone in self.phones if phone.is_closed]
        if command.startswith("reconnect "):
            return await self.register(closed, per_second=float(command.split()[1]))
        if command == "refresh":
            return await self.register([phone for phone in self.phones if not phone.is_closed])
        return {"open": len(self.phones) - len(closed)}


def _phones(load: Load, users: Iterable[tuple[str, str]]) -> list[Phone]:
    tls, sources = trusting_tls(), cycle(load.sources or (None,))
    return [
        Phone(
            number,
            password,
            domain=load.domain,
            address=load.address,
            origin=load.origin,
            source=next(sources),
            tls=tls,
            keep_trace=False,
            timeout_seconds=load.timeout_seconds,
        )
        for number, password in users
    ]


def _allow_files(number: int) -> None:
    """Raise RLIMIT_NOFILE to `number`; root may exceed the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, max(number, hard)))


async def _serve() -> None:
    reader = asyncio.StreamReader(limit=_LINE_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    job = json.loads(await reader.readline())
    load = Load(**job["load"] | {"address": tuple(job["load"]["address"])})
    worker = _Worker(load, _phones(load, job["users"]))
    _allow_files(len(worker.phones) + _SPARE_FILES)
    _say(await worker.register(worker.phones))
    while line := (await reader.readline()).decode().strip():
        _say(await worker.obey(line))
    await worker.close()


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    gc.set_threshold(
        100_000, 20, 100
    )  # connections live long, so frequent collections are useless
    # asyncio allocates 256 KB for each TLS connection: 1.3 GB for 5,000 idle ones.
    sslproto.SSLProtocol.max_size = _TLS_BUFFER_BYTES
    asyncio.run(_serve())
