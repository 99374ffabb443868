"""The proof that users can register, before a host is confirmed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from sipdeploy.diagnostics import listed
from sipdeploy.facts import STATE
from sipdeploy.host import MARK, Host, ask, host_failed
from sipdeploy.host.incoming import OnLine, whole
from sipdeploy.plan.desired import Desired
from sipdeploy.proof.verify import where_to_look
from sipdeploy.services.service import url_host

SECONDS = 20  # for all of them; then who has not begun is left out
SECONDS_EACH = 15
WORKERS = 8
SAMPLE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """Registers as each of the users over WSS, and unregisters; on the host, in one exchange.

    `credentials` maps numbers to HA1, which travel on standard input. Of more than there is time
    for, those are proven that come first: they are taken from all over the list, and how many they
    were is told. There is nothing to undo.
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
        """HostFailed (SD709) names those who were refused, with what was answered."""
        port = next(port for port in self.desired.ports if port.protocol == "tcp")
        origin = self.desired.probe.origin if self.desired.probe else ""
        words = (self.state, url_host(port), str(port.number), self.desired.domain)
        workers = str(min(WORKERS, len(self.credentials)))
        lines = (f"{number} {self.credentials[number]}\n" for number in spread(self.credentials))
        found = ask(
            host,
            ("register", *words, str(SECONDS), workers, origin),
            ("SD709", "nobody can be registered"),
            data="".join(lines).encode(),
            timeout_seconds=60 + SECONDS + 2 * SECONDS_EACH,
        )
        refused = [line.split("\t") for line in found.get("refused", "").splitlines() if line]
        if refused:
            raise host_failed(
                "SD709",
                f"{listed(row[0] for row in refused)} cannot register on `{host.name}`",
                notes=tuple(f"`{row[0]}`: {_answers(row[1:])}" for row in refused[:5]),
                help_=where_to_look(host.name),
            )
        proven, total = whole(found.get("proved", "")), len(self.credentials)
        if not proven:
            raise host_failed("SD709", f"nobody could be registered on `{host.name}`")
        if total > 1:
            late = f": {SECONDS} s are up" * (proven < total)
            on_line(f"{MARK}step {proven} of {total} have registered{late}")

    def undo(self, host: Host) -> None:
        """The registrations were taken back as they were made."""


def spread(numbers: Iterable[str]) -> list[str]:
    """The same numbers in another order: those that come first are from all over the list."""
    everybody = list(numbers)
    step = max(1, len(everybody) // SAMPLE)
    return [number for first in range(step) for number in everybody[first::step]]


def _answers(row: list[str]) -> str:
    """What each REGISTER got: the first, the one with the digest, the one that takes it back."""
    return "REGISTER was answered with " + ", ".join(status or "nothing" for status in row)
