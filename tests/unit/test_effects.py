"""What a plan says about users and phones, from the files of two sites."""

import dataclasses
import hashlib
import io
from types import SimpleNamespace

import pytest
from fakes import FakeHost
from hosts_facts import recorded

from sipdeploy.cli import live
from sipdeploy.facts import Managed, PathFact
from sipdeploy.host import Result
from sipdeploy.inventory.secret import Secret, credentials
from sipdeploy.inventory.site import load_site
from sipdeploy.plan import make_plan, text
from sipdeploy.plan.desired import desired
from sipdeploy.plan.effects import user_effects
from sipdeploy.plan.preview import Load, Present, preview
from sipdeploy.services import certificates, kamailio
from sipdeploy.services.certificates import Material
from sipdeploy.transaction.reports import left_alone

USERS = "1001: {name: Alice, voicemail: true}, 1002: {name: Bob}, 1003: {max_contacts: 9}"
PASSWORDS = {"1001": "one", "1002": "two", "1003": "three"}


def site(users=USERS, domain="sip.example.test", more=""):
    found, problems, _ = load_site(
        f"domain: {domain}\nemail: a@b.example\nhosts: {{sip1: {{address: 10.0.0.1}}}}\n"
        f"users: {{{users}}}\ntls: {{provider: self-signed}}\n{more}",
        "inventory.yaml",
    )
    assert found, problems
    return found


def wanted(of=None, passwords=PASSWORDS):
    of = of or site()
    chosen = {n: Secret(passwords[n]) for n in of.users}
    return desired(of, "sip1", recorded("sid-applied"), credentials(of.domain, chosen), Material())


def planned(after, before=None, *, registered=("1002",), edited=(), overwrites=False, **load):
    """Plan and present files of a host that has `before`, `edited` by hand, and gets `after`."""
    base, before = recorded("sid-applied"), before or wanted()
    digests = {f.path: hashlib.sha256(f.content).hexdigest() for f in before.files}
    present = {
        f.path: PathFact(mode=f.mode, owner=f.owner, digest=digests[f.path]) for f in before.files
    }
    edits = {path: dataclasses.replace(present[path], digest="e" * 64) for path in edited}
    made = {file.path: base.files[file.path] for file in before.generated}
    facts = dataclasses.replace(
        base,
        files={**made, **present, **edits},
        managed={f.path: Managed(service=f.service, digest=digests[f.path]) for f in before.files},
    )
    at = base.certificate.not_before.timestamp() + 1
    plan = make_plan(after, facts, at, overwrites=overwrites)
    changed = {change.path for change in plan.changes}
    return plan, Present(
        current={f.path: f.content for f in before.files if f.path in changed},
        load=Load(**{"registrations": 4, "calls": 1, "ringing": 0, "channels": 0, **load}),
        registered=None if registered is None else frozenset(registered),
    )


def lines(after, before=None, **options):
    return list(text.costs(*planned(after, before, **options)))


def test_a_new_user_interrupts_nobody():
    after = wanted(site(USERS + ", 1004: {}"), {**PASSWORDS, "1004": "four"})
    assert lines(after) == [
        "adds 1 user (1004)",
        "reload asterisk (no interruption)",
        "reload kamailio (no interruption)",
    ]


def test_who_gets_another_password_is_named_and_disconnected():
    after = wanted(passwords={**PASSWORDS, "1001": "other", "1002": "other"})
    assert lines(after) == [
        "disconnects 2 users (1001, 1002): their passwords change; 1 registered now",
        "reload kamailio (no interruption for other users)",
    ]
    plan, present = planned(after)
    assert text.as_data("sip1", plan, present)["users"] == {
        "added": [], "removed": [], "changed": ["1001", "1002"], "disconnected_now": ["1002"],
    }  # fmt: skip


def test_new_passwords_for_everybody_say_so():
    said = lines(wanted(passwords=dict.fromkeys(PASSWORDS, "other")), registered=("1001", "1003"))
    assert said[0] == (
        "disconnects all 3 users (1001, 1002, 1003): their passwords change; 2 registered now"
    )


