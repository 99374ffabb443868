"""Requests to an ACME server, their conditions, and the meaning of its refusals."""

import datetime as dt

import pytest

from sipdeploy.inventory.site import load_site
from sipdeploy.services import acme
from sipdeploy.services.certificates import Certificate

DOMAIN = "sip.example.com"
NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)


def site(tls="provider: letsencrypt"):
    text = f"domain: {DOMAIN}\nemail: a@b.example\nhosts: {{sip1: {{address: 203.0.113.10}}}}\n"
    found, problems, _ = load_site(f"{text}users: {{}}\ntls: {{{tls}}}\n", "inventory.yaml")
    assert found, problems
    return found


def lineage(*, days=60, names=(DOMAIN,), **settings):
    held = Certificate(
        names=names,
        not_before=NOW - dt.timedelta(days=90 - days),
        not_after=NOW + dt.timedelta(days=days),
        key_matches=True,
    )
    settings = {"server": acme.LETSENCRYPT, "authenticator": "standalone", **settings}
    return acme.Lineage(certificate=held, digest="", settings=settings)


def test_only_an_acme_provider_orders():
    assert acme.order(site("provider: self-signed")) is None
    assert acme.order(site()).server == acme.LETSENCRYPT


@pytest.mark.parametrize(
    ("tls", "wanted"),
    [
        ("", ("--authenticator", "standalone")),
        (", webroot: /srv/www", ("--authenticator", "webroot", "--webroot-path", "/srv/www")),
        (
            ", challenge: dns-01, dns_plugin: rfc2136, dns_credentials: dns.ini, dns_wait: 7",
            (
                *("--authenticator", "dns-rfc2136"),
                *("--dns-rfc2136-credentials", acme.CREDENTIALS),
                *("--dns-rfc2136-propagation-seconds", "7"),
            ),
        ),
        (", challenge: dns-01, dns_plugin: route53", ("--authenticator", "dns-route53")),
    ],
)
def test_certbot_is_told_how_the_domain_is_proved(tls, wanted):
    words = acme.order(site(f"provider: letsencrypt{tls}")).arguments()
    assert words[-len(wanted) :] == wanted
    assert "--no-directory-hooks" in words, "the transaction makes it live, not a hook"
    assert "--non-interactive" in words


@pytest.mark.parametrize(
    ("held", "is_enough"),
    [
        (lineage(), True),
        (lineage(days=23), True),
        (lineage(days=22), False),
        (lineage(names=("other.example.com",)), False),
        (lineage(server="https://acme.example.com/dir"), False),
        (lineage(authenticator="webroot", webroot_path="/srv/www,"), False),
    ],
)
def test_what_certbot_holds_is_enough_or_not(held, is_enough):
    assert held.answers(acme.order(site()), NOW.timestamp()) is is_enough


def test_a_webroot_is_recognized_as_certbot_writes_it():
    order = acme.order(site("provider: letsencrypt, webroot: /srv/www"))
    held = lineage(authenticator="webroot", webroot_path="/srv/www,")
    assert held.answers(order, NOW.timestamp())


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("urn:ietf:params:acme:error:rateLimited", "rate limit"),
        ("too many certificates already issued for this exact set of identifiers", "rate limit"),
        ("urn:ietf:params:acme:error:caa", "CAA"),
        ("urn:ietf:params:acme:error:badNonce", "bad nonces"),
        ("urn:ietf:params:acme:error:rejectedIdentifier", "policy"),
        ("Could not bind TCP port 80 because it is already in use", "another program"),
        (
            "Detail: 203.0.113.10: Timeout during connect (likely firewall problem)",
            "reach port 80",
        ),
        ("something new", ""),
    ],
)
def test_a_refusal_is_explained(said, told):
    meaning, mend = acme.meaning(said)
    assert told in meaning
    assert bool(meaning) == bool(mend)


def test_last_lines_are_without_what_certbot_always_says():
    said = "Saving debug log to /var/log/x\n\nDetail: no\nAsk for help or search ...\n"
    assert acme.last_lines(said) == ("Detail: no",)


def test_dns_records_are_read_with_those_that_are_not_there():
    text = "A x.example\nA x.example 192.0.2.1\nA x.example 192.0.2.2\nCAA example\n"
    assert acme.records(text) == {"A x.example": ("192.0.2.1", "192.0.2.2"), "CAA example": ()}
