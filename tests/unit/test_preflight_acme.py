"""Obstacles to a certificate, reported before the request to the ACME server."""

import dataclasses

import pytest
from hosts_facts import recorded
from test_acme import DOMAIN, site

from sipdeploy.facts import Socket
from sipdeploy.plan.preflight import acme

OWN = "203.0.113.10"
POINTS = {f"A {DOMAIN}": (OWN,), f"AAAA {DOMAIN}": ()}


def problems(tls="", *, records=POINTS, **facts):
    found = dataclasses.replace(recorded("bookworm-bare", records=records, sockets=()), **facts)
    wanted = site(f"provider: letsencrypt{tls}")
    return list(acme.problems(wanted, "sip1", found))


def codes(*arguments, **facts):
    return [problem.code for problem in problems(*arguments, **facts)]


WEB = Socket(proto="tcp", address="*", port=80, program="nginx", pid=7)


def test_nothing_stands_in_the_way():
    assert problems() == []
    assert problems(", webroot: /srv/www", sockets=(WEB,)) == []


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ({f"A {DOMAIN}": (), f"AAAA {DOMAIN}": ()}, "no address"),
        ({f"A {DOMAIN}": ("192.0.2.1",), f"AAAA {DOMAIN}": ()}, "`192.0.2.1`"),
        ({f"A {DOMAIN}": (OWN,), f"AAAA {DOMAIN}": ("2001:db8::1",)}, "`2001:db8::1`"),
    ],
)
def test_the_domain_points_elsewhere(records, said):
    (problem,) = problems(records=records)
    assert problem.code == "SD612"
    assert said in problem.message
    assert problems(", challenge: dns-01, dns_plugin: rfc2136", records=records) == []


@pytest.mark.parametrize("address", ["127.0.1.1", "127.0.0.1"])
def test_a_name_server_that_answers_from_the_hosts_file_proves_nothing(address):
    assert problems(records={f"A {DOMAIN}": (address,), f"AAAA {DOMAIN}": ()}) == []


def test_a_name_server_that_does_not_answer_proves_nothing():
    assert problems(records={f"A {DOMAIN}": (OWN,)}) == []
    assert problems(records={}) == []


def test_port_80_is_taken_or_nobody_is_there():
    (problem,) = problems(sockets=(WEB,))
    assert "`nginx` (pid 7)" in problem.message
    assert codes(", webroot: /srv/www") == ["SD613"]


def test_defaults_of_certbot_are_named_with_the_edit():
    bad = (
        ("SD616", "must-staple", "/etc/letsencrypt/cli.ini", "2"),
        ("SD609", "elliptic-curve = secp521r1", "/etc/letsencrypt/cli.ini", "7"),
    )
    staple, curve = problems(certbot_defaults=bad)
    assert (staple.code, staple.severity) == ("SD616", "error")
    assert staple.help == "on `sip1`: `sed -i '/^[ -]*must-staple/d' /etc/letsencrypt/cli.ini`"
    assert (curve.code, curve.severity) == ("SD609", "warning")
    later = problems(certbot_defaults=bad, records={}, lineage=object())
    assert [problem.severity for problem in later] == ["warning", "warning"]


@pytest.mark.parametrize(
    ("caa", "is_allowed"),
    [
        ({}, True),
        ({"CAA example.com": ("0 issue letsencrypt.org",)}, True),
        ({"CAA example.com": ("0 iodef mailto:a@example.com",)}, True),
        ({"CAA example.com": ("0 issue letsencrypt.org; validationmethods=dns-01",)}, True),
        ({"CAA example.com": ("0 issue other.example", "0 ISSUE LetsEncrypt.org")}, True),
        ({"CAA example.com": ("0 issue ;",)}, False),
        ({"CAA example.com": ("0 issue other.example",)}, False),
        # the nearest CAA records apply
        (
            {
                f"CAA {DOMAIN}": ("0 issue letsencrypt.org",),
                "CAA example.com": ("0 issue other.example",),
            },
            True,
        ),
    ],
)
def test_caa_records(caa, is_allowed):
    assert codes(records={**POINTS, **caa}) == ([] if is_allowed else ["SD615"])
    other = ', server: "https://acme.example.com/dir"'
    assert codes(other, records={**POINTS, **caa}) == []


def test_a_host_that_has_its_certificate_is_not_asked():
    found = recorded("bookworm-bare", records={}, sockets=(WEB,), lineage=object())
    assert list(acme.problems(site(), "sip1", found)) == []
