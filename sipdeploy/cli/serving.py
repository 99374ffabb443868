"""The certificates that a host serves and the state of their renewal, read in one exchange."""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sipdeploy.diagnostics import Diagnostic, count, listed
from sipdeploy.facts import STATE
from sipdeploy.host import Host, ask
from sipdeploy.host.incoming import number
from sipdeploy.inventory.site import Site
from sipdeploy.plan.desired import ports
from sipdeploy.services import acme, certificates
from sipdeploy.services.acme import Order
from sipdeploy.services.certificates import Certificate
from sipdeploy.services.service import url_host
from sipdeploy.transaction.certificate import refused

RENEW_SECONDS = 900
DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalResult:
    """The result of the last hook that activated a renewed certificate; `why` if it failed."""

    when: dt.datetime
    has_failed: bool
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """The certificates of a host (on disk, on each port, at certbot) and their renewal."""

    host: str
    domain: str
    now: dt.datetime
    on_disk: Certificate | None
    served: Mapping[str, Certificate | None]  # by ADDRESS:PORT
    is_renewed: bool
    at_certbot: Certificate | None = None
    next_try: dt.datetime | None = None
    outcome: RenewalResult | None = None
    is_unit_failed: bool = False
    failures: tuple[str, ...] = ()  # the lineages that certbot's last run did not renew
    kamailio: str = "active"  # the state of its unit
    turn: str = ""  # the port of the relay
    page: str = ""  # the port of the web phone

    @property
    def days_left(self) -> int | None:
        """Whole days until the first served certificate expires.

        If no port serves one, that of the file counts; None if there is neither.
        """
        known = [served for served in self.served.values() if served]
        known = known or [each for each in (self.on_disk,) if each]
        ends = [certificate.not_after for certificate in known]
        return int((min(ends) - self.now).total_seconds() // DAY_SECONDS) if ends else None


def read(host: Host, site: Site) -> Serving:
    """Read the certificates of a host; HostFailed (SD509) if that fails."""
    order = acme.order(site)
    lineage = acme.lineage(site.domain) if order else ""
    paths = (certificates.PATH, certificates.KEY_PATH)
    argv = ("cert", STATE, site.domain, *paths, " ".join(_ports(host.name, site)), lineage)
    sections = ask(host, argv, ("SD509", "the certificates cannot be read"))
    return parse(host.name, site, sections)


def _ports(name: str, site: Site) -> Iterator[str]:
    """ADDRESS:PORT of every TLS port, for openssl."""
    for port in ports(site, site.hosts[name]):
        if port.is_tls:
            yield f"{url_host(port)}:{port.number}"


def parse(name: str, site: Site, sections: Mapping[str, str]) -> Serving:
    """Parse the sections that the script printed."""
    key = sections.get("key", "").encode()
    result = sections.get("result", "").rstrip("\n").split("\t")
    next_try = sections.get("next", "").strip()
    is_result = len(result) == 3 and result[0].isdigit()  # noqa: PLR2004 - when, how, why
    return Serving(
        host=name,
        domain=site.domain,
        now=_moment(sections.get("clock", "")),
        on_disk=certificates.parse(sections.get("certificate", "").encode(), key),
        served={
            section.removeprefix("served "): certificates.parse(text.encode(), key)
            for section, text in sections.items()
            if section.startswith("served ")
        },
        is_renewed=acme.order(site) is not None,
        at_certbot=certificates.parse(sections.get("lineage", "").encode(), key),
        next_try=_moment(next_try) if next_try else None,
        outcome=RenewalResult(
            when=_moment(result[0]), has_failed=result[1] != "served", why=result[2]
        )
        if is_result
        else None,
        is_unit_failed=sections.get("unit", "").strip() == "failed",
        failures=tuple(dict.fromkeys(sections.get("failures", "").split())),
        kamailio=sections.get("kamailio", "").strip(),
        turn=str(site.turn.tls) if site.turn else "",
        page=str(site.phone.port) if site.phone else "",
    )


def _moment(seconds: str) -> dt.datetime:
    return dt.datetime.fromtimestamp(number(seconds, 0), dt.UTC)


def renew(host: Host, order: Order, *, is_test: bool) -> None:
    """Make certbot renew now, or rehearse it; HostFailed (SD610) explains a refusal."""
    server = order.server if order.server != acme.LETSENCRYPT else ""
    sections = ask(
        host,
        ("renew", "test" if is_test else "renew", acme.lineage(order.domain), server),
        ("SD611", "there is no certificate to renew", f"get one: `sipdeploy apply {host.name}`"),
        timeout_seconds=RENEW_SECONDS,
    )
    if "done" not in sections:
        raise refused(host.name, order, sections)


def problems(serving: Serving, least_days: int) -> list[Diagnostic]:
    """The problems of the served certificates; they must be valid for `least_days` more days."""
    return [
        *_disk(serving),
        *_ports_astray(serving),
        *_age(serving, least_days),
        *_renewal(serving),
    ]


def _disk(serving: Serving) -> Iterator[Diagnostic]:
    fix = f"run `sipdeploy apply {serving.host}`"
    if serving.on_disk is None:
        yield Diagnostic(
            "SD620", f"`{serving.host}` has no certificate in {certificates.PATH}", help=fix
        )
    elif not serving.on_disk.key_matches:
        message = f"the key on `{serving.host}` does not belong to {certificates.PATH}"
        yield Diagnostic("SD620", message, help=fix)
    elif not serving.on_disk.covers(serving.domain):
        message = f"the certificate on `{serving.host}` is not for `{serving.domain}`"
        yield Diagnostic("SD620", message, help=fix)
    for reason in serving.on_disk.faults if serving.on_disk else ():
        message = f"browsers refuse the certificate on `{serving.host}`: {reason}"
        yield Diagnostic("SD609", message, help=f"{fix}, which says what to change")


def _ports_astray(serving: Serving) -> Iterator[Diagnostic]:
    desired = serving.on_disk.fingerprint if serving.on_disk else ""
    for address, served in serving.served.items():
        port = f"port {_number(address)} on `{serving.host}`"
        if served is None:
            yield Diagnostic(
                "SD621",
                f"{port} {_silence(serving, address)}, so the certificate that phones get is not "
                "known",
                help=f"on `{serving.host}`: `journalctl -b -u {_daemon(serving, address)}` shows "
                "why",
            )
        elif served.fingerprint != desired:
            yield Diagnostic(
                "SD621",
                f"{port} serves a certificate other than {certificates.PATH}",
                help=f"on `{serving.host}`: run `{_reload(serving, address)}`",
            )


def _number(address: str) -> str:
    return address.rpartition(":")[2]


def _daemon(serving: Serving, address: str) -> str:
    """The unit that serves a port."""
    units = {serving.turn: "coturn", serving.page: "sipdeploy-nginx"}
    return units.get(_number(address), "kamailio")


def _reload(serving: Serving, address: str) -> str:
    unit = _daemon(serving, address)
    return "kamcmd tls.reload" if unit == "kamailio" else f"systemctl reload {unit}"


USES = {
    "kamailio": "wss, for phones",
    "coturn": "turns, the relay",
    "sipdeploy-nginx": "https, the web phone",
}


def _silence(serving: Serving, address: str) -> str:
    """Why a port serves nothing."""
    if serving.kamailio == "active" or _daemon(serving, address) != "kamailio":
        return "serves no certificate"
    return f"does not answer, because Kamailio does not run (systemd: {serving.kamailio})"


def _age(serving: Serving, least_days: int) -> Iterator[Diagnostic]:
    if serving.days_left is not None and serving.days_left < least_days:
        apply = f"replace the file if it is yours, then run `sipdeploy apply {serving.host}`"
        fix = f"run `sipdeploy cert {serving.host} --renew`" if serving.is_renewed else apply
        left = f"{count(serving.days_left, 'day')} left, {least_days} required"
        yield Diagnostic(
            "SD622", f"the certificate of `{serving.host}` expires soon: {left}", help=fix
        )


def _renewal(serving: Serving) -> Iterator[Diagnostic]:
    if not serving.is_renewed:
        return
    fix = f"fix this, then run `systemctl start certbot` on `{serving.host}`"
    if serving.outcome and serving.outcome.has_failed:
        when = f"{serving.outcome.when:%Y-%m-%d %H:%M} UTC"
        message = f"a new certificate could not be activated on `{serving.host}` at {when}"
        yield Diagnostic("SD623", f"{message}: {serving.outcome.why}", help=fix)
    elif (
        serving.at_certbot
        and serving.on_disk
        and serving.at_certbot.fingerprint != serving.on_disk.fingerprint
    ):
        message = f"certbot on `{serving.host}` has a certificate that is not the one in use"
        fix = f"on `{serving.host}`: run `systemctl start certbot`"
        yield Diagnostic("SD623", message, help=fix)
    elif serving.is_unit_failed:
        yield _failed_run(serving)
    if serving.next_try is None:
        message = (
            f"nothing renews the certificate of `{serving.host}`: certbot.timer is not active"
        )
        yield Diagnostic("SD624", message, help=f"run `sipdeploy apply {serving.host}`")


def _failed_run(serving: Serving) -> Diagnostic:
    """SD624: an error for sipdeploy's lineage, a warning for those of others.

    Without names in the journal it may be sipdeploy's.
    """
    message = f"the last run of certbot on `{serving.host}` failed"
    others = [name for name in serving.failures if name != acme.lineage(serving.domain)]
    fix = f"on `{serving.host}`: `journalctl -u certbot` shows why"
    if not others or len(others) < len(serving.failures):
        notes = (f"it failed for {listed(others)} too",) if others else ()
        return Diagnostic("SD624", message, notes=notes, help=fix)
    return Diagnostic(
        "SD624",
        f"{message} for {listed(others)}, which sipdeploy does not manage",
        severity="warning",
        help=f"{fix}; `certbot delete --cert-name {others[0]}` removes what nobody needs",
    )


def as_text(serving: Serving) -> str:
    """The certificate, the ports that serve it, issuer and expiry, the next renewal, as text."""
    shown = serving.on_disk
    lines = [f"{serving.host}  {serving.domain}"]
    lines.append(f"  file        {certificates.PATH}{'' if shown else ': no certificate'}")
    if shown:
        lines.append(f"  SHA-256     {shown.pairs}  (as in Firefox)")
        lines.append(f"              {shown.fingerprint}  (as in Chromium)")
    for address, served in serving.served.items():
        use = USES[_daemon(serving, address)]
        lines.append(f"  port {_number(address):<6} {_served(serving, address, served)}")
        lines[-1] += f" ({use}; asked on the host at {address})"
    if shown:
        lines.append(f"  issued by   {shown.issuer}")
        left = f"{count(serving.days_left or 0, 'day')} left"
        if not any(serving.served.values()):
            left += " for the file; no port could be asked"
        lines.append(f"  expires     {shown.not_after:%Y-%m-%d %H:%M} UTC, {left}")
    if serving.next_try:
        lines.append(f"  next check  {serving.next_try:%Y-%m-%d %H:%M} UTC, by certbot.timer")
    if serving.outcome:
        how = f"failed: {serving.outcome.why}" if serving.outcome.has_failed else "served"
        lines.append(f"  last hook   {serving.outcome.when:%Y-%m-%d %H:%M} UTC, {how}")
    return "\n".join(lines)


def _served(serving: Serving, address: str, served: Certificate | None) -> str:
    if served is None:
        return _silence(serving, address)
    if serving.on_disk and served.fingerprint == serving.on_disk.fingerprint:
        return "serves it"
    return f"serves another: {served.pairs}, until {served.not_after:%Y-%m-%d %H:%M} UTC"


def as_data(serving: Serving, problems: list[Diagnostic]) -> dict[str, Any]:
    """The same as data for JSON; times are in ISO 8601."""
    shown, outcome = serving.on_disk, serving.outcome
    return {
        "host": serving.host,
        "domain": serving.domain,
        "fingerprint": shown.fingerprint if shown else None,
        "issuer": shown.issuer if shown else None,
        "expires": shown.not_after.isoformat() if shown else None,
        "days_left": serving.days_left,
        "served": {port: c.fingerprint if c else None for port, c in serving.served.items()},
        "next_check": serving.next_try.isoformat() if serving.next_try else None,
        "last_hook": {
            "when": outcome.when.isoformat(),
            "has_failed": outcome.has_failed,
            "why": outcome.why,
        }
        if outcome
        else None,
        "kamailio": serving.kamailio,
        "problems": [each.message for each in problems if each.severity == "error"],
        "warnings": [each.message for each in problems if each.severity != "error"],
    }
