"""The real scripts in a temporary directory, with a lost connection at every call."""

import dataclasses
import fcntl
import grp
import os
import pwd
import re
import shutil
import stat
import threading
import time
from pathlib import Path

import pytest
from fakes import BreakingHost, FakeHost
from hosts_facts import recorded

from sipdeploy import host as hosts
from sipdeploy.diagnostics import has_errors
from sipdeploy.diagnostics.errors import HostFailed, RollbackFailed
from sipdeploy.facts import Managed
from sipdeploy.host import Result, run_script
from sipdeploy.host.local import LocalHost
from sipdeploy.plan import Change, make_plan
from sipdeploy.plan.desired import Desired, GeneratedFile
from sipdeploy.services import SERVICES
from sipdeploy.services.render import ManagedFile
from sipdeploy.services.service import Check, Complaint, Directory
from sipdeploy.transaction import files
from sipdeploy.transaction.candidate import titles
from sipdeploy.transaction.files import Stage, Swap
from sipdeploy.transaction.lock import Confirm, Lock, Owner, recover
from sipdeploy.transaction.packages import Packages, complaints, update_lists
from sipdeploy.transaction.release import Signature, dump, fetch_release, history, previous
from sipdeploy.transaction.runner import UndoStack
from sipdeploy.transaction.trial import OpenTrial, find, keep, take_back

ME = f"{pwd.getpwuid(os.geteuid()).pw_name}:{grp.getgrgid(os.getegid()).gr_name}"


@pytest.fixture
def host():
    """This machine as a host, with the account of the tests."""
    local = LocalHost("sip1")
    local._prefix = ()  # noqa: SLF001
    return local


class World:
    """A directory in place of a host's disk, and an apply with all kinds of changes."""

    def __init__(self, folder):
        self.folder = folder
        self.state = str(folder / "state")
        self.live = folder / "live"
        self.live.mkdir()
        (self.live / "old").write_text("old")
        (self.live / "gone").write_text("gone")
        (self.live / "mode").write_text("mode")
        (self.live / "link").symlink_to("old")
        (self.live / "left.conf").write_text("left")
        (self.live / "back.conf.parked").write_text("back")
        (self.live / "folder").mkdir(mode=0o700)
        self.before = self.tree()
        self.plan = self._plan()

    def _plan(self):
        names = {"old": b"new", "mode": b"mode", "link": b"file", "made/by/us": b"x"}
        files = tuple(
            ManagedFile(
                path=str(self.live / name),
                content=content,
                mode=0o640,
                owner=ME,
                service="s",
                reload=("true",),
                template="t",
            )
            for name, content in names.items()
        )
        desired = Desired(
            domain="sip.example.test",
            files=files,
            generated=(
                GeneratedFile(
                    path=str(self.live / "dialog-key"),
                    mode=0o600,
                    owner=ME,
                    recipe="dialog-key",
                    service="s",
                    reload=None,
                ),
                GeneratedFile(
                    path=str(self.live / "server.crt"),
                    mode=0o644,
                    owner=ME,
                    recipe="certificate",
                    service="s",
                    reload=None,
                ),
                GeneratedFile(
                    path=str(self.live / "server.key"),
                    mode=0o600,
                    owner=ME,
                    recipe="key",
                    service="s",
                    reload=None,
                ),
            ),
            directories=(Directory(path=str(self.live / "folder"), mode=0o755, owner=ME),),
            packages=(),
            units={},
        )
        gone = str(self.live / "gone")
        bare = recorded("bookworm-bare")
        facts = recorded(
            "bookworm-bare",
            files={gone: recorded("sid-applied").files["/etc/kamailio/kamailio.cfg"]},
            managed={gone: Managed(service="s")},
            units=bare.units,
        )
        plan = make_plan(desired, facts, 0)
        return dataclasses.replace(plan, changes=(*plan.changes, *self._parked()))

    def _parked(self):
        """The changes that park and unpark a certificate of certbot."""
        for kind, name in (("park", "left.conf"), ("unpark", "back.conf")):
            yield Change(
                kind=kind,
                path=str(self.live / name),
                mode=0o644,
                owner=ME,
                service="certbot",
                effect="none",
            )

    def steps(self, *more, owner="me"):
        """The steps without the rollback timer, which would later undo files on this machine."""
        turn = Owner(name=owner, purpose="apply sip1")
        signature = Signature(who="me", when="now", purpose="apply sip1", what=("+ a",))
        release = dump(self.plan.desired, signature)
        log = str(self.folder / "audit.log")
        policy = str(self.folder / "policy-rc.d")
        swap = Swap(
            owner=turn,
            plan=self.plan,
            timeout_seconds=0,
            verify_seconds=1,
            state=self.state,
            log=log,
        )
        return (
            Lock(owner=turn, state=self.state),
            Stage(owner=turn, plan=self.plan, release=release, state=self.state),
            swap,
            *more,
            Confirm(owner=turn, audit=("+ a", "~ b"), state=self.state, log=log, policy=policy),
        )

    def tree(self):
        return {str(p.relative_to(self.live)): self._entry(p) for p in self.live.rglob("*")}

    @staticmethod
    def _entry(path):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.is_symlink():
            return ("link", str(path.readlink()))
        return (mode, path.read_bytes() if path.is_file() else b"")

    @property
    def is_applied(self):
        found = self.tree()
        return (
            found["old"] == (0o640, b"new")
            and found["link"] == (0o640, b"file")
            and found["made/by/us"] == (0o640, b"x")
            and found["folder"] == (0o755, b"")
            and "gone" not in found
            and found["left.conf.parked"][1] == b"left"
            and found["back.conf"][1] == b"back"
            and not {"left.conf", "back.conf.parked"} & found.keys()
            and found["dialog-key"][1].startswith(b'#!substdef "!DIALOG_KEY!')
        )

    @property
    def state_files(self):
        folder = Path(self.state)
        return {p.name for p in folder.iterdir()} if folder.is_dir() else set()


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


