"""What a host should be, by its site: files, packages, directories, units; and what to ask it."""

from collections.abc import Mapping
from dataclasses import dataclass

from sipdeploy.facts import Facts, Query, upstream
from sipdeploy.inventory.site import HostEntry, Site, Versions
from sipdeploy.services import (
    SERVICES,
    acme,
    asterisk,
    certbot,
    certificates,
    file_set,
    firewall,
    kamailio,
)
from sipdeploy.services import install as repository
from sipdeploy.services.acme import Order
from sipdeploy.services.certificates import Material
from sipdeploy.services.install import UNIT_FILE, WRAPPER, Build, Repository
from sipdeploy.services.render import ManagedFile
from sipdeploy.services.service import Directory, HostProfile, Port

DIALOG_KEY = "/etc/kamailio/dialog-key.cfg"
TLS_SETTINGS = "/etc/kamailio/tls.cfg"
# Systems whose packages may have names of their own; all others share one list.
SYSTEMS = (
    *(("debian", name) for name in ("bullseye", "bookworm", "trixie")),
    *(("ubuntu", name) for name in ("jammy", "noble")),
)
TREES = (
    *("/etc/kamailio", "/etc/asterisk", "/etc/sipdeploy", certbot.HOOKS),
    *(UNIT_FILE, WRAPPER, repository.SOURCE, repository.KEYRING),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeFile:
    """A file that the host makes for itself, and that never leaves it: a key, or what hangs on it.

    `recipe` is a word of the script `stage`: certificate, key (made with it), dialog-key, or a
    path that certbot keeps, to be copied.
    """

    path: str
    mode: int
    owner: str
    recipe: str
    service: str
    reload: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Whom the SIP probe of a host asks as: its domain, an origin that may, a number if any."""

    domain: str
    origin: str = ""
    number: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """All that a host should be. `units` maps each service to its unit, in starting order."""

    domain: str
    files: tuple[ManagedFile, ...]
    made: tuple[MadeFile, ...]
    directories: tuple[Directory, ...]
    packages: tuple[str, ...]
    units: Mapping[str, str]
    ports: tuple[Port, ...] = ()
    probe: Probe | None = None
    order: Order | None = None
    build: Build | None = None
    repository: Repository | None = None
    notes: tuple[str, ...] = ()  # on sizes, for whoever reads the plan


def make_query(site: Site) -> Query:
    """What to ask a host, before it is known which system it runs."""
    other = _packages(site, "", "")
    choices = {f"{os_id}/{name}": _packages(site, os_id, name) for os_id, name in SYSTEMS}
    differing = {key: names for key, names in choices.items() if names != other}
    folders = tuple(folder.path for service in SERVICES.values() for folder in service.directories)
    drop_ins = tuple(folder for folder in folders if folder.endswith(".d"))
    return Query(
        domain=site.domain,
        packages={**differing, "other": other},
        units=tuple(service.unit for service in SERVICES.values()),
        trees=(*TREES, *dict.fromkeys(drop_ins)),
        directories=tuple(dict.fromkeys(folders)),
        lineage=acme.lineage(site.domain),
        has_order=site.tls.provider == "letsencrypt",
    )


def _packages(site: Site, os_id: str, codename: str) -> tuple[str, ...]:
    lists = (service.packages(site, os_id, codename) for service in SERVICES.values())
    return tuple(dict.fromkeys(name for names in lists for name in names))


def packages(site: Site, found: Facts) -> tuple[str, ...]:
    """The packages that the system of a host needs."""
    return _packages(site, found.os_id, found.codename)


def versions(site: Site, found: Facts) -> dict[str, str | None]:
    """The versions that the daemons of a host have or will have; None: there is none to be had."""
    built, extra = asterisk.build(site), repository.repository(site)
    have = found.installed.get("kamailio", "")
    is_there = extra and upstream(have).startswith(f"{extra.series}.")
    return {
        "kamailio": extra.series if extra and not is_there else found.version("kamailio"),
        "asterisk": built.version if built else found.version("asterisk"),
    }


def ports(site: Site, entry: HostEntry) -> tuple[Port, ...]:
    """Every port that must answer on a host."""
    return tuple(p for service in SERVICES.values() for p in service.listens(site, entry))


def desired(
    site: Site,
    name: str,
    found: Facts,
    credentials: Mapping[str, str],
    material: Material,
) -> Desired:
    """What a host should be, rendered for the daemons that it has or will get."""
    # Past the model's check: a host's own version has more digits than the inventory's.
    known = {name: upstream(version or "") for name, version in versions(site, found).items()}
    extra = repository.repository(site)
    profile = _profile(site, name, found)
    wanted = Versions.model_construct(None, **known)
    files = file_set(site, name, versions=wanted, credentials=credentials, profile=profile).files
    if material.pair:
        files = (*files, *certificate_files(material.pair, files))
    files = (*files, *certbot.material(material.acme_root, material.dns_credentials))
    files = (*files, repository.file(extra, found.codename)) if extra else files
    owners = {file.service for file in files}
    chosen = {key: service for key, service in SERVICES.items() if key in owners}
    return Desired(
        domain=site.domain,
        files=files,
        made=made_files(site, files),
        directories=tuple(
            dict.fromkeys(d for service in chosen.values() for d in service.directories)
        ),
        packages=packages(site, found),
        units={key: service.unit for key, service in chosen.items()},
        ports=ports(site, site.hosts[name]),
        probe=Probe(
            domain=site.domain,
            origin=next(iter(site.origins), ""),
            number=next(iter(site.users), ""),
        ),
        order=acme.order(site),
        build=asterisk.build(site),
        repository=extra,
        notes=(*kamailio.notes(site, profile), *asterisk.notes(site, profile)),
    )


def _profile(site: Site, name: str, found: Facts) -> HostProfile:
    shut = firewall.firewall_of(
        site,
        is_ufw_active=found.is_ufw_active,
        ssh_ports=found.ssh_ports,
        entry_port=site.hosts[name].port,
    )
    has_database = asterisk.DATABASE in found.managed
    return HostProfile(firewall=shut, room=found.room, has_user_database=has_database)


def made_files(site: Site, files: tuple[ManagedFile, ...]) -> tuple[MadeFile, ...]:
    """The files that the host makes: the dialog key, and its certificate unless that is yours."""
    dialog = MadeFile(
        path=DIALOG_KEY,
        mode=0o640,
        owner="root:kamailio",
        recipe="dialog-key",
        service="kamailio",
        reload=None,
    )
    held = f"{acme.LINEAGES}/{acme.lineage(site.domain)}"
    recipes = {
        "files": (),
        "self-signed": ("certificate", "key"),
        "letsencrypt": (f"{held}/fullchain.pem", f"{held}/privkey.pem"),
    }
    reload = _tls_reload(files)
    paths = ((certificates.PATH, 0o644), (certificates.KEY_PATH, 0o640))
    pair = zip(paths, recipes[site.tls.provider], strict=False)
    return (
        dialog,
        *(
            MadeFile(
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
    """A new certificate becomes live by what makes new TLS settings live."""
    return next((file.reload for file in files if file.path == TLS_SETTINGS), None)
