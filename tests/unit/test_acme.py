"""Requests to an ACME server, their conditions, and the meaning of its refusals."""

import dataclasses
import datetime as dt
from types import SimpleNamespace

import pytest
from cryptography import x509
from fakes import FakeHost
from test_judged_certificates import leaf

from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import Result
from sipdeploy.inventory.site import load_site
from sipdeploy.services import acme
from sipdeploy.services.certificates import Certificate
from sipdeploy.transaction.certificate import Issue, refused
from sipdeploy.transaction.lock import Owner

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
        ("urn:ietf:params:acme:error:caa", "CAA"),
        ("urn:ietf:params:acme:error:badNonce", "bad nonces"),
        ("urn:ietf:params:acme:error:rejectedIdentifier", "policy"),
        ("certbot.errors.PluginError\ncertbot.errors.StandaloneBindError", "another program"),
        ("certbot.errors.PluginError: no\n", "plugin"),
        ("urn:ietf:params:acme:error:connection", "reach port 80"),
        ("requests.exceptions.SSLError", "does not trust"),
        ("requests.exceptions.ConnectionError", "cannot reach the ACME server"),
        # a challenge that failed, and an account that was deactivated
        (
            "certbot.errors.AuthorizationError\nurn:ietf:params:acme:error:unauthorized",
            "wrong answer",
        ),
        ("acme.messages.Error\nurn:ietf:params:acme:error:unauthorized", "certbot's account"),
        # a request that was repeated is not the reason
        ("urn:ietf:params:acme:error:badNonce\nurn:ietf:params:acme:error:dns", "in the DNS"),
        ("something new", ""),
        ("Timeout during connect (likely firewall problem), or dns", ""),
    ],
)
def test_a_refusal_is_explained_by_its_kind(said, told):
    meaning, mend = acme.meaning(said, acme.order(site()))
    assert told in meaning
    assert bool(meaning) == bool(mend)


@pytest.mark.parametrize(
    ("account", "shown"),
    [
        ("/etc/letsencrypt/accounts/x/directory/a1", "/etc/letsencrypt/accounts/x/directory/a1"),
        ("a1", "/etc/letsencrypt/accounts/acme-v02.api.letsencrypt.org/directory/a1"),
        (
            "/x/a1\n/x/a2",
            "/etc/letsencrypt/accounts/acme-v02.api.letsencrypt.org/directory/ACCOUNT",
        ),
    ],
)
def test_an_account_that_the_server_does_not_know_is_named(account, shown):
    kind = "urn:ietf:params:acme:error:accountDoesNotExist"
    sections = {"refused": "An unexpected error", "kinds": kind, "account": f"{account}\n"}
    (problem,) = refused("sip1", acme.order(site()), sections).diagnostics
    assert f"`mv {shown} /root/`" in problem.help
    assert "does not know certbot's account" in problem.message


def test_defaults_of_certbot_that_spoil_a_certificate():
    text = """\
/etc/letsencrypt/cli.ini:2:must-staple = True
/etc/letsencrypt/cli.ini:3:must-staple = false
/etc/letsencrypt/cli.ini:4:  --must-staple
/etc/letsencrypt/cli.ini:5:must-staple-not = yes
/root/.config/letsencrypt/cli.ini:1:elliptic-curve: secp521r1 # strong
/root/.config/letsencrypt/cli.ini:2:elliptic-curve=secp384r1
/root/.config/letsencrypt/cli.ini:3:elliptic-curve = two words
garbage
"""
    assert [(code, line) for code, _, _, line in acme.bad_defaults(text)] == [
        ("SD616", "2"),
        ("SD616", "4"),
        ("SD609", "1"),
    ]


def test_a_certificate_that_browsers_refuse_is_not_enough():
    bad = dataclasses.replace(lineage().certificate, faults=("it demands",))
    held = dataclasses.replace(lineage(), certificate=bad)
    assert not held.answers(acme.order(site()), NOW.timestamp())


def test_what_certbot_has_got_is_judged_before_it_is_used():
    staple = x509.TLSFeature([x509.TLSFeatureType.status_request])
    chain = leaf(extensions=(staple,)).pem
    host = FakeHost(answers={"issue": Result(status=0, stdout=b"\x1eissued\n" + chain)})
    order = dataclasses.replace(acme.order(site()), domain="sip.example.test")
    plan = SimpleNamespace(desired=SimpleNamespace(files=()))
    issue = Issue(owner=Owner(name="me", purpose="apply"), plan=plan, order=order)
    with pytest.raises(HostFailed) as failed:
        issue.run(host, lambda _: None)
    assert [problem.code for problem in failed.value.diagnostics] == ["SD616"]
    good = Result(status=0, stdout=b"\x1eissued\n" + leaf().pem)
    host = FakeHost(answers={"issue": good})
    issue.run(host, lambda _: None)
    words = host.asked[0]
    assert order.accounts in words
    assert words[words.index("--elliptic-curve") + 1] == "secp256r1"


def test_last_lines_are_without_what_certbot_always_says():
    said = "Saving debug log to /var/log/x\n\nDetail: no\nAsk for help or search ...\n"
    assert acme.last_lines(said) == ("Detail: no",)


def test_dns_records_are_read_with_those_that_are_not_there():
    text = "A x.example\nA x.example 192.0.2.1\nA x.example 192.0.2.2\nCAA example\n"
    assert acme.records(text) == {"A x.example": ("192.0.2.1", "192.0.2.2"), "CAA example": ()}
