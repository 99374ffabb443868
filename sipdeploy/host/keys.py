"""SSH public key authentication, with keys from files and the agent; never asks for a password."""

import base64
import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import paramiko
from paramiko.pkey import UnknownKeyType

from sipdeploy.host import known_hosts, ssh_problems
from sipdeploy.host.ssh_settings import Target
from sipdeploy.inventory import reading
from sipdeploy.inventory.files import expanded

DEFAULT_KEYS = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")


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
            tried.append(f"the host closed the connection: {broken}")
        if not transport.is_active():
            break
    raise ssh_problems.refused(name, target, tried)


def offers(name: str, target: Target, tried: list[str]) -> Iterator[tuple[str, paramiko.PKey]]:
    """Named files first, then the agent, then the default files; each key once."""
    agent = _agent_keys()
    ring = _Files(name, target, agent, tried)
    sources = [ring.keys(target.identity_files)]
    if not (target.identities_only and target.identity_files):
        sources += [((_agent_label(key), key) for key in agent), ring.keys(DEFAULT_KEYS)]
    seen: set[bytes] = set()
    for label, key in itertools.chain(*sources):
        if key.asbytes() not in seen:
            seen.add(key.asbytes())
            yield label, key


def _agent_label(key: paramiko.AgentKey) -> str:
    return f"agent key {key.comment or known_hosts.fingerprint(key.asbytes())}"


def _agent_keys() -> Sequence[paramiko.AgentKey]:
    try:
        return paramiko.Agent().get_keys()
    except (paramiko.SSHException, OSError):
        return ()


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
        public = _public_half(path)
        if public in self._agent:
            return self._agent[public]
        try:
            reading.regular(path, reading.MOST_OF_A_KEY)  # refuses a FIFO or a device
            return paramiko.PKey.from_path(str(path))
        except FileNotFoundError:
            if file == self._target.must_exist:
                raise ssh_problems.no_key_file(self._name, file) from None
        except OSError as unreadable:
            self._tried.append(f"{file} (not readable: {unreadable.strerror})")
        except (ValueError, TypeError, paramiko.SSHException, UnknownKeyType) as wrong:
            why = "needs its passphrase" if _is_locked(path) else f"is not a usable key: {wrong}"
            self._tried.append(f"{file} ({why})")
        return None


def _public_half(path: Path) -> bytes:
    entries = known_hosts.parse(f"x {_text(path.with_name(path.name + '.pub'))}", str(path))
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
