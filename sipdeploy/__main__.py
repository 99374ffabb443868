"""Starts sipdeploy, and is the one place where whatever went wrong becomes an exit code."""

from __future__ import annotations

import atexit
import gc
import os
import platform
import sys
import tempfile
import traceback

# Starting and ending are most of what a no-op apply takes: no plugin of pydantic is looked for on
# disk, and of what importing makes nothing is collected, at the end neither. Before any import.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
gc.disable()
atexit.register(gc.freeze)

import click  # noqa: E402

from sipdeploy import __version__  # noqa: E402
from sipdeploy.cli import cli  # noqa: E402
from sipdeploy.cli.output import Output  # noqa: E402
from sipdeploy.diagnostics.errors import SipdeployError  # noqa: E402

BUG = 3
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run one command; give its exit code (they are listed in the help of `sipdeploy`)."""
    output = Output()
    try:
        return cli.main(arguments, prog_name="sipdeploy", standalone_mode=False) or 0
    except SipdeployError as failure:
        output.problems(failure.diagnostics, failure.sources)
        return failure.exit_code
    except click.ClickException as failure:
        failure.show()
        return failure.exit_code
    except (KeyboardInterrupt, click.Abort):
        output.progress("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as failure:  # noqa: BLE001  # a bug: whatever it is, it is told as one
        output.progress(f"this is a bug in sipdeploy: {type(failure).__name__}")
        output.progress(f"what is needed to mend it is in {_crash_log(failure)}")
        return BUG


def _crash_log(failure: BaseException) -> str:
    """Write what happened to a file that only its owner can read, without any secret."""
    told = (
        f"sipdeploy {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"arguments: {sys.argv[1:]}\n\n{''.join(traceback.format_exception(failure))}"
    )
    from sipdeploy.inventory.secret import Secret, hider  # noqa: PLC0415 - heavy, and a crash is rare

    # by its type: a dead proxy has no class
    told = hider(each.reveal() for each in gc.get_objects() if type(each) is Secret)(told)
    handle, path = tempfile.mkstemp(prefix="sipdeploy-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(told)
    return path


if __name__ == "__main__":
    sys.exit(main())
