"""A lab: a bridge with hosts, which exist until the end of a `with` block."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING

from lab import images
from lab.claim import claim
from lab.hosts import Disk, Host, key_pair
from lab.machine import LabError, why_not
from lab.network import FIRST_HOST, LAST_HOST

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from lab.network import Network

_SSH_HOST = """\
Host {name}
    HostName {address}

"""
_SSH_DEFAULTS = """\
Host *
    User root
    IdentityFile {lab.identity_file}
    IdentitiesOnly yes
    UserKnownHostsFile {lab.known_hosts}
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
"""


class Lab:
    """Real Debian hosts on this machine.

    Every lab has its own subnet, so that several labs can be open at once. Its end, also by a
    signal, removes its hosts, network and files; only the caches stay.
    """

    hosts: dict[str, Host]  # by name
    network: Network  # the bridge and its subnet
    address: str  # of this machine on the bridge, for servers of a test
    directory: Path  # temporary files of the lab
    identity_file: Path  # the private key that may log in on every host
    known_hosts: Path  # the keys of the hosts
    ssh_config: Path  # for `ssh -F FILE sip1`

    def __enter__(self) -> Self:
        """Claim a subnet and create the bridge; LabError if the lab cannot run here."""
        if reason := why_not():
            raise LabError(reason)
        self._claim = claim()
        try:
            self._open()
        except BaseException:
            self._claim.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cut the power of every host and remove the lab."""
        self._claim.release()
        for host in self.hosts.values():
            host.reap()

    def _open(self) -> None:
        self.hosts = {}
        self._disks: dict[str, Disk] = {}
        self._changing = threading.Lock()
        self.network = self._claim.network
        self.address = self.network.address
        self.directory = self._claim.begin()
        self.identity_file = self.directory / "id_ed25519"
        self.known_hosts = self.directory / "known_hosts"
        self.ssh_config = self.directory / "ssh_config"
        _, self._key = key_pair(self.identity_file)
        self._write_ssh_files()
        self.network.create()

    def boot(
        self,
        name: str,
        *,
        suite: str = "sid",
        base: str | None = None,
        packages: Sequence[str] = (),
        options: Sequence[str] = (),
    ) -> Host:
        """Boot a new host, and return it when root can log in.

        It is a bare Debian `suite`, one with `packages`, or the snapshot `base`; `options` are of
        systemd-nspawn. Several threads may call this.
        """
        for other in list(self.hosts.values()):
            other.share_packages()
        layers = self._disks[base].layers if base else (images.image(suite, packages),)
        disk = Disk(directory=self.directory / "hosts" / name, layers=layers)
        with self._changing:
            if name in self.hosts:
                raise LabError(f"this lab already has a host `{name}`")
            octet = FIRST_HOST + len(self.hosts)
            if octet > LAST_HOST:
                raise LabError("this lab has no free address")
            host = Host(name, self.network, octet=octet, disk=disk, key=self._key, options=options)
            self.hosts[name] = host
            self._prepare(host)
        host.start()
        return host

    def snapshot(self, host: Host, name: str) -> None:
        """Stop a host, and keep its disk as the snapshot `name` for `boot`.

        The host itself can be started again, and continues from the snapshot.
        """
        host.stop()
        kept = self.directory / "snapshots" / name
        kept.parent.mkdir(exist_ok=True)
        host.disk.upper.rename(kept)
        host.disk.upper.mkdir()
        shutil.copystat(kept, host.disk.upper)
        layers = (kept, *host.disk.layers)
        host.disk = Disk(directory=host.disk.directory, layers=layers)
        self._disks[name] = host.disk

    def _prepare(self, host: Host) -> None:
        host.disk.upper.mkdir(parents=True)
        private, host.key = key_pair(self.directory / f"{host.name}.hostkey")
        host.disk.write("/etc/ssh/ssh_host_ed25519_key", private, mode=0o600)
        host.disk.write("/etc/ssh/ssh_host_ed25519_key.pub", host.key)
        host.disk.write("/root/.ssh/authorized_keys", self._key, mode=0o600)
        host.disk.write("/etc/hostname", f"{host.name}\n")
        host.disk.write("/etc/hosts", f"127.0.0.1 localhost\n{host.address} {host.name}\n")
        host.disk.write("/etc/machine-id", "")
        self._write_ssh_files()

    def _write_ssh_files(self) -> None:
        known = [f"{host.address},{host.name} {host.key}" for host in self.hosts.values()]
        _replace(self.known_hosts, "".join(known))
        entries = [
            _SSH_HOST.format(name=host.name, address=host.address) for host in self.hosts.values()
        ]
        _replace(self.ssh_config, "".join(entries) + _SSH_DEFAULTS.format(lab=self))


def _replace(file: Path, text: str) -> None:
    # Atomically, because an SSH client in another thread may read the file.
    unfinished = file.with_name(f"{file.name}.unfinished")
    unfinished.write_text(text, "utf-8")
    unfinished.replace(file)