UNDONE = {"serial"}  # facts from before an undo are stale
WRITTEN = ("old", "mode", "gone", "left.conf", "back.conf.parked")
NOTED = {"original", "original.directories", "original.units"}
AFTER = {"confirmed", "managed", "release", "releases", "serial", *NOTED}


def run_steps(host, made, say):
    UndoStack(host, say).run(*made)


@pytest.fixture
def say():
    return [].append


def test_a_confirmation_takes_the_proof_with_the_release(world, host, say):
    lock, stage, swap, confirm = world.steps()
    for step in (lock, stage, swap):
        step.run(host, say)
    (Path(world.state) / "candidate/proof").write_text("it works")
    assert not (Path(world.state) / "proof").exists()
    confirm.run(host, say)
    assert (Path(world.state) / "proof").read_text() == "it works"
    assert world.state_files == AFTER | {"proof"}


def test_an_undo_forgets_the_proof_of_what_it_undoes(world, host, say):
    swap, _ = begin(world, host, say)
    (Path(world.state) / "candidate/proof").write_text("it fails")
    swap.undo(host)
    assert not (Path(world.state) / "proof").exists()


def test_all_steps_together_make_the_candidate_live(world, host, say):
    run_steps(host, world.steps(), say)
    assert world.is_applied
    assert world.state_files == AFTER
    assert (world.folder / "audit.log").read_text().endswith("Z me: apply sip1: + a; ~ b\n")
    assert not [p for p in world.live.rglob("*") if "sipdeploy-new" in p.name]


def test_a_confirmation_notes_directories_as_they_were(world, host, say):
    run_steps(host, world.steps(), say)
    noted = Path(world.state) / "original.directories"
    rows = [
        f"{world.live}/folder\t700\t{ME}",
        f"{world.live}/made\tabsent\t-",
        f"{world.live}/made/by\tabsent\t-",
    ]
    assert sorted(noted.read_text().splitlines()) == rows


def test_the_certificate_is_for_the_domain_and_its_key(world, host, say):
    run_steps(host, world.steps(), say)
    shown = host.run(
        ["openssl", "x509", "-in", str(world.live / "server.crt"), "-noout", "-text"]
    ).text
    assert "DNS:sip.example.test" in shown
    assert "prime256v1" in shown
    assert "CA:FALSE" in shown
    public = ["openssl", "x509", "-noout", "-pubkey", "-in", str(world.live / "server.crt")]
    private = ["openssl", "pkey", "-pubout", "-in", str(world.live / "server.key")]
    assert host.run(public).text == host.run(private).text
    assert host.run(private).status == 0


