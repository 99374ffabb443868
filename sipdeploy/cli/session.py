"""What commands share: their context, the completion of host names, and common options."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sipdeploy.diagnostics.errors import HostFailed, InvalidFiles, WrongUsage

if TYPE_CHECKING:
    from sipdeploy.cli.output import Output
    from sipdeploy.host.connection import Ahead
    from sipdeploy.inventory import Inventory
    from sipdeploy.inventory.site import Site


T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The inventory of a command and its output.

    `named` is the inventory of the command line; without one, the nearest is looked for.
    """

    output: Output
    named: Path | None = None
    _found: list[Path] = field(default_factory=list, compare=False, repr=False)

    @property
    def inventory(self) -> Path:
        """The inventory. InvalidFiles (SD111) if there are two; says so if it is not as usual."""
        from sipdeploy.inventory import search

        if self.named is not None:
            return self.named
        if not self._found:
            self._found.append(search.nearest(Path()))
            if self._found[0] != search.DEFAULT:
                self.output.progress(f"inventory: {self._found[0]}")
        return self._found[0]

    def credentials(self, loaded: Inventory) -> dict[str, str]:
        """Return the HA1 of every user by number, and print any warnings.

        Raises InvalidFiles if a password is missing or cannot be fetched.
        """
        from sipdeploy import inventory

        credentials, problems = inventory.credentials(loaded)
        if problems:
            self.output.problems(problems, loaded.sources)
        return credentials


def ask_sudo_password() -> None:
    """Ask on the terminal for the password of sudo, whatever standard input is.

    WrongUsage (SD552) without a terminal, or for an empty password.
    """
    import getpass
    import warnings

    from sipdeploy.diagnostics import Diagnostic
    from sipdeploy.host.sudo import passwords
    from sipdeploy.inventory.secret import Secret

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)  # it would echo the password
            text = getpass.getpass("password of sudo on the hosts: ")
    except EOFError:
        text = ""
    except getpass.GetPassWarning:
        message = "cannot ask for the password of sudo: there is no terminal"
        advice = "name its source in the inventory: `hosts.NAME.sudo_password: {command: ...}`"
        raise WrongUsage([Diagnostic("SD552", message, help=advice)]) from None
    if not text:
        message, advice = "the password of sudo is empty", "run the command again, and type it"
        raise WrongUsage([Diagnostic("SD552", message, help=advice)])
    passwords.use_typed(Secret(text))


def described(site: Site, names: Sequence[str]) -> str:
    """The hosts with their addresses, for what a command waits for."""
    return ", ".join(f"{name} ({site.hosts[name].address})" for name in names)


def host_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete names of hosts from the inventory; nothing if it cannot be read."""
    from sipdeploy import inventory
    from sipdeploy.inventory import search

    del parameter
    path = ctx.find_root().params.get("path")
    try:
        path = Path(path) if path else search.nearest(Path())
        names = inventory.open_inventory(path, is_trusted=False).site.hosts
    except InvalidFiles:
        return []
    return [name for name in names if name.startswith(incomplete)]


def opened_ahead(loaded: Inventory, names: Sequence[str]) -> Ahead:
    """Open the connections in the background while Python imports the rest."""
    from sipdeploy.host.connection import Ahead

    return Ahead((name, loaded.site.hosts[name]) for name in names)


def ask_each(
    session: Session, names: Sequence[str], ask: Callable[[str], T]
) -> tuple[dict[str, T], int]:
    """Ask each host; the answers, and the exit code if a host did not answer.

    Prints the problems of such a host, and goes on with the next.
    """
    answers: dict[str, T] = {}
    code = 0
    for name in names:
        try:
            answers[name] = ask(name)
        except HostFailed as failure:
            session.output.problems(failure.diagnostics, failure.sources)
            code = failure.exit_code
    return answers, code


def as_json(answers: Mapping[str, Any], names: Sequence[str]) -> str:
    """The data of hosts: an object for one host, `{"hosts": [...]}` for several."""
    rows = list(answers.values())
    return json.dumps({"hosts": rows} if len(names) > 1 else rows[0], indent=2) if rows else ""


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic only in new versions
    """A time such as `90s`, `10m` or `2h`, in seconds, up to a day."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The seconds; click.BadParameter if the text is no such time."""
        if isinstance(value, int):  # the default
            return value
        match = re.fullmatch(r"([1-9][0-9]{0,5})([smh])", str(value), re.ASCII)
        seconds = int(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]] if match else 0
        if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
            self.fail(f"{value!r} is not a time from 30s to 24h; write `10m`.", param, ctx)
        return seconds


LEAST_SECONDS, MOST_SECONDS = 30, 86_400
FORMAT = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="Output format."
)
TRUSTED = click.option(
    "--trusted",
    "is_trusted",
    is_flag=True,
    help="The inventory is your own: read files that it names outside its directory; render also "
    "runs its password commands and reads its variables.",
)
