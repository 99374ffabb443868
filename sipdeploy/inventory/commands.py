"""Runs the commands that an inventory names for its passwords: without a shell, and not for ever.

The one place that does; whoever calls it knows that the inventory is trusted.
"""

from __future__ import annotations

import shlex
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

COMMAND_SECONDS = 10.0


class NoPasswordError(Exception):
    """A source gives nothing; the text says why."""


def run(
    command: str, directory: Path, *, given: str = "", seconds: float = COMMAND_SECONDS
) -> str:
    """Run a command without a shell and give what it prints, as text; `given` is its input.

    What it says on standard error belongs to the reason; what it prints never does.
    """
    name = program(command)
    try:
        done = subprocess.run(  # noqa: S603  # the inventory's owner asked for this command
            shlex.split(command),
            cwd=directory,
            input=given.encode(),
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().replace("\n", "; ")
            reason = f"`{name}` exits with status {done.returncode}"
            raise NoPasswordError(f"{reason}: {said}" if said else reason)
        return done.stdout.decode("utf-8")
    except subprocess.TimeoutExpired as failure:
        raise NoPasswordError(f"`{name}` takes more than {seconds:g} seconds") from failure
    except UnicodeDecodeError as failure:
        raise NoPasswordError(f"`{name}` prints what is not UTF-8") from failure
    except OSError as failure:
        reason = (failure.strerror or "cannot run").lower()
        raise NoPasswordError(f"cannot run `{name}`: {reason}") from failure
    except (ValueError, IndexError) as failure:  # shlex: quotation marks; an empty command
        raise NoPasswordError("the command is not a line of words") from failure


def program(command: str) -> str:
    """Name a command by its first word: the rest may hold what is not to be shown."""
    return (command.split() or [""])[0]
