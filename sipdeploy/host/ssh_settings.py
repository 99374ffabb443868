"""Where an SSH connection goes and with what: ~/.ssh/config and the inventory, made one value.

Reads files, opens no connection. The parser of the format is handed in: no library is known here.
"""

import glob
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sipdeploy.inventory.files import expanded

CONFIG_FILES = ("~/.ssh/config", "/etc/ssh/ssh_config")
USER_KNOWN_HOSTS = "~/.ssh/known_hosts ~/.ssh/known_hosts2"
GLOBAL_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"
DEEPEST = 8  # of Include in Include and of jump over jump; deeper is a loop
_INCLUDE = re.compile(r"\s*include[\s=]+(.+)", re.IGNORECASE)

Lookup = Callable[[str], Mapping[str, Any]]


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
        port = "" if self.port == 22 else f":{self.port}"  # noqa: PLR2004
        return f"{self.user}@{self.address}{port}"

    @property
    def ssh_command(self) -> str:
        """What to type to get there by hand."""
        port = "" if self.port == 22 else f"-p {self.port} "  # noqa: PLR2004
        return f"ssh {port}{self.user}@{self.alias}"


def config_lines(files: Iterable[str] = CONFIG_FILES) -> list[str]:
    """The lines of the files that exist, `Include` replaced by what it names."""
    lines: list[str] = []
    for file in files:
        # A file begins outside any Host block, whatever the one before it ended with.
        lines += ["Host *", *_with_includes(expanded(file), 0)]
    return lines


def _with_includes(path: Path, depth: int) -> list[str]:
    if depth > DEEPEST or not path.is_file():
        return []
    lines: list[str] = []
    for line in path.read_text(errors="replace").splitlines():
        match = _INCLUDE.fullmatch(line)
        if not match:
            lines.append(line)
            continue
        for pattern in match[1].split():
            for name in _included(pattern.strip('"'), path.parent):
                lines += _with_includes(Path(name), depth + 1)
    return lines


def _included(pattern: str, folder: Path) -> list[str]:
    """The files of a pattern, which is relative to the including file's folder (ssh_config(5))."""
    return sorted(glob.glob(str(folder / expanded(pattern))))  # noqa: PTH207


def resolve(lookup: Lookup, settings: SshSettings, depth: int = 0) -> Target:
    """The inventory wins over ~/.ssh/config, which wins over the defaults (root, 22).

    RecursionError when jumps go round in circles.
    """
    if depth > DEEPEST:
        raise RecursionError(settings.alias)
    found = lookup(settings.alias)
    jumps = _jumps(lookup, found, depth)
    files = tuple(found.get("identityfile", ()))
    return Target(
        alias=settings.alias,
        address=str(found.get("hostname", settings.alias)),
        port=settings.port or int(found.get("port", 22)),
        user=settings.user or str(found.get("user", "root")),
        identity_files=(settings.identity_file, *files) if settings.identity_file else files,
        must_exist=settings.identity_file,
        identities_only=str(found.get("identitiesonly", "no")).lower() == "yes",
        jumps=jumps,
        proxy_command=None if jumps else found.get("proxycommand"),
        known_hosts=_known_hosts(found),
        host_key_alias=found.get("hostkeyalias"),
    )


def _known_hosts(found: Mapping[str, Any]) -> tuple[str, ...]:
    user = str(found.get("userknownhostsfile", USER_KNOWN_HOSTS)).split()
    system = str(found.get("globalknownhostsfile", GLOBAL_KNOWN_HOSTS)).split()
    return tuple(file for file in (*user, *system) if file != "none")


def _jumps(lookup: Lookup, found: Mapping[str, Any], depth: int) -> tuple[Target, ...]:
    """The hops in order; only the first goes by its own ProxyJump, as OpenSSH's -J does."""
    text = str(found.get("proxyjump", "none"))
    if text.lower() == "none":
        return ()
    first, *rest = (resolve(lookup, parse_jump(part), depth + 1) for part in text.split(","))
    return (*first.jumps, first, *rest)


def parse_jump(text: str) -> SshSettings:
    """`[user@]host[:port]` or `ssh://[user@]host[:port]`; IPv6 in brackets."""
    part = text.strip()
    url = urlsplit(part if part.startswith("ssh://") else f"ssh://{part}")
    return SshSettings(alias=url.hostname or part, user=url.username, port=url.port)
