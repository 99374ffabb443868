"""Guards of the scripts: locks, modes, the journal, and checks of a candidate."""

# ruff: noqa: F811 - fixtures of another file are parameters here
import dataclasses
import datetime as dt
import os
import re
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from test_steps import World, begin, host, lock_of, say, world  # noqa: F401 - fixtures

from sipdeploy import host as hosts
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import run_script, sections
from sipdeploy.transaction import files
from sipdeploy.transaction.files import Stage
from sipdeploy.transaction.lock import Confirm, Owner, unlock
from sipdeploy.transaction.packages import Packages, update_lists


def with_shell(monkeypatch, text):
    """Prepend a shell function to every script, which replaces a program."""
    original = hosts.script_text
    monkeypatch.setattr(hosts, "script_text", lambda name: text.encode() + original(name))


def held_by(world):
    return (Path(world.state) / "lock/holder").read_text().strip()


# Locks.


def test_a_confirmation_confirms_no_run_of_somebody_else(world, host, say):
    swap, _ = begin(world, host, say)
    log, policy = str(world.folder / "audit.log"), str(world.folder / "policy-rc.d")
    other = Owner(name="other", purpose="apply sip1")
    confirm = Confirm(owner=other, audit=("x",), state=world.state, log=log, policy=policy)
    with pytest.raises(HostFailed, match="restored the previous release"):
        confirm.run(host, say)
    assert (Path(world.state) / "undo/index").exists()
    assert not (Path(world.state) / "releases").exists()
    swap.undo(host)
    assert world.tree() == world.before


def test_an_unlock_leaves_the_candidate_of_somebody_else(world, host, say):
    lock, stage, *_ = world.steps()
    lock.run(host, say)
    stage.run(host, say)
    unlock(host, Owner(name="other", purpose="p"), world.state)
    assert (Path(world.state) / "candidate/tree").is_dir()
    assert held_by(world) == "me"


def test_a_lock_is_taken_from_nobody_but_the_one_that_is_named(world, host, say):
    lock_of(world, "alive").run(host, say)
    before = (Path(world.state) / "lock").stat().st_ctime_ns
    with pytest.raises(HostFailed, match="is locked by alive"):
        lock_of(world, "me", breaks="dead").run(host, say)
    assert held_by(world) == "alive"
    # a rename would change this; for a moment the lock would have no owner
    assert (Path(world.state) / "lock").stat().st_ctime_ns == before


LYING = """
cat() {
    case $* in */lock/holder)
        printf x >>"$state/asked"
        if [ "$(command cat "$state/asked")" = xx ]; then echo dead; return 0; fi ;;
    esac
    command cat "$@"
}
"""


def test_a_lock_that_changed_hands_meanwhile_comes_back(world, host, say, monkeypatch):
    """The lock had a dead owner when it was checked, but a new one when it was moved."""
    lock_of(world, "alive").run(host, say)
    with_shell(monkeypatch, LYING)
    with pytest.raises(HostFailed, match="is locked by alive"):
        lock_of(world, "me", breaks="dead").run(host, say)
    assert (Path(world.state) / "asked").read_text().startswith("xx")
    assert held_by(world) == "alive"


FASTER = """
mv() {
    if [ ! -e "$state/was-faster" ]; then
        mkdir -p "$state/lock"; echo faster >"$state/lock/holder"; : >"$state/was-faster"
    fi
    command mv "$@"
}
"""


def test_of_two_who_lock_at_once_one_has_the_lock(world, host, say, monkeypatch):
    with_shell(monkeypatch, FASTER)
    with pytest.raises(HostFailed, match="is locked by faster"):
        lock_of(world, "me").run(host, say)
    assert sorted(p.name for p in (Path(world.state) / "lock").iterdir()) == ["holder"]


