"""The desired state of a host: files, packages, directories, units; and the query for facts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from sipdeploy.facts import Facts, Query, upstream
from sipdeploy.inventory.own.files import Attachments
from sipdeploy.inventory.site import HostEntry, Site, Versions
from sipdeploy.plan import sources
from sipdeploy.services import (
    SERVICES,
    acme,
    asterisk,
    certbot,
    certificates,
    coturn,
    file_set,
    firewall,
    kamailio,
    nginx,
)
from sipdeploy.services import install as repository
from sipdeploy.services.acme import Order
from sipdeploy.services.certificates import Material
from sipdeploy.services.install import UNIT_FILE, WRAPPER, Build, Repository
from sipdeploy.services.render import ManagedFile
from sipdeploy.services.service import Directory, HostProfile, Port

DIALOG_KEY = "/etc/kamailio/dialog-key.cfg"
TLS_SETTINGS = "/etc/kamailio/tls.cfg"
# Systems on which package names may differ; all others share one list.
SYSTEMS = (
    *(("debian", name) for name in ("bullseye", "bookworm", "trixie")),
    *(("ubuntu", name) for name in ("jammy", "noble")),
)
# The daemons whose packages an upgrade replaces, and whose names their packages begin with.
DAEMONS = ("kamailio", "asterisk", "coturn", "nginx")
TREES = (
    *("/etc/kamailio", "/etc/asterisk", "/etc/coturn", "/etc/sipdeploy", certbot.HOOKS),
    *(UNIT_FILE, WRAPPER, repository.SOURCE, repository.KEYRING),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedFile:
    """A file that the host generates and that never leaves it: a key, or its certificate.

    `recipe` names a case of the script `stage`: certificate, key (created with it), dialog-key, or
    the path of certbot's file, of which `stage` makes a copy.
    """

    path: str
    mode: int
    owner: str
    recipe: str
    service: str
    reload: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredFile(GeneratedFile):
    """A file of a backup; `recipe` is its path on the host before the swap, `digest` its SHA-256.

    It replaces the generated file of the same path, or is an administrator's own.
    """

    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Identity of the SIP probe: the domain, an allowed origin and a number, if there are any."""

    domain: str
    origin: str = ""
    number: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """The desired state of one host. `units` maps each service to its unit, in starting order."""

    domain: str
    files: tuple[ManagedFile, ...]
    generated: tuple[GeneratedFile, ...]
    directories: tuple[Directory, ...]
    packages: tuple[str, ...]
    units: Mapping[str, str]
    ports: tuple[Port, ...] = ()
    probe: Probe | None = None
    order: Order | None = None
    build: Build | None = None
    repository: Repository | None = None
    notes: tuple[str, ...] = ()  # about sizes, printed with the plan
    # Package -> version, of an upgrade or of a release to return to; others stay as they are.
    # The host notes those of a release itself, so they are no part of its `release.json`.
    versions: Mapping[str, str] = field(default_factory=dict)
    # only of a restore, and no part of the release that it makes
    restored: tuple[RestoredFile, ...] = ()
    refused: frozenset[str] = frozenset()  # digests of keys that others may know
    brings: tuple[str, ...] = ()  # what else it brings, for people

    @property
    def made(self) -> tuple[GeneratedFile, ...]:
        """The files that are made on the host: generated there, or taken from a backup."""
        paths = {file.path for file in self.restored}
        rest = (file for file in self.generated if file.path not in paths)
        return (*rest, *self.restored)


def make_query(site: Site) -> Query:
    """The query for the facts of a host whose system is not known yet."""
    has_order = site.tls.provider == "letsencrypt"
    package, build = (sources.choose(site, "asterisk", source) for source in ("package", "source"))
    query = _query(site.domain, _by_system(package), has_order=has_order)
    return replace(query, with_build=_by_system(build)) if package != build else query


def _by_system(site: Site) -> Mapping[str, tuple[str, ...]]:
    """The packages for each system of which they differ, and for all others."""
    other = _packages(site, "", "")
    choices = {f"{os_id}/{name}": _packages(site, os_id, name) for os_id, name in SYSTEMS}
    return {**{key: names for key, names in choices.items() if names != other}, "other": other}


def query_of(release: Desired) -> Query:
    """The query for the facts of a host that returns to a release."""
    has_order = release.order is not None
    return _query(release.domain, {"other": release.packages}, has_order=has_order)


def _query(domain: str, packages: Mapping[str, tuple[str, ...]], *, has_order: bool) -> Query:
    folders = tuple(folder.path for service in SERVICES.values() for folder in service.directories)
    drop_ins = tuple(folder for folder in folders if folder.endswith(".d"))
    return Query(
        domain=domain,
        packages=packages,
        units=(*(service.unit for service in SERVICES.values()), certbot.SERVICE_UNIT),
        trees=(*TREES, *dict.fromkeys(drop_ins)),
        directories=tuple(dict.fromkeys(folders)),
        lineage=acme.lineage(domain),
        has_order=has_order,
    )


def _packages(site: Site, os_id: str, codename: str) -> tuple[str, ...]:
    lists = (service.packages(site, os_id, codename) for service in SERVICES.values())
    return tuple(dict.fromkeys(name for names in lists for name in names))


def packages(site: Site, facts: Facts) -> tuple[str, ...]:
    """The packages that the system of a host needs."""
    site = sources.resolved(site, facts)
    return _packages(site, facts.os_id, facts.codename)


