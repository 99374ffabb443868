"""Commands that use only local files: init, render, schema, completion. They contact no host."""

import json
import shlex
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import get_completion_class

from sipdeploy import inventory
from sipdeploy.cli.session import FORMAT, TRUSTED, Session, host_names
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import WrongUsage
from sipdeploy.editing import init as beginning
from sipdeploy.inventory import search
from sipdeploy.services import tree
from sipdeploy.services.phone import page
from sipdeploy.services.render import template_directory

_DEFAULT = str(search.DEFAULT)
_REQUIREMENTS = "sipdeploy-requirements.txt"
# The CI service -> the folder of its files, and the template of the job.
_CI = {"github": (".github/workflows", "sipdeploy.yml"), "gitlab": (".gitlab", "gitlab.yml")}
_GITLAB = ".gitlab-ci.yml"


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
    "--ci",
    type=click.Choice([*_CI, "none"]),
    help="The CI service of the job.  [default: gitlab if there is a .gitlab-ci.yml, else github]",
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
    ci: str | None,
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
    path = _new_inventory(ctx, session.named, directory)
    changes = beginning.init(
        path,
        beginning.Answers(**answers),
        _texts(path, ci or ("gitlab" if (path.parent / _GITLAB).exists() else "github")),
        makes_new_passwords=makes_new_passwords,
    )
    session.output.result("\n".join(changes))
    cd = "" if path.parent == Path() else f"cd {shlex.quote(str(path.parent))} && "
    name = "" if path.name == _DEFAULT else f" -i {shlex.quote(path.name)}"
    session.output.progress(
        f"next: edit {path}, then `{cd}sipdeploy{name} lint`" if changes else "nothing is missing"
    )


def _new_inventory(ctx: click.Context, named: Path | None, directory: Path | None) -> Path:
    """The inventory that init creates or completes; WrongUsage if it is named twice."""
    if directory is None:
        return named or search.beside(Path()) or search.DEFAULT
    source = ctx.parent.get_parameter_source("path") if ctx.parent else None
    if named is not None and source is ParameterSource.COMMANDLINE:
        message = f"`-i {named}` and `{directory}` both say where to create the site"
        advice = f"`sipdeploy -i {shlex.quote(str(directory / named.name))} init`"
        raise WrongUsage([Diagnostic("SD002", message, help=advice)])
    return search.beside(directory) or directory / search.DEFAULT


def _texts(path: Path, ci: str) -> beginning.Texts:
    """The template of the inventory, and the files of the CI service."""
    source = template_directory() / "init"
    inventory = (source / _DEFAULT).read_text("utf-8")
    has_page = page.folder() is not None
    if ci not in _CI:
        return beginning.Texts(inventory=inventory, has_page=has_page)
    folder, template = _CI[ci]
    job = (source / template).read_text("utf-8")
    # the CI job lints the inventory that this variable names
    job = job.replace(f"_INVENTORY: {_DEFAULT}", f"_INVENTORY: {json.dumps(path.name)}")
    requirements = (source / _REQUIREMENTS).read_text("utf-8")
    others = {f"{folder}/sipdeploy.yml": job, f"{folder}/{_REQUIREMENTS}": requirements}
    if ci == "gitlab":
        others[_GITLAB] = f"include:\n  - local: {folder}/sipdeploy.yml\n"
    return beginning.Texts(inventory=inventory, others=others, has_page=has_page)


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
@TRUSTED
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
    rendered = tree.render_hosts(
        loaded.site,
        names,
        credentials=session.credentials(loaded),
        attachments=inventory.attachments(loaded),
    )
    written = [each for name in names for each in tree.write(rendered[name], name, directory)]
    listing = "\n".join(each.file for each in written)
    session.output.result(tree.as_json(written) if form == "json" else listing)


@click.command("schema", short_help="Print the JSON Schema of an inventory, for editors.")
@click.pass_obj
def schema_command(session: Session) -> None:
    """Print the JSON Schema of an inventory, with which editors complete and explain its keys.

    `init` writes it beside the inventory, and names it in the first line of the inventory.

    \b
    Examples:
      sipdeploy schema > inventory.schema.json
    """
    session.output.result(inventory.schema())


@click.command("completion")
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_obj
def completion_command(session: Session, shell: str) -> None:
    """Print the completion script of SHELL: bash, zsh or fish.

    \b
    Examples:
      sipdeploy completion bash \\
        > ~/.local/share/bash-completion/completions/sipdeploy
      sipdeploy completion zsh > ~/.zfunc/_sipdeploy
      sipdeploy completion fish > ~/.config/fish/completions/sipdeploy.fish
    """
    script: Any = get_completion_class(shell)
    source = script(
        click.get_current_context().find_root().command, {}, "sipdeploy", "_SIPDEPLOY_COMPLETE"
    ).source()
    session.output.result(source)
