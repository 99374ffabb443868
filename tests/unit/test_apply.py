"""The phases of an apply over several fake hosts with recorded facts."""

import io
import os
import re
import socket
import tarfile
import threading
import time

import pytest
from fakes import FakeHost
from hosts_facts import FOLDER, recorded

from sipdeploy import transaction as apply_module
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.host import Result, host_failed
from sipdeploy.inventory.site import load_site
from sipdeploy.plan import preflight, saved
from sipdeploy.plan.desired import _packages, desired
from sipdeploy.services.certificates import Material
from sipdeploy.transaction import (
    Interrupted,
    Options,
    Report,
    apply,
    host_run,
    lock,
    plan,
    release,
    rollback,
)
from sipdeploy.transaction.lock import stale_owner, this_owner
from sipdeploy.transaction.reports import as_text

TEXT = """\
domain: sip.example.test
email: a@b.example
hosts: {sip1: {address: 10.0.0.1}, sip2: {address: 10.0.0.2}}
users: {1001: {name: Alice}}
tls: {provider: self-signed}
"""


def site(text=TEXT):
    found, problems, _ = load_site(text, "inventory.yaml")
    assert found, problems
    return found


def facts(name, **replace):
    now = {"clock": f"{time.time()}", "addresses": "10.0.0.1\n10.0.0.2"}
    replace = {"packages": PACKAGES, **now, **replace}
    text = (FOLDER / f"{name}.txt").read_text()
    for section, body in replace.items():
        if f"\x1e{section}\n" not in text:
            text = text.replace("\x1eend", f"\x1e{section}\n\x1eend")
        text = re.sub(rf"\x1e{section}\n[^\x1e]*", f"\x1e{section}\n{body}\n", text)
    return Result(status=0, stdout=text.encode())


# All packages of the services are available, in the versions of sid.
PACKAGES = "\n".join(
    f"{name}\t{'1:22.10.1-1' if name.startswith('asterisk') else '6.1.5-1'}\tinstalled"
    for name in _packages(site(), "debian", "forky")
)
PASSED = b"".join(b"\x1echeck %d\n0\n" % number for number in range(9))
GOOD = {
    "lock": Result(status=0, stdout=b"\x1elocked\n"),
    "stage": Result(status=0, stdout=PASSED),
    "swap": Result(status=0, stdout=b"\x1eswapped\n\x1eleft\n\x1everified\n"),
    "preview": Result(status=0, stdout=b"\x1eend\n"),
}


@pytest.fixture
def hosts(monkeypatch):
    """Two fake hosts with the facts of a real host."""
    made = {
        name: FakeHost(name, {**GOOD, "facts": facts("sid-applied")}) for name in ("sip1", "sip2")
    }
    monkeypatch.setattr(host_run, "connect", lambda name, _: made[name])
    return made


def run(wanted=None, names=("sip1", "sip2"), **options):
    events = []
    reports = apply(
        wanted or site(),
        names,
        credentials={"1001": "0" * 32},
        say=events.append,
        options=Options(**options),
    )
    return reports, events


def test_a_new_firewall_is_confirmed_by_a_new_way_in(hosts):
    hosts["sip1"].answers["facts"] = facts("sid-applied", chains="")
    run(names=["sip1"])
    assert scripts(hosts["sip1"]) == ["facts", "stage", "swap", "close", "confirm", "close"]


def states(reports):
    return [report.state for report in reports]


def scripts(host):
    return [words[0] for words in host.asked]


COURSE = ["facts", "stage", "swap", "confirm", "close"]


def test_hosts_are_brought_up_one_after_the_other(hosts):
    reports, events = run()
    assert [(report.host, report.state, report.exit_code) for report in reports] == [
        ("sip1", "applied", 0),
        ("sip2", "applied", 0),
    ]
    assert scripts(hosts["sip1"]) == scripts(hosts["sip2"]) == COURSE
    late = ("back up the current files", "confirm")
    behind = [(e.host, e.title) for e in events if e.title in late and e.state != "line"]
    assert [host for host, _ in behind] == ["sip1"] * 4 + ["sip2"] * 4
    staged = [i for i, e in enumerate(events) if e.title.startswith("stage")]
    assert max(staged) < min(i for i, e in enumerate(events) if e.title.startswith("back up"))


