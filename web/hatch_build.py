"""Builds the web phone into the wheel, if Node.js is there.

Without it the installation works and has no page; `sipdeploy phone --open` then says what to do.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMMANDS = (
    ("npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"),
    ("npm", "run", "--silent", "build"),
)


class PageHook(BuildHookInterface):
    """A wheel gets the page as sipdeploy/page; an editable installation reads web/dist."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page; without npm, or if npm fails, warn and go on."""
        web = Path(self.root) / "web"
        page = web / "dist"
        self._build(web)
        if version != "editable" and (page / "phone.js").is_file():
            build_data["force_include"][str(page)] = "sipdeploy/page"

    def _build(self, web: Path) -> None:
        if shutil.which("npm") is None:
            self.app.display_warning("npm is missing: sipdeploy is installed without a web phone")
            return
        try:
            for command in COMMANDS:
                subprocess.run(command, cwd=web, check=True, timeout=300)
        except (OSError, subprocess.SubprocessError) as failure:
            self.app.display_warning(f"sipdeploy is installed without a web phone: {failure}")
