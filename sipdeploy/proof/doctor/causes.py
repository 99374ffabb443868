"""Causes that several rungs share: daemons, memory, connections, tables, edits on the host. Pure.

Each is a verdict: it says nothing (None) unless the host shows that cause.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import count, listed
from sipdeploy.proof.doctor.inside import ASTERISK, KAMAILIO, pieces
from sipdeploy.proof.doctor.rung import broken

if TYPE_CHECKING:
    from sipdeploy.diagnostics import Diagnostic
    from sipdeploy.proof.doctor.rung import Case, Verdict

DATABASE = "/etc/kamailio/sipdeploy.db"
TLS_BYTES = 512 * 1024  # free for each process, else Kamailio accepts no TLS (low_mem_threshold1)
FEW = 0.03  # of Kamailio's shared memory: messages that need more are lost
MANY = 0.97  # of the connections that Kamailio accepts
NAMES = {KAMAILIO: "Kamailio", ASTERISK: "Asterisk", "coturn": "coturn"}
USES = {
    KAMAILIO: "phones cannot connect",
    ASTERISK: "services, voicemail and, with `authentication: asterisk`, registrations fail",
    "coturn": "phones have no relay",
}
_CRASHES = ("core-dump", "signal", "watchdog")


def down(daemon: str) -> Verdict:
    """The daemon does not run."""

    def verdict(case: Case) -> Diagnostic | None:
        found = case.inside.daemons[daemon] if case.inside else None
        if found is None or found.is_active:
            return None
        why = f"its unit is {found.state}" + f" ({found.result})" * (
            found.result not in ("", "success")
        )
        unit = case.facts.units.get(f"{daemon}.service") if case.facts else None
        fix = f"on `{case.name}`: `systemctl start {daemon}`"
        if unit is not None and unit.is_masked:
            fix = f"on `{case.name}`: `systemctl unmask --now {daemon}`"
        elif found.log or (case.inside and case.inside.edited):
            fix += f"; if it does not stay: `sipdeploy plan {case.name}` shows what was edited"
        return broken(
            "SD933",
            f"{NAMES[daemon]} does not run on `{case.name}`: {USES[daemon]}",
            why,
            *found.log,
            fix=fix,
        )

    return verdict


def stuck(daemon: str) -> Verdict:
    """The daemon runs, and does nothing."""

    def verdict(case: Case) -> Diagnostic | None:
        found = case.inside.daemons[daemon] if case.inside else None
        if found is None or not found.is_active or (found.answers and not found.is_stopped):
            return None
        console = "kamcmd core.uptime" if daemon == KAMAILIO else "asterisk -rx 'core show uptime'"
        why = "its processes are stopped by a signal (state T)"
        fix = f"on `{case.name}`: `systemctl kill -s CONT {daemon}`"
        if not found.is_stopped:
            why = f"its unit is active, and its console does not answer: `{console}`"
            fix = f"on `{case.name}`: `systemctl restart {daemon}`"
        return broken(
            "SD933",
            f"{NAMES[daemon]} on `{case.name}` runs and does nothing: {USES[daemon]}",
            why,
            *found.log,
            fix=fix,
        )

    return verdict


def crashing(daemon: str) -> Verdict:
    """Systemd had to restart the daemon, because it crashed."""

    def verdict(case: Case) -> Diagnostic | None:
        found = case.inside.daemons[daemon] if case.inside else None
        if found is None or not found.restarts:
            return None
        facts = case.facts
        version = facts.version(daemon) if facts else None
        return broken(
            "SD933",
            f"{NAMES[daemon]} on `{case.name}` has crashed: systemd has restarted it "
            f"{count(found.restarts, 'time')}, and each time phones and calls lost it",
            f"version {version}" if version else "",
            *found.log,
            fix=f"on `{case.name}`: `journalctl -b -u {daemon}`; Kamailio before 5.7.5 crashes "
            "with OpenSSL 3: write `install: {kamailio: repository}`"
            if daemon == KAMAILIO
            else f"on `{case.name}`: `journalctl -b -u {daemon}` shows the last lines before each",
        )

    return verdict


def memory_full(case: Case) -> Diagnostic | None:
    """Kamailio has no shared memory left: new connections and messages fail."""
    inside = case.inside
    total = inside.number("shared", r"^\s*total: (\d+)") if inside else None
    free = inside.number("shared", r"^\s*free: (\d+)") if inside else None
    processes = (
        sum(line.startswith(KAMAILIO) for line in inside.lines("processes")) if inside else 0
    )
    least = max(total * FEW if total else 0, processes * TLS_BYTES)
    if not total or free is None or free > least:
        return None
    return broken(
        "SD933",
        f"the shared memory of Kamailio on `{case.name}` is full: it refuses phones and calls",
        f"{free // 1024} KiB of {total // 1024 // 1024} MiB are free (`kamcmd core.shmmem`)",
        f"below {int(least) // 1024} KiB, Kamailio accepts no TLS",
        fix="raise `limits: {connections: N}` in the inventory and apply; until then, on "
        f"`{case.name}`: `systemctl restart kamailio`",
    )


def connections_full(case: Case) -> Diagnostic | None:
    """Kamailio has as many connections as it accepts."""
    inside = case.inside
    most = inside.number("connections", r"^\s*max_connections: (\d+)") if inside else None
    opened = inside.number("connections", r"^\s*opened_connections: (\d+)") if inside else None
    if not most or opened is None or opened < most * MANY:
        return None
    return broken(
        "SD933",
        f"`{case.name}` has all {most} connections in use: no further phone can connect",
        f"{opened} of {most} are open (`kamcmd core.tcp_info`)",
        fix="raise `limits: {connections: N}` in the inventory and apply; on "
        f"`{case.name}`, `ss -Htn state established 'sport = :{case.subject.port}'` shows whose",
    )


def tables_differ(case: Case) -> Diagnostic | None:
    """Kamailio holds another password of a user than its file has."""
    numbers = case.inside.lines("differing") if case.inside else []
    if case.inside is None or not numbers:
        return None
    is_edited = DATABASE in case.inside.edited
    return broken(
        "SD934",
        f"Kamailio on `{case.name}` has another password for {listed(numbers, most=5)} than "
        f"{DATABASE}",
        f"the table `credentials` in memory differs from the file in {count(len(numbers), 'row')}",
        fix=f"`sipdeploy apply {case.name} --overwrite`"
        if is_edited
        else f"on `{case.name}`: `sh /etc/kamailio/tables.sh` loads the file again",
    )


def rows_missing(case: Case) -> Diagnostic | None:
    """Kamailio does not know a user or a service of the inventory."""
    rows = case.inside.lines("held") if case.inside else []
    if not rows:
        return None
    site = case.subject.site
    for table, numbers, code in (
        ("users", site.users, "SD934"),
        ("services", site.services, "SD935"),
    ):
        missing = [number for number in numbers if f"{table} {number}" not in rows]
        if missing:
            return broken(
                code,
                f"Kamailio on `{case.name}` does not know the {table[:-1]} "
                f"{listed(missing, most=5)} of the inventory",
                f"its table `{table}` lacks {count(len(missing), 'row')}: calls to it get 404",
                fix=f"on `{case.name}`: `sh /etc/kamailio/tables.sh` loads the tables again; if "
                f"the inventory is newer than the host: `sipdeploy apply {case.name}`",
            )
    return None


def not_loaded(case: Case) -> Diagnostic | None:
    """Asterisk runs with other files than it has."""
    parts = case.inside.lines("unloaded") if case.inside else []
    if not parts:
        return None
    files = {"endpoints": "pjsip.conf and pjsip_users.conf", "dialplan": "extensions.conf"}
    return broken(
        "SD938",
        f"Asterisk on `{case.name}` does not run with its {files[parts[0]]}",
        f"it does not show the digest of the {parts[0]}",
        fix=f"on `{case.name}`: `sh /etc/asterisk/reload.sh {parts[0]}`; if that fails, "
        "`journalctl -b -u asterisk` shows why",
    )


def edited(*folders: str, code: str = "SD938") -> Verdict:
    """Somebody has changed files below these folders since the last apply."""

    def verdict(case: Case) -> Diagnostic | None:
        if case.inside is None:
            return None
        paths = [path for path in case.inside.edited if path.startswith(folders)]
        if not paths:
            return None
        edits = {path: rows for path, rows in case.inside.edits.items() if path in paths}
        return broken(
            code,
            f"{listed(paths, most=3)} on `{case.name}` was edited after the last apply, and "
            f"{_trouble(case)}",
            *pieces(edits),
            fix=f"`sipdeploy apply {case.name} --overwrite` restores what sipdeploy wrote; "
            f"`sipdeploy plan {case.name} -v` shows the whole edit",
        )

    return verdict


def own_file(*paths: str) -> Verdict:
    """A file of the administrator adds to the configuration."""

    def verdict(case: Case) -> Diagnostic | None:
        found = [line for line in case.inside.lines("own") if line in paths] if case.inside else []
        if not found:
            return None
        return broken(
            "SD938",
            f"{_trouble(case)} on `{case.name}`, and sipdeploy's own files are unchanged: look at "
            f"your own {listed(found)}",
            f"{case.said}",
            fix=f"on `{case.name}`: move it away, restart the daemon, and run `sipdeploy doctor "
            f"{case.name}` again",
        )

    return verdict


def _trouble(case: Case) -> str:
    """What does not work, as the end of a sentence."""
    said = re.sub(rf"^on `{re.escape(case.name)}`, ", "", case.said)
    return said or "a step fails"


def interrupted(case: Case) -> Diagnostic | None:
    """An apply was cut off, and the host has not gone back by itself."""
    facts = case.facts
    if facts is None or not facts.has_abandoned_run or facts.lock_owner:
        return None
    return broken(
        "SD938",
        f"an apply on `{case.name}` was interrupted: its files and daemons may not fit together",
        f"it was begun by {facts.run_owner}" if facts.run_owner else "",
        fix=f"`sipdeploy apply {case.name}` finishes or undoes it first",
    )


def any_of(*verdicts: Verdict) -> Callable[[Case], Diagnostic | None]:
    """The first of several causes."""

    def verdict(case: Case) -> Diagnostic | None:
        return next((found for each in verdicts if (found := each(case)) is not None), None)

    return verdict


WHOLE_KAMAILIO = any_of(
    down(KAMAILIO), stuck(KAMAILIO), memory_full, connections_full, crashing(KAMAILIO)
)
WHOLE_ASTERISK = any_of(down(ASTERISK), stuck(ASTERISK), not_loaded)
EDITED_KAMAILIO = any_of(edited("/etc/kamailio/"), own_file("/etc/kamailio/local.cfg"))
EDITED_ASTERISK = edited("/etc/asterisk/")