def test_no_secret_is_in_a_command(hosts):
    run()
    words = " ".join(word for words in hosts["sip1"].asked for word in words)
    assert "0" * 32 not in words


LEFT = Result(status=0, stdout=b"\x1eleft\nunit\tkamailio.service\t\t\t\t\n\x1everified\n")
BROKEN = Result(status=0, stdout=b"\x1estaged\n")  # without a result, nothing is approved


def test_the_first_failure_is_the_last_host(hosts):
    hosts["sip1"].answers["swap"] = LEFT
    reports, _ = run()
    assert [(report.state, report.exit_code) for report in reports] == [
        ("rolled back", 4),
        ("unchanged", 0),
    ]
    assert scripts(hosts["sip1"])[-3:] == ["restore", "unlock", "close"]
    assert scripts(hosts["sip2"]) == ["facts", "stage", "unlock", "close"]


@pytest.mark.parametrize("bad", ["sip1", "sip2"])
def test_a_candidate_that_is_rejected_anywhere_touches_nothing_anywhere(hosts, bad):
    hosts[bad].answers["stage"] = BROKEN
    reports, _ = run()
    assert states(reports) == ["unchanged", "unchanged"]
    for host in hosts.values():
        assert scripts(host) == ["facts", "stage", "unlock", "close"]


@pytest.mark.usefixtures("hosts")
def test_all_or_nothing_confirms_nobody_before_the_last():
    reports, events = run(all_or_nothing=True)
    assert states(reports) == ["applied", "applied"]
    titles = [event.title for event in events if event.state == "start"]
    assert titles.index("confirm") > max(
        i for i, x in enumerate(titles) if x.startswith("back up")
    )


@pytest.mark.parametrize(("all_or_nothing", "seconds"), [(False, 100), (True, 160)])
def test_a_host_that_waits_for_others_waits_longer_for_its_confirmation(
    hosts, all_or_nothing, seconds
):
    """Otherwise its own timer would undo the apply during the swap of the next host."""
    run(all_or_nothing=all_or_nothing, confirm_seconds=100)
    for host in hosts.values():
        (swap,) = (words for words in host.asked if words[0] == "swap")
        assert swap[3] == str(seconds)


def test_new_users_register_before_an_apply_is_confirmed(hosts):
    hosts["sip1"].answers["register"] = Result(status=0, stdout=b"\x1eproved\n1\n\x1erefused\n")
    (report,), _ = run(names=["sip1"], prove={"1001": "0" * 32})
    assert report.state == "applied"
    assert scripts(hosts["sip1"]) == ["facts", "stage", "swap", "register", "confirm", "close"]
    assert hosts["sip1"].inputs[3] == b"1001 " + b"0" * 32 + b"\n"


def test_an_apply_whose_users_cannot_register_is_undone(hosts):
    refused = b"\x1eproved\n0\n\x1erefused\n1001\t403\n"
    hosts["sip1"].answers["register"] = Result(status=0, stdout=refused)
    (report,), _ = run(names=["sip1"], prove={"1001": "0" * 32})
    assert (report.state, report.diagnostics[0].code) == ("rolled back", "SD709")
    assert scripts(hosts["sip1"])[-3:] == ["restore", "unlock", "close"]


def test_all_or_nothing_takes_back_those_that_were_done(hosts):
    hosts["sip2"].answers["swap"] = LEFT
    reports, _ = run(all_or_nothing=True)
    assert states(reports) == ["rolled back", "rolled back"]
    assert [report.exit_code for report in reports] == [0, 4]
    assert scripts(hosts["sip1"])[-3:] == ["restore", "unlock", "close"]


def test_without_it_those_that_were_done_stay(hosts):
    hosts["sip2"].answers["swap"] = LEFT
    assert states(run()[0]) == ["applied", "rolled back"]


