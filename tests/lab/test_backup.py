"""Backup and restore: the commands of docs/moving.md, onto an older Debian."""

import asyncio
import re
import shlex
from pathlib import Path

import pytest
from conftest import Deployer
from system import System, packages_of
from trusted import fingerprint

from sipdeploy.keeping import backup as backups

pytestmark = pytest.mark.lab

PAGE = (Path(__file__).parent.parent.parent / "docs/moving.md").read_text("utf-8")
COMMANDS = [
    shlex.split(line)[1:] for line in re.findall(r"^ *\$ (sipdeploy .*)$", PAGE, re.MULTILINE)
]
BOXES = "/var/spool/asterisk/voicemail/default"
DROP_IN = "/etc/systemd/system/kamailio.service.d/local.conf"
# The commands print more or less of these between Kamailio 5.4 and 6.1.
LOCAL = {
    "/etc/kamailio/local.cfg": b'route[LOCAL_REQUEST] {\n\txlog("L_NOTICE", "mine\\n");\n}\n',
    "/etc/asterisk/local/extensions.conf": b"[shop]\nexten => s,1,NoOp(mine)\n",
    DROP_IN: b"[Service]\nEnvironment=MINE=1\n",
}


class Moved:
    """A site `sip1`, whose host can be another one."""

    def __init__(self, lab, folder):
        self.lab = lab
        self.deployer = Deployer(lab, folder)
        self.file = folder / "sip1.backup"

    def on(self, host):
        """Write the inventory for this host."""
        self.host = host
        self.deployer.write(name="sip1", address=host.address, mode="kamailio")
        self.system = System(mode="kamailio", host=host)

    def run(self, *words, status=0):
        done = self.deployer.run(*words, timeout=900)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def served(self):
        return fingerprint(self.host, "openssl s_client -connect 127.0.0.1:8443 </dev/null")

    def kept(self):
        """What must be the same on both hosts: contents, and owners by name."""
        paths = " ".join([f"{BOXES}/1001 {BOXES}/1002 /etc/kamailio/dialog-key.cfg", *LOCAL])
        found = f"find {paths} -type f -printf '%p %u:%g ' -exec sha256sum {{}} ';'"
        return sorted(self.host.run(f"{found} | sed 's, [^ ]*$,,'", check=True).stdout.split("\n"))


@pytest.fixture(scope="module")
def moved(lab, tmp_path_factory):
    site = Moved(lab, tmp_path_factory.mktemp("moved"))
    site.on(lab.boot("old1", packages=packages_of("sid")))
    site.run("apply", "sip1", "--yes")
    return site


def leave(host, number, name, content):
    """A file in a mailbox, in the form of Asterisk."""
    path = f"{BOXES}/{number}/{name}"
    host.run(f"install -d -o asterisk -g asterisk {BOXES}/{number} {path.rpartition('/')[0]}")
    host.write(path, content)
    host.run(f"chown asterisk:asterisk {path} && chmod 660 {path}", check=True)


def message(host, number, name="INBOX/msg0000", word=b"one"):
    text = b";\n[message]\norigmailbox=1002\ncontext=default\npriority=2\nduration=3\n;" + word
    leave(host, number, f"{name}.txt", text + b"\n")
    leave(host, number, f"{name}.wav", b"RIFF" + word * 9000)


async def registered(system):
    async with system.phone("1001") as phone:
        await phone.connect()
        return (await phone.register()).status


