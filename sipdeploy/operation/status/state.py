"""The state of a running host, read by one script in one exchange and parsed by pure functions.

Everything that a host may fail to tell is None if it was not told; `status` judges it. The host
says itself what belongs to it: its release names its units and ports.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sipdeploy.diagnostics.escapes import shown_line
from sipdeploy.facts import (
    STATE,
    SelfRollback,
    os_release,
    parse_candidates,
    parse_installed,
    parse_lists_age,
    parse_outcome,
)
from sipdeploy.host import Host, host_failed, run_script, sections
from sipdeploy.host.incoming import number, whole
from sipdeploy.operation import events, journal
from sipdeploy.operation.events import Event
from sipdeploy.services import certificates
from sipdeploy.services.certificates import Certificate

READ_SECONDS = 120
MOST_LINES = 20_000  # of the call log: more than these in an hour are not read
MICROSECONDS = 1_000_000
MOST_TEXT = 200
_PROBES = {"probes", "probes-up", "probes-ringing"}  # sections about a proof


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The release of a host: its number, time (ISO 8601), author and purpose, what it consists of.

    `units` maps each service to its unit; `tls` has `PROCESS PORT` of each port that serves TLS.
    `damage` says why the rest cannot be read.
    """

    number: int
    when: str = ""
    who: str = ""
    purpose: str = ""
    domain: str = ""
    units: Mapping[str, str] = field(default_factory=dict)
    tls: tuple[str, ...] = ()
    paths: frozenset[str] = frozenset()
    damage: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """An apply at work, or one that left something behind; `lock_seconds` is the age of a lock."""

    owner: str = ""
    purpose: str = ""
    lock_seconds: float | None = None
    is_unfinished: bool = False
    has_timer: bool = False
    rollback: SelfRollback | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A unit of systemd; `seconds` since it became active, or inactive."""

    active: str
    sub: str
    result: str = ""
    restarts: int = 0
    is_enabled: bool = True
    needs_daemon_reload: bool = False
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How much of a limit is used, in bytes or in pieces."""

    used: int
    limit: int

    @property
    def share(self) -> float:
        """The used share, 0 to 1."""
        return self.used / self.limit if self.limit else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A file system that the system needs."""

    mount: str
    size: int
    free: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Phones:
    """Registrations without those of a proof: phones, and the users that they belong to."""

    phones: int
    users: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """The calls of this moment without those of a proof."""

    up: int
    ringing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The last hour in the call log; `is_whole` is false if it had more than MOST_LINES lines."""

    events: tuple[Event, ...] = ()
    is_whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """An installed package, what the archive offers, and whether that is a security update."""

    installed: str
    candidate: str = ""
    is_security: bool = False

    @property
    def is_newer(self) -> bool:
        """Whether the archive offers another version: apt never offers an older one by itself."""
        return self.candidate not in ("", self.installed)


@dataclass(frozen=True, slots=True, kw_only=True)
class LastProof:
    """What the last `verify` or apply with a proof has left on the host."""

    began: float
    level: str
    steps: int
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Whether a daemon answers on its console, and its version, such as `6.1.5`."""

    answers: bool
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A running host at one moment, `now` by its own clock; None is what it has not told."""

    host: str
    now: float
    boot: float | None = None
    release: Release | None = None
    run: Run | None = None
    units: Mapping[str, Unit] | None = None
    has_firewall_table: bool | None = None
    daemons: Mapping[str, Answer] = field(default_factory=dict)
    served: Mapping[str, Certificate | None] = field(default_factory=dict)  # by `PROCESS PORT`
    certificate: Certificate | None = None
    renewal: str | None = None  # why the last renewal was not activated
    has_renewal_failed: bool | None = None
    packages: Mapping[str, Package] | None = None
    lists_seconds: float | None = None
    phones: Phones | None = None
    users: int | None = None
    networks: int | None = None
    calls: Calls | None = None
    traffic: Traffic | None = None
    memory: Usage | None = None
    connections: Usage | None = None
    disks: tuple[Disk, ...] | None = None
    messages: int | None = None
    voicemail_bytes: int | None = None
    proof: LastProof | None = None
    is_proof_told: bool = False
    changed: tuple[str, ...] | None = None  # files that are not as the release wrote them