def test_a_late_confirmation_is_a_rollback(hosts):
    hosts["sip1"].answers["confirm"] = Result(status=0, stdout=b"\x1elate\n")
    (report,), _ = run(names=["sip1"])
    assert (report.state, report.exit_code) == ("rolled back", 4)
    assert {problem.code for problem in report.diagnostics} == {"SD528"}


EDITED = "/etc/kamailio/kamailio.cfg\tkamailio\t" + "e" * 64


def test_an_edit_on_the_host_stops_an_apply(hosts):
    hosts["sip1"].answers["facts"] = facts("sid-applied", managed=EDITED)
    reports, _ = run()
    assert (states(reports), reports[0].exit_code) == (["unchanged", "unchanged"], 4)
    (problem,) = reports[0].diagnostics
    assert problem.code == "SD526"
    assert "/etc/kamailio/local.cfg" in problem.help
    assert "stage" not in scripts(hosts["sip2"])


def test_an_edit_is_overwritten_where_that_is_wanted(hosts):
    hosts["sip1"].answers["facts"] = facts("sid-applied", managed=EDITED)
    (report,), _ = run(names=["sip1"], overwrites=True)
    assert report.state == "applied"
    assert [(p.code, p.severity) for p in report.diagnostics] == [("SD526", "warning")]


def test_a_plan_that_nobody_agrees_to_is_not_begun(hosts):
    seen = {}
    reports, _ = run(agree=lambda plans: bool(seen.update(plans)))
    assert seen.keys() == {"sip1", "sip2"}
    assert states(reports) == ["unchanged", "unchanged"]
    assert scripts(hosts["sip1"]) == ["facts", "preview", "close"]


def test_a_plan_locks_and_changes_nothing(hosts):
    planned = plan(site(), ["sip1", "sip2"], credentials={}, say=[].append)
    assert [row.host for row in planned] == ["sip1", "sip2"]
    assert not any(row.plan.is_empty for row in planned)
    assert scripts(hosts["sip1"]) == ["facts", "preview", "close"]


def test_a_plan_says_that_it_updates_package_lists(hosts):
    offered = r"\1:\n  Installed: (none)\n  Candidate: \2"
    candidates = re.sub(r"(\S+)\t(\S+)\tinstalled", offered, PACKAGES)
    old = facts("sid-applied", packages="", lists="0\n0", candidates=candidates)
    hosts["sip1"].answers["facts"] = old
    (planned,) = plan(site(), ["sip1"], credentials={}, say=[].append)
    assert scripts(hosts["sip1"]) == ["facts", "packages", "facts", "preview", "close"]
    (problem,) = planned.diagnostics
    assert (problem.code, problem.severity) == ("SD520", "note")
    assert "apt-get update" in problem.message
    (report,), _ = run(names=["sip1"])
    assert report.diagnostics == ()  # an apply changes more than that


def test_a_saved_plan_is_carried_out_only_while_it_is_the_plan(hosts):
    (planned,) = plan(site(), ["sip1"], credentials={"1001": "0" * 32}, say=[].append)
    kept = saved.load(saved.dump({"sip1": planned.plan}), "plan.json")
    assert states(run(names=["sip1"], saved=kept)[0]) == ["applied"]
    hosts["sip1"].answers["facts"] = facts("sid-applied", release="9")
    (report,), _ = run(names=["sip1"], saved=kept)
    assert (report.state, report.exit_code) == ("unchanged", 1)
    assert report.diagnostics[0].code == "SD529"


def test_a_rollback_needs_an_earlier_release(hosts):
    hosts["sip1"].answers["history"] = Result(status=0, stdout=b"\x1ecurrent\n1\n\x1eend\n")
    (report,) = rollback(site(), "sip1", None, say=[].append)
    assert report.diagnostics[0].code == "SD530"
    assert "stage" not in scripts(hosts["sip1"])


