"""Packages from the host's own archive: its lists, installing, and what apt complains of."""

from dataclasses import dataclass
from typing import ClassVar

from sipdeploy.host import Host, Result, ask, host_failed, run_script, script_text
from sipdeploy.host.incoming import OnLine
from sipdeploy.services import install as repository
from sipdeploy.services.install import Build, Repository
from sipdeploy.transaction.runner import count

INSTALL_SECONDS = 1800
UPDATE_SECONDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Packages:
    """Installs packages from the host's archive; no daemon starts with what they ship.

    The units of `held` neither at a boot: if the power goes before the swap, that would be a
    telephone system as nobody has set it up. There is no undo: installed packages harm nobody, and
    the next run goes on from there.
    """

    has_undo: ClassVar[bool] = False
    names: tuple[str, ...]
    held: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """`install 9 packages`."""
        return f"install {count(len(self.names), 'package')}"

    def run(self, host: Host, on_line: OnLine) -> None:
        """Install, showing what apt says; HostFailed with the lines that matter."""
        words = ("packages", "install", " ".join(self.held), *self.names)
        result = run_script(host, words, on_line=on_line, timeout_seconds=INSTALL_SECONDS)
        if result.status != 0:
            raise host_failed(
                "SD520",
                f"the packages cannot be installed on `{host.name}`",
                notes=complaints(result),
                help_="mend what they say; the next apply goes on from where this one stopped",
            )

    def undo(self, host: Host) -> None:
        """Nothing: see the class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddRepository:
    """Tells apt of a repository, whose signature it has to take first; else nothing has changed.

    There is no undo: by itself it changes no package.
    """

    has_undo: ClassVar[bool] = False
    repository: Repository
    source: bytes

    @property
    def title(self) -> str:
        """`add the repository https://...`."""
        return f"add the repository {self.repository.url}"

    def run(self, host: Host, on_line: OnLine) -> None:
        """Ask it aside, then enter it; HostFailed says what apt does not take."""
        del on_line
        wanted = self.repository
        words = ("repository", repository.SOURCE, repository.KEYRING, wanted.key, "kamailio")
        mend = (
            f"only the key {wanted.fingerprint} may sign it; a new one, once it is known to be "
            "Kamailio's own, goes into `install.kamailio.fingerprint`"
        )
        problem = ("SD541", f"the repository {wanted.url} cannot be used", mend)
        ask(host, words, problem, data=self.source, timeout_seconds=UPDATE_SECONDS)

    def undo(self, host: Host) -> None:
        """Nothing: see the class."""


def update_lists(host: Host, on_line: OnLine) -> None:
    """Fetch the archive's lists (`apt-get update`)."""
    words = ("packages", "update")
    result = run_script(host, words, on_line=on_line, timeout_seconds=UPDATE_SECONDS)
    if result.status != 0:
        raise host_failed(
            "SD520",
            f"the lists of the package archive cannot be fetched on `{host.name}`",
            notes=complaints(result),
            help_=f"on `{host.name}`: `apt-get update`, and mend /etc/apt/sources.list "
            "or the network until it works",
        )


def complaints(result: Result) -> tuple[str, ...]:
    """The lines of apt and dpkg that say why, or else the last ones."""
    lines = [line.strip() for line in result.words.splitlines() if line.strip()]
    marks = ("E:", "Err:", "dpkg: error", "dpkg: warning: files list", "dpkg: dependency")
    because = ("No space left", "subprocess", "Unable to", "Failed to", "cannot")
    told = [
        line for line in lines if line.startswith(marks) or any(mark in line for mark in because)
    ]
    return tuple(dict.fromkeys(told or lines[-5:]))[:8]


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
