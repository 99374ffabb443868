"""Attackers on the host itself: an account without rights, Asterisk's account, and root."""

import shlex
import subprocess
import sys
import time

import pytest
from conftest import Deployer
from system import packages_of

pytestmark = pytest.mark.lab

FOLDERS = ("/var/log/asterisk", "/var/lib/asterisk", "/var/spool/asterisk")
BOXES = "/var/spool/asterisk/voicemail/default"
ESCAPE = "\x1b]0;owned\x07\x1b[2J\u202e"


@pytest.fixture(scope="module")
def applied(lab, tmp_path_factory):
    """A host after an apply, and its deployer."""
    host = lab.boot("hostile", packages=packages_of("sid"))
    deployer = Deployer(lab, tmp_path_factory.mktemp("hostile"))
    deployer.write(name=host.name, address=host.address, mode="asterisk")
    done = deployer.run("apply", host.name, "--yes")
    assert done.returncode == 0, done.stderr
    host.run("useradd --create-home stranger", check=True)
    return host, deployer


def as_user(host, user, command):
    words = f"runuser -u {user} -- sh -c {shlex.quote(command)}"
    return host.run(words)


def readable(host, user):
    """Return the files below Asterisk's directories that an account can read."""
    paths = host.run(f"find {' '.join(FOLDERS)}", check=True).stdout.splitlines()
    assert len(paths) > 10
    command = (
        'while read -r path; do if [ -d "$path" ]; then ls "$path"; else head -c 1 "$path"; fi'
        ' >/dev/null 2>&1 && echo "$path"; done'
    )
    host.write("/tmp/paths", "".join(f"{path}\n" for path in paths).encode())
    return as_user(host, user, f"{command} </tmp/paths").stdout.splitlines()


def test_no_other_account_reads_who_calls_whom(applied):
    host, deployer = applied
    assert readable(host, "stranger") == []
    assert deployer.run("plan", host.name, "--check").returncode == 0
    host.run(f"chmod 755 {' '.join(FOLDERS)}", check=True)
    host.run("chown root:root /var/log/asterisk", check=True)
    host.run(f"echo secret >{FOLDERS[0]}/security.log", check=True)  # from an earlier release
    assert f"{FOLDERS[0]}/security.log" in readable(host, "stranger")
    assert deployer.run("plan", host.name, "--check").returncode == 1
    before = host.run("systemctl show -p MainPID asterisk").stdout
    done = deployer.run("apply", host.name, "--yes")
    assert done.returncode == 0, done.stderr
    assert readable(host, "stranger") == []
    assert deployer.run("plan", host.name, "--check").returncode == 0
    assert host.run("systemctl show -p MainPID asterisk").stdout == before


def boxes(host, user="asterisk"):
    """Write two voicemail messages of 1002, in the form of Asterisk."""
    as_user(
        host,
        user,
        f"rm -rf {BOXES}; mkdir -p {BOXES}/1002/INBOX;"
        f" touch {BOXES}/1002/INBOX/msg0000.txt {BOXES}/1002/INBOX/msg0001.txt",
    )


def waiting(deployer, host):
    done = deployer.run("users", "--on", host.name)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    return next(line.split() for line in done.stdout.splitlines() if line.startswith("1002 "))[2]


def test_root_follows_no_link_of_asterisk(applied):
    """Asterisk's account can replace the voicemail directories by links."""
    host, deployer = applied
    boxes(host)
    assert waiting(deployer, host) == "2"
    for folder in ("/root/victim", "/root/victim/1002", "/root/victim/1002/INBOX"):
        host.run(f"mkdir -m 700 {folder}", check=True)
    host.run("touch /root/victim/1002/INBOX/msg0000.txt", check=True)
    as_user(host, "asterisk", f"rm -rf {BOXES}; ln -s /root/victim {BOXES}")
    assert waiting(deployer, host) == "0"
    arguments = ("remove-user", "1002", "--delete-voicemail", "--apply", host.name)
    done = deployer.run(*arguments)
    assert host.run("ls /root/victim/1002/INBOX").stdout == "msg0000.txt\n"
    assert done.returncode != 0
    assert "SD712" in done.stderr


def test_names_that_asterisk_chooses_are_neither_options_nor_answers(applied):
    host, deployer = applied
    boxes(host)
    odd = ("-delete", "a\nb", "\x1eend", "x\x1b]0;y\x07", "1002\t7\n1002")
    for name in odd:
        as_user(
            host,
            "asterisk",
            f"mkdir -p -- {shlex.quote(f'{BOXES}/./{name}/INBOX')};"
            f" touch -- {shlex.quote(f'{BOXES}/./{name}/INBOX/msg0000.txt')}",
        )
    done = deployer.run("users", "--on", host.name, "--format", "json")
    assert done.returncode == 0, done.stderr
    assert host.run(f"ls {BOXES}/1002/INBOX").stdout.split() == ["msg0000.txt", "msg0001.txt"]
    boxes(host)


def test_a_host_writes_nothing_to_the_terminal_but_text(applied):
    host, deployer = applied
    host.run("cp -a /etc/asterisk/rtp.conf /root/; cp -a /etc/os-release /root/")
    host.write("/tmp/edit", f"; {ESCAPE} edit\n".encode())
    host.run("cat /tmp/edit >>/etc/asterisk/rtp.conf", check=True)
    release = host.run("cat /var/lib/sipdeploy/release").stdout.strip()
    json = f"/var/lib/sipdeploy/releases/{release}/release.json"
    host.run(f'sed -i \'s/"purpose": "/&\\\\u001b]0;owned\\\\u0007/\' {json}', check=True)
    commands = (("plan", host.name), ("history", host.name), ("apply", host.name, "-v", "--yes"))
    for words in commands:
        done = deployer.run(*words)
        assert "\\x1b]0;owned\\x07" in done.stdout + done.stderr or words[0] == "apply"
        assert not set("\x1b\x07\u202e\x9b") & set(done.stdout + done.stderr), words
    logs = deployer.folder / "home/.local/state/sipdeploy/logs"
    assert not set("\x1b\x07\u202e") & set("".join(p.read_text() for p in logs.iterdir()))
    host.run("cp -a /root/rtp.conf /etc/asterisk/rtp.conf", check=True)


MEASURE = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "sipdeploy", *sys.argv[1:]], check=False)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, done.returncode)
"""


def test_output_without_end_is_refused_in_little_memory(applied):
    host, deployer = applied
    host.write("/usr/local/sbin/ss", b"#!/bin/sh\nexec cat /dev/zero\n", mode=0o755)
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, "plan", host.name],
            cwd=deployer.folder,
            env=deployer.environment,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        host.run("rm /usr/local/sbin/ss")
    seconds = time.monotonic() - began
    kibibytes, code = (int(word) for word in done.stdout.split()[-2:])
    assert code == 4
    assert "SD531" in done.stderr
    assert f"`{host.name}` sent more than 8 MiB" in done.stderr
    assert kibibytes < 250 * 1024
    assert seconds < 60
