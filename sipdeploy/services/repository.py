"""Kamailio's own apt repository: where it is, who may sign it, and the file that tells apt so."""

from dataclasses import dataclass

from sipdeploy.inventory.site import Site
from sipdeploy.services.render import ManagedFile, render

NAME = "apt"  # no service of ours: nothing restarts for it
SOURCE = "/etc/apt/sources.list.d/sipdeploy-kamailio.sources"
KEYRING = "/etc/apt/keyrings/sipdeploy-kamailio.gpg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository of one series of Kamailio; `key` is where its key is."""

    url: str
    series: str
    key: str
    fingerprint: str

    def has(self, package: str) -> bool:
        """Whether a package comes from here."""
        return package.startswith("kamailio")


def repository(site: Site) -> Repository | None:
    """Where Kamailio comes from; None: the distribution's archive."""
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
    """What apt is told. Of all keys in the keyring it takes the one with the fingerprint alone."""
    template = "kamailio/repository.sources.j2"
    values = {
        "url": wanted.url,
        "suite": codename or "sid",
        "keyring": KEYRING.removeprefix("/"),
        "fingerprint": wanted.fingerprint,
    }
    return ManagedFile(
        path=SOURCE,
        content=render(template, values),
        mode=0o644,
        owner="root:root",
        service=NAME,
        reload=(),
        template=template,
    )