def test_a_rollback_is_not_judged_by_the_inventory_of_the_moment(hosts):
    """Today's site has another domain, and a port and an address that the host lacks."""
    kept = desired(site(), "sip1", recorded("sid-applied"), {}, Material(pair=None))
    signature = release.Signature(who="me", when="now", purpose="apply", what=())
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        parts = {"release.json": release.dump(kept, signature)}
        parts |= {f"tree{file.path}": file.content for file in kept.files}
        for name, content in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    host = hosts["sip1"]
    host.answers["release"] = Result(status=0, stdout=buffer.getvalue())
    taken = 'tcp LISTEN 0 5 0.0.0.0:9443 0.0.0.0:* users:(("nginx",pid=7,fd=3))'
    host.answers["facts"] = facts(
        "sid-applied", sockets=taken, addresses="2: eth0 inet 10.9.9.9/24"
    )
    wrong = site(TEXT.replace("sip.example.test", "other.example.test") + "ports: {wss: 9443}\n")
    (report,) = apply(wrong, ["sip1"], credentials={}, say=[].append)
    assert {"SD514", "SD516"} <= {problem.code for problem in report.diagnostics}
    host.asked.clear()
    (report,) = rollback(wrong, "sip1", 3, with_users=True, say=[].append)
    assert (report.state, report.diagnostics) == ("applied", ())
    assert scripts(host) == ["release", "facts", "stage", "swap", "confirm", "close"]
    asked = next(words for words in host.asked if words[0] == "facts")
    assert "sip.example.test" in asked
    assert "other.example.test" not in " ".join(asked)


def test_what_the_host_did_by_itself_is_told(hosts):
    hosts["sip1"].answers["facts"] = facts("sid-applied", outcome="1795385210\ttimer\tbob@desk")
    (report,), _ = run(names=["sip1"])
    (problem,) = report.diagnostics
    assert (problem.code, problem.severity) == ("SD527", "warning")
    assert "nobody confirmed the apply in time" in problem.message


def test_the_lock_is_waited_for(hosts, monkeypatch):
    busy, free = facts("sid-applied", lock="bob@desk"), facts("sid-applied")
    answers = iter([busy, busy, free])
    host = hosts["sip1"]
    ask = host.run

    def run_it(argv, **kwargs):
        if "sipdeploy-facts" in argv:
            host.answers["facts"] = next(answers, free)
        return ask(argv, **kwargs)

    monkeypatch.setattr(host, "run", run_it)
    monkeypatch.setattr(threading.Event, "wait", lambda *_: False)
    (report,), _ = run(names=["sip1"], lock_wait_seconds=60)
    assert report.state == "applied"
    assert scripts(host)[:4] == ["facts", "facts", "facts", "stage"]


def test_a_broken_lock_is_taken_over(hosts):
    hosts["sip1"].answers["facts"] = facts("sid-applied", lock="bob@desk")
    run(names=["sip1"], breaks_lock=True)
    (stage,) = (words for words in hosts["sip1"].asked if words[0] == "stage")
    assert stage[-1] == "bob@desk"


def test_an_undo_that_fails_leaves_the_state_unknown(hosts):
    hosts["sip1"].answers["swap"] = Result(status=1)
    hosts["sip1"].answers["restore"] = Result(status=1, stderr=b"cannot restore /etc/x\n")
    (report,), _ = run(names=["sip1"])
    assert (report.state, report.exit_code) == ("unknown", 5)
    assert {problem.code for problem in report.diagnostics} == {"SD522", "SD525"}
    assert scripts(hosts["sip1"])[-2:] == ["unlock", "close"]


def test_a_lock_that_is_taken_leaves_the_host_unchanged(hosts):
    hosts["sip1"].answers["stage"] = Result(status=0, stdout=b"\x1ebusy\nbob@desk\n")
    (report,), _ = run(names=["sip1"])
    assert (report.state, report.exit_code) == ("unchanged", 4)
    assert "is locked by bob@desk" in report.diagnostics[0].message


