"""The command uninstall."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sipdeploy.cli.hosts import YES, opened_for
from sipdeploy.cli.session import Session, described, host_names

if TYPE_CHECKING:
    from sipdeploy.host import Host
    from sipdeploy.keeping.uninstall import Remains, Removal


@click.command("uninstall", short_help="Remove the calling system from HOST.")
@click.argument("host", shell_complete=host_names)
@click.option(
    "--purge", "purges", is_flag=True, help="Also purge the packages, and delete certificates."
)
@click.option(
    "--delete-voicemail", "with_voicemail", is_flag=True, help="Also delete all messages."
)
@YES
@click.option(
    "--break-lock", "breaks_lock", is_flag=True, help="Take over the lock of a dead run."
)
@click.pass_obj
def uninstall_command(
    session: Session,
    /,
    host: str,
    *,
    purges: bool,
    with_voicemail: bool,
    is_agreed: bool,
    breaks_lock: bool,
) -> int:
    """Bring HOST back to what it was before the first apply.

    Shows first what it will do, and asks. Files that were there before come back, with the units
    that ran; files, units, rules and users of sipdeploy go. Packages, voicemail, certificates and
    your local files stay, unless an option says otherwise. All calls and registrations end.

    \b
    Examples:
      sipdeploy backup sip1 -o sip1.backup && sipdeploy uninstall sip1
      sipdeploy uninstall sip1 --purge --delete-voicemail --yes
    """
    if not is_agreed:
        session.output.require_terminal("uninstall")
    ((name, loaded),) = opened_for(session, [host]).items()
    from sipdeploy.host.connection import connect
    from sipdeploy.keeping import uninstall

    with session.output.waiting(described(loaded.site, [name])):
        connected = connect(name, loaded.site.hosts[name])
    try:
        remains = uninstall.survey(connected, breaks_lock=breaks_lock)
        removal = uninstall.removal(remains, purges=purges, with_voicemail=with_voicemail)
        session.output.progress(removal.as_text(name))
        if is_agreed or click.confirm(f"uninstall {name}?", err=True):
            _carry_out(session, connected, remains, removal)
            session.output.result(f"{name}  uninstalled")
    finally:
        connected.close()
    return 0


def _carry_out(session: Session, host: Host, remains: Remains, removal: Removal) -> None:
    """Take the lock, and uninstall; a failure releases the lock."""
    from sipdeploy.keeping.uninstall import Uninstall, owner_of
    from sipdeploy.transaction.lock import Lock, this_owner
    from sipdeploy.transaction.runner import UndoStack

    owner = owner_of(this_owner(), remains, f"uninstall {host.name}")
    with session.output.steps() as say:
        UndoStack(host, say).run(Lock(owner=owner), Uninstall(owner=owner, removal=removal))
