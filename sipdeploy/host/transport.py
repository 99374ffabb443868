"""Opens an SSH transport: connection, host key, login."""

import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from typing import IO

import paramiko

from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import known_hosts, ssh_problems
from sipdeploy.host.incoming import decoded
from sipdeploy.host.keys import authenticate
from sipdeploy.host.ssh_settings import Target

HANDSHAKE_SECONDS = 20
KEEPALIVE_SECONDS = 15
LOST_AFTER_MILLISECONDS = 30_000  # without an acknowledgement (tcp(7), TCP_USER_TIMEOUT)


MOST_PACKET_BYTES = 256 * 1024  # OpenSSH's limit; the protocol allows 4 GiB, even before the login


class _Packets(paramiko.packet.Packetizer):
    """Refuses a packet whose length would fill the memory."""

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:  # noqa: FBT001, FBT002 - Paramiko's
        """As Paramiko's; raises SSHException above the limit of a packet."""
        if n > MOST_PACKET_BYTES:
            raise paramiko.SSHException(f"the host announces a packet of {n} bytes")
        return super().read_all(n, check_rekey)


def open_transport(
    name: str, target: Target, via: paramiko.Transport | None
) -> paramiko.Transport:
    """Connect, check the host key, authenticate. Raises HostFailed (SD501 to SD504)."""
    complaints = tempfile.TemporaryFile()  # noqa: SIM115 - stderr of a ProxyCommand
    with complaints:
        sock = _socket(name, target, via, complaints)
        try:
            transport = _shake_hands(name, target, sock, complaints)
        except BaseException:
            sock.close()
            raise
    try:
        _check_key(name, target, transport)
        authenticate(name, target, transport)
    except BaseException:
        transport.close()
        raise
    transport.set_keepalive(KEEPALIVE_SECONDS)
    return transport


def _socket(
    name: str, target: Target, via: paramiko.Transport | None, complaints: IO[bytes]
) -> "socket.socket | paramiko.Channel":
    place = (target.address, target.port)
    try:
        if via is not None:
            return via.open_channel(
                "direct-tcpip", place, ("127.0.0.1", 0), timeout=target.dialling.seconds
            )
        if target.proxy_command:
            return _proxy(target.proxy_command, complaints)
        sock = _dialled(target)
    except (OSError, paramiko.SSHException) as failure:
        raise ssh_problems.unreachable(name, target, failure) from failure
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LOST_AFTER_MILLISECONDS)
    return sock


def _dialled(target: Target) -> socket.socket:
    """Try the addresses of the name in turn; raises the OSError of the last one."""
    dialling = target.dialling
    source = (dialling.bind_address, 0) if dialling.bind_address else None
    addresses = socket.getaddrinfo(
        target.address, target.port, dialling.family, socket.SOCK_STREAM
    )
    for number, (*_, place) in enumerate(addresses, start=1):
        try:
            return socket.create_connection(
                (str(place[0]), target.port), dialling.seconds, source_address=source
            )
        except OSError:
            if number == len(addresses):
                raise
    raise OSError("the name has no address")


def _proxy(command: str, complaints: IO[bytes]) -> socket.socket:
    """Start a ProxyCommand on a socket pair: Paramiko's own class loops when the command dies."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(  # noqa: S603 - the user's own; ssh hands it to a shell too
            [os.environ.get("SHELL") or "/bin/sh", "-c", f"exec {command}"],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=complaints,
            start_new_session=True,
        )
    # The command ends when this end of the socket is closed; the thread reaps the process.
    threading.Thread(target=process.wait, daemon=True).start()
    return ours


def _shake_hands(
    name: str,
    target: Target,
    sock: "socket.socket | paramiko.Channel",
    complaints: IO[bytes],
) -> paramiko.Transport:
    transport = paramiko.Transport(sock, packetizer_class=_Packets)
    transport.banner_timeout = HANDSHAKE_SECONDS
    transport.auth_timeout = HANDSHAKE_SECONDS
    try:
        _allow(name, target, transport)
        transport.start_client(timeout=HANDSHAKE_SECONDS)
    except HostFailed:
        transport.close()
        raise
    except (paramiko.SSHException, OSError, EOFError) as failure:
        transport.close()
        complaints.seek(0)
        errors = decoded(complaints.read(2000)).strip().splitlines()
        raise ssh_problems.no_ssh(name, target, failure, errors) from failure
    return transport


def _known(target: Target, address: str | None = None) -> tuple[known_hosts.Entry, ...]:
    return known_hosts.entries_for(known_hosts.read(target.known_hosts), _entry(target, address))


def _entry(target: Target, address: str | None = None) -> str:
    if address is not None:
        return known_hosts.entry_name(address, target.port)
    alias = target.host_key_alias
    return (alias or known_hosts.entry_name(target.address, target.port)).lower()


def _allow(name: str, target: Target, transport: paramiko.Transport) -> None:
    """Allow the algorithms that ssh_config allows, first the key types that known_hosts has."""
    options, allowed = transport.get_security_options(), target.algorithms
    known = {entry.key_type for entry in _known(target) if not entry.marker}
    if "ssh-rsa" in known:
        known |= {"rsa-sha2-512", "rsa-sha2-256"}
    types = _common(name, "HostKeyAlgorithms", options.key_types, allowed.host_keys)
    options.key_types = sorted(types, key=lambda kind: kind not in known)
    options.kex = _common(name, "KexAlgorithms", options.kex, allowed.kex)
    options.ciphers = _common(name, "Ciphers", options.ciphers, allowed.ciphers)
    options.digests = _common(name, "MACs", options.digests, allowed.macs)


def _common(name: str, word: str, usual: Sequence[str], allowed: Sequence[str]) -> tuple[str, ...]:
    """Of the usual algorithms those that ssh_config allows, in its order."""
    common = tuple(each for each in allowed if each in usual) if allowed else tuple(usual)
    if not common:
        raise ssh_problems.no_algorithm(name, word, usual)
    return common


def _check_key(name: str, target: Target, transport: paramiko.Transport) -> None:
    """Accept only a known key, whatever StrictHostKeyChecking in ~/.ssh/config says."""
    key = transport.get_remote_server_key()
    offered = (key.get_name(), key.asbytes())
    verdict = known_hosts.judge(_known(target), *offered)
    if verdict.state != "known":
        raise ssh_problems.bad_key(name, target, verdict, offered)
    is_direct = not (target.host_key_alias or target.proxy_command or target.jumps)
    if target.checks_address and is_direct:
        verdict = known_hosts.judge(_known(target, transport.getpeername()[0]), *offered)
        if verdict.state not in ("known", "unknown"):
            raise ssh_problems.bad_key(name, target, verdict, offered)
    if offered[0] == "ssh-rsa" and key.get_bits() < target.algorithms.rsa_bits:
        raise ssh_problems.weak_key(name, target, key.get_bits())
    if target.revoked_keys and known_hosts.is_revoked(target.revoked_keys, *offered):
        raise ssh_problems.revoked(name, target, offered)
