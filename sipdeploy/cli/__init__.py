"""The command line: each command parses, calls, prints, and returns an exit code.

It has no rules and no files of its own. sipdeploy imports a command only when it is called,
because the start takes most of the time of a no-op apply.
"""

import difflib
import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from sipdeploy import __version__
from sipdeploy.cli.output import Output
from sipdeploy.cli.session import Session, ask_sudo_password

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 99}
# Command -> the module that defines it as `NAME_command`, in the order of the help.
_COMMANDS = {
    "init": "site",
    "lint": "lint",
    "test": "lint",
    "render": "site",
    "plan": "hosts",
    "apply": "hosts",
    "rollback": "hosts",
    "history": "releases.history",
    "confirm": "releases.confirm",
    "upgrade": "releases.upgrade",
    "add-user": "users",
    "remove-user": "users",
    "set-password": "users",
    "users": "users",
    "secrets": "users",
    "verify": "proof.verify",
    "doctor": "proof.doctor",
    "phone": "phone",
    "cert": "cert",
    "schema": "site",
    "status": "daytwo.status",
    "backup": "daytwo.backup",
    "restore": "daytwo.backup",
    "uninstall": "daytwo.uninstall",
    "calls": "daytwo.calls",
    "logs": "daytwo.logs",
    "trace": "daytwo.trace",
    "completion": "site",
}


def _global_options(*, is_late: bool) -> list[click.Option]:
    """The options of all commands: of the group, or, if `is_late`, of a command itself."""
    late: dict[str, Any] = {"hidden": True, "expose_value": False, "callback": _override}
    early: dict[str, Any] = {
        "default": None,
        "envvar": "SIPDEPLOY_INVENTORY",
        "show_envvar": True,
    }
    path, flag = (late, late) if is_late else (early, {})
    return [
        click.Option(
            ["-i", "--inventory", "path"],
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="Inventory file to use.  [default: inventory.yaml or sipdeploy.yaml]",
            **path,
        ),
        click.Option(
            ["-v", "--verbose"],
            is_flag=True,
            help="Print more: whole differences, unchanged files, manuals of problems.",
            **flag,
        ),
        click.Option(
            ["-q", "--quiet"], is_flag=True, help="Print only results and problems.", **flag
        ),
        click.Option(
            ["--ask-sudo-password", "asks_sudo"],
            is_flag=True,
            help="Ask for the password of sudo, for all hosts.",
            **flag,
        ),
    ]


def _override(ctx: click.Context, option: click.Parameter, value: Any) -> None:
    """Give a command its session anew, with a global option that stands after its name."""
    if isinstance(value, Path):
        ctx.find_root().params["path"] = value  # where the completion of host names looks
    session = ctx.obj
    if session is None or not value:
        return
    if option.name == "asks_sudo":
        ask_sudo_password()
    elif isinstance(value, Path):
        ctx.obj = replace(session, named=value)
    else:
        ctx.obj = replace(session, output=replace(session.output, **{str(option.name): True}))


def _with_global_options(command: click.Command) -> click.Command:
    """Accept the global options after the name of a command, and mention them in its help."""
    if command.epilog is None:
        command.params += _global_options(is_late=True)
        command.epilog = (
            "\b\nOptions of every command, see `sipdeploy --help`:\n"
            "-i FILE, -v, -q, --ask-sudo-password"
        )
    for each in command.commands.values() if isinstance(command, click.Group) else ():
        _with_global_options(each)
    return command


class Commands(click.Group):
    """A group that imports a command on demand and suggests one for a misspelt name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, in the order of the help."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command; None for an unknown name."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"sipdeploy.cli.{_COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        return _with_global_options(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; click.UsageError suggests the nearest name for an unknown one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as failure:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=2, cutoff=0.6)
            if len(near) != 1 or "Did you mean" in failure.message:
                raise
            advice = f"{failure.message} Did you mean '{near[0]}'?"
            raise click.UsageError(advice, ctx) from failure


@click.group(cls=Commands, context_settings=_CONTEXT, params=[*_global_options(is_late=False)])
@click.version_option(__version__, prog_name="sipdeploy")
@click.pass_context
def cli(
    ctx: click.Context, path: Path | None, *, verbose: bool, quiet: bool, asks_sudo: bool
) -> None:
    """Turn one YAML file into a running, verified WebRTC calling system.

    \b
    A first site:
      sipdeploy init pbx && cd pbx
      sipdeploy lint
      sipdeploy plan
      sipdeploy apply

    \b
    Exit codes:
      0  success                      3    a bug in sipdeploy
      1  problems in your files, or   4    host unreachable, or apply undone
         changes with plan --check    5    apply failed, and so did the rollback
      2  wrong usage                  130  interrupted, changes were undone

    The options below also work after the command: `sipdeploy plan sip1 -v`.
    Shell completion: see `sipdeploy completion --help`.
    """
    ctx.obj = Session(named=path, output=Output(quiet=quiet, verbose=verbose))
    if asks_sudo:
        ask_sudo_password()
