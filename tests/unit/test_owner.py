"""A host that serves another inventory: another domain, or another password for every user."""

import base64
import dataclasses
import hashlib
import time

import pytest
from fakes import FakeHost
from hosts_facts import recorded
from test_apply import GOOD, facts, scripts, site
from test_effects import PASSWORDS, sums, wanted
from test_effects import site as site_of

from sipdeploy import facts as host_facts
from sipdeploy.facts import Query
from sipdeploy.host import Result
from sipdeploy.host.local import LocalHost
from sipdeploy.plan import make_plan
from sipdeploy.plan.preflight import owner
from sipdeploy.services import kamailio
from sipdeploy.transaction import Options, apply, host_run, plan, release

DOMAIN = "sip.example.test"


def judged(after, current, domain=DOMAIN):
    """The problem of a host with this domain and these checksums, in a plan to `after`."""
    digest = hashlib.sha256(current or b"").hexdigest()
    held = {kamailio.SUMS: host_facts.PathFact(mode=0o600, owner="root:root", digest=digest)}
    found = dataclasses.replace(
        recorded("sid-applied"), applied_domain=domain, files=held if current else {}
    )
    made = make_plan(after, found, time.time())
    assert owner.is_doubtful(made, found)
    return owner.problem("sip1", made, found, current)


@pytest.mark.parametrize(
    "passwords",
    [
        PASSWORDS | {"1001": "new"},
        PASSWORDS | {"1001": "new", "1002": "new"},
    ],
)
def test_one_password_in_common_makes_it_the_same_site(passwords):
    assert judged(wanted(passwords=passwords), sums(site_of())) is None


def test_new_users_beside_one_that_has_another_password_are_the_same_site():
    """Somebody with a single user gives it a new password, and adds others."""
    more = site_of("1001: {name: Alice}, 1004: {}")
    alone = kamailio.credential_sums(DOMAIN, {"1001": "f" * 32})
    assert judged(wanted(more, {**PASSWORDS, "1004": "four"}), alone) is None
    assert judged(wanted(site_of("1008: {}"), {"1008": "eight"}), sums(site_of())) is None


def test_another_password_for_every_user_is_of_another_site():
    """Also if there are further users on one of the two sides."""
    before = sums(site_of())
    problem = judged(wanted(passwords=dict.fromkeys(PASSWORDS, "other")), before)
    assert (problem.code, "each of the 3 users" in problem.message) == ("SD554", True)
    assert "`--take-over`" in problem.help
    fewer = judged(
        wanted(
            site_of("1001: {}, 1002: {}, 1008: {}"), dict.fromkeys(("1001", "1002", "1008"), "x")
        ),
        before,
    )
    assert (fewer.code, "each of the 2 users" in fewer.message) == ("SD554", True)


def test_another_domain_is_told_with_the_users_in_common():
    moved = sums(site_of(domain="old.example.test"))
    problem = judged(wanted(), moved, "old.example.test")
    assert problem.code == "SD553"
    assert problem.message == (
        "`sip1` serves `old.example.test`, and this inventory is for `sip.example.test`"
    )
    assert problem.notes == ("3 of its 3 users are in this inventory",)
    others = kamailio.credential_sums("old.example.test", {"7001": "f" * 32})
    problem = judged(wanted(), others, "old.example.test")
    assert problem.notes == ("none of its 1 user is in this inventory",)
    assert judged(wanted(), None, "old.example.test").notes == ()


# --- in an apply ---------------------------------------------------------------------------------

OTHERS = kamailio.credential_sums(DOMAIN, {"1001": "a" * 32, "1002": "b" * 32})
TWO = {"1001": "0" * 32, "1002": "1" * 32}


