"""Faults at every exchange of the transaction: the host stays consistent, the next apply works.

The host has the old or the new release, byte for byte, and its daemons have loaded it. The figures
at the end of a run list each outcome.
"""

import contextlib
import multiprocessing
import os
import signal
import time

import pytest
from applying import Events, codes, live, run_apply, site_on, units
from system import packages_of

from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import connection, host_failed
from sipdeploy.transaction import history, host_run, plan, trial
from sipdeploy.transaction.trial import watch

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("login")]

OLD = "{1001: {name: Alice}, 1002: {name: Bob}}"
NEW = "{1001: {name: Alicia}, 1002: {name: Bob}, 1009: {name: Nine}}"
CALLS = ("facts", "stage", "swap", "confirm")
SECONDS = 6  # until the host rolls back by itself
BOUND = SECONDS + 30


@pytest.fixture(scope="module")
def host(lab):
    """A host on which tests can fill a disk; `releases` has the files of both releases."""
    machine = lab.boot("faults1", packages=(*packages_of("sid"), "mount"))
    machine.releases = {}
    return machine


def settle(host):
    """Apply the old release; the first call also records the files of both."""
    assert run_apply(site_on(host, users=OLD), overwrites=True, breaks_lock=True).exit_code == 0
    releases = host.releases
    if not releases:
        releases["old"] = live(host)
        run_apply(site_on(host, users=NEW))
        releases["new"] = live(host)
        assert run_apply(site_on(host, users=OLD)).state == "applied"
    assert live(host) == releases["old"]


def serves(host):
    """Return the release that both daemons have loaded: Kamailio's table, Asterisk's endpoints."""
    table = "1009" in host.run("kamcmd htable.dump names").stdout
    shown = host.run("asterisk -rx 'pjsip show endpoint 1009'").stdout
    endpoint = "Unable to find" not in shown and "1009" in shown
    assert table == endpoint
    return "new" if table else "old"


def outcome(host):
    """Return `old` or `new`, which the files and both daemons must agree on."""
    found = live(host)
    which = next((name for name, tree in host.releases.items() if tree == found), "neither")
    assert which == serves(host)
    assert host.run("systemctl is-active kamailio asterisk").stdout.split() == ["active"] * 2
    return which


def wait_for_the_host(host):
    """Wait until the timer of the host has restored the old release, if it is armed."""
    deadline = time.monotonic() + BOUND
    while host.run("test -e /var/lib/sipdeploy/undo/index").returncode == 0:
        assert time.monotonic() < deadline, "the host does not go back by itself"
        time.sleep(0.2)


def go_on(host, figure):
    """After the fault, the host must become consistent by itself, and the next apply work."""
    wait_for_the_host(host)
    which = outcome(host)
    report = run_apply(site_on(host, users=NEW), breaks_lock=True)
    assert codes(report) == []
    assert outcome(host) == "new"
    told = sorted({problem.code for problem in report.diagnostics})
    figure(f"{which}; the next apply: {report.state} {' '.join(told)}".strip())
    return which


@pytest.fixture
def figure(record_property, request):
    return lambda text: record_property("figure", f"{request.node.name}: {text}")


class Wire:
    """A host that loses its connection at one call."""

    def __init__(self, real, call, kind):
        self.name = real.name
        self._real = real
        self._call = call
        self._kind = kind
        self._is_away = False

    def run(self, argv, **options):
        name = next((word for word in argv if word.startswith("sipdeploy-")), argv[0])
        if self._is_away:
            raise host_failed("SD506", "lost")
        if name != f"sipdeploy-{self._call}":
            return self._real.run(argv, **options)
        self._is_away = self._kind == "away"
        if self._kind == "before":
            self._kind = "over"
            raise host_failed("SD506", "lost")
        result = self._real.run(argv, **options)
        if self._kind in ("after", "away"):
            self._kind = "over"
            raise host_failed("SD506", "lost")
        return result

    def close(self):
        self._real.close()


