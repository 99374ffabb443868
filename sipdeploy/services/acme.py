"""The certificate request to an ACME server, certbot's lineage, and the meaning of errors. Pure.

certbot calls a certificate and its renewals a lineage (its manual, "Where are my certificates?").
sipdeploy's lineage is named after the domain, so a change of the domain keeps the old lineage.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sipdeploy.inventory.site import Site
from sipdeploy.services import certificates
from sipdeploy.services.certificates import Certificate, parse

LETSENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
LETSENCRYPT_HOSTS = ".api.letsencrypt.org/directory"  # the staging server too
CAA_NAME = "letsencrypt.org"  # as a CAA record names it (RFC 8659; letsencrypt.org/docs/caa)
SCRIPT = "/etc/sipdeploy/certificate.sh"
ROOT = "/etc/sipdeploy/acme-root.pem"
CREDENTIALS = "/etc/sipdeploy/dns.ini"
LINEAGES = "/etc/letsencrypt/live"
ACCOUNTS = "/etc/letsencrypt/accounts"
RENEWALS = "/etc/letsencrypt/renewal"  # certbot renews each lineage that has a NAME.conf here
# certbot renews when a third of the lifetime is left. At a quarter, renewal has failed for weeks.
OVERDUE = 0.25


def lineage(domain: str) -> str:
    """The name of certbot's lineage for a domain."""
    return f"sipdeploy-{domain}"


def renewal(domain: str) -> str:
    """The path of certbot's renewal configuration for a domain."""
    return f"{RENEWALS}/{lineage(domain)}.conf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A certificate request to an ACME server, and the challenge that proves the domain."""

    domain: str
    email: str
    server: str
    challenge: str
    webroot: str = ""
    dns_plugin: str = ""
    dns_wait: int = 0
    has_credentials: bool = False
    has_root: bool = False

    @property
    def is_standalone(self) -> bool:
        """Whether certbot's own web server answers the challenge on port 80."""
        return self.challenge == "http-01" and not self.webroot

    @property
    def authenticator(self) -> str:
        """The plugin of certbot for the challenge."""
        if self.challenge == "dns-01":
            return f"dns-{self.dns_plugin}"
        return "webroot" if self.webroot else "standalone"

    @property
    def accounts(self) -> str:
        """The directory in which certbot keeps its accounts on the server."""
        return f"{ACCOUNTS}/{self.server.partition('://')[2]}"

    def arguments(self) -> tuple[str, ...]:
        """The arguments of `certbot`: unattended, and without directory hooks.

        The transaction puts this certificate into use; hooks do so after each renewal. Arguments
        overrule what the administrator wrote into certbot's cli.ini.
        """
        argv = (
            *("certonly", "--non-interactive", "--agree-tos", "--no-eff-email"),
            *("--email", self.email, "--server", self.server, "--key-type", "ecdsa"),
            *("--cert-name", lineage(self.domain), "--domain", self.domain),
            *("--elliptic-curve", certificates.CURVES[0]),
            *("--preferred-challenges", self.challenge.removesuffix("-01")),
            *("--force-renewal", "--no-directory-hooks"),
            *("--authenticator", self.authenticator),
        )
        return (*argv, *self._proof())

    def _proof(self) -> Iterator[str]:
        name = f"--{self.authenticator}"
        if self.webroot:
            yield from ("--webroot-path", self.webroot)
        if self.has_credentials:
            yield from (f"{name}-credentials", CREDENTIALS)
        if self.challenge == "dns-01" and self.dns_plugin != "route53":  # waits itself
            yield from (f"{name}-propagation-seconds", str(self.dns_wait))


