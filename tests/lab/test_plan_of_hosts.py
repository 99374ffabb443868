"""Plan, drift, releases and locks through the command line, on a real host."""

import asyncio
import hashlib
import json
import re
import stat
import threading
import time

import pytest
from applying import live, tree, units
from conftest import Deployer
from system import DOMAIN, NUMBERS, password

from sipdeploy.sip.phone import Phone

pytestmark = pytest.mark.lab

HA1 = re.compile(r"\b[0-9a-f]{32}\b")


@pytest.fixture(scope="module")
def person(lab, tmp_path_factory):
    """A deployer with an inventory and a bare host; each test continues from the previous one."""
    host = lab.boot("plan1")
    deployer = Deployer(lab, tmp_path_factory.mktemp("plan"))
    deployer.host = host
    deployer.write(name="sip1", address=host.address, mode="kamailio")
    return deployer


def edit(person, before, after):
    path = person.folder / "inventory.yaml"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


def plan(person, *options):
    done = person.run("plan", *options)
    return done.returncode, done.stdout


def written(host):
    """Return content, owner, mode and time of /etc and of sipdeploy's own files."""
    show = (
        "find /etc /var/lib/sipdeploy /var/log/sipdeploy.log"
        " -printf '%p %M %u:%g %T@ %C@ %l '"
        " \\( -type f -exec sha256sum {} \\; -o -printf '\\n' \\) 2>/dev/null | sort; ls /var/lib"
    )
    return host.run(show).stdout.splitlines()


def test_a_plan_of_a_bare_host_changes_nothing(person):
    before = written(person.host)
    code, told = plan(person, "--check")
    assert code == 1
    assert "+ package kamailio " in told
    assert written(person.host) == before
    assert person.host.run("ls /var/lib/sipdeploy").returncode != 0


def test_after_an_apply_there_is_nothing_to_do_and_nothing_is_done(person):
    assert person.run("apply", "--yes").returncode == 0
    assert plan(person, "--check") == (0, "sip1\n  no changes\n")
    before = written(person.host), units(person.host)
    done = person.run("apply", "--yes")
    assert "sip1  unchanged, 0 changes" in done.stdout
    assert (written(person.host), units(person.host)) == before


def test_a_new_user_is_shown_without_secrets(person):
    edit(person, "  1006: {name: Dan}\n", "  1006: {name: Dan}\n  1007: {name: Sue}\n")
    secrets = person.folder / "secrets.yaml"
    secrets.write_text(secrets.read_text() + '  "1007": lab-only-1007-Zq8Kd2\n')
    seen = person.run("plan")
    code, told = seen.returncode, seen.stdout
    assert code == 0
    for line in (
        "+[1007](user)",
        "+credentials 1007 [hidden]",
        '+names 1007 "Sue"',
        "= reload kamailio (no interruption)",
        "3 files, 2 reloads",
    ):
        assert line in told, told
    _, data = plan(person, "--format", "json")
    (host,) = json.loads(data)["hosts"]
    assert [change["path"].rpartition("/")[2] for change in host["changes"]] == [
        "pjsip_users.conf",
        "credentials.sum",
        "sipdeploy.db",
    ]
    done = person.run("apply", "--yes")
    assert done.returncode == 0
    logs = list((person.folder / "home/.local/state/sipdeploy/logs").iterdir())
    said = seen.stderr + told + data + done.stdout + done.stderr
    said += "".join(log.read_text() for log in logs)
    assert not HA1.search(said)
    assert not [number for number in (*NUMBERS, "1007") if password(number) in said]
    ha1 = hashlib.md5(f"1007:{DOMAIN}:{password('1007')}".encode()).hexdigest()
    hosts_own = person.host.run("cat /etc/kamailio/sipdeploy.db | tr -d '\\0'").stdout
    assert ha1 in hosts_own, "the very thing that was looked for is on the host"
    assert {stat.S_IMODE(log.stat().st_mode) for log in logs} == {0o600}


def test_an_edit_on_the_host_is_shown_and_stops_an_apply(person):
    host = person.host
    host.run("echo '# by hand' >> /etc/kamailio/kamailio.cfg", check=True)
    before = live(host), units(host)
    code, told = plan(person, "--check")
    assert code == 1
    assert "edited on the host since the last apply:" in told
    assert "+# by hand" in told
    done = person.run("apply", "--yes")
    assert (done.returncode, (live(host), units(host))) == (4, before)
    assert "error[SD526]" in done.stderr
    assert "/etc/kamailio/local.cfg" in done.stderr
    assert person.run("apply", "--yes", "--overwrite").returncode == 0
    assert b"by hand" not in host.read("/etc/kamailio/kamailio.cfg")


