"""The only module that prints: results to stdout, progress and diagnostics to stderr.

Plain text where it is not read by a person at a terminal. Decides nothing about what is said.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

import click

from sipdeploy.diagnostics import FORMATS, Diagnostic, full
from sipdeploy.diagnostics.errors import WrongUsage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sipdeploy.cli.progress import Progress
    from sipdeploy.diagnostics import Format, Sources
    from sipdeploy.plan import Plan
    from sipdeploy.plan.look import Look


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """How much to say: `quiet` leaves out progress, `verbose` adds detail."""

    quiet: bool = False
    verbose: bool = False

    def result(self, text: str) -> None:
        """Print what the command was asked for."""
        if text:
            click.echo(text, color=True)

    def progress(self, text: str) -> None:
        """Print what is being done."""
        if not self.quiet:
            click.echo(text, err=True)

    def detail(self, text: str) -> None:
        """Print what helps to find out why."""
        if self.verbose:
            click.echo(text, err=True)

    def problems(self, diagnostics: Sequence[Diagnostic], sources: Sources | None = None) -> None:
        """Print diagnostics in full, beside whatever the result is."""
        if diagnostics:
            click.echo(
                full(diagnostics, sources, colour=has_colour(sys.stderr)), err=True, color=True
            )

    def agree(self, plans: Mapping[str, tuple[Plan, Look]]) -> bool:
        """Show what is to come on all hosts, and ask once."""
        from sipdeploy.plan.text import as_text  # noqa: PLC0415 - only where somebody is asked

        for host, (plan, look) in plans.items():
            click.echo(as_text(host, plan, look, diffs=self.verbose), err=True)
        return click.confirm(f"apply this to {', '.join(plans)}?", err=True)

    def require_somebody(self) -> None:
        """Raise WrongUsage where nobody can be asked."""
        if not sys.stdin.isatty():
            message = "nobody can be asked: standard input is no terminal"
            advice = "add --yes to apply without asking"
            problem = Diagnostic(code="SD002", severity="error", message=message, help=advice)
            raise WrongUsage([problem])

    def steps(self) -> Progress:
        """What shows the steps of an apply: alive on a terminal, plain lines elsewhere."""
        from sipdeploy.cli.progress import Progress  # noqa: PLC0415 - needs what reaches hosts

        stream = open(os.devnull, "w") if self.quiet else sys.stderr  # noqa: SIM115,PTH123
        is_live = not self.quiet and sys.stderr.isatty() and has_colour(sys.stderr)
        return Progress(stream, is_live=is_live, verbose=self.verbose)

    def findings(
        self, diagnostics: Sequence[Diagnostic], sources: Sources, form: Format | None
    ) -> None:
        """Print diagnostics as the result, in the format asked for or the one that fits."""
        form = form or ("github" if os.environ.get("GITHUB_ACTIONS") == "true" else "full")
        if form == "full":
            self.result(full(diagnostics, sources, colour=has_colour(sys.stdout)))
        else:
            self.result(FORMATS[form](diagnostics, sources))


def has_colour(stream: TextIO) -> bool:
    """Tell whether to colour: on a terminal; NO_COLOR and FORCE_COLOR decide otherwise."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()
