"""An apply that stays unconfirmed for a while: on trial, or watched."""

import base64
import json
import time

import pytest
from fakes import FakeHost
from test_apply import Cut, facts, hosts, run, scripts, site, states

from sipdeploy import transaction
from sipdeploy.__main__ import main
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import Result, connection, host_failed, script_text
from sipdeploy.host.local import LocalHost
from sipdeploy.operation import health
from sipdeploy.operation.health import Reading
from sipdeploy.transaction import Interrupted, plan
from sipdeploy.transaction.reports import as_json, as_text
from sipdeploy.transaction.trial import Watched, watch

__all__ = ["hosts"]  # the fixture
OPEN = (
    "\x1etrial\n{}\n\x1eclock\n{}\n\x1eholder\nme\n\x1epurpose\napply sip1\n\x1eaudit\nme: + a\n"
)


def said(text):
    return Result(status=0, stdout=text.encode())


def trial_facts(seconds=300):
    now = time.time()
    return facts(
        "sid-applied",
        clock=f"{now}",
        trial=f"{now + seconds:.0f}",
        lock="ann@desk (pid 1, since then, run 1, machine x)",
        purpose="apply sip1 --try 10m",
        abandoned="yes",
        runner="ann@desk",
    )


def problems(report):
    return [(each.code, each.severity) for each in report.diagnostics]


def test_a_trial_is_opened_and_not_confirmed(hosts):
    (report,), _ = run(names=["sip1"], try_seconds=600)
    assert scripts(hosts["sip1"]) == ["facts", "stage", "swap", "try", "close"]
    assert hosts["sip1"].asked[3][3] == "600"
    assert b"apply: " in hosts["sip1"].inputs[3]
    assert (report.state, report.exit_code, report.trial_seconds) == ("on trial", 0, 600)
    first, last = as_text([report]).splitlines()
    assert first.startswith("sip1  on trial, ")
    assert "planned" not in first
    assert last == (
        "sip1  goes back by itself in 10 min; `sipdeploy confirm sip1` keeps the new release"
    )
    assert json.loads(as_json([report]))["hosts"][0]["trial_seconds"] == 600


def test_a_new_firewall_is_tried_by_a_new_way_in(hosts):
    hosts["sip1"].answers["facts"] = facts("sid-applied", chains="")
    run(names=["sip1"], try_seconds=600)
    assert scripts(hosts["sip1"])[3:] == ["close", "try", "close"]


def test_a_host_on_trial_stays_so_if_another_one_fails(hosts):
    hosts["sip2"].answers["swap"] = said("\x1efailed\nsystemctl restart x\n")
    reports, _ = run(try_seconds=600)
    assert states(reports) == ["on trial", "rolled back"]
    assert "restore" not in scripts(hosts["sip1"])


def test_all_or_nothing_opens_no_trial_if_one_fails(hosts):
    hosts["sip2"].answers["swap"] = said("\x1efailed\nsystemctl restart x\n")
    reports, _ = run(try_seconds=600, all_or_nothing=True)
    assert states(reports) == ["rolled back", "rolled back"]
    assert "try" not in scripts(hosts["sip1"])


def test_a_trial_that_comes_too_late_was_rolled_back(hosts):
    hosts["sip1"].answers["try"] = said("\x1elate\n")
    (report,), _ = run(names=["sip1"], try_seconds=600)
    assert (report.state, problems(report)) == ("rolled back", [("SD528", "error")])


def test_an_apply_is_refused_while_a_release_is_on_trial(hosts):
    hosts["sip1"].answers["facts"] = trial_facts()
    (report,), _ = run(names=["sip1"])
    assert scripts(hosts["sip1"]) == ["facts", "close"]
    assert (report.state, report.exit_code) == ("unchanged", 4)
    (problem,) = report.diagnostics
    assert problem.code == "SD542"
    assert "by itself in 5 min" in problem.message
    assert "ann@desk, with `apply sip1 --try 10m`" in problem.notes[0]
    assert "`sipdeploy confirm sip1`" in problem.help


def test_a_broken_lock_takes_the_trial_back_first(hosts):
    answers = iter([trial_facts(), facts("sid-applied")])
    ask = hosts["sip1"].run

    def ask_next(argv, **options):
        if "sipdeploy-facts" in argv:
            hosts["sip1"].answers["facts"] = next(answers)
        return ask(argv, **options)

    hosts["sip1"].run = ask_next
    (report,), _ = run(names=["sip1"], breaks_lock=True)
    assert scripts(hosts["sip1"])[:4] == ["facts", "restore", "unlock", "facts"]
    assert report.state == "applied"


