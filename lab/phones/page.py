"""The page of a phone in a browser: loads it, calls its methods, keeps its trace and log.

`Phone` and `Call` give the methods their meaning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from playwright.async_api import Error as PlaywrightError

from lab.phones.trace import Trace, trace_of

if TYPE_CHECKING:
    from playwright.async_api import Page

    from lab.phones.driver import Driver

_CONNECT_SECONDS = 5.0
_ACT_SECONDS = 20.0  # for immediate actions, on a busy machine
_STARTS = 5
NETWORK_CHANGED = (
    "ERR_NETWORK_CHANGED"  # a test of another host changed interfaces of this machine
)


class NotSeen(AssertionError):  # noqa: N818 - the name says what happened
    """An expected event did not happen in time; the message ends with the log of the phone."""


class PhonePage:
    """A page with one user agent; it is the only one of its browser context."""

    def __init__(self, driver: Driver, page: Page, *, account: dict[str, Any]) -> None:
        self.account = account
        self._driver = driver
        self._earlier: list[dict[str, Any]] = []  # messages from before a reload
        self._earlier_log: list[dict[str, Any]] = []
        self._console: list[str] = []
        self._page = page
        driver.run(self._listen(), _ACT_SECONDS)

    def open(self, address: str) -> None:
        """Load the page and start the user agent.

        It starts again if `NETWORK_CHANGED` has cut its connection.
        """
        for _ in range(_STARTS):
            self._driver.run(self._page.goto(address), _ACT_SECONDS)
            self.wait("start", self.account, seconds=_CONNECT_SECONDS)
            is_changed = any(NETWORK_CHANGED in line for line in self._console)
            if self.do("report")["connected"] or not is_changed:
                return
            self._console.clear()

    def reload(self) -> None:
        """Load it anew; what was recorded is kept."""
        self._keep()
        self._driver.run(self._page.reload(), _ACT_SECONDS)
        self.wait("start", self.account, seconds=_CONNECT_SECONDS)

    def close(self) -> None:
        """Close page and context; keeps trace and log."""
        self._keep()
        self._driver.run(self._page.context.close(), _ACT_SECONDS)

    def do(self, method: str, *arguments: Any, within: float = 0.0) -> Any:
        """Call a method of `phone` in the page, and return its resolved value.

        NotSeen if it does not resolve within `within` and a reserve, in seconds.
        """
        script = "([method, ...rest]) => globalThis.phone[method](...rest)"
        work = self._page.evaluate(script, [method, *arguments])
        try:
            return self._driver.run(work, _ACT_SECONDS + within)
        except TimeoutError as late:
            raise NotSeen(f"{self.account['number']}: {method}{arguments}: {late}") from late

    def wait(self, method: str, *arguments: Any, seconds: float) -> Any:
        """Call a method whose last argument is its timeout in milliseconds."""
        return self.do(method, *arguments, seconds * 1000, within=seconds)

    def require(self, seen: object, what: str) -> None:
        """NotSeen, unless `seen` is true."""
        if not seen:
            raise NotSeen(f"{self.account['number']}: not seen: {what}\n{self.dump()}")

    @property
    def trace(self) -> Trace:
        """Every SIP message, also from before a reload."""
        now = [] if self._page.is_closed() else self.do("trace", 0)
        return trace_of([*self._earlier, *now])

    @property
    def log(self) -> list[str]:
        """The events of the page, followed by the console of the browser."""
        events = [*self._earlier_log, *([] if self._page.is_closed() else self.do("log"))]
        return [f"{event['at']:.3f} {event['text']}" for event in events] + self._console

    def dump(self) -> str:
        """Log and trace for the message of a failure: only first lines, without passwords."""
        title = f"phone {self.account['number']} ({self.account['library']})"
        try:
            return "\n".join([title, *self.log, str(self.trace)])
        except (PlaywrightError, NotSeen) as gone:
            return f"{title}: {gone}"

    async def _listen(self) -> None:
        # in the loop, because adding a listener also sends a message to the browser
        self._page.on("console", lambda line: self._console.append(f"console: {line.text}"))
        self._page.on("pageerror", lambda error: self._console.append(f"error: {error}"))

    def _keep(self) -> None:
        self._earlier += self.do("trace", 0)
        self._earlier_log += self.do("log")
