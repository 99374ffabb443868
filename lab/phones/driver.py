"""One Playwright for the process, in a thread with its own event loop.

Every call is bounded in time. Playwright's synchronous interface cannot do that for a page's
scripts, refuses a second instance, and must not be used under another event loop.
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
    """The loop and what runs in it. `shared_driver` makes it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="phones", daemon=True)
        self._thread.start()
        self.playwright: Playwright = self.run(async_playwright().start(), _START_SECONDS)

    def run(self, work: Coroutine[None, None, _T], timeout_seconds: float) -> _T:
        """Run in the loop and wait for the result. Raises TimeoutError."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_seconds)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise TimeoutError(f"no answer from the browser in {timeout_seconds:.0f} s") from None

    def stop(self) -> None:
        """End Playwright, the loop and the thread."""
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
    """The process's driver, made for the first browser and stopped after the last."""
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
