"""A release: the desired state of an apply, kept on the host for a rollback.

It consists of the managed files and `release.json`, without files that the host generated itself.
"""

import io
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sipdeploy import __version__
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.diagnostics.escapes import shown_line
from sipdeploy.facts import STATE, Facts, Query
from sipdeploy.host import Host, ask, host_failed, run_script
from sipdeploy.host.incoming import whole
from sipdeploy.inventory.site import Site
from sipdeploy.plan import preflight
from sipdeploy.plan.desired import Desired, query_of
from sipdeploy.plan.kept_users import keep_users, site_of

# The format of `release.json`. A new field needs no new number, but it needs a default, because
# older releases do not have it. Increase the number if a field is removed, renamed or gets another
# meaning, and let `load` convert the older format: hosts keep releases that older versions wrote.
FORMAT = 1
FETCH_SECONDS = 300
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]{0,99}")  # deb-control(5)
VERSION = re.compile(r"[0-9][A-Za-z0-9.+:~-]{0,99}")  # deb-version(7)
OTHER_VERSION = "the release was written by another version of sipdeploy"
UNKNOWN_FIELD = "unexpected_keyword_argument"  # an error type of pydantic


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The author, time (ISO 8601, UTC), purpose and changes of a release.

    `problem` says why they cannot be read, and is empty otherwise. `configuration` identifies
    everything but the users; `is_users` says that the release before it has the same one.
    """

    number: int
    who: str = ""
    when: str = ""
    purpose: str = ""
    what: tuple[str, ...] = ()
    is_current: bool = False
    problem: str = ""
    configuration: str = ""
    is_users: bool = False
    trial_seconds: int | None = None  # of the release on trial, until the host takes it back


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The part of `release.json` that describes the apply: author, time, purpose, changes."""

    who: str
    when: str
    purpose: str
    what: tuple[str, ...]


def dump(desired: Desired, signature: Signature) -> bytes:
    """`release.json`, without the contents of files; equal input gives equal bytes."""
    data = {
        "format": FORMAT,
        "version": __version__,
        **asdict(signature),
        "desired": {
            **_plain(
                asdict(desired),
                without=("files", "generated", "restored", "refused", "brings", "versions"),
            ),
            "made": [asdict(file) for file in desired.generated],  # the name in format 1
            "files": [_plain(asdict(file), without=("content",)) for file in desired.files],
        },
    }
    return json.dumps(data, indent=1).encode()


def _plain(values: Mapping[str, Any], *, without: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in without}


def header(text: str, number: int, current: int) -> Header:
    """Read the header of a `release.json`; ValueError if it is not valid."""
    data = _data(text)
    what = data.get("what")
    return Header(
        number=number,
        who=str(data.get("who")),
        when=str(data.get("when")),
        purpose=str(data.get("purpose")),
        what=tuple(str(line) for line in what) if isinstance(what, list) else (),
        is_current=number == current,
    )


