"""Connects to the hosts of an inventory, also in the background."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Self

from sipdeploy.host.local import LocalHost
from sipdeploy.host.ssh import SSHHost, target_of
from sipdeploy.host.ssh_settings import SshSettings
from sipdeploy.host.sudo import passwords

if TYPE_CHECKING:
    from sipdeploy.host import Host
    from sipdeploy.inventory.site import HostEntry


def connect(name: str, entry: HostEntry) -> Host:
    """Open the host of an inventory entry. Raises HostFailed (SD501 to SD504, SD508)."""
    password = passwords.of(entry.sudo_password)
    if entry.is_local:
        return LocalHost(name, password)
    given = entry.model_fields_set  # ~/.ssh/config decides what the inventory leaves out
    settings = SshSettings(
        alias=entry.address,
        user=entry.user if "user" in given else None,
        port=entry.port if "port" in given else None,
        identity_file=entry.identity_file,
    )
    return SSHHost(name, target_of(name, settings), password)


class Ahead:
    """Opens connections in threads while other work is done.

    A context manager: on exit it closes the connections that nobody has taken.
    """

    def __init__(self, entries: Iterable[tuple[str, HostEntry]]) -> None:
        self._opened: dict[str, Host | BaseException] = {}
        self._threads = {
            name: threading.Thread(target=self._open, args=(name, entry), daemon=True)
            for name, entry in entries
        }

    def __enter__(self) -> Self:
        for thread in self._threads.values():
            thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        for thread in self._threads.values():
            thread.join()
        for opened in self._opened.values():
            if not isinstance(opened, BaseException):
                opened.close()

    def take(self, name: str, entry: HostEntry) -> Host:
        """As `connect`; the caller owns the connection. Call once for each name."""
        thread = self._threads.pop(name, None)
        if thread is None:
            return connect(name, entry)
        thread.join()
        opened = self._opened.pop(name)
        if isinstance(opened, BaseException):
            raise opened
        return opened

    def _open(self, name: str, entry: HostEntry) -> None:
        try:
            self._opened[name] = connect(name, entry)
        except BaseException as failure:  # noqa: BLE001 - `take` raises it
            self._opened[name] = failure