def test_the_old_host_dies_and_the_new_one_has_everything(moved):
    old = moved.host
    message(old, "1002")
    message(old, "1002", "Old/msg0000", b"two")
    leave(old, "1002", "greet.wav", b"RIFF my name")
    leave(old, "1001", "unavail.wav", b"RIFF leave a message")
    for path, content in LOCAL.items():
        old.write(path, content)
    moved.run("apply", "sip1", "--yes")
    old.run("systemctl daemon-reload && systemctl restart kamailio", check=True)
    assert moved.run("plan", "sip1", "--check")
    before, shown, mark = moved.kept(), moved.served(), old.run("ls -A /var/lib/sipdeploy").stdout
    make, verify, restore, *checks = COMMANDS
    assert "2 messages of 1 user, 2 greetings of 2 users" in moved.run(*make)
    moved.run(*verify)
    assert moved.file.stat().st_mode & 0o7777 == 0o600
    assert old.run("ls -A /var/lib/sipdeploy").stdout == mark
    assert old.run("ls -A /var/spool/asterisk | grep sipdeploy").stdout == ""
    old.kill()
    moved.on(moved.lab.boot("new1", suite="bullseye"))
    moved.run(*restore)
    assert moved.kept() == before
    assert moved.served() == shown
    for words in checks:
        moved.run(*words)
    listed = moved.host.run("asterisk -rx 'voicemail show users for default'").stdout
    assert re.search(r"default +1002 .* 1\s*$", listed, re.MULTILINE), listed
    assert asyncio.run(registered(moved.system)) == 200
    left = moved.host.run("ls -A /var/lib/sipdeploy /var/spool/asterisk").stdout.split()
    assert not {"received", "issue", "placed", "candidate", ".sipdeploy-restore"} & set(left)
    assert " MINE=1\n" in moved.host.run("systemctl show -P Environment kamailio").stdout


def state(host):
    listing = (
        f"find /etc/kamailio /etc/asterisk {BOXES} -type f -printf '%p %M %u:%g ' "
        "-exec sha256sum {} ';' | sort"
    )
    return host.run(listing).stdout


def test_a_restore_on_a_running_host_interrupts_nothing_and_loses_nothing(moved):
    host = moved.host
    message(host, "1002", "INBOX/msg0001", b"three")
    before, running = state(host), host.run("systemctl show -P MainPID kamailio asterisk").stdout
    told = moved.run("restore", "sip1", "sip1.backup", "--yes", status=4)
    assert "SD744" in told
    assert "that the backup lacks: 1002" in told
    assert state(host) == before
    moved.run("restore", "sip1", "sip1.backup", "--yes", "--replace-voicemail")
    assert "msg0001" not in state(host)
    assert host.run("systemctl show -P MainPID kamailio asterisk").stdout == running
    moved.run("plan", "sip1", "--check")


def test_a_failed_restore_is_undone_with_the_messages(moved):
    """The local file of the backup has an error."""
    host = moved.host
    good = LOCAL["/etc/kamailio/local.cfg"]
    host.write("/etc/kamailio/local.cfg", b"route[LOCAL_REQUEST] {\n\tno_such();\n}\n")
    message(host, "1001", "INBOX/msg0000", b"four")
    moved.run("backup", "sip1", "-o", "broken.backup")
    host.write("/etc/kamailio/local.cfg", good)
    host.run(f"rm -r {BOXES}/1001/INBOX")
    before = state(host)
    told = moved.run("restore", "sip1", "broken.backup", "--yes", status=4)
    assert "SD401" in told
    assert "/etc/kamailio/local.cfg:2" in told
    assert state(host) == before
    left = host.run("ls -A /var/lib/sipdeploy /var/spool/asterisk").stdout.split()
    assert not {"received", "lock", ".sipdeploy-restore"} & set(left)


def test_a_hostile_asterisk_gains_nothing_from_a_backup(moved):
    """Its account can put links and odd names into the mailboxes."""
    host = moved.host
    host.run("install -m 600 /dev/null /root/secret && echo canary > /root/secret")
    odd = (
        f"cd {BOXES} && mkdir -p 1004/INBOX && cd 1004/INBOX && ln -s /root/secret msg0000.txt && "
        "ln -s /root/secret msg0000.wav && mkfifo msg0001.txt && touch msg0001.wav "
        "'msg0002.txt\nx' -- '--checkpoint-action=exec=touch x' && ln -s /root ../Old && "
        f"ln -s /root {BOXES}/1005 && truncate -s 1T {BOXES}/1004/greet.wav"
    )
    host.run(
        ["setpriv", "--reuid=asterisk", "--regid=asterisk", "--clear-groups", "sh", "-c", odd]
    )
    told = moved.run("backup", "sip1", "-o", "odd.backup")
    content = backups.read(moved.file.with_name("odd.backup"), ())
    assert not [
        entry for entry in content.files if "/1004/" in entry.path or "/1005/" in entry.path
    ]
    assert "canary" not in told
    host.run(f"rm -rf {BOXES}/1004 {BOXES}/1005")