def load(archive: bytes) -> Desired:
    """Read the desired state from the tar of a release; ValueError if it is not valid."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            for member in tar:
                if member.size > len(archive):  # a sparse file, which would expand to zeros
                    raise ValueError(f"the release is damaged: {shown_line(member.name)}")
                stream = tar.extractfile(member) if member.isfile() else None
                if stream is not None:
                    files[member.name.removeprefix("tree")] = stream.read()
        data = _data(files["release.json"].decode())
    except (KeyError, UnicodeDecodeError, tarfile.TarError) as wrong:
        raise ValueError(f"the release is damaged: {shown_line(str(wrong))}") from wrong
    try:
        desired = data["desired"]
        rows = [{**row, "content": files[row["path"]]} for row in desired["files"]]
        generated = desired.pop("made")
        # the notes describe the host at the time of that apply
        versions = _versions(files.get("versions", b""))
        parts = {"files": rows, "generated": generated, "notes": (), "versions": versions}
        return _desired({**desired, **parts})
    except (KeyError, TypeError, _UnfitError) as wrong:
        raise ValueError(f"{_cause(data)}: {shown_line(str(wrong))}") from wrong


def _versions(content: bytes) -> dict[str, str]:
    """Package -> version, as the host noted them when it confirmed the release."""
    rows = (line.split("\t") for line in content.decode("ascii", "replace").splitlines())
    return {
        row[0]: row[1]
        for row in rows
        if len(row) == 2 and PACKAGE.fullmatch(row[0]) and VERSION.fullmatch(row[1])  # noqa: PLR2004
    }


def file_name(package: str, version: str) -> str:
    """The file of a package that the host keeps, as the script `debs` names it."""
    return f"{package}_{version.replace(':', '%3a')}.deb"


def _cause(data: Mapping[str, Any]) -> str:
    """Why a release that is valid JSON does not fit: another version, or damage."""
    version = data.get("version")
    if version == __version__:
        return "the release is damaged"
    if version is None:
        return f"the release is damaged, or {OTHER_VERSION.removeprefix('the release ')}"
    return f"{OTHER_VERSION} ({str(version)[:40]}; this is {__version__})"


class _UnfitError(Exception):
    """The data of a release do not fit Desired; the text is for the user."""


def _desired(data: Mapping[str, Any]) -> Desired:
    """Build the desired state; ValueError for an unknown field, _UnfitError for a value.

    An unknown field is an error: a newer sipdeploy wrote it, and the host may need what it says. A
    rollback without it would restore only a part of the release.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError  # noqa: PLC0415 - for rollbacks only

    # A dataclass accepts no configuration, but inherits the configuration of its list.
    adapter = TypeAdapter(list[Desired], config=ConfigDict(extra="forbid"))
    try:
        return adapter.validate_python([data])[0]
    except ValidationError as wrong:
        errors = wrong.errors(include_url=False, include_context=False, include_input=False)
    error = min(errors, key=lambda error: error["type"] != UNKNOWN_FIELD)
    field = ".".join(str(part) for part in error["loc"][1:])
    if error["type"] == UNKNOWN_FIELD:
        raise ValueError(f"{OTHER_VERSION}: its field `{field}` is unknown")
    raise _UnfitError(f"`{field}`: {error['msg'].lower()}")


def _data(text: str) -> dict[str, Any]:
    try:
        data = _printable(json.loads(text))
    except RecursionError as wrong:
        raise ValueError("the release is damaged: it is nested too deeply") from wrong
    except ValueError as wrong:
        raise ValueError(f"the release is damaged: {wrong}") from wrong
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError(OTHER_VERSION)
    return data


def _printable(value: Any) -> Any:
    """The data with control characters shown as escapes; JSON itself can carry them."""
    if isinstance(value, str):
        return shown_line(value)
    if isinstance(value, dict):
        return {shown_line(key): _printable(each) for key, each in value.items()}
    return [_printable(each) for each in value] if isinstance(value, list) else value


def history(host: Host, state: str = STATE) -> tuple[Header, ...]:
    """The releases that a host keeps, the oldest first; a damaged one has a `problem`."""
    sections = ask(host, ("history", state), ("SD530", "the releases cannot be read"))
    current = whole(sections.get("current", ""))
    found = (line.partition(" ") for line in sections.get("configurations", "").splitlines())
    configurations = {whole(number): digest for number, _, digest in found}
    kept: list[Header] = []
    for name, text in sections.items():
        if name.startswith("release "):
            number = whole(name.removeprefix("release "))
            # a host that an older sipdeploy configured tells no digest
            own = configurations.get(number, str(number))
            is_users = bool(kept) and kept[-1].configuration == own
            row = _header(text, number, current)
            kept.append(replace(row, configuration=own, is_users=is_users))
    if "trial" in sections:
        row = _header(sections.get("tried", ""), current + 1, current)
        kept.append(replace(row, trial_seconds=max(0, whole(sections["trial"].strip()))))
    return tuple(kept)


def _header(text: str, number: int, current: int) -> Header:
    try:
        return header(text, number, current)
    except ValueError as wrong:
        return Header(number=number, is_current=number == current, problem=str(wrong))


def fetch_release(host: Host, number: int, state: str = STATE) -> Desired:
    """The desired state of a release, with the contents of its files, in one exchange.

    HostFailed (SD530) if the host does not keep it, or if it is damaged.
    """
    argv = ("release", state, str(number))
    result = run_script(host, argv, timeout_seconds=FETCH_SECONDS)
    if result.status != 0:
        raise host_failed(
            "SD530",
            f"`{host.name}` keeps no release {number}",
            help_=f"`sipdeploy history {host.name}` lists the releases that it keeps",
        )
    try:
        return load(result.stdout)
    except ValueError as wrong:
        raise host_failed(
            "SD530",
            f"release {number} on `{host.name}` cannot be read: {wrong}",
            help_=f"restore another one: `sipdeploy history {host.name}` lists them, "
            f"`sipdeploy rollback {host.name} NUMBER`",
        ) from wrong


