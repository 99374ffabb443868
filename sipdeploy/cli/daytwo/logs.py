"""The command logs: the lines of all daemons, merged by time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from sipdeploy.cli.daytwo import reading
from sipdeploy.cli.session import Session, host_names
from sipdeploy.operation import journal, lines

if TYPE_CHECKING:
    from sipdeploy.host import Host

FOLLOW_SECONDS = 30  # of one exchange; then the next one begins at its last line


@click.command("logs", short_help="Show the log of all daemons of HOST.")
@click.argument("host", shell_complete=host_names)
@click.option("-f", "--follow", "follows", is_flag=True, help="Show new lines until Ctrl-C.")
@reading.USER
@click.option("--call", default="", metavar="ID", help="Only of the call with this Call-ID.")
@reading.since("1h")
@reading.MASK
@click.pass_obj
def logs_command(
    session: Session,
    /,
    host: str,
    *,
    follows: bool,
    number: str,
    call: str,
    since: str,
    is_masked: bool,
) -> int:
    """Show the lines of Kamailio, Asterisk, certbot and sipdeploy on HOST, merged by time.

    Calls, registrations and refusals are in words. What Kamailio says when a phone closes its
    connection is one line; `-v` shows all of it. `--mask` leaves out the lines of the daemons,
    which may have any number in them.

    \b
    Examples:
      sipdeploy logs sip1 --user 1002 --since 10:00
      sipdeploy logs sip1 -f
    """
    reading.check_number(number)
    begin = reading.instant(since)

    def shown(entries: Iterable[journal.Entry]) -> str:
        found = lines.lines(entries, number=number, call=call, is_masked=is_masked)
        if is_masked:
            found = (line for line in found if line.event is not None)
        if not session.output.verbose:
            found = lines.folded(found)
        return "\n".join(map(lines.as_text, found))

    with reading.connected(session, host) as machine:
        with session.output.waiting(host):
            entries = reading.entries(session, machine, begin, journal.OF_LOGS)
        session.output.result(shown(entries))
        if follows:
            _follow(machine, entries[-1].cursor if entries else "", session, shown)
    return 0


def _follow(
    machine: Host,
    cursor: str,
    session: Session,
    shown: Callable[[Iterable[journal.Entry]], str],
) -> None:
    """Print new lines until Ctrl-C. No exchange lasts long, so nothing stays on the host."""
    last = cursor

    def take(line: str) -> None:
        nonlocal last
        entry = journal.parse(line)
        if entry is not None:
            last = entry.cursor or last
            session.output.result(shown([entry]))

    try:
        while True:
            reading.follow(machine, last, journal.OF_LOGS, FOLLOW_SECONDS, take)
    except KeyboardInterrupt:
        session.output.progress("")
