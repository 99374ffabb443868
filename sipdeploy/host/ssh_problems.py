"""The error of each way in which an SSH connection can fail. Pure."""

import errno
import socket
from collections.abc import Sequence

from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.diagnostics.escapes import shown_line
from sipdeploy.host import host_failed
from sipdeploy.host.known_hosts import SSH_PORT, Verdict, entry_name, fingerprint
from sipdeploy.host.ssh_settings import Target

UNROUTED = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL}


def unreachable(name: str, target: Target, failure: Exception) -> HostFailed:
    """A connect failed; the message names the address that was tried, of a jump or the host."""
    if isinstance(failure, socket.gaierror):
        return host_failed(
            "SD501",
            f"the address `{target.address}` of `{name}` does not resolve",
            help_=f"set `hosts.{name}.address` to an IP address, or to a name that resolves",
        )
    if isinstance(failure, ConnectionRefusedError):
        state, fix = "refuses the connection", f"start sshd there, or set `hosts.{name}.port`"
    elif isinstance(failure, TimeoutError):
        state, fix = "does not answer in time", f"check `hosts.{name}.address` and the firewall"
    elif isinstance(failure, OSError) and failure.errno in UNROUTED:
        state, fix = "is not reachable: no route", f"check `hosts.{name}.address`"
    else:
        state, fix = f"is not reachable: {failure}", f"check `hosts.{name}.address`"
    return host_failed(
        "SD501",
        f"`{target.address}` port {target.port} {state} (host `{name}`)",
        help_=f"{fix}; `{target.ssh_command}` shows the error too",
    )


def no_ssh(name: str, target: Target, failure: Exception, errors: Sequence[str]) -> HostFailed:
    """The SSH handshake failed; `errors` are the lines that a ProxyCommand wrote to stderr."""
    message = f"`{target.address}` port {target.port} did not complete an SSH handshake"
    message += f" (host `{name}`)"
    if target.proxy_command:
        message = f"the ProxyCommand of `{name}` did not give an SSH connection"
    return host_failed(
        "SD501",
        message,
        notes=(*errors[:3], shown_line(str(failure)) or type(failure).__name__),
        help_=f"check address, port and ~/.ssh/config; `{target.ssh_command}` shows the error too",
    )


def bad_key(name: str, target: Target, verdict: Verdict, key: tuple[str, bytes]) -> HostFailed:
    """The host's key (type, bytes) is unknown, changed or revoked."""
    offered = f"the host offers {key[0]} {fingerprint(key[1])}"
    if verdict.entry is None:
        return _unknown_key(name, target, offered)
    entry = target.host_key_alias or entry_name(target.address, target.port)
    state = "is revoked" if verdict.state == "revoked" else "has changed"
    return host_failed(
        "SD503",
        f"the host key of `{name}` ({target.login}) {state}",
        notes=(offered, f"the recorded key is at {verdict.entry.place}"),
        help_="find out why first; if the host was reinstalled: "
        f"`ssh-keygen -R '{entry}' -f {verdict.entry.file}`",
    )


def _unknown_key(name: str, target: Target, offered: str) -> HostFailed:
    file = target.known_hosts[0] if target.known_hosts else "~/.ssh/known_hosts"
    port = "" if target.port == SSH_PORT else f"-p {target.port} "
    return host_failed(
        "SD502",
        f"the host key of `{name}` ({target.login}) is not known on this machine",
        notes=(
            offered,
            "on the host, `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints its own key",
        ),
        help_=f"run `{target.ssh_command}` once and compare the fingerprints, "
        f"or `ssh-keyscan {port}{target.address} >> {file}`",
    )


def refused(name: str, target: Target, tried: Sequence[str]) -> HostFailed:
    """The host accepted no key; `tried` has one text for each key: its name and the result."""
    locked = [text.rpartition(" (")[0] for text in tried if "passphrase" in text]
    fix = f"`ssh-copy-id {target.ssh_command.removeprefix('ssh ')}` installs your key there"
    if locked:
        fix = f'`eval "$(ssh-agent)"; ssh-add {locked[0]}`, then apply again'
    return host_failed(
        "SD504",
        f"`{target.login}` accepts none of the SSH keys (host `{name}`)",
        notes=tuple(f"tried {text}" for text in tried) or ("no key was found",),
        help_=f"{fix}; or set `hosts.{name}.identity_file`",
    )


def no_key_file(name: str, file: str) -> HostFailed:
    """The inventory names a key file that does not exist."""
    return host_failed(
        "SD504",
        f"`hosts.{name}.identity_file` names `{file}`, which does not exist",
        help_=f"`ssh-keygen -t ed25519 -f {file}`, or name another file",
    )
