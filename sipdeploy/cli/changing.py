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
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import InvalidFiles, WrongUsage
from sipdeploy.editing import draft, problems
from sipdeploy.inventory import files, reading

if TYPE_CHECKING:
    from sipdeploy.editing.draft import Draft
    from sipdeploy.inventory import Inventory


EVERY = "*"  # the value of `--apply` without a host


def changing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that all commands that change users have."""
    options = (
        click.option("-n", "--dry-run", is_flag=True, help="Show the change without writing it."),
        click.option(
            "--apply",
            "hosts",
            multiple=True,
            is_flag=False,
            flag_value=EVERY,
            metavar="[HOST]",
            shell_complete=host_names,
            help="Apply the change at once, to all hosts or to HOST; repeatable.",
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


def applied_hosts(loaded: Inventory, hosts: Sequence[str]) -> list[str]:
    """The hosts that `--apply` names: all hosts without a name, none without the option.

    WrongUsage (SD501) for an unknown host, also if it is the number of a user.
    """
    if not hosts or EVERY in hosts:
        return list(loaded.site.hosts) if hosts else []
    for name in hosts:
        if name not in loaded.site.hosts and name.isdigit():
            message = f"`--apply {name}` names a host, and `{loaded.path}` has no host `{name}`"
            advice = f"write the numbers first: `{name} --apply` applies to all hosts"
            raise WrongUsage([Diagnostic("SD501", message, help=advice)])
    return inventory.chosen_hosts(loaded, hosts)


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
        names = applied_hosts(begun.before, hosts)
        if not names or dry_run:
            done = work(begun)
            if dry_run:
                _preview(session, done, form)
            else:
                done.commit()
                _report(session, done, purpose)
                if done.written:
                    session.output.progress(f"run `{_next(done)}` to change the hosts")
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


def _next(done: Draft) -> str:
    """The command that brings a change to the hosts, which refuse new passwords for all users."""
    before = done.before.site.users
    is_whole = len(before) > 1 and not before.keys() - done.passwords.keys()
    return "sipdeploy apply --take-over" if is_whole else "sipdeploy apply"


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
