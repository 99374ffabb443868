"""The report about the certificate of a host."""

import datetime as dt
import json

import pytest
from fakes import FakeHost
from test_acme import DOMAIN, NOW, site

from sipdeploy import transaction
from sipdeploy.__main__ import main
from sipdeploy.cli import serving
from sipdeploy.cli.serving import RenewalResult, Serving
from sipdeploy.host import Result, connection, host_failed
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
        ({"on_disk": certificate(faults=("it demands",))}, ["SD609"]),
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


def test_a_kamailio_that_is_down_leaves_the_days_of_the_file():
    value = found(
        served={"127.0.0.1:8443": None}, kamailio="failed", on_disk=certificate(days=824)
    )
    assert value.days_left == 824
    text = serving.as_text(value)
    assert "824 days left for the file; no port could be asked" in text
    assert "port 8443   does not answer, because Kamailio does not run (systemd: failed)" in text
    (problem,) = serving.problems(value, 10)
    assert "does not run" in problem.message
    assert "SD622" in codes(
        found(served={"127.0.0.1:8443": None}, kamailio="failed", on_disk=certificate(days=3))
    )
    nothing = found(on_disk=None, served={"127.0.0.1:8443": None}, at_certbot=None)
    assert nothing.days_left is None
    assert "no certificate" in serving.as_text(nothing)


def test_the_fingerprint_is_that_of_the_browsers():
    shown = certificate(fingerprint="0a" * 31 + "ff")
    other = certificate(fingerprint="bb" * 32)
    text = serving.as_text(found(on_disk=shown, served={"127.0.0.1:8443": shown}))
    assert ":".join(["0A"] * 31 + ["FF"]) in text
    assert "0a" * 31 + "ff" in text
    assert "serves it (wss, for phones; asked on the host at 127.0.0.1:8443)" in text
    text = serving.as_text(found(on_disk=shown, served={"127.0.0.1:8443": other}))
    assert "serves another: BB:BB" in text


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """A command for three hosts, of which sip2 does not answer: exit code, stdout, stderr."""
    clock = f"\x1eclock\n{NOW.timestamp():.0f}\n\x1eend\n"
    release = (
        '\x1ecurrent\n1\n\x1erelease 1\n{"format": 1, "when": "2026", "who": "root@x", '
        '"purpose": "apply", "what": ["+ /etc/x"]}\n\x1eend\n'
    )

    def connect(name, _):
        if name == "sip2":
            raise host_failed("SD501", "`sip2` does not answer")
        answers = {"cert": clock, "history": release}
        results = {key: Result(status=0, stdout=text.encode()) for key, text in answers.items()}
        return FakeHost(name, results)

    monkeypatch.setattr(connection, "connect", connect)
    monkeypatch.setattr(transaction, "connect", connect)
    monkeypatch.chdir(tmp_path)
    names = ("sip1", "sip2", "sip3")
    hosts = ", ".join(f"{name}: {{address: 203.0.113.{name[-1]}}}" for name in names)
    text = f"domain: {DOMAIN}\nemail: a@b.example\nhosts: {{{hosts}}}\nusers: {{}}\n"
    (tmp_path / "inventory.yaml").write_text(text)

    def start(*words):
        code = main(list(words))
        out, err = capsys.readouterr()
        return code, out, err

    return start


def test_several_hosts_are_asked_and_one_that_fails_hides_no_other(run):
    code, out, err = run("cert", "sip1", "sip2", "sip3")
    assert code == 4
    assert [line for line in out.splitlines() if not line.startswith(" ")] == [
        f"sip1  {DOMAIN}",
        f"sip3  {DOMAIN}",
    ]
    assert "`sip2` does not answer" in err
    assert "`sip3` has no certificate" in err
    _, out, _ = run("cert", "sip1", "sip2", "sip3", "--format", "json")
    assert [row["host"] for row in json.loads(out)["hosts"]] == ["sip1", "sip3"]
    code, out, _ = run("cert", "sip3", "--format", "json")
    assert (code, json.loads(out)["host"]) == (1, "sip3")
    assert run("cert")[0] == 2


def test_the_releases_of_several_hosts(run):
    code, out, err = run("history", "sip1", "sip2", "sip3")
    assert code == 4
    assert out.splitlines()[::3] == ["sip1", "sip3"]
    assert out.count(" UTC, root@x: apply\n        changes /etc/x") == 2
    assert "`sip2` does not answer" in err
    code, out, _ = run("history", "sip1")
    assert (code, len(out.splitlines())) == (0, 2)
    _, out, _ = run("history", "sip1", "sip3", "--format", "json")
    assert [len(row["releases"]) for row in json.loads(out)["hosts"]] == [1, 1]
    _, out, _ = run("history", "sip1", "--format", "json")
    assert json.loads(out)["releases"][0]["number"] == 1


OURS = f"sipdeploy-{DOMAIN}"


@pytest.mark.parametrize(
    ("failures", "severity", "said"),
    [
        ((), "error", "failed"),
        ((OURS,), "error", "failed"),
        ((OURS, "mine"), "error", "failed"),
        (("mine", "web"), "warning", "failed for `mine`, `web`, which sipdeploy does not manage"),
    ],
)
def test_a_run_that_failed_for_somebody_else_is_only_a_warning(failures, severity, said):
    value = found(is_unit_failed=True, failures=failures)
    (problem,) = serving.problems(value, 10)
    assert (problem.code, problem.severity) == ("SD624", severity)
    assert problem.message.endswith(said)
    data = serving.as_data(value, [problem])
    assert data["problems" if severity == "error" else "warnings"] == [problem.message]


def test_what_the_script_prints_is_read():
    sections = {
        "clock": f"{NOW.timestamp():.0f}\n",
        "served 127.0.0.1:8443": "",
        "certificate": "",
        "key": "",
        "next": f"{NOW.timestamp():.0f}\n",
        "result": f"{NOW.timestamp():.0f}\tfailed\tthe disk is full\n",
        "unit": "failed\n",
        "failures": f"mine\n{OURS}\nmine\n",
        "kamailio": "inactive\n",
    }
    value = serving.parse("sip1", site(), sections)
    assert value.outcome == FAILED
    assert (value.next_try, value.is_unit_failed) == (NOW, True)
    assert value.served == {"127.0.0.1:8443": None}
    assert (value.failures, value.kamailio) == (("mine", OURS), "inactive")


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


def test_the_relay_serves_the_certificate_too():
    both = {"127.0.0.1:8443": certificate(), "10.0.0.1:5349": certificate(fingerprint="bb")}
    value = found(served=both, turn="5349")
    (problem,) = serving.problems(value, 10)
    assert problem.help == "on `sip1`: run `systemctl reload coturn`"
    assert "(turns, the relay; asked on the host at 10.0.0.1:5349)" in serving.as_text(value)
    (problem,) = serving.problems(found(served={"10.0.0.1:5349": None}, turn="5349"), 10)
    assert problem.help == "on `sip1`: `journalctl -b -u coturn` shows why"


def test_the_web_phone_serves_the_certificate_too():
    both = {"127.0.0.1:8443": certificate(), "127.0.0.1:443": certificate(fingerprint="bb")}
    value = found(served=both, page="443")
    (problem,) = serving.problems(value, 10)
    assert problem.help == "on `sip1`: run `systemctl reload sipdeploy-nginx`"
    assert "(https, the web phone; asked on the host at 127.0.0.1:443)" in serving.as_text(value)
    (problem,) = serving.problems(found(served={"127.0.0.1:443": None}, page="443"), 10)
    assert problem.help == "on `sip1`: `journalctl -b -u sipdeploy-nginx` shows why"
