"""Finds files with secrets beside an inventory that git has, or would take.

Looks only below the directory of the inventory, at a limited number of files, and shows nothing of
their contents.
"""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from sipdeploy.inventory import reading
from sipdeploy.inventory.document import Path as Key
from sipdeploy.inventory.secret import PasswordSource
from sipdeploy.inventory.site import Site
from sipdeploy.lint import git
from sipdeploy.lint.rules import Exposed

_MOST = 20  # git is asked about each
_MOST_ENTRIES = 10_000
_MOST_BYTES = 16 << 20  # of a table; lint needs its first line only


def exposed(site: Site, directory: Path) -> Iterator[Exposed]:
    """The files with secrets that git tracks, or does not ignore."""
    named = {**dict(_tables(directory)), **dict(_named(site))}
    for name, key in islice(named.items(), _MOST):
        state = git.state_of(directory, Path(name))
        if state.is_tracked or state.is_unignored:
            yield Exposed(name=name, key=key, is_tracked=state.is_tracked)


def _named(site: Site) -> Iterator[tuple[str, Key]]:
    """The files of the inventory that contain secrets, relative to its directory."""
    for key in ("private_key", "dns_credentials"):
        name = getattr(site.tls, key)
        if name is not None and _is_inside(name):
            yield name, ("tls", key)
    for host, entry in site.hosts.items():
        sudo = entry.sudo_password
        if sudo is not None and sudo.file and _is_inside(sudo.file):
            yield sudo.file, ("hosts", host, "sudo_password", "file")
    for number, user in site.users.items():
        source = user.password
        if isinstance(source, PasswordSource) and source.file and _is_inside(source.file):
            yield source.file, ("users", number, "password", "file")
    for number, service in site.services.items():
        pin = service.pin
        if isinstance(pin, PasswordSource) and pin.file and _is_inside(pin.file):
            yield pin.file, ("services", number, "pin", "file")


def _is_inside(name: str) -> bool:
    return not name.startswith(("/", "~")) and ".." not in Path(name).parts and "\0" not in name


def _tables(directory: Path) -> Iterator[tuple[str, Key]]:
    """The tables with a column of passwords beside the inventory."""
    try:
        with os.scandir(directory) as entries:
            names = sorted(
                e.name for e in islice(entries, _MOST_ENTRIES) if e.name.endswith(".csv")
            )
    except OSError:
        return
    for name in names[:_MOST]:
        try:
            raw = reading.below(directory, Path(name), _MOST_BYTES).raw
        except (OSError, ValueError):
            continue
        head = raw.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].lower()
        columns = [cell.strip(b' \r"') for cell in head.replace(b";", b",").split(b",")]
        if b"password" in columns:
            yield name, ()
