"""Building a daemon on the host, beside the one that runs there."""

from dataclasses import dataclass
from typing import ClassVar

from sipdeploy.host import Host, ask, script_text
from sipdeploy.host.incoming import OnLine
from sipdeploy.services.source import Build

BUILD_SECONDS = 4 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildAsterisk:
    """Builds Asterisk from its tarball; what runs is not touched.

    There is no undo: the next run goes on from where this one stopped.
    """

    has_undo: ClassVar[bool] = False
    build: Build

    @property
    def title(self) -> str:
        """`build asterisk 22.11.0`."""
        return f"build asterisk {self.build.version}"

    def run(self, host: Host, on_line: OnLine) -> None:
        """Build, or follow a build that is under way; HostFailed with what it said last."""
        build = self.build
        tarballs = "\n".join(f"{t.file} {t.sha256} {t.url}" for t in build.tarballs)
        ask(
            host,
            ("build", build.name, " ".join(build.modules), tarballs),
            (
                "SD540",
                f"Asterisk {build.version} cannot be built",
                "mend what it says; the next apply goes on from where this one stopped",
            ),
            data=script_text("build_asterisk"),
            on_line=on_line,
            timeout_seconds=BUILD_SECONDS,
        )

    def undo(self, host: Host) -> None:
        """Nothing: see the class."""
