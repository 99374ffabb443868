"""Keeps the users of today in the release to which a host rolls back. Pure.

A release has users and their HA1 values. A rollback that restored them would make removed users
and old passwords valid again, so it takes them from the current release instead.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from sipdeploy.facts import Facts, upstream
from sipdeploy.inventory import fields
from sipdeploy.inventory.site import Phone, Service, Site, Tls, Turn, User
from sipdeploy.plan import tables
from sipdeploy.plan.desired import Desired
from sipdeploy.plan.effects import named
from sipdeploy.services import acme, asterisk, coturn, kamailio, nginx, user_database
from sipdeploy.services.render import ManagedFile, display_name
from sipdeploy.services.service import Deployment, HostProfile, parse_version

HA1 = re.compile(r"[0-9a-f]{32}")
SETTINGS = re.compile(r"voicemail=([01]);contacts=([0-9]{1,3})")
# The section `password` of a user in pjsip_users.conf
CREDENTIAL = re.compile(
    r"^username=([0-9]+)\n(?:password_digest=MD5:|md5_cred=)([0-9a-f]{32})$", re.MULTILINE
)
ENDPOINT = re.compile(r"^\[([0-9]+)\]\(user\)$", re.MULTILINE)
REGISTRAR = b"res_pjsip_registrar.so"  # only where Asterisk checks the passwords


@dataclass(frozen=True, slots=True, kw_only=True)
class Users:
    """The users of a release by number, and their HA1."""

    users: Mapping[str, User]
    credentials: Mapping[str, str]


def configuration(release: Desired) -> str:
    """SHA-256 in hex of a release without its users: equal if a rollback would change nothing."""
    files = [
        (file.path, file.mode, file.owner, "" if file.is_data else _sha256(file.content))
        for file in release.files
    ]
    parts = (release.generated, release.directories, release.ports)
    contents = _contents(release)
    services = _htable(contents, "services") if kamailio.DATABASE in contents else {}
    data = [
        *(release.domain, files, services),
        *([asdict(each) for each in part] for part in parts),
        *(release.packages, dict(release.units)),
        *(each and asdict(each) for each in (release.order, release.build, release.repository)),
    ]
    return _sha256(json.dumps(data, sort_keys=True).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def keep_users(wanted: Desired, current: Desired, site: Site, name: str, facts: Facts) -> Desired:
    """The release `wanted` with the users of `current`; ValueError if they do not fit into it."""
    if wanted.domain != current.domain:
        raise ValueError(f"it is for `{wanted.domain}`, and a password is valid for one domain")
    kept, files = users_of(current), _contents(wanted)
    then = site_of(wanted, site)
    if both := sorted(kept.users.keys() & then.services.keys()):
        raise ValueError(f"it has services with the numbers of {named(both)}")
    changes = {
        "users": dict(kept.users),
        # of these two, only the users are rendered
        "turn": Turn() if coturn.DATABASE in files else None,
        "phone": Phone() if nginx.USERS in files else None,
    }
    then = then.model_copy(update=changes)
    data = _data(then, name, wanted, facts, kept.credentials)
    if data.keys() != {file.path for file in wanted.files if file.is_data}:
        raise ValueError("it stores users in other files, as for a site of another size")
    probe = wanted.probe and replace(wanted.probe, number=next(iter(kept.users), ""))
    return replace(
        wanted, files=tuple(data.get(file.path, file) for file in wanted.files), probe=probe
    )


def site_of(release: Desired, site: Site) -> Site:
    """The site as phones meet it after a rollback; ValueError if the release cannot be read."""
    files = _contents(release)
    services = {
        fields.service_number(number): Service.model_validate({"kind": kind})
        for number, kind in _htable(files, "services").items()
    }
    own = (port for port in release.ports if port.key.startswith("ports."))
    ports = {port.key.removeprefix("ports."): port.number for port in own}
    origin = release.probe.origin if release.probe else ""
    changes = {
        "domain": release.domain,
        "services": services,
        "ports": site.ports.model_copy(update=ports),
        "authentication": "asterisk" if _is_registrar(files) else "kamailio",
        "origins": (origin,) if origin else (),
        "tls": _tls(release, site),
    }
    return site.model_copy(update=changes)


def _tls(release: Desired, site: Site) -> Tls:
    """The source of the certificate of a release, by which a served chain is judged."""
    order = release.order
    if order is None:
        is_file = site.tls.provider != "letsencrypt"
        return site.tls if is_file else site.tls.model_copy(update={"provider": "self-signed"})
    server = None if order.server == acme.LETSENCRYPT else order.server
    return site.tls.model_copy(update={"provider": "letsencrypt", "server": server})


def _data(
    site: Site, name: str, wanted: Desired, facts: Facts, credentials: Mapping[str, str]
) -> dict[str, ManagedFile]:
    """The files that have users, for the daemons of a release."""
    build, files = wanted.build, _contents(wanted)
    version = build.version if build else upstream(facts.version("asterisk") or "")
    deployment = Deployment(
        site=site,
        host=site.hosts[name],
        kamailio=parse_version(upstream(facts.version("kamailio") or site.versions.kamailio)),
        asterisk=parse_version(version or site.versions.asterisk),
        credentials=credentials,
        profile=HostProfile(room=facts.room, has_user_database=asterisk.DATABASE in files),
    )
    daemons = (kamailio, asterisk, coturn, nginx)
    rendered = [file for daemon in daemons for file in daemon.files(deployment)]
    data = {file.path: file for file in rendered if file.is_data}
    if (
        asterisk.DATABASE in data
    ):  # it repeats settings of pjsip.conf, which is that of the release
        ours, theirs = (
            contents.get(asterisk.ENDPOINTS_FILE, b"").decode()
            for contents in ({file.path: file.content for file in rendered}, files)
        )
        for part in ("user", "contacts", "password"):
            if user_database.settings(ours, part) != user_database.settings(theirs, part):
                raise ValueError("its users have other settings, of another version of sipdeploy")
    return data


def users_of(release: Desired) -> Users:
    """Read the users of a release; ValueError if a value is not valid."""
    files = _contents(release)
    names, settings = _htable(files, "names"), _htable(files, "users")
    order = ENDPOINT.findall(files.get(asterisk.USERS_FILE, b"").decode("utf-8", "replace"))
    users = {
        fields.user_number(number): _user(settings[number], names.get(number, ""))
        for number in dict.fromkeys([*(n for n in order if n in settings), *settings])
    }
    credentials = _htable(files, "credentials") or _asterisk_credentials(files)
    if users.keys() != credentials.keys() or not all(map(HA1.fullmatch, credentials.values())):
        raise ValueError("the current release does not have a credential of each user")
    return Users(users=users, credentials=credentials)


def _user(settings: str, shown: str) -> User:
    match = SETTINGS.fullmatch(settings)
    name = re.sub(r"\\(.)", r"\1", shown[1:-1])
    if match is None or (shown and display_name(name) != shown):
        raise ValueError("the current release describes users in another form")
    return User(name=name, voicemail=match[1] == "1", max_contacts=int(match[2]))


def _asterisk_credentials(files: Mapping[str, bytes]) -> dict[str, str]:
    """The HA1 of each user where Asterisk checks them, from its file or its database."""
    if asterisk.DATABASE in files:
        rows = tables.pairs(files[asterisk.DATABASE], "users", "number", "digest")
        return {number: digest.removeprefix("MD5:") for number, digest in rows.items()}
    text = files.get(asterisk.USERS_FILE, b"").decode("utf-8", "replace")
    return dict(CREDENTIAL.findall(text))


def _htable(files: Mapping[str, bytes], table: str) -> dict[str, str]:
    return tables.pairs(files.get(kamailio.DATABASE, b""), table, "key_name", "key_value")


def _is_registrar(files: Mapping[str, bytes]) -> bool:
    return REGISTRAR in files.get("/etc/asterisk/modules.conf", b"")


def _contents(release: Desired) -> dict[str, bytes]:
    return {file.path: file.content for file in release.files}
