"""Builds the phones' script: npm fetches the two SIP libraries, esbuild bundles them.

Never touches the network when both the packages and the script are up to date.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPT = HERE / "build" / "phone.js"
_INSTALLED = HERE / "node_modules" / ".sipdeploy-lock"
_BUILT = HERE / "build" / "phone.js.made-from"
_NPM_SECONDS = 300


class BuildFailed(RuntimeError):  # noqa: N818 - named for what happened
    """npm is missing or refused; the message ends with what it said."""


def build() -> Path:
    """Bring the script up to date and return its path. Safe when two runs meet.

    Raises BuildFailed.
    """
    SCRIPT.parent.mkdir(exist_ok=True)
    with (SCRIPT.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install()
        _bundle()
    return SCRIPT


def _install() -> None:
    wanted = _digest([HERE / "package-lock.json"])
    if _is(_INSTALLED, wanted):
        return
    _npm("ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund")
    _INSTALLED.write_text(wanted)


def _bundle() -> None:
    sources = sorted((HERE / "src").glob("*.js"))
    wanted = _digest([HERE / "package.json", HERE / "package-lock.json", *sources])
    if SCRIPT.exists() and _is(_BUILT, wanted):
        return
    _npm("run", "--silent", "build")
    _BUILT.write_text(wanted)


def _is(mark: Path, wanted: str) -> bool:
    # a digest, not a time: a checkout gives every file the time of the checkout
    return mark.exists() and mark.read_text() == wanted


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _npm(*arguments: str) -> None:
    command = ["npm", *arguments]
    try:
        done = subprocess.run(
            command, cwd=HERE, capture_output=True, text=True, timeout=_NPM_SECONDS, check=False
        )
    except FileNotFoundError as missing:
        raise BuildFailed("npm is not installed: apt-get install npm") from missing
    except subprocess.TimeoutExpired as late:
        raise BuildFailed(f"`{' '.join(command)}` took over {_NPM_SECONDS} s") from late
    if done.returncode != 0:
        raise BuildFailed(f"`{' '.join(command)}` in {HERE}:\n{done.stdout}{done.stderr}")
