"""Creates a site: inventory, passwords, and the files for git, CI and editors.

Never overwrites a file that a person writes; beside an inventory it adds only the missing parts.
Checks everything before it writes the first file. The texts come from the caller.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from sipdeploy import inventory
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import InvalidFiles, WrongUsage
from sipdeploy.editing import vault
from sipdeploy.inventory import fields
from sipdeploy.inventory.files import expanded, replace_file, unwritable
from sipdeploy.inventory.passwords import lost_passwords, missing_passwords
from sipdeploy.inventory.secret import PasswordSource
from sipdeploy.inventory.secrets_file import read_secrets

if TYPE_CHECKING:
    from sipdeploy.inventory import Inventory
    from sipdeploy.inventory.document import Path as YamlPath

_FIELDS: Mapping[str, Callable[[Any], str]] = {
    "domain": fields.domain,
    "email": fields.email,
    "host": fields.host_name,
    "address": fields.address,
    "public_address": fields.media_address,
}
_UNBUILT = "\n# Not in this installation of sipdeploy: see `sipdeploy lint --explain SD720`."
_SCHEMA = "inventory.schema.json"
_PLAIN = re.compile(r"(?!null$)[A-Za-z][A-Za-z0-9._@-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The given values of a new inventory; None stands for the default."""

    domain: str | None = None
    email: str | None = None
    host: str | None = None
    address: str | None = None
    public_address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """The template of an inventory, and other new files: path in the directory -> text."""

    inventory: str
    others: Mapping[str, str] = field(default_factory=dict)
    has_page: bool = True  # this installation has the web phone


@dataclass(frozen=True, slots=True, kw_only=True)
class _Write:
    """A file to write, and the line that reports it."""

    path: Path
    text: str = field(repr=False)  # can contain passwords
    mode: int = 0o644
    report: str = "created"


def init(
    path: Path, answers: Answers, texts: Texts, *, makes_new_passwords: bool = False
) -> list[str]:
    """Write the missing files of the site of the inventory `path`; return a line for each change.

    Raises InvalidFiles if an existing file has errors, if all users have lost their passwords
    (SD230) and the caller does not want new ones, or if a file cannot be written; WrongUsage for
    an answer that is not valid, or that an existing inventory contradicts.
    """
    directory = path.parent
    try:
        if path.exists():
            loaded = inventory.open_inventory(path)
            _contradict_nothing(answers, loaded)
            if not makes_new_passwords:
                _require_passwords(loaded)
            writes = []
        else:
            writes = [_first_inventory(path, answers, texts)]
            directory.mkdir(parents=True, exist_ok=True)
            loaded = inventory.open_inventory(path, raw=writes[0].text.encode())
        writes += [*_secrets(loaded), *_gitignore(loaded), *_others(directory, texts)]
        for each in writes:
            each.path.parent.mkdir(parents=True, exist_ok=True)
            # a link to the secrets stays a link
            replace_file(Path(os.path.realpath(each.path)), each.text.encode(), each.mode)
    except OSError as failure:
        raise InvalidFiles([unwritable(failure)]) from failure
    return [f"{each.path}: {each.report}" for each in writes]


def _first_inventory(path: Path, answers: Answers, texts: Texts) -> _Write:
    domain, address = answers.domain or "sip.example.com", answers.address or "203.0.113.10"
    values = {
        "domain": domain,
        "email": answers.email or f"ops@{domain}",
        "host": answers.host or "sip1",
        "address": address,
    }
    public = answers.public_address
    _check(values, public)
    reason = _untrusted(domain, values["email"], public or address)
    text = Template(texts.inventory).substitute(
        {key: _quoted(value) for key, value in values.items()},
        public_address=f"\n    public_address: {_quoted(public)}" if public else "",
        provider="self-signed" if reason else "letsencrypt",
        phone=f"{'' if texts.has_page else '# '}phone: {{port: 443}}",
        unbuilt="" if texts.has_page else _UNBUILT,
    )
    kind = (
        f"self-signed certificate, because {reason}" if reason else "certificate of Let's Encrypt"
    )
    return _Write(path=path, text=text, report=f"created with a {kind}")


def _check(values: Mapping[str, str], public: str | None) -> None:
    problems = [*_faults(values), *_faults({"public_address": public} if public else {})]
    if not problems and not public:
        for fault in fields.faults([(fields.media_address, values["address"])]):
            message = f"browsers cannot send media to `--address {values['address']}`"
            advice = "add `--public-address` with the numeric address at which browsers reach it"
            problems.append(Diagnostic("SD212", message, notes=(fault.message,), help=advice))
    if problems:
        raise WrongUsage(problems)


def _faults(values: Mapping[str, str]) -> list[Diagnostic]:
    checks = ((_FIELDS[key], value) for key, value in values.items())
    return [fault.at() for fault in fields.faults(checks)]


def _untrusted(domain: str, email: str, public: str) -> str:
    """Why no public ACME server issues a certificate; empty if one can."""
    for name in (domain, email):
        if fields.PRIVATE_NAME.fullmatch(name) or fields.EXAMPLE_NAME.fullmatch(name):
            return f"`{name}` is not a public name"
    return "" if ipaddress.ip_address(public).is_global else f"`{public}` is not a public address"