def test_the_end_of_a_trial_is_waited_for(hosts):
    hosts["sip1"].answers["facts"] = trial_facts(0)
    (report,), _ = run(names=["sip1"], lock_wait_seconds=1)
    assert scripts(hosts["sip1"]).count("facts") > 1
    assert problems(report) == [("SD542", "error")]


def test_a_trial_that_lasts_longer_is_not_waited_for(hosts):
    hosts["sip1"].answers["facts"] = trial_facts(300)
    (report,), _ = run(names=["sip1"], lock_wait_seconds=120)
    assert scripts(hosts["sip1"]) == ["facts", "close"]
    assert problems(report) == [("SD542", "error")]


def test_a_plan_tells_of_a_trial(hosts):
    hosts["sip1"].answers["facts"] = trial_facts()
    words = {"credentials": {"1001": "0" * 32}, "say": [].append}
    (planned,) = plan(site(), ["sip1"], **words)
    assert [(p.code, p.severity) for p in planned.diagnostics] == [("SD542", "warning")]
    assert planned.exit_code == 0


def going(hosts):
    """1001 gets a new password with the next apply to sip1, and 1009 is removed."""
    known = facts("sid-applied").stdout.replace(
        b"\x1edigests\n", b"\x1edigests\n0  /etc/kamailio/credentials.sum\n"
    )
    known = known.replace(
        b"\x1emodes\n", b"\x1emodes\n600 root:root /etc/kamailio/credentials.sum\n"
    )
    hosts["sip1"].answers["facts"] = Result(status=0, stdout=known)
    before = base64.b64encode(
        b"1001@sip.example.test 0123456789abcdef\n1009@x.y 0123456789abcdef\n"
    )
    hosts["sip1"].answers["preview"] = Result(
        status=0,
        stdout=b"".join(b"\x1efile %d\n%s\n" % (2 * n, before) for n in range(40)) + b"\x1eend\n",
    )


def test_who_would_come_back_with_a_trial_is_told(hosts):
    going(hosts)
    (report,), _ = run(names=["sip1"], try_seconds=600)
    (problem,) = report.diagnostics
    assert (problem.code, problem.severity) == ("SD543", "warning")
    assert "2 users (1001, 1009)" in problem.message
    (report,), _ = run(names=["sip1"])
    assert report.diagnostics == ()


# How a host does


def reading(registered=40, units="", more=""):
    return said(
        f"\x1eclock\n{time.time()}\n{more}\x1econtacts\nlocation-users = {registered}\n"
        f"\x1eunits\n{units}\x1ejournal\n\x1eend\n"
    )


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """A watch whose minutes are short."""
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(watch, "LOST_SECONDS", 0.05)
    monkeypatch.setattr("sipdeploy.operation.health.SETTLE_SECONDS", 0)


def in_turn(host, *readings):
    """The host answers the script `watch` with these, and then with the last one again."""
    ask, answers = host.run, iter(readings)

    def ask_next(argv, **options):
        if "sipdeploy-watch" in argv:
            host.answers["watch"] = next(answers, readings[-1])
        return ask(argv, **options)

    host.run = ask_next


def test_a_host_that_does_as_before_is_confirmed(hosts):
    hosts["sip1"].answers["watch"] = reading()
    (report,), events = run(names=["sip1"], watch_seconds=1)
    names = scripts(hosts["sip1"])
    assert (names[2], names[3], names[-2]) == ("watch", "swap", "confirm")
    assert names.count("watch") > 3
    before, first = (words for words in hosts["sip1"].asked[2:5] if words[0] == "watch")
    assert (before[2], first[2] != "") == ("", True)
    assert report.state == "applied"
    told = [event.text for event in events if event.title == "watch for 1 s"]
    assert "40 registered (before: 40), 0 of 0 calls failed (before: 0 of 0)" in told[1]


def test_a_host_that_does_worse_goes_back(hosts):
    in_turn(hosts["sip1"], reading(), reading(38), reading(3))
    (report,), _ = run(names=["sip1"], watch_seconds=60)
    assert (report.state, problems(report)) == ("rolled back", [("SD545", "error")])
    assert "3 users registered, 40 before" in report.diagnostics[0].message
    assert scripts(hosts["sip1"])[-3:-1] == ["restore", "unlock"]


LISTED = "\x1eregistered\n1001@sip.example.test\n1009@x.y\n1003@sip.example.test\n"


