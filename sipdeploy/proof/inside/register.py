"""The step that registers as the new users before an apply is confirmed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from sipdeploy.diagnostics import listed
from sipdeploy.facts import STATE
from sipdeploy.host import MARK, Host, ask, host_failed
from sipdeploy.host.incoming import OnLine, whole
from sipdeploy.plan.desired import Desired
from sipdeploy.proof.inside.verify import where_to_look
from sipdeploy.services.service import url_host

SECONDS = 20  # for all users; the others are skipped
SECONDS_EACH = 15
WORKERS = 8
SAMPLE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """Registers as each user over WSS and unregisters, on the host and in one exchange.

    `credentials` maps numbers to HA1, which go over standard input. If there are too many users
    for the time, the step registers a sample from the whole list and shows its size. There is
    nothing to undo.
    """

    has_undo: ClassVar[bool] = False
    desired: Desired
    credentials: Mapping[str, str] = field(repr=False)
    state: str = STATE

    @property
    def title(self) -> str:
        """`register as 1003`."""
        first, *others = self.credentials
        return f"register as {first}" + f" and {len(others)} more" * bool(others)

    def run(self, host: Host, on_line: OnLine) -> None:
        """HostFailed (SD709) names the refused users, with the replies."""
        port = next(port for port in self.desired.ports if port.key == "ports.wss")
        origin = self.desired.probe.origin if self.desired.probe else ""
        argv = (self.state, url_host(port), str(port.number), self.desired.domain)
        workers = str(min(WORKERS, len(self.credentials)))
        lines = (f"{number} {self.credentials[number]}\n" for number in spread(self.credentials))
        sections = ask(
            host,
            ("register", *argv, str(SECONDS), workers, origin),
            ("SD709", "the registrations cannot be tested"),
            data="".join(lines).encode(),
            timeout_seconds=60 + SECONDS + 2 * SECONDS_EACH,
        )
        refused = [line.split("\t") for line in sections.get("refused", "").splitlines() if line]
        if refused:
            raise host_failed(
                "SD709",
                f"{listed(row[0] for row in refused)} cannot register on `{host.name}`",
                notes=tuple(f"`{row[0]}`: {_answers(row[1:])}" for row in refused[:5]),
                help_=where_to_look(host.name),
            )
        proven, total = whole(sections.get("proved", "")), len(self.credentials)
        if not proven:
            raise host_failed("SD709", f"no user could register on `{host.name}`")
        if total > 1:
            late = f" within {SECONDS} s" * (proven < total)
            on_line(f"{MARK}step {proven} of {total} users registered{late}")

    def undo(self, host: Host) -> None:
        """Nothing: `run` has unregistered."""


def spread(numbers: Iterable[str]) -> list[str]:
    """The same numbers in an order whose beginning is a sample of the whole list."""
    everybody = list(numbers)
    step = max(1, len(everybody) // SAMPLE)
    return [number for first in range(step) for number in everybody[first::step]]


def _answers(row: list[str]) -> str:
    """The replies to the three REGISTERs: without digest, with digest, unregistering."""
    return "REGISTER was answered with " + ", ".join(status or "nothing" for status in row)
