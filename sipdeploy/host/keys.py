"""SSH public key authentication, with keys from files and the agent; never asks for a password."""

import base64
import binascii
import contextlib
import itertools
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import paramiko
from paramiko.agent import AgentSSH
from paramiko.pkey import PublicBlob, UnknownKeyType

from sipdeploy.diagnostics import reason_of
from sipdeploy.host import known_hosts, ssh_problems
from sipdeploy.host.ssh_settings import Target
from sipdeploy.inventory import reading
from sipdeploy.inventory.files import expanded

AGENT_SECONDS = 60  # an agent may ask a person to confirm
CERTIFICATE = "-cert-v01@openssh.com"
SECURITY_KEYS = (b"\0\0\0\x1ask-ssh", b'\0\0\0"sk-ecdsa')


def authenticate(name: str, target: Target, transport: paramiko.Transport) -> None:
    """Offer one key after the other. Raises HostFailed (SD504), which names each key tried."""
    tried: list[str] = []
    for label, key in offers(name, target, tried):
        tried.append(label)
        try:
            if not transport.auth_publickey(target.user, key):
                return
            tried[-1] += " (accepted, but the host asks for more than a key)"
        except paramiko.BadAuthenticationType as refused:
            tried[-1] += f" (the host takes only {', '.join(refused.allowed_types)})"
        except paramiko.AuthenticationException:
            continue
        except (paramiko.SSHException, OSError, EOFError) as broken:
            tried.append(f"the host closed the connection: {ssh_problems.said(broken)}")
        if not transport.is_active():
            break
    raise ssh_problems.refused(name, target, tried)


def offers(name: str, target: Target, tried: list[str]) -> Iterator[tuple[str, paramiko.PKey]]:
    """Named files first, then the agent; each key once, with its certificate first.

    Leaves out the keys that ssh_config does not allow, and adds the reason to `tried`.
    """
    with _agent_keys(target.agent, tried) as agent:
        yield from _offers(name, target, agent, tried)


def _offers(
    name: str, target: Target, agent: Sequence[paramiko.AgentKey], tried: list[str]
) -> Iterator[tuple[str, paramiko.PKey]]:
    signed = [key for key in agent if key.get_name().endswith(CERTIFICATE)]
    plain = [key for key in agent if not key.get_name().endswith(CERTIFICATE)]
    named = [*_certificates(target, tried)]
    certificates = [*named, *(PublicBlob(key.get_name(), key.blob) for key in signed)]
    ring = _Files(name, target, plain, tried)
    others: Sequence[paramiko.AgentKey] = (*plain, *signed)
    if target.identities_only and target.identity_files:
        blobs = [blob.key_blob for blob in named]
        others = [key for key in others if _certificate_of(key, named) or key.blob in blobs]
    sources = (ring.keys(target.identity_files), ((_agent_label(key), key) for key in others))
    seen: set[bytes] = set()
    for label, key in itertools.chain(*sources):
        if key.asbytes() in seen:
            continue
        seen.add(key.asbytes())
        if not _is_allowed(key, target):
            tried.append(f"{label} (ssh_config does not allow {key.get_name()} of this size)")
            continue
        key.public_blob = _certificate_of(key, certificates)
        if key.public_blob is not None:
            seen.add(key.public_blob.key_blob)
            yield f"{label} with its certificate", key
            key.public_blob = None
        yield label, key


def _is_allowed(key: paramiko.PKey, target: Target) -> bool:
    """Whether PubkeyAcceptedAlgorithms and RequiredRSASize allow a key."""
    name = key.get_name()
    if name == "ssh-rsa" and key.get_bits() < target.algorithms.rsa_bits:
        return False
    names = {name.replace("ssh-rsa", f"rsa-sha2-{size}") for size in (256, 512)}
    allowed = target.algorithms.keys
    return not allowed or not names.isdisjoint(allowed)


def _certificates(target: Target, tried: list[str]) -> Iterator[PublicBlob]:
    """The certificates of CertificateFile, and those beside the named keys (FILE-cert.pub)."""
    for file in target.certificate_files:
        blob = _certificate(_text(expanded(file)))
        if blob is None:
            tried.append(f"{file} (CertificateFile, is not a readable certificate)")
        else:
            yield blob
    for file in target.identity_files:
        path = expanded(file)
        blob = _certificate(_text(path.with_name(f"{path.name.removesuffix('.pub')}-cert.pub")))
        if blob is not None:
            yield blob


def _certificate(text: str) -> PublicBlob | None:
    try:
        blob = PublicBlob.from_string(text)
    except (ValueError, paramiko.SSHException, binascii.Error, UnicodeDecodeError):
        return None
    return blob if blob.key_type.endswith(CERTIFICATE) else None


