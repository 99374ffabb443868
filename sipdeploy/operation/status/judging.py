"""What the state of a host means: a verdict on each value. Pure.

No value that a host has not told is fine.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, count, listed
from sipdeploy.facts import upstream
from sipdeploy.operation.status import traffic, units
from sipdeploy.operation.status.lengths import age, size
from sipdeploy.operation.status.values import NOT_TOLD, Status, Value, fine, needs, unknown

if TYPE_CHECKING:
    from sipdeploy.operation.status.state import Disk, Package, Run, State, Usage
    from sipdeploy.services.certificates import Certificate

DAY_SECONDS = 86_400
LEAST_DAYS = 10  # of a certificate, as `cert --days`; of a short one, a quarter of its life
LISTS_DAYS = 7  # package lists that are older say nothing about the archive
NEAR, FULL = 0.8, 0.95  # of a limit of Kamailio
NEAR_FREE, FULL_FREE = 1024**3, 200 * 1024**2  # of a disk; of a small one, a tenth, a fiftieth
LOCK_SECONDS = 3600


def judge(state: State) -> Status:
    """The verdicts on everything that a host has told."""
    release = _release(state)
    if state.release is not None and not state.release.number:
        return Status(host=state.host, values=(release, _disk(state)), state=state)
    values = (release, *units.judge(state), *(each(state) for each in _JUDGES))
    return Status(host=state.host, values=values, state=state)


def _release(state: State) -> Value:
    release, host = state.release, state.host
    if release is None or state.run is None:
        return unknown("release")
    if not release.number:
        message = f"`{host}` has no release of sipdeploy"
        fix = f"`sipdeploy apply {host}` configures it"
        return needs("release", "none", Diagnostic("SD738", message, help=fix))
    if release.damage:
        message = f"release {release.number} of `{host}` is damaged: {release.damage}"
        fix = f"the next `sipdeploy apply {host}` that changes something makes a new one"
        text = f"{release.number}, {release.damage}"
        return needs("release", text, Diagnostic("SD738", message, help=fix))
    text = f"{release.number} of {release.when} by {release.who}: {release.purpose}"
    for more, problem in _left_behind(host, state.run):
        text = f"{text}; {more}"
        return needs("release", text, problem) if problem else fine("release", text)
    return fine("release", text)


def _left_behind(host: str, run: Run) -> Iterator[tuple[str, Diagnostic | None]]:
    """What an apply, at work or not, means; nothing if there is none."""
    if run.is_unfinished and not run.has_timer:
        message = f"an apply to `{host}` is unfinished, and nothing there will undo it"
        fix = f"`sipdeploy apply {host}` undoes it first"
        yield "an unfinished apply", Diagnostic("SD738", message, help=fix)
    if run.owner:
        lasted = f" for {age(run.lock_seconds)}" if run.lock_seconds is not None else ""
        text = f"{run.owner} has the lock{lasted}"
        if run.lock_seconds is not None and run.lock_seconds < LOCK_SECONDS:
            yield f"{run.owner} is at work{lasted}", None
        message = f"{run.owner} has locked `{host}`{lasted}: {run.purpose}"
        fix = f"if nobody is at work: `sipdeploy apply {host} --break-lock`"
        yield text, Diagnostic("SD738", message, severity="warning", help=fix)
    if run.rollback is not None:
        when = f"{dt.datetime.fromtimestamp(run.rollback.when, dt.UTC):%Y-%m-%d %H:%M} UTC"
        fix = f"`sipdeploy plan {host}` shows what is missing, `sipdeploy apply {host}` does it"
        problem = Diagnostic(
            "SD738",
            f"`{host}` undid an apply of {run.rollback.owner} by itself at {when}",
            severity="warning",
            help=f"{fix} again",
        )
        yield f"the host undid a later apply by itself at {when}", problem


def _versions(state: State) -> Value:
    packages = state.packages
    if packages is None or not _has_versions(state, packages):
        return unknown("versions")
    running = {key: each.version for key, each in state.daemons.items() if each.version}
    installed = {key: upstream(each.installed) for key, each in packages.items()}
    shown = ", ".join(f"{key} {version}" for key, version in {**running, **installed}.items())
    old = [key for key in running.keys() & installed.keys() if running[key] != installed[key]]
    if old:
        pairs = ", ".join(f"{key} {running[key]}" for key in sorted(old))
        problem = Diagnostic(
            "SD733",
            f"`{state.host}` runs {pairs}, and {'have' if len(old) > 1 else 'has'} another "
            "version installed",
            severity="warning",
            help=f"on `{state.host}`, when no call is up: `systemctl restart {old[0]}`",
        )
        return needs("versions", f"{shown} installed, {pairs} running", problem)
    newer = {key: each for key, each in packages.items() if each.is_newer}
    secured = sorted(key for key, each in newer.items() if each.is_security)
    if secured:
        words = ", ".join(f"{key} {newer[key].candidate}" for key in secured)
        command = f"apt-get install --only-upgrade {' '.join(secured)}"
        problem = Diagnostic(
            "SD735",
            f"the archive of `{state.host}` has a security update: {words}",
            severity="warning",
            help=f"on `{state.host}`: `{command}`, which restarts them; then "
            f"`sipdeploy plan {state.host}`",
        )
        return needs("versions", f"{shown}; security update: {words}", problem)
    offers = ", ".join(f"{key} {each.candidate}" for key, each in newer.items())
    return _in_archive(state, shown, offers)


def _has_versions(state: State, packages: Mapping[str, Package]) -> bool:
    """Whether the host has told the version of each daemon that runs, and what apt offers."""
    services = state.release.units if state.release else {}
    known = {key for key, each in state.daemons.items() if each.version or not each.answers}
    has_all = all(key in known for key in units.WITH_CONSOLE if key in services)
    return has_all and bool(packages) and all(each.candidate for each in packages.values())


def _in_archive(state: State, shown: str, offers: str) -> Value:
    """Whether the archive has newer ones, as far as the cached lists tell."""
    seconds = state.lists_seconds
    if seconds is None or seconds > LISTS_DAYS * DAY_SECONDS:
        why = "no package lists" if seconds is None else f"package lists {age(seconds)} old"
        return unknown("versions", f"{shown}; newer ones: {why}", is_vital=False)
    return fine("versions", f"{shown}; {f'newer: {offers}' if offers else 'nothing newer'}")


def _certificate(state: State) -> Value:
    name, host, certificate = "certificate", state.host, state.certificate
    if certificate is None:
        message = f"`{host}` has no certificate that can be read"
        fix = f"run `sipdeploy apply {host}`"
        return needs(name, "none", Diagnostic("SD620", message, help=fix))
    served = {key.split()[1]: each for key, each in state.served.items() if each}
    text, problem = _lifetime(state, certificate, served.values())
    if problem is None:
        more, problem = _serving(state, certificate, served)
        text = f"{text}{more}"
    if problem is not None:
        return needs(name, text, problem)
    if not served:
        return unknown(name, f"{text} in the file; no port could be asked")
    if state.renewal is None or state.has_renewal_failed is None:
        return unknown(name, f"{text}; the renewal could not be asked")
    return fine(name, f"{text}, served on port {', '.join(served)}")


def _fix(host: str) -> str:
    return f"`sipdeploy cert {host}` says more; `sipdeploy apply {host}` renews what it manages"


def _lifetime(
    state: State, certificate: Certificate, served: Iterable[Certificate]
) -> tuple[str, Diagnostic | None]:
    """How long the certificate is valid, and the problem if that is too short."""
    ends = min(each.not_after for each in (certificate, *served))
    left = (ends.timestamp() - state.now) / DAY_SECONDS
    life = (certificate.not_after - certificate.not_before).total_seconds() / DAY_SECONDS
    if left < 0:
        text = f"expired on {ends:%Y-%m-%d}"
        message = f"the certificate of `{state.host}` {text}"
        return text, Diagnostic("SD622", message, help=_fix(state.host))
    text = f"{count(int(left), 'day')} left"
    if left >= min(LEAST_DAYS, life / 4):
        return text, None
    message = f"the certificate of `{state.host}` expires soon: {text}"
    return text, Diagnostic("SD622", message, severity="warning", help=_fix(state.host))


def _serving(
    state: State, certificate: Certificate, served: dict[str, Certificate]
) -> tuple[str, Diagnostic | None]:
    """Whether the ports serve the certificate, and its renewal works."""
    host = state.host
    for port, each in served.items():
        if each.fingerprint != certificate.fingerprint:
            message = f"port {port} on `{host}` serves a certificate other than the file"
            problem = Diagnostic("SD621", message, severity="warning", help=_fix(host))
            return f"; port {port} serves another one", problem
    if state.renewal or state.has_renewal_failed:
        why = state.renewal or "the last run of certbot failed"
        message = f"the renewal of the certificate of `{host}` failed: {why}"
        problem = Diagnostic("SD624", message, severity="warning", help=_fix(host))
        return "; its renewal failed", problem
    return "", None


def _phones(state: State) -> Value:
    phones = state.phones
    if phones is None or state.users is None or state.networks is None:
        return unknown("phones", _why_silent(state))
    registered = f"{count(phones.phones, 'phone')} of {count(phones.users, 'user')}"
    text = f"{registered} (of {state.users}), from {count(state.networks, 'network')}"
    return fine("phones", text)


def _why_silent(state: State) -> str:
    daemon = state.daemons.get("kamailio")
    return "Kamailio does not answer" if daemon and not daemon.answers else NOT_TOLD


def _calls(state: State) -> Value:
    calls = state.calls
    if calls is None:
        return unknown("calls", _why_silent(state))
    return fine("calls", f"{calls.up} up, {calls.ringing} ringing")


def _last_hour(state: State) -> Value:
    name = "last hour"
    if state.traffic is None:
        return unknown(name, "no call log in this release, or the journal cannot be read")
    hour = traffic.summary(state.traffic)
    if not hour.needs_look:
        return fine(name, hour.text)
    what = "calls fail" if hour.is_failing else "flood control shuts users out"
    problem = Diagnostic(
        "SD736",
        f"{what} on `{state.host}`: {hour.text}",
        severity="warning",
        help=f"`sipdeploy calls {state.host} --since 1h` says which, and why",
    )
    return needs(name, hour.text, problem)


def _memory(state: State) -> Value:
    if state.memory is None:
        return unknown("memory", _why_silent(state))
    text = f"{state.memory.share:.0%} of {size(state.memory.limit)} shared"
    return _limited(state, "memory", state.memory, text)


def _connections(state: State) -> Value:
    usage = state.connections
    if usage is None:
        return unknown("connections", _why_silent(state))
    return _limited(state, "connections", usage, f"{usage.used} of {usage.limit}")


def _limited(state: State, name: str, usage: Usage, text: str) -> Value:
    if usage.share < NEAR:
        return fine(name, text)
    is_full = usage.share >= FULL
    problem = Diagnostic(
        "SD734",
        f"Kamailio on `{state.host}` {'has used up' if is_full else 'uses most of'} its {name}: "
        f"{text}",
        severity="error" if is_full else "warning",
        help="raise `limits.connections` in the inventory, which sizes both, then "
        f"`sipdeploy apply {state.host}` (restarts Kamailio)",
    )
    return needs(name, text, problem)


def _disk(state: State) -> Value:
    if not state.disks or state.messages is None or state.voicemail_bytes is None:
        return unknown("disk")
    worst = min(state.disks, key=_room)
    mailboxes = f"{count(state.messages, 'message')} of voicemail, {size(state.voicemail_bytes)}"
    text = f"{mailboxes}; {size(worst.free)} free on {worst.mount}"
    is_full = worst.free < min(FULL_FREE, worst.size / 50)
    if not is_full and _room(worst) >= 1:
        return fine("disk", text)
    problem = Diagnostic(
        "SD734",
        f"the disk of `{state.host}` {'is full' if is_full else 'is filling up'}: {text}",
        severity="error" if is_full else "warning",
        help=f"on `{state.host}`: `du -xh {worst.mount} | sort -h | tail` shows what is large, "
        "`journalctl --vacuum-size=500M` shortens the journal",
    )
    return needs("disk", text, problem)


def _room(disk: Disk) -> float:
    """The free space as a part of what it should be."""
    return disk.free / max(1, min(NEAR_FREE, disk.size / 10))


def _proof(state: State) -> Value:
    proof, prove = state.proof, f"`sipdeploy verify {state.host}`"
    if proof is None or state.release is None:
        text = f"none yet, see {prove}" if state.is_proof_told else NOT_TOLD
        return unknown("proof", text, is_vital=False)
    ago = f"{age(max(0.0, state.now - proof.began))} ago"
    since = _moment(state.release.when)
    if since is None or proof.began < since:
        text = f"{proof.level}, {ago}, not of this release; see {prove}"
        return unknown("proof", text, is_vital=False)
    if not proof.failed:
        return fine("proof", f"works: {proof.level}, {count(proof.steps, 'step')}, {ago}")
    message = f"the last proof of `{state.host}` failed: {listed(proof.failed)}"
    problem = Diagnostic("SD736", message, help=f"{prove} says why, and what to do")
    return needs("proof", f"failed: {', '.join(proof.failed)}; {ago}", problem)


def _moment(when: str) -> float | None:
    """Seconds since 1970 of a time in ISO 8601; None if it is none."""
    try:
        return dt.datetime.fromisoformat(when).timestamp()
    except ValueError:
        return None


def _files(state: State) -> Value:
    if state.changed is None or state.units is None:
        return unknown("files")
    stale = [name for name, unit in state.units.items() if unit.needs_daemon_reload]
    host, notes = state.host, state.changed[:5]
    if state.changed:
        text = f"{count(len(state.changed), 'file')} edited or missing: {state.changed[0]}"
        fix = f"`sipdeploy plan {host}` shows it, `sipdeploy apply {host} --overwrite` ends it"
    elif stale:
        text = f"systemd has not read the files of {', '.join(stale)}"
        fix = f"on `{host}`: `systemctl daemon-reload`"
    else:
        return fine("files", "as the release wrote them")
    message = f"`{host}` is not as its release: {text}"
    problem = Diagnostic("SD737", message, severity="warning", notes=notes, help=fix)
    return needs("files", text, problem)


_JUDGES: Sequence[Callable[[State], Value]] = (
    _versions,
    _certificate,
    _phones,
    _calls,
    _last_hour,
    _memory,
    _connections,
    _disk,
    _proof,
    _files,
)