def test_an_interrupt_is_undone_and_told(hosts, monkeypatch):
    """Ctrl-C during the first swap; tests/lab sends a real signal."""
    at_swap, noted = threading.Event(), threading.Event()
    ask, wait = hosts["sip1"].run, apply_module.wait

    def swapping(argv, **kwargs):
        if "sipdeploy-swap" in argv:
            at_swap.set()
            assert noted.wait(10)
        return ask(argv, **kwargs)

    def interrupted(pending, **_):
        if at_swap.is_set() and not noted.is_set():
            noted.set()
            raise KeyboardInterrupt
        return wait(pending, timeout=0.05)

    monkeypatch.setattr(hosts["sip1"], "run", swapping)
    monkeypatch.setattr(apply_module, "wait", interrupted)
    with pytest.raises(Interrupted) as ended:
        run()
    assert states(ended.value.reports) == ["rolled back", "unchanged"]
    (problem,) = ended.value.reports[0].diagnostics
    assert problem.code == "SD533"
    assert problem.message.startswith("interrupted on `sip1` during `")
    assert problem.message.endswith("; sipdeploy restored the previous release")
    assert [x for x in scripts(hosts["sip1"]) if x != "close"][-2:] == ["restore", "unlock"]
    assert "swap" not in scripts(hosts["sip2"])


class Cut(FakeHost):
    """Loses its connection in the script `at`, as SSHHost does if somebody closes it."""

    def __init__(self, *arguments, at):
        super().__init__(*arguments)
        self.at = at
        self.is_begun = threading.Event()
        self._is_closed = threading.Event()

    def run(self, argv, **options):
        result = super().run(argv, **options)
        if f"sipdeploy-{self.at}" in argv:
            self.at = ""
            self.is_begun.set()
            assert self._is_closed.wait(10)
            raise host_failed("SD506", "the connection to `sip1` was lost")
        return result

    def close(self):
        super().close()
        self._is_closed.set()


@pytest.mark.parametrize(
    ("at", "became", "undone"),
    [
        ("facts", "the host is unchanged", []),
        ("stage", "the host is unchanged", ["unlock"]),
        ("swap", "sipdeploy restored the previous release", ["restore", "unlock"]),
    ],
)
def test_ctrl_c_is_no_lost_connection(hosts, monkeypatch, at, became, undone):
    cut = hosts["sip1"] = Cut("sip1", hosts["sip1"].answers, at=at)
    wait = apply_module.wait

    def interrupted(pending, **_):
        if cut.is_begun.is_set() and not cut._is_closed.is_set():  # noqa: SLF001
            raise KeyboardInterrupt
        return wait(pending, timeout=0.05)

    monkeypatch.setattr(apply_module, "wait", interrupted)
    with pytest.raises(Interrupted) as ended:
        run()
    first, second = ended.value.reports
    state = "rolled back" if at == "swap" else "unchanged"
    assert (first.state, second.state) == (state, "unchanged")
    (problem,) = first.diagnostics
    assert (problem.code, problem.message.partition("; ")[2]) == ("SD533", became)
    assert [x for x in scripts(cut) if x in ("restore", "unlock")] == undone


def test_ctrl_c_while_a_host_does_not_answer_ends_at_once(hosts, monkeypatch):
    """The connection would take 60 seconds; nothing has changed, so nobody waits for it."""
    asked, ends = threading.Event(), threading.Event()
    wait = apply_module.wait

    def silent(name, _):
        asked.set()
        ends.wait(60)
        return hosts[name]

    def interrupted(pending, **_):
        if asked.is_set() and not ends.is_set() and not told:
            told.append(True)
            raise KeyboardInterrupt
        return wait(pending, timeout=0.05)

    told = []
    monkeypatch.setattr(host_run, "connect", silent)
    monkeypatch.setattr(apply_module, "wait", interrupted)
    began = time.monotonic()
    with pytest.raises(Interrupted) as ended:
        run(names=["sip1"])
    ends.set()
    assert time.monotonic() - began < 10
    assert "during `connect`" in ended.value.reports[0].diagnostics[0].message


