"""The passwords of sudo of this process: one that a person typed, else those of the inventory.

Hosts with the same source share one SudoPassword, so that its command runs once, and so that a
wrong password is tried on one host.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sipdeploy.host.sudo.password import SudoPassword
from sipdeploy.inventory.commands import Outputs
from sipdeploy.inventory.passwords import fetched, source_help
from sipdeploy.inventory.secret import PlacedSource

if TYPE_CHECKING:
    from sipdeploy.inventory.secret import PasswordSource, Secret

_typed: list[SudoPassword] = []
_by_source: dict[PlacedSource, SudoPassword] = {}


def use_typed(secret: Secret | None) -> None:
    """Use one password for all hosts of this process; None forgets it."""
    _typed[:] = [SudoPassword(lambda: secret)] if secret is not None else []


def of(source: PasswordSource | None) -> SudoPassword | None:
    """The password for a host with this source; None: sudo without a password."""
    if _typed:
        return _typed[0]
    if source is None:
        return None
    placed = source if isinstance(source, PlacedSource) else PlacedSource.of(source, Path())
    advice = source_help(placed, placed.directory)
    fetch = partial(fetched, placed, placed.directory, Outputs(), is_trusted=True)
    new = SudoPassword(fetch, advice)
    return _by_source.setdefault(placed, new)  # threads open hosts at the same time
