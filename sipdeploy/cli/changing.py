"""The common part of the commands that change users: options, lock, order of the work.

Each command computes its change in memory, checks it, writes it, and, with `--apply`, applies it
to hosts. It holds the lock from reading to the end, so a second command reads what the first one
wrote.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sipdeploy import inventory
from sipdeploy.cli.session import Session, host_names, opened_ahead
from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.editing import draft, problems
from sipdeploy.inventory import files, reading

if TYPE_CHECKING:
    from sipdeploy.editing.draft import Draft


def changing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that all commands that change users have."""
    options = (
        click.option("-n", "--dry-run", is_flag=True, help="Show the change without writing it."),
        click.option(
            "--apply",
            "hosts",
            multiple=True,
            metavar="HOST",
            shell_complete=host_names,
            help="Apply the change to HOST at once; repeatable.",
        ),
        click.option(
            "--yes",
            "is_agreed",
            is_flag=True,
            help="With --apply: do not ask, even if more than users would change.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@contextlib.contextmanager
def _users_locked(path: Path) -> Iterator[None]:
    """Hold the lock on the users of this inventory; InvalidFiles if another command holds it."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.locked(path.resolve().parent))
        except files.BusyError as failure:
            raise problems.busy(str(failure)) from failure
        except OSError as failure:
            raise InvalidFiles([reading.unreadable(path, failure)]) from failure
        yield


def carry_out(
    session: Session,
    work: Callable[[Draft], Draft],
    purpose: str,
    *,
    hosts: Sequence[str],
    dry_run: bool,
    is_agreed: bool,
    form: str = "text",
) -> tuple[Draft, int]:
    """Compute a change, write it, and apply it to `hosts`.

    Returns the draft and the exit code. With `dry_run`, shows the change in the format `form` and
    writes nothing.
    """
    with _users_locked(session.inventory):
        begun = draft.begin(session.inventory)
        names = inventory.chosen_hosts(begun.before, hosts) if hosts else []
        if not names or dry_run:
            done = work(begun)
            if dry_run:
                _preview(session, done, form)
            else:
                done.commit()
                _report(session, done, purpose)
                if done.written:
                    session.output.progress("run `sipdeploy apply` to change the hosts")
            return done, 0
        with opened_ahead(begun.before, names) as ahead:
            from sipdeploy.cli import live

            before, _ = inventory.credentials(begun.before)  # fail before anything is written
            done = work(begun)
            done.commit()
            _report(session, done, purpose)
            code = live.bring(
                session,
                done,
                names,
                ahead,
                purpose=purpose,
                is_agreed=is_agreed,
                before=before,
            )
            return done, code


def _report(session: Session, done: Draft, purpose: str) -> None:
    """Name the files that were written."""
    files = ", ".join(done.written)
    session.output.progress(f"{files}: {purpose}" if files else f"{purpose}: nothing changes")


def _preview(session: Session, done: Draft, form: str) -> None:
    """Show a change that is not written."""
    if form == "json":
        data = {
            "is_dry_run": True,
            "files": done.written,
            "diff": done.differences(),
            "new_passwords": list(done.passwords),
        }
        session.output.result(json.dumps(data, indent=2))
    else:
        session.output.result(done.differences())
        session.output.progress(done.summary)
    session.output.progress("nothing was written")
