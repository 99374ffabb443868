"""Runs the password commands of an inventory, without a shell and with a time limit.

No other module runs them; the caller makes sure that the inventory is trusted.
"""

import shlex
import subprocess
from pathlib import Path

COMMAND_SECONDS = 10.0


class NoPasswordError(Exception):
    """A source has no password; the text says why."""


def run(
    command: str, directory: Path, *, stdin: str = "", seconds: float = COMMAND_SECONDS
) -> str:
    """Run a command without a shell, with `stdin` as its input; return its output as text.

    An error message contains standard error, but never standard output.
    """
    name = program(command)
    try:
        result = subprocess.run(  # noqa: S603  # the inventory's owner asked for this command
            shlex.split(command),
            cwd=directory,
            input=stdin.encode(),
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        if result.returncode:
            complaint = result.stderr.decode("utf-8", "replace").strip().replace("\n", "; ")
            reason = f"`{name}` exits with status {result.returncode}"
            raise NoPasswordError(f"{reason}: {complaint}" if complaint else reason)
        return result.stdout.decode("utf-8")
    except subprocess.TimeoutExpired as failure:
        raise NoPasswordError(f"`{name}` takes more than {seconds:g} seconds") from failure
    except UnicodeDecodeError as failure:
        raise NoPasswordError(f"the output of `{name}` is not UTF-8") from failure
    except OSError as failure:
        reason = (failure.strerror or "cannot run").lower()
        raise NoPasswordError(f"cannot run `{name}`: {reason}") from failure
    except (ValueError, IndexError) as failure:  # shlex: quotation marks; an empty command
        raise NoPasswordError("the command is empty, or its quotes do not match") from failure


def program(command: str) -> str:
    """The first word of a command, to name it: the rest can contain secrets."""
    return (command.split() or [""])[0]
