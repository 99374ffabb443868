"""The rungs of a connection: the host, its name, port, certificate and WebSocket."""

from __future__ import annotations

import asyncio
import datetime as dt
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, count
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.operation.events import PhoneChange
from sipdeploy.plan import preflight
from sipdeploy.plan.preflight import firewall
from sipdeploy.proof.doctor import causes, inside
from sipdeploy.proof.doctor.causes import connections_full, crashing, down, memory_full, stuck
from sipdeploy.proof.doctor.inside import CERTBOT, KAMAILIO
from sipdeploy.proof.doctor.rung import Case, Rung, broken
from sipdeploy.proof.outside import network
from sipdeploy.proof.outside.step import StepFailed, StepSkipped
from sipdeploy.services import certificates

if TYPE_CHECKING:
    from collections.abc import Sequence

SILENT = "nothing answers"  # as `network` says that packets are lost
LOSSES = 3  # of connections after the same time, before doctor suspects a proxy
SPREAD_SECONDS = 3.0
APART_SECONDS = 1.5
RECENT_SECONDS = 1800
LEAST_SECONDS, PERIOD_SECONDS = 10, 600  # of the time limits of proxies
LATE_DAYS = 20  # before the end of a certificate, which is renewed 30 days before it
ROOM_BYTES = 20 * 1024 * 1024
LOCAL = "local"
UNASKED = "the host could not be asked"
STEPS = {step.name: step for step in network.STEPS}


# --- the host ------------------------------------------------------------------------------------


async def examine(case: Case) -> str:
    """Ask the host, in one exchange; if that fails, the climb continues from outside."""
    subject = case.subject
    try:
        host = await asyncio.to_thread(case.connect)
        case.inside = await asyncio.to_thread(inside.read, host, subject.site, case.number)
    except HostFailed as failure:
        case.unasked = tuple(failure.diagnostics)
        subject.probes = None
        subject.accounts = (case.account,) if case.account else ()
        raise StepSkipped(UNASKED) from failure
    facts = case.inside.facts
    return f"{facts.os_name}, release {facts.release}"


def never_applied(case: Case) -> Diagnostic | None:
    """Sipdeploy has not configured this host."""
    if case.facts is None or case.facts.release or case.facts.has_abandoned_run:
        return None
    return broken(
        "SD938",
        f"sipdeploy has not configured `{case.name}` yet",
        "it has no release in /var/lib/sipdeploy",
        fix=f"`sipdeploy apply {case.name}`",
    )


def clock_wrong(case: Case) -> Diagnostic | None:
    """The clock is wrong, so that nonces and certificates are too old or too new."""
    found = [*preflight.clock(case.name, case.facts)] if case.facts else []
    if not found:
        return None
    return broken(
        "SD933",
        found[0].message,
        "nonces expire and certificates have dates: phones may be refused with both",
        fix=found[0].help,
    )


def disk_full(case: Case) -> Diagnostic | None:
    """A disk has no room: daemons cannot write what they must."""
    free = case.facts.free_bytes if case.facts else {}
    full = [path for path, size in free.items() if size < ROOM_BYTES]
    if not full:
        return None
    path = full[0]
    return broken(
        "SD933",
        f"the disk of {path} on `{case.name}` is full",
        f"{free[path] // 1024} KiB are free",
        fix=f"on `{case.name}`: `du -xh {path} | sort -h | tail` shows what is large; "
        "`journalctl --vacuum-size=200M` and `apt-get clean` often help",
    )


def address_missing(case: Case) -> Diagnostic | None:
    """No interface has the address of the inventory."""
    entry = case.subject.entry
    found = [*preflight.addresses(case.name, entry, case.facts)] if case.facts else []
    if not found:
        return None
    return broken("SD930", found[0].message, fix=f"{found[0].help}; then apply")


# --- the name ------------------------------------------------------------------------------------


