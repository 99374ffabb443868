"""The command cert: the certificate of each port, and its renewal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sipdeploy.cli.session import (
    FORMAT,
    Session,
    as_json,
    ask_each,
    described,
    host_names,
    opened_ahead,
)
from sipdeploy.diagnostics import Diagnostic, has_errors
from sipdeploy.diagnostics.errors import WrongUsage
from sipdeploy.inventory import chosen_hosts, open_inventory

if TYPE_CHECKING:
    from sipdeploy.host import Host
    from sipdeploy.inventory.site import Site


@click.command("cert", short_help="Show the certificate of each port and the state of renewal.")
@click.argument("hosts", metavar="HOST...", nargs=-1, required=True, shell_complete=host_names)
@click.option("--renew", "is_renewal", is_flag=True, help="Renew the certificate now.")
@click.option("--test", "is_test", is_flag=True, help="Rehearse a renewal; keep nothing.")
@click.option(
    "--days",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    metavar="N",
    help="Exit with 1 if the certificate expires in fewer than N days.",
)
@FORMAT
@click.pass_obj
def cert_command(
    session: Session,
    /,
    hosts: tuple[str, ...],
    form: str,
    *,
    days: int,
    is_renewal: bool,
    is_test: bool,
) -> int:
    """Show which certificate each HOST serves on its port, and the state of its renewal.

    Exits with 1 if a port does not serve the certificate in the file, if the certificate expires
    soon, or if a renewal failed. certbot on the host renews without sipdeploy; `--renew` renews at
    once, and `--test` uses the test server of Let's Encrypt, which has no rate limits.

    \b
    Examples:
      sipdeploy cert sip1 sip2 --days 20
      sipdeploy cert sip1 --test && sipdeploy cert sip1 --renew
    """
    loaded = open_inventory(session.inventory)
    names = chosen_hosts(loaded, hosts)
    _check(loaded.site, is_renewal=is_renewal, is_test=is_test)
    with opened_ahead(loaded, names) as ahead:
        from sipdeploy.cli import serving

        def ask(name: str) -> serving.Serving:
            with session.output.waiting(described(loaded.site, [name])):
                connected = ahead.take(name, loaded.site.hosts[name])
            try:
                if is_renewal or is_test:
                    _renew(session, connected, loaded.site, is_test=is_test)
                return serving.read(connected, loaded.site)
            finally:
                connected.close()

        answers, code = ask_each(session, names, ask)
    problems = {name: serving.problems(answer, days) for name, answer in answers.items()}
    session.output.problems([each for some in problems.values() for each in some])
    if form == "json":
        rows = {name: serving.as_data(answers[name], problems[name]) for name in answers}
        session.output.result(as_json(rows, names))
    else:
        session.output.result("\n".join(map(serving.as_text, answers.values())))
    return code or int(any(has_errors(each) for each in problems.values()))


def _check(site: Site, *, is_renewal: bool, is_test: bool) -> None:
    """Raise WrongUsage for options that exclude each other, or that the site cannot follow."""
    if is_renewal and is_test:
        raise WrongUsage(
            [Diagnostic("SD002", "`--renew` and `--test` exclude each other", help="choose one")]
        )
    if site.tls.provider != "letsencrypt" and (is_renewal or is_test):
        message = f"`tls.provider: {site.tls.provider}` has no renewal by certbot"
        advice = "`sipdeploy apply` installs a new certificate"
        raise WrongUsage([Diagnostic("SD002", message, help=advice)])


def _renew(session: Session, host: Host, site: Site, *, is_test: bool) -> None:
    from sipdeploy.cli import serving
    from sipdeploy.services import acme
    from sipdeploy.transaction.runner import run_step

    order = acme.order(site)
    if order is None:
        return
    with session.output.steps() as say:
        run_step(
            host,
            f"{'rehearse a renewal' if is_test else 'renew'} with {order.server}",
            lambda machine, _: serving.renew(machine, order, is_test=is_test),
            say,
        )