def test_who_is_removed_is_named_and_disconnected():
    said = lines(wanted(site("1002: {name: Bob}")), registered=None)
    unknown = "how many are registered now is unknown"
    assert said[0] == f"removes 2 users (1001, 1003), and disconnects them; {unknown}"
    assert "reload kamailio (no interruption for other users)" in said


def test_another_domain_ends_all_registrations():
    said = lines(wanted(site(domain="other.example.test")))
    assert said[0] == (
        "disconnects all 3 users (1001, 1002, 1003): the domain changes; 1 registered now"
    )
    (restart,) = [line for line in said if line.startswith("restart kamailio")]
    assert "4 registrations reconnect, except those of users whom this disconnects, " in restart


def test_phones_do_not_find_another_port_by_themselves():
    said = lines(wanted(site(more="ports: {wss: 9443}")))
    (restart,) = [line for line in said if line.startswith("restart kamailio")]
    assert "4 registrations end until the phones are set to port 9443, 1 call" in restart


def test_a_restart_alone_disconnects_nobody():
    said = lines(wanted(site(more="ports: {registrar: 5064}")))
    assert not [line for line in said if "disconnect" in line]
    assert "4 registrations reconnect, 1 call continues" in said[-1]


def test_what_becomes_less_is_said():
    users = "1001: {name: Alice}, 1002: {name: Bob}, 1003: {max_contacts: 1}"
    before = wanted(site(more="services: {6000: {kind: ivr-test}, 6002: {kind: echo}}"))
    said = lines(wanted(site(users, more="services: {6002: {kind: echo}}")), before)
    lowers = "lowers max_contacts of 1 user (1003): phones above it stay until they register again"
    assert said[:3] == [
        f"{lowers}, which then gets 503",
        "callers cannot leave messages for 1 user (1001) any more; existing messages stay",
        "6000: no service answers there any more",
    ]
    assert said[-1] == "reload kamailio (no interruption)"
    assert not [line for line in lines(before, wanted()) if "any more" in line]


def test_browsers_have_to_accept_a_new_self_signed_certificate():
    plan, present = planned(wanted())
    assert plan.is_empty
    late = make_plan(
        wanted(),
        recorded("sid-applied"),
        recorded("sid-applied").certificate.not_after.timestamp(),
    )
    assert certificates.PATH in late.to_generate
    assert any(line.startswith("a new self-signed") for line in text.costs(late, present))


@pytest.mark.parametrize("sums", [b"", b"\xff\n1001@x 0\n\x1b[2J@a 0123456789abcdef\n", None])
def test_a_host_can_make_nothing_up(sums):
    plan, present = planned(wanted(passwords={**PASSWORDS, "1001": "other"}))
    current = dict.fromkeys(present.current, sums or b"")
    effects = user_effects(plan, dataclasses.replace(present, current=current))
    assert effects.disconnected == frozenset()


@pytest.mark.parametrize(
    ("answer", "registered"),
    [
        (b"\x1eregistered\n1002@sip.example.test\n1003\n\x1b[2J1001\n\x1eend\n", {"1002", "1003"}),
        (b"\x1eregistered\n\x1eend\n", set()),
        (b"\x1eend\n", None),  # Kamailio did not list all
    ],
)
def test_who_is_registered_comes_with_the_files(answer, registered):
    plan, _ = planned(wanted(passwords={**PASSWORDS, "1001": "other"}))
    host = FakeHost("sip1", {"preview": Result(status=0, stdout=answer)})
    assert preview(host, plan).registered == registered
    assert [words[0] for words in host.asked] == ["preview"]
    assert b"/etc/kamailio/credentials.sum\n" in host.inputs[0]


# --- edits on the host, beside a change of users -------------------------------------------------

CFG, PJSIP, TABLES = (
    "/etc/kamailio/kamailio.cfg", "/etc/asterisk/pjsip.conf", "/etc/kamailio/tables.sh",
)  # fmt: skip
DROP_IN = "/etc/systemd/system/kamailio.service.d/sipdeploy.conf"
DATABASE = "/etc/kamailio/sipdeploy.db"
FEWER = site("1001: {name: Alice, voicemail: true}, 1003: {max_contacts: 9}")


