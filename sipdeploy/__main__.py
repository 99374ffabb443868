"""Starts sipdeploy. Every failure becomes an exit code here."""

import atexit
import contextlib
import gc
import os
import platform
import sys
import tempfile
import traceback

# Start and exit take most of the time of a no-op apply. Therefore pydantic does not search the
# disk for plugins, and Python collects no garbage of the imports. This must precede them.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
gc.disable()
atexit.register(gc.freeze)

import click  # noqa: E402

from sipdeploy import __version__  # noqa: E402
from sipdeploy.cli import cli  # noqa: E402
from sipdeploy.cli.output import Output, escape_unprintable  # noqa: E402
from sipdeploy.diagnostics.errors import SipdeployError  # noqa: E402

BUG = 3
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; the help of `sipdeploy` lists the codes."""
    escape_unprintable()
    output = Output()
    try:
        return cli.main(arguments, prog_name="sipdeploy", standalone_mode=False) or 0
    except SipdeployError as failure:
        output.problems(failure.diagnostics, failure.sources)
        return failure.exit_code
    except click.ClickException as failure:
        with contextlib.suppress(OSError):
            failure.show()
        return failure.exit_code
    except (KeyboardInterrupt, click.Abort):
        output.progress("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as failure:  # noqa: BLE001  # any other exception is a bug
        output.progress(f"this is a bug in sipdeploy: {type(failure).__name__}")
        output.progress(f"please report it with the details in {_crash_log(failure)}")
        return BUG


def _crash_log(failure: BaseException) -> str:
    """Write the traceback, with secrets hidden, to a new file of mode 0600; its path."""
    report = (
        f"sipdeploy {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"arguments: {sys.argv[1:]}\n\n{''.join(traceback.format_exception(failure))}"
    )
    from sipdeploy.inventory.secret import (  # noqa: PLC0415 - heavy, and a crash is rare
        Secret,
        hide_shapes,
        hider,
    )

    # by its type: a dead proxy has no class
    report = hider(each.reveal() for each in gc.get_objects() if type(each) is Secret)(report)
    report = hide_shapes(report)  # an HA1 or a key is no Secret
    handle, path = tempfile.mkstemp(prefix="sipdeploy-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
        stream.write(report)
    return path


if __name__ == "__main__":
    sys.exit(main())
