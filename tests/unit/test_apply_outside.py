"""What an apply does after its proof from outside: fine, told, or taken back."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from fakes import FakeHost
from hosts_facts import recorded
from hypothesis import given
from hypothesis import strategies as st
from test_apply import GOOD, TEXT, facts, run, scripts, site, states

from sipdeploy import transaction
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.facts import Socket
from sipdeploy.plan import desired
from sipdeploy.proof.judgement import judge
from sipdeploy.proof.outside.step import Proof, StepResult
from sipdeploy.services import certificates
from sipdeploy.services.kamailio import CONFIGURATION
from sipdeploy.transaction import Options, host_run, rollback
from sipdeploy.transaction.outside import steps as outside_steps
from sipdeploy.transaction.outside.reachability import is_suspect, present_port
from sipdeploy.transaction.reports import as_json, as_text

NAMES = ("TCP", "TLS", "call")
STATUSES = st.sampled_from(["ok", "failed", "skipped"])


def proof(*statuses):
    problem = Diagnostic("SD902", "port 8443 cannot be reached", help="open TCP 8443")
    return Proof(
        host="sip1",
        level="quick",
        results=tuple(
            StepResult(
                name=name, status=status, diagnostics=(problem,) if status == "failed" else ()
            )
            for name, status in zip(NAMES, statuses, strict=False)
        ),
    )


CLOSED, OPEN = proof("failed", "skipped", "skipped"), proof("ok", "ok", "ok")
PROOFS = st.builds(proof, STATUSES, STATUSES, STATUSES)


@given(st.one_of(st.none(), PROOFS), PROOFS, st.booleans(), st.booleans())
def test_only_a_failure_that_the_apply_may_have_caused_takes_it_back(
    before, after, first, suspect
):
    verdict = judge(before, after, is_first=first, is_suspect=suspect)
    failed = {each.name for each in after.failed}
    assert (verdict == "works") == (not failed)
    if verdict == "undo":
        assert not first
        worked = {each.name for each in before.results if each.status == "ok"} if before else set()
        assert suspect or failed & worked


@pytest.mark.parametrize(
    ("before", "after", "first", "suspect", "verdict"),
    [
        (None, OPEN, True, True, "works"),
        (None, CLOSED, True, True, "unreachable"),  # a new host behind a provider's firewall
        (CLOSED, CLOSED, False, False, "unreachable"),  # this machine is not let in
        (OPEN, CLOSED, False, False, "undo"),
        (CLOSED, CLOSED, False, True, "undo"),
        (None, CLOSED, False, False, "unreachable"),  # a change of users
        (proof("failed", "skipped", "skipped"), proof("ok", "failed", "skipped"), False, False,
         "unreachable"),
    ],
)  # fmt: skip
def test_the_verdicts(before, after, first, suspect, verdict):
    assert judge(before, after, is_first=first, is_suspect=suspect) == verdict


def test_the_port_for_phones_is_the_one_that_kamailio_has_now():
    class Known:
        sockets = (
            Socket(proto="udp", address="127.0.0.1", port=5062, program="kamailio"),
            Socket(proto="tcp", address="0.0.0.0", port=22, program="sshd"),
            Socket(proto="tcp", address="0.0.0.0", port=8443, program="kamailio"),
        )

    assert present_port(Known(), 8443) == 8443
    assert present_port(Known(), 443) == 8443
    assert present_port(None, 443) == 443


def change(path, service="kamailio"):
    return SimpleNamespace(path=path, service=service)


@pytest.mark.parametrize(
    ("changes", "units", "order", "suspect"),
    [
        ([change("/etc/kamailio/kamailio.cfg")], [], None, False),
        ([change("/etc/kamailio/sipdeploy.db")], [], None, False),
        ([change("/etc/sipdeploy/firewall.nft", "firewall")], [], None, True),
        ([], [SimpleNamespace(unit="sipdeploy-firewall.service", action="restart")], None, True),
        ([], [SimpleNamespace(unit="kamailio.service", action="restart")], None, False),
        ([change("/etc/kamailio/tls/server.crt")], [], None, True),
        ([change("/etc/kamailio/tls.cfg")], [], None, True),
        ([change("/etc/asterisk/rtp.conf")], [], None, True),
        ([], [], object(), True),
    ],
)  # fmt: skip
def test_a_change_of_the_way_to_the_host_is_suspect(changes, units, order, suspect):
    plan = SimpleNamespace(changes=changes, units=units, order=order)
    assert is_suspect(plan, None, 8443) == suspect


@pytest.fixture
def hosts(monkeypatch):
    """A host that lacks a file of its last release, so that there is something to do."""
    made = FakeHost("sip1", {**GOOD, "facts": facts("sid-applied")})
    monkeypatch.setattr(host_run, "connect", lambda *_: made)
    return made


@pytest.fixture
def proofs(monkeypatch):
    """The results of the proofs, one after the other; the levels that were asked for."""
    rows, asked = [], []

    def prove(_run, _host, site, on_line, *, level, port):
        asked.append((site.domain, level, port))
        on_line("TCP")
        return rows.pop(0)

    monkeypatch.setattr(outside_steps, "_prove", prove)
    return rows, asked


def test_a_host_that_works_is_confirmed(hosts, proofs):
    rows, asked = proofs
    rows += [OPEN, OPEN]
    (report,), events = run(names=["sip1"], verify="quick")
    assert (report.state, report.exit_code, report.unreachable) == ("applied", 0, "")
    assert scripts(hosts) == ["facts", "stage", "swap", "proof", "confirm", "close"]
    (kept,) = [words for words in hosts.asked if words[0] == "proof"]
    assert kept == ("proof", "/var/lib/sipdeploy/candidate")  # the confirmation takes it
    assert asked == [("sip.example.test", "quick", 8443)] * 2
    titles = [event.title for event in events if event.state == "ok"]
    before, after = "try from here, before the change", "prove from here, level quick"
    assert titles.index(before) < titles.index("back up the current files") < titles.index(after)
    assert titles.index(after) < titles.index("confirm")


def test_what_broke_goes_back(hosts, proofs):
    rows, _ = proofs
    rows += [OPEN, CLOSED]
    (report,), _ = run(names=["sip1"], verify="quick")
    assert (report.state, report.exit_code) == ("rolled back", 4)
    assert [problem.code for problem in report.errors] == ["SD902", "SD912"]
    assert scripts(hosts) == ["facts", "stage", "swap", "restore", "unlock", "close"]
    assert "cannot reach" not in as_text([report])


def test_what_did_not_work_before_stays_and_is_told_in_the_last_line(monkeypatch, hosts, proofs):
    rows, _ = proofs
    monkeypatch.setattr(outside_steps, "is_suspect", lambda *_: False)
    rows += [CLOSED, CLOSED]
    (report,), _ = run(names=["sip1"], verify="quick")
    assert (report.state, report.exit_code) == ("applied", 1)
    assert scripts(hosts)[-2:] == ["confirm", "close"]
    assert as_text([report]).split("\n")[-1] == (
        "sip1  applied; phones cannot reach it from here: TCP failed; open TCP 8443"
    )
    assert '"unreachable": "TCP failed' in as_json([report])
    assert [problem.code for problem in report.errors] == ["SD902", "SD911"]


@pytest.mark.usefixtures("hosts")
def test_without_changes_there_is_no_proof(monkeypatch, proofs):
    _, asked = proofs
    monkeypatch.setattr(host_run.HostRun, "has_work", property(lambda _: False))
    run(names=["sip1"], verify="quick")
    assert asked == []


@pytest.mark.usefixtures("hosts")
def test_none_makes_no_proof(proofs):
    _, asked = proofs
    (report,), _ = run(names=["sip1"], verify="none")
    assert (asked, states([report])) == ([], ["applied"])


@pytest.fixture
def kept(monkeypatch):
    """A release that the host keeps, which `change` may alter."""
    release = desired.desired(
        site(), "sip1", recorded("sid-applied"), {}, certificates.Material(pair=None)
    )

    def keep(change=lambda text: text):
        files = tuple(
            replace(file, content=change(file.content)) if file.path == CONFIGURATION else file
            for file in release.files
        )
        found = replace(release, files=files)
        monkeypatch.setattr(transaction.release, "fetch_release", lambda *_: found)

    return keep


def back(inventory):
    options = Options(verify="quick")
    (report,) = rollback(inventory, "sip1", 3, with_users=True, say=[].append, options=options)
    return report


@pytest.mark.usefixtures("hosts")
def test_a_rollback_is_proved_with_the_domain_and_port_of_its_release(kept, proofs):
    """The inventory, which may be what is wrong, has others."""
    rows, asked = proofs
    rows += [OPEN, OPEN]
    kept()
    text = TEXT.replace("sip.example.test", "other.example.test") + "ports: {wss: 9443}\n"
    assert back(site(text)).state == "applied"
    assert asked[-1] == ("sip.example.test", "quick", 8443)


@pytest.mark.usefixtures("hosts")
def test_a_rollback_that_shuts_phones_out_is_undone(kept, proofs):
    rows, _ = proofs
    rows += [OPEN, CLOSED]
    kept()
    report = back(site())
    assert report.state == "rolled back"
    assert "SD912" in [problem.code for problem in report.errors]


@pytest.mark.usefixtures("hosts")
def test_a_release_of_an_older_version_takes_no_probes(kept, proofs):
    rows, asked = proofs
    rows += [OPEN, OPEN]
    kept(lambda text: text.replace(b'"probes=>', b'"others=>'))
    assert back(site()).state == "applied"
    assert asked[-1] == ("sip.example.test", "ports", 8443)
