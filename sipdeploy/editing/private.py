"""New files with passwords: mode 0600, no other file replaced, none where git would add it."""

from __future__ import annotations

from pathlib import Path

from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.editing import problems
from sipdeploy.inventory import files
from sipdeploy.lint import git


def check(file: Path) -> None:
    """InvalidFiles if the file exists, cannot be written, or would get into git."""
    if file.exists() or file.is_symlink():
        raise InvalidFiles([problems.exists(file)])
    try:
        files.check_writable(file)
    except OSError as failure:
        raise InvalidFiles([files.unwritable(failure)]) from failure
    state = git.state_of(file.parent, Path(file.name))
    if state.is_tracked or state.is_unignored:
        raise InvalidFiles([problems.in_git(file, is_tracked=state.is_tracked)])


def create(file: Path, content: bytes) -> None:
    """Write the file; InvalidFiles if that fails."""
    try:
        files.create_file(file, content, 0o600)
    except FileExistsError as failure:
        raise InvalidFiles([problems.exists(file)]) from failure
    except OSError as failure:
        raise InvalidFiles([files.unwritable(failure)]) from failure