def _contradict_nothing(answers: Answers, loaded: Inventory) -> None:
    """WrongUsage for each answer that differs from the inventory, which init does not change."""
    given = {key: value for key, value in asdict(answers).items() if value is not None}
    problems = _faults(given)
    if not problems:
        present = _present(loaded, answers.host)
        problems = [
            Diagnostic(
                "SD002",
                f"`{loaded.path}` exists, so `--{key.replace('_', '-')} {value}` has no effect",
                span=loaded.document.key_span(present[key][1]),
                help="change the value here, or leave the option out",
            )
            for key, value in given.items()
            if _FIELDS[key](value) != present[key][0]
        ]
    if problems:
        raise WrongUsage(problems, sources=loaded.sources)


def _present(loaded: Inventory, host: str | None) -> dict[str, tuple[str | None, YamlPath]]:
    """The values in the inventory that options can name, with their places."""
    site = loaded.site
    name = host if host in site.hosts else next(iter(site.hosts))
    entry, place = site.hosts[name], ("hosts", name)
    return {
        "domain": (site.domain, ("domain",)),
        "email": (site.email, ("email",)),
        "host": (name, place),
        "address": (entry.address, (*place, "address")),
        "public_address": (entry.public_address, (*place, "public_address")),
    }


def _quoted(text: str) -> str:
    """The text in YAML, in quotes unless it is a plain word. JSON strings are YAML."""
    return text if _PLAIN.fullmatch(text) or re.fullmatch(r"[0-9.]+", text) else json.dumps(text)


def _require_passwords(loaded: Inventory) -> None:
    """InvalidFiles if no user of the secrets file has a password: new ones lock all phones out."""
    if not isinstance(loaded.site.secrets, str):
        return
    shared = read_secrets(loaded.site.secrets, loaded.directory)
    if lost_passwords(loaded.site, shared.passwords) and not shared.diagnostics:
        problem = missing_passwords(loaded.site, shared, loaded.document)
        raise InvalidFiles([problem] if problem else [], sources=loaded.sources)


def _secrets(loaded: Inventory) -> Iterator[_Write]:
    """Generate the missing passwords; existing passwords and comments stay."""
    place, users = loaded.site.secrets, loaded.site.users
    shared = [number for number, user in users.items() if user.password is None]
    if not isinstance(place, str) or not shared:
        return
    known = vault.open_vault(loaded)
    missing = {n: vault.new_password() for n in shared if n not in known.passwords}
    if not missing or known.file is None:
        return
    added = (
        f"{len(missing)} passwords"
        if len(missing) > 1
        else f"a password for {next(iter(missing))}"
    )
    yield _Write(
        path=known.file.path,
        text=known.changed(missing),
        mode=vault.MODE,
        report=f"{'created with' if known.file.raw is None else 'added'} {added}",
    )


def _gitignore(loaded: Inventory) -> Iterator[_Write]:
    """Add the secrets file, credentials, the private key and rendered trees to .gitignore."""
    tls = loaded.site.tls
    pins = (service.pin for service in loaded.site.services.values())
    files = (pin.file for pin in pins if isinstance(pin, PasswordSource))
    places = (loaded.site.secrets, tls.dns_credentials, tls.private_key, *files)
    path = loaded.directory / ".gitignore"
    if path.is_symlink():  # never append lines to a file elsewhere
        message, advice = f"`{path}` is a symbolic link", "replace it with a regular file"
        problem = Diagnostic("SD110", message, help=advice)
        raise InvalidFiles([problem])
    old = path.read_text("utf-8") if path.exists() else ""
    wanted = [name for place in places if isinstance(place, str) for name in _inside(place)]
    present = {line.strip().lstrip("/").rstrip("/") for line in old.splitlines()}
    missing = [name for name in (*wanted, "rendered") if name not in present]
    if not missing:
        return
    gap = "\n" if old and not old.endswith("\n") else ""
    lines = "".join(f"/{name}{'/' if name == 'rendered' else ''}\n" for name in missing)
    report = f"{'added' if old else 'created with'} {', '.join(missing)}"
    yield _Write(path=path, text=old + gap + lines, report=report)


def _inside(place: str) -> list[str]:
    """The path in git's form, without `.` and `..`; empty if it is outside the directory."""
    name = os.path.normpath(expanded(place))
    is_elsewhere = name.startswith("/") or name.split("/", 1)[0] in (".", "..")
    return [] if is_elsewhere else [name]


def _others(directory: Path, texts: Texts) -> Iterator[_Write]:
    """Write the other files if they are missing, and the schema of this version of sipdeploy."""
    for name, text in texts.others.items():
        if not (directory / name).exists():
            yield _Write(path=directory / name, text=text)
    schema = directory / _SCHEMA
    text = inventory.schema() + "\n"
    if not schema.exists():
        yield _Write(path=schema, text=text)
    elif schema.read_text("utf-8") != text:
        yield _Write(path=schema, text=text, report="updated")