class Failing:
    """A step after all others that fails."""

    title = "fail"
    has_undo = True

    def run(self, _host, _on_line):
        raise HostFailed([])

    def undo(self, host):
        pass


def test_a_failure_behind_the_swap_brings_every_byte_back(world, host, say):
    with pytest.raises(HostFailed):
        run_steps(host, world.steps(Failing()), say)
    assert world.tree() == world.before
    assert world.state_files == UNDONE


def test_an_undo_is_safe_twice_and_without_a_run(world, host, say):
    _, _, swap, _ = world.steps()
    swap.undo(host)
    with pytest.raises(HostFailed):
        run_steps(host, world.steps(Failing()), say)
    swap.undo(host)
    assert world.tree() == world.before


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_connection_lost_at_any_call_leaves_all_or_nothing(world, host, say, at, is_done):
    breaking = BreakingHost(host, at=at, is_done=is_done)
    if at == 4:  # apply tries the confirmation a second time
        run_steps(breaking, world.steps(), say)
        assert world.is_applied
    else:
        with pytest.raises(HostFailed):
            run_steps(breaking, world.steps(), say)
        assert world.tree() == world.before
        assert world.state_files <= UNDONE


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("at", [2, 3, 4])
def test_what_a_vanished_host_was_left_with_is_recovered(world, host, say, at, is_done):
    breaking = BreakingHost(host, at=at, is_done=is_done, stays_away=True)
    with pytest.raises(RollbackFailed) as failed:
        run_steps(breaking, world.steps(), say)
    assert has_errors(failed.value.diagnostics)
    recover(host, "me", world.state, str(world.folder / "audit.log"))
    if at == 4 and is_done:
        assert world.is_applied
    else:
        assert world.tree() == world.before
        assert world.state_files <= UNDONE


def test_a_swap_that_stops_in_the_middle_is_undone(world, host, say):
    (world.live / "made").write_text("in the way")
    world.before = world.tree()
    with pytest.raises(HostFailed, match="cannot be replaced"):
        run_steps(host, world.steps(), say)
    assert world.tree() == world.before


def begin(world, host, say):
    """Run the steps up to the swap; return the swap."""
    lock, stage, swap, confirm = world.steps()
    for step in (lock, stage, swap):
        step.run(host, say)
    return swap, confirm


def test_an_old_configuration_that_does_not_start_blocks_no_later_apply(world, host, say):
    swap, _ = begin(world, host, say)
    undo = Path(world.state) / "undo"
    (undo / "services").touch()
    (undo / "units").write_text("sipdeploy-no-such.service\tactive\tenabled\trestart\n")
    with pytest.raises(HostFailed) as failed:
        swap.undo(host)
    assert (
        "does not start with its previous configuration" in failed.value.diagnostics[0].notes[-1]
    )
    assert "journalctl -b -u asterisk -u kamailio" in failed.value.diagnostics[0].help
    assert world.tree() == world.before
    recover(host, "me", world.state, str(world.folder / "audit.log"))
    assert world.state_files == UNDONE


def test_a_directory_that_somebody_put_a_file_into_stays(world, host, say):
    swap, _ = begin(world, host, say)
    (world.live / "made/by/you").write_text("mine")
    swap.undo(host)
    assert {name for name in world.tree() if name.startswith("made")} == {
        "made",
        "made/by",
        "made/by/you",
    }
    assert not (Path(world.state) / "undo").exists()


def test_a_recovery_that_fails_leaves_no_lock(world, host, say):
    begin(world, host, say)
    saved = world.folder / "state/undo/tree" / str(world.live / "old").lstrip("/")
    saved.unlink()
    with pytest.raises(RollbackFailed):
        recover(host, "me", world.state, str(world.folder / "audit.log"))
    assert world.state_files == {"serial", "undo"}


def test_an_undo_waits_for_a_command_that_lives_on(world, host, say):
    swap, _ = begin(world, host, say)
    alive = os.open(world.state, os.O_RDONLY)
    fcntl.flock(alive, fcntl.LOCK_EX)
    waiting = threading.Thread(target=swap.undo, args=(host,))
    waiting.start()
    try:
        waiting.join(timeout=0.7)
        assert waiting.is_alive()
        assert world.is_applied
    finally:
        os.close(alive)
        waiting.join(timeout=30)
    assert world.tree() == world.before


