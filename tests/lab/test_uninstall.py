"""Uninstall: afterwards the host is as it was before the first apply, apart from packages."""

import pytest
from conftest import Deployer
from system import packages_of

pytestmark = pytest.mark.lab

# Files that programs change by themselves at any time.
VOLATILE = (
    *(
        "/var/log/",
        "/var/cache/",
        "/var/lib/apt/",
        "/var/lib/systemd/",
        "/var/tmp/",
        "/var/lib/dpkg",
    ),
    *(
        "/var/lib/asterisk/",
        "/var/spool/asterisk/",
        "/etc/.pwd.lock",
        "/root/",
        "/var/lib/private",
        "/var/lib/logrotate",
        "/var/spool/cron",
    ),
)
PLACES = "/etc /opt /usr/local /var /srv /home /usr/sbin/policy-rc.d"
LISTED = f"find {PLACES} -xdev -printf '%p\\t%M %u:%g %l\\n' 2>/dev/null"
HASHED = f"find {PLACES} -xdev -type f -print0 2>/dev/null | xargs -0 sha256sum"
MINE = b'children=1\nlisten=udp:127.0.0.1:5999\nloadmodule "ctl.so"\nrequest_route { exit; }\n'


def tree(host):
    """Path -> type, mode, owner, target, and content."""
    found = dict(line.split("\t") for line in host.run(LISTED).stdout.splitlines())
    for line in host.run(HASHED).stdout.splitlines():
        digest, path = line.split("  ", 1)
        found[path] += f" {digest}"
    return {path: row for path, row in found.items() if not path.startswith(VOLATILE)}


def state(host):
    """Units, rules, accounts."""
    units = host.run("systemctl list-unit-files --state=enabled --no-legend | sort").stdout
    return {
        "units": units.split("\n"),
        "rules": host.run("nft list ruleset").stdout,
        "users": host.run("getent passwd; getent group").stdout.split("\n"),
        "running": host.run("systemctl is-active kamailio asterisk sipdeploy-firewall").stdout,
        "timers": host.run(
            "systemctl list-timers --all --no-legend | grep -o 'sipdeploy[^ ]*'"
        ).stdout,
    }


@pytest.fixture(scope="module")
def host(lab):
    return lab.boot("gone1", packages=packages_of("sid"))


@pytest.fixture(scope="module")
def deployer(lab, host, tmp_path_factory):
    made = Deployer(lab, tmp_path_factory.mktemp("gone"))
    made.write(name=host.name, address=host.address, mode="kamailio")
    return made


def run(deployer, *words, status=0):
    done = deployer.run(*words)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_host_is_as_it_was_before_the_first_apply(host, deployer):
    """It ran a Kamailio of its own, with a configuration of its own."""
    host.run("systemctl disable -q --now kamailio asterisk")
    host.write("/etc/kamailio/kamailio.cfg", MINE, mode=0o640)
    host.run("chown root:kamailio /etc/kamailio/kamailio.cfg; chmod 711 /etc/kamailio")
    host.run("systemctl enable -q kamailio; systemctl restart kamailio", check=True)
    host.run("for try in $(seq 50); do kamcmd core.uptime && break; sleep 0.2; done")
    before, units = tree(host), state(host)
    run(deployer, "apply", host.name, "--yes")
    inventory = deployer.folder / "inventory.yaml"
    inventory.write_text(inventory.read_text().replace("name: Alice", "name: Alicia"))
    run(deployer, "apply", host.name, "--yes")
    assert tree(host) != before
    told = run(deployer, "uninstall", host.name, "--yes")
    assert "~ /etc/kamailio/kamailio.cfg (as before the first apply)" in told
    assert "- /etc/kamailio/tables.sh" in told
    after = tree(host)
    assert {p: r for p, r in after.items() if before.get(p) != r} == {}
    assert before.keys() - after.keys() == set()
    assert state(host) == units
    assert "SD747" in run(deployer, "uninstall", host.name, "--yes", status=4)


def test_the_next_apply_works_and_purge_leaves_the_messages(host, deployer):
    run(deployer, "apply", host.name, "--yes")
    box = "/var/spool/asterisk/voicemail/default/1002/INBOX"
    host.run(f"install -d -o asterisk -g asterisk {box}", check=True)
    host.run(f"install -o asterisk /dev/null {box}/msg0000.txt", check=True)
    host.run(
        "echo kamailio >/var/lib/sipdeploy/packages; echo asterisk >>/var/lib/sipdeploy/packages"
    )
    told = run(deployer, "uninstall", host.name, "--yes", "--purge")
    assert "kept: 1 message of voicemail" in told
    assert "- packages kamailio, asterisk" in told
    assert (
        host.run("ls /var/spool/asterisk/voicemail/default/1002/INBOX").stdout == "msg0000.txt\n"
    )
    assert (
        host.run("dpkg-query -W -f='${db:Status-Status}\\n' kamailio asterisk").stdout.count(
            "installed"
        )
        <= 2
    )
    assert host.run("ls /var/lib/sipdeploy /etc/sipdeploy 2>/dev/null").stdout == ""
    assert host.run("nft list tables").stdout.count("sipdeploy") == 0