def wrong_name(case: Case) -> Diagnostic | None:
    """DNS has no address for the domain, or that of another machine."""
    if case.problem is None:
        return None
    here = case.facts.domain_addresses if case.facts else None
    return broken(
        "SD930",
        case.problem.message,
        f"`{case.name}` itself sees {', '.join(here)}" if here else "",
        fix=case.problem.help,
    )


# --- the port ------------------------------------------------------------------------------------


async def port(case: Case) -> str:
    """The port answers where phones look for it; if not, whether it does where SSH goes."""
    try:
        return await network.tcp(case.subject)
    except StepFailed:
        address = case.subject.entry.address
        is_other = address not in (case.subject.entry.media_address, LOCAL)
        if is_other and not await network.knock(address, case.subject.port):
            case.elsewhere = address
        raise


def wrong_public_address(case: Case) -> Diagnostic | None:
    """The port answers at the address of SSH, and not at the public one."""
    if not case.elsewhere:
        return None
    entry = case.subject.entry
    return broken(
        "SD930",
        f"port {case.subject.port} of `{case.name}` answers at {case.elsewhere}, and not at "
        f"{entry.media_address}, which the inventory calls its public address",
        case.said,
        fix=f"correct `hosts.{case.name}.public_address` (on the host, `curl -4 ifconfig.me` "
        f"shows it), then `sipdeploy apply {case.name}`; or let the router forward TCP "
        f"{case.subject.port} and UDP {case.subject.site.ports.rtp}",
    )


def gone(case: Case) -> Diagnostic | None:
    """Neither SSH nor the port answers: the host is down, or its address is wrong."""
    if case.inside is not None or not case.unasked or SILENT not in case.said:
        return None
    return broken(
        "SD930",
        f"`{case.name}` does not answer at {case.subject.entry.media_address}, on no port",
        case.said,
        *(each.message for each in case.unasked),
        fix="look at its console at the provider: does it run, and does it have this address? "
        f"if it has another, correct `hosts.{case.name}.address`",
    )


def taken(case: Case) -> Diagnostic | None:
    """Another program has the port."""
    port = case.subject.port
    for each in case.facts.sockets if case.facts else ():
        if (each.proto, each.port) == ("tcp", port) and each.program not in ("", KAMAILIO):
            return broken(
                "SD930",
                f"`{each.program}` has port {port} on `{case.name}`, in the place of Kamailio",
                f"pid {each.pid}",
                fix=f"on `{case.name}`: `systemctl status {each.pid}` shows what it is; stop it, "
                "then `systemctl restart kamailio`; or set `ports.wss` to a free port and apply",
            )
    return None


def not_listening(case: Case) -> Diagnostic | None:
    """Kamailio runs and does not have the port."""
    port, facts = case.subject.port, case.facts
    if facts is None or any((s.proto, s.port) == ("tcp", port) for s in facts.sockets):
        return None
    others = sorted(
        {s.port for s in facts.sockets if (s.proto, s.program) == ("tcp", KAMAILIO)} - {0}
    )
    seen = f"it listens on TCP {', '.join(map(str, others))}" if others else "it has no TCP port"
    changed = causes.EDITED_KAMAILIO(case)
    return broken(
        "SD930",
        f"Kamailio on `{case.name}` runs and does not listen on port {port}",
        seen,
        *(changed.notes if changed else ()),
        fix=f"`sipdeploy apply {case.name}{' --overwrite' if changed else ''}` restores its "
        "configuration",
    )


def closed_by_rule(case: Case) -> Diagnostic | None:
    """A rule of the host's own firewall closes the port."""
    port = case.subject.port
    aim = firewall.Aim(protocol="tcp", first=port, last=port, who="phones")
    found = firewall.rule_against(case.subject.entry, case.facts, aim) if case.facts else None
    if found is None:
        return None
    rule, fix = found
    return broken(
        "SD930",
        f"the firewall of `{case.name}` closes port {port}: {rule}",
        f"Kamailio listens on it; from here: {case.said}",
        fix=f"on `{case.name}`: {fix}",
    )


