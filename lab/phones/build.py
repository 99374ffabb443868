"""Builds the script of the phones: npm installs the two SIP libraries, esbuild bundles them.

If packages and script are up to date, the build does not use the network.
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
    """npm is missing or failed; the message ends with its output."""


def build() -> Path:
    """Build the script if it is out of date, and return its path; BuildFailed.

    Several processes may call this at once.
    """
    SCRIPT.parent.mkdir(exist_ok=True)
    with (SCRIPT.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install()
        _bundle()
    return SCRIPT


def _install() -> None:
    digest = _digest([HERE / "package-lock.json"])
    if _is(_INSTALLED, digest):
        return
    _npm("ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund")
    _INSTALLED.write_text(digest)


def _bundle() -> None:
    sources = sorted((HERE / "src").glob("*.js"))
    digest = _digest([HERE / "package.json", HERE / "package-lock.json", *sources])
    if SCRIPT.exists() and _is(_BUILT, digest):
        return
    _npm("run", "--silent", "build")
    _BUILT.write_text(digest)


def _is(mark: Path, digest: str) -> bool:
    # A digest, because a checkout changes the times of all files.
    return mark.exists() and mark.read_text() == digest


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
