"""Runs the password commands of an inventory, without a shell and with a time limit.

No other module runs them; the caller makes sure that the inventory is trusted. One command of
sipdeploy runs each of them once, because a vault can ask its owner each time.
"""

import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from sipdeploy.diagnostics import reason_of

COMMAND_SECONDS = 10.0


class NoPasswordError(Exception):
    """A source has no password; the text says why."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """The outputs of password commands, each of which runs at its first use only.

    Not for the same command in two threads at once.
    """

    _texts: dict[tuple[str, Path], str] = field(default_factory=dict, repr=False)

    def of(self, command: str, directory: Path) -> str:
        """Return the output of a command in a directory; NoPasswordError as `run`."""
        key = (command, directory)
        if key not in self._texts:
            self._texts[key] = run(command, directory)
        return self._texts[key]

    def again(self, command: str, directory: Path) -> str:
        """Run a command whose output may have changed, and return the new output."""
        self._texts.pop((command, directory), None)
        return self.of(command, directory)


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
        raise NoPasswordError(f"cannot run `{name}`: {reason_of(failure)}") from failure
    except (ValueError, IndexError) as failure:  # shlex: quotation marks; an empty command
        raise NoPasswordError("the command is empty, or its quotes do not match") from failure


def program(command: str) -> str:
    """The first word of a command, to name it: the rest can contain secrets."""
    return (command.split() or [""])[0]
