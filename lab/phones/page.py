"""One phone's page in Chromium: loads it, calls into it, keeps its trace and log.

Knows no SIP; `Phone` and `Call` say what the calls mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from playwright.async_api import Error as PlaywrightError

from lab.phones.trace import Trace, trace_of

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page

    from lab.phones.driver import Driver

_CONNECT_SECONDS = 5.0
_ACT_SECONDS = 20.0  # for what should be done at once, on a busy machine


class NotSeen(AssertionError):  # noqa: N818 - says what it is: a wait that saw nothing
    """What a test waited for did not happen in its time; the message ends with the phone's log."""


class PhonePage:
    """A page with one user agent, in a context of its own."""

    def __init__(
        self, driver: Driver, context: BrowserContext, *, account: dict[str, Any]
    ) -> None:
        self.account = account
        self._driver = driver
        self._earlier: list[dict[str, Any]] = []  # messages from before a reload
        self._earlier_log: list[dict[str, Any]] = []
        self._console: list[str] = []
        self._page = driver.run(self._new(context), _ACT_SECONDS)

    def open(self, address: str) -> None:
        """Load the page and start the user agent."""
        self._driver.run(self._page.goto(address), _ACT_SECONDS)
        self.wait("start", self.account, seconds=_CONNECT_SECONDS)

    def reload(self) -> None:
        """Load it anew; what was recorded is kept."""
        self._keep()
        self._driver.run(self._page.reload(), _ACT_SECONDS)
        self.wait("start", self.account, seconds=_CONNECT_SECONDS)

    def close(self) -> None:
        """Close page and context; what was recorded is kept."""
        self._keep()
        self._driver.run(self._page.context.close(), _ACT_SECONDS)

    def do(self, act: str, *arguments: Any, within: float = 0.0) -> Any:
        """Call one method of the page's `phone` and return what it resolves to.

        Raises NotSeen when it has not after `within` and some seconds more.
        """
        script = "([act, ...rest]) => globalThis.phone[act](...rest)"
        work = self._page.evaluate(script, [act, *arguments])
        try:
            return self._driver.run(work, _ACT_SECONDS + within)
        except TimeoutError as late:
            raise NotSeen(f"{self.account['number']}: {act}{arguments}: {late}") from late

    def wait(self, act: str, *arguments: Any, seconds: float) -> Any:
        """Call a method whose last argument is the time that it may take."""
        return self.do(act, *arguments, seconds * 1000, within=seconds)

    def require(self, seen: object, what: str) -> None:
        """Raise NotSeen unless `seen` is true."""
        if not seen:
            raise NotSeen(f"{self.account['number']}: not seen: {what}\n{self.dump()}")

    @property
    def trace(self) -> Trace:
        """Every SIP message, also from before a reload."""
        now = [] if self._page.is_closed() else self.do("trace", 0)
        return trace_of([*self._earlier, *now])

    @property
    def log(self) -> list[str]:
        """What happened in the page, with the browser's console at the end."""
        events = [*self._earlier_log, *([] if self._page.is_closed() else self.do("log"))]
        return [f"{event['at']:.3f} {event['text']}" for event in events] + self._console

    def dump(self) -> str:
        """Log and trace for a failure's message; first lines only, so no password."""
        title = f"phone {self.account['number']} ({self.account['library']})"
        try:
            return "\n".join([title, *self.log, str(self.trace)])
        except (PlaywrightError, NotSeen) as gone:
            return f"{title}: {gone}"

    async def _new(self, context: BrowserContext) -> Page:
        # in the loop as a whole: to listen is a message to the browser too
        page = await context.new_page()
        page.on("console", lambda line: self._console.append(f"console: {line.text}"))
        page.on("pageerror", lambda error: self._console.append(f"error: {error}"))
        return page

    def _keep(self) -> None:
        self._earlier += self.do("trace", 0)
        self._earlier_log += self.do("log")