def closed_in_front(case: Case) -> Diagnostic | None:
    """The host is ready, and nothing of it closes the port: something on the way does."""
    if case.facts is None:
        return None
    port, address = case.subject.port, case.subject.entry.media_address
    return broken(
        "SD930",
        f"port {port} of `{case.name}` is blocked in front of it",
        case.said,
        "on the host, Kamailio listens on the port, and no rule of its firewall closes it",
        fix=f"open TCP {port} to {address} for everyone in the firewall of the provider (its "
        "security group), and in any router between",
    )


# --- the certificate -----------------------------------------------------------------------------


def refused_certificate(case: Case) -> Diagnostic | None:
    """Browsers refuse the certificate."""
    if case.problem is None or not case.problem.code.startswith("SD6"):
        return None
    tls = case.subject.site.tls
    fix = f"`sipdeploy apply {case.name}`, then `sipdeploy cert {case.name}`"
    if tls.provider == "files":
        fix = f"replace `{tls.certificate}` beside the inventory: {case.problem.help}; then {fix}"
    elif case.problem.code == "SD605" and tls.provider == "letsencrypt":
        fix = f"on `{case.name}`: `systemctl start certbot; journalctl -b -u certbot`"
    return broken("SD931", case.problem.message, *case.problem.notes, fix=fix)


def old_certificate(case: Case) -> Diagnostic | None:
    """The port serves another certificate than the file: a renewed one was not loaded."""
    file = case.facts.certificate if case.facts else None
    if file is None or not case.subject.chain:
        return None
    served = certificates.parse(case.subject.chain[0], b"")
    if served is None or served.fingerprint == file.fingerprint:
        return None
    is_newer = file.not_after > served.not_after
    return broken(
        "SD931",
        f"port {case.subject.port} of `{case.name}` serves "
        + (
            "the old certificate: the new one was not loaded"
            if is_newer
            else "another certificate than the file on the host"
        ),
        f"served: valid until {served.not_after:%Y-%m-%d}, SHA-256 {served.fingerprint[:16]}...",
        f"file: valid until {file.not_after:%Y-%m-%d}, SHA-256 {file.fingerprint[:16]}...",
        fix=f"on `{case.name}`: `kamcmd tls.reload`; if it serves the same then, a proxy answers "
        "in its place",
    )


def not_renewed(case: Case) -> Diagnostic | None:
    """The certificate ends soon, and its renewal fails."""
    facts = case.facts
    file = facts.certificate if facts else None
    if file is None or case.inside is None or case.subject.site.tls.provider != "letsencrypt":
        return None
    certbot = case.inside.daemons[CERTBOT]
    left = (file.not_after - dt.datetime.now(dt.UTC)).days
    if left > LATE_DAYS:
        return None
    return broken(
        "SD931",
        f"the certificate of `{case.name}` ends in {count(left, 'day')} and was not renewed",
        "certbot renews 30 days before the end; its last run: " + (certbot.result or "unknown"),
        *certbot.log,
        fix=f"on `{case.name}`: `systemctl start certbot; journalctl -b -u certbot` shows why; "
        f"`sipdeploy cert {case.name} --test` tries it without rate limits",
    )


# --- the WebSocket -------------------------------------------------------------------------------


def too_many_unproven(case: Case) -> Diagnostic | None:
    """Kamailio refuses connections, because too many have not registered."""
    if f"HTTP {network.TOO_MANY}" not in case.said:
        return None
    return broken(
        "SD932",
        f"`{case.name}` refuses new WebSockets from here: too many connections have not "
        "registered, or this address has tried many wrong passwords",
        case.said,
        fix=f"on `{case.name}`: `kamcmd htable.dump unproven` counts them by address; `sipdeploy "
        f"logs {case.name}` names wrong passwords; it ends by itself within five minutes",
    )


