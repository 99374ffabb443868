"""Logins on a real sshd: certificates, agents, and hosts that do not run our scripts."""

import io
import os
import subprocess
import tarfile
import time

import pytest
from applying import site
from test_local import program

from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import run_script
from sipdeploy.host.connection import connect
from sipdeploy.transaction import release

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("login")]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """The key of a certificate authority."""
    key = tmp_path_factory.mktemp("authority") / "ca"
    subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", key], check=True)
    return key


@pytest.fixture(scope="module")
def host(lab, authority):
    """A host whose login `ops` needs a certificate; sshd knows the authority, and no key."""
    host = lab.boot("access1")
    host.add_user("ops")
    host.run("rm /home/ops/.ssh/authorized_keys", check=True)
    host.write("/etc/ssh/ca.pub", authority.with_suffix(".pub").read_bytes())
    host.write("/etc/ssh/sshd_config.d/ca.conf", b"TrustedUserCAKeys /etc/ssh/ca.pub\n")
    host.run("systemctl restart ssh", check=True)
    return host


def opened(address, **more):
    return connect("sip1", site({"address": address, **more}).hosts["sip1"])


@pytest.fixture
def keys(tmp_path):
    """A directory for keys, with an agent at `socket`."""
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", tmp_path / "socket"], stdout=subprocess.DEVNULL
    )
    while not (tmp_path / "socket").exists():
        time.sleep(0.01)
    yield tmp_path
    agent.terminate()
    agent.wait()


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
@pytest.mark.parametrize("place", ["file", "agent", "only its certificate in the agent"])
def test_a_certificate_logs_in(host, authority, keys, kind, place):
    key = keys / "key"
    subprocess.run(["ssh-keygen", "-qt", kind, "-N", "", "-f", key], check=True)
    subprocess.run(["ssh-keygen", "-qs", authority, "-Ime", "-nops", f"{key}.pub"], check=True)
    if place != "file":
        environment = {**os.environ, "SSH_AUTH_SOCK": str(keys / "socket")}
        subprocess.run(["ssh-add", "-q", key], check=True, env=environment)
        key.unlink()
    certificate = (keys / "key-cert.pub").rename(keys / "certificate")
    if place == "only its certificate in the agent":
        subprocess.run(["ssh-add", "-qd", f"{key}.pub"], check=True, env=environment)
    named = f"IdentityFile {key}{'.pub' if place == 'agent' else ''}\n"
    config = keys / ".ssh/config"
    config.write_text(
        f"IdentityAgent {keys / 'socket'}\n{named}CertificateFile {certificate}\n"
        f"IdentitiesOnly yes\nUser ops\n{config.read_text()}"
    )
    ops = opened(host.address)
    try:
        assert ops.target.user == "ops"
    finally:
        ops.close()


GERMAN = """#!/bin/sh
echo 'sudo: Ein Passwort ist notwendig' >&2
exit 1
"""
OTHER_LOGIN = """\
echo 'Please login as the user "ubuntu" rather than the user "root".'; echo; sleep 1; exit 142
""".strip()


def problem(call):
    with pytest.raises(HostFailed) as failed:
        call()
    (diagnostic,) = failed.value.diagnostics
    return diagnostic


def test_sudo_is_told_from_what_it_runs(host):
    """The real one refuses, one speaks German, and one lets the command fail by itself."""
    host.add_user("plain")
    plain = opened(host.address, user="plain")
    try:
        refused = problem(lambda: plain.run(["true"]))
        assert (refused.code, refused.notes) == ("SD505", ("sudo: a password is required",))
        host.write("/usr/local/bin/sudo", GERMAN.encode(), mode=0o755)
        refused = problem(lambda: plain.run(["true"]))
        assert refused.notes == ("sudo: Ein Passwort ist notwendig",)
        assert "echo 'plain ALL=(ALL) NOPASSWD: ALL'" in refused.help
        host.run("rm /usr/local/bin/sudo", check=True)
        host.run(refused.help.split("`")[3], check=True)  # the command of the help
        result = plain.run(["sh", "-c", "id -un; echo 'sudo: a password is required' >&2; exit 1"])
        assert (result.status, result.text) == (1, "root\n")
        assert "a password is required" in result.complaint
    finally:
        plain.close()


