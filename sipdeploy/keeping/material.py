"""What a host gets from a backup: decided by the site, the backup and the time. Pure."""

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.facts import STATE, Facts
from sipdeploy.inventory.site import Site
from sipdeploy.keeping import known
from sipdeploy.keeping.archive import Backup, Entry
from sipdeploy.plan.desired import RestoredFile
from sipdeploy.services import SERVICES, acme, certificates
from sipdeploy.services.acme import Lineage
from sipdeploy.services.service import NOTHING

ASIDE = f"{STATE}/received"  # on the host, until the swap
GROUPS = ("root", "kamailio", "asterisk")
HALVES = ("cert", "chain", "fullchain", "privkey")
ACCOUNT_FILES = ("meta", "private_key", "regr")
# Of certbot's renewal settings only these are taken: others, such as hooks, run programs as root.
_SETTINGS = re.compile(
    r"(version|account|authenticator|server|key_type|elliptic_curve|rsa_key_size|webroot_path"
    r"|pref_challs|dns_[a-z0-9]+_(?:credentials|propagation_seconds)) = ([\w .:/,@-]{0,300})",
    re.ASCII,
)
_WEBROOT = re.compile(r"/(?!.*\.\.)[\w./-]{0,200}", re.ASCII)
_AUTHENTICATORS = re.compile(r"standalone|webroot|dns-[a-z0-9-]{1,40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """certbot's certificate of a backup: its files on the host, and what certbot will know."""

    lineage: Lineage
    name: str
    account: str  # the directory of the ACME account; empty if the backup has none
    files: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """The files of a backup for a site; `warnings` say what is left out."""

    files: tuple[RestoredFile, ...]
    contents: Mapping[str, bytes] = field(repr=False)
    messages: tuple[Entry, ...]
    renewal: Renewal | None = None
    refused: frozenset[str] = frozenset()  # digests of keys that the host must not have
    warnings: tuple[Diagnostic, ...] = ()

    def takes(self, facts: Facts, site: Site, now: float) -> bool:
        """Whether the host gets certbot's certificate: unless it has one that lasts longer."""
        order, own = acme.order(site), facts.lineage
        if self.renewal is None or order is None:
            return False
        ends = self.renewal.lineage.certificate.not_after
        return own is None or not own.answers(order, now) or own.certificate.not_after < ends


def material(backup: Backup, site: Site, now: float, *, with_local: bool = True) -> Material:
    """Choose from a backup what the site can use; `now` is in seconds since 1970.

    Whoever has the keys of a backup can act as its host. So they come along only from a backup
    of the same domain whose local files are trusted as well.
    """
    is_same = backup.origin.domain == site.domain
    takes_keys = is_same and with_local
    chosen = [*backup.of("call log"), *(backup.of(known.LOCAL) if with_local else ())]
    chosen += backup.of(known.DIALOG) if takes_keys else ()
    problem, renewal, warnings = "", None, []
    if takes_keys and site.tls.provider == "self-signed":
        problem = _pair_problem(backup, site, now)
        chosen += backup.of("certificate") if not problem else ()
    elif takes_keys and site.tls.provider == "letsencrypt":
        found = _renewal(backup, site, now)
        renewal = found if isinstance(found, Renewal) else None
        problem = found if isinstance(found, str) else ""
    if problem:
        warnings.append(_left_out(problem))
    if not takes_keys:
        warnings.append(_without_keys(is_same=is_same))
    makes = (
        (known.DIALOG, "certificate") if site.tls.provider == "self-signed" else (known.DIALOG,)
    )
    keys = backup.of(*makes) if not takes_keys else ()
    return Material(
        files=tuple(_restored(entry) for entry in chosen),
        contents={entry.path: backup.contents[entry.path] for entry in chosen},
        messages=backup.of(*known.MESSAGES),
        renewal=renewal,
        refused=frozenset(entry.sha256 for entry in keys),
        warnings=tuple(warnings),
    )


def _left_out(reason: str) -> Diagnostic:
    return Diagnostic(
        "SD743",
        f"the certificate of the backup is not used: {reason}",
        severity="warning",
        help="the host gets a new one",
    )


def _without_keys(*, is_same: bool) -> Diagnostic:
    reason = "`--no-local`" if is_same else "it is of another domain"
    return Diagnostic(
        "SD743",
        f"the keys and certificates of the backup are not used: {reason}",
        severity="warning",
        notes=("calls from before can be neither held nor ended: the phones simply call again",),
        help="the host makes new ones, unless it has its own that the backup does not have",
    )


def _restored(entry: Entry) -> RestoredFile:
    """The file on the host; only its group may come from the backup."""
    kind = entry.kind
    group = entry.owner.partition(":")[2]
    owner = f"root:{group}" if kind.name == known.LOCAL and group in GROUPS else kind.owner
    service = kind.service
    for name in ("kamailio", "asterisk", "coturn", "nginx"):
        service = name if f"/{SERVICES[name].unit}.d/" in entry.path else service
    return RestoredFile(
        path=entry.path,
        mode=entry.mode & kind.mask | 0o400,
        owner=owner,
        recipe=f"{ASIDE}{entry.path}",
        service=service,
        reload=None if service else NOTHING,
        digest=entry.sha256,
    )


def _pair_problem(backup: Backup, site: Site, now: float) -> str:
    """Why the host cannot serve the self-signed certificate of a backup; empty if it can."""
    pem, key = (backup.contents.get(path) for path in (certificates.PATH, certificates.KEY_PATH))
    if pem is None or key is None:
        return "it has none that is self-signed"
    certificate = certificates.parse(pem, certificates.public_half(key) or b"")
    if certificate is None or not certificate.key_matches:
        return "its key does not belong to it"
    if not certificate.is_self_signed:
        return "it is not self-signed"
    if not certificate.covers(site.domain):
        return f"it is not for {site.domain}"
    left = certificate.not_after.timestamp() - now
    return "it expires soon" if left < certificates.RENEW_BEFORE.total_seconds() else ""


def _renewal(backup: Backup, site: Site, now: float) -> Renewal | str:
    """The certificate of certbot in a backup, or why it cannot be used."""
    name = acme.lineage(site.domain)
    place = f"{acme.LINEAGES}/{name}"
    order = acme.order(site)
    halves = {half: backup.contents.get(f"{place}/{half}.pem") for half in HALVES}
    text = backup.contents.get(acme.renewal(site.domain))
    pems = {half: pem for half, pem in halves.items() if pem is not None}
    if text is None or order is None or len(pems) < len(HALVES):
        return "it has none of certbot"
    moment = dt.datetime.fromtimestamp(now, dt.UTC)
    for problem in certificates.refusals("it", pems["fullchain"], site.domain, moment):
        return problem.message
    settings = dict(_settings(text.decode("utf-8", "replace"), site.domain))
    directory, accounts = _account(backup, settings)
    if not directory:
        settings.pop("account", None)
    conf = _written(name, settings)
    lineage = acme.parse_lineage(
        pems["fullchain"].decode("utf-8", "replace"),
        (certificates.public_half(pems["privkey"]) or b"").decode(),
        conf,
    )
    if lineage is None or not lineage.answers(order, now):
        return "its key or the way of its renewal does not fit, or it should have been renewed"
    files = {f"{place}/{half}.pem": pem for half, pem in pems.items()}
    files |= {acme.renewal(site.domain): conf.encode(), **accounts}
    return Renewal(lineage=lineage, name=name, account=directory, files=files)


def _settings(text: str, domain: str) -> Iterator[tuple[str, str]]:
    """The settings of a renewal that sipdeploy itself can cause."""
    for line in text.splitlines():
        match = _SETTINGS.fullmatch(line.strip())
        if match is None:
            key, _, value = line.strip().partition(" = ")
            if key == domain and _WEBROOT.fullmatch(value):
                yield f"map {domain}", value
            continue
        key, value = match[1], match[2].strip()
        is_bad = (key == "authenticator" and not _AUTHENTICATORS.fullmatch(value)) or (
            key.endswith("_credentials") and value != acme.CREDENTIALS
        )
        if not is_bad:
            yield key, value


def _account(backup: Backup, settings: Mapping[str, str]) -> tuple[str, dict[str, bytes]]:
    """The directory of the ACME account that renews the certificate, and its files."""
    server = settings.get("server", "").partition("://")[2]
    account = settings.get("account", "")
    if not re.fullmatch(r"[0-9a-f]{32}", account):
        return "", {}
    directory = f"{acme.ACCOUNTS}/{server}/{account}"
    files = {f"{directory}/{name}.json": b"" for name in ACCOUNT_FILES}
    for path in files:
        content = backup.contents.get(path)
        try:
            json.loads(content or b"")
        except (ValueError, RecursionError):
            return "", {}
        files[path] = content or b""
    return directory, files


def _written(name: str, settings: Mapping[str, str]) -> str:
    """A renewal configuration of certbot."""
    maps = {key: value for key, value in settings.items() if key.startswith("map ")}
    plain = {key: value for key, value in settings.items() if key not in {*maps, "version"}}
    archive = f"{acme.LINEAGES.removesuffix('live')}archive/{name}"
    rows = [f"version = {settings['version']}"] if "version" in settings else []
    rows.append(f"archive_dir = {archive}")
    rows += [f"{half} = {acme.LINEAGES}/{name}/{half}.pem" for half in ("cert", "privkey")]
    rows += [f"{half} = {acme.LINEAGES}/{name}/{half}.pem" for half in ("chain", "fullchain")]
    rows += ["", "[renewalparams]", *(f"{key} = {value}" for key, value in plain.items())]
    if maps:
        rows += ["[[webroot_map]]", *(f"{k.removeprefix('map ')} = {v}" for k, v in maps.items())]
    return "\n".join(rows) + "\n"