@pytest.fixture
def host(monkeypatch):
    """A host that has other passwords for both users."""
    made = FakeHost("sip1", dict(GOOD))
    digest = hashlib.sha256(OTHERS).hexdigest()
    made.answers["facts"] = facts(
        "sid-applied",
        applied=DOMAIN,
        digests=f"{digest}  {kamailio.SUMS}",
        modes=f"600 root:root {kamailio.SUMS}",
    )
    content = base64.b64encode(OTHERS)
    made.answers["preview"] = Result(status=0, stdout=b"\x1efile 0\n%s\n\x1eend\n" % content)
    monkeypatch.setattr(host_run, "connect", lambda *_: made)
    return made


def applied(credentials=TWO, **options):
    two = site().model_copy(update={"users": {number: site().users["1001"] for number in TWO}})
    (report,) = apply(
        two,
        ["sip1"],
        credentials=credentials,
        say=[].append,
        options=Options(**options),
    )
    return report


def test_an_apply_refuses_and_changes_nothing(host):
    report = applied(foreign="refuse")
    assert [p.code for p in report.diagnostics] == ["SD554"]
    assert (report.state, report.exit_code) == ("unchanged", 4)
    assert scripts(host) == ["facts", "preview", "close"]


def test_an_apply_takes_a_host_over_if_it_is_told_to(host):
    assert applied(foreign="warn").state == "applied"
    assert "preview" not in scripts(host), "nobody asks"


@pytest.mark.usefixtures("host")
def test_who_is_asked_is_warned():
    seen = []
    report = applied(foreign="warn", agree=lambda plans: bool(seen.append(plans)) or True)
    assert [(p.code, p.severity) for p in report.diagnostics] == [("SD554", "warning")]
    assert seen


@pytest.mark.usefixtures("host")
def test_a_plan_warns():
    two = site().model_copy(update={"users": {number: site().users["1001"] for number in TWO}})
    (planned,) = plan(
        two, ["sip1"], credentials=TWO, say=[].append, options=Options(foreign="warn")
    )
    assert [(p.code, p.severity) for p in planned.diagnostics] == [("SD554", "warning")]
    assert planned.exit_code == 0


def test_one_password_in_common_is_enough(host):
    assert applied({**TWO, "1001": "a" * 32}, foreign="refuse").state == "applied"
    assert scripts(host)[:3] == ["facts", "preview", "stage"]


def test_a_change_that_is_expected_is_not_asked_about(host):
    """`secrets rotate --apply`: the host has exactly the users of before."""
    assert applied(foreign="refuse", expects=lambda _: True).state == "applied"
    assert "preview" not in scripts(host)


def test_a_rollback_is_no_inventory(host):
    assert applied().state == "applied"
    assert "preview" not in scripts(host)


@pytest.mark.parametrize("domain", ["", DOMAIN])
def test_without_a_change_of_users_nobody_asks_the_host(host, domain):
    host.answers["facts"] = facts("sid-applied", applied=domain)
    assert applied(foreign="refuse").state == "applied"
    assert "preview" not in scripts(host)


def test_another_domain_is_refused(host):
    host.answers["facts"] = facts("sid-applied", applied="other.example.test")
    report = applied(foreign="refuse")
    assert [p.code for p in report.diagnostics] == ["SD553"]
    assert report.state == "unchanged"


def test_the_domain_comes_from_the_current_release(tmp_path):
    signature = release.Signature(
        who="me", when="now", purpose='apply "domain": "x"', what=('  "domain": "wrong"',)
    )
    for number, domain in ((1, "old.example.test"), (2, "new.example.test")):
        place = tmp_path / f"releases/{number}/release.json"
        place.parent.mkdir(parents=True)
        place.write_bytes(release.dump(wanted(site_of(domain=domain)), signature))
    query = Query(domain="a.example", packages={"other": ()}, units=(), trees=(), directories=())
    query = dataclasses.replace(query, state=str(tmp_path))
    assert host_facts.read(LocalHost("here"), query).applied_domain == ""
    (tmp_path / "release").write_text("2\n")
    assert host_facts.read(LocalHost("here"), query).applied_domain == "new.example.test"
