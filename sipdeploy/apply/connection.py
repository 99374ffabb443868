"""From the entry of an inventory to a host that runs commands."""

from sipdeploy.hosts import Host, LocalHost
from sipdeploy.site import HostEntry
from sipdeploy.ssh import SSHHost, target_of
from sipdeploy.ssh_target import Wish


def connect(name: str, entry: HostEntry) -> Host:
    """Open the host of an inventory entry; HostFailed with what to type when it cannot be."""
    if entry.is_local:
        return LocalHost(name)
    given = entry.model_fields_set  # what the inventory leaves out is ~/.ssh/config's to say
    wish = Wish(
        alias=entry.address,
        user=entry.user if "user" in given else None,
        port=entry.port if "port" in given else None,
        identity_file=entry.identity_file,
    )
    return SSHHost(name, target_of(name, wish))