@pytest.mark.parametrize("login_name", ["root", "greeted"])
def test_a_greeting_is_no_part_of_an_answer(host, login_name):
    if login_name != "root":
        host.add_user(login_name, sudo="nopasswd")
    home = "/root" if login_name == "root" else f"/home/{login_name}"
    host.write(f"{home}/.bashrc", b"echo hello; printf 'no end of the line: '\n")
    host.write("/var/lib/sipdeploy/releases/1/release.json", b"{}")
    host.write("/var/lib/sipdeploy/releases/1/tree/x", b"x")
    machine = opened(host.address, user=login_name)
    try:
        tar = run_script(machine, ("release", "/var/lib/sipdeploy", "1")).stdout
        with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as kept:
            assert kept.getnames() == ["release.json", "tree", "tree/x"]
        assert [row.number for row in release.history(machine)] == [1]
    finally:
        machine.close()


@pytest.mark.parametrize("sudo", ["none", "nopasswd"])
def test_a_login_that_a_cloud_image_refuses_is_told_in_its_words(host, sudo):
    name = f"cloud-{sudo}"
    host.add_user(name, sudo=sudo)
    keys = f"/home/{name}/.ssh/authorized_keys"
    command = OTHER_LOGIN.replace('"', '\\"')
    host.write(keys, b'command="%s" ' % command.encode() + host.read(keys), mode=0o600)
    host.run(["chown", f"{name}:", keys], check=True)
    machine = opened(host.address, user=name)
    try:
        told = problem(lambda: release.history(machine))
        assert (told.code, f"for the login `{name}`" in told.message) == ("SD509", True)
        assert 'Please login as the user "ubuntu"' in told.notes[0]
        assert "`hosts.sip1.user`" in told.help
    finally:
        machine.close()


LOCAL = """
import json, os, pwd, sys, threading, time
from pathlib import Path
os.environ["USER"] = "ops2"
from sipdeploy.host.local import LocalHost
from sipdeploy.diagnostics.errors import HostFailed
host = LocalHost("here")
script = "(trap '' TERM; sleep 71.5; sleep 72.5) & sleep 73.5; sleep 74.5"
def living():
    texts = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    return sum(text.startswith(b"sleep") for text in texts)
threading.Timer(1, host.close).start()
began = time.monotonic()
try:
    host.run(["sh", "-c", script])
except HostFailed as failure:
    print(failure)
print("closed", time.monotonic() - began < 8, living())
began = time.monotonic()
try:
    host.run(["sh", "-c", script], timeout_seconds=1)
except HostFailed as failure:
    print("late" if "did not end" in str(failure) else failure)
print("ended", time.monotonic() - began < 8, living())
print(host.run(["id", "-un"]).text)
"""


@pytest.mark.parametrize("pty", ["!use_pty", "use_pty"])
def test_root_s_children_of_a_local_step_end_too(host, pty):
    """Ctrl-C and a time limit, with a login that is not root."""
    if host.run("getent passwd ops2").returncode:
        host.add_user("ops2", sudo="nopasswd")
        host.run(
            "apt-get update -q && apt-get install -qy --no-install-recommends python3-click "
            "python3-jinja2 python3-paramiko python3-pydantic python3-yaml",
            check=True,
        )
        host.run(["tar", "-x", "-C", "/opt"], input_bytes=program(), check=True)
    host.write("/etc/sudoers.d/pty", f"Defaults {pty}\n".encode(), mode=0o440)
    host.write("/opt/local.py", LOCAL.encode())
    done = host.run("su ops2 -c 'PYTHONPATH=/opt exec setsid python3 /opt/local.py 2>&1'")
    assert done.stdout.split() == ["closed", "True", "0", "late", "ended", "True", "0", "root"]


RIGHT = "a right $1 'pass' word"
FAILLOCK = b"""\
auth required pam_faillock.so preauth deny=3
auth [success=1 default=ignore] pam_unix.so
auth [default=die] pam_faillock.so authfail deny=3
auth sufficient pam_faillock.so authsucc
account required pam_permit.so
session required pam_permit.so
"""


