"""Paths as people write them in files; reads none of them."""

from pathlib import Path


def expanded(path: str) -> Path:
    """Put the home directory for `~` and `~user`; a user that there is not stays as it is.

    Whoever opens the path then tells that it is not there, by the name that was written.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
