"""The units of a host: whether each runs, answers, and will start again. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, Severity, count
from sipdeploy.operation.status.lengths import age
from sipdeploy.operation.status.values import Value, fine, needs, unknown
from sipdeploy.services import coturn, firewall

if TYPE_CHECKING:
    from sipdeploy.operation.status.state import State, Unit

TITLES = {"kamailio": "Kamailio", "asterisk": "Asterisk"}
PROGRAMS = {coturn.NAME: coturn.ACCOUNT}  # a service whose program has another name
WITH_CONSOLE = ("kamailio", "asterisk")
RULES = (firewall.NFTABLES, firewall.LOOPBACK_RULES)


def judge(state: State) -> Iterator[Value]:
    """A value for each unit of the release, or one that says that these are not known."""
    units = state.release.units if state.release else {}
    if not units or state.units is None:
        yield unknown("units")
        return
    for service, name in units.items():
        unit = state.units.get(name)
        yield unknown(service) if unit is None else _value(state, service, name, unit)


def _value(state: State, service: str, name: str, unit: Unit) -> Value:
    problem = _problem(state, service, name, unit)
    since = "" if unit.seconds is None else f" for {age(unit.seconds)}"
    if problem is not None:
        return needs(service, f"{_seen(state, service, unit)}{since}", problem)
    if _is_silent(state, service) is None:
        return unknown(service, f"active{since}; it could not be asked")
    what = ", answers" if service in WITH_CONSOLE or _ports(state, service) else ""
    return fine(service, f"up{since}{what}")


def _problem(state: State, service: str, name: str, unit: Unit) -> Diagnostic | None:
    """Why a unit needs a person; None if it does not."""
    host, title = state.host, TITLES.get(service, f"`{name}`")
    log = f"`journalctl -b -u {name.removesuffix('.service')}` shows why"
    severity: Severity = "error"
    if unit.active == "not installed":
        what, fix = "is not installed", f"`sipdeploy apply {host}` installs it"
    elif unit.sub == "auto-restart":
        what, fix = f"ends again and again ({unit.result})", f"on `{host}`: {log}"
    elif unit.result == "start-limit-hit":
        what = "ends at each start, and systemd tries no longer"
        fix = f"on `{host}`: {log}; then `systemctl reset-failed {name} && systemctl start {name}`"
    elif unit.active not in ("active", "reloading", "activating"):
        what = f"does not run, systemd says {_words(unit)}"
        fix = f"on `{host}`: `systemctl start {name}` starts it, {log}"
    elif _is_silent(state, service):
        what = f"is active for systemd, and {_silence(state, service)}"
        fix = f"on `{host}`: `systemctl restart {name}`, {log}"
    elif unit.active == "activating":
        what, fix, severity = "is still starting", f"on `{host}`: {log}", "warning"
    elif not unit.is_enabled:
        what, severity = "will not start when the host starts", "warning"
        fix = f"on `{host}`: `systemctl enable {name}`, or `sipdeploy apply {host}`"
    elif unit.restarts:
        what = f"ended unexpectedly, {count(unit.restarts, 'time')}; systemd has restarted it"
        fix, severity = (
            f"on `{host}`: {log}; `systemctl reset-failed {name}` forgets it",
            "warning",
        )
    else:
        return None
    return Diagnostic("SD733", f"{title} on `{host}` {what}", severity=severity, help=fix)


def _words(unit: Unit) -> str:
    return unit.active + (f" ({unit.result})" if unit.result not in ("", "success") else "")


def _seen(state: State, service: str, unit: Unit) -> str:
    """A unit with a problem in a few words."""
    if unit.sub == "auto-restart" or unit.active not in ("active", "reloading"):
        return _words(unit) if unit.sub != "auto-restart" else f"restarting ({unit.result})"
    if _is_silent(state, service):
        begin = "" if service == firewall.NAME else "stuck: "
        return f"{begin}{_silence(state, service)}; active"
    if not unit.is_enabled:
        return "will not start with the host; up"
    return f"restarted by systemd {count(unit.restarts, 'time')}; up"


def _silence(state: State, service: str) -> str:
    """What does not answer."""
    daemon = state.daemons.get(service)
    if service in WITH_CONSOLE and daemon is not None and not daemon.answers:
        return "its console does not answer"
    if service == firewall.NAME:
        return "its rules are gone"
    silent = [port for port, answers in _ports(state, service).items() if answers is False]
    return f"port {', '.join(silent)} serves no TLS"


def _is_silent(state: State, service: str) -> bool | None:
    """Whether an active service does not answer; None if a part of it could not be asked."""
    if service == firewall.NAME:
        has_rules = state.release is not None and bool(state.release.paths & {*RULES})
        if not has_rules:
            return False
        return None if state.has_firewall_table is None else not state.has_firewall_table
    answers = [*_ports(state, service).values()]
    if service in WITH_CONSOLE:
        daemon = state.daemons.get(service)
        answers.append(daemon.answers if daemon else None)
    if False in answers:
        return True
    return None if None in answers else False


def _ports(state: State, service: str) -> dict[str, bool | None]:
    """The TLS ports of a service, and whether each has answered; None if it was not asked."""
    program = PROGRAMS.get(service, service)
    ports = state.release.tls if state.release else ()
    return {
        key.split()[1]: state.served[key] is not None if key in state.served else None
        for key in ports
        if key.split()[0] == program
    }
