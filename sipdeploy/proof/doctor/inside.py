"""What a host says about itself, read by one script in one exchange. Parsing is pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import count
from sipdeploy.facts import Facts, os_release, read_and_more
from sipdeploy.host import host_failed
from sipdeploy.host.incoming import number, whole
from sipdeploy.operation import journal
from sipdeploy.operation.events import Event, events
from sipdeploy.plan.desired import make_query

if TYPE_CHECKING:
    from sipdeploy.host import Host
    from sipdeploy.inventory.site import Site

KAMAILIO, ASTERISK, COTURN, CERTBOT = "kamailio", "asterisk", "coturn", "certbot"
KEY = "/etc/kamailio/dialog-key.cfg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A daemon: whether its unit runs, why not, how often systemd has restarted it."""

    is_active: bool = False
    state: str = "not installed"
    result: str = ""
    restarts: int = 0
    is_stopped: bool = False  # by a signal: it has its sockets, and does nothing
    answers: bool = False  # on its console
    log: tuple[str, ...] = ()  # its last errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """The state of a host: its facts, and what the script `doctor` adds."""

    facts: Facts
    daemons: Mapping[str, Daemon]
    texts: Mapping[str, str] = field(default_factory=dict)
    edits: Mapping[str, Sequence[str]] = field(default_factory=dict)  # path -> changed lines
    events: tuple[Event, ...] = ()  # of the call log of the last day

    @property
    def clock(self) -> float:
        """The time on the host, in seconds since 1970."""
        return number(self.texts.get("clock", ""), 0.0)

    def number(self, section: str, pattern: str) -> int | None:
        """A number in the text of a section; None if there is none."""
        match = re.search(pattern, self.texts.get(section, ""), re.MULTILINE)
        return whole(match[1]) if match else None

    def lines(self, section: str) -> list[str]:
        """The lines of a section that are not empty."""
        return [line for line in self.texts.get(section, "").splitlines() if line.strip()]

    @property
    def edited(self) -> tuple[str, ...]:
        """The files that somebody has edited since the last apply, also those with secrets."""
        facts = self.facts
        return tuple(
            path
            for path, file in facts.managed.items()
            if file.digest and path in facts.files and facts.files[path].digest != file.digest
        )


def read(host: Host, site: Site, number: str = "") -> Inside:
    """Ask a host. HostFailed if it cannot be asked (SD501 to SD509, SD939)."""
    facts, answer = read_and_more(host, make_query(site), "doctor", (number,))
    if "examined" not in answer:
        raise host_failed(
            "SD939",
            f"the examination of `{host.name}` did not end",
            help_=f"on `{host.name}`: `systemctl --failed` and `df -h` show what hangs or is full",
        )
    return parse(facts, answer)


def parse(facts: Facts, answer: Mapping[str, str]) -> Inside:
    """The state of a host from the sections of the script `doctor`."""
    return Inside(
        facts=facts,
        daemons={name: _daemon(name, answer) for name in (KAMAILIO, ASTERISK, COTURN, CERTBOT)},
        texts=answer,
        edits=_edits(answer.get("edits", "")),
        events=tuple(events(journal.entries(answer.get("calls", "").splitlines()))),
    )


def _daemon(name: str, answer: Mapping[str, str]) -> Daemon:
    blocks = [os_release(block) for block in answer.get("daemons", "").split("\n\n")]
    unit = next((each for each in blocks if each.get("Id") == f"{name}.service"), {})
    rows = (line.split() for line in answer.get("processes", "").splitlines())
    states = [row[1] for row in rows if row[0] == name and row[1:]]
    said = answer.get("uptime" if name == KAMAILIO else ASTERISK, "")
    return Daemon(
        is_active=unit.get("ActiveState") in ("active", "reloading"),
        state=unit.get("SubState", "not installed"),
        result=unit.get("Result", ""),
        restarts=whole(unit.get("NRestarts", "")),
        is_stopped=any(state.startswith("T") for state in states),
        answers=bool(re.search(r"uptime:|^System uptime|^Last reload", said, re.MULTILINE)),
        log=tuple(answer.get(f"log {name}", "").splitlines()[-4:]),
    )


def _edits(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        path, tab, edit = line.partition("\t")
        if tab:
            found.setdefault(path, []).append(edit)
    return found


def pieces(edits: Mapping[str, Sequence[str]], most: int = 4) -> tuple[str, ...]:
    """The edits of files as evidence: a line for each changed line."""
    rows = [f"{path}: {' '.join(line.split())}" for path, some in edits.items() for line in some]
    left = len(rows) - most
    return (*rows[:most], *((f"and {count(left, 'more line')}",) if left > 0 else ()))
