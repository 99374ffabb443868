"""A phone: registrations, calls, messages, subscriptions, and its SIP trace.

It has the same interface for JsSIP and SIP.js; a method that the library does not support raises.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, TypedDict

from lab.phones.call import Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.phones.page import PhonePage
    from lab.phones.trace import SipMessage, Trace

Library = Literal["jssip", "sipjs"]


class Account(TypedDict, total=False):
    """The account of a phone, and forged values for attacks. Missing keys have the defaults."""

    password: str
    domain: str  # default: the only name that the browser resolves
    wss: str  # default: wss://DOMAIN:8443/ws
    library: Library  # default jssip
    instance: str  # a UUID that survives a page reload; default: that of the library
    contact: str  # JsSIP: a complete Contact URI; SIP.js: its user part
    expires: int  # seconds, default 600
    headers: list[str]  # added to each request outside a dialog
    from_user: str  # number in From and, in REGISTER, To
    authorization_user: str  # number in Authorization
    realm: str  # JsSIP only
    user_agent: str
    ice: list[dict[str, object]]  # RTCIceServer objects; default: none


class Phone:
    """One phone: a page with one user agent."""

    def __init__(self, page: PhonePage) -> None:
        self.number: str = page.account["number"]
        self._page = page
        self._known_calls = 0

    def reload(self, *, register: bool = True) -> None:
        """Reload the page: the socket closes, and a new user agent starts."""
        self._known_calls = 0
        self._page.reload()
        if register:
            self.register()

    def close(self) -> None:
        """Close the page, and with it the socket."""
        self._page.close()

    @property
    def connected(self) -> bool:
        """Whether the WebSocket is open."""
        return bool(self._page.do("report")["connected"])

    @property
    def registered(self) -> bool:
        """Whether the last REGISTER got 200 and its connection is still open."""
        return bool(self._page.do("report")["registered"])

    def register(self, timeout_seconds: float = 10) -> int:
        """Register; the final status, 408 after a timeout, 503 without a connection."""
        return int(self._page.wait("register", seconds=timeout_seconds))

    def unregister(self, *, everything: bool = False, timeout_seconds: float = 10) -> int:
        """Remove this contact, or with `everything` send `Contact: *`; the final status."""
        return int(self._page.wait("unregister", everything, seconds=timeout_seconds))

    def wait(self, *, registered: bool, timeout_seconds: float = 10) -> None:
        """Wait until the phone is registered, or is not; NotSeen."""
        self._page.require(
            self._page.wait("untilRegistered", registered, seconds=timeout_seconds),
            f"registered={registered} in {timeout_seconds} s",
        )

    def call(self, target: str) -> Call:
        """Call a number or a SIP URI; returns when the INVITE is sent."""
        return Call(self._page, self._page.do("call", target)["id"])

    def wait_incoming(self, timeout_seconds: float = 30) -> Call:
        """The next incoming call that no test has taken yet; NotSeen."""
        known = self._known_calls
        seen = self._page.wait("untilIncoming", known, seconds=timeout_seconds)
        self._page.require(seen, f"a call in {timeout_seconds} s")
        calls = self._page.do("report")["calls"][known:]
        call = next(call for call in calls if call["direction"] == "incoming")
        self._known_calls = call["id"] + 1
        return Call(self._page, call["id"])

    @property
    def calls(self) -> list[Call]:
        """All calls since the page was loaded, the oldest first, also those of a REFER."""
        return [Call(self._page, call["id"]) for call in self._page.do("report")["calls"]]

    def message(self, target: str, text: str) -> int:
        """Send a MESSAGE; the final status."""
        return int(self._page.do("message", target, text))

    @property
    def messages(self) -> list[SipMessage]:
        """MESSAGE requests received; their `body` is the text."""
        return list(self.trace.received().requests("MESSAGE").messages)

    def options(self, target: str) -> int:
        """Send OPTIONS; the final status."""
        return int(self._page.do("options", target))

    def subscribe(self, target: str, event: str, *, expires: int = 600) -> Subscription:
        """Subscribe to `presence`, `dialog` or `message-summary` of a target."""
        index = self._page.do("subscribe", target, event, expires)
        return Subscription(self, self._page, index=index, event=event)

    def notifications(self, event: str) -> list[SipMessage]:
        """NOTIFY requests received for an event, also unsolicited ones."""
        return list(self.trace.received().notifications(event).messages)

    @property
    def trace(self) -> Trace:
        """Every SIP message sent and received, also from before a reload."""
        return self._page.trace

    def wait_trace(
        self, select: Callable[[Trace], Trace], *, timeout_seconds: float = 10
    ) -> SipMessage:
        """Wait until `select` finds a message in the trace, and return the first; NotSeen.

        `phone.wait_trace(lambda t: t.received().requests("BYE"))`
        """
        end = time.monotonic() + timeout_seconds
        while True:
            count = len(self._page.do("trace", 0))
            if selected := select(self.trace):
                return selected[0]
            left = end - time.monotonic()
            self._page.require(left > 0, f"the message in {timeout_seconds} s")
            self._page.wait("untilMessages", count, seconds=left)

    def rewrite(self, pattern: str, replacement: str) -> None:
        """Rewrite all further messages, for requests that no library sends.

        `pattern` is a JavaScript regular expression with the flags g and m; `replacement` may use
        its groups (`$1`).
        """
        self._page.do("rewrite", pattern, replacement)

    def send_raw(self, text: str) -> None:
        """Send a SIP message unchanged; the replies are in the trace."""
        self._page.do("sendRaw", text)

    @property
    def log(self) -> list[str]:
        """The events of the page, the oldest first, followed by the console of the browser."""
        return self._page.log

    def dump(self) -> str:
        """Log and trace for the message of a failure: only first lines, without passwords."""
        return self._page.dump()


class Subscription:
    """A subscription of a phone."""

    def __init__(self, phone: Phone, page: PhonePage, *, index: int, event: str) -> None:
        self.event = event
        self._phone = phone
        self._page = page
        self._index = index

    def wait(self, timeout_seconds: float = 10) -> SipMessage:
        """Wait for a NOTIFY of this event, and return the newest; NotSeen."""
        self._phone.wait_trace(
            lambda trace: trace.received().notifications(self.event),
            timeout_seconds=timeout_seconds,
        )
        return self._phone.notifications(self.event)[-1]

    @property
    def status(self) -> int | None:
        """The last answer to a SUBSCRIBE of this phone."""
        answers = self._phone.trace.received().responses("SUBSCRIBE")
        return answers[-1].status if answers else None

    def end(self) -> None:
        """Unsubscribe."""
        self._page.do("unsubscribe", self._index)