@pytest.mark.parametrize("kind", ["before", "after", "away"])
@pytest.mark.parametrize("call", CALLS)
def test_the_connection_is_cut(host, monkeypatch, figure, call, kind):
    settle(host)
    connect = host_run.connect
    with monkeypatch.context() as patched:
        patched.setattr(host_run, "connect", lambda *words: Wire(connect(*words), call, kind))
        report = run_apply(site_on(host, users=NEW), confirm_seconds=SECONDS)
    if kind == "away" and call in ("swap", "confirm"):
        assert (report.state, report.exit_code) == ("unknown", 5)
        assert any(
            f"by itself within {SECONDS} s" in problem.help for problem in report.diagnostics
        )
    if report.state in ("unchanged", "rolled back"):
        assert outcome(host) == "old"
    if report.state == "applied":
        assert outcome(host) == "new"
    go_on(host, figure)


@pytest.mark.parametrize("call", CALLS)
def test_the_command_is_killed_on_the_host(host, figure, call):
    """SIGKILL ends the shell of the command at any point."""
    settle(host)
    trap = f"until pkill -9 -f '[s]ipdeploy-{call} '; do :; done"
    host.run(f'systemd-run --quiet --collect -p RuntimeMaxSec=20 --unit=trap sh -c "{trap}"')
    report = run_apply(site_on(host, users=NEW), confirm_seconds=SECONDS)
    host.run("systemctl stop trap")
    # apply tries the confirmation twice, so the second try may succeed
    assert report.exit_code != 0 or call == "confirm"
    go_on(host, figure)


POINTS = (
    *("connect", "read facts", "stage and validate", "back up the current files"),
    *("arm the rollback timer", "swap", "reload asterisk, kamailio"),
    *("verify ports, certificate and SIP", "confirm"),
)


def die_at(wanted, point, ended, **options):
    def die(event):
        if event.title.startswith(point) and event.state == ("ok" if ended else "start"):
            os.kill(os.getpid(), signal.SIGKILL)

    run_apply(wanted, Events(die), **{"confirm_seconds": SECONDS} | options)