def test_no_daemon_inherits_the_turn(world, host, say):
    lock, stage, swap, _ = world.steps()
    lock.run(host, say)
    stage.run(host, say)
    folder = Path(world.state)
    seen = world.folder / "seen"
    command = f"sh\t-c\tls -l /proc/self/fd >{seen}\n"
    (folder / "candidate/reloads").write_text(command)
    swap.run(host, say)
    assert "/fd" in seen.read_text()
    assert f"{world.state}\n" not in seen.read_text()
    seen.unlink()
    swap.undo(host)
    assert f"{world.state}\n" not in seen.read_text()


def test_a_confirmation_that_comes_twice_keeps_the_previous_release(world, host, say):
    _, confirm = begin(world, host, say)
    confirm.run(host, say)
    assert (Path(world.state) / "release").read_text() == "1\n"
    confirm.run(host, say)
    assert (Path(world.state) / "release").read_text() == "1\n"


def test_a_confirmation_that_comes_too_late_is_told(world, host, say):
    swap, confirm = begin(world, host, say)
    swap.undo(host)
    with pytest.raises(HostFailed, match="restored the previous release by itself") as failed:
        confirm.run(host, say)
    assert failed.value.diagnostics[0].code == "SD528"
    assert world.tree() == world.before


def test_what_has_been_confirmed_is_not_undone(world, host, say):
    """The answer of a confirmation is lost after its point of no return."""
    swap, confirm = begin(world, host, say)
    kept = world.folder / "undo"
    shutil.copytree(f"{world.state}/undo", kept, symlinks=True)
    confirm.run(host, say)
    shutil.copytree(kept, f"{world.state}/undo", symlinks=True)
    with pytest.raises(HostFailed, match="was already confirmed"):
        swap.undo(host)
    assert world.is_applied
    assert world.state_files == AFTER


def test_a_release_comes_back_as_it_was(world, host, say):
    run_steps(host, world.steps(), say)
    assert fetch_release(host, 1, world.state) == world.plan.desired
    (header,) = history(host, world.state)
    assert (header.number, header.who, header.purpose) == (1, "me", "apply sip1")
    assert header.is_current
    kept = {p.name for p in Path(f"{world.state}/releases/1").rglob("*") if p.is_file()}
    assert "server.key" not in kept
    with pytest.raises(HostFailed, match="keeps no release 2"):
        fetch_release(host, 2, world.state)


def confirm_release(world, host, say, domain="sip.example.test"):
    """Another release; its configuration differs with the domain."""
    (Path(world.state) / "serial").unlink(missing_ok=True)
    desired = dataclasses.replace(world.plan.desired, domain=domain)
    world.plan = dataclasses.replace(world.plan, desired=desired)
    number = len(list(Path(world.state).glob("releases/*")))
    run_steps(host, world.steps(owner=f"run {number} {time.monotonic()}"), say)
    return [header.number for header in history(host, world.state)]


