"""The scripts for real, in a temporary directory of this machine; every way to lose the host."""

import fcntl
import grp
import os
import pwd
import signal
import stat
import threading
from pathlib import Path

import pytest
from fakes import BreakingHost, FakeHost
from hosts_facts import recorded

from sipdeploy import steps
from sipdeploy.diagnostics import has_errors
from sipdeploy.errors import HostFailed, RollbackFailed
from sipdeploy.hosts import LocalHost, Result
from sipdeploy.plan import make_plan
from sipdeploy.plan.desired import Desired, MadeFile
from sipdeploy.render import ManagedFile
from sipdeploy.service import Directory, Port, Verdict
from sipdeploy.steps import Check, Confirm, Lock, Packages, Services, Stage, Swap, run_steps
from sipdeploy.steps.packages import complaints

ME = f"{pwd.getpwuid(os.geteuid()).pw_name}:{grp.getgrgid(os.getegid()).gr_name}"


@pytest.fixture
def host():
    """This machine, as the user who runs the tests."""
    local = LocalHost("sip1")
    local._prefix = ()  # noqa: SLF001
    return local


class World:
    """A directory that stands for a host's disk, and an apply that changes it in every way."""

    def __init__(self, folder):
        self.folder = folder
        self.state = str(folder / "state")
        self.live = folder / "live"
        self.live.mkdir()
        (self.live / "old").write_text("old")
        (self.live / "gone").write_text("gone")
        (self.live / "mode").write_text("mode")
        (self.live / "link").symlink_to("old")
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
            made=(
                MadeFile(
                    path=str(self.live / "dialog-key"),
                    mode=0o600,
                    owner=ME,
                    recipe="dialog-key",
                    service="s",
                    reload=None,
                ),
                MadeFile(
                    path=str(self.live / "server.crt"),
                    mode=0o644,
                    owner=ME,
                    recipe="certificate",
                    service="s",
                    reload=None,
                ),
                MadeFile(
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
            units={"s": "s.service"},
        )
        gone = str(self.live / "gone")
        bare = recorded("bookworm-bare")
        facts = recorded(
            "bookworm-bare",
            files={gone: recorded("sid-applied").files["/etc/kamailio/kamailio.cfg"]},
            managed={gone: "s"},
            units=bare.units,
        )
        return make_plan(desired, facts, 0)

    def steps(self, *more, holder="me"):
        return (
            Lock(holder=holder, serial="", state=self.state),
            Stage(plan=self.plan, checks={}, judges={}, state=self.state),
            Swap(plan=self.plan, state=self.state),
            *more,
            Confirm(
                holder=holder,
                audit=("+ a", "~ b"),
                state=self.state,
                log=str(self.folder / "audit.log"),
                policy=str(self.folder / "policy-rc.d"),
            ),
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
            and found["dialog-key"][1].startswith(b'#!substdef "!DIALOG_KEY!')
        )

    @property
    def state_files(self):
        folder = Path(self.state)
        return {p.name for p in folder.iterdir()} if folder.is_dir() else set()


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def say():
    return [].append


def test_all_steps_together_make_the_candidate_live(world, host, say):
    run_steps(host, world.steps(), say)
    assert world.is_applied
    assert world.state_files == {"managed", "original", "previous", "serial"}
    assert (world.folder / "audit.log").read_text().endswith("Z me: + a; ~ b\n")
    assert not [p for p in world.live.rglob("*") if "sipdeploy-new" in p.name]


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
    """A step that fails, after all the others."""

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
    assert world.state_files == set()


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
    if at == 4:  # the confirmation is tried once more
        run_steps(breaking, world.steps(), say)
        assert world.is_applied
    else:
        with pytest.raises(HostFailed):
            run_steps(breaking, world.steps(), say)
        assert world.tree() == world.before
        assert world.state_files == set()


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("at", [2, 3, 4])
def test_what_a_vanished_host_was_left_with_is_recovered(world, host, say, at, is_done):
    breaking = BreakingHost(host, at=at, is_done=is_done, stays_away=True)
    with pytest.raises(RollbackFailed) as failed:
        run_steps(breaking, world.steps(), say)
    assert has_errors(failed.value.diagnostics)
    steps.recover(host, "me", world.state)
    if at == 4 and is_done:
        assert world.is_applied
    else:
        assert world.tree() == world.before
        assert world.state_files == set()


def test_a_swap_that_stops_in_the_middle_is_undone(world, host, say):
    (world.live / "made").write_text("in the way")
    world.before = world.tree()
    with pytest.raises(HostFailed, match="cannot be replaced"):
        run_steps(host, world.steps(), say)
    assert world.tree() == world.before


def begin(world, host, say):
    """The steps up to the swap, and the swap."""
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
    assert "does not start with its former configuration" in failed.value.diagnostics[0].notes[-1]
    assert "journalctl -b -u asterisk -u kamailio" in failed.value.diagnostics[0].help
    assert world.tree() == world.before
    steps.recover(host, "me", world.state)
    assert world.state_files == set()


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
        steps.recover(host, "me", world.state)
    assert world.state_files == {"undo"}


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
    begin(world, host, say)
    folder = Path(world.state)
    seen = world.folder / "seen"
    command = f"sh\t-c\tls -l /proc/self/fd >{seen}\n"
    (folder / "candidate/units").write_text("")
    (folder / "candidate/reloads").write_text(command)
    Services(plan=world.plan, state=world.state).run(host, say)
    assert "/fd" in seen.read_text()
    assert f"{world.state}\n" not in seen.read_text()
    seen.unlink()
    (folder / "undo/units").write_text("s.service\tactive\tenabled\treload\n")
    (folder / "undo/reloads").write_text(command)
    Swap(plan=world.plan, state=world.state).undo(host)
    assert f"{world.state}\n" not in seen.read_text()


def test_a_second_interrupt_does_not_end_the_undo(world, host, say):
    class Interrupted(Failing):
        def run(self, _host, _on_line):
            raise KeyboardInterrupt

        def undo(self, _host):
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_steps(host, world.steps(Interrupted()), say)
    assert world.tree() == world.before
    assert world.state_files == set()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_confirmation_that_comes_twice_keeps_the_previous_release(world, host, say):
    _, confirm = begin(world, host, say)
    confirm.run(host, say)
    previous = Path(world.state) / "previous/index"
    index = previous.read_text()
    confirm.run(host, say)
    assert previous.read_text() == index


def test_files_from_before_sipdeploy_are_kept_for_good(world, host, say):
    (world.live / "dialog-key").write_text("made by an earlier run")
    run_steps(host, world.steps(), say)
    original = Path(f"{world.state}/original{world.live}")
    names = {p.name for p in original.rglob("*")}
    assert names == {"old", "mode", "link", "gone"}
    assert (original / "old").read_text() == "old"
    assert (original / "link").readlink() == Path("old")
    (world.live / "old").write_text("by hand")
    (Path(world.state) / "serial").unlink()
    run_steps(host, world.steps(), say)
    assert (original / "old").read_text() == "old"
    assert {p.name for p in original.rglob("*")} == names
    kept = Path(f"{world.state}/previous/tree{world.live}/old")
    assert kept.read_text() == "by hand"


def test_what_sipdeploy_wrote_is_no_original(world, host, say):
    Path(world.state).mkdir()
    rows = "".join(f"{world.live}/{name}\ts\n" for name in ("old", "mode", "gone"))
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
    assert "old could not be put back" in failed.value.diagnostics[0].notes[-1]
    assert world.tree()["gone"] == world.before["gone"]


def test_the_lock_is_had_by_one(world, host, say):
    first, second = (Lock(holder=name, serial="", state=world.state) for name in ("a", "b"))
    first.run(host, say)
    with pytest.raises(HostFailed, match="is locked by a"):
        second.run(host, say)
    second.undo(host)
    with pytest.raises(HostFailed, match="is locked by a"):
        second.run(host, say)
    first.undo(host)
    second.run(host, say)


def test_the_lock_of_the_dead_is_taken_over(world, host, say):
    Lock(holder="dead", serial="", state=world.state).run(host, say)
    Lock(holder="me", serial="", stale_holder="dead", state=world.state).run(host, say)
    assert (world.folder / "state/lock/holder").read_text() == "me\n"


def test_old_facts_get_no_lock(world, host, say):
    run_steps(host, world.steps(), say)
    with pytest.raises(HostFailed, match="changed `sip1` in the meantime"):
        Lock(holder="me", serial="", state=world.state).run(host, say)
    assert "lock" not in world.state_files


def test_an_unknown_owner_is_told_before_anything(world, host, say, monkeypatch):
    monkeypatch.setattr("sipdeploy.candidate.table", lambda _: b"no-such-user:no-such-group\n")
    with pytest.raises(HostFailed, match="cannot be staged") as failed:
        run_steps(host, world.steps(), say)
    assert "no user no-such-user" in failed.value.diagnostics[0].notes[0]


def test_titles_count_what_they_do(world):
    _, stage, swap, _ = world.steps()
    assert (stage.title, swap.title) == ("stage and validate 7 files", "swap 8 files")
    assert Packages(names=("a",)).title == "install 1 package"
    assert Services(plan=world.plan).title == "start s"


def events(host, made):
    seen = []
    with pytest.raises((HostFailed, KeyboardInterrupt, RollbackFailed)):
        run_steps(host, made, seen.append)
    return [(event.title, event.state) for event in seen if event.state != "line"]


def test_every_step_is_told_as_it_begins_and_ends():
    made = (Lock(holder="me", serial=""), Failing())
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
        Packages(names=("kamailio",)).run(host, say)
    notes = failed.value.diagnostics[0].notes
    assert notes[0].startswith("Err:1")
    assert notes[-1].startswith("E: Sub-process")
    assert "Reading package lists..." not in notes
    assert complaints(Result(status=1, stdout=b"a\nb\n")) == ("a", "b")
    with pytest.raises(HostFailed, match="lists of the package archive"):
        steps.update_lists(host, say)


def test_a_daemon_that_rejects_points_into_the_file(world, say):
    path = str(world.live / "old")
    out = b"\x1echeck s\n255\nbad\n\x1echeck t\n1\nodd\n\x1estaged\n"
    host = FakeHost(answers={"stage": Result(status=0, stdout=out)})
    stage = Stage(
        plan=world.plan,
        checks={"s": ("s", "-c"), "t": ("t",)},
        judges={
            "s": lambda text: [
                Verdict(path=f"/st/candidate/tree{path}", line=1, column=2, text=text.strip())
            ],
            "t": lambda _: [],
        },
        state="/st",
    )
    with pytest.raises(HostFailed) as failed:
        stage.run(host, say)
    first, second = failed.value.diagnostics
    assert str(first.span) == f"sip1:{path}:1:2"
    assert first.label == "bad"
    assert failed.value.sources[first.span.path].lines == ["new"]
    assert "t on `sip1` rejects the candidate (status 1)" in second.message
    assert second.notes == ("odd",)


def test_a_command_that_fails_tells_the_units_last_words(world, say):
    out = b"\x1efailed\nsystemctl restart s\nJob failed.\n\x1ejournal\nno port left\n"
    host = FakeHost(answers={"services": Result(status=0, stdout=out)})
    with pytest.raises(HostFailed) as failed:
        Services(plan=world.plan).run(host, say)
    problem = failed.value.diagnostics[0]
    assert (problem.code, problem.notes) == ("SD523", ("Job failed.", "no port left"))


PORT = Port(protocol="tcp", address="0.0.0.0", number=8443, process="kamailio", key="ports.wss")
CHECK = Check(domain="sip.example.test", units=("s.service",), ports=(PORT,))


def test_what_does_not_answer_is_told_once(say):
    out = (
        b"\x1eleft\nunit\ts.service\t\t\t\nport\ttcp\t0.0.0.0\t8443\tkamailio\n"
        b"https\t127.0.0.1\t8443\tsip.example.test\t/healthz\n\x1ejournal s.service\nno memory\n"
    )
    host = FakeHost(answers={"check": Result(status=0, stdout=out)})
    with pytest.raises(HostFailed) as failed:
        CHECK.run(host, say)
    unit, port = sorted(failed.value.diagnostics, key=lambda problem: -len(problem.notes))
    assert unit.notes == ("s.service: no memory",)
    assert "kamailio does not listen on tcp port 8443 on `sip1` within 20 s" in port.message
    assert host.inputs[0] == (
        b"unit\ts.service\nport\ttcp\t0.0.0.0\t8443\tkamailio\n"
        b"https\t127.0.0.1\t8443\tsip.example.test\t/healthz\n"
    )


def test_a_port_that_speaks_no_https_is_told(say):
    out = b"\x1eleft\nhttps\t127.0.0.1\t8443\tsip.example.test\t/healthz\n"
    host = FakeHost(answers={"check": Result(status=0, stdout=out)})
    with pytest.raises(HostFailed, match=r"https://127\.0\.0\.1:8443/healthz does not answer"):
        CHECK.run(host, say)


def test_a_full_disk_is_told_as_such(world, say):
    full = Result(status=1, stderr=b"tar: write error: No space left on device\n")
    with pytest.raises(HostFailed) as failed:
        world.steps()[1].run(FakeHost(answers={"stage": full}), say)
    assert "df -h" in failed.value.diagnostics[0].help
