"""The command upgrade: newer packages of the daemons."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import click

from sipdeploy.cli.hosts import VERIFY, YES, shown_plans, with_transaction, with_trial
from sipdeploy.cli.session import FORMAT, Session, host_names, opened_ahead
from sipdeploy.inventory import chosen_hosts, open_inventory, refuse_placeholders

if TYPE_CHECKING:
    from sipdeploy.transaction import Planned, Report


@click.command("upgrade", short_help="Bring newer packages of the daemons to HOST.")
@click.argument("host", shell_complete=host_names)
@click.option(
    "--dry-run", "is_dry", is_flag=True, help="Show the plan, and what it interrupts now."
)
@YES
@VERIFY
@with_trial
@with_transaction
@FORMAT
@click.pass_obj
def upgrade_command(
    session: Session,
    /,
    host: str,
    form: str,
    *,
    is_dry: bool,
    is_agreed: bool,
    verify: Literal["ports", "quick", "full", "none"],
    **values: Any,
) -> int:
    """Bring the newest packages of Kamailio, Asterisk, coturn and nginx that HOST can get.

    It is an apply, with its proof and its way back: HOST fetches the new packages, keeps the
    present ones, judges its configuration with the new daemons, and restarts them. If anything
    fails, it returns to the present packages, without the network. `sipdeploy rollback` does the
    same later. Other packages of HOST stay as they are.

    \b
    Examples:
      sipdeploy upgrade sip1 --dry-run
      sipdeploy upgrade sip1 --watch 15m
    """
    if not (is_agreed or is_dry):
        session.output.require_terminal("upgrade")
    loaded = open_inventory(session.inventory)
    (name,) = chosen_hosts(loaded, [host])
    refuse_placeholders(loaded, [name])
    credentials = session.credentials(loaded)
    with opened_ahead(loaded, [name]) as ahead:
        from sipdeploy import transaction
        from sipdeploy.cli import run
        from sipdeploy.transaction.upgrade import UpgradeGoal

        goal = UpgradeGoal(transaction.site_goal(loaded.site, credentials, loaded.directory))
        agree = partial(session.output.agree, question="upgrade {} like this?", proof=verify)
        options = transaction.Options(
            folder=loaded.directory,
            connect=ahead.take,
            purpose=f"upgrade {name}",
            agree=None if is_agreed else agree,
            verify=verify,
            foreign="refuse",
            **values,
        )
        run.check_proof(options)
        given = (loaded.site, name, goal)
        if is_dry:
            return _show(session, partial(transaction.survey, *given, options=options), form)
        bring = partial(transaction.bring, *given, options=options)
        return _carry_out(session, bring, form, credentials.values())


def _show(session: Session, survey: Callable[..., tuple[Planned, ...]], form: str) -> int:
    with session.output.steps() as say:
        planned = survey(say=say)
    for each in planned:
        session.output.problems(each.diagnostics, each.sources)
    whole = session.output.verbose
    session.output.result(shown_plans(planned, form, diffs=whole, is_whole=whole))
    return max(each.exit_code for each in planned)


def _carry_out(
    session: Session,
    bring: Callable[..., tuple[Report, ...]],
    form: str,
    secrets: Iterable[str],
) -> int:
    from sipdeploy.cli import run

    code, reports = run.transact(session, lambda say: bring(say=say), form=form, secrets=secrets)
    if not code and not any(report.changes for report in reports):
        session.output.progress("the archives of the host have no newer packages")
    return code