def versions(site: Site, facts: Facts) -> dict[str, str | None]:
    """The version of each daemon, installed or to be installed; None if there is no source."""
    site = sources.resolved(site, facts)
    built, extra = asterisk.build(site), repository.repository(site)
    current = facts.installed.get("kamailio", "")
    is_installed = extra and upstream(current).startswith(f"{extra.series}.")
    return {
        "kamailio": extra.series if extra and not is_installed else facts.version("kamailio"),
        "asterisk": built.version if built else facts.version("asterisk"),
    }


def units(site: Site) -> tuple[str, ...]:
    """The units that the daemons and the certificate of a site need."""
    chosen = (
        *(() if site.firewall == "none" else (firewall.UNIT,)),
        *(asterisk.UNIT, kamailio.UNIT),
        *((coturn.UNIT,) if site.turn else ()),
        *((nginx.UNIT,) if site.phone else ()),
    )
    needs_certbot = site.tls.provider == "letsencrypt"
    return (*chosen, certbot.UNIT, certbot.SERVICE_UNIT) if needs_certbot else chosen


def ports(site: Site, entry: HostEntry) -> tuple[Port, ...]:
    """Every port that must answer on a host."""
    return tuple(p for service in SERVICES.values() for p in service.listens(site, entry))


def desired(
    site: Site,
    name: str,
    facts: Facts,
    credentials: Mapping[str, str],
    material: Material,
    *,
    attachments: Attachments | None = None,
) -> Desired:
    """The desired state of a host, rendered for the daemons that it has or will get.

    `credentials` maps each number to its HA1 in hex.
    """
    choices = sources.notes(site, facts)
    site = sources.resolved(site, facts)
    # No validation: a host's version has more digits than the model allows in the inventory.
    known = {name: upstream(version or "") for name, version in versions(site, facts).items()}
    extra = repository.repository(site)
    profile = _profile(site, name, facts)
    notes = (*choices, *kamailio.notes(site, profile), *asterisk.notes(site, profile))
    wanted = Versions.model_construct(None, **known)
    files = file_set(
        site,
        name,
        versions=wanted,
        credentials=credentials,
        profile=profile,
        attachments=attachments,
    ).files
    files = (*files, *_of_material(material, files))
    files = (*files, repository.file(extra, facts.codename)) if extra else files
    owners = {file.service for file in files}
    chosen = {key: service for key, service in SERVICES.items() if key in owners}
    return Desired(
        domain=site.domain,
        files=files,
        generated=generated_files(site, files),
        directories=tuple(
            dict.fromkeys(d for service in chosen.values() for d in service.directories)
        ),
        packages=packages(site, facts),
        units={key: service.unit for key, service in chosen.items()},
        ports=ports(site, site.hosts[name]),
        probe=_probe(site),
        order=acme.order(site),
        build=asterisk.build(site),
        repository=extra,
        notes=(*notes, *material.notes),
    )


def _probe(site: Site) -> Probe:
    origin, number = next(iter(site.origins), ""), next(iter(site.users), "")
    return Probe(domain=site.domain, origin=origin, number=number)


def _of_material(material: Material, files: tuple[ManagedFile, ...]) -> Iterator[ManagedFile]:
    """The files of certificates, beside the rendered ones."""
    if material.pair:
        yield from certificate_files(material.pair, files)
    yield from certbot.material(material.acme_root, material.dns_credentials)


def _profile(site: Site, name: str, facts: Facts) -> HostProfile:
    chosen = firewall.firewall_of(
        site,
        is_ufw_active=facts.is_ufw_active,
        ssh_ports=facts.ssh_ports,
        entry_port=site.hosts[name].port,
    )
    has_database = asterisk.DATABASE in facts.managed
    return HostProfile(firewall=chosen, room=facts.room, has_user_database=has_database)


def generated_files(site: Site, files: tuple[ManagedFile, ...]) -> tuple[GeneratedFile, ...]:
    """The files that the host generates: dialog key and, unless `tls` names files, the pair."""
    dialog = GeneratedFile(
        path=DIALOG_KEY,
        mode=0o640,
        owner="root:kamailio",
        recipe="dialog-key",
        service="kamailio",
        reload=None,
    )
    lineage = f"{acme.LINEAGES}/{acme.lineage(site.domain)}"
    recipes = {
        "files": (),
        "self-signed": ("certificate", "key"),
        "letsencrypt": (f"{lineage}/fullchain.pem", f"{lineage}/privkey.pem"),
    }
    reload = _tls_reload(files)
    paths = ((certificates.PATH, 0o644), (certificates.KEY_PATH, 0o640))
    pair = zip(paths, recipes[site.tls.provider], strict=False)
    return (
        dialog,
        *(
            GeneratedFile(
                path=path,
                mode=mode,
                owner="root:kamailio",
                recipe=recipe,
                service="kamailio",
                reload=reload,
            )
            for (path, mode), recipe in pair
        ),
    )


def certificate_files(
    pair: tuple[bytes, bytes], files: tuple[ManagedFile, ...]
) -> tuple[ManagedFile, ...]:
    """The user's own certificate and key, as managed files."""
    rows = (
        (certificates.PATH, pair[0], 0o644, False),
        (certificates.KEY_PATH, pair[1], 0o640, True),
    )
    reload = _tls_reload(files)
    return tuple(
        ManagedFile(
            path=path,
            content=content,
            mode=mode,
            owner="root:kamailio",
            service="kamailio",
            reload=reload,
            sensitive=sensitive,
            template="(tls.certificate and tls.private_key)",
        )
        for path, content, mode, sensitive in rows
    )


def _tls_reload(files: tuple[ManagedFile, ...]) -> tuple[str, ...] | None:
    """The command that loads new TLS settings; it also loads a new certificate."""
    return next((file.reload for file in files if file.path == TLS_SETTINGS), None)
