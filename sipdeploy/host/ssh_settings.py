"""The target of an SSH connection, from the inventory and `ssh -G`. Opens no connection."""

import os
import pwd
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from sipdeploy.inventory.files import expanded

CONFIG_FILES = ("~/.ssh/config", "/etc/ssh/ssh_config")
DEEPEST = 8  # nested jumps; more are a loop
SSH_PORT = 22

Values = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SshSettings:
    """Settings of the inventory, or of one jump; None: ~/.ssh/config decides."""

    alias: str
    user: str | None = None
    port: int | None = None
    identity_file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The resolved target of one SSH connection."""

    alias: str
    address: str
    port: int
    user: str
    identity_files: tuple[str, ...]
    must_exist: str | None
    identities_only: bool
    jumps: tuple["Target", ...]
    proxy_command: str | None
    known_hosts: tuple[str, ...]
    host_key_alias: str | None

    @property
    def login(self) -> str:
        """`user@address`, with `:port` unless it is 22."""
        port = "" if self.port == SSH_PORT else f":{self.port}"
        return f"{self.user}@{self.address}{port}"

    @property
    def ssh_command(self) -> str:
        """The command with which a person connects to it."""
        port = "" if self.port == SSH_PORT else f"-p {self.port} "
        return f"ssh {port}{self.user}@{self.alias}"


def lookup(alias: str) -> Values:
    """OpenSSH's configuration for a host: keyword (lower case) -> values.

    `ssh -G` reads ~/.ssh/config and /etc/ssh/ssh_config, including `Include` and `Match`; the
    default login is root. Raises FileNotFoundError if this machine has no `ssh`, and ValueError
    with the messages of `ssh` if it rejects the configuration.
    """
    with tempfile.NamedTemporaryFile("w", prefix="sipdeploy-ssh-") as file:
        file.writelines(f'Include "{expanded(name)}"\n' for name in CONFIG_FILES)
        file.write("Host *\n  User root\n")
        file.flush()
        done = subprocess.run(  # noqa: S603 - no shell; `alias` cannot be an option
            ["ssh", "-G", "-F", file.name, "--", alias],  # noqa: S607 - of the user's own PATH
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            check=False,
        )
    if done.returncode:
        raise ValueError("; ".join(done.stderr.strip().splitlines()[:3]))
    values: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        keyword, _, value = line.partition(" ")
        values.setdefault(keyword, []).append(value)
    return values


def resolve(settings: SshSettings, depth: int = 0) -> Target:
    """The target: the inventory overrides ~/.ssh/config, which overrides the defaults (root, 22).

    Raises as `lookup`, and RecursionError if jumps form a loop.
    """
    if depth > DEEPEST:
        raise RecursionError(settings.alias)
    values = lookup(settings.alias)
    address = _one(values, "hostname") or settings.alias
    port = settings.port or int(_one(values, "port") or SSH_PORT)
    user = settings.user or _one(values, "user") or "root"
    jumps = _jumps(_one(values, "proxyjump"), depth)
    command = _one(values, "proxycommand")
    files = tuple(values.get("identityfile", ()))
    return Target(
        alias=settings.alias,
        address=address,
        port=port,
        user=user,
        identity_files=(settings.identity_file, *files) if settings.identity_file else files,
        must_exist=settings.identity_file,
        identities_only=_one(values, "identitiesonly") == "yes",
        jumps=jumps,
        proxy_command=None
        if jumps or command is None
        else _filled(command, {"h": address, "p": str(port), "r": user, "n": settings.alias}),
        known_hosts=_known_hosts(values),
        host_key_alias=_one(values, "hostkeyalias"),
    )


def _one(values: Values, keyword: str) -> str | None:
    """The first value of a keyword; None if it is absent or `none`."""
    (value, *_) = values.get(keyword, ["none"])
    return None if value == "none" else value


def _filled(command: str, tokens: Mapping[str, str]) -> str:
    """Expand the tokens of ssh_config(5), which `ssh -G` leaves in the command."""
    known = {**tokens, "%": "%"}
    return re.sub("%(.)", lambda token: known.get(token[1], token[0]), command)


def _known_hosts(values: Values) -> tuple[str, ...]:
    """The known_hosts files; the default ones with `~`, which is HOME and short in messages."""
    try:
        home = f"{pwd.getpwuid(os.getuid()).pw_dir}/"
    except KeyError:  # a login without an entry, as in some containers
        home = "/nonexistent/"
    texts = (*values.get("userknownhostsfile", ()), *values.get("globalknownhostsfile", ()))
    files = (file for text in texts for file in text.split() if file != "none")
    usual = re.compile(re.escape(home) + r"(\.ssh/known_hosts2?)")
    return tuple(usual.sub(r"~/\1", file) for file in files)


def _jumps(text: str | None, depth: int) -> tuple[Target, ...]:
    """The jumps in order; only the first uses its own ProxyJump, as with OpenSSH's -J."""
    if text is None:
        return ()
    first, *rest = (resolve(parse_jump(part), depth + 1) for part in text.split(","))
    return (*first.jumps, first, *rest)


def parse_jump(text: str) -> SshSettings:
    """`[user@]host[:port]` or `ssh://[user@]host[:port]`; IPv6 in brackets."""
    part = text.strip()
    url = urlsplit(part if part.startswith("ssh://") else f"ssh://{part}")
    return SshSettings(alias=url.hostname or part, user=url.username, port=url.port)
