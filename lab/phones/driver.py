"""One Playwright for the process, in a thread with its own event loop.

Every call has a time limit. The synchronous interface of Playwright has none for the scripts of a
page, allows only one instance, and does not work inside another event loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar

from playwright.async_api import async_playwright

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from playwright.async_api import Playwright

_T = TypeVar("_T")
_START_SECONDS = 60


class Driver:
    """The event loop and its thread; `shared_driver` creates it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="phones", daemon=True)
        self._thread.start()
        self.playwright: Playwright = self.run(async_playwright().start(), _START_SECONDS)

    def run(self, work: Coroutine[None, None, _T], timeout_seconds: float) -> _T:
        """Run a coroutine in the loop and wait for its result; TimeoutError."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_seconds)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise TimeoutError(f"no answer from the browser in {timeout_seconds:.0f} s") from None

    def stop(self) -> None:
        """Stop Playwright, the loop and the thread."""
        try:
            self.run(self.playwright.stop(), _START_SECONDS)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


_lock = threading.Lock()
_shared: list[Driver] = []  # one entry for each user; all the same driver


@contextlib.contextmanager
def shared_driver() -> Iterator[Driver]:
    """The driver of the process, started for the first browser and stopped after the last."""
    with _lock:
        driver = _shared[0] if _shared else Driver()
        _shared.append(driver)
    try:
        yield driver
    finally:
        with _lock:
            _shared.pop()
            if not _shared:
                driver.stop()
