"""A rollback keeps the users that a host has now."""

import dataclasses

import pytest
from fakes import FakeHost
from hosts_facts import recorded
from test_apply import GOOD, facts
from test_effects import PASSWORDS, site, wanted

from sipdeploy import transaction
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import host_failed
from sipdeploy.inventory.secret import Secret, credentials
from sipdeploy.plan.kept_users import configuration, keep_users, site_of, users_of
from sipdeploy.services import asterisk, coturn, kamailio
from sipdeploy.transaction import Options, host_run, rollback

TODAY = (
    "1003: {name: 'Eve \"x\" \\\\', max_contacts: 9}, 1001: {name: Alice}, 1004: {voicemail: true}"
)
KNOWN = {**PASSWORDS, "1001": "changed", "1004": "four"}
SERVICES = "services: {6000: {kind: ivr-test}, 6001: {kind: voicemail}}\n"
CHANGES = "ports: {kamailio: 5072}\nservices: {6009: {kind: voicemail}, 6002: {kind: echo}}\n"


def contents(release):
    return {file.path: file.content for file in release.files}


def kept(old, new, current_site):
    return keep_users(old, new, current_site, "sip1", recorded("sid-applied"))


@pytest.mark.parametrize("before", ["kamailio", "asterisk"])
@pytest.mark.parametrize("now", ["kamailio", "asterisk"])
def test_a_release_gets_the_users_of_today_and_keeps_the_rest(before, now):
    """The result is what an apply of the old inventory with the users of today would write."""
    mode = f"authentication: {before}\n"
    today = site(TODAY, more=f"{SERVICES}authentication: {now}\n")
    old = wanted(site(more=CHANGES + mode))
    found = kept(old, wanted(today, KNOWN), today)
    meant = contents(wanted(site(TODAY, more=CHANGES + mode), KNOWN))
    assert contents(found) == meant
    assert contents(found) != contents(old)
    assert found.probe.number == "1003"


def test_the_relay_keeps_the_users_of_today():
    """Whether there is a relay, and its settings, are those of the release."""
    today = site(TODAY, more=SERVICES)
    relay = SERVICES + "turn: {user_quota: 9}\n"
    found = kept(wanted(site(more=relay)), wanted(today, KNOWN), today)
    assert contents(found) == contents(wanted(site(TODAY, more=relay), KNOWN))
    assert coturn.DATABASE in contents(found)
    there = site(TODAY, more=relay)
    found = kept(wanted(site(more=SERVICES)), wanted(there, KNOWN), there)
    assert contents(found) == contents(wanted(today, KNOWN))


def test_a_configuration_is_a_release_without_its_users():
    """A rollback changes nothing between two releases of one configuration."""
    own = configuration(wanted(site(more=SERVICES)))
    assert configuration(wanted(site(TODAY, more=SERVICES), KNOWN)) == own
    for other in (CHANGES, "services: {6000: {kind: echo}}\n", f"{SERVICES}turn: {{}}\n", ""):
        assert configuration(wanted(site(more=other))) != own
    release = wanted(site(more=SERVICES))
    assert configuration(dataclasses.replace(release, notes=("x",), versions={"a": "1"})) == own
    units = {"kamailio": "other.service"}
    assert configuration(dataclasses.replace(release, units=units)) != own


def test_without_other_changes_a_release_becomes_that_of_today():
    today = wanted(site(TODAY, more=SERVICES), KNOWN)
    found = kept(wanted(site(more=SERVICES)), today, site(TODAY))
    assert contents(found) == contents(today)


def test_large_sites_keep_their_users_too():
    many = ", ".join(f"{10000 + i}: {{}}" for i in range(3001))
    known = {str(10000 + i): f"p{i}" for i in range(3001)}
    more = "authentication: asterisk\n"
    today = site(f"{many}, 1001: {{}}", more=more)
    current = wanted(today, {**known, "1001": "one"})
    old = wanted(site(many, more=more + CHANGES), dict.fromkeys(known, "older"))
    found = kept(old, current, today)
    assert asterisk.DATABASE in contents(found)
    # the data is sorted in both, so the order of users does not matter
    assert users_of(found) == users_of(current)
    old_modes = dataclasses.replace(
        old,
        files=tuple(
            dataclasses.replace(f, content=f.content.replace(b"webrtc=yes", b"webrtc=no"))
            for f in old.files
        ),
    )
    with pytest.raises(ValueError, match="other settings"):
        kept(old_modes, current, today)
    with pytest.raises(ValueError, match="another size"):
        kept(wanted(site()), current, today)