def test_a_swap_without_the_lock_changes_nothing(world, host, say):
    lock, stage, swap, _ = world.steps()
    lock.run(host, say)
    stage.run(host, say)
    (Path(world.state) / "lock/holder").write_text("other\n")
    with pytest.raises(HostFailed) as failed:
        swap.run(host, say)
    assert "another run has taken the lock in the meantime" in failed.value.diagnostics[0].notes
    assert world.tree() == world.before
    assert not (Path(world.state) / "undo").exists()


# Files that other accounts can read.


def test_nobody_else_looks_into_the_state(world, host, say):
    lock_of(world, "me").run(host, say)
    assert stat.S_IMODE(Path(world.state).stat().st_mode) == 0o700
    os.chmod(world.state, 0o755)  # noqa: PTH101 - as an older version or a person may have left it
    lock_of(world, "me").undo(host)
    lock_of(world, "me").run(host, say)
    assert stat.S_IMODE(Path(world.state).stat().st_mode) == 0o700


def test_scripts_write_for_their_user_alone(world, host, say):
    before = os.umask(0)
    try:
        _, confirm = begin(world, host, say)
        written = [p for p in Path(world.state).rglob("*") if "/tree/" not in f"{p}/"]
        confirm.run(host, say)
    finally:
        os.umask(before)
    written += [*Path(world.state).glob("*"), world.folder / "audit.log"]
    open_ones = [str(p) for p in written if p.exists() and stat.S_IMODE(p.stat().st_mode) & 0o077]
    assert len(written) > 10
    assert open_ones == []


def test_a_dialog_key_cannot_be_guessed(tmp_path, host, say):
    """The keys differ between hosts of the same name and between runs, and have 256 bits."""
    keys = set()
    for name in "ab":
        (tmp_path / name).mkdir()
        world = World(tmp_path / name)
        begin(world, host, say)
        text = (world.live / "dialog-key").read_text()
        keys.add(re.fullmatch(r'#!substdef "!DIALOG_KEY!([0-9a-f]{64})!g"\n', text)[1])
    assert len(keys) == 2


# The journal.

WATCHED = """
sync() {
    for name in entries index; do
        [ ! -e "$state/undo/$name" ] || printf '%s ' "$name"
    done >>"$state/../synced"
    command cat "$state/../live/old" >>"$state/../synced"; echo >>"$state/../synced"
    command sync "$@"
}
"""


def test_the_journal_is_on_the_disk_before_a_live_file_changes(world, host, say, monkeypatch):
    with_shell(monkeypatch, WATCHED)
    begin(world, host, say)
    assert (world.folder / "synced").read_text().splitlines() == [
        "entries old",  # the contents of the journal
        "index old",  # and the rename that marks it as complete
        "index new",
    ]


# The candidate.


def pair(name, signer=None):
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(signer or key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM), pem


def staging(world, certificate, key):
    """Return the stage of a candidate with its own certificate; it writes no live file."""
    template = world.plan.desired.files[0]
    tls = "/etc/kamailio/tls/server."
    files = [
        dataclasses.replace(template, path=f"{tls}{end}", content=content)
        for end, content in (("crt", certificate), ("key", key))
    ]
    desired = dataclasses.replace(world.plan.desired, files=(*world.plan.desired.files, *files))
    plan = dataclasses.replace(world.plan, desired=desired)
    turn = Owner(name="me", purpose="p")
    return Stage(owner=turn, plan=plan, release=b"{}", state=world.state)


def test_a_certificate_of_another_domain_is_not_staged(world, host, say, monkeypatch):
    monkeypatch.setattr(files, "checks_of", lambda _: ())
    staging(world, *pair("sip.example.test")).run(host, say)
    with pytest.raises(HostFailed) as failed:
        staging(world, *pair("other.example.test")).run(host, say)
    assert "is not for sip.example.test" in failed.value.diagnostics[0].notes[-1]


def test_a_key_of_another_certificate_is_not_staged(world, host, say, monkeypatch):
    monkeypatch.setattr(files, "checks_of", lambda _: ())
    certificate, _ = pair("sip.example.test")
    _, key = pair("sip.example.test")
    with pytest.raises(HostFailed) as failed:
        staging(world, certificate, key).run(host, say)
    assert "does not belong to its certificate" in failed.value.diagnostics[0].notes[-1]


