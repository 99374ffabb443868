"""Finds the inventory of a site: `inventory.yaml` or `sipdeploy.yaml`, here or in a folder above.

`inventory.yaml` is also Ansible's name, so editors take a schema of Ansible for it; the other name
avoids that.
"""

import os
import shlex
from pathlib import Path

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import InvalidFiles

NAMES = ("inventory.yaml", "sipdeploy.yaml")
DEFAULT = Path(NAMES[0])


def beside(folder: Path) -> Path | None:
    """The inventory in a folder; None without one. InvalidFiles (SD111) if there are two."""
    present = [folder / name for name in NAMES if os.path.lexists(folder / name)]
    if len(present) > 1:
        first, second = present
        message = f"both `{first}` and `{second}` exist, and only one can be the inventory"
        advice = f"delete one, or choose: `sipdeploy -i {shlex.quote(str(first))}`"
        raise InvalidFiles([Diagnostic("SD111", message, help=advice)])
    return present[0] if present else None


def nearest(start: Path) -> Path:
    """The inventory in a folder, or in the nearest one above it, as far as the site can reach.

    That is the top of the git repository, or else the home directory. Outside both, such as in
    /tmp, only the folder itself counts: the one above can belong to a stranger, and an inventory
    names commands. Therefore the owner of an inventory above must be the user, or root.
    """
    found = beside(start)
    if found:
        return found
    here = Path(os.path.realpath(start))
    for folder in _above(here):
        found = beside(folder)
        if found and found.lstat().st_uid in (os.geteuid(), 0):
            return Path(os.path.relpath(found, here)) if start == Path() else found
    return start / DEFAULT


def _above(here: Path) -> list[Path]:
    """The folders above one, up to the top of its site."""
    home = Path(os.path.realpath(Path.home()))
    chain = [here, *here.parents]
    tops = [folder for folder in chain if (folder / ".git").exists()][:1]
    tops += [home] if home in chain else []
    return chain[1 : chain.index(tops[0]) + 1] if tops else []
