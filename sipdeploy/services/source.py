"""Asterisk from its source: what is built of what, and the files by which a build runs."""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from sipdeploy.inventory.install import AsteriskSource
from sipdeploy.services.render import ManagedFile, render

WRAPPER = "/usr/local/sbin/asterisk"
UNIT_FILE = "/etc/systemd/system/asterisk.service"
RECIPE = 1  # raised when the script `build_asterisk` makes something else of the same
# What a build needs, and what it leaves to Debian: libraries and sounds.
PACKAGES = (
    *("build-essential", "bzip2", "ca-certificates", "patch", "pkg-config", "wget"),
    *("libedit-dev", "libjansson-dev", "libsqlite3-dev", "libsrtp2-dev", "libssl-dev"),
    *("libsystemd-dev", "libxml2-dev", "uuid-dev"),
    *("asterisk-core-sounds-en", "asterisk-core-sounds-en-gsm"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tarball:
    """A tarball of a build: how it is called there, what it must be, and where it is."""

    file: str
    sha256: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """An Asterisk to be built; the name stands for everything that it is made of."""

    name: str
    version: str
    modules: tuple[str, ...]
    tarballs: tuple[Tarball, ...]


def build(source: AsteriskSource, modules: Collection[str]) -> Build:
    """What to build; of the same, a build of the same name."""
    archives = {"asterisk": source, "pjproject": source.pjproject}
    tarballs = tuple(
        Tarball(file=file, sha256=archive.sha256, url=archive.url)
        for file, archive in archives.items()
        if archive
    )
    parts = (str(RECIPE), *modules, *(tarball.sha256 for tarball in tarballs))
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return Build(
        name=f"asterisk-{source.version}-{digest[:8]}",
        version=source.version,
        modules=tuple(modules),
        tarballs=tarballs,
    )


def files(name: str, service: str) -> Iterator[ManagedFile]:
    """The unit, and the `asterisk` of PATH, which alone changes with the build."""
    for path, template, mode in (
        (UNIT_FILE, "asterisk/asterisk.service.j2", 0o644),
        (WRAPPER, "asterisk/asterisk.sh.j2", 0o755),
    ):
        yield ManagedFile(
            path=path,
            content=render(template, {"build": name}),
            mode=mode,
            owner="root:root",
            service=service,
            reload=None,
            template=template,
        )
