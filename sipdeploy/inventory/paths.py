"""Paths as people write them in files, and folders of our own in their homes; reads no file."""

import os
from pathlib import Path


def expanded(path: str) -> Path:
    """Put the home directory for `~` and `~user`; a user that there is not stays as it is.

    Whoever opens the path then tells that it is not there, by the name that was written.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def own_folder(variable: str, default: str, *parts: str) -> Path:
    """A folder below a base directory of the XDG specification, `default` below the home."""
    given = os.environ.get(variable, "")
    base = Path(given) if given.startswith("/") else Path.home() / default
    return base.joinpath("sipdeploy", *parts)


def cache_folder(name: str) -> Path | None:
    """A cache that nobody but us can write to; None where there is no such."""
    try:
        folder = own_folder("XDG_CACHE_HOME", ".cache", name)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.stat()
    except (OSError, RuntimeError):  # no home, or not ours to write to
        return None
    is_ours = found.st_uid == os.geteuid() and not found.st_mode & 0o022
    return folder if is_ours else None
