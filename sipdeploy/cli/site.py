"""Commands that use only local files: init, lint, render, completion. They contact no host."""

import json
import re
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, get_args

import click
from click.core import ParameterSource
from click.shell_completion import get_completion_class

from sipdeploy import inventory, lint
from sipdeploy.cli.session import FORMAT, Session, host_names
from sipdeploy.diagnostics import Diagnostic, Source, Sources, count, has_errors
from sipdeploy.diagnostics.errors import InvalidFiles, WrongUsage
from sipdeploy.diagnostics.formats import Format
from sipdeploy.editing import init as beginning
from sipdeploy.services import tree
from sipdeploy.services.render import template_directory

_DEFAULT = "inventory.yaml"
_JOB = ".github/workflows/sipdeploy.yml"
_REQUIREMENTS = ".github/workflows/sipdeploy-requirements.txt"
_FORMATS = click.Choice(list(get_args(Format)))
_TRUSTED = click.option(
    "--trusted",
    "is_trusted",
    is_flag=True,
    help="The inventory is your own: read files that it names outside its directory; render also "
    "runs its password commands and reads its variables.",
)


@click.command("init", short_help="Create a site: inventory, passwords, .gitignore, a CI job.")
@click.argument("directory", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--domain", help="SIP domain of the site.  [default: sip.example.com]")
@click.option("--email", help="Contact of the ACME account.  [default: ops@DOMAIN]")
@click.option("--host", help="Name of the first host.  [default: sip1]")
@click.option(
    "--address", help="Address of the first host for SSH, or `local`.  [default: 203.0.113.10]"
)
@click.option(
    "--public-address", help="Numeric address at which browsers reach it.  [default: --address]"
)
@click.option(
    "--new-passwords",
    "makes_new_passwords",
    is_flag=True,
    help="Where no user has a password: generate new ones. They lock out phones that have others.",
)
@click.pass_context
def init_command(
    ctx: click.Context,
    /,
    directory: Path | None,
    *,
    makes_new_passwords: bool,
    **answers: str | None,
) -> None:
    """Create a site in DIRECTORY: inventory, passwords, .gitignore, a CI job.

    Overwrites nothing. If there is an inventory, it adds the missing parts, such as the passwords
    of new users. The certificate comes from Let's Encrypt if domain and address are public, and
    is self-signed otherwise.

    \b
    Examples:
      sipdeploy init
      sipdeploy init pbx --domain sip.example.com --address 203.0.113.10
      sipdeploy -i pbx/other.yaml init
    """
    session: Session = ctx.obj
    path = _new_inventory(ctx, session.inventory, directory)
    changes = beginning.init(
        path,
        beginning.Answers(**answers),
        _texts(path.name),
        makes_new_passwords=makes_new_passwords,
    )
    session.output.result("\n".join(changes))
    cd = "" if path.parent == Path() else f"cd {shlex.quote(str(path.parent))} && "
    name = "" if path.name == _DEFAULT else f" -i {shlex.quote(path.name)}"
    session.output.progress(
        f"next: edit {path}, then `{cd}sipdeploy{name} lint`" if changes else "nothing is missing"
    )


def _new_inventory(ctx: click.Context, inventory: Path, directory: Path | None) -> Path:
    """The inventory that init creates or completes; WrongUsage if it is named twice."""
    if directory is None:
        return inventory
    source = ctx.parent.get_parameter_source("path") if ctx.parent else None
    if source is ParameterSource.COMMANDLINE:
        message = f"`-i {inventory}` and `{directory}` both say where to create the site"
        advice = f"`sipdeploy -i {shlex.quote(str(directory / inventory.name))} init`"
        raise WrongUsage([Diagnostic("SD002", message, help=advice)])
    return directory / _DEFAULT


def _texts(name: str) -> beginning.Texts:
    folder = template_directory() / "init"
    inventory, job, requirements = (
        (folder / each).read_text("utf-8")
        for each in (_DEFAULT, Path(_JOB).name, Path(_REQUIREMENTS).name)
    )
    # the CI job lints the inventory that this variable names
    job = job.replace(f"_INVENTORY: {_DEFAULT}", f"_INVENTORY: {json.dumps(name)}")
    return beginning.Texts(inventory=inventory, others={_JOB: job, _REQUIREMENTS: requirements})


@click.command("lint", short_help="Show all problems of the inventory and its configuration.")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--format", "form", type=_FORMATS, help="Output format. [default: full; on GitHub: github]"
)
@click.option(
    "--explain",
    metavar="[CODE]",
    is_flag=False,
    flag_value="",
    help="Show the manual of a code, such as SD305; without one, list all codes.",
)
@click.option("--schema", is_flag=True, help="Show the JSON Schema of an inventory.")
@_TRUSTED
@click.pass_obj
def lint_command(
    session: Session,
    /,
    files: tuple[Path, ...],
    *,
    form: Format | None,
    explain: str | None,
    schema: bool,
    is_trusted: bool,
) -> int:
    """Show all problems of the inventory and of the configuration it would produce.

    Checks FILES, or the inventory. Safe for an inventory from a stranger: lint runs no command
    that it names, and without --trusted reads no file outside its directory. The exit code is 1
    if there are errors; warnings and notes do not change it.

    \b
    Examples:
      sipdeploy lint
      sipdeploy lint a.yaml b.yaml --format concise
      sipdeploy lint --explain SD305          `--explain` alone lists all codes
    """
    if explain is not None:
        session.output.result(_explained(explain.upper(), form))
        return 0
    if schema:
        session.output.result(inventory.schema())
        return 0
    problems: list[Diagnostic] = []
    sources: dict[str, Source] = {}
    for path in files or (session.inventory,):
        diagnostics, source = _lint(session, path, is_trusted=is_trusted)
        problems += diagnostics
        sources |= source
    session.output.findings(problems, sources, form)
    for code in sorted({each.code for each in problems}):
        session.output.detail(f"\n{code}: {lint.explanations()[code]}")
    if not problems:
        session.output.progress("no problems")
    return 1 if has_errors(problems) else 0