def test_local_files_are_read_and_never_touched(person):
    host = person.host
    mine = {
        "/etc/kamailio/local.cfg": b'route[LOCAL_REQUEST] {\n\txlog("local\\n");\n}\n# by hand\n',
        "/etc/asterisk/local/extensions.conf": b"[mine]\nexten => 1,1,Hangup()\n",
    }
    for path, content in mine.items():
        host.write(path, content)
    edit(person, "services:\n", "ports: {registrar: 5064}\nservices:\n")
    assert person.run("apply", "--yes").returncode == 0
    assert {path: host.read(path) for path in mine} == mine
    host.run("asterisk -rx 'dialplan reload'")
    assert "mine" in host.run("asterisk -rx 'dialplan show mine'").stdout
    assert plan(person, "--check")[0] == 0
    host.write("/etc/kamailio/local.cfg", b"route[LOCAL_REQUEST] {\n\tno_such();\n}\n")
    edit(person, "ports: {registrar: 5064}", "ports: {registrar: 5065}")
    before = live(host), units(host)
    done = person.run("apply", "--yes")
    assert (done.returncode, (live(host), units(host))) == (4, before)
    assert "/etc/kamailio/local.cfg:2" in done.stderr, done.stderr
    host.run("rm /etc/kamailio/local.cfg")
    assert person.run("apply", "--yes").returncode == 0


def test_a_saved_plan_is_carried_out_or_refused(person):
    edit(person, "{name: Sue}", "{name: Susan}")
    assert person.run("plan", "-o", "plan.json").returncode == 0
    assert not HA1.search((person.folder / "plan.json").read_text().replace("fingerprint", ""))
    assert person.run("apply", "plan.json").returncode == 0
    assert plan(person, "--check")[0] == 0
    edit(person, "{name: Susan}", "{name: Sue}")
    assert person.run("plan", "-o", "plan.json").returncode == 0
    edit(person, "{name: Sue}", "{name: Anna}")
    before = written(person.host), units(person.host)
    done = person.run("apply", "plan.json")
    assert (done.returncode, "error[SD529]" in done.stderr) == (1, True)
    assert (written(person.host), units(person.host)) == before
    edit(person, "{name: Anna}", "{name: Sue}")
    person.host.run("chmod 600 /etc/kamailio/tls.cfg")
    before = written(person.host), units(person.host)
    done = person.run("apply", "plan.json")
    assert (done.returncode, "error[SD529]" in done.stderr) == (1, True)
    assert "now also: ~ /etc/kamailio/tls.cfg" in done.stderr
    assert (written(person.host), units(person.host)) == before
    assert person.run("apply", "--yes").returncode == 0


def test_a_restart_is_told_with_what_it_costs(person):
    edit(person, "ports: {registrar: 5065}", "ports: {registrar: 5066}")
    told = asyncio.run(asyncio.wait_for(planned_in_a_call(person), 60))
    assert (
        "= restart kamailio: 2 registrations reconnect, 1 call continues,"
        " 0 calls being set up are lost"
    ) in told, told


async def planned_in_a_call(person):
    address = (person.host.address, 8443)
    async with (
        Phone("1001", password("1001"), domain=DOMAIN, address=address) as caller,
        Phone("1004", password("1004"), domain=DOMAIN, address=address) as callee,
    ):
        for phone in (caller, callee):
            await phone.connect()
            assert (await phone.register()).status == 200
        call = await caller.invite("1004")
        answered = await (await callee.incoming(method="INVITE")).answer()
        await call.answered()
        await call.ack()
        await answered.acknowledged()
        told = await asyncio.to_thread(plan, person, "--no-diff")
        assert (await call.bye()).status == 200
        await asyncio.sleep(0.2)
        after = person.host.run("kamcmd htable.stats").stdout
        assert re.search(r"name: calls\s+slots: \d+\s+all: 0", after), after
    return told[1]


def test_who_is_disconnected_is_told_and_what_is_told_is_true(person):
    assert person.run("apply", "--yes").returncode == 0
    path, secrets = person.folder / "inventory.yaml", person.folder / "secrets.yaml"
    before = path.read_text(), secrets.read_text()
    edit(person, "  1004: {}\n", "")
    edit(person, "max_contacts: 2", "max_contacts: 1")
    secrets.write_text(secrets.read_text().replace(password("1001"), "another-Zq8Kd2"))
    told, codes = asyncio.run(asyncio.wait_for(planned_with_phones(person), 60))
    path.write_text(before[0])
    secrets.write_text(before[1])
    lowers = "lowers max_contacts of 1 user (1005): phones above it stay until they register again"
    for line in (
        "= disconnects 1 user (1001): their passwords change; 1 registered now",
        "= removes 1 user (1004), and disconnects them; 0 registered now",
        f"= {lowers}, which then gets 503",
        "= reload kamailio (no interruption for other users)",
    ):
        assert line in told, told
    assert codes == [503, 503]
    assert person.run("apply", "--yes").returncode == 0