class ReleaseGoal:
    """The goal of a rollback: a release by its number; None is the one before the current.

    Of the site only the entry of the host counts, because the inventory may be what is wrong.
    """

    def __init__(
        self,
        site: Site,
        number: int | None,
        *,
        with_users: bool,
        keeps_packages: bool = False,
    ) -> None:
        self._site = site
        self._asked = number
        self._with_users = with_users
        self._keeps_packages = keeps_packages
        self._host: Host | None = None
        self._number = 0
        self._release: Desired | None = None

    def query(self, host: Host) -> Query:
        """Fetch the release; HostFailed (SD530) if the host does not keep it."""
        self._host = host
        number = self._asked if self._asked is not None else self._previous(host)
        if self._release is None or number != self._number:
            self._number, self._release = number, fetch_release(host, number)
        query = query_of(self._release)
        names = (*self._release.packages, *self._release.versions)
        return replace(query, packages={"other": tuple(dict.fromkeys(names))})

    def needs_lists(self, facts: Facts) -> bool:
        """As Goal.needs_lists: the host keeps the packages of its releases."""
        del facts
        return False

    def packages(self, name: str, facts: Facts) -> tuple[str, ...]:
        """The packages of the release."""
        del name, facts
        return self._fetched[1].packages

    def problems(self, name: str, facts: Facts) -> list[Diagnostic]:
        """Only whether the system is supported: the release ran on this host before."""
        return list(preflight.system(name, facts))

    def desired(self, name: str, facts: Facts) -> Desired:
        """The release; HostFailed (SD532) if it cannot get the users that the host has now."""
        host, release = self._fetched
        number = self._number
        versions, notes = self._packages(release, facts)
        release = replace(release, versions=versions)
        if self._with_users:
            note = f"users and passwords become those of release {number}"
            return replace(release, notes=(note, *notes))
        try:
            then = replace(facts, installed={**facts.installed, **versions})
            now = fetch_release(host, facts.release)
            kept = keep_users(release, now, self._site.of(name), name, then)
        except (ValueError, HostFailed) as reason:
            raise host_failed(
                "SD532",
                f"release {number} of `{name}` cannot get the users of today",
                notes=(shown_line(str(reason)),),
                help_=f"`sipdeploy rollback {name} {number} --with-users` also restores its users "
                "and passwords",
            ) from reason
        return replace(kept, notes=("users and passwords stay as they are", *notes))

    def _packages(
        self, release: Desired, facts: Facts
    ) -> tuple[Mapping[str, str], tuple[str, ...]]:
        """The versions of packages to return to, and why they stay if they do.

        They are those that an upgrade of sipdeploy has replaced: the host keeps these.
        """
        others = {
            name: version
            for name, version in release.versions.items()
            if name in facts.installed and facts.installed[name] != version
        }
        missing = [n for n, version in others.items() if file_name(n, version) not in facts.debs]
        if not others:
            return {}, ()
        if self._keeps_packages:
            return {}, ("packages stay as they are",)
        if missing:
            which = f"{missing[0]} {others[missing[0]]}"
            return {}, (f"packages stay as they are: the host does not keep {which}",)
        return others, (f"packages return to those of release {self._number}",)

    def expected(self, facts: Facts) -> Facts:
        """As Goal.expected: a rollback brings nothing."""
        return facts

    def proven(self, desired: Desired) -> Site:
        """As Goal.proven: what the release says, because the inventory may differ from it."""
        try:
            return site_of(desired, self._site)
        except ValueError:
            return self._site

    @property
    def _fetched(self) -> tuple[Host, Desired]:
        assert self._host is not None  # noqa: S101 - `query` comes first
        assert self._release is not None  # noqa: S101
        return self._host, self._release

    def _previous(self, host: Host) -> int:
        kept = history(host)
        number = previous(kept, with_users=self._with_users)
        if number:
            return number
        is_users = any(header.is_users for header in kept)
        raise host_failed(
            "SD530",
            f"`{host.name}` keeps no {'configuration' if is_users else 'release'} before the "
            "current one",
            help_=f"`sipdeploy rollback {host.name} --with-users` takes back changes of users"
            if is_users and not self._with_users
            else "",
        )


def previous(kept: Sequence[Header], *, with_users: bool) -> int:
    """The newest release before the current one that a rollback can return to; 0 if none.

    Without users it is one of another configuration: changes of users stay as they are.
    """
    current = next((header for header in kept if header.is_current), None)
    if current is None:
        return 0
    own = current.configuration
    earlier = [each for each in kept if each.number < current.number]
    return max(
        (each.number for each in earlier if with_users or each.configuration != own), default=0
    )
