"""What commands that change users share: their options, the lock, the order of things.

Each works out its change in memory, has it checked, writes it, and, with `--apply`, brings it to a
host. The lock is kept from reading to the end: of two at once the second goes by what the first
has written.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from sipdeploy import inventory
from sipdeploy.cli.session import Session, host_names
from sipdeploy.editing import draft, problems
from sipdeploy.inventory import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from sipdeploy.editing.draft import Draft
    from sipdeploy.host.connection import Ahead

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
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.locked(path.resolve().parent))
        except files.BusyError as failure:
            raise problems.busy(str(failure)) from failure
        except OSError as failure:
            raise problems.not_written(failure) from failure
        yield


def carry_out(
    session: Session,
    work: Callable[[Draft], Draft],
    purpose: str,
    *,
    hosts: Sequence[str],
    dry_run: bool,
    is_agreed: bool,
) -> tuple[Draft, int]:
    """Work a change out, write it, and bring it to the hosts; what it is, and the exit code."""
    with _alone(session.inventory):
        begun = draft.begin(session.inventory)
        names = inventory.chosen_hosts(begun.before, hosts) if hosts else []
        if not names or dry_run:
            done = work(begun)
            _write(session, done, purpose, dry_run=dry_run)
            return done, 0
        with _ahead(begun, names) as ahead:
            from sipdeploy.cli import live  # noqa: PLC0415 - while the connections are opened

            inventory.credentials(begun.before)  # what an apply will need has to be at hand
            done = work(begun)
            done.commit()
            session.output.progress(f"{session.inventory}: {purpose}")
            code = live.bring(session, done, names, ahead, purpose=purpose, is_agreed=is_agreed)
            return done, code


def _write(session: Session, done: Draft, purpose: str, *, dry_run: bool) -> None:
    """Write a change, or show it; no host is asked for."""
    if dry_run:
        session.output.result(done.differences())
        session.output.progress(done.told)
        session.output.progress("nothing was written")
        return
    done.commit()
    session.output.progress(f"{session.inventory}: {purpose}")
    session.output.progress("`sipdeploy apply` brings it to the hosts")


def _ahead(begun: Draft, names: Sequence[str]) -> Ahead:
    """Connections to be opened while the change is worked out."""
    from sipdeploy.host.connection import Ahead  # noqa: PLC0415 - only where a host is reached

    return Ahead((name, begun.before.site.hosts[name]) for name in names)
