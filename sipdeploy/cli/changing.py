"""What commands that change users share: their options, the lock, the order of things.

Each works out its change in memory, has it checked, writes it, and, with `--apply`, brings it to a
host. The lock is kept from reading to the end: of two at once the second goes by what the first
has written.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from sipdeploy import files, inventory
from sipdeploy.cli.session import Session, host_names
from sipdeploy.users import draft, problems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from sipdeploy.users.draft import Draft

FORMAT = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to show it."
)


def changing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every change of users has."""
    options = (
        click.option("-n", "--dry-run", is_flag=True, help="Show the change and write nothing."),
        click.option(
            "--apply",
            "hosts",
            multiple=True,
            metavar="HOST",
            shell_complete=host_names,
            help="Bring it to HOST at once; repeatable.",
        ),
        click.option(
            "--yes",
            "is_agreed",
            is_flag=True,
            help="With --apply: do not ask, also where more than users would change.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep others from changing the users of this inventory."""
    try:
        with files.locked(path.resolve().parent):
            yield
    except files.BusyError as failure:
        raise problems.busy(str(failure)) from failure
    except FileNotFoundError as failure:
        raise problems.not_written(failure) from failure


def carry_out(
    session: Session,
    work: Callable[[Draft], Draft],
    purpose: str,
    *,
    dry_run: bool,
    **how: Any,
) -> tuple[Draft, int]:
    """Work a change out, write it, and bring it to the hosts; what it is, and the exit code."""
    with _alone(session.inventory):
        done = work(draft.begin(session.inventory))
        names = chosen(done, how["hosts"])
        if dry_run:
            session.output.result(done.differences())
            session.output.progress(done.told)
            session.output.progress("nothing was written")
            return done, 0
        done.commit()
        session.output.progress(f"{session.inventory}: {purpose}")
        if not names:
            session.output.progress("`sipdeploy apply` brings it to the hosts")
            return done, 0
        from sipdeploy.cli import live  # noqa: PLC0415 - only where a host is reached

        return done, live.bring(session, done, names, purpose, is_agreed=how["is_agreed"])


def chosen(done: Draft, hosts: Sequence[str]) -> list[str]:
    """The hosts to go to, once it is sure that every other password is at hand."""
    if hosts:
        inventory.credentials(done.before)
        return inventory.chosen_hosts(done.after, hosts)
    return []