def _explained(code: str, form: Format | None) -> str:
    """The manual of a code, or, if `code` is empty, all codes and the first lines of theirs."""
    if form not in (None, "full", "json"):
        message = f"`--explain` has no format `{form}`"
        advice = "leave out `--format`, or write `--format json`"
        raise WrongUsage([Diagnostic("SD002", message, help=advice)])
    known = lint.explanations()
    if code and code not in known:
        raise WrongUsage([_unknown_code(code, known)])
    shown = {code: known[code]} if code else known
    if form == "json":
        return json.dumps([{"code": each, "manual": shown[each]} for each in shown], indent=2)
    if code:
        return f"{code}: {known[code]}"
    return "\n".join(f"{each}  {known[each].partition(chr(10))[0]}" for each in known)


def _unknown_code(code: str, known: Collection[str]) -> Diagnostic:
    """Suggests the code with the same number, as for `305` and `SD3055`, and no other one."""
    digits = re.search(r"[0-9]{3}", code)
    meant = f"SD{digits[0]}" if digits else ""
    advice = "`sipdeploy lint --explain` lists all codes"
    advice = f"did you mean `{meant}`?" if meant in known else advice
    return Diagnostic("SD001", f"there is no code `{code}`", help=advice)


def _lint(
    session: Session, path: Path, *, is_trusted: bool
) -> tuple[Sequence[Diagnostic], Sources]:
    try:
        loaded = inventory.open_inventory(path, is_trusted=is_trusted)
    except InvalidFiles as failure:
        return failure.diagnostics, failure.sources
    site = loaded.site
    sizes = ((site.hosts, "host"), (site.users, "user"), (site.services, "service"))
    listing = ", ".join(count(len(items), noun) for items, noun in sizes)
    session.output.detail(f"{path}: {listing}")
    return lint.lint_inventory(loaded), loaded.sources


@click.command("render", short_help="Write the files of each host to a local directory.")
@click.option(
    "--host", "hosts", multiple=True, shell_complete=host_names, help="Only this host; repeatable."
)
@click.option(
    "-o",
    "--output",
    "directory",
    default="rendered",
    show_default=True,
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Output directory.",
)
@FORMAT
@_TRUSTED
@click.pass_obj
def render_command(
    session: Session,
    hosts: tuple[str, ...],
    *,
    directory: Path,
    form: str,
    is_trusted: bool,
) -> None:
    """Write the files that `apply` would install on each host to DIR/HOST/etc/...

    The output is reproducible, and render contacts no host. It needs the passwords, because the
    files contain their HA1 values. Without --trusted it reads passwords only from files below
    the inventory's directory: it runs no command and reads no variable that the inventory names.

    \b
    Examples:
      sipdeploy render
      sipdeploy render --host sip1 -o /tmp/files
    """
    loaded = inventory.open_inventory(session.inventory, is_trusted=is_trusted)
    names = inventory.chosen_hosts(loaded, hosts)
    tree.check(directory)
    rendered = tree.render_hosts(loaded.site, names, credentials=session.credentials(loaded))
    written = [each for name in names for each in tree.write(rendered[name], name, directory)]
    listing = "\n".join(each.file for each in written)
    session.output.result(tree.as_json(written) if form == "json" else listing)


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_obj
def completion_command(session: Session, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Examples:
      sipdeploy completion bash > ~/.local/share/bash-completion/completions/sipdeploy
      sipdeploy completion zsh > ~/.zfunc/_sipdeploy
      sipdeploy completion fish > ~/.config/fish/completions/sipdeploy.fish
    """
    script: Any = get_completion_class(shell)
    source = script(
        click.get_current_context().find_root().command, {}, "sipdeploy", "_SIPDEPLOY_COMPLETE"
    ).source()
    session.output.result(source)
