"""One side of a call: its state, its actions, its audio.

The page holds all state.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, Self

from lab.phones.sound import Spectrum, is_speech, tone_seconds

if TYPE_CHECKING:
    from lab.phones.page import PhonePage
    from lab.phones.trace import Trace

State = Literal["calling", "ringing", "answered", "ended", "failed"]
OVER: tuple[State, ...] = ("ended", "failed")


class Call:
    """One side of a call."""

    def __init__(self, page: PhonePage, index: int) -> None:
        self._page = page
        self._index = index

    @property
    def state(self) -> State:
        """calling, ringing, answered or ended; failed if it ended before the answer."""
        state: State = self._report()["state"]
        return state

    @property
    def status(self) -> int | None:
        """The last status of the INVITE that set the call up, as seen on the wire: 200 once
        answered, 486 when busy, 487 when cancelled. None before the first answer.
        """
        status: int | None = self._report()["status"]
        return status

    @property
    def cause(self) -> str:
        """The side that ended the call and the reason, as the library names them."""
        return str(self._report()["cause"])

    @property
    def peer(self) -> str:
        """The number of the other side: From of an incoming call, To of an outgoing one."""
        return str(self._report()["peer"])

    @property
    def call_id(self) -> str:
        """The Call-ID on this side."""
        return str(self._report()["callId"])

    @property
    def trace(self) -> Trace:
        """The messages of this call."""
        return self._page.trace.of_call(self.call_id)

    @property
    def acknowledged(self) -> bool:
        """Whether the ACK was sent (caller) or arrived (callee)."""
        return len(self.trace.requests("ACK")) > 0

    def wait(self, *states: State, timeout_seconds: float = 15) -> Self:
        """Wait until the call is in one of `states`: `call.wait("answered")`; NotSeen."""
        seen = self._wait("untilState", list(states), seconds=timeout_seconds)
        desired = f"{' or '.join(states)} in {timeout_seconds} s"
        self._page.require(seen, f"call {self._index} {desired}; it is {self._report()}")
        return self

    def wait_over(self, timeout_seconds: float = 15) -> Self:
        """Wait until the call is ended or failed. Raises NotSeen."""
        return self.wait(*OVER, timeout_seconds=timeout_seconds)

    def answer(self) -> Self:
        """Answer, and wait until it is answered."""
        self._do("answer")
        return self.wait("answered")

    def pick_up(self) -> None:
        """Answer without waiting: another phone may answer in the same moment."""
        self._do("pickUp")

    def reject(self, status: int = 486) -> None:
        """Refuse with a status: 486 busy, 603 declined, 480."""
        self._do("reject", status)

    def hang_up(self) -> None:
        """End the call with BYE, CANCEL or a refusal, depending on its state."""
        self._do("hangUp")

    def cancel(self) -> None:
        """Cancel a call before its answer."""
        self._do("hangUp")

    def hold(self, timeout_seconds: float = 10) -> bool:
        """Re-INVITE with `sendonly`; whether it was accepted."""
        return bool(self._wait("hold", True, seconds=timeout_seconds))

    def unhold(self, timeout_seconds: float = 10) -> bool:
        """Re-INVITE with `sendrecv`; whether it was accepted."""
        return bool(self._wait("hold", False, seconds=timeout_seconds))

    def update(self, timeout_seconds: float = 10) -> bool:
        """Renegotiate by UPDATE (JsSIP only); whether it was accepted."""
        return bool(self._wait("update", seconds=timeout_seconds))

    def refer(self, target: str) -> int:
        """Blind transfer: send REFER; its final status. Progress comes as NOTIFY in the trace."""
        return int(self._do("refer", target))

    def transfer(self, other: Self) -> int:
        """Attended transfer to the other side of another call (SIP.js only); status of REFER."""
        return int(self._do("transfer", other._index))

    def dtmf(self, digits: str) -> None:
        """Press keys (RFC 4733)."""
        self._do("dtmf", digits)

    def listen(self, seconds: float = 1.0) -> Spectrum:
        """The mean spectrum of the incoming audio during the next `seconds`."""
        measured = self._wait("listen", seconds=seconds)
        return Spectrum.of(measured) if measured else Spectrum.silence()

    def hears(self, hz: float, timeout_seconds: float = 5) -> bool:
        """Whether `hz` arrives within the time, measured over 1 s. For the opposite, measure once:
        `not call.listen().hears(hz)`.
        """
        end = time.monotonic() + timeout_seconds
        while not self.listen(1.0).hears(hz):
            if time.monotonic() > end or self.state in OVER:
                return False
        return True

    @property
    def heard(self) -> list[Spectrum]:
        """The spectra of the incoming audio, ten a second; also after the end of the call."""
        return [Spectrum.of(frame) for frame in self._do("heard")]

    def heard_seconds(self, hz: float) -> float:
        """The seconds during which `hz` was heard in the call."""
        return tone_seconds(self.heard, hz)

    def heard_speech(self) -> bool:
        """Whether someone spoke in the call so far."""
        return is_speech(self.heard)

    def media_path(self) -> tuple[str, str] | None:
        """The selected local and remote `address:port` of the media; None before the media."""
        path = self._do("mediaPath")
        return (path["local"], path["remote"]) if path else None

    def media_kinds(self) -> tuple[str, str] | None:
        """The kinds of these addresses: host, srflx, prflx, relay/udp, relay/tcp or relay/tls."""
        path = self._do("mediaPath")
        return (path["kinds"][0], path["kinds"][1]) if path else None

    def _report(self) -> dict[str, Any]:
        report: dict[str, Any] = self._page.do("report")["calls"][self._index]
        return report

    def _do(self, method: str, *arguments: Any) -> Any:
        return self._page.do(method, self._index, *arguments)

    def _wait(self, method: str, *arguments: Any, seconds: float) -> Any:
        return self._page.wait(method, self._index, *arguments, seconds=seconds)
