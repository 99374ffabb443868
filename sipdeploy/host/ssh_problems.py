"""The error of each way in which an SSH connection can fail. Pure."""

import errno
import os
import socket
from collections.abc import Sequence

from paramiko.ssh_exception import IncompatiblePeer

from sipdeploy.diagnostics import reason_of
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.diagnostics.escapes import shown_line
from sipdeploy.host import host_failed
from sipdeploy.host.known_hosts import SSH_PORT, Entry, Verdict, entry_name, fingerprint
from sipdeploy.host.ssh_settings import Target, shown_path

KNOWN_HOSTS = "~/.ssh/known_hosts"
LOCKED = "(needs its passphrase)"
UNROUTED = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL}


def said(failure: Exception) -> str:
    """What an exception says, without the number of the error; the host may have written it."""
    text = getattr(failure, "text", "") or reason_of(failure)  # `text`: of a refused channel
    return shown_line(text) or "the connection was closed"


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
        state, fix = f"is not reachable: {said(failure)}", f"check `hosts.{name}.address`"
    return host_failed(
        "SD501",
        f"`{target.address}` port {target.port} {state} (host `{name}`)",
        help_=f"{fix}; `{target.ssh_command}` shows the error too",
    )


def no_ssh(name: str, target: Target, failure: Exception, errors: Sequence[str]) -> HostFailed:
    """The SSH handshake failed; `errors` are the lines that a ProxyCommand wrote to stderr."""
    place = f"`{target.address}` port {target.port}"
    message = f"{place} did not complete an SSH handshake (host `{name}`)"
    fix = f"check address, port and ~/.ssh/config; `{target.ssh_command}` shows the error too"
    if isinstance(failure, IncompatiblePeer):  # `ssh` itself may have a common one
        message = f"sipdeploy and the SSH server of `{name}` have no common algorithm"
        fix = f"on `{name}`: allow a usual algorithm in /etc/ssh/sshd_config, then reload sshd"
    elif target.proxy_command:
        message = f"the ProxyCommand of `{name}` did not give an SSH connection"
    return host_failed(
        "SD501",
        message,
        notes=(*errors[:3], said(failure)),
        help_=fix,
    )


def no_algorithm(name: str, word: str, usual: Sequence[str]) -> HostFailed:
    """The SSH configuration allows no algorithm that sipdeploy has."""
    return host_failed(
        "SD508",
        f"`{word}` in ~/.ssh/config allows no algorithm that sipdeploy has (host `{name}`)",
        help_=f"allow one of {', '.join(usual)}",
    )


def bad_key(name: str, target: Target, verdict: Verdict, key: tuple[str, bytes]) -> HostFailed:
    """The host's key (type, bytes) is unknown, changed or revoked."""
    if verdict.entry is None or verdict.state == "unknown":
        return _unknown_key(name, target, verdict.entry, key)
    recorded = verdict.entry
    entry = target.host_key_alias or entry_name(target.address, target.port)
    state = "is revoked" if verdict.state == "revoked" else "has changed"
    # `ssh-keygen -R` removes a name, but no pattern.
    forget = f"ssh-keygen -R '{entry}' -f {shown_path(recorded.file)}"
    if set("*?!") & set(recorded.names):
        forget = f"sed -i {recorded.line}d {shown_path(recorded.file)}"
    return host_failed(
        "SD503",
        f"the host key of `{name}` ({target.login}) {state}",
        notes=(_offered(key), f"the recorded key is at {recorded.place}"),
        help_=f"find out why first; if the host was reinstalled: `{forget}`",
    )


def weak_key(name: str, target: Target, bits: int) -> HostFailed:
    """The host's RSA key is shorter than RequiredRSASize."""
    return host_failed(
        "SD503",
        f"the host key of `{name}` ({target.login}) has only {bits} bits",
        notes=(f"ssh_config has `RequiredRSASize {target.algorithms.rsa_bits}`",),
        help_=f"on `{name}` as root: `ssh-keygen -A`, or make a longer RSA key",
    )


def revoked(name: str, target: Target, key: tuple[str, bytes]) -> HostFailed:
    """RevokedHostKeys has the host's key, or cannot be read."""
    return host_failed(
        "SD503",
        f"the host key of `{name}` ({target.login}) is revoked",
        notes=(_offered(key), f"it is in {target.revoked_keys} (RevokedHostKeys), or that file"),
        help_="make a new key on the host, or correct the file",
    )


def _offered(key: tuple[str, bytes]) -> str:
    return f"the host offers {key[0]} {fingerprint(key[1])}"


def _unknown_key(
    name: str, target: Target, authority: Entry | None, key: tuple[str, bytes]
) -> HostFailed:
    notes = [
        _offered(key),
        "on the host, `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints its own key",
        *target.hints.trust,
    ]
    if authority is not None:
        notes.append(f"sipdeploy does not use the certificate authority at {authority.place}")
    # `ssh` records a key only if it asks a person about it.
    asks = authority is None and not target.hints.trust
    scan = _scan(target)
    ways = [f"run `{target.ssh_command}` once and compare the fingerprints"] if asks else []
    ways += [f"`{scan}`" if asks else f"compare the fingerprints after `{scan}`"] if scan else []
    return host_failed(
        "SD502",
        f"the host key of `{name}` ({target.login}) is not known on this machine",
        notes=tuple(notes),
        help_=", or ".join(ways) or f"add the key to {_record_file(target) or KNOWN_HOSTS}",
    )


def _record_file(target: Target) -> str | None:
    return next((file for file in target.known_hosts if file != os.devnull), None)


def _scan(target: Target) -> str:
    """The command that records the host's key; empty if only a ProxyCommand reaches the host."""
    if target.proxy_command:
        return ""
    port = "" if target.port == SSH_PORT else f"-p {target.port} "
    scan = f"ssh-keyscan {port}{target.address}"
    if target.jumps:
        *first, last = target.jumps
        through = ",".join(f"{jump.user}@{jump.alias}:{jump.port}" for jump in first)
        option = f"-J {through} " if through else ""
        scan = f"ssh {option}{' '.join(last.ssh_arguments)} {scan}"
    if target.host_key_alias:
        scan += f" | sed 's/^[^ ]*/{target.host_key_alias}/'"
    return f"{scan} >> {shown_path(_record_file(target) or KNOWN_HOSTS)}"


def refused(name: str, target: Target, tried: Sequence[str]) -> HostFailed:
    """The host accepted no key; `tried` has one text for each key: its name and the result."""
    locked = [text.rpartition(" (")[0] for text in tried if LOCKED in text]
    fix = f"`ssh-copy-id {' '.join(target.ssh_arguments)}` installs your key there"
    if locked:
        fix = f'`eval "$(ssh-agent)"; ssh-add {shown_path(locked[0])}`, then apply again'
    elif not tried:
        fix = f"`ssh-keygen -t ed25519` makes a key, and {fix}"
    return host_failed(
        "SD504",
        f"`{target.login}` accepts none of the SSH keys (host `{name}`)",
        notes=(
            *(f"tried {text}" for text in tried),
            *(() if tried else ("no key was found",)),
            *target.hints.login,
        ),
        help_=f"{fix}; or set `hosts.{name}.identity_file`",
    )


def no_key_file(name: str, file: str) -> HostFailed:
    """The inventory names a key file that does not exist."""
    return host_failed(
        "SD504",
        f"`hosts.{name}.identity_file` names `{file}`, which does not exist",
        help_=f"`ssh-keygen -t ed25519 -f {shown_path(file)}`, or name another file",
    )