@pytest.mark.parametrize("edited", [CFG, PJSIP, DROP_IN, "/etc/asterisk/voicemail_users.conf"])
def test_a_user_goes_whatever_somebody_edited_on_the_host(edited):
    plan, present = planned(wanted(FEWER), edited=[edited])
    assert [edit.path for edit in plan.left] == [edited]
    assert not plan.drift
    assert plan.is_only_data
    assert edited not in {change.path for change in plan.changes}
    assert {DATABASE, "/etc/kamailio/credentials.sum"} < {change.path for change in plan.changes}
    assert [unit.action for unit in plan.units if unit.action != "none"] == ["reload", "reload"]
    said = text.as_text("sip1", plan, present, diffs=False)
    assert f"? {edited} (edited on the host, left alone)" in said
    (warning,) = left_alone("sip1", plan)
    assert warning.severity == "warning"
    assert f"{edited} on `sip1` was edited" in warning.message
    assert bool(warning.notes) == edited.startswith(
        "/etc/asterisk/p"
    )  # the reload reads pjsip.conf


def test_an_edit_that_a_change_of_users_writes_or_runs_stops_it():
    for edited in (DATABASE, TABLES):
        plan, _ = planned(wanted(FEWER), edited=[edited, CFG])
        assert edited in [change.path for change in plan.drift]


@pytest.mark.parametrize(
    ("more", "edited"),
    [
        ("", CFG),
        ("ports: {registrar: 5064}", CFG),  # the change writes this file
        ("ports: {registrar: 5064}", "/etc/asterisk/voicemail.conf"),
    ],
)
def test_an_edit_is_not_left_alone_beside_other_changes_or_when_that_is_all(more, edited):
    plan, _ = planned(wanted(site(more=more)), edited=[edited])
    assert [change.path for change in plan.drift] == [edited]
    assert not plan.left


def test_an_edit_is_overwritten_where_that_is_wanted():
    plan, _ = planned(wanted(FEWER), edited=[CFG], overwrites=True)
    assert [change.path for change in plan.drift] == [CFG]
    assert not plan.left


# --- commands that change users ------------------------------------------------------------------


def sums(of, passwords=PASSWORDS):
    chosen = {n: Secret(passwords[n]) for n in of.users}
    return kamailio.credential_sums(of.domain, credentials(of.domain, chosen))


def agreement(before, after, new=()):
    draft = SimpleNamespace(
        before=SimpleNamespace(site=before), after=SimpleNamespace(site=after), passwords=new
    )
    return live.Agreement(None, draft)


def test_a_command_asks_nothing_if_the_host_has_the_users_of_before():
    plan, _ = planned(wanted(FEWER))
    assert live.is_expected(sums(site()), plan)
    assert not live.is_expected(sums(site(), {**PASSWORDS, "1001": "older"}), plan)
    restart, _ = planned(wanted(site(more="ports: {wss: 9443}")))
    assert not live.is_expected(sums(site()), restart)


def test_a_command_does_not_disconnect_others_unasked(monkeypatch):
    """Such as from a folder with another secrets file than the host was configured with."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    more = site(USERS + ", 1004: {}")
    known = {**PASSWORDS, "1004": "four"}
    asked = agreement(site(), more, {"1004": "four"})
    assert asked({"sip1": planned(wanted(more, known))})
    assert asked({"sip1": planned(wanted(more, {**known, "1004": "five"}))})
    assert not asked({"sip1": planned(wanted(more, {**known, "1001": "x", "1003": "x"}))})
    (problem,) = asked.missing
    assert problem.code == "SD711"
    assert "to `sip1` would also disconnect 2 users (1001, 1003)" in problem.message
    own = agreement(site(), FEWER)
    assert own({"sip1": planned(wanted(FEWER))})
    assert not own({"sip1": planned(wanted(site(more="ports: {wss: 9443}")))})
    assert "would change more than users" in own.missing[0].message