def test_an_interrupted_plan_is_no_empty_plan(hosts, monkeypatch):
    cut = hosts["sip1"] = Cut("sip1", hosts["sip1"].answers, at="facts")
    wait = apply_module.wait

    def interrupted(pending, **_):
        if cut.is_begun.is_set() and not cut._is_closed.is_set():  # noqa: SLF001
            raise KeyboardInterrupt
        return wait(pending, timeout=0.05)

    monkeypatch.setattr(apply_module, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        plan(site(), ["sip1"], credentials={}, say=[].append)


@pytest.mark.parametrize("failure", [RuntimeError("a bug"), KeyboardInterrupt()])
def test_a_bug_on_one_host_skips_the_undo_of_no_other(hosts, monkeypatch, failure):
    """Both hosts are swapped when the confirmation of the second meets a bug."""
    confirm = host_run.HostRun.confirm

    def broken(self):
        if self.name == "sip1":
            raise failure
        confirm(self)

    monkeypatch.setattr(host_run.HostRun, "confirm", broken)
    hosts["sip2"].answers["confirm"] = Result(status=1)
    with pytest.raises(type(failure)):
        run(all_or_nothing=True)
    assert "restore" in scripts(hosts["sip1"])
    assert "restore" in scripts(hosts["sip2"])


def test_hosts_that_differ_after_all_or_nothing_are_reported(hosts):
    hosts["sip2"].answers["confirm"] = Result(status=1)
    (first, second), _ = run(all_or_nothing=True)
    assert (first.state, second.state) == ("applied", "rolled back")
    assert first.diagnostics == ()
    problem = next(each for each in second.diagnostics if each.code == "SD534")
    assert "sip1 confirmed the new release, `sip2` did not" in problem.message
    assert "`sipdeploy apply sip2`" in problem.help
    assert "`sipdeploy rollback sip1`" in problem.help


def test_a_rollback_needs_only_its_own_release(hosts):
    """The releases 1 and 3 are damaged; 2 is the one before the current one."""
    out = "".join(f"\x1erelease {number}\n{{\n" for number in (1, 2, 3))
    answer = f"\x1ecurrent\n3\n{out}\x1eend\n".encode()
    hosts["sip1"].answers["history"] = Result(status=0, stdout=answer)
    hosts["sip1"].answers["release"] = Result(status=0, stdout=b"")
    (report,) = rollback(site(), "sip1", None, say=[].append)
    assert ("release", "/var/lib/sipdeploy", "2") in hosts["sip1"].asked
    assert "release 2 on `sip1`" in report.diagnostics[-1].message


@pytest.mark.usefixtures("hosts")
def test_what_a_slow_connection_waits_for_is_said(monkeypatch):
    def slow(name, _):
        time.sleep(0.4)
        raise host_failed("SD501", f"{name} is away")

    monkeypatch.setattr(host_run, "connect", slow)
    _, events = run(names=["sip1"])
    texts = [(event.title, event.text) for event in events if event.state == "line"]
    assert texts == [("connect", "waiting for 10.0.0.1")]


@pytest.mark.usefixtures("hosts")
def test_a_host_that_cannot_be_reached_is_reported(monkeypatch):
    def unreachable(name, _):
        raise host_failed("SD501", f"{name} is away")

    monkeypatch.setattr(host_run, "connect", unreachable)
    reports, events = run()
    assert [report.state for report in reports] == ["unchanged", "unchanged"]
    assert (reports[0].exit_code, reports[1].exit_code) == (4, 4)
    assert sorted(event.state for event in events) == ["failed", "failed", "start", "start"]


def test_errors_of_preflight_stop_before_anything(hosts, monkeypatch):
    made = [
        Diagnostic("SD510", "old"),
        Diagnostic("SD515", "clock", severity="warning"),
    ]
    monkeypatch.setattr(preflight, "problems", lambda *_, **__: made)
    (report,), _ = run(names=["sip1"])
    assert scripts(hosts["sip1"]) == ["facts", "close"]
    assert {problem.code for problem in report.diagnostics} == {"SD510", "SD515"}


def test_old_package_lists_are_fetched_and_packages_installed(hosts):
    offered = r"\1:\n  Installed: (none)\n  Candidate: \2"
    candidates = re.sub(r"(\S+)\t(\S+)\tinstalled", offered, PACKAGES)
    old = facts("sid-applied", packages="", lists="0\n0", candidates=candidates)
    hosts["sip1"].answers["facts"] = old
    (report,), events = run(names=["sip1"])
    assert report.state == "applied"
    assert scripts(hosts["sip1"])[:5] == ["facts", "packages", "facts", "lock", "packages"]
    assert ("packages", "update") in hosts["sip1"].asked
    assert "update package lists" in [event.title for event in events]


class Refreshing(FakeHost):
    """A host whose facts change with the update of its package lists, which fails."""

    def __init__(self, before, after):
        super().__init__("sip1", {**GOOD, "facts": before})
        self._after = after
        failed = b"E: The repository 'https://other.example sid' is not signed.\n"
        self.answers["packages"] = Result(status=100, stdout=failed)

    def run(self, argv, **options):
        result = super().run(argv, **options)
        if self.asked[-1][:2] == ("packages", "update"):
            self.answers["facts"] = self._after
            self.answers["packages"] = Result(status=0)
        return result


def test_a_broken_source_of_somebody_else_is_a_warning(monkeypatch):
    offered = r"\1:\n  Installed: (none)\n  Candidate: \2"
    candidates = re.sub(r"(\S+)\t(\S+)\tinstalled", offered, PACKAGES)
    old = facts("sid-applied", packages="", lists="0\n0", candidates="")
    new = facts("sid-applied", packages="", lists="9\n0", candidates=candidates)
    host = Refreshing(old, new)
    monkeypatch.setattr(host_run, "connect", lambda *_: host)
    (report,), _ = run(names=["sip1"])
    assert (report.state, report.exit_code) == ("applied", 0)
    (problem,) = report.diagnostics
    assert (problem.severity, problem.code) == ("warning", "SD520")
    assert "https://other.example" in problem.notes[0]


def test_a_source_without_which_packages_are_missing_is_an_error(monkeypatch):
    old = facts("sid-applied", packages="", lists="0\n0", candidates="")
    host = Refreshing(old, old)
    monkeypatch.setattr(host_run, "connect", lambda *_: host)
    (report,), _ = run(names=["sip1"])
    assert (report.state, report.exit_code) == ("unchanged", 4)
    (problem,) = report.diagnostics
    assert (problem.severity, problem.code) == ("error", "SD520")
    assert "/etc/apt" in problem.help


def test_an_unfinished_apply_is_undone_first(hosts):
    hosts["sip1"].answers["facts"] = facts("sid-applied", abandoned="yes")
    run(names=["sip1"])
    assert scripts(hosts["sip1"])[:4] == ["facts", "restore", "unlock", "facts"]


def test_a_recovery_that_fails_leaves_the_state_unknown(hosts):
    hosts["sip1"].answers["facts"] = facts("sid-applied", abandoned="yes")
    hosts["sip1"].answers["restore"] = Result(status=1, stderr=b"cannot restore /etc/x\n")
    reports, _ = run()
    assert [(report.state, report.exit_code) for report in reports] == [
        ("unknown", 5),
        ("unchanged", 0),
    ]
    (problem,) = reports[0].diagnostics
    assert problem.code == "SD525"
    assert "journalctl -b -u asterisk -u kamailio" in problem.help
    assert scripts(hosts["sip1"]) == ["facts", "restore", "unlock", "close"]


def test_an_unfinished_apply_of_somebody_alive_is_left_alone(hosts):
    """Also without changes to make, because the facts are about to change."""
    alive = f"a@elsewhere (pid {os.getpid()}, since now, run 1)"
    held = facts(
        "sid-applied", abandoned="yes", lock=alive, purpose="apply x", clock=900, since=650
    )
    hosts["sip1"].answers["facts"] = held
    (report,), _ = run(names=["sip1"])
    assert scripts(hosts["sip1"]) == ["facts", "close"]
    (problem,) = report.diagnostics
    assert (problem.code, report.state) == ("SD507", "unchanged")
    assert alive in problem.message
    assert problem.notes == ("running `apply x` for 4 min",)


def test_only_a_dead_process_of_this_machine_is_stale():
    here, me = socket.gethostname(), this_owner()
    assert stale_owner(me) == ""
    dead = me.replace(f"(pid {os.getpid()},", "(pid 4194305,")
    assert stale_owner(dead) == dead
    _, _, machine = dead.rstrip(")").rpartition("machine ")
    boot, _, namespace = machine.partition("/")
    for other in (
        me.replace(f"(pid {os.getpid()},", "(pid 1,"),
        dead.replace(boot, "another-boot"),  # two machines may have the same name
        dead.replace(namespace, "4026530000"),  # and two containers the same machine
        dead.replace(machine, "unknown"),
        f"a@{here} (pid 4194305, since now, run 1)",
        "nonsense",
        "",
    ):
        assert stale_owner(other) == ""


def test_without_proc_nobody_is_known_to_be_dead(monkeypatch):
    me = this_owner()
    monkeypatch.setattr(lock.Path, "read_text", lambda *_: open("/no/such"))  # noqa: PTH123, SIM115
    assert stale_owner(me) == ""
    mine = this_owner()
    assert mine.endswith("machine unknown)")
    assert stale_owner(mine.replace(str(os.getpid()), "4194305")) == ""


def test_a_user_without_a_name_goes_by_the_number(monkeypatch):
    def nameless():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(lock.getpass, "getuser", nameless)
    assert this_owner().startswith(f"{os.getuid()}@")


ACME = TEXT.replace("self-signed", "letsencrypt")


def test_a_certificate_is_had_before_anything_is_staged(hosts):
    for host in hosts.values():
        host.answers["issue"] = Result(status=0, stdout=b"\x1eissued\n")
    reports, _ = run(site(ACME))
    assert states(reports) == ["applied", "applied"]
    asked = scripts(hosts["sip1"])
    assert asked[asked.index("lock") :][:4] == ["lock", "packages", "issue", "stage"]


def test_a_refusal_leaves_every_host_as_it_was(hosts):
    said = b"\x1erefused\nurn:ietf:params:acme:error:rateLimited :: too many certificates\n"
    hosts["sip1"].answers["issue"] = Result(status=0, stdout=said)
    hosts["sip2"].answers["issue"] = Result(status=0, stdout=b"\x1eissued\n")
    reports, _ = run(site(ACME))
    assert states(reports) == ["unchanged", "unchanged"]
    (problem,) = reports[0].diagnostics
    assert (problem.code, reports[0].exit_code) == ("SD610", 4)
    assert "rate limit" in problem.message
    assert "self-signed" not in str(problem)
    assert "stage" not in scripts(hosts["sip1"])
    assert scripts(hosts["sip2"])[-3:] == ["unissue", "unlock", "close"]


@pytest.mark.usefixtures("hosts")
def test_certificate_files_are_looked_for_beside_the_inventory(tmp_path):
    own = TEXT.replace("self-signed", "files, certificate: c, private_key: k")
    with pytest.raises(InvalidFiles) as failed:
        apply(site(own), ["sip1"], credentials={}, say=[].append, options=Options(folder=tmp_path))
    assert [problem.code for problem in failed.value.diagnostics] == ["SD602", "SD602"]


def test_a_report_without_errors_has_not_failed():
    assert Report(host="sip1", state="applied").exit_code == 0


@pytest.mark.parametrize(
    ("state", "changes", "text"),
    [
        ("applied", 1, "applied, 1 change"),
        ("applied", 42, "applied, 42 changes"),
        ("unchanged", 0, "unchanged, 0 changes"),
        ("unchanged", 1, "unchanged, 1 planned change"),
        ("unchanged", 45, "unchanged, 45 planned changes"),
        ("rolled back", 45, "rolled back, 45 planned changes"),
        ("unknown", 45, "unknown, 45 planned changes"),
    ],
)
def test_a_report_counts_as_changes_only_those_that_the_host_has(state, changes, text):
    report = Report(host="sip1", state=state, changes=("~ file",) * changes, seconds=1.25)
    assert as_text([report]) == f"sip1  {text}, 1.2 s"
