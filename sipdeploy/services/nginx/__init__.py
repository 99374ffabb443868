"""nginx: serves the web phone to browsers, by a unit of sipdeploy's own.

It has its own configuration and account, so sites of the administrator in /etc/nginx, their
mistakes and their reloads do not concern it, and it reads none of their files.
"""

import base64
import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sipdeploy.inventory.site import HostEntry, Site
from sipdeploy.services import kamailio
from sipdeploy.services.phone import page
from sipdeploy.services.render import ManagedFile, rendered
from sipdeploy.services.service import (
    NOTHING,
    Check,
    Complaint,
    Deployment,
    Directory,
    Port,
    Service,
)

NAME = "nginx"
UNIT = "sipdeploy-nginx.service"
UNIT_PATH = f"/etc/systemd/system/{UNIT}"
PROGRAM = "nginx"
FOLDER = "/etc/sipdeploy/phone"
CONFIGURATION = f"{FOLDER}/nginx.conf"
USERS = f"{FOLDER}/users"
PAGE = f"{FOLDER}/page"
CONTACTS = f"{FOLDER}/contacts.json"  # outside the page, so that one location alone serves it
OWNER = "root:kamailio"  # nginx is in this group, for the key of the certificate
RELOAD = ("systemctl", "reload", UNIT)
DIRECTORIES = (
    Directory(path="/etc/sipdeploy", mode=0o755, owner="root:root"),
    Directory(path=FOLDER, mode=0o755, owner="root:root"),
    Directory(path=PAGE, mode=0o755, owner="root:root"),
)
# The package starts a server of its own, with a page on port 80. A host that had it keeps it.
IDLE_UNIT = "nginx.service"
COMPLAINT = re.compile(
    r"^nginx: \[emerg\] (?P<text>.*?)(?: in (?P<path>/\S+):(?P<line>\d+))?$", re.MULTILINE
)


def packages(site: Site, os_id: str, codename: str) -> tuple[str, ...]:
    """The Debian package: any flavour of nginx provides what this needs."""
    del os_id, codename
    return ("nginx",) if site.phone else ()


def files(deployment: Deployment) -> Iterator[ManagedFile]:
    """Every managed file of nginx; none without `phone`."""
    site = deployment.site
    if site.phone is None:
        return
    values = _values(deployment)
    for path, template, reload in (
        (CONFIGURATION, "nginx/nginx.conf.j2", RELOAD),
        (UNIT_PATH, "nginx/nginx.service.j2", None),
    ):
        yield rendered(template, values, path=path, mode=0o644, service=NAME, reload=reload)
    yield from _page(site)
    yield _file(USERS, passwords(deployment.credentials), mode=0o640, is_sensitive=True)
    yield _file(CONTACTS, page.contacts(site).encode(), mode=0o640)


def _page(site: Site) -> Iterator[ManagedFile]:
    """The built page, which is the same for every site, and its `config.json`."""
    folder = page.folder()  # None only if nothing is applied: see `page.require`
    for file in sorted(folder.iterdir()) if folder else ():
        if file.suffix in page.TYPES and file.name not in LOCAL:
            yield ManagedFile(
                path=f"{PAGE}/{file.name}",
                content=file.read_bytes(),
                mode=0o644,
                owner="root:root",
                service=NAME,
                reload=NOTHING,
                template="(web phone)",
            )
    config = page.config(site, is_local=False).encode()
    yield ManagedFile(
        path=f"{PAGE}/config.json",
        content=config,
        mode=0o644,
        owner="root:root",
        service=NAME,
        reload=NOTHING,
        template="(web phone)",
    )


LOCAL = ("two.html",)  # only for `sipdeploy phone --open`


def _file(path: str, content: bytes, *, mode: int, is_sensitive: bool = False) -> ManagedFile:
    """A file that changes with users; nginx reads it at each request."""
    return ManagedFile(
        path=path,
        content=content,
        mode=mode,
        owner=OWNER,
        service=NAME,
        reload=NOTHING,
        sensitive=is_sensitive,
        template="(users and services)",
        is_data=True,
    )


def passwords(credentials: Mapping[str, str]) -> bytes:
    """The users who may read the contacts, for `auth_basic_user_file`: `NUMBER:{SHA}...`.

    The password is the key that the page derives from the HA1 for this purpose alone. It has 256
    bits, so its hash needs no salt.
    """
    lines = (
        f"{number}:{{SHA}}{_sha1(page.derived_key(ha1, 'contacts'))}\n"
        for number, ha1 in sorted(credentials.items())
    )
    return "".join(lines).encode()


def _sha1(text: str) -> str:
    digest = hashlib.sha1(text.encode(), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def _values(deployment: Deployment) -> Mapping[str, Any]:
    site = deployment.site
    (port,) = listens(site, deployment.host)
    kinds: dict[str, list[str]] = {}
    for suffix, kind in page.TYPES.items():
        kinds.setdefault(kind.partition(";")[0], []).append(suffix.removeprefix("."))
    return {
        "domain": site.domain,
        "address": port.address,
        "port": port.number,
        "headers": page.headers(site, is_local=False),
        "types": kinds,
    }


def listens(site: Site, host: HostEntry) -> Sequence[Port]:
    """The port that must answer, at the address at which phones reach Kamailio."""
    if site.phone is None:
        return ()
    return (
        Port(
            protocol="tcp",
            address=kamailio.listen_address(host),
            number=site.phone.port,
            process=PROGRAM,
            key="phone.port",
            is_tls=True,
        ),
    )


def checks(paths: Collection[str]) -> tuple[Check, ...]:
    """`nginx -t`, if the configuration changes."""
    if CONFIGURATION not in paths:
        return ()
    return (Check(service=NAME, title="`nginx -t`", script="check_nginx"),)


def parse_check(output: str) -> list[Complaint]:
    """The errors of `nginx -t`."""
    return [
        Complaint(
            path=match["path"] or CONFIGURATION,
            line=int(match["line"] or 0),
            column=1,
            text=match["text"],
        )
        for match in COMPLAINT.finditer(output)
    ]


SERVICE = Service(
    name=NAME,
    unit=UNIT,
    directories=DIRECTORIES,
    packages=packages,
    files=files,
    listens=listens,
    checks=checks,
    parse_check=parse_check,
    reads_certificate=True,
)
