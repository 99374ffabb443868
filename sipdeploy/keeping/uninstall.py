"""The way back: what an uninstall does to a host, as data, and the step that does it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from sipdeploy.diagnostics import count
from sipdeploy.facts import STATE, parse_units
from sipdeploy.host import Host, ask, host_failed, run_script, sections
from sipdeploy.host.incoming import OnLine, whole
from sipdeploy.plan.preview import Load, read_load
from sipdeploy.services import certificates, extensions, nginx
from sipdeploy.services import install as repository
from sipdeploy.transaction.candidate import table
from sipdeploy.transaction.lock import Owner, locked, stale_owner

UNINSTALL_SECONDS = 1800
RECOVER = "/etc/systemd/system/sipdeploy-recover.service"
KEY = "/etc/kamailio/dialog-key.cfg"
PAIR = (certificates.PATH, certificates.KEY_PATH)
OWN_UNITS = (nginx.UNIT, "sipdeploy-firewall.service", "sipdeploy-recover.service")
DAEMONS = ("kamailio.service", "asterisk.service")
TIMER = "certbot.timer"
BUILDER = "sipdeploy-build"
TREES = (
    *("/opt/sipdeploy", "/var/cache/sipdeploy", "/run/sipdeploy-asterisk"),
    *("/var/log/letsencrypt/sipdeploy",),
)
OWN = "/etc/sipdeploy"  # staging makes it, before the host notes which directories it has
# Directories of sipdeploy, if the host has not noted which ones it did not have before.
DIRECTORIES = ("/etc/asterisk/local", "/etc/kamailio/tls", OWN)
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What sipdeploy has brought to a host, and what was there before."""

    serial: str
    owner: str
    managed: tuple[str, ...]
    originals: frozenset[str]
    directories: tuple[Row, ...]  # path, mode or `absent`, owner
    before: Mapping[str, tuple[bool, bool]]  # unit -> was it active, was it enabled
    loaded: frozenset[str]  # units that run or are enabled now
    present: tuple[str, ...]
    packages: tuple[str, ...]
    renewals: tuple[str, ...]  # of all, also parked ones
    accounts: tuple[str, ...]
    has_builder: bool
    messages: int
    local: tuple[str, ...]
    load: Load

    @property
    def lineages(self) -> tuple[str, ...]:
        """The certificates of certbot that are sipdeploy's."""
        names = (re.sub(r"\.conf(\.parked)?$", "", name) for name in self.renewals)
        return tuple(dict.fromkeys(name for name in names if name.startswith("sipdeploy-")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """The rows for the script, the lines for people, and what stays."""

    rows: tuple[Row, ...]
    lines: tuple[str, ...]
    costs: tuple[str, ...]
    kept: tuple[str, ...]

    def as_text(self, name: str) -> str:
        """The plan of one host."""
        lines = (*self.lines, *(f"= {each}" for each in (*self.costs, *self.kept)))
        return "\n".join([name, *(f"  {line}" for line in lines)])


def survey(host: Host, *, breaks_lock: bool = False, state: str = STATE) -> Remains:
    """Read what is there in one exchange.

    HostFailed: SD747 if sipdeploy has not configured the host, or an apply is unfinished, SD507
    if another run has the lock, SD509 for an answer that is not complete.
    """
    result = run_script(host, ("remains", state))
    answer = sections(result.text)
    if "none" in answer:
        raise host_failed(
            "SD747",
            f"there is nothing to uninstall on `{host.name}`: it has no {state}",
            help_="`sipdeploy plan` shows what an apply would bring",
        )
    if "end" not in answer:
        raise host_failed("SD509", f"`{host.name}` did not send what sipdeploy has brought to it")
    owner = answer["lock"].strip()
    if owner and not stale_owner(owner) and not breaks_lock:
        age = answer["since"].strip()
        raise locked(host.name, owner, answer["purpose"].strip(), whole(age) if age else None)
    if answer["abandoned"].strip():
        raise host_failed(
            "SD747",
            f"an apply to `{host.name}` is unfinished",
            help_=f"`sipdeploy apply {host.name}` undoes it; then uninstall",
        )
    return parse(answer)


def parse(answer: Mapping[str, str]) -> Remains:
    """Read the sections of the script `remains`."""

    def lines(name: str) -> tuple[str, ...]:
        return tuple(line for line in answer.get(name, "").splitlines() if line.strip())

    rows = [tuple(line.split("\t")) for line in lines("directories")]
    units = [line.split("\t") for line in lines("units")]
    known = parse_units(f"{answer.get('loaded', '')}\n\n{answer.get('others', '')}")
    return Remains(
        serial=answer.get("serial", "").strip(),
        owner=answer.get("lock", "").strip(),
        managed=lines("managed"),
        originals=frozenset(lines("originals")),
        directories=tuple(row for row in rows if len(row) == 3),  # noqa: PLR2004 - as written
        before={row[0]: (row[1] == "active", row[2] == "enabled") for row in units if row[2:]},
        loaded=frozenset(n for n, unit in known.items() if unit.is_active or unit.is_enabled),
        present=lines("present"),
        packages=lines("packages"),
        renewals=lines("renewals"),
        accounts=tuple(re.findall(r"[0-9a-f]{32}", answer.get("accounts", ""))),
        has_builder=bool(answer.get("user", "").strip()),
        messages=whole(answer.get("messages", "")),
        local=lines("local"),
        load=read_load(answer),
    )


def removal(remains: Remains, *, purges: bool, with_voicemail: bool) -> Removal:
    """What an uninstall does: pure, and equal for equal input."""
    parts = (
        *_stops(remains),
        *_files(remains),
        *_certificates(remains, purges=purges),
        *_directories(remains),
        (("reload",), ""),
        *_extras(remains, purges=purges, with_voicemail=with_voicemail),
        *_starts(remains, purges=purges),
    )
    return Removal(
        rows=tuple(row for row, _ in parts),
        lines=tuple(line for _, line in parts if line),
        costs=tuple(_costs(remains)),
        kept=tuple(_kept(remains, purges=purges, with_voicemail=with_voicemail)),
    )


Part = tuple[Row, str]


def _has_others(remains: Remains) -> bool:
    """Whether certbot renews certificates of somebody else."""
    return any(not name.startswith("sipdeploy-") for name in remains.renewals)


def _stops(remains: Remains) -> Iterator[Part]:
    yield ("step", "stop the daemons"), ""
    units = [*DAEMONS[::-1], *OWN_UNITS]
    units += [unit for unit in remains.before if unit not in (*units, TIMER)]
    if not _has_others(remains) and not any(remains.before.get(TIMER, (True, True))):
        units.append(TIMER)
    for unit in units:
        if unit in remains.loaded:
            yield ("stop", unit), f"! stop and disable {unit}"


def _files(remains: Remains) -> Iterator[Part]:
    """Each file that sipdeploy wrote: deleted, or as it was before the first apply."""
    yield ("step", "restore the files"), ""
    generated = [path for path in (KEY, *PAIR) if path in remains.present]
    own = [RECOVER, repository.KEYRING, "/var/log/sipdeploy.log", "/run/sipdeploy-acme-roots.pem"]
    own += [path for path in remains.present if "/multi-user.target.wants/" in path]
    own += [path for path in remains.present if path.startswith("/etc/kamailio/tls/server.")]
    extra = [path for path in own if path in remains.present]
    # the first request for a certificate writes files there before a release has them
    originals = {path for path in remains.originals if not path.startswith(f"{OWN}/")}
    for path in dict.fromkeys((*remains.managed, *generated, *extra)):
        if path in originals:
            yield ("restore", path), f"~ {path} (as before the first apply)"
        else:
            yield ("delete", path), f"- {path}"
    known = {*remains.managed, *generated, *extra}
    for path in sorted(originals - known):  # an earlier site had them
        yield ("restore", path), f"~ {path} (as before the first apply)"


def _certificates(remains: Remains, *, purges: bool) -> Iterator[Part]:
    for name in remains.lineages:
        if purges:
            yield ("lineage", name), f"- certificate {name} of certbot"
        elif f"{name}.conf" in remains.renewals:
            yield ("park", f"{name}.conf"), f"- renewal of {name} by certbot"
    if purges and not _has_others(remains):
        for account in dict.fromkeys(remains.accounts):
            yield ("account", account), f"- ACME account {account} of certbot"


def _directories(remains: Remains) -> Iterator[Part]:
    """Modes and owners as they were; directories that sipdeploy made go if they are empty."""
    own = (f for f in extensions.FOLDERS if any(p.startswith(f) for p in remains.managed))
    made = {OWN, *own, *(row[0] for row in remains.directories if row[1] == "absent")}
    for path, mode, owner in remains.directories:
        if path not in made:
            yield ("directory", path, mode, owner), ""
    if not remains.directories:
        made.update(DIRECTORIES)
    for path in sorted(made, reverse=True):
        yield ("rmdir", path), ""


def _extras(remains: Remains, *, purges: bool, with_voicemail: bool) -> Iterator[Part]:
    if purges and remains.packages:
        yield ("step", "purge the packages"), ""
        yield ("purge", *remains.packages), f"- packages {', '.join(remains.packages)}"
    for path in (*TREES, *(p for p in remains.present if "/.sipdeploy-" in p)):
        if path in remains.present:
            yield ("tree", path), f"- {path}"
    if remains.has_builder:
        yield ("user", BUILDER), f"- user {BUILDER}"
    if with_voicemail and remains.messages:
        yield ("messages",), f"- {count(remains.messages, 'message')} of voicemail"


def _starts(remains: Remains, *, purges: bool) -> Iterator[Part]:
    gone = {f"{name}.service" for name in remains.packages if purges}
    for unit, (was_active, was_enabled) in remains.before.items():
        if unit == TIMER or unit in OWN_UNITS or unit in gone:
            continue
        if was_active:
            yield ("step", f"start {unit.removesuffix('.service')}"), ""
        if was_enabled:
            yield ("enable", unit), f"! enable {unit}"
        if was_active:
            yield ("start", unit), f"! start {unit}, with its previous configuration"


def _costs(remains: Remains) -> Iterator[str]:
    load = remains.load
    if load.registrations:
        verb = "ends" if load.registrations == 1 else "end"
        yield f"{count(load.registrations, 'registration')} {verb}"
    if load.calls:
        yield (
            f"{count(load.calls, 'call')} between phones can no longer be ended or transferred by "
            "their phones"
        )
    if load.channels:
        verb = "ends" if load.channels == 1 else "end"
        yield f"{count(load.channels, 'call')} with services {verb}"


def _kept(remains: Remains, *, purges: bool, with_voicemail: bool) -> Iterator[str]:
    if remains.packages and not purges:
        yield f"kept: packages {', '.join(remains.packages)} (--purge purges them)"
    if remains.lineages and not purges:
        yield f"kept: certificate {', '.join(remains.lineages)} of certbot (--purge deletes it)"
    if remains.messages and not with_voicemail:
        messages = count(remains.messages, "message")
        yield f"kept: {messages} of voicemail (--delete-voicemail deletes them)"
    if remains.local:
        yield f"kept: your files {', '.join(remains.local)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Uninstall:
    """Carries a removal out; there is no undo, the next uninstall continues."""

    has_undo: ClassVar[bool] = False
    owner: Owner
    removal: Removal
    state: str = STATE
    title: str = "uninstall"

    def run(self, host: Host, on_line: OnLine) -> None:
        """HostFailed (SD748) with what could not be done."""
        ask(
            host,
            ("uninstall", self.state, self.owner.name),
            (
                "SD748",
                "the uninstall is not complete",
                "correct this, and run the same command again: it continues",
            ),
            data=table(self.removal.rows),
            on_line=on_line,
            timeout_seconds=UNINSTALL_SECONDS,
        )

    def undo(self, host: Host) -> None:
        """Nothing; the class says why."""


def owner_of(name: str, remains: Remains, purpose: str) -> Owner:
    """The owner of the lock of an uninstall."""
    return Owner(name=name, purpose=purpose, serial=remains.serial, breaks=remains.owner)