def read(host: Host, state: str = STATE) -> State:
    """Read the state of a host; HostFailed if it cannot be reached or does not tell (SD739)."""
    argv = ("status", state, certificates.PATH, str(MOST_LINES))
    result = run_script(host, argv, timeout_seconds=READ_SECONDS)
    answer = sections(result.text)
    if "end" not in answer or "clock" not in answer:
        raise host_failed(
            "SD739",
            f"`{host.name}` did not tell its state to the end",
            notes=tuple(result.complaint.splitlines()[-3:]),
            help_=f"on `{host.name}` as root: `systemctl --failed` and `df -h` must answer",
        )
    return parse(host.name, answer)


def parse(host: str, answer: Mapping[str, str]) -> State:
    """Parse the sections of the script; what is missing or in an unknown format becomes None."""
    clock, _, uptime = answer.get("clock", "").partition("\n")
    now = number(clock, 0.0)
    up = number(uptime.split()[0], -1.0) if uptime.split() else -1.0
    tables = _tables(answer.get("tables", ""))
    return State(
        host=host,
        now=now,
        boot=now - up if up >= 0 else None,
        release=_release(answer),
        run=_run(answer, now),
        units=_units(answer.get("units"), up),
        has_firewall_table=_firewall(answer.get("chains")),
        daemons=_daemons(answer),
        served=_served(answer),
        certificate=certificates.parse(answer.get("certificate", "").encode(), b""),
        renewal=_renewal(answer.get("renewal")),
        has_renewal_failed=_has_failed(answer.get("certbot")),
        packages=_packages(answer),
        lists_seconds=parse_lists_age(answer["lists"], str(now)) if "lists" in answer else None,
        phones=_phones(answer),
        users=_count(answer.get("users")),
        networks=_count(answer.get("networks")),
        calls=_calls(answer, tables),
        traffic=_traffic(answer.get("log")),
        memory=_usage(answer.get("memory"), "real_used", "total"),
        connections=_usage(answer.get("connections"), "opened_connections", "max_connections"),
        disks=_disks(answer.get("disk")),
        messages=_pair(answer.get("voicemail"))[0],
        voicemail_bytes=_pair(answer.get("voicemail"))[1],
        proof=_proof(answer.get("proof", "")),
        is_proof_told="proof" in answer,
        changed=_changed(answer.get("changed")),
    )


def _count(text: str | None) -> int | None:
    text = (text or "").strip()
    return whole(text) if re.fullmatch(r"[0-9]{1,15}", text) else None


def _pair(text: str | None) -> tuple[int | None, int | None]:
    words = (text or "").split()
    return (_count(words[0]), _count(words[1])) if len(words) == 2 else (None, None)  # noqa: PLR2004


def _value(key: str, text: str) -> int | None:
    """A whole number in what kamcmd prints: `key: 12`."""
    match = re.search(rf"^\s*{key}: (\d{{1,15}})\s*$", text, re.MULTILINE)
    return int(match[1]) if match else None


def _status(text: str) -> tuple[str, int | None]:
    """The output of a program, and its status on the last line; None if that is missing."""
    body, _, last = text.rstrip("\n").rpartition("\n")
    match = re.fullmatch(r"status ([0-9]{1,3})", last)
    return (body, int(match[1])) if match else (text, None)


def _release(answer: Mapping[str, str]) -> Release | None:
    if "release" not in answer or "header" not in answer:
        return None
    kept = whole(answer["release"])
    if not kept:
        return Release(number=0)
    data = journal.mapping(answer["header"])
    desired = data.get("desired")
    if not isinstance(desired, dict):
        return Release(number=kept, damage="its release.json cannot be read")
    units = desired.get("units")
    rows = [*_list(desired, "files"), *_list(desired, "made")]
    return Release(
        number=kept,
        when=_text(data, "when"),
        who=_text(data, "who"),
        purpose=_text(data, "purpose"),
        domain=_text(desired, "domain"),
        units={shown_line(str(key)): shown_line(str(unit)) for key, unit in units.items()}
        if isinstance(units, dict)
        else {},
        tls=tuple(
            shown_line(f"{port.get('process')} {port.get('number')}")
            for port in _list(desired, "ports")
            if isinstance(port, dict) and port.get("is_tls") is True
        ),
        paths=frozenset(str(row.get("path")) for row in rows if isinstance(row, dict)),
    )


