"""Builds the pages of the browsers with npm: the lab's own phones, and sipdeploy's web phone.

If packages and script are up to date, the build does not use the network.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
_NPM_SECONDS = 300


class BuildFailed(RuntimeError):  # noqa: N818 - named for what happened
    """npm is missing or failed; the message ends with its output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A Node.js project with a lock file; its script `build` makes `product`."""

    folder: Path
    product: str
    sources: tuple[str, ...]  # patterns of the files that the product depends on

    def build(self) -> Path:
        """Build the product if it is out of date, and return its path; BuildFailed.

        Several processes may call this at once.
        """
        product = self.folder / self.product
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._install()
            self._bundle(product)
        return product

    def npm(self, *arguments: str) -> None:
        """Run npm; BuildFailed."""
        command = ["npm", *arguments]
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                capture_output=True,
                text=True,
                timeout=_NPM_SECONDS,
                check=False,
            )
        except FileNotFoundError as missing:
            raise BuildFailed("npm is not installed: apt-get install npm") from missing
        except subprocess.TimeoutExpired as late:
            raise BuildFailed(f"`{' '.join(command)}` took over {_NPM_SECONDS} s") from late
        if done.returncode != 0:
            raise BuildFailed(
                f"`{' '.join(command)}` in {self.folder}:\n{done.stdout}{done.stderr}"
            )

    def _install(self) -> None:
        mark = self.folder / "node_modules" / ".sipdeploy-lock"
        digest = _digest([self.folder / "package-lock.json"])
        if not _is(mark, digest):
            self.npm("ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund")
            mark.write_text(digest)

    def _bundle(self, product: Path) -> None:
        files = (path for pattern in self.sources for path in self.folder.glob(pattern))
        digest = _digest(sorted(path for path in files if path.is_file()))
        mark = self.folder / "node_modules" / ".sipdeploy-built"
        if not (product.exists() and _is(mark, digest)):
            self.npm("run", "--silent", "build")
            mark.write_text(digest)


PHONES = Project(
    folder=HERE,
    product="build/phone.js",
    sources=("package.json", "package-lock.json", "src/*.js"),
)
WEB = Project(
    folder=HERE.parent.parent / "web",
    product="dist/phone.js",
    sources=("package.json", "package-lock.json", "build.js", "src/*", "static/*"),
)


def build() -> Path:
    """Build the script of the lab's own phones, and return its path; BuildFailed."""
    return PHONES.build()


def _is(mark: Path, digest: str) -> bool:
    # A digest, because a checkout changes the times of all files.
    return mark.exists() and mark.read_text() == digest


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()
