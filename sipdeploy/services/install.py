"""Sources other than the distribution: Kamailio's apt repository, Asterisk built from source."""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from sipdeploy.inventory.models import AsteriskSource
from sipdeploy.inventory.site import Site
from sipdeploy.services.render import ManagedFile, rendered

NAME = "apt"  # not a service of sipdeploy: nothing restarts for it
SOURCE = "/etc/apt/sources.list.d/sipdeploy-kamailio.sources"
KEYRING = "/etc/apt/keyrings/sipdeploy-kamailio.gpg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """An apt repository of one series of Kamailio; `key` is the URL of its signing key."""

    url: str
    series: str
    key: str
    fingerprint: str

    def has(self, package: str) -> bool:
        """Whether a package comes from this repository."""
        return package.startswith("kamailio")


def repository(site: Site) -> Repository | None:
    """The repository for Kamailio; None for the distribution's archive."""
    wanted = site.install.repository
    if wanted is None:
        return None
    return Repository(
        url=wanted.place,
        series=wanted.version,
        key=wanted.key,
        fingerprint=wanted.fingerprint,
    )


def file(wanted: Repository, codename: str) -> ManagedFile:
    """The sources file (sources.list(5)). apt accepts only the key with the fingerprint."""
    values = {
        "url": wanted.url,
        "suite": codename or "sid",
        "keyring": KEYRING.removeprefix("/"),
        "fingerprint": wanted.fingerprint,
    }
    template = "kamailio/repository.sources.j2"
    return rendered(template, values, path=SOURCE, mode=0o644, service=NAME, reload=())


WRAPPER = "/usr/local/sbin/asterisk"
UNIT_FILE = "/etc/systemd/system/asterisk.service"
RECIPE = 1  # increased when the script `build_asterisk` builds something else from the same input
# Packages that a build needs, and those that it uses at run time: libraries and sounds.
PACKAGES = (
    *("build-essential", "bzip2", "ca-certificates", "patch", "pkg-config", "wget"),
    *("libedit-dev", "libjansson-dev", "libsqlite3-dev", "libsrtp2-dev", "libssl-dev"),
    *("libsystemd-dev", "libxml2-dev", "uuid-dev"),
    *("asterisk-core-sounds-en", "asterisk-core-sounds-en-gsm"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tarball:
    """A tarball of a build: its name there, its SHA-256 in hex, and its URL."""

    file: str
    sha256: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """An Asterisk to build; `name` contains a digest of everything that it is built from."""

    name: str
    version: str
    modules: tuple[str, ...]
    tarballs: tuple[Tarball, ...]


def build(source: AsteriskSource, modules: Collection[str]) -> Build:
    """The build of a source with these modules; equal input gives an equal name."""
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
    """The unit, and the wrapper `asterisk` in PATH; only the wrapper changes with the build."""
    for path, template, mode in (
        (UNIT_FILE, "asterisk/asterisk.service.j2", 0o644),
        (WRAPPER, "asterisk/asterisk.sh.j2", 0o755),
    ):
        values = {"build": name}
        yield rendered(template, values, path=path, mode=mode, service=service, reload=None)
