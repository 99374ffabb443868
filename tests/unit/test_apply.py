"""The course over hosts, on recorded facts and without a machine; real hosts are in tests/lab."""

import os
import re
import socket

import pytest
from fakes import FakeHost
from hosts_facts import FOLDER

from sipdeploy import apply as apply_module
from sipdeploy import preflight
from sipdeploy.apply import Choices, Report, apply, stale_holder
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.errors import InvalidFiles
from sipdeploy.hosts import Result, host_failed
from sipdeploy.plan.desired import _packages
from sipdeploy.site import load_site

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
    replace = {"packages": PACKAGES, **replace}
    text = (FOLDER / f"{name}.txt").read_text()
    for section, body in replace.items():
        text = re.sub(rf"\x1e{section}\n[^\x1e]*", f"\x1e{section}\n{body}\n", text)
    return Result(status=0, stdout=text.encode())


# Whatever the services ask for is there, in the versions of sid.
PACKAGES = "\n".join(
    f"{name}\t{'1:22.10.1-1' if name.startswith('asterisk') else '6.1.5-1'}\tinstalled"
    for name in _packages("debian", "forky")
)
GOOD = {
    "lock": Result(status=0, stdout=b"\x1elocked\n"),
    "check": Result(status=0, stdout=b"\x1eleft\n\n\x1echecked\n"),
}


@pytest.fixture
def hosts(monkeypatch):
    """Two fake hosts with the facts of a real one; preflight only where a test wants it."""
    made = {
        name: FakeHost(name, {**GOOD, "facts": facts("sid-applied")}) for name in ("sip1", "sip2")
    }
    monkeypatch.setattr(apply_module, "connect", lambda name, _: made[name])
    monkeypatch.setattr(preflight, "problems", lambda *_, **__: [])
    return made


def run(wanted=None, names=("sip1", "sip2")):
    events = []
    reports = apply(wanted or site(), names, credentials={"1001": "0" * 32}, say=events.append)
    return reports, events


def scripts(host):
    return [words[0] for words in host.asked]


COURSE = ["facts", "lock", "stage", "swap", "services", "check", "confirm", "close"]


def test_hosts_are_brought_up_one_after_the_other(hosts):
    reports, events = run()
    assert [(report.host, report.state, report.exit_code) for report in reports] == [
        ("sip1", "applied", 0),
        ("sip2", "applied", 0),
    ]
    assert scripts(hosts["sip1"]) == scripts(hosts["sip2"]) == COURSE
    assert [event.host for event in events] == sorted(event.host for event in events)


def test_no_secret_is_in_a_command(hosts):
    run()
    words = " ".join(word for words in hosts["sip1"].asked for word in words)
    assert "0" * 32 not in words


def test_the_first_failure_is_the_last_host(hosts):
    hosts["sip1"].answers["check"] = Result(
        status=0, stdout=b"\x1eleft\nunit\tkamailio.service\t\t\t\n"
    )
    reports, _ = run()
    assert [(report.state, report.exit_code) for report in reports] == [
        ("rolled back", 4),
        ("unchanged", 0),
    ]
    assert scripts(hosts["sip1"])[-3:] == ["restore", "unlock", "close"]
    assert hosts["sip2"].asked == []


def test_an_undo_that_fails_leaves_the_state_unknown(hosts):
    hosts["sip1"].answers["services"] = Result(status=1)
    hosts["sip1"].answers["restore"] = Result(status=1, stderr=b"/etc/x could not be put back\n")
    (report,), _ = run(names=["sip1"])
    assert (report.state, report.exit_code) == ("unknown", 5)
    assert {problem.code for problem in report.diagnostics} == {"SD523", "SD525"}
    assert scripts(hosts["sip1"])[-2:] == ["unlock", "close"]


def test_a_lock_that_is_taken_leaves_the_host_unchanged(hosts):
    hosts["sip1"].answers["lock"] = Result(status=0, stdout=b"\x1ebusy\nbob@desk\n")
    (report,), _ = run(names=["sip1"])
    assert (report.state, report.exit_code) == ("unchanged", 4)
    assert "is locked by bob@desk" in report.diagnostics[0].message


