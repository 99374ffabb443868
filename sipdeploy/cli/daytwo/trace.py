"""The command trace: the SIP of one user, as a ladder."""

from __future__ import annotations

import click

from sipdeploy.cli.daytwo import reading
from sipdeploy.cli.session import Session, host_names
from sipdeploy.host import host_failed, run_script
from sipdeploy.operation import journal, ladder


@click.command("trace", short_help="Show the SIP messages of one user.")
@click.argument("host", shell_complete=host_names)
@click.option("--user", "number", required=True, metavar="N", help="The number to trace.")
@click.option(
    "--seconds",
    type=click.IntRange(5, 600),
    default=60,
    show_default=True,
    metavar="N",
    help="Trace for so long, or until Ctrl-C.",
)
@click.pass_obj
def trace_command(session: Session, /, host: str, *, number: str, seconds: int) -> int:
    """Show the SIP messages of one user on HOST as a ladder, at most 2,000 of them.

    Kamailio writes a line for each message, without digests and bodies, and stops by itself, also
    if the connection of sipdeploy is lost. One user can be traced at a time.

    \b
    Example:
      sipdeploy trace sip1 --user 1002 --seconds 30
    """
    reading.check_number(number)
    entries: list[journal.Entry] = []

    def take(line: str) -> None:
        entry = journal.parse(line)
        if entry is not None:
            entries.append(entry)

    with reading.connected(session, host) as machine:
        session.output.progress(f"tracing {number} for {seconds} s; Ctrl-C ends it")
        try:
            result = run_script(
                machine,
                ("trace", number, str(seconds)),
                on_line=take,
                timeout_seconds=seconds + reading.GRACE_SECONDS,
            )
        except KeyboardInterrupt:
            result = None
        if result is not None and result.status:
            raise host_failed(
                "SD732",
                f"cannot trace {number} on `{host}`",
                notes=tuple(result.complaint.splitlines()[-3:]),
                help_=f"try again later, or `sipdeploy apply {host}` if Kamailio is older",
            )
    found = list(ladder.messages(entries))
    session.output.result(ladder.draw(found) if found else f"no message of {number}")
    return 0
