"""Where an SSH connection goes and with what: the inventory and what `ssh -G` says, as one value.

Opens no connection.
"""

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
DEEPEST = 8  # of jump over jump; deeper is a loop
SSH_PORT = 22

Values = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SshSettings:
    """What the inventory (or a jump's spelling) asks for; None leaves it to ~/.ssh/config."""

    alias: str
    user: str | None = None
    port: int | None = None
    identity_file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One end of an SSH connection, everything decided."""

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
        """`user@address`, with the port where it is not 22."""
        port = "" if self.port == SSH_PORT else f":{self.port}"
        return f"{self.user}@{self.address}{port}"

    @property
    def ssh_command(self) -> str:
        """What to type to get there by hand."""
        port = "" if self.port == SSH_PORT else f"-p {self.port} "
        return f"ssh {port}{self.user}@{self.alias}"


def lookup(alias: str) -> Values:
    """What OpenSSH makes of its configuration for a host: keyword (small letters) to values.

    `ssh -G` reads ~/.ssh/config and /etc/ssh/ssh_config as ssh does, `Include` and `Match` too;
    where neither says otherwise, the login is root. Raises FileNotFoundError without an `ssh` on
    this machine, ValueError with the words of `ssh` for a configuration that it rejects.
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
    """The inventory wins over ~/.ssh/config, which wins over the defaults (root, 22).

    RecursionError when jumps go round in circles.
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
    """The value of a keyword; None where it has none."""
    (value, *_) = values.get(keyword, ["none"])
    return None if value == "none" else value


def _filled(command: str, tokens: Mapping[str, str]) -> str:
    """The tokens of ssh_config(5) filled in, which `ssh -G` leaves."""
    known = {**tokens, "%": "%"}
    return re.sub("%(.)", lambda token: known.get(token[1], token[0]), command)


def _known_hosts(values: Values) -> tuple[str, ...]:
    """The files; the usual ones with `~`, as people write them and where HOME says."""
    try:
        home = f"{pwd.getpwuid(os.getuid()).pw_dir}/"
    except KeyError:  # a login without an entry, as in some containers
        home = "/nonexistent/"
    texts = (*values.get("userknownhostsfile", ()), *values.get("globalknownhostsfile", ()))
    files = (file for text in texts for file in text.split() if file != "none")
    usual = re.compile(re.escape(home) + r"(\.ssh/known_hosts2?)")
    return tuple(usual.sub(r"~/\1", file) for file in files)


def _jumps(text: str | None, depth: int) -> tuple[Target, ...]:
    """The hops in order; only the first goes by its own ProxyJump, as OpenSSH's -J does."""
    if text is None:
        return ()
    first, *rest = (resolve(parse_jump(part), depth + 1) for part in text.split(","))
    return (*first.jumps, first, *rest)


def parse_jump(text: str) -> SshSettings:
    """`[user@]host[:port]` or `ssh://[user@]host[:port]`; IPv6 in brackets."""
    part = text.strip()
    url = urlsplit(part if part.startswith("ssh://") else f"ssh://{part}")
    return SshSettings(alias=url.hostname or part, user=url.username, port=url.port)