@pytest.mark.parametrize(
    ("old", "reason"),
    [
        (site(domain="old.example.test"), "it is for `old.example.test`"),
        (site("1002: {}", more="services: {1003: {kind: echo}}\n"), "numbers of 1 user (1003)"),
    ],
    ids=["domain", "service"],
)
def test_users_that_do_not_fit_are_not_kept(old, reason):
    with pytest.raises(ValueError) as failure:  # noqa: PT011 - the text is compared
        kept(wanted(old), wanted(), site())
    assert reason in str(failure.value)


@pytest.mark.parametrize("path", [kamailio.DATABASE, asterisk.USERS_FILE])
def test_a_release_without_readable_users_is_refused(path):
    today = wanted(site(more="authentication: asterisk\n"))
    damaged = dataclasses.replace(
        today,
        files=tuple(
            dataclasses.replace(f, content=b"x") if f.path == path else f for f in today.files
        ),
    )
    with pytest.raises(ValueError, match=r"cannot be read|does not have a credential"):
        kept(wanted(), damaged, site())


def test_users_and_credentials_of_a_release_are_those_of_the_site():
    today = site(TODAY)
    found = users_of(wanted(today, KNOWN))
    assert list(found.users.items()) == list(today.users.items())
    chosen = {number: Secret(KNOWN[number]) for number in today.users}
    assert found.credentials == credentials(today.domain, chosen)


@pytest.fixture
def host(monkeypatch):
    made = FakeHost("sip1", {**GOOD, "facts": facts("sid-applied")})
    monkeypatch.setattr(host_run, "connect", lambda *_: made)
    return made


def rolled_back(monkeypatch, current, **options):
    """The report and plans of a rollback to release 7 - `current` is the present one, 1."""
    kept, asked = {7: wanted(site(more=CHANGES)), 1: current}, []

    def fetch(_, number):
        if isinstance(kept[number], HostFailed):
            raise kept[number]
        return kept[number]

    def agree(plans):
        asked.extend(plan for plan, _ in plans.values())
        return False

    monkeypatch.setattr(transaction.release, "fetch_release", fetch)
    chosen = Options(agree=agree, overwrites=True)
    (report,) = rollback(site(), "sip1", 7, say=[].append, options=chosen, **options)
    return report, asked


def test_a_rollback_restores_users_only_if_told_to(host, monkeypatch):
    today = wanted(site(TODAY, more=SERVICES), KNOWN)
    _, (plan,) = rolled_back(monkeypatch, today)
    assert users_of(plan.desired) == users_of(today)
    assert plan.desired.notes == ("users and passwords stay as they are",)
    _, (plan,) = rolled_back(monkeypatch, today, with_users=True)
    assert users_of(plan.desired) == users_of(wanted())
    assert plan.desired.notes == ("users and passwords become those of release 7",)
    assert "stage" not in {words[0] for words in host.asked}


def test_a_rollback_that_cannot_keep_the_users_says_what_can(host, monkeypatch):
    for current in (
        wanted(site(domain="other.example.test")),
        host_failed("SD530", "release 1 on `sip1` cannot be read"),
    ):
        report, asked = rolled_back(monkeypatch, current)
        (problem,) = report.diagnostics
        assert (problem.code, report.state, asked) == ("SD532", "unchanged", [])
        assert "`sipdeploy rollback sip1 7 --with-users`" in problem.help
        assert problem.notes
    assert "stage" not in {words[0] for words in host.asked}


def test_a_release_says_what_phones_meet_after_a_rollback():
    """The inventory may have another domain, port, services and certificate by now."""
    then = site(more="services: {7000: {kind: echo}}\nports: {wss: 9443}\n")
    server = "https://acme.example.test/dir"
    tls = then.tls.model_copy(update={"provider": "letsencrypt", "server": server})
    then = then.model_copy(update={"tls": tls})
    now = site(domain="other.example.test", more="authentication: asterisk\n")
    met = site_of(wanted(then), now)
    assert (met.domain, met.ports.wss) == (then.domain, 9443)
    assert met.services == then.services
    assert met.authentication == "kamailio"
    assert (met.tls.provider, met.tls.server) == ("letsencrypt", server)
    assert site_of(wanted(now), then).tls.provider == "self-signed"
    assert site_of(wanted(now), then).services == now.services
