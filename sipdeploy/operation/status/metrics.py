"""Hosts as metrics, in the text format of Prometheus. Pure.

A figure that a host has not told is absent, never zero.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from sipdeploy.operation.status import traffic

if TYPE_CHECKING:
    from sipdeploy.operation.status.state import State
    from sipdeploy.operation.status.values import Status, Verdict

Sample = tuple[Mapping[str, str], float]
CODES: Mapping[Verdict, int] = {"fine": 0, "look": 1, "broken": 2, "unknown": 3}


def as_prometheus(statuses: Sequence[Status], now: float) -> str:
    """The metrics of hosts; `now` is the clock of this machine, in seconds since 1970."""
    lines: list[str] = []
    for name, (text, samples) in METRICS.items():
        rows = [
            f"{name}{_labels({'host': status.host, **labels})} {_number(value)}"
            for status in statuses
            for labels, value in samples(status, now)
        ]
        if rows:
            lines += (f"# HELP {name} {text}", f"# TYPE {name} gauge", *rows)
    return "\n".join(lines)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.3f}"


def _labels(labels: Mapping[str, str]) -> str:
    pairs = (f'{key}="{_escaped(value)}"' for key, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


Samples = Callable[["Status", float], Iterator[Sample]]


def _one(read: Callable[[State], float | None]) -> Samples:
    """One sample of a host, unless it has not told it."""

    def samples(status: Status, now: float) -> Iterator[Sample]:
        del now
        value = read(status.state) if status.state else None
        if value is not None:
            yield {}, value

    return samples


def _each(read: Callable[[State], Iterator[Sample]]) -> Samples:
    """Several samples of a host."""

    def samples(status: Status, now: float) -> Iterator[Sample]:
        del now
        if status.state:
            yield from read(status.state)

    return samples


def _up(status: Status, now: float) -> Iterator[Sample]:
    del now
    yield {}, int(status.state is not None)


def _asked(status: Status, now: float) -> Iterator[Sample]:
    del status
    yield {}, now


def _verdicts(status: Status, now: float) -> Iterator[Sample]:
    del now
    for value in status.values:
        yield {"value": value.name}, CODES[value.verdict]


def _units(state: State) -> Iterator[Sample]:
    for name, unit in (state.units or {}).items():
        yield {"unit": name}, int(unit.active in ("active", "reloading"))


def _answers(state: State) -> Iterator[Sample]:
    for name, daemon in state.daemons.items():
        yield {"daemon": name}, int(daemon.answers)


def _calls(state: State) -> Iterator[Sample]:
    if state.calls:
        yield {"state": "up"}, state.calls.up
        yield {"state": "ringing"}, state.calls.ringing


def _hour(state: State) -> Iterator[Sample]:
    if state.traffic:
        hour = traffic.summary(state.traffic)
        yield {"result": "answered"}, hour.answered
        yield {"result": "unanswered"}, hour.unanswered
        yield {"result": "failed"}, hour.failed


def _sizes(state: State) -> Iterator[Sample]:
    for disk in state.disks or ():
        yield {"mount": disk.mount}, disk.size


def _room(state: State) -> Iterator[Sample]:
    for disk in state.disks or ():
        yield {"mount": disk.mount}, disk.free


def _refusals(state: State) -> float | None:
    return traffic.summary(state.traffic).refusals if state.traffic else None


def _release_time(state: State) -> float | None:
    try:
        return dt.datetime.fromisoformat(state.release.when).timestamp() if state.release else None
    except ValueError:
        return None


def _updates(state: State) -> Iterator[Sample]:
    for name, package in (state.packages or {}).items():
        yield {"package": name}, int(package.is_newer and package.is_security)


METRICS: Mapping[str, tuple[str, Samples]] = {
    "sipdeploy_host_up": ("Whether the host told its state.", _up),
    "sipdeploy_status_timestamp_seconds": ("Unix time of this status.", _asked),
    "sipdeploy_value_verdict": ("0 fine, 1 needs a look, 2 broken, 3 not known.", _verdicts),
    "sipdeploy_release": (
        "Number of the release.",
        _one(lambda state: state.release.number if state.release else None),
    ),
    "sipdeploy_release_timestamp_seconds": ("Unix time of the release.", _one(_release_time)),
    "sipdeploy_unit_active": ("Whether systemd says that a unit is active.", _each(_units)),
    "sipdeploy_daemon_answers": ("Whether a daemon answers on its console.", _each(_answers)),
    "sipdeploy_security_update": (
        "Whether the archive has a security update of a package.",
        _each(_updates),
    ),
    "sipdeploy_certificate_expiry_timestamp_seconds": (
        "Unix time when the certificate expires.",
        _one(lambda s: s.certificate.not_after.timestamp() if s.certificate else None),
    ),
    "sipdeploy_phones": (
        "Registered phones, without those of a proof.",
        _one(lambda state: state.phones.phones if state.phones else None),
    ),
    "sipdeploy_registered_users": (
        "Users with a registered phone.",
        _one(lambda state: state.phones.users if state.phones else None),
    ),
    "sipdeploy_users": ("Users of the release.", _one(lambda state: state.users)),
    "sipdeploy_networks": (
        "Networks (IPv4 /24, IPv6 /48) that phones are connected from.",
        _one(lambda state: state.networks),
    ),
    "sipdeploy_calls": ("Calls of this moment.", _each(_calls)),
    "sipdeploy_last_hour_calls": ("Calls that ended in the last hour.", _each(_hour)),
    "sipdeploy_last_hour_refusals": ("Messages refused in the last hour.", _one(_refusals)),
    "sipdeploy_shared_memory_used_bytes": (
        "Shared memory that Kamailio uses.",
        _one(lambda state: state.memory.used if state.memory else None),
    ),
    "sipdeploy_shared_memory_limit_bytes": (
        "Shared memory that Kamailio has.",
        _one(lambda state: state.memory.limit if state.memory else None),
    ),
    "sipdeploy_connections": (
        "Open connections of Kamailio.",
        _one(lambda state: state.connections.used if state.connections else None),
    ),
    "sipdeploy_connections_limit": (
        "Connections that Kamailio accepts.",
        _one(lambda state: state.connections.limit if state.connections else None),
    ),
    "sipdeploy_disk_size_bytes": ("Size of a file system.", _each(_sizes)),
    "sipdeploy_disk_free_bytes": ("Free space of a file system.", _each(_room)),
    "sipdeploy_voicemail_messages": (
        "Messages in all mailboxes.",
        _one(lambda state: state.messages),
    ),
    "sipdeploy_voicemail_bytes": (
        "Size of all messages and greetings.",
        _one(lambda state: state.voicemail_bytes),
    ),
    "sipdeploy_proof_success": (
        "Whether the last proof kept on the host succeeded.",
        _one(lambda state: int(not state.proof.failed) if state.proof else None),
    ),
    "sipdeploy_proof_timestamp_seconds": (
        "Unix time of the last proof kept on the host.",
        _one(lambda state: state.proof.began if state.proof else None),
    ),
    "sipdeploy_changed_files": (
        "Files that are not as the release wrote them.",
        _one(lambda state: len(state.changed) if state.changed is not None else None),
    ),
}
