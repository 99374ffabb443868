"""The command history: the releases of a host, in words."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from sipdeploy.cli.hosts import opened_for
from sipdeploy.cli.session import FORMAT, Session, as_json, ask_each, described, host_names

if TYPE_CHECKING:
    from sipdeploy.transaction.release import Header

COLUMNS = 80
INDENT = 8
MOST_LETTERS = 300  # of the command that made a release


@click.command("history", short_help="Show the releases that each HOST keeps.")
@click.argument("hosts", metavar="HOST...", nargs=-1, required=True, shell_complete=host_names)
@FORMAT
@click.pass_obj
def history_command(session: Session, hosts: tuple[str, ...], form: str) -> int:
    """Show the releases that each HOST keeps: number, time, author, command, and what it changed.

    A host keeps five configurations and, apart from them, the last five changes of users. `*`
    marks the current release, `?` one on trial. `-v` shows all changes of each release.

    \b
    Examples:
      sipdeploy history sip1
      sipdeploy history sip1 sip2
    """
    opened = opened_for(session, hosts)
    names = list(opened)
    from sipdeploy import transaction

    def ask(name: str) -> Sequence[Header]:
        site = opened[name].site
        with session.output.waiting(described(site, [name])):
            return transaction.history(site, name)

    answers, code = ask_each(session, names, ask)
    if form == "json":
        releases = {
            name: {"host": name, "releases": [asdict(row) for row in kept]}
            for name, kept in answers.items()
        }
        session.output.result(as_json(releases, names))
        return code
    for name, kept in answers.items():
        whole = session.output.verbose
        rows = [line for row in kept for line in shown(name, row, is_whole=whole)]
        heading = [name] if len(names) > 1 else []
        session.output.result("\n".join([*heading, *(rows or ["no releases yet"])]))
    return code


def shown(host: str, row: Header, *, is_whole: bool) -> Iterator[str]:
    """A release in lines of at most 80 columns; with `is_whole`, with the lines of its plan."""
    from sipdeploy.plan import words

    mark = "*" if row.is_current else " " if row.trial_seconds is None else "?"
    head = f"{mark} {row.number:>4}"
    if row.problem:
        yield from _wrapped(f"{head}  {row.problem}")
        return
    when = f"{row.when[:10]} {row.when[11:16]} UTC"
    yield from _wrapped(f"{head}  {when}, {row.who}: {_cut(row.purpose, is_whole=is_whole)}")
    if is_whole:
        yield from (f"{' ' * INDENT}{line}" for line in row.what)
    else:
        yield from _wrapped(" " * INDENT + words.in_words(row.what, is_users=row.is_users))
    if row.trial_seconds is not None:
        left = words.minutes(row.trial_seconds)
        advice = f"`sipdeploy confirm {host}` keeps it"
        yield from _wrapped(f"{' ' * INDENT}on trial: goes back by itself in {left}; {advice}")


def _cut(text: str, *, is_whole: bool) -> str:
    return text if is_whole or len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}..."


def _wrapped(text: str) -> list[str]:
    """A paragraph; the following lines are indented."""
    return textwrap.wrap(
        text, COLUMNS, subsequent_indent=" " * INDENT, break_on_hyphens=False, drop_whitespace=True
    )