@pytest.fixture(scope="module")
def guarded(lab):
    """A host with German words, whose login needs a password for sudo; three failures lock it."""
    host = lab.boot("access2", suite="bookworm")
    host.add_user("keyed")
    host.run("chpasswd", check=True, input_bytes=f"keyed:{RIGHT}\n".encode())
    host.write("/etc/sudoers.d/keyed", b"keyed ALL=(ALL) ALL\n", mode=0o440)
    host.write("/etc/pam.d/sudo", FAILLOCK)
    host.write("/home/keyed/.bashrc", b"export LANG=C.UTF-8 LANGUAGE=de p=exported\n")
    return host


@pytest.fixture
def with_password(guarded, tmp_path):
    """Opens the host with a password from the source that the inventory names."""
    machines = []

    def start(password, name="password"):
        (tmp_path / name).write_text(f"{password}\n")
        source = {"file": str(tmp_path / name)}
        machines.append(opened(guarded.address, user="keyed", sudo_password=source))
        return machines[-1]

    yield start
    for machine in machines:
        machine.close()


def failures(host):
    """The failures that lock the account."""
    lines = host.run("faillock --user keyed", check=True).stdout.splitlines()
    return [line for line in lines if line.endswith(" V")]


@pytest.mark.parametrize("defaults", ["!use_pty", "use_pty", "requiretty", "requiretty,use_pty"])
def test_sudo_with_a_password_is_as_sudo_without(guarded, with_password, defaults):
    guarded.write("/etc/sudoers.d/defaults", f"Defaults {defaults}\n".encode(), mode=0o440)
    machine = with_password(RIGHT)
    data = bytes(range(256)) * 8000
    seen = "tr '\\0' '\\n' </proc/$PPID/environ; cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'"
    for _ in range(2):
        result = machine.run(["sh", "-c", "id -un; cat; echo it >&2; exit 7"], input=data)
        assert (result.status, result.stdout, result.stderr) == (7, b"root\n" + data, b"it\n")
    assert RIGHT not in machine.run(["sh", "-c", f"env; {seen}"]).text
    release.history(machine)  # a script, with its marks
    assert failures(guarded) == []
    logs = guarded.run(["journalctl", "-o", "export"]).stdout
    assert "sipdeploy-sudo" in logs
    assert "pass' word" not in logs


def test_a_password_that_sudo_does_not_want_is_no_input(guarded, with_password):
    guarded.write("/etc/sudoers.d/keyed", b"keyed ALL=(ALL) NOPASSWD: ALL\n", mode=0o440)
    try:
        assert with_password("any").run(["cat"], input=b"data").stdout == b"data"
    finally:
        guarded.write("/etc/sudoers.d/keyed", b"keyed ALL=(ALL) ALL\n", mode=0o440)


def test_a_wrong_password_is_told_once_and_does_not_lock_the_account(guarded, with_password):
    """Two hosts of an inventory, each of which would run more than one command."""
    first, second = with_password("wrong"), with_password("wrong")
    refused = problem(lambda: first.run(["cat"], input=b"one\ntwo\nthree\n"))
    assert refused.code == "SD550"
    assert "sudo: 1 Fehlversuch bei der Passwort-Eingabe" in refused.notes
    for machine in (first, second, second):
        assert problem(lambda m=machine: m.run(["true"])).code == "SD550"
    assert len(failures(guarded)) == 2, "sudo itself asks a second time"
    assert with_password(RIGHT, "other").run(["id", "-u"]).text == "0\n", "it is not locked"
    assert failures(guarded) == []


def test_without_a_password_the_remedies_are_told(guarded):
    guarded.write("/etc/sudoers.d/defaults", b"Defaults requiretty\n", mode=0o440)
    machine = opened(guarded.address, user="keyed")
    try:
        refused = problem(lambda: machine.run(["true"]))
    finally:
        machine.close()
    assert refused.code == "SD505"
    assert refused.notes == ("sudo: Ein Passwort ist notwendig",)
    assert "`--ask-sudo-password`" in refused.help
