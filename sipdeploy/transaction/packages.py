"""Packages, package lists and repositories of a host, and a build of Asterisk."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from sipdeploy.diagnostics import Diagnostic, count
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import Host, Result, ask, host_failed, run_script, script_text, sections
from sipdeploy.host.incoming import OnLine
from sipdeploy.services import install as repository
from sipdeploy.services.install import Build, Repository

WAIT_SECONDS = 300  # the scripts wait this long for another program that uses apt
INSTALL_SECONDS = WAIT_SECONDS + 1800
UPDATE_SECONDS = WAIT_SECONDS + 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Packages:
    """Installs packages; no daemon starts with the configuration of the distribution.

    The step also disables `disabled_units`, so that they do not start at a boot before the swap.
    There is no undo: packages alone have no effect, and the next run continues from there.
    """

    has_undo: ClassVar[bool] = False
    names: tuple[str, ...]
    disabled_units: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """`install 9 packages`."""
        return f"install {count(len(self.names), 'package')}"

    def run(self, host: Host, on_line: OnLine) -> None:
        """Install, and show the output of apt; HostFailed (SD520) with its errors."""
        argv = ("packages", "install", " ".join(self.disabled_units), *self.names)
        result = run_script(host, argv, on_line=on_line, timeout_seconds=INSTALL_SECONDS)
        raise_if_held(host.name, sections(result.text))
        if result.status != 0:
            raise host_failed(
                "SD520",
                f"the packages cannot be installed on `{host.name}`",
                notes=complaints(result),
                help_="fix these errors; the next apply continues where this one stopped",
            )

    def undo(self, host: Host) -> None:
        """Do nothing; the class says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddRepository:
    """Adds a repository to apt after verifying its signature; a wrong one changes nothing.

    There is no undo: a repository alone changes no package.
    """

    has_undo: ClassVar[bool] = False
    repository: Repository
    source: bytes

    @property
    def title(self) -> str:
        """`add the repository https://...`."""
        return f"add the repository {self.repository.url}"

    def run(self, host: Host, on_line: OnLine) -> None:
        """Verify the repository aside, then add it; HostFailed (SD541) with the errors of apt."""
        added = self.repository
        argv = ("repository", repository.SOURCE, repository.KEYRING, added.key, "kamailio")
        fix = (
            f"only the key {added.fingerprint} may sign it; if Kamailio has a new key, verify it "
            "and set `install.kamailio.fingerprint` to its fingerprint"
        )
        problem = ("SD541", f"the repository {added.url} cannot be used", fix)
        answer = ask(
            host,
            argv,
            problem,
            data=self.source,
            on_line=on_line,
            timeout_seconds=UPDATE_SECONDS,
        )
        raise_if_held(host.name, answer)

    def undo(self, host: Host) -> None:
        """Do nothing; the class says why."""


def update_lists(host: Host, on_line: OnLine) -> None:
    """Update the package lists (`apt-get update`); HostFailed (SD520) with the errors of apt."""
    argv = ("packages", "update")
    result = run_script(host, argv, on_line=on_line, timeout_seconds=UPDATE_SECONDS)
    raise_if_held(host.name, sections(result.text))
    if result.status != 0:
        raise host_failed(
            "SD520",
            f"the package lists cannot be updated on `{host.name}`",
            notes=complaints(result),
            help_=f"on `{host.name}`: correct or remove these sources in /etc/apt, or repair the "
            "network, until `apt-get update` succeeds",
        )


def warnings_of(failure: HostFailed) -> tuple[Diagnostic, ...]:
    """A failed update as warnings, for a host whose lists have all packages that it needs.

    The source of somebody else may be broken. Raises the failure if it is not apt's (SD520).
    """
    if any(problem.code != "SD520" for problem in failure.diagnostics):
        raise failure
    return tuple(replace(problem, severity="warning") for problem in failure.diagnostics)


def raise_if_held(name: str, answer: Mapping[str, str]) -> None:
    """HostFailed (SD520) if another program has used apt for longer than the scripts wait."""
    if "held" not in answer:
        return
    holders = answer["held"].strip()
    numbers = ",".join(re.findall(r"pid (\d+)", holders))
    raise host_failed(
        "SD520",
        f"another program uses apt on `{name}`: {holders}",
        notes=(f"sipdeploy waited {WAIT_SECONDS} s for it",),
        help_=f"apply again when it has ended; on `{name}`, `ps -fp {numbers}` shows it",
    )


def complaints(result: Result) -> tuple[str, ...]:
    """The error lines of apt and dpkg, or the last five lines if there are none; at most 8."""
    lines = [line.strip() for line in result.output.splitlines() if line.strip()]
    marks = ("E:", "Err:", "dpkg: error", "dpkg: warning: files list", "dpkg: dependency")
    because = ("No space left", "subprocess", "Unable to", "Failed to", "cannot")
    errors = [
        line for line in lines if line.startswith(marks) or any(mark in line for mark in because)
    ]
    return tuple(dict.fromkeys(errors or lines[-5:]))[:8]


BUILD_SECONDS = 4 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildAsterisk:
    """Builds Asterisk from its tarball, beside the running one.

    There is no undo: the next run continues where this one stopped.
    """

    has_undo: ClassVar[bool] = False
    build: Build

    @property
    def title(self) -> str:
        """`build asterisk 22.11.0`."""
        return f"build asterisk {self.build.version}"

    def run(self, host: Host, on_line: OnLine) -> None:
        """Build, or follow a running build; HostFailed (SD540) with its last lines."""
        build = self.build
        tarballs = "\n".join(f"{t.file} {t.sha256} {t.url}" for t in build.tarballs)
        ask(
            host,
            ("build", build.name, " ".join(build.modules), tarballs),
            (
                "SD540",
                f"Asterisk {build.version} cannot be built",
                "fix this error; the next apply continues where this one stopped",
            ),
            data=script_text("build_asterisk"),
            on_line=on_line,
            timeout_seconds=BUILD_SECONDS,
        )

    def undo(self, host: Host) -> None:
        """Do nothing; the class says why."""