@pytest.mark.parametrize(
    ("more", "before"),
    [(LISTED, 15), (LISTED.replace("1009", "1004"), 16), ("", 15)],
    ids=["registered", "one-is-not", "unknown"],
)
def test_users_whom_the_apply_disconnects_are_not_missed(hosts, more, before):
    going(hosts)
    in_turn(hosts["sip1"], reading(17, more=more), reading(11))
    (report,), events = run(names=["sip1"], watch_seconds=1)
    told = [event.text for event in events if event.title == "read how the host does"]
    assert f"the change disconnects {17 - before} of 17 registered users" in told
    assert any(text.startswith(f"{before} registered (before: {before})") for text in told)
    # 11 of 16 is fewer than 70 %, and 11 of 15 is not
    assert report.state == ("applied" if before == 15 else "rolled back")


def test_calls_to_users_who_are_gone_are_no_failures(hosts, monkeypatch):
    going(hosts)
    failed = Reading(
        seconds=60.0,
        outcomes={(f"10{n}", to): True for n in range(20, 40) for to in ("1001", "1009")},
    )
    monkeypatch.setattr(health, "reading", lambda *_: failed)
    hosts["sip1"].answers["watch"] = reading()
    (report,), _ = run(names=["sip1"], watch_seconds=1)
    assert report.state == "applied"


def test_who_comes_back_after_a_watch_is_told(hosts):
    going(hosts)
    in_turn(hosts["sip1"], reading(), reading(3))
    (report,), events = run(names=["sip1"], watch_seconds=60)
    who = "the old passwords of 2 users (1001, 1009) are valid again"
    assert f"if it goes back, {who}" in [event.text for event in events]
    assert (report.state, problems(report)) == (
        "rolled back",
        [("SD543", "warning"), ("SD545", "error")],
    )
    warning, error = report.diagnostics
    assert "removes or disconnects 2 users (1001, 1009) on `sip1`: if the watch" in warning.message
    assert error.notes[0].startswith(f"{who}; `sipdeploy apply sip1`")


def test_nobody_comes_back_after_a_confirmed_watch(hosts):
    going(hosts)
    hosts["sip1"].answers["watch"] = reading()
    (report,), _ = run(names=["sip1"], watch_seconds=1)
    assert (report.state, report.diagnostics) == ("applied", ())


def test_a_lost_connection_ends_no_watch_at_once(hosts):
    ask, number = hosts["sip1"].run, iter(range(99))

    def ask_next(argv, **options):
        if "sipdeploy-watch" in argv and next(number) in (2, 3):
            raise host_failed("SD506", "lost")
        return ask(argv, **options)

    hosts["sip1"].run = ask_next
    hosts["sip1"].answers["watch"] = reading()
    (report,), _ = run(names=["sip1"], watch_seconds=1)
    assert report.state == "applied"


@pytest.mark.parametrize("by", ["me", "somebody"])
def test_a_watch_ends_when_somebody_decides(hosts, by, monkeypatch):
    going(hosts)
    monkeypatch.setattr(transaction, "this_owner", lambda: "me")
    answers = iter([reading(), reading()])
    ask = hosts["sip1"].run

    def ask_next(argv, **options):
        if "sipdeploy-watch" in argv:
            over = said(f"\x1eclock\n1\n\x1eover\n{by}\n")
            hosts["sip1"].answers["watch"] = next(answers, over)
        return ask(argv, **options)

    hosts["sip1"].run = ask_next
    (report,), _ = run(names=["sip1"], watch_seconds=60)
    if by == "me":  # confirmed
        assert (report.state, report.diagnostics) == ("applied", ())
    else:
        found = [("SD543", "warning"), ("SD528", "error")]
        assert (report.state, problems(report)) == ("rolled back", found)
        assert "2 users (1001, 1009) are valid again" in report.diagnostics[1].notes[0]


class CutAfterSwap(Cut):
    """Loses its connection in the first reading after the swap."""

    def run(self, argv, **options):
        is_swapped = "swap" in scripts(self)
        return super().run(argv, **options) if is_swapped else FakeHost.run(self, argv, **options)


def test_ctrl_c_in_a_watch_goes_back(hosts, monkeypatch):
    answers = hosts["sip1"].answers | {"watch": reading()}
    cut = hosts["sip1"] = CutAfterSwap("sip1", answers, at="watch")
    wait = transaction.wait

    def interrupted(pending, **_):
        if cut.is_begun.is_set() and not cut._is_closed.is_set():  # noqa: SLF001
            raise KeyboardInterrupt
        return wait(pending, timeout=0.05)

    monkeypatch.setattr(transaction, "wait", interrupted)
    with pytest.raises(Interrupted) as ended:
        run(names=["sip1"], watch_seconds=60)
    (report,) = ended.value.reports
    assert (report.state, problems(report)) == ("rolled back", [("SD533", "error")])
    assert "confirm" not in scripts(cut)


