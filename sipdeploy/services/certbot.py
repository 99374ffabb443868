"""certbot: gets and renews certificates from Let's Encrypt or another ACME server.

certbot's own timer renews them. sipdeploy adds hooks that call one script, which opens port 80 for
the challenge and makes the daemons serve the new certificate.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from sipdeploy.inventory.site import Site
from sipdeploy.services import acme, coturn, kamailio, nginx
from sipdeploy.services.render import ManagedFile, rendered
from sipdeploy.services.service import (
    NOTHING,
    Deployment,
    Directory,
    Service,
    answering_address,
)

NAME = "certbot"
UNIT = "certbot.timer"
SERVICE_UNIT = "certbot.service"  # which the timer starts
HOOKS = "/etc/letsencrypt/renewal-hooks"
READERS = (coturn.SERVICE, nginx.SERVICE)  # services that serve Kamailio's certificate too
DIRECTORIES = (
    Directory(path="/etc/sipdeploy", mode=0o755, owner="root:root"),
    Directory(path="/etc/systemd/system/certbot.service.d", mode=0o755, owner="root:root"),
    Directory(path="/etc/systemd/system/kamailio.service.d", mode=0o755, owner="root:root"),
)


def packages(site: Site, os_id: str, codename: str) -> tuple[str, ...]:
    """The Debian packages, the same on every system."""
    del os_id, codename
    if site.tls.provider != "letsencrypt":
        return ()
    plugin = f"python3-certbot-dns-{site.tls.dns_plugin}"
    return ("certbot", plugin) if site.tls.challenge == "dns-01" else ("certbot",)


def files(deployment: Deployment) -> Iterator[ManagedFile]:
    """The script, the hooks that call it, and drop-ins for certbot's and Kamailio's service."""
    order = acme.order(deployment.site)
    if order is None:
        return
    values = {
        "domain": order.domain,
        "lineage": acme.lineage(order.domain),
        "firewall": deployment.firewall.kind,
        "ports": _ports(deployment, kamailio.SERVICE),
        "readers": tuple(
            {"unit": service.unit, "ports": ports}
            for service in READERS
            if (ports := _ports(deployment, service))
        ),
        "has_root": order.has_root,
    }
    hooks = ("pre", "post", "deploy") if order.is_standalone else ("deploy",)
    units = "/etc/systemd/system"
    rows = [
        (acme.SCRIPT, "certbot/certificate.sh.j2", 0o755),
        *((f"{HOOKS}/{hook}/sipdeploy", f"certbot/{hook}.sh.j2", 0o755) for hook in hooks),
        (f"{units}/certbot.service.d/sipdeploy.conf", "certbot/certbot.service.d.j2", 0o644),
        (
            f"{units}/kamailio.service.d/sipdeploy-certificate.conf",
            "certbot/kamailio.service.d.j2",
            0o644,
        ),
    ]
    for path, template, mode in rows:
        yield rendered(template, values, path=path, mode=mode, service=NAME, reload=NOTHING)


def _ports(deployment: Deployment, service: Service) -> Sequence[dict[str, Any]]:
    """The ports at which a service serves the certificate."""
    return [
        {"host": answering_address(port.address), "number": port.number}
        for port in service.listens(deployment.site, deployment.host)
        if port.is_tls
    ]


def material(root: bytes | None, credentials: bytes | None) -> Iterator[ManagedFile]:
    """Files of the site for certbot: root of the ACME server, credentials of the DNS plugin."""
    for path, content, mode in ((acme.ROOT, root, 0o644), (acme.CREDENTIALS, credentials, 0o600)):
        if content is not None:
            yield ManagedFile(
                path=path,
                content=content,
                mode=mode,
                owner="root:root",
                service=NAME,
                reload=NOTHING,
                sensitive=path == acme.CREDENTIALS,
                template="(tls)",
            )


SERVICE = Service(
    name=NAME,
    unit=UNIT,
    directories=DIRECTORIES,
    packages=packages,
    files=files,
)
