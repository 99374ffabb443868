"""The command confirm: ends the trial of a release."""

from __future__ import annotations

import click

from sipdeploy.cli.hosts import opened_for
from sipdeploy.cli.session import Session, described, host_names


@click.command("confirm", short_help="Keep the release that is on trial on each HOST.")
@click.argument("hosts", metavar="HOST...", nargs=-1, required=True, shell_complete=host_names)
@click.option("--undo", "is_undo", is_flag=True, help="End the trial by going back now.")
@click.pass_obj
def confirm_command(session: Session, hosts: tuple[str, ...], *, is_undo: bool) -> int:
    """Keep the release that `sipdeploy apply --try` has left on trial on each HOST.

    Without it, HOST restores the previous release by itself when the time is over. It needs only
    the entry of HOST in the inventory, and works from any machine that may apply.

    \b
    Examples:
      sipdeploy apply sip1 --try 10m && sipdeploy confirm sip1
      sipdeploy confirm sip1 --undo
    """
    opened = opened_for(session, hosts)
    from sipdeploy.diagnostics.errors import SipdeployError
    from sipdeploy.host.connection import connect
    from sipdeploy.transaction import trial
    from sipdeploy.transaction.lock import this_owner

    worst = 0
    for name, loaded in opened.items():
        try:
            with session.output.waiting(described(loaded.site, [name])):
                host = connect(name, loaded.site.hosts[name])
            try:
                found = trial.find(host)
                if is_undo:
                    trial.take_back(host, found)
                else:
                    trial.keep(host, found, this_owner())
            finally:
                host.close()
        except SipdeployError as failure:
            session.output.problems(failure.diagnostics, failure.sources)
            worst = max(worst, failure.exit_code)
            continue
        what = "rolled back, the trial is over" if is_undo else "confirmed, the new release stays"
        session.output.result(f"{name}  {what}")
    return worst