@pytest.mark.slow
def test_five_configurations_are_kept_and_five_changes_of_users_apart(world, host, say):
    confirm_release(world, host, say, "old.example.test")
    for _ in range(8):
        numbers = confirm_release(world, host, say)
    assert numbers == [1, 2, 5, 6, 7, 8, 9]
    kept = history(host, world.state)
    assert [header.is_users for header in kept] == [False, False, *[True] * 5]
    assert [previous(kept, with_users=each) for each in (False, True)] == [1, 8]
    for number in range(4):
        numbers = confirm_release(world, host, say, f"new{number}.example.test")
    assert numbers == [2, 5, 6, 7, 8, 9, 10, 11, 12, 13]
    numbers = confirm_release(world, host, say, "newest.example.test")
    assert numbers == [5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
    numbers = confirm_release(world, host, say, "newest2.example.test")
    assert (numbers[0], numbers[-1], len(numbers)) == (6, 15, 9)


def test_releases_of_an_older_version_have_no_digest(world, host, say):
    """Each counts as a configuration of its own, and the rollback goes to the one before."""
    for _ in range(2):
        confirm_release(world, host, say)
    for path in Path(world.state).glob("releases/*/configuration"):
        path.unlink()
    kept = history(host, world.state)
    assert [(header.number, header.is_users) for header in kept] == [(1, False), (2, False)]
    assert previous(kept, with_users=False) == 1
    for _ in range(3):
        numbers = confirm_release(world, host, say)
    assert numbers == [1, 2, 3, 4, 5]
    assert [header.is_users for header in history(host, world.state)] == [*[False] * 3, True, True]
    assert fetch_release(host, 1, world.state) == world.plan.desired


def open_trial(world, host, say, seconds=0):
    """A run as `apply --try` does it; zero seconds arm no timer on this machine."""
    *begun, confirm = world.steps()
    log = str(world.folder / "audit.log")
    trial = OpenTrial(
        owner=confirm.owner, audit=("+ a",), seconds=seconds, state=world.state, log=log
    )
    run_steps(host, (*begun, trial, trial), say)


def test_a_trial_that_is_confirmed_stays(world, host, say):
    open_trial(world, host, say)
    assert world.is_applied
    assert not history(host, world.state)[:-1]
    (header,) = history(host, world.state)
    assert (header.number, header.trial_seconds, header.purpose) == (1, 0, "apply sip1")
    assert not header.is_current
    found = find(host, world.state)
    assert (found.owner, found.purpose, found.seconds) == ("me", "apply sip1", 0)
    keep(host, found, "you", world.state, log=str(world.folder / "audit.log"))
    assert world.is_applied
    assert world.state_files == AFTER
    log = (world.folder / "audit.log").read_text()
    assert log.endswith("Z you: confirm: me: apply sip1: + a\n")
    (header,) = history(host, world.state)
    assert (header.is_current, header.trial_seconds) == (True, None)
    with pytest.raises(HostFailed, match="no release is on trial"):
        find(host, world.state)
    keep(host, found, "you", world.state)  # an answer that was lost is asked for again


def test_a_trial_that_is_taken_back_leaves_every_byte_as_it_was(world, host, say):
    open_trial(world, host, say)
    take_back(host, find(host, world.state), world.state, log=str(world.folder / "audit.log"))
    assert world.tree() == world.before
    assert world.state_files == UNDONE
    with pytest.raises(HostFailed, match="no release is on trial") as failed:
        find(host, world.state)
    assert "history" in failed.value.diagnostics[0].help


def test_a_trial_that_nobody_confirms_goes_back_by_itself(world, host, say):
    open_trial(world, host, say)
    found = find(host, world.state)
    log = str(world.folder / "audit.log")
    assert run_script(host, ("restore", world.state, "trial", "me", log)).status == 0
    assert world.tree() == world.before
    assert not (Path(world.state) / "lock").exists()
    assert (Path(world.state) / "outcome").read_text().split("\t")[1] == "trial"
    with pytest.raises(HostFailed, match="no release is on trial") as failed:
        find(host, world.state)
    assert "nobody confirmed its trial in time" in failed.value.diagnostics[0].notes[0]
    with pytest.raises(HostFailed, match="by itself before the confirmation"):
        keep(host, found, "you", world.state)
    (Path(world.state) / "serial").unlink()
    run_steps(host, world.steps(owner="next"), say)
    take_back(host, found, world.state, log=log)  # somebody else's apply stays
    assert world.is_applied


def test_a_trial_that_comes_too_late_is_a_rollback(world, host, say):
    begin(world, host, say)
    run_script(host, ("restore", world.state, "timer", "me", str(world.folder / "audit.log")))
    trial = OpenTrial(owner=Owner(name="me", purpose=""), audit=(), seconds=9, state=world.state)
    with pytest.raises(HostFailed, match="before its trial began"):
        trial.run(host, say)


def test_the_timer_of_an_earlier_run_undoes_no_later_one(world, host, say):
    begin(world, host, say)
    script = ("restore", world.state, "timer", "another", str(world.folder / "audit.log"))
    assert run_script(host, script).status == 0
    assert world.is_applied


def test_the_hosts_own_timer_undoes_tells_and_unlocks(world, host, say):
    begin(world, host, say)
    script = ("restore", world.state, "timer", "me", str(world.folder / "audit.log"))
    assert run_script(host, script).status == 0
    assert world.tree() == world.before
    when, how, owner = (Path(world.state) / "outcome").read_text().strip().split("\t")
    assert (when.isdigit(), how, owner) == (True, "timer", "me")
    assert not (Path(world.state) / "lock").exists()
    assert "rolled back (timer): me" in (world.folder / "audit.log").read_text()


def test_a_rollback_of_the_timer_that_failed_is_tried_again_without_another_restart(
    world, host, say
):
    """A file cannot be restored at first. The services are restarted once, and told once."""
    begin(world, host, say)
    undo = Path(world.state) / "undo"
    starts = world.folder / "starts"
    (undo / "services").touch()
    (undo / "reloads").write_text(f"sh\t-c\techo x >>{starts}\n")
    saved = undo / "tree" / str(world.live / "old").lstrip("/")
    saved.rename(world.folder / "away")
    script = ("restore", world.state, "timer", "me", str(world.folder / "audit.log"))
    for _ in range(3):
        assert run_script(host, script).status == 1
        assert (undo / "index").exists()
    (world.folder / "away").rename(saved)
    assert run_script(host, script).status == 0
    assert world.tree() == world.before
    assert not undo.exists()
    assert starts.read_text().count("x") == 2  # the first attempt, and the one that succeeded
    assert (world.folder / "audit.log").read_text().count("rolled back") == 2


def test_the_timer_stays_armed_until_an_undo_has_succeeded(world, host, say, monkeypatch):
    """Otherwise nobody tries again after a full disk, if the deploying machine does not return."""
    swap, _ = begin(world, host, say)
    text = hosts.script_text
    monkeypatch.setattr(
        hosts, "script_text", lambda name: text(name).replace(b"disarm; fi", b"echo >disarmed; fi")
    )
    monkeypatch.chdir(world.folder)
    saved = Path(world.state) / "undo/tree" / str(world.live / "old").lstrip("/")
    saved.rename(world.folder / "away")
    with pytest.raises(HostFailed):
        swap.undo(host)
    assert not (world.folder / "disarmed").exists()
    (world.folder / "away").rename(saved)
    swap.undo(host)
    assert (world.folder / "disarmed").exists()
    assert world.tree() == world.before


def test_files_from_before_sipdeploy_are_kept_for_good(world, host, say):
    (world.live / "dialog-key").write_text("made by an earlier run")
    run_steps(host, world.steps(), say)
    original = Path(f"{world.state}/original{world.live}")
    names = {p.name for p in original.rglob("*")}
    assert names == {"old", "mode", "link", "gone", "left.conf", "back.conf.parked"}
    assert (original / "old").read_text() == "old"
    assert (original / "link").readlink() == Path("old")
    (world.live / "old").write_text("by hand")
    (Path(world.state) / "serial").unlink()
    run_steps(host, world.steps(), say)
    assert (original / "old").read_text() == "old"
    moved = {"back.conf", "left.conf.parked"}  # by the first run
    assert {p.name for p in original.rglob("*")} - moved == names


def test_what_sipdeploy_wrote_is_no_original(world, host, say):
    Path(world.state).mkdir()
    rows = "".join(f"{world.live}/{name}\ts\n" for name in WRITTEN)
    (Path(world.state) / "managed").write_text(rows)
    run_steps(host, world.steps(), say)
    assert {p.name for p in Path(f"{world.state}/original{world.live}").iterdir()} == {"link"}


def test_a_policy_that_a_power_cut_left_is_removed_and_another_stays(world, host, say):
    policy = world.folder / "policy-rc.d"
    marked = "#!/bin/sh\n# sipdeploy: no daemon starts while packages are being installed (7)\n"
    policy.write_text(f"{marked}exit 101\n")
    run_steps(host, world.steps(), say)
    assert not policy.exists()
    policy.write_text("#!/bin/sh\nexit 101\n")
    (Path(world.state) / "serial").unlink()
    run_steps(host, world.steps(), say)
    assert policy.exists()


def test_what_cannot_be_put_back_is_told(world, host, say):
    lock, stage, swap, _ = world.steps()
    for step in (lock, stage, swap):
        step.run(host, say)
    saved = world.folder / "state/undo/tree" / str(world.live / "old").lstrip("/")
    saved.unlink()
    with pytest.raises(HostFailed) as failed:
        swap.undo(host)
    assert failed.value.diagnostics[0].code == "SD525"
    assert f"cannot restore {world.live / 'old'}" in failed.value.diagnostics[0].notes[-1]
    assert world.tree()["gone"] == world.before["gone"]


def lock_of(world, owner, **turn):
    return Lock(owner=Owner(name=owner, purpose="apply sip1", **turn), state=world.state)


def test_the_lock_is_had_by_one(world, host, say):
    first, second = lock_of(world, "a"), lock_of(world, "b")
    first.run(host, say)
    first.run(host, say)
    with pytest.raises(HostFailed, match="is locked by a") as failed:
        second.run(host, say)
    (note,) = failed.value.diagnostics[0].notes
    assert re.fullmatch(r"running `apply sip1` for \d+ s", note)
    assert "--lock-wait" in failed.value.diagnostics[0].help
    second.undo(host)
    with pytest.raises(HostFailed, match="is locked by a"):
        second.run(host, say)
    first.undo(host)
    second.run(host, say)


def test_what_was_cut_off_while_it_locked_is_in_nobodys_way(world, host, say):
    state = world.folder / "state"
    for name in (".locking.1", ".unlocked.1"):
        (state / name).mkdir(parents=True)
        (state / name / "owner").write_text("dead\n")
    lock_of(world, "me").run(host, say)
    lock_of(world, "me").undo(host)
    assert not [*state.glob(".*locked.*"), *state.glob(".locking.*"), *state.glob("lock")]


def test_the_lock_of_the_dead_is_taken_over(world, host, say):
    lock_of(world, "dead").run(host, say)
    lock_of(world, "me", breaks="dead").run(host, say)
    assert (world.folder / "state/lock/holder").read_text() == "me\n"


def test_old_facts_get_no_lock(world, host, say):
    run_steps(host, world.steps(), say)
    with pytest.raises(HostFailed, match="changed `sip1` in the meantime"):
        lock_of(world, "me").run(host, say)
    assert "lock" not in world.state_files


def test_an_unknown_owner_is_told_before_anything(world, host, say, monkeypatch):
    monkeypatch.setattr(
        "sipdeploy.transaction.candidate.table", lambda _: b"no-such-user:no-such-group\n"
    )
    with pytest.raises(HostFailed, match="cannot be staged") as failed:
        run_steps(host, world.steps(), say)
    assert "no user no-such-user" in failed.value.diagnostics[0].notes[0]


def test_titles_count_what_they_do(world):
    _, stage, swap, _ = world.steps()
    assert (stage.title, swap.title) == ("stage and validate 7 files", "back up the current files")
    assert Packages(names=("a",)).title == "install 1 package"
    assert titles(world.plan)["swap"] == "swap 10 files"


def events(host, made):
    seen = []
    with pytest.raises((HostFailed, KeyboardInterrupt, RollbackFailed)):
        run_steps(host, made, seen.append)
    return [(event.title, event.state) for event in seen if event.state != "line"]


def test_every_step_is_told_as_it_begins_and_ends():
    made = (Lock(owner=Owner(name="me", purpose="p")), Failing())
    answers = {name: Result(status=0, stdout=b"\x1elocked\n") for name in ("lock", "unlock")}
    assert events(FakeHost(answers=answers), made) == [
        ("lock", "start"),
        ("lock", "ok"),
        ("fail", "start"),
        ("fail", "failed"),
        ("undo: fail", "start"),
        ("undo: fail", "ok"),
        ("undo: lock", "start"),
        ("undo: lock", "ok"),
    ]


class Interrupted(Failing):
    def run(self, _host, _on_line):
        raise KeyboardInterrupt


def test_an_interrupt_is_undone_and_passed_on(world, host):
    seen = []
    with pytest.raises(KeyboardInterrupt):
        run_steps(host, world.steps(Interrupted()), seen.append)
    assert world.tree() == world.before


APT = b"""\
Reading package lists...
Err:1 http://archive.test sid/main amd64 kamailio amd64 6.1
  404  Not Found
dpkg: error processing package kamailio (--configure):
 installed kamailio package post-installation script subprocess returned error exit status 1
E: Sub-process /usr/bin/dpkg returned an error code (1)
"""


def test_the_lines_of_apt_that_matter_are_told(say):
    host = FakeHost(answers={"packages": Result(status=100, stdout=APT)})
    with pytest.raises(HostFailed) as failed:
        Packages(names=("kamailio",), disabled_units=("a.service", "b.service")).run(host, say)
    assert host.asked == [("packages", "install", "a.service b.service", "kamailio")]
    notes = failed.value.diagnostics[0].notes
    assert notes[0].startswith("Err:1")
    assert notes[-1].startswith("E: Sub-process")
    assert "Reading package lists..." not in notes
    assert complaints(Result(status=1, stdout=b"a\nb\n")) == ("a", "b")
    with pytest.raises(HostFailed, match="the package lists cannot be updated"):
        update_lists(host, say)


def test_the_parts_of_a_swap_are_told_as_they_begin(world, host):
    seen = []
    run_steps(host, world.steps(), seen.append)
    told = [(event.title, event.state) for event in seen]
    parts = ["back up the current files", "arm the rollback timer", "swap 10 files"]
    starts = [title for title, state in told if state == "start"]
    assert [title for title in starts if title in parts] == parts
    assert ("swap 10 files", "ok") in told


def test_a_daemon_that_rejects_points_into_the_file(world, say, monkeypatch):
    path = str(world.live / "old")
    out = b"\x1echeck 0\n1\nbad\n\x1echeck 1\n7\nodd\n\x1estaged\n"
    host = FakeHost(answers={"stage": Result(status=0, stdout=out)})
    wanted = [
        Check(service=name, title=f"a trial of {name}", script="check_firewall")
        for name in ("asterisk", "kamailio")
    ]
    monkeypatch.setattr(files, "checks_of", lambda _: wanted)
    verdict = Complaint(path=path, line=1, column=2, text="bad")
    asterisk = dataclasses.replace(SERVICES["asterisk"], parse_check=lambda _: [verdict])
    monkeypatch.setitem(SERVICES, "asterisk", asterisk)
    with pytest.raises(HostFailed) as failed:
        world.steps()[1].run(host, say)
    first, second = sorted(failed.value.diagnostics, key=lambda problem: not problem.span)
    assert str(first.span) == f"sip1:{path}:1:2"
    assert first.label == "bad"
    assert failed.value.sources[first.span.path].lines == ["new"]
    assert "a trial of kamailio fails on `sip1` with the candidate (status 7)" in second.message
    assert second.notes == ("odd", "nothing live on sip1 was changed")


def test_a_check_without_an_answer_is_no_approval(world, say, monkeypatch):
    host = FakeHost(answers={"stage": Result(status=0, stdout=b"\x1estaged\n")})
    wanted = [Check(service="kamailio", title="a trial", script="check_firewall")]
    monkeypatch.setattr(files, "checks_of", lambda _: wanted)
    with pytest.raises(HostFailed, match="a trial fails"):
        world.steps()[1].run(host, say)


def swapped(world, out):
    host = FakeHost(answers={"swap": Result(status=0, stdout=out)})
    with pytest.raises(HostFailed) as failed:
        world.steps()[2].run(host, [].append)
    return failed.value.diagnostics


def test_a_command_that_fails_tells_the_units_last_words(world):
    out = b"\x1efailed\nsystemctl restart s\nJob failed.\n\x1ejournal\nno port left\n"
    (problem,) = swapped(world, out)
    assert (problem.code, problem.notes) == ("SD523", ("Job failed.", "no port left"))


def test_what_does_not_answer_is_told_once(world):
    out = (
        b"\x1eleft\nunit\ts.service\t\t\t\t\nport\ttcp\t0.0.0.0\t8443\tkamailio\t\n"
        b"wss\t127.0.0.1\t8443\tsip.example.test\t/x\tdoes not speak TLS\n"
        b"\x1ejournal s.service\nno memory\n\x1everified\n"
    )
    unit, port = sorted(swapped(world, out), key=lambda problem: -len(problem.notes))
    assert unit.notes == ("s.service: no memory",)
    assert "kamailio does not listen on tcp port 8443 on `sip1` within 1 s" in port.message


def test_a_websocket_that_does_not_answer_is_told(world):
    out = b"\x1eleft\nwss\t127.0.0.1\t8443\td\t/x\tdoes not answer a REGISTER\n\x1everified\n"
    (problem,) = swapped(world, out)
    assert problem.message.startswith("wss://127.0.0.1:8443 does not answer a REGISTER on `sip1`")


def test_a_full_disk_is_told_as_such(world, say):
    full = Result(status=1, stderr=b"tar: write error: No space left on device\n")
    with pytest.raises(HostFailed) as failed:
        world.steps()[1].run(FakeHost(answers={"stage": full}), say)
    assert "df -h" in failed.value.diagnostics[0].help