def order(site: Site) -> Order | None:
    """The request of a site; None unless `tls.provider` is `letsencrypt`."""
    tls = site.tls
    if tls.provider != "letsencrypt":
        return None
    is_dns = tls.challenge == "dns-01"
    return Order(
        domain=site.domain,
        email=site.email,
        server=tls.server or LETSENCRYPT,
        challenge=tls.challenge,
        webroot=tls.webroot or "",
        dns_plugin=(tls.dns_plugin or "") if is_dns else "",
        dns_wait=tls.dns_wait if is_dns else 0,
        has_credentials=is_dns and tls.dns_credentials is not None,
        has_root=tls.ca_bundle is not None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """A lineage of certbot: certificate, SHA-256 of its file in hex, renewal settings."""

    certificate: Certificate
    digest: str
    settings: Mapping[str, str]

    def answers(self, wanted: Order, now: float) -> bool:
        """Whether it fulfils the request, is not overdue, and certbot renews it in the same way.

        `now` is in seconds since 1970.
        """
        certificate = self.certificate
        end, begin = certificate.not_after.timestamp(), certificate.not_before.timestamp()
        same = (
            self.settings.get("server") == wanted.server
            and self.settings.get("authenticator") == wanted.authenticator
            and self.settings.get("webroot_path", "").rstrip(",") == wanted.webroot
        )
        in_time = end - now > OVERDUE * (end - begin)
        is_good = certificate.key_matches and not certificate.faults
        return same and in_time and is_good and certificate.covers(wanted.domain)


def parse_lineage(chain: str, public_key: str, renewal: str) -> Lineage | None:
    """The lineage of these files of certbot; None without a readable certificate."""
    certificate = parse(chain.encode(), public_key.encode())
    if certificate is None:
        return None
    # a renewal configuration of certbot: `key = value` below `[renewalparams]`
    pairs = (line.partition("=") for line in renewal.splitlines())
    return Lineage(
        certificate=certificate,
        digest=hashlib.sha256(chain.encode()).hexdigest(),
        settings={key.strip(): value.strip() for key, mark, value in pairs if mark},
    )


# Options of certbot's cli.ini; they hold for every run, also for renewals by the timer.
_OPTION = re.compile(r"\s*(?:--)?([\w-]+)(?:\s*[:=\s]\s*(\S+))?\s*\Z")
_YES = ("true", "yes", "on", "1", "t", "y")


def bad_defaults(text: str) -> Iterator[tuple[str, str, str, str]]:
    """Lines `FILE:LINE:TEXT` of cli.ini with which browsers refuse the certificate.

    Yields code, option, file and line.
    """
    for row in text.splitlines():
        path, number, line = (*row.split(":", 2), "", "")[:3]
        match = _OPTION.match(line.partition("#")[0])
        if not match:
            continue
        option, value = match[1], (match[2] or "true").strip("\"'").lower()
        if option == "must-staple" and value in _YES:
            yield "SD616", option, path, number
        elif option == "elliptic-curve" and value not in certificates.CURVES:
            yield "SD609", f"{option} = {value}", path, number


def records(text: str) -> dict[str, tuple[str, ...]]:
    """Read DNS records: `TYPE NAME` -> data, empty if the name has no such record."""
    records: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        fields = line.split(" ", 2)
        key = " ".join(fields[:2])
        records[key] = (*records.get(key, ()), *fields[2:])
    return records


# The kind of an error, its meaning, and the fix. A kind is a type of RFC 8555, section 6.7, or the
# name of an exception in certbot. If an output has several, the first one here counts.
_MEANINGS: Mapping[str, tuple[str, str]] = {
    "rateLimited": (
        "the ACME server's rate limit for this domain is reached",
        "wait until the time that it names, then apply again; letsencrypt.org/docs/rate-limits",
    ),
    "accountDoesNotExist": (
        "the ACME server does not know certbot's account any more",
        "on the host: `mv {account} /root/`, then apply again: certbot makes a new account",
    ),
    "caa": (
        "a CAA record in the DNS forbids this ACME server",
        "add its name to the CAA records of the domain, or remove them",
    ),
    "rejectedIdentifier": (
        "the policy of the ACME server does not allow a certificate for this domain",
        "correct `domain`, or set `tls.server` to another ACME server",
    ),
    "dns": (
        "the ACME server does not find the domain in the DNS",
        "create an A (or AAAA) record for the domain that points at this host",
    ),
    "StandaloneBindError": (
        "another program listens on port 80 of the host",
        "stop it (`ss -ltnp sport = :80` shows it), or set `tls.webroot` to its directory",
    ),
    "connection": (
        "the ACME server cannot reach port 80 of the host",
        "open TCP port 80 in every firewall on the way, or use `challenge: dns-01`",
    ),
    "unauthorized": (
        "the ACME server got a wrong answer to the challenge",
        "point the domain at this host alone (A and AAAA), and check what answers on port 80",
    ),
    "incorrectResponse": (
        "the ACME server got a wrong answer to the challenge",
        "point the domain at this host alone (A and AAAA), and check what answers on port 80",
    ),
    "invalidEmail": ("the ACME server does not accept the e-mail address", "correct `email`"),
    "invalidContact": ("the ACME server does not accept the e-mail address", "correct `email`"),
    "unsupportedContact": (
        "the ACME server does not accept the e-mail address",
        "correct `email`",
    ),
    "externalAccountRequired": (
        "the ACME server wants an account that it has given you (external account binding)",
        "on the host: `certbot register --server {server} --eab-kid KID --eab-hmac-key KEY`",
    ),
    "AccountNotFound": (
        "the account with which certbot renews the certificate is not on the host any more",
        "on the host: `sed -i '/^account = /d' {renewal}`, then try again",
    ),
    "SSLError": (
        "the host does not trust the certificate of the ACME server itself",
        "set `tls.ca_bundle` to its root certificate, or correct `tls.server`",
    ),
    "ConnectionError": (
        "the host cannot reach the ACME server",
        "allow HTTPS from the host to it, or correct `tls.server`",
    ),
    "PluginError": (
        "the plugin of certbot for the challenge failed",
        "correct `tls.dns_plugin` and the file of `tls.dns_credentials`; see the plugin's manual",
    ),
    "badNonce": (
        "the ACME server refused several requests in a row as out of date (bad nonces)",
        "apply again; if the error persists, the ACME server itself is at fault",
    ),
}
_KIND = re.compile(r"\burn:ietf:params:acme:error:(\w+)|(?<![\w/.])[a-z]\w*(?:\.\w+)*\.([A-Z]\w+)")
_CHALLENGED = {"AuthorizationError", "FailedChallenges"}


def meaning(output: str, order: Order, account: str = "") -> tuple[str, str]:
    """The meaning of the errors of a run of certbot, and the fix; empty if they are unknown.

    `output` has their kinds; `account` is the directory of the account that certbot used.
    """
    kinds = {match[1] or match[2] for match in _KIND.finditer(output)}
    if "unauthorized" in kinds and not kinds & _CHALLENGED:
        kinds.add("accountDoesNotExist")  # deactivated, for example: no challenge was made
    for kind, (reason, fix) in _MEANINGS.items():
        if kind in kinds:
            where = {"account": account or f"{order.accounts}/ACCOUNT", "server": order.server}
            return reason, fix.format(renewal=renewal(order.domain), **where)
    return "", ""


def last_lines(output: str) -> tuple[str, ...]:
    """The last six lines of certbot's output, without its standard phrases."""
    noise = ("Saving debug log", "Ask for help", "See the logfile", "Certbot failed", "- - - -")
    lines = [line.strip() for line in output.splitlines()]
    return tuple(line for line in lines if line and not line.startswith(noise))[-6:]
