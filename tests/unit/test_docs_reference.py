"""docs/reference.md agrees with the code: keys, defaults, commands and codes."""

import re
import typing
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from sipdeploy.cli import cli
from sipdeploy.inventory.models import Site
from sipdeploy.lint import explanations

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/reference.md").read_text("utf-8")


def section(title):
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title):
    """Return the cells of all tables of a section; an escaped bar is part of a cell."""
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def models(annotation):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from models(inner)


def keys(model, path=()):
    """Yield each key of the inventory, in the form of the page, with its field."""
    for name, field in model.model_fields.items():
        here = (*path, name)
        if typing.get_origin(field.annotation) is dict:
            here = (*here, "NUMBER" if name in ("users", "services") else "NAME")
        yield ".".join(here), field
        if here[0] == "hosts" and name in ("install", "versions"):
            continue  # they have the keys of those of the site
        for inner in dict.fromkeys(models(field.annotation)):
            yield from keys(inner, here)


KEYS = dict(keys(Site))
WRITTEN = {cells[0].strip("*`"): cells for cells in rows("Inventory keys") if "`" in cells[0]}


def test_the_page_names_the_keys_of_the_models():
    assert WRITTEN.keys() == KEYS.keys()


@pytest.mark.parametrize("key", KEYS)
def test_a_default_is_that_of_the_model(key):
    default = KEYS[key].default
    if isinstance(default, bool):
        default = str(default).lower()
    if (isinstance(default, str | int) and default != "") or key == "ports.rtp":
        assert f"`{default}`" in WRITTEN[key][1]


def test_a_required_key_is_told_as_one():
    """Bold, or with the word `required` for a key of an optional mapping."""
    for key, field in KEYS.items():
        if field.is_required() and key != "services.NUMBER":
            assert WRITTEN[key][0].startswith("**") or "required" in WRITTEN[key][2], key


def commands(group, path=()):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            if command.invoke_without_command:
                yield (*path, name), command
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = {" ".join(path): command for path, command in commands(cli)}


def told(name):
    pattern = re.compile(rf"`{re.escape(name)}(?! [a-z])[^`]*`")
    return [cells for cells in rows("Commands") if pattern.match(cells[0])]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_has_every_command_with_its_options(name):
    (cells,) = told(name)
    written = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", cells[1]))
    options = {
        option: {*parameter.opts, *parameter.secondary_opts}
        for parameter in COMMANDS[name].params
        if isinstance(parameter, click.Option) and not parameter.hidden
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option not in ("-h", "--help")
    }
    assert written <= options.keys()
    assert not {option for option, names in options.items() if not names & written}


def test_the_page_has_every_code():
    written = [cells[0] for cells in rows("Codes") if re.fullmatch(r"SD\d{3}", cells[0])]
    assert written == sorted(explanations())
