"""The order of the modules, who may import what, and the size of files and functions."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent.parent / "sipdeploy"
# Each imports only from those before it. Modules of a package are free among themselves.
ORDER = [
    "__init__",
    "diagnostics",
    "manual",
    "errors",
    "places",
    "paths",
    "reading",
    "files",
    "texts",
    "document",
    "secret",
    "fields",
    "install",
    "models",
    "checks",
    "verdicts",
    "site",
    "commands",
    "passwords",
    "rules",
    "lint_pjsip",
    "lint_rendered",
    "git",
    "lint",
    "inventory",
    "users",
    "render",
    "incoming",
    "certificates",
    "acme",
    "hosts",
    "service",
    "services",
    "known_hosts",
    "ssh_target",
    "ssh_problems",
    "ssh",
    "connection",
    "answers",
    "facts",
    "plan",
    "release",
    "candidate",
    "preflight_acme",
    "preflight",
    "steps",
    "serving",
    "apply",
    "tree",
    "init",
    "runlog",
    "progress",
    "output",
    "cli",
    "__main__",
]
ALLOWED = {
    "paramiko": {"ssh", "ssh_target", "ssh_problems", "known_hosts"},
    "jinja2": {"render"},
    "yaml": {"document"},
    "pydantic": {"secret", "install", "models", "site", "verdicts"},
    "pydantic_core": {"secret"},
    "click": {"output", "progress", "cli", "__main__"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def inner(path: Path) -> set[str]:
    names = {name.split(".")[1] for name in imports(path) if name.startswith("sipdeploy.")}
    return {name if name in ORDER else "__init__" for name in names} - {layer(path)}


def test_files_of_tests_have_names_of_their_own():
    """Pytest cannot collect two of one name, and says so only when it runs both."""
    names = [path.name for path in Path(__file__).parent.parent.rglob("test_*.py")]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_those_above_it(path):
    assert layer(path) in ORDER, "enter the module into ORDER"
    below = {name for name in inner(path) if ORDER.index(name) > ORDER.index(layer(path))}
    assert not below


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_library_is_imported_only_where_it_may_be(path):
    used = {name.split(".")[0] for name in imports(path)}
    assert not {name for name in used & ALLOWED.keys() if layer(path) not in ALLOWED[name]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_output_prints_and_only_the_command_line_exits(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if layer(path) != "output":
                assert called not in {"print", "click.echo", "sys.stdout.write"}
            if layer(path) not in {"cli", "__main__"}:
                assert called not in {"sys.exit", "exit", "os._exit"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path):
    text = path.read_text("utf-8")
    assert text.count("\n") <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.body[0].lineno < 40, node.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))