KAMCMD = """#!/bin/sh
case "$*" in
stats.*) printf 'usrloc:location-contacts = 9\\nusrloc:location-users = 2\\n' ;;
"ul.dump brief")
    printf '\\tAoR: 1001@a.b\\n\\tAoR: 1002@a.b\\n'
    [ -e "$0.fails" ] || echo Max-Slots: 4 ;;
esac
"""


def test_the_script_says_who_is_registered(tmp_path, monkeypatch):
    program = tmp_path / "kamcmd"
    program.write_text(KAMCMD)
    program.chmod(0o755)
    text = script_text("watch").replace(b"\nPATH=", f"\nPATH={tmp_path}:".encode(), 1)
    monkeypatch.setattr("sipdeploy.host.script_text", lambda _: text)

    def read():
        watched = Watched(disconnected=frozenset({"1002", "1003"}))
        step = watch.ReadBefore(watched=watched, state=f"{tmp_path}")
        step.run(LocalHost("here"), lambda _: None)
        return watched.before.registered

    assert read() == 2 - 1
    (tmp_path / "kamcmd.fails").touch()  # the list has no end: both may be registered
    assert read() == 0


def test_an_answer_without_an_end_is_an_error():
    host = FakeHost(answers={"watch": Result(status=1, stderr=b"no kamcmd\n")})
    step = watch.ReadBefore(watched=Watched())
    with pytest.raises(HostFailed, match="did not say how it does"):
        step.run(host, lambda _: None)


# The command


@pytest.fixture
def confirm(tmp_path, monkeypatch, capsys):
    """`sipdeploy confirm` for hosts with these answers: exit code, stdout, stderr, asked."""

    def start(*words, **answers):
        made = {}

        def connect(name, _):
            if name == "sip3":
                raise host_failed("SD501", "`sip3` does not answer")
            made[name] = FakeHost(name, {key: said(text) for key, text in answers.items()})
            return made[name]

        monkeypatch.setattr(connection, "connect", connect)
        monkeypatch.chdir(tmp_path)
        entries = ", ".join(f"sip{n}: {{address: 203.0.113.{n}}}" for n in (1, 2, 3))
        text = f"domain: sip.example.test\nemail: a@b.example\nhosts: {{{entries}}}\nusers: {{}}\n"
        (tmp_path / "inventory.yaml").write_text(text)
        code = main(["confirm", *words])
        out, err = capsys.readouterr()
        return code, out, err, made

    return start


OPENED = OPEN.format(2000, 1900) + "\x1eend\n"


def test_a_trial_is_confirmed_by_the_owner_of_its_run(confirm):
    code, out, _, made = confirm("sip1", trial=OPENED, confirm="\x1econfirmed\n")
    assert (code, out) == (0, "sip1  confirmed, the new release stays\n")
    names = [words[0] for words in made["sip1"].asked]
    assert names == ["trial", "confirm", "close"]
    assert made["sip1"].asked[1][2] == "me"
    assert made["sip1"].inputs[1].endswith(b": confirm: me: + a\n")


def test_a_trial_is_taken_back_at_once(confirm):
    code, out, _, made = confirm("sip1", "--undo", trial=OPENED)
    assert (code, out) == (0, "sip1  rolled back, the trial is over\n")
    (restore, unlock) = made["sip1"].asked[1:3]
    assert (restore[0], restore[2:4], unlock[0]) == ("restore", ("apply", "me"), "unlock")


def test_a_host_without_a_trial_hides_no_other(confirm):
    none = "\x1etrial\n\x1eclock\n1900\n\x1eoutcome\n1000\ttrial\tme\n\x1eend\n"
    code, out, err, _ = confirm("sip1", "sip3", "sip2", trial=none)
    assert (code, out) == (4, "")
    assert err.count("error[SD544]: no release is on trial on `sip") == 2
    assert "nobody confirmed its trial in time" in err
    assert "`sip3` does not answer" in err


def test_a_trial_that_ends_meanwhile_is_told(confirm):
    code, out, err, _ = confirm("sip1", trial=OPENED, confirm="\x1elate\n")
    assert (code, out, "error[SD528]" in err) == (4, "", True)


def test_both_kinds_contradict_each_other(capsys):
    assert main(["apply", "--watch", "5m", "--try", "10m"]) == 2
    assert "`--try` and `--watch` contradict each other" in capsys.readouterr().err
    for wrong in ("10", "0m", "25h", "1d", "-5m", "10 m"):
        assert main(["apply", "--try", wrong]) == 2
        assert "is not a time from 30s to 24h" in capsys.readouterr().err
