"""The subpackages, their imports, and the sizes of files and functions."""

import ast
import statistics
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent.parent / "sipdeploy"
# Each subpackage may import from the lines above it, but not from its own line.
ROOMS = [
    {"__init__"},
    {"diagnostics"},
    {"inventory"},
    {"host", "services", "sip"},
    {"lint"},
    {"facts"},
    {"editing"},
    {"plan"},
    {"operation"},
    {"proof"},
    {"transaction"},
    {"keeping"},
    {"cli"},
    {"__main__"},
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
# Exceptions within a line.
PAIRS: set[tuple[str, str]] = set()
LIBRARIES = {
    "paramiko": {"host"},
    "jinja2": {"services"},
    "yaml": {"inventory"},
    "pydantic": {"inventory", "transaction", "keeping"},
    "pydantic_core": {"inventory"},
    "click": {"cli", "__main__"},
    "aiortc": {"sip"},
    "av": {"sip"},
    "websockets": {"sip"},
}
# The only file that imports what the extra `media` installs.
WITH_AIORTC = PACKAGE / "sip" / "media" / "audio.py"
FILES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = [PACKAGE, *sorted({path.parent for path in FILES} - {PACKAGE})]
by_path = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))


def room(path: Path) -> str:
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


def rooms_of(path: Path) -> set[str]:
    """Return the other subpackages that a file imports."""
    names = {name.split(".")[1] for name in imports(path) if name.startswith("sipdeploy.")}
    return {name if name in LEVEL else "__init__" for name in names} - {room(path)}


def test_files_of_tests_have_names_of_their_own():
    """Pytest cannot collect two files of the same name, but only reports it for both together."""
    names = [path.name for path in Path(__file__).parent.parent.rglob("test_*.py")]
    assert len(names) == len(set(names))


def test_the_top_level_is_the_picture_of_the_flow():
    assert {room(path) for path in FILES} == LEVEL.keys()
    assert len(LEVEL.keys() - {"__init__", "__main__"}) <= 14


@by_path
def test_a_room_imports_only_from_those_above_it(path):
    here = room(path)
    wrong = {name for name in rooms_of(path) if LEVEL[name] >= LEVEL[here]}
    assert not {(here, name) for name in wrong} - PAIRS


@by_path
def test_a_library_is_imported_only_where_it_may_be(path):
    used = {name.split(".")[0] for name in imports(path)}
    assert not {name for name in used & LIBRARIES.keys() if room(path) not in LIBRARIES[name]}


def test_one_file_needs_the_extra_and_is_imported_in_one_function():
    needing = {"aiortc", "av", "aioice"}
    files = [path for path in FILES if {name.split(".")[0] for name in imports(path)} & needing]
    assert files == [WITH_AIORTC]
    tops = {path: ast.parse(path.read_text("utf-8")).body for path in FILES}
    names = [
        node.module for body in tops.values() for node in body if isinstance(node, ast.ImportFrom)
    ]
    assert "sipdeploy.sip.media.audio" not in names


@by_path
def test_only_output_prints_and_only_the_command_line_exits(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if path != PACKAGE / "cli" / "output.py":
                assert called not in {"print", "click.echo", "sys.stdout.write"}
            if room(path) not in {"cli", "__main__"}:
                assert called not in {"sys.exit", "exit", "os._exit"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_package_stays_small(folder):
    assert len(list(folder.glob("*.py"))) <= 12


@by_path
def test_files_and_functions_stay_small(path):
    text = path.read_text("utf-8")
    assert text.count("\n") <= 600
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.body[0].lineno < 40, node.name


def test_most_files_are_short():
    assert statistics.median(path.read_text("utf-8").count("\n") for path in FILES) < 200


@by_path
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))