def proxy_between(case: Case) -> Diagnostic | None:
    """Another server than Kamailio answers the handshake."""
    if case.inside is None or old_certificate(case) is None:
        return None
    return broken(
        "SD932",
        f"a proxy in front of `{case.name}` answers, and does not pass WebSockets on",
        case.said,
        "the certificate that it serves is not the one on the host",
        fix="let it forward `Upgrade` and `Connection` with HTTP/1.1 to the port, or connect "
        "phones to the host without it",
    )


def wrong_path(case: Case) -> Diagnostic | None:
    """Kamailio runs, and its rules for a handshake are not those of sipdeploy."""
    if case.inside is None:
        return None
    changed = causes.EDITED_KAMAILIO(case)
    return replace(changed, code="SD932") if changed else None


def cut_after(case: Case) -> Diagnostic | None:
    """Phones lose their connections, all after the same time: something on the way cuts them."""
    now = case.inside.clock if case.inside else 0.0
    lost = [
        each
        for each in (case.inside.events if case.inside else ())
        if isinstance(each, PhoneChange) and each.what == "lost" and each.seconds
        if each.when > now - RECENT_SECONDS
    ]
    seconds = _period(lost)
    if seconds is None:
        return None
    near = [each for each in lost if abs((each.seconds or 0) - seconds) <= SPREAD_SECONDS]
    return broken(
        "SD932",
        f"something between the phones and `{case.name}` cuts their WebSockets after "
        f"{seconds:.0f} s",
        f"{len(near)} of the last {count(len(lost), 'lost connection')} ended after that time: "
        f"`sipdeploy logs {case.name} --since 1h` shows them",
        fix="raise the time of the proxy or load balancer in between (nginx `proxy_read_timeout`, "
        "HAProxy `timeout tunnel`, AWS `idle_timeout`) to an hour, or connect phones without it",
    )


def _period(lost: Sequence[PhoneChange]) -> float | None:
    """The time after which most connections were lost; None if they have none in common.

    Connections that are lost in the same moment have another cause: a restart, a lost network.
    """
    moments: list[PhoneChange] = []
    for each in lost:
        if not moments or each.when - moments[-1].when > APART_SECONDS:
            moments.append(each)
    seconds = [each.seconds or 0 for each in moments[-20:]]
    if len(seconds) < LOSSES:
        return None
    middle = statistics.median(seconds)
    if not LEAST_SECONDS <= middle <= PERIOD_SECONDS:
        return None
    near = [each for each in seconds if abs(each - middle) <= SPREAD_SECONDS]
    return middle if len(near) >= 0.8 * len(seconds) else None


RUNGS: tuple[Rung, ...] = (
    Rung(
        name="host",
        topic="connect",
        code="SD933",
        ask=examine,
        seconds=90,
        faults=(*(never_applied, clock_wrong, disk_full, causes.interrupted, address_missing),),
    ),
    Rung(name="name", topic="connect", code="SD930", step=STEPS["DNS"], causes=(wrong_name,)),
    Rung(
        name="port",
        topic="connect",
        code="SD930",
        ask=port,
        seconds=12,
        causes=(
            *(gone, wrong_public_address, taken, down(KAMAILIO), stuck(KAMAILIO), not_listening),
            *(closed_by_rule, connections_full, closed_in_front),
        ),
    ),
    Rung(
        name="certificate",
        topic="connect",
        code="SD931",
        step=STEPS["TLS"],
        causes=(
            *(refused_certificate, taken, stuck(KAMAILIO), connections_full, memory_full),
            *(causes.EDITED_KAMAILIO, crashing(KAMAILIO)),
        ),
        faults=(old_certificate, not_renewed),
    ),
    Rung(
        name="WebSocket",
        topic="connect",
        code="SD932",
        step=STEPS["WebSocket"],
        causes=(
            *(stuck(KAMAILIO), connections_full, memory_full, too_many_unproven, proxy_between),
            *(wrong_path, crashing(KAMAILIO)),
        ),
        faults=(cut_after,),
    ),
    Rung(
        name="wrong path",
        topic="connect",
        code="SD932",
        step=STEPS["wrong path"],
        causes=(wrong_path,),
    ),
)
