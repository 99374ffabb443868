"""The command line: each command parses, calls, prints, and returns an exit code.

It has no rules and no files of its own. sipdeploy imports a command only when it is called,
because the start takes most of the time of a no-op apply.
"""

import difflib
import importlib
from pathlib import Path

import click

from sipdeploy import __version__
from sipdeploy.cli.output import Output
from sipdeploy.cli.session import Session

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 99}
# Command -> the module that defines it as `NAME_command`, in the order of the help.
_COMMANDS = {
    "init": "site",
    "lint": "site",
    "render": "site",
    "plan": "hosts",
    "apply": "hosts",
    "rollback": "hosts",
    "history": "hosts",
    "add-user": "users",
    "remove-user": "users",
    "set-password": "users",
    "users": "users",
    "secrets": "users",
    "cert": "cert",
    "completion": "site",
}


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
        return command

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


@click.group(cls=Commands, context_settings=_CONTEXT)
@click.option(
    "-i",
    "--inventory",
    "path",
    default="inventory.yaml",
    show_default=True,
    envvar="SIPDEPLOY_INVENTORY",
    show_envvar=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Inventory file to use.",
)
@click.option("-v", "--verbose", is_flag=True, help="Print more details.")
@click.option("-q", "--quiet", is_flag=True, help="Print only results and problems.")
@click.version_option(__version__, prog_name="sipdeploy")
@click.pass_context
def cli(ctx: click.Context, path: Path, *, verbose: bool, quiet: bool) -> None:
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

    Shell completion: see `sipdeploy completion --help`.
    """
    ctx.obj = Session(inventory=path, output=Output(quiet=quiet, verbose=verbose))
