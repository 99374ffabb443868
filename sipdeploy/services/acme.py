"""The certificate request to an ACME server, certbot's lineage, and the meaning of errors. Pure.

certbot calls a certificate and its renewals a lineage (its manual, "Where are my certificates?").
sipdeploy's lineage is named after the domain, so a change of the domain keeps the old lineage.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sipdeploy.inventory.site import Site
from sipdeploy.services.certificates import Certificate, parse

LETSENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
LETSENCRYPT_HOSTS = ".api.letsencrypt.org/directory"  # the staging server too
CAA_NAME = "letsencrypt.org"  # as a CAA record names it (RFC 8659; letsencrypt.org/docs/caa)
SCRIPT = "/etc/sipdeploy/certificate.sh"
ROOT = "/etc/sipdeploy/acme-root.pem"
CREDENTIALS = "/etc/sipdeploy/dns.ini"
LINEAGES = "/etc/letsencrypt/live"
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

    def arguments(self) -> tuple[str, ...]:
        """The arguments of `certbot`: unattended, and without directory hooks.

        The transaction puts this certificate into use; hooks do so after each renewal.
        """
        argv = (
            *("certonly", "--non-interactive", "--agree-tos", "--no-eff-email"),
            *("--email", self.email, "--server", self.server, "--key-type", "ecdsa"),
            *("--cert-name", lineage(self.domain), "--domain", self.domain),
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
        return same and in_time and certificate.key_matches and certificate.covers(wanted.domain)


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


def records(text: str) -> dict[str, tuple[str, ...]]:
    """Read DNS records: `TYPE NAME` -> data, empty if the name has no such record."""
    records: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        fields = line.split(" ", 2)
        key = " ".join(fields[:2])
        records[key] = (*records.get(key, ()), *fields[2:])
    return records


# Pattern in the output of certbot, meaning, fix. The error types are those of RFC 8555, section
# 6.7; the other patterns are messages of certbot.
_MEANINGS: Sequence[tuple[str, str, str]] = (
    (
        r"error:rateLimited|too many (certificates|failed|registrations|new orders)",
        "the ACME server's rate limit for this domain is reached",
        "wait until the time that it names, then apply again; letsencrypt.org/docs/rate-limits",
    ),
    (
        r"error:caa|CAA record",
        "a CAA record in the DNS forbids this ACME server",
        "add its name to the CAA records of the domain, or remove them",
    ),
    (
        r"error:rejectedIdentifier|not issue for|policy forbids",
        "the policy of the ACME server does not allow a certificate for this domain",
        "correct `domain`, or set `tls.server` to another ACME server",
    ),
    (
        r"error:dns|NXDOMAIN|no valid A records|No valid IP",
        "the ACME server does not find the domain in the DNS",
        "create an A (or AAAA) record for the domain that points at this host",
    ),
    (
        r"Could not bind TCP port 80|Problem binding to port 80",
        "another program listens on port 80 of the host",
        "stop it (`ss -ltnp sport = :80` shows it), or set `tls.webroot` to its directory",
    ),
    (
        r"error:connection|Timeout during connect|connection refused|likely firewall",
        "the ACME server cannot reach port 80 of the host",
        "open TCP port 80 in every firewall on the way, or use `challenge: dns-01`",
    ),
    (
        r"error:(unauthorized|incorrectResponse)",
        "the ACME server got a wrong answer to the challenge",
        "point the domain at this host alone (A and AAAA), and check what answers on port 80",
    ),
    (
        r"error:badNonce",
        "the ACME server refused several requests in a row as out of date (bad nonces)",
        "apply again; if the error persists, the ACME server itself is at fault",
    ),
    (
        r"error:(invalidEmail|invalidContact|unsupportedContact)",
        "the ACME server does not accept the account's e-mail address",
        "correct `email`",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed",
        "the host does not trust the certificate of the ACME server itself",
        "set `tls.ca_bundle` to its root certificate, or correct `tls.server`",
    ),
    (
        r"(ConnectionError|Max retries exceeded|Failed to establish|NameResolutionError)",
        "the host cannot reach the ACME server",
        "allow HTTPS from the host to it, or correct `tls.server`",
    ),
    (
        r"dns-\S+ plugin|does not appear to be installed|errors\.PluginError",
        "the DNS plugin of certbot failed",
        "correct `tls.dns_plugin` and the file of `tls.dns_credentials`; see the plugin's manual",
    ),
)


def meaning(output: str) -> tuple[str, str]:
    """The meaning of certbot's output and the fix; two empty texts if it is unknown."""
    for pattern, reason, fix in _MEANINGS:
        if re.search(pattern, output, re.IGNORECASE):
            return reason, fix
    return "", ""


def last_lines(output: str) -> tuple[str, ...]:
    """The last six lines of certbot's output, without its standard phrases."""
    noise = ("Saving debug log", "Ask for help", "See the logfile", "Certbot failed", "- - - -")
    lines = [line.strip() for line in output.splitlines()]
    return tuple(line for line in lines if line and not line.startswith(noise))[-6:]
