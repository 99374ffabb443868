"""The report about the certificate of a host."""

import datetime as dt

import pytest
from test_acme import DOMAIN, NOW, site

from sipdeploy.cli import serving
from sipdeploy.cli.serving import RenewalResult, Serving
from sipdeploy.services.certificates import Certificate


def certificate(days=60, **more):
    return Certificate(
        **{
            "names": (DOMAIN,),
            "not_before": NOW,
            "not_after": NOW + dt.timedelta(days=days),
            "key_matches": True,
            "fingerprint": "aa",
            "issuer": "CN=E7",
            **more,
        }
    )


def found(**more):
    return Serving(
        **{
            "host": "sip1",
            "domain": DOMAIN,
            "now": NOW,
            "on_disk": certificate(),
            "served": {"127.0.0.1:8443": certificate()},
            "is_renewed": True,
            "at_certbot": certificate(),
            "next_try": NOW,
            **more,
        }
    )


def codes(value, days=10):
    return [problem.code for problem in serving.problems(value, days)]


FAILED = RenewalResult(when=NOW, has_failed=True, why="the disk is full")


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({}, []),
        ({"on_disk": None, "served": {}, "at_certbot": None}, ["SD620"]),
        ({"on_disk": certificate(key_matches=False)}, ["SD620"]),
        ({"on_disk": certificate(names=("other.example.com",))}, ["SD620"]),
        ({"served": {"127.0.0.1:8443": None}}, ["SD621"]),
        ({"served": {"127.0.0.1:8443": certificate(fingerprint="bb")}}, ["SD621"]),
        ({"served": {"127.0.0.1:8443": certificate(days=9)}}, ["SD622"]),
        ({"outcome": FAILED}, ["SD623"]),
        ({"at_certbot": certificate(fingerprint="bb")}, ["SD623"]),
        ({"is_unit_failed": True}, ["SD624"]),
        ({"next_try": None}, ["SD624"]),
        ({"is_renewed": False, "at_certbot": None, "next_try": None}, []),
    ],
)
def test_everything_that_is_amiss_is_told(more, wanted):
    assert codes(found(**more)) == wanted


def test_the_days_are_those_of_what_is_served():
    value = found(served={"a": certificate(days=40), "b": certificate(days=12)})
    assert value.days_left == 12
    assert codes(value, days=12) == []
    assert codes(value, days=13) == ["SD622"]


def test_what_the_script_prints_is_read():
    sections = {
        "clock": f"{NOW.timestamp():.0f}\n",
        "served 127.0.0.1:8443": "",
        "certificate": "",
        "key": "",
        "next": f"{NOW.timestamp():.0f}\n",
        "result": f"{NOW.timestamp():.0f}\tfailed\tthe disk is full\n",
        "unit": "failed\n",
    }
    value = serving.parse("sip1", site(), sections)
    assert value.outcome == FAILED
    assert (value.next_try, value.is_unit_failed) == (NOW, True)
    assert value.served == {"127.0.0.1:8443": None}


def test_a_half_written_result_is_none():
    sections = {"clock": "1", "result": "garbage"}
    assert serving.parse("sip1", site(), sections).outcome is None


def test_people_and_machines_are_told_the_same():
    value = found(outcome=FAILED)
    told = serving.problems(value, 10)
    data = serving.as_data(value, told)
    text = serving.as_text(value)
    assert data["days_left"] == 60
    assert data["last_hook"]["why"] in text
    assert data["issuer"] in text
    assert data["problems"] == [told[0].message]
