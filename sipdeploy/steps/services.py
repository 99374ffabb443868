"""Services take the new files in, and are seen to answer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from sipdeploy.candidate import table
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.errors import HostFailed
from sipdeploy.facts import STATE
from sipdeploy.hosts import Host, OnLine, host_failed
from sipdeploy.plan import Plan
from sipdeploy.service import Port
from sipdeploy.steps.runner import ask, count

SERVICES_SECONDS = 420
CHECK_SECONDS = 20
HEALTH_PATH = "/healthz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Reloads, restarts, starts and enables: the least that each unit needs.

    Its undo is Swap's: services can go back only after their files.
    """

    has_undo: ClassVar[bool] = False
    plan: Plan
    state: str = STATE

    @property
    def title(self) -> str:
        """`reload asterisk, restart kamailio`."""
        done = [
            f"{unit.action} {unit.unit.removesuffix('.service')}"
            for unit in self.plan.units
            if unit.action != "none"
        ]
        return ", ".join(done) or "enable services"

    def run(self, host: Host, on_line: OnLine) -> None:
        """HostFailed tells the command that failed, what it said, and the unit's last words."""
        del on_line
        words = ("services", self.state)
        what = "the services cannot be changed"
        found = ask(host, words, ("SD523", what), timeout_seconds=SERVICES_SECONDS)
        if "failed" not in found:
            return
        command, _, said = found["failed"].partition("\n")
        lines = (*said.splitlines()[-5:], *found.get("journal", "").splitlines()[-10:])
        raise host_failed(
            "SD523",
            f"`{command}` failed on `{host.name}`",
            notes=tuple(line for line in lines if line.strip()),
            help_=f"on `{host.name}`: `journalctl -b -u asterisk -u kamailio` tells more",
        )

    def undo(self, host: Host) -> None:
        """Nothing: see the class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Waits until units are active, ports listen, and the WebSocket port answers HTTPS."""

    has_undo: ClassVar[bool] = False
    domain: str
    units: tuple[str, ...]
    ports: tuple[Port, ...]
    seconds: int = CHECK_SECONDS

    @property
    def title(self) -> str:
        """`check 4 ports`."""
        return f"check {count(len(self.ports), 'port')}"

    def run(self, host: Host, on_line: OnLine) -> None:
        """One exchange, in which the host itself waits; HostFailed tells what does not answer."""
        del on_line
        found = ask(
            host,
            ("check", str(self.seconds)),
            ("SD524", "the check cannot be run"),
            data=table(self._probes()),
            timeout_seconds=self.seconds + 40,
        )
        left = [line.split("\t") for line in found["left"].splitlines() if line.strip()]
        if left:
            raise HostFailed(list(self._problems(host, left, found)))

    def undo(self, host: Host) -> None:
        """Nothing: it changes nothing."""

    def _probes(self) -> Iterator[tuple[str, ...]]:
        for unit in self.units:
            yield "unit", unit
        for port in self.ports:
            yield "port", port.protocol, port.address, str(port.number), port.process
            if port.protocol == "tcp":
                yield "https", _reachable(port.address), str(port.number), self.domain, HEALTH_PATH

    def _problems(
        self, host: Host, left: Sequence[Sequence[str]], found: Mapping[str, str]
    ) -> Iterator[Diagnostic]:
        """One for each thing, and the last words of the units with the first one."""
        silent = {row[3] for row in left if row[0] == "port"}
        notes = tuple(
            f"{name.removeprefix('journal ')}: {line}"
            for name, text in found.items()
            if name.startswith("journal ")
            for line in text.splitlines()[-6:]
        )
        for row in left:
            if row[0] == "https" and row[2] in silent:
                continue  # follows from the port
            yield self._told(host, row, notes)
            notes = ()

    def _told(self, host: Host, row: Sequence[str], notes: tuple[str, ...]) -> Diagnostic:
        if row[0] == "unit":
            what = f"`{row[1]}` does not stay up"
        elif row[0] == "port":
            what = f"{row[4]} does not listen on {row[1]} port {row[3]}"
        else:
            what = f"https://{row[1]}:{row[2]}{row[4]} does not answer with 200"
        return Diagnostic(
            code="SD524",
            severity="error",
            message=f"{what} on `{host.name}` within {self.seconds} s",
            notes=notes,
            help=f"on `{host.name}`: `journalctl -b -u asterisk -u kamailio` tells more",
        )


def _reachable(address: str) -> str:
    return "127.0.0.1" if address in ("0.0.0.0", "*") else address  # noqa: S104 - read, not bound
