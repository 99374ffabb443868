"""The services of a host: each module has one SERVICE, and this file gathers them."""

from collections.abc import Mapping

from sipdeploy.inventory.site import Site, Versions
from sipdeploy.services import asterisk, certbot, firewall, kamailio
from sipdeploy.services.render import FileSet
from sipdeploy.services.service import Deployment, HostProfile, Service, parse_version

# In the order in which they start: behind a shut door, and Kamailio sends nobody to an Asterisk
# that is not there yet. certbot's timer comes last: what it fetches is for the others.
SERVICES: dict[str, Service] = {
    module.SERVICE.name: module.SERVICE for module in (firewall, asterisk, kamailio, certbot)
}


def file_set(
    site: Site,
    host_name: str,
    *,
    versions: Versions,
    credentials: Mapping[str, str],
    profile: HostProfile | None = None,
) -> FileSet:
    """Every managed file of `host_name`, for daemons of these versions.

    An Asterisk that the host builds is of the version that the site names.
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
    )
    files = (file for service in SERVICES.values() for file in service.files(deployment))
    return FileSet(tuple(sorted(files, key=lambda file: file.path)))
