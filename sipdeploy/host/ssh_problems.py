"""What to tell when an SSH connection does not come about; pure, a function for each way."""

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
    """A failed connect; the place told is the one that was tried, jump or host."""
    if isinstance(failure, socket.gaierror):
        return host_failed(
            "SD501",
            f"the address `{target.address}` of `{name}` does not resolve",
            help_=f"set `hosts.{name}.address` to a numeric address, or to a name that exists",
        )
    if isinstance(failure, ConnectionRefusedError):
        what, mend = "refuses the connection", f"start sshd there, or set `hosts.{name}.port`"
    elif isinstance(failure, TimeoutError):
        what, mend = "does not answer in time", f"check `hosts.{name}.address` and the firewall"
    elif isinstance(failure, OSError) and failure.errno in UNROUTED:
        what, mend = "cannot be reached: no route", f"check `hosts.{name}.address`"
    else:
        what, mend = f"cannot be reached: {failure}", f"check `hosts.{name}.address`"
    return host_failed(
        "SD501",
        f"`{target.address}` port {target.port} {what} (host `{name}`)",
        help_=f"{mend}; `{target.ssh_command}` shows the same",
    )


def no_ssh(name: str, target: Target, failure: Exception, said: Sequence[str]) -> HostFailed:
    """Something answered, but no SSH came of it; `said` is what a ProxyCommand complained of."""
    message = f"`{target.address}` port {target.port} does not speak SSH with us (host `{name}`)"
    if target.proxy_command:
        message = f"the ProxyCommand of `{name}` gives no SSH connection"
    return host_failed(
        "SD501",
        message,
        notes=(*said[:3], shown_line(str(failure)) or type(failure).__name__),
        help_=f"`{target.ssh_command}` shows the same; check address, port and ~/.ssh/config",
    )


def bad_key(name: str, target: Target, verdict: Verdict, key: tuple[str, bytes]) -> HostFailed:
    """The host's key (type, bytes) is not the known one: unknown, changed or revoked."""
    mark = f"the host shows {key[0]} {fingerprint(key[1])}"
    if verdict.entry is None:
        return _unknown_key(name, target, mark)
    entry = target.host_key_alias or entry_name(target.address, target.port)
    word = "is revoked" if verdict.state == "revoked" else "has changed"
    return host_failed(
        "SD503",
        f"the host key of `{name}` ({target.login}) {word}",
        notes=(mark, f"the old one is at {verdict.entry.place}"),
        help_="find out why before anything else; if the host was made anew: "
        f"`ssh-keygen -R '{entry}' -f {verdict.entry.file}`",
    )


def _unknown_key(name: str, target: Target, mark: str) -> HostFailed:
    file = target.known_hosts[0] if target.known_hosts else "~/.ssh/known_hosts"
    port = "" if target.port == SSH_PORT else f"-p {target.port} "
    return host_failed(
        "SD502",
        f"the host key of `{name}` ({target.login}) is not known on this machine",
        notes=(
            mark,
            "on the host, `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints the true one",
        ),
        help_=f"`{target.ssh_command}` once and compare, "
        f"or `ssh-keyscan {port}{target.address} >> {file}`",
    )


def refused(name: str, target: Target, tried: Sequence[str]) -> HostFailed:
    """No key was taken; `tried` names each and what became of it."""
    locked = [text.rpartition(" (")[0] for text in tried if "passphrase" in text]
    mend = f"`ssh-copy-id {target.ssh_command.removeprefix('ssh ')}` puts your key there"
    if locked:
        mend = f'`eval "$(ssh-agent)"; ssh-add {locked[0]}`, then apply again'
    return host_failed(
        "SD504",
        f"`{target.login}` lets us in with none of the keys (host `{name}`)",
        notes=tuple(f"tried {text}" for text in tried) or ("no key was found",),
        help_=f"{mend}; or set `hosts.{name}.identity_file`",
    )


def no_key_file(name: str, file: str) -> HostFailed:
    """The inventory names a key that is not there."""
    return host_failed(
        "SD504",
        f"`hosts.{name}.identity_file` names `{file}`, which does not exist",
        help_=f"`ssh-keygen -t ed25519 -f {file}`, or name another file",
    )
