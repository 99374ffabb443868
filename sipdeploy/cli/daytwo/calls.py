"""The command calls: who called whom, and what became of it."""

from __future__ import annotations

import json

import click

from sipdeploy.cli.daytwo import reading
from sipdeploy.cli.session import Session, host_names

BEFORE_SECONDS = 12 * 3600  # what happened to phones before explains why they did not ring


@click.command("calls", short_help="Show who called whom, and why a phone did not ring.")
@click.argument("host", shell_complete=host_names)
@reading.USER
@reading.since("2h")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "csv"]),
    default="text",
    help="Output format.",
)
@reading.MASK
@click.pass_obj
def calls_command(
    session: Session, /, host: str, form: str, *, number: str, since: str, is_masked: bool
) -> int:
    """Show the calls on HOST that have ended: who, whom, what became of it, and why.

    Kamailio writes one line for each call into the journal of HOST, which decides how long it is
    kept. Calls that still last are not in it.

    \b
    Examples:
      sipdeploy calls sip1 --user 1002 --since 10:00
      sipdeploy calls sip1 --since 30d --format csv --mask > calls.csv
    """
    reading.check_number(number)
    begin = reading.instant(since)
    from sipdeploy.operation import calls, events, journal

    with reading.connected(session, host) as machine, session.output.waiting(host):
        lines = reading.entries(session, machine, max(0, begin - BEFORE_SECONDS), journal.OF_CALLS)
    found = list(events.events(lines))
    if is_masked:
        number = events.mask(number)
        found = [events.masked(event) for event in found]
    rows = calls.rows(found, begin)
    if number:
        rows = [row for row in rows if events.concerns(row.event, number)]
    if form == "json":
        session.output.result(json.dumps(calls.as_data(rows), indent=2))
    else:
        session.output.result(calls.as_csv(rows) if form == "csv" else calls.as_text(rows))
    return 0
