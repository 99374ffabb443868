"""What a host serves and how its renewal stands: asked in one exchange, judged purely."""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sipdeploy.diagnostics import Diagnostic
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
    """How the last attempt ended to make a new certificate live; `why` where it failed."""

    when: dt.datetime
    has_failed: bool
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """The certificate of a host: on its disk, on each port, at certbot, and when it is renewed."""

    host: str
    domain: str
    now: dt.datetime
    on_disk: Certificate | None
    served: Mapping[str, Certificate | None]  # by ADDRESS:PORT
    is_renewed: bool
    held: Certificate | None = None
    next_try: dt.datetime | None = None
    outcome: RenewalResult | None = None
    is_unit_failed: bool = False

    @property
    def days_left(self) -> int:
        """Until the first of the served certificates ends; 0 where none is served."""
        ends = [found.not_after for found in self.served.values() if found]
        return int((min(ends) - self.now).total_seconds() // DAY_SECONDS) if ends else 0


def read(host: Host, site: Site) -> Serving:
    """Ask the host; HostFailed when it does not tell."""
    order = acme.order(site)
    lineage = acme.lineage(site.domain) if order else ""
    paths = (certificates.PATH, certificates.KEY_PATH)
    words = ("cert", STATE, site.domain, *paths, " ".join(_ports(host.name, site)), lineage)
    found = ask(host, words, ("SD509", "the certificate cannot be asked for"))
    return parse(host.name, site, found)


def _ports(name: str, site: Site) -> Iterator[str]:
    """Every port that speaks TLS, as openssl takes it."""
    for port in ports(site, site.hosts[name]):
        if port.protocol == "tcp":
            yield f"{url_host(port)}:{port.number}"


def parse(name: str, site: Site, found: Mapping[str, str]) -> Serving:
    """Make the value of the sections that the script printed."""
    key = found.get("key", "").encode()
    result = found.get("result", "").rstrip("\n").split("\t")
    next_try = found.get("next", "").strip()
    is_result = len(result) == 3 and result[0].isdigit()  # noqa: PLR2004 - when, how, why
    return Serving(
        host=name,
        domain=site.domain,
        now=_moment(found.get("clock", "")),
        on_disk=certificates.parse(found.get("certificate", "").encode(), key),
        served={
            section.removeprefix("served "): certificates.parse(text.encode(), key)
            for section, text in found.items()
            if section.startswith("served ")
        },
        is_renewed=acme.order(site) is not None,
        held=certificates.parse(found.get("lineage", "").encode(), key),
        next_try=_moment(next_try) if next_try else None,
        outcome=RenewalResult(
            when=_moment(result[0]), has_failed=result[1] != "served", why=result[2]
        )
        if is_result
        else None,
        is_unit_failed=found.get("unit", "").strip() == "failed",
    )


def _moment(seconds: str) -> dt.datetime:
    return dt.datetime.fromtimestamp(number(seconds, 0), dt.UTC)


def renew(host: Host, order: Order, *, is_test: bool) -> None:
    """Have certbot renew now, or rehearse it; HostFailed tells what a refusal means."""
    server = order.server if order.server != acme.LETSENCRYPT else ""
    found = ask(
        host,
        ("renew", "test" if is_test else "renew", acme.lineage(order.domain), server),
        ("SD611", "nothing can be renewed", f"`sipdeploy apply {host.name}` gets the first one"),
        timeout_seconds=RENEW_SECONDS,
    )
    if "done" not in found:
        raise refused(host.name, order, found.get("refused", ""))


def problems(found: Serving, least_days: int) -> list[Diagnostic]:
    """Everything that somebody should see to; `least_days` is how long it must still be valid."""
    return [*_disk(found), *_ports_astray(found), *_age(found, least_days), *_renewal(found)]


def _disk(found: Serving) -> Iterator[Diagnostic]:
    mend = f"`sipdeploy apply {found.host}`"
    if found.on_disk is None:
        yield Diagnostic(
            "SD620", f"`{found.host}` has no certificate in {certificates.PATH}", help=mend
        )
    elif not found.on_disk.key_matches:
        message = f"the key on `{found.host}` is not that of {certificates.PATH}"
        yield Diagnostic("SD620", message, help=mend)
    elif not found.on_disk.covers(found.domain):
        message = f"the certificate on `{found.host}` is not for `{found.domain}`"
        yield Diagnostic("SD620", message, help=mend)


def _ports_astray(found: Serving) -> Iterator[Diagnostic]:
    wanted = found.on_disk.fingerprint if found.on_disk else ""
    for port, served in found.served.items():
        if served is None:
            yield Diagnostic(
                "SD621",
                f"{port} on `{found.host}` serves no certificate",
                help=f"on `{found.host}`: `journalctl -b -u kamailio` tells why",
            )
        elif served.fingerprint != wanted:
            yield Diagnostic(
                "SD621",
                f"{port} on `{found.host}` serves another certificate than {certificates.PATH}",
                help=f"on `{found.host}`: `kamcmd tls.reload`",
            )


def _age(found: Serving, least_days: int) -> Iterator[Diagnostic]:
    if any(found.served.values()) and found.days_left < least_days:
        mend = f"`sipdeploy cert {found.host} --renew`" if found.is_renewed else "renew it"
        left = f"{found.days_left} days left, {least_days} are wanted"
        yield Diagnostic(
            "SD622", f"the certificate of `{found.host}` expires soon: {left}", help=mend
        )


def _renewal(found: Serving) -> Iterator[Diagnostic]:
    if not found.is_renewed:
        return
    again = f"mend that, then on `{found.host}`: `systemctl start certbot` tries again"
    if found.outcome and found.outcome.has_failed:
        when = f"{found.outcome.when:%Y-%m-%d %H:%M} UTC"
        message = f"a new certificate could not be made live on `{found.host}` at {when}"
        yield Diagnostic("SD623", f"{message}: {found.outcome.why}", help=again)
    elif found.held and found.on_disk and found.held.fingerprint != found.on_disk.fingerprint:
        message = f"certbot on `{found.host}` holds another certificate than the one in use"
        yield Diagnostic("SD623", message, help=f"on `{found.host}`: `systemctl start certbot`")
    elif found.is_unit_failed:
        message = f"the last run of certbot on `{found.host}` failed"
        yield Diagnostic(
            "SD624", message, help=f"on `{found.host}`: `journalctl -u certbot` tells why"
        )
    if found.next_try is None:
        message = f"nothing renews the certificate of `{found.host}`: certbot.timer does not run"
        yield Diagnostic("SD624", message, help=f"`sipdeploy apply {found.host}`")


def as_text(found: Serving) -> str:
    """For people: what is served where, by whom issued, until when, and what comes next."""
    lines = [f"{found.host}  {found.domain}"]
    for port, served in found.served.items():
        lines.append(f"  served      {port}  {served.fingerprint if served else 'nothing'}")
    shown = found.on_disk
    if shown:
        lines.append(f"  issued by   {shown.issuer}")
        lines.append(
            f"  expires     {shown.not_after:%Y-%m-%d %H:%M} UTC, {found.days_left} days left"
        )
    if found.next_try:
        lines.append(f"  next check  {found.next_try:%Y-%m-%d %H:%M} UTC, by certbot.timer")
    if found.outcome:
        how = f"failed: {found.outcome.why}" if found.outcome.has_failed else "served"
        lines.append(f"  last hook   {found.outcome.when:%Y-%m-%d %H:%M} UTC, {how}")
    return "\n".join(lines)


def as_data(found: Serving, told: list[Diagnostic]) -> dict[str, Any]:
    """The same for machines; times are ISO 8601."""
    shown, outcome = found.on_disk, found.outcome
    return {
        "host": found.host,
        "domain": found.domain,
        "fingerprint": shown.fingerprint if shown else None,
        "issuer": shown.issuer if shown else None,
        "expires": shown.not_after.isoformat() if shown else None,
        "days_left": found.days_left,
        "served": {port: c.fingerprint if c else None for port, c in found.served.items()},
        "next_check": found.next_try.isoformat() if found.next_try else None,
        "last_hook": {
            "when": outcome.when.isoformat(),
            "has_failed": outcome.has_failed,
            "why": outcome.why,
        }
        if outcome
        else None,
        "problems": [problem.message for problem in told],
    }
