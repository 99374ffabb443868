"""The target of an SSH connection, from the inventory and `ssh -G`. Opens no connection."""

import os
import pwd
import re
import shlex
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sipdeploy.host import ssh_words
from sipdeploy.host.ssh_words import Values
from sipdeploy.inventory.files import expanded

CONFIG_FILES = ("~/.ssh/config", "/etc/ssh/ssh_config")
DEEPEST = 8  # nested jumps; more are a loop
SSH_PORT = 22
CONNECT_SECONDS = 10
FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}


class UnusableError(ValueError):
    """The configuration is not usable; `fix` begins the help, `notes` have the lines."""

    def __init__(self, message: str, fix: str = "", notes: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.fix = fix and f"{fix}; "
        self.notes = tuple(notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class SshSettings:
    """Settings of the inventory, or of one jump; None: ~/.ssh/config decides."""

    alias: str
    user: str | None = None
    port: int | None = None
    identity_file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithms:
    """The algorithms that ssh_config allows, in its order; empty: no limit."""

    kex: tuple[str, ...] = ()
    ciphers: tuple[str, ...] = ()
    macs: tuple[str, ...] = ()
    host_keys: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    rsa_bits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialling:
    """How a TCP connection is opened."""

    family: int = socket.AF_UNSPEC
    bind_address: str | None = None
    seconds: float = CONNECT_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """Words of ssh_config that only `ssh` follows: what to say if a login or a host key fails."""

    login: tuple[str, ...] = ()
    trust: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The resolved target of one SSH connection; `agent` is the agent's socket."""

    alias: str
    address: str
    port: int
    user: str
    identity_files: tuple[str, ...]
    certificate_files: tuple[str, ...]
    must_exist: str | None
    identities_only: bool
    agent: str | None
    jumps: tuple["Target", ...]
    proxy_command: str | None
    known_hosts: tuple[str, ...]
    revoked_keys: str | None
    host_key_alias: str | None
    checks_address: bool
    algorithms: Algorithms
    dialling: Dialling
    hints: Hints
    ssh_arguments: tuple[str, ...]

    @property
    def login(self) -> str:
        """`user@address`, with `:port` unless it is 22."""
        port = "" if self.port == SSH_PORT else f":{self.port}"
        return f"{self.user}@{self.address}{port}"

    @property
    def ssh_command(self) -> str:
        """The command with which a person connects to it, with all that the inventory sets."""
        return " ".join(("ssh", *self.ssh_arguments))


def lookup(settings: SshSettings) -> Values:
    """OpenSSH's configuration for a host: keyword (lower case) -> values.

    `ssh -G` reads ~/.ssh/config and /etc/ssh/ssh_config, including `Include` and `Match`; the
    default login is root. Raises FileNotFoundError if this machine has no `ssh`, and ValueError
    with the messages of `ssh` if it rejects the configuration.
    """
    return _values(_asked(settings, "-G").stdout)


def _asked(settings: SshSettings, *options: str) -> "subprocess.CompletedProcess[str]":
    with tempfile.NamedTemporaryFile("w", prefix="sipdeploy-ssh-") as file:
        file.writelines(f'Include "{expanded(name)}"\n' for name in CONFIG_FILES)
        file.write("Host *\n  User root\n")
        file.flush()
        return _run(settings, *options, "-F", file.name)


def _run(settings: SshSettings, *options: str) -> "subprocess.CompletedProcess[str]":
    user = ("-l", settings.user) if settings.user else ()
    port = ("-p", str(settings.port)) if settings.port else ()
    done = subprocess.run(  # noqa: S603 - no shell; no value can be an option
        ["ssh", *options, *user, *port, "--", settings.alias],  # noqa: S607 - of the user's own PATH
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise ValueError("; ".join(done.stderr.strip().splitlines()[:3]))
    return done


def _values(text: str) -> Values:
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        keyword, _, value = line.partition(" ")
        values.setdefault(keyword.lower(), []).append(value)
    return values


def resolve(settings: SshSettings, depth: int = 0) -> Target:
    """The target: the inventory overrides ~/.ssh/config, which overrides the defaults (root, 22).

    Raises as `lookup`, UnusableError, and RecursionError if jumps form a loop.
    """
    if depth > DEEPEST:
        raise RecursionError(settings.alias)
    values = lookup(settings)
    _refuse(settings, values)
    address = _one(values, "hostname") or settings.alias
    port = int(_one(values, "port") or SSH_PORT)
    user = _one(values, "user") or "root"
    alias = _one(values, "hostkeyalias")
    jumps = _jumps(_one(values, "proxyjump"), depth)
    command = _one(values, "proxycommand")
    tokens = {"h": address, "p": str(port), "r": user, "n": settings.alias, "%": "%"}
    fill = _Filler({**_local_tokens(), **tokens, "k": alias or settings.alias})
    files = fill.all("IdentityFile", values)
    return Target(
        alias=settings.alias,
        address=address,
        port=port,
        user=user,
        identity_files=(settings.identity_file, *files) if settings.identity_file else files,
        certificate_files=fill.all("CertificateFile", values),
        must_exist=settings.identity_file,
        identities_only=_one(values, "identitiesonly") == "yes",
        agent=_agent(values),
        jumps=jumps,
        proxy_command=None
        if jumps or command is None
        else _Filler(tokens)("ProxyCommand", command),
        known_hosts=_known_hosts(values),
        revoked_keys=next(iter(fill.all("RevokedHostKeys", values)), None),
        host_key_alias=alias,
        checks_address=_one(values, "checkhostip") == "yes",
        algorithms=_algorithms(values),
        dialling=_dialling(values),
        hints=_hints(settings, values),
        ssh_arguments=_arguments(settings, user, port),
    )


def shown_path(file: str) -> str:
    """A file as a person can type it in a shell; keeps `~/`."""
    name = file.removeprefix("~/")
    return file if shlex.quote(name) == name else shlex.quote(str(expanded(file)))


def _arguments(settings: SshSettings, user: str, port: int) -> tuple[str, ...]:
    is_usual = port == SSH_PORT and settings.port is None
    file = settings.identity_file
    return (
        *(() if is_usual else ("-p", str(port))),
        *(("-i", shown_path(file)) if file else ()),
        f"{user}@{settings.alias}",
    )


def _refuse(settings: SshSettings, values: Values) -> None:
    """Raise UnusableError for the first word that sipdeploy cannot follow, with its place."""
    for word, value, fix in ssh_words.refused(values):
        log = _asked(settings, "-v", "-G").stderr
        paths = re.findall(r"^debug1: Reading configuration data (.+)$", log, re.MULTILINE)
        texts = {path: _text(path) for path in dict.fromkeys(paths)}
        raise UnusableError(
            f"sipdeploy cannot follow `{word} {value}`", fix, ssh_words.lines_with(word, texts)
        )


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _hints(settings: SshSettings, values: Values) -> Hints:
    def defaults() -> Values:
        return _values(_run(settings, "-G", "-F", "none").stdout)

    return Hints(
        login=ssh_words.hints(values, ssh_words.AT_LOGIN),
        trust=ssh_words.hints(values, ssh_words.AT_TRUST),
        unknown=ssh_words.unknown(values, defaults),
    )


def _algorithms(values: Values) -> Algorithms:
    def listed(*words: str) -> tuple[str, ...]:
        return tuple(
            name for word in words for name in (_one(values, word) or "").split(",") if name
        )

    return Algorithms(
        kex=listed("kexalgorithms"),
        ciphers=listed("ciphers"),
        macs=listed("macs"),
        host_keys=listed("hostkeyalgorithms"),
        keys=listed("pubkeyacceptedalgorithms", "pubkeyacceptedkeytypes"),
        rsa_bits=int(_one(values, "requiredrsasize") or 0),
    )


def _dialling(values: Values) -> Dialling:
    return Dialling(
        family=FAMILIES.get(_one(values, "addressfamily") or "", socket.AF_UNSPEC),
        bind_address=_one(values, "bindaddress"),
        seconds=float(_one(values, "connecttimeout") or CONNECT_SECONDS),
    )


def _agent(values: Values) -> str | None:
    """The socket of the agent: IdentityAgent, else SSH_AUTH_SOCK; None without an agent."""
    name = values.get("identityagent", ["SSH_AUTH_SOCK"])[0]
    if name == "SSH_AUTH_SOCK":
        return os.environ.get(name)
    if name.startswith("$"):
        return os.environ.get(name[1:].strip("{}"))
    return None if name == "none" else name


def _one(values: Values, keyword: str) -> str | None:
    """The first value of a keyword; None if it is absent or `none`."""
    (value, *_) = values.get(keyword, ["none"])
    return None if value == "none" else value


class _Filler:
    """Expands the tokens and variables of ssh_config(5), which `ssh -G` leaves in some values."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self._tokens = tokens

    def __call__(self, word: str, text: str) -> str:
        """The text with its tokens expanded; ValueError for an unknown one."""

        def value(match: re.Match[str]) -> str:
            if match[1] not in self._tokens:
                raise ValueError(
                    f"sipdeploy does not know the token `{match[0]}` in `{word} {text}`"
                )
            return self._tokens[match[1]]

        return re.sub("%(.?)", value, text)

    def all(self, word: str, values: Values) -> tuple[str, ...]:
        """Every value of a keyword that names a file, without `none`."""
        texts = (text for text in values.get(word.lower(), ()) if text != "none")
        return tuple(_with_variables(word, self(word, text)) for text in texts)


def _with_variables(word: str, text: str) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise ValueError(f"`{word} {text}`: the variable {match[1]} is not set")
        return os.environ[match[1]]

    return re.sub(r"\$\{(\w+)\}", value, text)


def _local_tokens() -> dict[str, str]:
    """The tokens of ssh_config(5) that depend on this machine and its login."""
    machine = socket.gethostname()
    try:
        login = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a login without an entry, as in some containers
        login = str(os.getuid())
    return {
        "d": str(expanded("~")),
        "i": str(os.getuid()),
        "l": machine,
        "L": machine.partition(".")[0],
        "u": login,
    }


def _known_hosts(values: Values) -> tuple[str, ...]:
    """The known_hosts files; the default ones with `~`, which is HOME and short in messages."""
    try:
        home = f"{pwd.getpwuid(os.getuid()).pw_dir}/"
    except KeyError:  # a login without an entry, as in some containers
        home = "/nonexistent/"
    texts = (*values.get("userknownhostsfile", ()), *values.get("globalknownhostsfile", ()))
    # `ssh -G` prints no quotes: a name begins with / or ~, and the rest of a name may have spaces.
    files = (file for text in texts for file in re.split(r" (?=[/~])", text) if file != "none")
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
