"""Reads the journal of a host, and the options that its commands share."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import WrongUsage
from sipdeploy.host import host_failed, run_script, sections
from sipdeploy.host.connection import connect
from sipdeploy.operation import journal

if TYPE_CHECKING:
    from sipdeploy.cli.session import Session
    from sipdeploy.host import Host, Result
    from sipdeploy.host.incoming import OnLine

MOST_LINES = 100_000
ASK_SECONDS = 120
GRACE_SECONDS = 20

USER = click.option("--user", "number", default="", metavar="N", help="Only of this number.")
MASK = click.option(
    "--mask",
    "is_masked",
    is_flag=True,
    help="Hide numbers but for two digits, addresses and devices.",
)


def since(default: str) -> Callable[..., Any]:
    """The option --since."""
    return click.option(
        "--since",
        default=default,
        show_default=True,
        metavar="TIME",
        help="Begin then: 30m, 2h, 3d ago, 10:14, 2026-11-27, or '2026-11-27 10:14'.",
    )


def instant(text: str) -> float:
    """The time of --since; WrongUsage (SD002) if it is none."""
    then = journal.instant(text, dt.datetime.now().astimezone())
    if then is None:
        advice = "write `--since 2h`, `--since 10:14` or `--since '2026-11-27 10:14'`"
        raise WrongUsage([Diagnostic("SD002", f"`--since {text}` is not a time", help=advice)])
    return then


def check_number(number: str) -> None:
    """WrongUsage (SD002) for a number that no user can have."""
    if number and not (number.isascii() and number.isdigit() and len(number) <= 15):  # noqa: PLR2004
        advice = "a number has 2 to 15 digits: `sipdeploy users` lists them"
        raise WrongUsage([Diagnostic("SD002", f"`{number}` is not a number", help=advice)])


@contextlib.contextmanager
def connected(session: Session, name: str) -> Iterator[Host]:
    """The host of a name, which needs only its own entry in the inventory."""
    from sipdeploy.cli.hosts import opened_for
    from sipdeploy.cli.session import described

    ((host_name, loaded),) = opened_for(session, [name]).items()
    with session.output.waiting(described(loaded.site, [host_name])):
        host = connect(host_name, loaded.site.hosts[host_name])
    try:
        yield host
    finally:
        host.close()


def entries(
    session: Session, host: Host, since_: float, match: Sequence[str]
) -> list[journal.Entry]:
    """The lines since then; HostFailed (SD731) if the host cannot show its journal."""
    argv = ("journal", str(MOST_LINES), str(int(since_)), "", "0", *match)
    result = run_script(host, argv, timeout_seconds=ASK_SECONDS)
    found = list(journal.entries(_checked(host, result).splitlines()))
    if len(found) >= MOST_LINES:
        session.output.progress(
            f"only the newest {MOST_LINES} lines are read, since {journal.clock(found[0].when)}"
        )
    return found


def follow(host: Host, cursor: str, match: Sequence[str], seconds: int, on_line: OnLine) -> None:
    """Report each new line after the cursor for some seconds."""
    now = int(time.time())
    argv = ("journal", "0", str(now), cursor, str(seconds), *match)
    limit = seconds + GRACE_SECONDS
    _checked(host, run_script(host, argv, on_line=on_line, timeout_seconds=limit))


def _checked(host: Host, result: Result) -> str:
    answer = sections(result.text)
    if "end" in answer:
        return answer.get("journal", "")
    raise host_failed(
        "SD731",
        f"cannot read the journal of `{host.name}`",
        notes=tuple(result.complaint.splitlines()[-3:]),
        help_=f"on `{host.name}` as root: `journalctl -n 5` must print lines",
    )