def _certificate_of(key: paramiko.PKey, certificates: Sequence[PublicBlob]) -> PublicBlob | None:
    """The first certificate for a key: type, nonce, fields of the key (PROTOCOL.certkeys)."""
    public = key.asbytes()
    kind = paramiko.Message(public).get_string()
    for blob in certificates:
        message = paramiko.Message(blob.key_blob)
        message.get_string()  # the type
        message.get_string()  # the nonce
        is_same_kind = blob.key_type == kind.decode() + CERTIFICATE
        if is_same_kind and message.get_remainder().startswith(public[4 + len(kind) :]):
            return blob
    return None


def _agent_label(key: paramiko.AgentKey) -> str:
    return f"agent key {key.comment or known_hosts.fingerprint(key.asbytes())}"


class _Agent(AgentSSH):
    """The agent at a socket; Paramiko's own class knows only SSH_AUTH_SOCK."""

    def __init__(self, path: str) -> None:
        super().__init__()
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(AGENT_SECONDS)
            connection.connect(path)
            self._connect(connection)  # type: ignore[attr-defined]
        except BaseException:
            connection.close()
            raise
        for key in self.get_keys():
            if key.get_name().endswith(CERTIFICATE):
                # else it is sent, and signs, as the key without its certificate
                key.inner_key = None  # type: ignore[attr-defined]


@contextlib.contextmanager
def _agent_keys(path: str | None, tried: list[str]) -> Iterator[Sequence[paramiko.AgentKey]]:
    """The keys of the agent at a socket, which sign as long as the context lasts."""
    agent = None
    try:
        agent = _Agent(path) if path else None
    except (paramiko.SSHException, OSError) as failure:
        tried.append(f"the agent at {path} (does not answer: {ssh_problems.said(failure)})")
    try:
        yield agent.get_keys() if agent else ()
    finally:
        if agent:
            agent._close()  # type: ignore[attr-defined]  # noqa: SLF001 - as Paramiko's own Agent


class _Files:
    """Private keys in files; the agent's key is used instead if the agent has the same one."""

    def __init__(
        self, name: str, target: Target, agent: Sequence[paramiko.AgentKey], tried: list[str]
    ) -> None:
        self._name = name
        self._target = target
        self._agent = {key.asbytes(): key for key in agent}
        self._tried = tried

    def keys(self, files: Sequence[str]) -> Iterator[tuple[str, paramiko.PKey]]:
        """The usable keys of the files, in order; adds the errors of the others to `tried`."""
        for file in files:
            key = self._key(file)
            if key is not None:
                yield file, key

    def _key(self, file: str) -> paramiko.PKey | None:
        path = expanded(file)
        itself = _public(path)
        public = itself or _public(path.with_name(f"{path.name}.pub"))
        if public in self._agent:
            return self._agent[public]
        if itself:
            self._tried.append(f"{file} (is a public key; the agent has no private key for it)")
            return None
        try:
            reading.regular(path, reading.MOST_OF_A_KEY)  # refuses a FIFO or a device
            return paramiko.PKey.from_path(str(path))
        except FileNotFoundError:
            if file == self._target.must_exist:
                raise ssh_problems.no_key_file(self._name, file) from None
        except OSError as unreadable:
            self._tried.append(f"{file} (not readable: {reason_of(unreadable)})")
        except (ValueError, TypeError, paramiko.SSHException, UnknownKeyType) as wrong:
            why = f"(is not a usable key: {wrong})"
            if _is_locked(path):
                why = ssh_problems.LOCKED
            elif public.startswith(SECURITY_KEYS):
                why = f"(is on a security key: `ssh-add {file}` lets the agent use it)"
            self._tried.append(f"{file} {why}")
        return None


def _public(path: Path) -> bytes:
    """The public key in a file; empty if the file has none."""
    entries = known_hosts.parse(f"x {_text(path)}", str(path))
    return entries[0].key if entries else b""


def _is_locked(path: Path) -> bool:
    """Whether the key is encrypted: PEM has ENCRYPTED, OpenSSH's format begins with bcrypt."""
    lines = _text(path).splitlines()
    with contextlib.suppress(ValueError):
        if b"bcrypt" in base64.b64decode("".join(lines[1:3])[:96]):
            return True
    return any("ENCRYPTED" in line for line in lines)


def _text(path: Path) -> str:
    try:
        return reading.regular(path, reading.MOST_OF_A_KEY).raw.decode(errors="replace")
    except OSError:
        return ""
