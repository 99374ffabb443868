"""The proof that users can register, before a host is confirmed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from sipdeploy.candidate import reachable
from sipdeploy.diagnostics import listed
from sipdeploy.facts import STATE
from sipdeploy.hosts import Host, OnLine, host_failed
from sipdeploy.plan.desired import Desired
from sipdeploy.steps.runner import ask
from sipdeploy.steps.verify import where_to_look

SECONDS_EACH = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """Registers as each of the users over WSS, and unregisters; on the host, in one exchange.

    `credentials` maps numbers to HA1, which travel on standard input. There is nothing to undo.
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
        del on_line
        port = next(port for port in self.desired.ports if port.protocol == "tcp")
        origin = self.desired.probe.origin if self.desired.probe else ""
        words = (self.state, reachable(port), str(port.number), self.desired.domain, origin)
        lines = (f"{number} {ha1}\n" for number, ha1 in self.credentials.items())
        found = ask(
            host,
            ("register", *words),
            ("SD709", "nobody can be registered"),
            data="".join(lines).encode(),
            timeout_seconds=60 + SECONDS_EACH * len(self.credentials),
        )
        refused = [line.split("\t") for line in found.get("refused", "").splitlines() if line]
        if refused:
            raise host_failed(
                "SD709",
                f"{listed(row[0] for row in refused)} cannot register on `{host.name}`",
                notes=tuple(f"`{row[0]}`: {_answers(row[1:])}" for row in refused[:5]),
                help_=where_to_look(host.name),
            )

    def undo(self, host: Host) -> None:
        """The registrations were taken back as they were made."""


def _answers(row: list[str]) -> str:
    """What each REGISTER got: the first, the one with the digest, the one that takes it back."""
    return "REGISTER was answered with " + ", ".join(status or "nothing" for status in row)
