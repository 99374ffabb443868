"""The context of every command, and the completion of host names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sipdeploy.diagnostics.errors import InvalidFiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    import click

    from sipdeploy.cli.output import Output
    from sipdeploy.diagnostics import Diagnostic
    from sipdeploy.inventory import Inventory


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The inventory of a command and its output."""

    inventory: Path
    output: Output

    def tell(self, problems: Sequence[Diagnostic], loaded: Inventory) -> None:
        """Print problems with excerpts of the inventory."""
        if problems:
            self.output.problems(problems, loaded.sources)


def host_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete names of hosts from the inventory; nothing if it cannot be read."""
    from sipdeploy import inventory

    del parameter
    path = (ctx.parent and ctx.parent.params.get("path")) or Path("inventory.yaml")
    try:
        names = inventory.open_inventory(Path(path), is_trusted=False).site.hosts
    except InvalidFiles:
        return []
    return [name for name in names if name.startswith(incomplete)]