async def planned_with_phones(person):
    """The plan, and the replies to two phones of 1005 after its apply."""
    address = (person.host.address, 8443)
    async with (
        Phone("1001", password("1001"), domain=DOMAIN, address=address) as changed,
        Phone("1005", password("1005"), domain=DOMAIN, address=address) as first,
        Phone("1005", password("1005"), domain=DOMAIN, address=address) as second,
    ):
        for phone in (changed, first, second):
            await phone.connect()
            assert (await phone.register()).status == 200
        told = await asyncio.to_thread(plan, person, "--no-diff")
        done = await asyncio.to_thread(person.run, "apply", "--yes")
        assert done.returncode == 0, done.stderr
        listed = person.host.run("kamcmd ul.dump brief | grep AoR").stdout
        assert ("1005" in listed, "1001" in listed) == (True, False)
        return told[1], [(await phone.register()).status for phone in (first, second)]


def test_a_release_comes_back(person):
    assert person.run("apply", "--yes").returncode == 0
    before = live(person.host)
    edit(person, "{name: Sue}", "{name: Other}")
    edit(person, "  6002: {kind: echo}\n", "")
    secrets = person.folder / "secrets.yaml"
    old, new = password("1001"), "another-Zq8Kd2"
    secrets.write_text(secrets.read_text().replace(old, new))
    assert person.run("apply", "--yes").returncode == 0
    assert (registers(person, new), registers(person, old)) == (200, 401)
    done = person.run("rollback", "sip1", "--yes")
    assert done.returncode == 0, done.stderr
    assert "6002" in person.host.run("kamcmd htable.dump services").stdout
    assert (registers(person, new), registers(person, old)) == (200, 401)
    assert live(person.host) != before
    done = person.run("rollback", "sip1", "--yes")  # to the release without the service
    assert done.returncode == 0, done.stderr
    number = json.loads(person.run("history", "sip1", "--format", "json").stdout)["releases"][-3]
    words = ("rollback", "sip1", str(number["number"] - 1), "--with-users", "--yes")
    inventory = person.folder / "inventory.yaml"
    text = inventory.read_text()
    inventory.write_text(text.replace("users:", "userz:").replace("email: ", "email: x@@"))
    secrets.rename(person.folder / "away.yaml")
    assert person.run("apply", "--yes").returncode == 1
    assert person.run("history", "sip1").returncode == 0
    done = person.run(*words)
    assert done.returncode == 0, done.stderr
    assert "inventory.yaml has 2 errors (see `sipdeploy lint`)" in done.stderr
    assert "= users and passwords become those of release" in done.stderr
    assert "= disconnects 1 user (1001): their passwords change; " in done.stderr
    assert registers(person, old) == 200
    assert live(person.host) == before
    (person.folder / "away.yaml").rename(secrets)
    inventory.write_text(text)
    rows = json.loads(person.run("history", "sip1", "--format", "json").stdout)["releases"]
    assert 5 <= len(rows) <= 10  # five configurations, and five changes of users
    assert (rows[-1]["is_current"], rows[-1]["purpose"]) == (True, " ".join(words[:-1]))
    done = person.run("rollback", "sip1", "99", "--yes")
    assert (done.returncode, "error[SD530]" in done.stderr) == (4, True)