def test_an_interrupt_is_undone_and_passed_on(hosts, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(apply_module.steps.Services, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert scripts(hosts["sip1"])[-3:] == ["restore", "unlock", "close"]


@pytest.mark.usefixtures("hosts")
def test_a_host_that_cannot_be_reached_is_reported(monkeypatch):
    def unreachable(name, _):
        raise host_failed("SD501", f"{name} is away")

    monkeypatch.setattr(apply_module, "connect", unreachable)
    reports, events = run()
    assert [report.state for report in reports] == ["unchanged", "unchanged"]
    assert (reports[0].exit_code, reports[1].exit_code) == (4, 0)
    assert [event.state for event in events] == ["start", "failed"]


def test_errors_of_preflight_stop_before_anything(hosts, monkeypatch):
    made = [
        Diagnostic(code="SD510", severity="error", message="old"),
        Diagnostic(code="SD515", severity="warning", message="clock"),
    ]
    monkeypatch.setattr(preflight, "problems", lambda *_, **__: made)
    (report,), _ = run(names=["sip1"])
    assert scripts(hosts["sip1"]) == ["facts", "close"]
    assert {problem.code for problem in report.diagnostics} == {"SD510", "SD515"}


def test_old_package_lists_are_fetched_and_packages_installed(hosts):
    hosts["sip1"].answers["facts"] = facts("sid-applied", packages="", lists="0\n0")
    (report,), events = run(names=["sip1"])
    assert report.state == "applied"
    assert scripts(hosts["sip1"])[:5] == ["facts", "packages", "facts", "lock", "packages"]
    assert ("packages", "update") in hosts["sip1"].asked
    assert "update package lists" in [event.title for event in events]


def test_an_unfinished_apply_is_undone_first(hosts):
    hosts["sip1"].answers["facts"] = facts("sid-applied", abandoned="yes")
    run(names=["sip1"])
    assert scripts(hosts["sip1"])[:4] == ["facts", "restore", "unlock", "facts"]


def test_a_recovery_that_fails_leaves_the_state_unknown(hosts):
    hosts["sip1"].answers["facts"] = facts("sid-applied", abandoned="yes")
    hosts["sip1"].answers["restore"] = Result(status=1, stderr=b"/etc/x could not be put back\n")
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
    alive = f"a@elsewhere (pid {os.getpid()}, since now, run 1)"
    hosts["sip1"].answers["facts"] = facts("sid-applied", abandoned="yes", lock=alive)
    run(names=["sip1"])
    assert scripts(hosts["sip1"])[:2] == ["facts", "lock"]


def test_only_a_dead_process_of_this_machine_is_stale():
    here, me = socket.gethostname(), apply_module._holder()  # noqa: SLF001
    assert stale_holder(me) == ""
    dead = me.replace(f"(pid {os.getpid()},", "(pid 4194305,")
    assert stale_holder(dead) == dead
    _, _, machine = dead.rstrip(")").rpartition("machine ")
    boot, _, namespace = machine.partition("/")
    for holder in (
        me.replace(f"(pid {os.getpid()},", "(pid 1,"),
        dead.replace(boot, "another-boot"),  # two machines may have one name
        dead.replace(namespace, "4026530000"),  # and two containers one machine
        dead.replace(machine, "unknown"),
        f"a@{here} (pid 4194305, since now, run 1)",
        "nonsense",
        "",
    ):
        assert stale_holder(holder) == ""


def test_without_proc_nobody_is_known_to_be_dead(monkeypatch):
    me = apply_module._holder()  # noqa: SLF001
    monkeypatch.setattr(apply_module.Path, "read_text", lambda *_: open("/no/such"))  # noqa: PTH123, SIM115
    assert stale_holder(me) == ""
    mine = apply_module._holder()  # noqa: SLF001
    assert mine.endswith("machine unknown)")
    assert stale_holder(mine.replace(str(os.getpid()), "4194305")) == ""


def test_a_user_without_a_name_goes_by_the_number(monkeypatch):
    def nameless():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(apply_module.getpass, "getuser", nameless)
    assert apply_module._holder().startswith(f"{os.getuid()}@")  # noqa: SLF001


def test_letsencrypt_is_refused_before_a_host_is_touched(hosts):
    with pytest.raises(InvalidFiles) as failed:
        run(site(TEXT.replace("self-signed", "letsencrypt")))
    assert failed.value.diagnostics[0].code == "SD601"
    assert hosts["sip1"].asked == []


@pytest.mark.usefixtures("hosts")
def test_certificate_files_are_looked_for_beside_the_inventory(tmp_path):
    own = TEXT.replace("self-signed", "files, certificate: c, private_key: k")
    with pytest.raises(InvalidFiles) as failed:
        apply(site(own), ["sip1"], credentials={}, say=[].append, choices=Choices(folder=tmp_path))
    assert [problem.code for problem in failed.value.diagnostics] == ["SD602", "SD602"]


def test_a_report_without_errors_has_not_failed():
    assert Report(host="sip1", state="applied").exit_code == 0