def kill_at(host, point, *, ended, **options):
    """Apply the new release in a process that is killed at a step."""
    process = multiprocessing.get_context("spawn").Process(
        target=die_at, args=(site_on(host, users=NEW), point, ended), kwargs=options
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("ended", [False, True], ids=["begins", "ended"])
@pytest.mark.parametrize("point", POINTS)
def test_the_process_is_killed(host, figure, point, ended):
    """SIGKILL at the begin or the end of a step, so that sipdeploy cannot undo it."""
    settle(host)
    is_confirmed = point == "confirm" and ended  # the host must not go back before
    kill_at(host, point, ended=ended, confirm_seconds=BOUND if is_confirmed else SECONDS)
    go_on(host, figure)


@contextlib.contextmanager
def small(host, folder):
    """Mount a small disk on a directory."""
    copy = f"cp -a {folder} /root/copy && mount -t tmpfs -o size=4m,mode=755 none {folder}"
    host.run(f"{copy} && cp -a /root/copy/. {folder}/", check=True)
    try:
        yield
    finally:
        back = f"rm -f {folder}/fill; rm -rf /root/copy; cp -a {folder} /root/copy"
        host.run(f"{back}; umount {folder}; rm -rf {folder}/*; cp -a /root/copy/. {folder}/")
        host.run("rm -rf /root/copy", check=True)


@pytest.mark.parametrize("folder", ["/var/lib/sipdeploy", "/etc/kamailio", "/etc/asterisk"])
@pytest.mark.parametrize("call", CALLS[1:])
def test_the_disk_is_full(host, monkeypatch, figure, call, folder):
    settle(host)
    connect = host_run.connect

    class Filling(Wire):
        def run(self, argv, **options):
            if f"sipdeploy-{self._call}" in argv:
                host.run(f"cat /dev/zero > {folder}/fill 2>/dev/null")
            return self._real.run(argv, **options)

    with small(host, folder):
        with monkeypatch.context() as patched:
            patched.setattr(host_run, "connect", lambda *words: Filling(connect(*words), call, ""))
            report = run_apply(site_on(host, users=NEW), confirm_seconds=BOUND - SECONDS)
        host.run(f"rm -f {folder}/fill", check=True)
        if report.exit_code:
            assert "make room" in " ".join(problem.help for problem in report.diagnostics)
            assert report.state in ("unchanged", "rolled back")
        go_on(host, figure)


@pytest.mark.parametrize("point", POINTS[4:8])
def test_the_power_goes_in_mid_swap(host, figure, point):
    """After a power cut, the boot restores the old release before the daemons start."""
    settle(host)

    def cut(event):
        if event.title.startswith(point) and event.state == "start":
            host.kill()

    report = run_apply(site_on(host, users=NEW), Events(cut), confirm_seconds=20)
    assert report.state == "unknown"
    host.start()
    deadline = time.monotonic() + 20
    while host.run("systemctl is-active kamailio asterisk").stdout.split() != ["active"] * 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert outcome(host) == "old"
    which = go_on(host, figure)
    assert which == "old"


BUSY = b"""#!/bin/sh
case $* in
*"module reload"*) echo 'A module reload request is already in progress; please be patient' ;;
*) exec /usr/sbin/asterisk "$@" ;;
esac
"""


def test_a_reload_that_loads_nothing_is_a_failure(host):
    """Asterisk keeps what it has, and its console exits with 0."""
    settle(host)
    before = units(host)
    host.write("/usr/local/sbin/asterisk", BUSY, mode=0o755)
    try:
        report = run_apply(site_on(host, users=NEW))
        assert (codes(report), report.state) == (["SD523"], "rolled back")
        (problem,) = (p for p in report.diagnostics if p.code == "SD523")
        assert "reload.sh endpoints" in problem.message
        assert "already in progress" in " ".join(problem.notes)
        assert outcome(host) == "old"
        assert units(host) == before  # Asterisk still has the old endpoints: no restart
    finally:
        host.run("rm /usr/local/sbin/asterisk", check=True)
    assert run_apply(site_on(host, users=NEW)).state == "applied"
    assert outcome(host) == "new"


@pytest.mark.parametrize("part", ["dialplan", "mailboxes", "endpoints"])
def test_asterisk_shows_each_part_that_it_has_loaded(host, part):
    settle(host)
    done = host.run(f"sh /etc/asterisk/reload.sh {part}")
    assert (done.returncode, done.stdout) == (0, "")
    edit = "sed -i 's/^; digest .*/; digest 0123456789abcdef/' /etc/asterisk/*.conf"
    host.run(
        f"cp -a /etc/asterisk /root/kept; {edit}; sed -i 's/ 40))/ 1))/' /etc/asterisk/reload.sh"
    )
    try:
        done = host.run(f"sh /etc/asterisk/reload.sh {part}")
        assert done.returncode == 1
        assert "Asterisk has not loaded the new" in done.stdout
    finally:
        host.run("cp -a /root/kept/. /etc/asterisk/; rm -r /root/kept", check=True)


def test_a_timer_that_does_not_get_the_lock_tries_again(host, figure):
    """Another command of sipdeploy holds the lock for longer than the rollback waits for it."""
    settle(host)
    kill_at(host, "verify", ended=True, confirm_seconds=2 * SECONDS)
    host.run("sed -i 's/flock -w 120/flock -w 1/' /var/lib/sipdeploy/restore", check=True)
    hold = f"flock /var/lib/sipdeploy sleep {BOUND}"
    host.run(f"systemd-run --quiet --collect --unit=holder {hold}", check=True)
    deadline = time.monotonic() + BOUND
    while "NRestarts=0" in host.run("systemctl show -p NRestarts sipdeploy-rollback").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert host.run("test -e /var/lib/sipdeploy/undo/index").returncode == 0
    host.run("systemctl stop holder", check=True)
    assert go_on(host, figure) == "old"
    assert host.run("systemctl is-active sipdeploy-rollback").stdout.strip() == "inactive"


def test_a_confirmation_that_comes_too_late_is_a_rollback(host):
    settle(host)

    def dawdle(event):
        if (event.title, event.state) == ("confirm", "start"):
            time.sleep(SECONDS + 3)

    report = run_apply(site_on(host, users=NEW), Events(dawdle), confirm_seconds=SECONDS)
    assert (report.state, codes(report)) == ("rolled back", ["SD528"])
    assert outcome(host) == "old"


TRIAL = 20  # seconds
LONG_TRIAL = 25  # for what is asked meanwhile


def connected(host):
    return connection.connect("sip1", site_on(host).hosts["sip1"])


def test_a_trial_goes_back_by_itself_when_the_deploying_machine_is_gone(host, figure):
    settle(host)
    kill_at(host, "open a trial", ended=True, try_seconds=LONG_TRIAL, confirm_seconds=BOUND)
    assert outcome(host) == "new"
    before = live(host), units(host)
    report = run_apply(site_on(host, users=OLD))
    assert (codes(report), report.state) == (["SD542"], "unchanged")
    (planned,) = plan(site_on(host, users=OLD), ["sip1"], credentials={}, say=Events())
    found = {problem.code for problem in planned.diagnostics}
    assert found - {"SD527"} == {"SD542"}  # SD527: the host undid an apply in an earlier test
    assert not planned.plan.drift  # the files are those of the release on trial
    tried = history(site_on(host), "sip1")[-1]
    assert (0 < tried.trial_seconds <= LONG_TRIAL, tried.is_current) == (True, False)
    assert (live(host), units(host)) == before
    assert go_on(host, figure) == "old"
    assert "rolled back (trial)" in host.read("/var/log/sipdeploy.log").decode()


def test_a_trial_that_somebody_confirms_stays(host):
    settle(host)
    report = run_apply(site_on(host, users=NEW), try_seconds=TRIAL)
    assert (report.state, report.exit_code) == ("on trial", 0)
    other = connected(host)
    trial.keep(other, trial.find(other), "somebody else")
    time.sleep(TRIAL + 2)
    assert outcome(host) == "new"
    assert host.run("ls /run/systemd/transient | grep sipdeploy").stdout == ""
    with pytest.raises(HostFailed, match="no release is on trial"):
        trial.find(other)
    other.close()
    assert run_apply(site_on(host, users=NEW)).state == "unchanged"


def test_a_trial_is_taken_back_at_once_and_by_a_boot(host):
    settle(host)
    run_apply(site_on(host, users=NEW), try_seconds=600)
    other = connected(host)
    trial.take_back(other, trial.find(other))
    other.close()
    assert outcome(host) == "old"
    assert host.run("ls /run/systemd/transient | grep sipdeploy").stdout == ""
    run_apply(site_on(host, users=NEW), try_seconds=600)
    host.kill()
    host.start()
    deadline = time.monotonic() + 20
    while host.run("systemctl is-active kamailio asterisk").stdout.split() != ["active"] * 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert outcome(host) == "old"


def test_a_watch_keeps_the_host_from_going_back_and_confirms(host, monkeypatch):
    """It lasts longer than the rollback timer, which each reading starts anew."""
    monkeypatch.setattr(watch, "POLL_SECONDS", 2)
    settle(host)
    events = Events()
    wanted = site_on(host, users=NEW)
    report = run_apply(wanted, events, watch_seconds=4 * SECONDS, confirm_seconds=2 * SECONDS)
    assert (codes(report), report.state) == ([], "applied")
    assert outcome(host) == "new"
    title = f"watch for {4 * SECONDS} s"
    said = [event.text for event in events if (event.title, event.state) == (title, "line")]
    assert "0 registered (before: 0)" in said[-1]


def test_a_watched_host_whose_daemon_dies_goes_back(host, monkeypatch):
    monkeypatch.setattr(watch, "POLL_SECONDS", 1)
    settle(host)
    read = []

    def crash(event):
        if event.title.startswith("watch") and event.state == "line":
            if not read:
                host.run("systemctl kill -s KILL asterisk")
            read.append(event.text)

    wanted = site_on(host, users=NEW)
    report = run_apply(wanted, Events(crash), watch_seconds=60)
    assert (codes(report), report.state) == (["SD545"], "rolled back")
    assert "asterisk.service" in report.diagnostics[-1].message
    assert outcome(host) == "old"


def test_a_watched_host_goes_back_soon_after_the_deploying_machine_is_gone(host, figure):
    settle(host)
    kill_at(host, "watch", ended=False, watch_seconds=600)
    assert go_on(host, figure) == "old"


def test_nothing_is_left_armed_after_all(host):
    settle(host)
    before = units(host)
    assert run_apply(site_on(host, users=OLD)).state == "unchanged"
    assert units(host) == before
    assert "sipdeploy-rollback" not in host.run("systemctl list-timers --all").stdout
    assert host.run("ls /var/lib/sipdeploy/lock /var/lib/sipdeploy/undo").stdout == ""