def test_a_rollback_leaves_the_users_of_today(person):
    """Who can register is what the inventory said last; changes of users push nothing out."""
    assert person.run("apply", "--yes").returncode == 0
    edit(person, "ports: {registrar: 5066}", "ports: {registrar: 5067}")
    assert person.run("apply", "--yes").returncode == 0
    secrets = person.folder / "secrets.yaml"
    secrets.write_text(secrets.read_text() + f'  "1008": {password("1008")}\n')
    edit(person, "  1006: {name: Dan}\n", "  1006: {name: Dan}\n  1008: {name: New}\n")
    assert person.run("apply", "--yes").returncode == 0
    edit(person, "  1004: {}\n", "")
    assert person.run("apply", "--yes").returncode == 0
    for number in range(5):
        secret = f"newest-{number}-Zq8Kd2"
        text = re.sub(r'"1003": .*', f'"1003": {secret}', secrets.read_text())
        secrets.write_text(text)
        assert person.run("apply", "--yes").returncode == 0
    rows = json.loads(person.run("history", "sip1", "--format", "json").stdout)["releases"]
    assert [row["is_users"] for row in rows[-5:]] == [True] * 5
    assert sum(not row["is_users"] for row in rows) == 5
    assert "users only; reloads " in person.run("history", "sip1").stdout
    done = person.run("rollback", "sip1", "--yes")
    assert done.returncode == 0, done.stderr
    assert "5066" in person.host.run("cat /etc/kamailio/kamailio.cfg").stdout
    found = [
        registers(person, *each)
        for each in (
            (password("1008"), "1008"),
            (password("1004"), "1004"),
            (secret, "1003"),
            (password("1003"), "1003"),
        )
    ]
    assert found == [200, 401, 200, 401]
    edit(person, "ports: {registrar: 5067}", "ports: {registrar: 5066}")
    assert plan(person, "--check")[0] == 0


def registers(person, secret, number="1001"):
    """The reply to a registration with a password."""

    async def act():
        address = (person.host.address, 8443)
        async with Phone(number, secret, domain=DOMAIN, address=address) as phone:
            await phone.connect()
            return (await phone.register()).status

    return asyncio.run(asyncio.wait_for(act(), 30))


def lock(person):
    """Create a lock of another apply that began five minutes ago."""
    folder = "/var/lib/sipdeploy/lock"
    made = f"mkdir {folder}; echo bob@desk > {folder}/holder; echo 'apply sip1' > {folder}/purpose"
    person.host.run(f"{made}; touch -d '-310 seconds' {folder}", check=True)
    return folder


def test_a_lock_says_who_has_it_and_can_be_broken(person):
    folder = lock(person)
    edit(person, "{name: Other}", "{name: Locked}")
    before = tree(person.host), units(person.host)
    done = person.run("apply", "--yes", "--lock-wait", "1")
    assert done.returncode == 4
    for text in ("is locked by bob@desk", "running `apply sip1` for 5 min", "--break-lock"):
        assert text in done.stderr, done.stderr
    assert (tree(person.host), units(person.host)) == before
    assert person.run("apply", "--yes", "--break-lock").returncode == 0
    assert person.host.run(f"ls {folder}").returncode != 0


def test_a_lock_is_waited_for(person):
    folder = lock(person)
    edit(person, "{name: Locked}", "{name: Late}")
    gone = threading.Timer(4, person.host.run, [f"rm -r {folder}"])
    began = time.monotonic()
    gone.start()
    done = person.run("apply", "--yes", "--lock-wait", "60")
    gone.join()
    assert done.returncode == 0, done.stderr
    assert 4 <= time.monotonic() - began < 40
    assert b"Late" in person.host.read("/etc/kamailio/sipdeploy.db")


def test_a_host_of_another_inventory_is_left_alone(person):
    """A clone without the secrets file, and a wrong address in the inventory of another site."""
    secrets = person.folder / "secrets.yaml"
    passwords_of_the_site = secrets.read_text()
    assert person.run("apply", "--yes").returncode == 0
    before = written(person.host), units(person.host)
    secrets.unlink()
    assert "SD230" in person.run("secrets", "rotate", "--apply", "--yes").stderr
    assert not secrets.exists()
    assert person.run("init", "--ci", "none", "--new-passwords").returncode == 0
    refused_with(person, "SD554")
    secrets.write_text(passwords_of_the_site)
    edit(person, f"domain: {DOMAIN}", "domain: other.example.test")
    refused_with(person, "SD553")
    edit(person, "domain: other.example.test", f"domain: {DOMAIN}")
    assert (written(person.host), units(person.host)) == before

    said = person.run("secrets", "rotate").stderr
    assert "run `sipdeploy apply --take-over` to change the hosts" in said
    refused_with(person, "SD554")
    assert person.run("apply", "--yes", "--take-over").returncode == 0
    secrets.write_text(passwords_of_the_site)
    assert person.run("apply", "--yes", "--take-over").returncode == 0
    own = re.search(r'"1001": (\S+)', passwords_of_the_site)[1]
    assert registers(person, own) == 200


def refused_with(person, code):
    """Both say it, and apply does nothing."""
    done = person.run("plan", "--no-diff")
    assert (done.returncode, f"warning[{code}]" in done.stderr) == (0, True), done.stderr
    done = person.run("apply", "--yes")
    assert (done.returncode, f"error[{code}]" in done.stderr) == (4, True), done.stderr
    assert "`--take-over`" in done.stderr