def _list(data: Mapping[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    return value if isinstance(value, list) else []


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return shown_line(value[:MOST_TEXT]) if isinstance(value, str) else ""


def _run(answer: Mapping[str, str], now: float) -> Run | None:
    needed = ("lock", "abandoned", "outcome", "timer")
    if any(name not in answer for name in needed):
        return None
    since = number(answer.get("since", "").strip(), 0.0)
    return Run(
        owner=shown_line(answer["lock"].strip())[:MOST_TEXT],
        purpose=shown_line(answer.get("purpose", "").strip())[:MOST_TEXT],
        lock_seconds=max(0.0, now - since) if since else None,
        is_unfinished=bool(answer["abandoned"].strip()),
        has_timer=bool(answer["timer"].strip()),
        rollback=parse_outcome(answer["outcome"]),
    )


def _units(text: str | None, up: float) -> Mapping[str, Unit] | None:
    if text is None:
        return None
    blocks = (os_release(block) for block in text.split("\n\n"))
    return {block["Id"]: _unit(block, up) for block in blocks if "Id" in block}


def _unit(values: Mapping[str, str], up: float) -> Unit:
    active = values.get("ActiveState", "")
    is_up = active in ("active", "reloading")
    key = "ActiveEnterTimestampMonotonic" if is_up else "InactiveEnterTimestampMonotonic"
    since = whole(values.get(key, "")) / MICROSECONDS
    return Unit(
        active="not installed" if values.get("LoadState") == "not-found" else active,
        sub=values.get("SubState", ""),
        result=values.get("Result", ""),
        restarts=whole(values.get("NRestarts", "")),
        is_enabled=values.get("UnitFileState", "").startswith("enabled"),
        needs_daemon_reload=values.get("NeedDaemonReload") == "yes",
        seconds=max(0.0, up - since) if since and up >= 0 else None,
    )


def _firewall(text: str | None) -> bool | None:
    """Whether sipdeploy's table is loaded; None if nft could not say."""
    body, status = _status(text or "")
    return None if status != 0 else "table inet sipdeploy " in body


def _daemons(answer: Mapping[str, str]) -> Mapping[str, Answer]:
    found = {}
    if "kamailio" in answer:
        body, status = _status(answer["kamailio"])
        version = re.search(r"kamailio (\d+\.\d+\.\d+)", answer.get("running-kamailio", ""))
        is_up = status == 0 and "uptime:" in body
        found["kamailio"] = Answer(answers=is_up, version=version[1] if version else "")
    if "asterisk" in answer:
        body, status = _status(answer["asterisk"])
        version = re.search(r"^Asterisk (?:\S*?)(\d+\.\d+\.\d+)", body, re.MULTILINE)
        is_up = status == 0 and "Asterisk" in body and "Unable to connect" not in body
        found["asterisk"] = Answer(answers=is_up, version=version[1] if version else "")
    return found


def _served(answer: Mapping[str, str]) -> Mapping[str, Certificate | None]:
    """The certificate that each port serves, None if it does not answer."""
    return {
        name.removeprefix("served "): certificates.parse(text.encode(), b"")
        for name, text in answer.items()
        if name.startswith("served ")
    }


def _renewal(text: str | None) -> str | None:
    """Why a renewed certificate is not in use; empty if nothing failed."""
    if text is None:
        return None
    fields = text.rstrip("\n").split("\t")
    is_bad = len(fields) == 3 and fields[1] != "served"  # noqa: PLR2004 - when, how, why
    return shown_line(fields[2])[:MOST_TEXT] if is_bad else ""


def _has_failed(text: str | None) -> bool | None:
    return None if not (text or "").strip() else (text or "").strip() == "failed"


def _packages(answer: Mapping[str, str]) -> Mapping[str, Package] | None:
    if "packages" not in answer or "policy" not in answer:
        return None
    policy = answer["policy"]
    candidates, secured = parse_candidates(policy), _secured(policy)
    return {
        name: Package(
            installed=version,
            candidate=candidates.get(name, ""),
            is_security=candidates.get(name, "") in secured.get(name, ()),
        )
        for name, version in parse_installed(answer["packages"]).items()
    }


def _secured(policy: str) -> Mapping[str, set[str]]:
    """The versions of each package that an archive of security updates offers."""
    found: dict[str, set[str]] = {}
    name = version = ""
    for line in policy.splitlines():
        if line and not line.startswith(" "):
            name = line.rstrip(":")
        elif match := re.match(r"^ (?:\*\*\*|   ) (\S+) -?\d+$", line):
            version = match[1]
        elif re.search(r"-security[/ ]", line):
            found.setdefault(name, set()).add(version)
    return found


def _tables(text: str) -> Mapping[str, int]:
    """Read `kamcmd htable.stats`: name -> entries."""
    pairs = re.findall(r"^\s*name: (\S+)\s+slots: \d+\s+all: (\d{1,15})\s", text, re.MULTILINE)
    return {name: int(entries) for name, entries in pairs}


def _phones(answer: Mapping[str, str]) -> Phones | None:
    found = re.findall(r"location[-_](users|contacts) = (\d{1,15})", answer.get("contacts", ""))
    known = dict(found)
    if "probes" not in answer or known.keys() != {"users", "contacts"}:
        return None
    probes = [whole(line) for line in answer["probes"].split()]
    return Phones(
        phones=max(0, int(known["contacts"]) - sum(probes)),
        users=max(0, int(known["users"]) - sum(count > 0 for count in probes)),
    )


def _calls(answer: Mapping[str, str], tables: Mapping[str, int]) -> Calls | None:
    """Calls by Kamailio's tables, less those of a proof."""
    if not {"calls", "ringing"} <= tables.keys() or not answer.keys() >= _PROBES:
        return None
    return Calls(
        up=max(0, tables["calls"] - whole(answer["probes-up"])),
        ringing=max(0, tables["ringing"] - whole(answer["probes-ringing"])),
    )


def _traffic(text: str | None) -> Traffic | None:
    """The last hour of the call log; None if it was not read, or the release writes none."""
    if text is None:
        return None
    lines = text.splitlines()
    if "status 0" not in lines:
        return None
    rows = [line for line in lines if not line.startswith("status ")]
    entries = (
        journal.Entry(when=0.0, unit=journal.KAMAILIO, program=journal.CALLS, text=row)
        for row in rows
    )
    return Traffic(events=tuple(events.events(entries)), is_whole=len(rows) < MOST_LINES)


def _usage(text: str | None, used: str, limit: str) -> Usage | None:
    in_use, most = _value(used, text or ""), _value(limit, text or "")
    return None if in_use is None or not most else Usage(used=in_use, limit=most)


def _disks(text: str | None) -> tuple[Disk, ...] | None:
    """Read `df -PB1`: each mounted file system once; None if `df` printed no row."""
    rows = (line.split(None, 5) for line in (text or "").splitlines())
    found = {
        row[5]: Disk(mount=row[5], size=whole(row[1]), free=whole(row[3]))
        for row in rows
        if len(row) == 6 and row[1].isdigit()  # noqa: PLR2004 - the columns of df
    }
    return tuple(found.values()) or None


def _proof(text: str) -> LastProof | None:
    data = journal.mapping(text)
    began, level, steps = data.get("began"), data.get("level"), data.get("steps")
    is_number = isinstance(began, int | float) and isinstance(steps, int)
    if not is_number or not isinstance(level, str):
        return None
    return LastProof(
        began=number(str(began), 0.0),
        level=shown_line(level)[:20],
        steps=whole(str(steps)),
        failed=tuple(shown_line(str(each))[:60] for each in _list(data, "failed")[:20]),
    )


def _changed(text: str | None) -> tuple[str, ...] | None:
    """Read `sha256sum -c --quiet`: paths whose content differs; None if it did not run."""
    body, status = _status(text or "")
    if status not in (0, 1):
        return None
    found = re.findall(r"^(/.*): FAILED(?: open or read)?$", body, re.MULTILINE)
    return None if status == 1 and not found else tuple(found)
