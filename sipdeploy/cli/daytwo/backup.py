"""The commands backup and restore."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sipdeploy.cli.hosts import TAKE_OVER, YES, opened_for, with_transaction
from sipdeploy.cli.session import FORMAT, Session, described, host_names, opened_ahead
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import InvalidFiles, WrongUsage
from sipdeploy.inventory import chosen_hosts, files, open_inventory
from sipdeploy.lint import git

if TYPE_CHECKING:
    from sipdeploy.inventory import Inventory
    from sipdeploy.keeping.archive import Backup
    from sipdeploy.keeping.material import Material
    from sipdeploy.keeping.restore import Source
    from sipdeploy.transaction import Options

_FILE = click.Path(dir_okay=False, path_type=Path)
_IDENTITY = click.option(
    "--identity",
    "identities",
    multiple=True,
    type=_FILE,
    metavar="FILE",
    help="File with the private key of age, for an encrypted backup; repeatable.",
)


@click.command("backup", short_help="Save what only HOST has: messages, keys, local settings.")
@click.argument("host", required=False, shell_complete=host_names)
@click.option("-o", "--output", "target", type=_FILE, metavar="FILE", help="Write to FILE.")
@click.option(
    "--age-recipient",
    "recipients",
    multiple=True,
    metavar="KEY",
    help="Encrypt for the owner of the public key; repeatable.",
)
@click.option("--list", "listed", type=_FILE, metavar="FILE", help="List the files of a backup.")
@click.option("--verify", "checked", type=_FILE, metavar="FILE", help="Check a backup.")
@_IDENTITY
@FORMAT
@click.pass_obj
def backup_command(
    session: Session,
    /,
    host: str | None,
    form: str,
    *,
    target: Path | None,
    recipients: tuple[str, ...],
    listed: Path | None,
    checked: Path | None,
    identities: tuple[Path, ...],
) -> int:
    """Save everything on HOST that the inventory and its secrets cannot rebuild.

    That is voicemail and greetings, the key of dialogs, the certificate and the ACME account, your
    local files, and the call log. The host goes on working. FILE has mode 0600 and private keys
    in it: encrypt it with --age-recipient, or keep it where your secrets are. --list and --verify
    read a backup and need no HOST.

    \b
    Examples:
      sipdeploy backup sip1 -o sip1.backup
      sipdeploy backup sip1 -o sip1.backup --age-recipient age1...
      sipdeploy backup --verify sip1.backup --identity key.txt
    """
    reading = [each for each in (listed, checked) if each is not None]
    if len(reading) + (host is not None or target is not None) != 1:
        raise _wrong("name a HOST and `-o FILE`, or `--list FILE`, or `--verify FILE`")
    if not reading:
        if host is None or target is None:
            raise _wrong(f"name {'a HOST' if host is None else 'the file: `-o FILE`'}")
        return _make(session, host, target, recipients, form=form)
    from sipdeploy.keeping import backup

    (path,) = reading
    content = backup.read(path, identities)
    session.output.result(_shown(content, form, is_list=listed is not None))
    return 0


def _wrong(advice: str) -> WrongUsage:
    return WrongUsage([Diagnostic("SD002", "backup does not know what to do", help=advice)])


def _make(
    session: Session, host: str, target: Path, recipients: Sequence[str], *, form: str
) -> int:
    from sipdeploy.host.connection import connect
    from sipdeploy.keeping import age, backup

    age.check_recipients(recipients)
    _check_private(target, is_encrypted=bool(recipients))
    ((name, loaded),) = opened_for(session, [host]).items()
    with session.output.waiting(described(loaded.site, [name])):
        connected = connect(name, loaded.site.hosts[name])
    try:
        with session.output.waiting(f"the backup of {name}"):
            made = backup.make(connected, target, recipients)
    finally:
        connected.close()
    session.output.problems(made.warnings)
    session.output.result(_shown(made.backup, form, is_list=False))
    return 0


def _check_private(target: Path, *, is_encrypted: bool) -> None:
    """InvalidFiles if the file cannot be written (SD110), or would get into git (SD307)."""
    try:
        files.check_writable(target)
    except OSError as failure:
        raise InvalidFiles([files.unwritable(failure)]) from failure
    state = git.state_of(target.parent, Path(target.name))
    if not is_encrypted and (state.is_tracked or state.is_unignored):
        from sipdeploy.editing.problems import in_git

        what = "private keys and messages"
        raise InvalidFiles([in_git(target, is_tracked=state.is_tracked, content=what)])


def _shown(content: Backup, form: str, *, is_list: bool) -> str:
    from sipdeploy.keeping import text

    if form == "json":
        files_ = [asdict(entry) for entry in content.files]
        return json.dumps({**asdict(content.origin), "files": files_}, indent=2)
    shown = text.summary(content)
    return f"{shown}\n{text.listing(content)}" if is_list else shown


@click.command("restore", short_help="Apply to HOST, with what a backup has.")
@click.argument("host", shell_complete=host_names)
@click.argument("file", type=_FILE)
@_IDENTITY
@click.option(
    "--other-domain", is_flag=True, help="Accept the backup of another domain, without its keys."
)
@click.option(
    "--no-local",
    "without_local",
    is_flag=True,
    help="Leave out local files, keys and certificates: for a backup that you do not trust.",
)
@click.option(
    "--replace-voicemail",
    "replaces",
    is_flag=True,
    help="Delete messages on HOST that the backup lacks, in the mailboxes that it has.",
)
@YES
@TAKE_OVER
@with_transaction
@FORMAT
@click.pass_obj
def restore_command(
    session: Session,
    /,
    host: str,
    file: Path,
    form: str,
    *,
    identities: tuple[Path, ...],
    other_domain: bool,
    without_local: bool,
    replaces: bool,
    is_agreed: bool,
    takes_over: bool,
    overwrites: bool,
    lock_wait_seconds: int,
    breaks_lock: bool,
    confirm_seconds: int,
) -> int:
    """Configure HOST as the inventory says, with the messages, keys and local files of FILE.

    An apply that takes from the backup what the host would make itself. So it works on a new
    host too, needs no ACME server, and is undone if it fails. sipdeploy checks the whole backup
    first. Local files can run programs, and whoever has the keys can act as the host: use a
    backup that others may have made or read with --no-local. The host then makes new keys, and
    calls from before can be neither held nor ended: the phones simply call again.

    \b
    Examples:
      sipdeploy restore sip1 sip1.backup
      sipdeploy restore sip1 sip1.backup --identity key.txt --yes
    """
    agree = None if is_agreed else partial(session.output.agree, question="restore it to {}?")
    if agree:
        session.output.require_terminal("restore")
    loaded = open_inventory(session.inventory)
    (name,) = chosen_hosts(loaded, [host])
    content = _checked(file, identities, None if other_domain else loaded.site.domain)
    with opened_ahead(loaded, [name]) as ahead:
        from sipdeploy.keeping.restore import Source
        from sipdeploy.transaction import Options

        options = Options(
            folder=loaded.directory,
            connect=ahead.take,
            purpose=f"restore {name}",
            agree=agree,
            foreign="warn" if takes_over else "refuse",
            overwrites=overwrites,
            lock_wait_seconds=lock_wait_seconds,
            breaks_lock=breaks_lock,
            confirm_seconds=confirm_seconds,
        )
        chosen = _chosen(session, loaded, content, with_local=not without_local)
        source = Source(file, identities, chosen, replaces=replaces)
        return _bring(session, loaded, source, (name, options), form=form)


def _chosen(session: Session, loaded: Inventory, content: Backup, *, with_local: bool) -> Material:
    """What the site takes from a backup; prints where that is from, and what is left out."""
    from sipdeploy.keeping import material

    chosen = material.material(content, loaded.site, time.time(), with_local=with_local)
    session.output.problems(chosen.warnings)
    session.output.progress(f"restoring the backup {_shown(content, 'text', is_list=False)}")
    return chosen


def _bring(
    session: Session,
    loaded: Inventory,
    source: Source,
    work: tuple[str, Options],
    *,
    form: str,
) -> int:
    """Carry the restore out on a host; the exit code."""
    from sipdeploy import transaction
    from sipdeploy.cli import run
    from sipdeploy.keeping.restore import RestoreGoal

    name, options = work
    credentials = session.credentials(loaded)
    goal = RestoreGoal(transaction.site_goal(loaded.site, credentials, loaded.directory), source)
    restore = partial(
        transaction.bring, loaded.site, name, goal, options=replace(options, keepsakes=goal)
    )
    secrets = credentials.values()
    return run.transact(session, lambda say: restore(say=say), form=form, secrets=secrets)[0]


def _checked(file: Path, identities: tuple[Path, ...], domain: str | None) -> Backup:
    """Read a whole backup; InvalidFiles (SD746) if it is not of `domain`, unless that is None."""
    from sipdeploy.keeping import backup

    content = backup.read(file, identities)
    if domain is None or content.origin.domain == domain:
        return content
    problem = Diagnostic(
        "SD746",
        f"`{file}` is a backup of `{content.origin.domain}`, and the inventory says `{domain}`",
        help="choose another inventory with `-i`; or add `--other-domain`: its keys are "
        "left out, and its messages come into the mailboxes of the same numbers",
    )
    raise InvalidFiles([problem])
