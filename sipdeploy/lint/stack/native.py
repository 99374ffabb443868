"""Asks the installed Kamailio about a configuration, as a second judge.

`kamailio -c` loads the modules that the configuration names, which runs their code. So it is for
one's own files only. Asterisk has no such check: it would have to start.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from sipdeploy.diagnostics import Diagnostic, Span, reason_of
from sipdeploy.diagnostics.errors import WrongUsage

When = Literal["auto", "always", "never"]
_SECONDS = 20
_MOST = 100  # messages
_PLACE = re.compile(
    r"(?P<level>CRITICAL|ERROR|WARNING): .*?(?:in config file (?P<path>[^,\n]+), )?"
    r"(?:from )?line (?P<line>\d{1,7}),? (?:column (?P<column>\d{1,5}))?[^:\n]*:? ?(?P<text>.*)"
)


def chosen(when: When | None, *, is_trusted: bool) -> When:
    """When to ask; WrongUsage if files of a stranger would run code."""
    if when in ("auto", "always") and not is_trusted:
        message = f"`--native {when}` loads modules that the files name, which runs their code"
        advice = "add `--trusted` if the files are your own"
        raise WrongUsage([Diagnostic("SD002", message, help=advice)])
    return when or ("auto" if is_trusted else "never")


def ask(roots: Iterable[str], when: When) -> list[Diagnostic]:
    """The messages of the installed Kamailio about each configuration."""
    if when == "never":
        return []
    program = shutil.which("kamailio") or shutil.which("kamailio", path="/usr/sbin")
    if program is None:
        if when == "auto":
            return []
        advice = "install it, or leave out `--native always`"
        return [Diagnostic("SD895", "`kamailio` is not installed here", help=advice)]
    return [each for root in roots for each in _asked(program, Path(root))]


def _asked(program: str, root: Path) -> list[Diagnostic]:
    argv = [program, "-c", "-f", str(root.absolute())]
    try:
        done = subprocess.run(  # noqa: S603 - the daemon itself, on files that are trusted
            argv,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return [_plain(root, f"`kamailio -c` did not answer within {_SECONDS} seconds")]
    except OSError as failure:
        return [_plain(root, f"`kamailio -c` did not start: {reason_of(failure)}")]
    if done.returncode == 0:
        return []
    output = (done.stderr + done.stdout).decode("utf-8", "replace")
    return list(_messages(output, root))[:_MOST] or [_plain(root, "`kamailio -c` refuses it")]


def _plain(root: Path, message: str) -> Diagnostic:
    advice = f"`kamailio -c -f {root}` prints all of it"
    span = Span(path=str(root), line=1, column=1)
    return Diagnostic("SD895", message, span=span, help=advice)


def _messages(output: str, root: Path) -> Iterator[Diagnostic]:
    """The messages with a line, as diagnostics at that line."""
    for line in output.splitlines():
        match = _PLACE.search(line)
        if match and match["level"] != "WARNING":
            path = match["path"] or str(root)
            is_root = Path(path) == root.absolute()
            span = Span(
                path=str(root) if is_root else path,
                line=int(match["line"]),
                column=int(match["column"] or 1),
            )
            text = match["text"].strip() or "syntax error"
            yield Diagnostic("SD895", f"Kamailio rejects this: {text}", span=span)
