"""The services of a host; each module defines one SERVICE."""

from collections.abc import Mapping

from sipdeploy.inventory.own.files import Attachments
from sipdeploy.inventory.site import Site, Versions
from sipdeploy.services import asterisk, certbot, coturn, firewall, kamailio, nginx
from sipdeploy.services.render import FileSet
from sipdeploy.services.service import Deployment, HostProfile, Service, parse_version

# In starting order: the firewall first, and Asterisk before Kamailio, which sends calls to it.
# certbot's timer comes last, because the others use its certificate.
SERVICES: dict[str, Service] = {
    module.SERVICE.name: module.SERVICE
    for module in (firewall, asterisk, kamailio, coturn, nginx, certbot)
}


def file_set(
    site: Site,
    host_name: str,
    *,
    versions: Versions,
    credentials: Mapping[str, str],
    profile: HostProfile | None = None,
    attachments: Attachments | None = None,
) -> FileSet:
    """Every managed file of `host_name`, for daemons of these versions.

    An Asterisk that the host builds has the version in the site, not in `versions`.
    `credentials` maps each number to its HA1 in hex. Equal input gives equal bytes.
    Raises UnquotableError for a value that the site model should have refused.
    """
    built = asterisk.build(site)
    deployment = Deployment(
        site=site,
        host=site.hosts[host_name],
        kamailio=parse_version(versions.kamailio),
        asterisk=parse_version(built.version if built else versions.asterisk),
        credentials=credentials,
        profile=profile or HostProfile(),
        attachments=attachments or Attachments(),
    )
    files = (file for service in SERVICES.values() for file in service.files(deployment))
    return FileSet(tuple(sorted(files, key=lambda file: file.path)))
