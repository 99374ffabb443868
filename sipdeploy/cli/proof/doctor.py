"""The command doctor: why a host does not work, in one sentence with the remedy."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import click

from sipdeploy.cli.output import is_terminal
from sipdeploy.cli.proof.progress import watch_of
from sipdeploy.cli.session import Session, host_names
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import WrongUsage
from sipdeploy.inventory import chosen_hosts, open_inventory, secrets
from sipdeploy.proof.doctor.rung import TOPICS

if TYPE_CHECKING:
    from sipdeploy.host import Host
    from sipdeploy.inventory import Inventory
    from sipdeploy.proof.doctor.rung import Diagnosis, Topic
    from sipdeploy.proof.outside.subject import Account


@click.command("doctor", short_help="Say why phones cannot use HOST, and what to type.")
@click.argument("host", shell_complete=host_names)
@click.argument("topic", metavar="[TOPIC]", required=False, type=click.Choice(TOPICS))
@click.option(
    "--user",
    "number",
    metavar="NUMBER",
    help="Whose trouble it is: also register as this user, and read what became of the calls.",
)
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="Output format."
)
@click.pass_obj
def doctor_command(
    session: Session,
    /,
    host: str,
    topic: Topic | None,
    form: Literal["text", "json"],
    *,
    number: str | None,
) -> int:
    """Find the first thing that keeps phones from using HOST, and say what to type.

    sipdeploy climbs from the network to the sound: it uses HOST as phones do, and asks HOST itself
    over SSH. It stops at the first rung that is broken, with the evidence and the remedy. TOPIC
    ends the climb there: connect, register, call, audio or voicemail. Nothing on HOST changes,
    but for two probe accounts, which HOST forgets after two minutes in any case.

    Exits with 1 if something is broken, and with 4 if HOST could not be asked.

    \b
    Examples:
      sipdeploy doctor sip1                      everything, in order
      sipdeploy doctor sip1 audio                there is no sound
      sipdeploy doctor sip1 register --user 1002
    """
    loaded = open_inventory(session.inventory)
    (name,) = chosen_hosts(loaded, [host])
    account = _account(loaded, number) if number else None
    if topic == "audio":
        from sipdeploy.sip import media

        media.require()
    diagnosis = _diagnose(session, loaded, name, topic, account)
    _show(session, diagnosis, form)
    return diagnosis.exit_code


def _account(loaded: Inventory, number: str) -> Account:
    """The account of a user, with the password of the inventory."""
    from sipdeploy.proof.outside.subject import Account

    if number not in loaded.site.users:
        advice = "`sipdeploy users` lists them"
        message = f"the inventory has no user `{number}`"
        raise WrongUsage([Diagnostic("SD001", message, help=advice)])
    password = secrets(loaded)[number].reveal()
    return Account(number=number, password=password, title=f"phone of {number}")


def _diagnose(
    session: Session,
    loaded: Inventory,
    name: str,
    topic: Topic | None,
    account: Account | None,
) -> Diagnosis:
    from sipdeploy.proof.doctor.walk import diagnose_host
    from sipdeploy.proof.outside.probes import Probes
    from sipdeploy.proof.outside.subject import Subject

    entry = loaded.site.hosts[name]
    with contextlib.ExitStack() as stack, session.output.steps() as say:
        connected = _once(name, loaded, stack)
        subject = Subject(
            name=name,
            site=loaded.site,
            entry=entry,
            level="full",
            probes=Probes(name=name, domain=loaded.site.domain, connect=connected),
        )
        return diagnose_host(
            subject, connected, topic=topic, account=account, watch=watch_of(name, say)
        )


def _once(name: str, loaded: Inventory, stack: contextlib.ExitStack) -> Callable[[], Host]:
    """Connects at the first call; later ones return the same connection."""
    opened: list[Host] = []

    def connected() -> Host:
        from sipdeploy.host.connection import connect

        if not opened:
            opened.append(connect(name, loaded.site.hosts[name]))
            stack.callback(opened[0].close)
        return opened[0]

    return connected


def _show(session: Session, diagnosis: Diagnosis, form: Literal["text", "json"]) -> None:
    from sipdeploy.proof.doctor import report

    if form == "json":
        session.output.result(report.as_json(diagnosis))
        return
    is_seen = is_terminal(sys.stdout) and is_terminal(sys.stderr) and not session.output.quiet
    session.output.result(report.as_text(diagnosis, has_shown=is_seen))