@pytest.mark.parametrize("number", ["../..", "", "1001/../..", "*", "-rf", "1 2"])
def test_a_box_is_a_number(host, number):
    result = run_script(host, ("boxes", "1001", number))
    assert result.status == 1
    assert result.stderr.decode() == f"{number} is not a number\n"


# apt.


class Apt:
    """Programs `apt-get` and `dpkg`, and lock files, in a directory; the scripts use these."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self.locks = [folder / name for name in ("lists", "archives", "frontend")]
        for path in self.locks:
            path.touch()
        own = f'PATH={folder}:$PATH\napt_locks="{" ".join(map(str, self.locks))}"\n'
        own += f"apt_seconds=4 policy={folder}/policy-rc.d\n"
        original = hosts.script_text

        def text(name):
            parts = original(name).partition(b"\nwhat=$1; shift\n")
            return b"".join((parts[0], b"\n", own.encode(), parts[1], parts[2]))

        monkeypatch.setattr(hosts, "script_text", text)
        self.program("apt-get", "echo done")
        self.program("dpkg", "true")

    def program(self, name, text):
        (self.folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.folder / name).chmod(0o755)


@pytest.fixture
def apt(tmp_path, monkeypatch):
    return Apt(tmp_path, monkeypatch)


def holder_of(path):
    """A program that has a lock: its file is open, as in apt and dpkg."""
    with path.open() as file:
        return subprocess.Popen(["sleep", "30"], stdin=file)


@pytest.mark.parametrize("number", range(3), ids=["lists", "archives", "frontend"])
def test_every_lock_of_apt_is_waited_for_and_its_holder_named(apt, host, number):
    holder = holder_of(apt.locks[number])
    apt.program("apt-get", f"kill -0 {holder.pid} 2>/dev/null || echo alone")
    lines = []

    def take(line):
        lines.append(line)
        if "wait for" in line:
            holder.kill()
            holder.wait()

    done = run_script(host, ("packages", "update"), on_line=take)
    assert (done.status, "held" in sections(done.text)) == (0, False)
    assert lines == [
        f"\x1estep wait for sleep (pid {holder.pid}) to release apt",
        "\x1estep update package lists",
        "alone",
    ]


@pytest.mark.parametrize("what", [("update",), ("install", "", "bash")])
def test_who_never_releases_apt_is_named_with_what_to_do(apt, host, what):
    apt.program("apt-get", "echo 'E: Could not get lock'; exit 100")
    step = Packages(names=("bash",)) if what[0] == "install" else None
    holder = holder_of(apt.locks[0])
    try:
        with pytest.raises(HostFailed) as failed:
            (step.run if step else update_lists)(host, lambda _: None)
    finally:
        holder.kill()
        holder.wait()
    (problem,) = failed.value.diagnostics
    assert problem.code == "SD520"
    assert problem.message == f"another program uses apt on `sip1`: sleep (pid {holder.pid})"
    assert f"`ps -fp {holder.pid}`" in problem.help
    assert "sources" not in problem.help
    assert not (apt.folder / "policy-rc.d").exists()


def test_a_lock_that_is_taken_at_the_last_moment_is_waited_for_too(apt, host):
    """Nobody has a lock before; while apt-get fails, another program has it for a second."""
    first = apt.folder / "first"
    taken = f"sleep 1 <{apt.locks[0]} >/dev/null 2>&1 &"
    apt.program("apt-get", f"[ -e {first} ] && exit 0; : >{first}; {taken} exit 100")
    assert run_script(host, ("packages", "update")).status == 0


def test_a_failure_of_apt_itself_is_not_tried_again(apt, host):
    apt.program("apt-get", f"echo x >>{apt.folder}/tried; exit 100")
    assert run_script(host, ("packages", "update")).status == 100
    assert (apt.folder / "tried").read_text() == "x\n"
