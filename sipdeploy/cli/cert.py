"""The command cert: the certificate of each port, and its renewal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from sipdeploy.cli.session import FORMAT, Session, described, host_names, opened_ahead
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import WrongUsage
from sipdeploy.inventory import chosen_hosts, open_inventory

if TYPE_CHECKING:
    from sipdeploy.host import Host
    from sipdeploy.inventory.site import Site


@click.command("cert", short_help="Show the certificate of each port and the state of renewal.")
@click.argument("host", shell_complete=host_names)
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
    session: Session, /, host: str, form: str, *, days: int, is_renewal: bool, is_test: bool
) -> int:
    """Show which certificate HOST serves on each port, and the state of its renewal.

    Exits with 1 if a port does not serve the certificate in the file, if the certificate expires
    soon, or if a renewal failed. certbot on the host renews without sipdeploy; `--renew` renews at
    once, and `--test` uses the test server of Let's Encrypt, which has no rate limits.

    \b
    Examples:
      sipdeploy cert sip1 --days 20
      sipdeploy cert sip1 --test && sipdeploy cert sip1 --renew
    """
    if is_renewal and is_test:
        raise WrongUsage(
            [Diagnostic("SD002", "`--renew` and `--test` exclude each other", help="choose one")]
        )
    loaded = open_inventory(session.inventory)
    (name,) = chosen_hosts(loaded, [host])
    if loaded.site.tls.provider != "letsencrypt" and (is_renewal or is_test):
        message = f"`tls.provider: {loaded.site.tls.provider}` has no renewal by certbot"
        advice = "`sipdeploy apply` installs a new certificate"
        raise WrongUsage([Diagnostic("SD002", message, help=advice)])
    with opened_ahead(loaded, [name]) as ahead:
        from sipdeploy.cli import serving

        with session.output.waiting(described(loaded.site, [name])):
            connected = ahead.take(name, loaded.site.hosts[name])
        try:
            if is_renewal or is_test:
                _renew(session, connected, loaded.site, is_test=is_test)
            current = serving.read(connected, loaded.site)
        finally:
            connected.close()
    problems = serving.problems(current, days)
    session.output.problems(problems)
    if form == "json":
        session.output.result(json.dumps(serving.as_data(current, problems), indent=2))
    else:
        session.output.result(serving.as_text(current))
    return int(bool(problems))


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
