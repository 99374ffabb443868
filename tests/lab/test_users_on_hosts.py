"""Users are added, changed and removed on real hosts, during calls of other users."""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import statistics
import subprocess
import threading
import time

import pytest
import watching
from applying import units
from conftest import Deployer
from system import DOMAIN, INVENTORY, packages_of, password, passwords

from lab.browser import Browser, spki_pin
from lab.distance import distance
from lab.load import Load, register_many
from sipdeploy.sip.phone import Phone

pytestmark = pytest.mark.lab

LOW, HIGH = 440, 620
PHONES = 1000
# Chosen so that a change of 50 users passes no step that restarts Kamailio.
IDLE = 30
AT_ONCE = 0.5  # seconds after the command until the sockets of a removed user are closed
USERS = int(os.environ.get("LAB_USERS", "8"))  # 50 take ten minutes on two cores


def crowd(count):
    return [(str(20000 + index), f"lab-only-{index}-Zq8Kd2") for index in range(count)]


def deploy(lab, folder, mode, more=()):
    host = lab.boot(f"users-{mode}{len(more) or ''}", packages=packages_of("sid"))
    deployer = Deployer(lab, folder)
    deployer.write(name=host.name, address=host.address, mode=mode)
    text = INVENTORY.format(name=host.name, address=host.address, mode=mode)
    named = "".join(f"  {number}: {{}}\n" for number, _ in more)
    (folder / "inventory.yaml").write_text(text.replace("services:\n", f"{named}services:\n"))
    secrets = "".join(f'  "{number}": {secret}\n' for number, secret in more)
    (folder / "secrets.yaml").write_text(passwords() + secrets)
    done = deployer.run("apply", host.name, "--yes")
    assert done.returncode == 0, done.stderr
    return host, deployer


class Fleet:
    """Registered sockets, kept open by a separate thread."""

    def __init__(self, host, users):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        load = Load(address=(host.address, 8443), domain=DOMAIN, concurrency=50, workers=1)
        self._many = register_many(load, users)

    def __enter__(self):
        self._thread.start()
        self._fleet = self._run(self._many.__aenter__())
        assert self._fleet.result.failed == ()
        return self

    def __exit__(self, *failure):
        self._run(self._many.__aexit__(*failure))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(120)

    def open(self):
        return self._run(self._fleet.open_connections())

    def refresh(self):
        """Refresh the registrations, which last ten minutes; return the failed ones."""
        return self._run(self._fleet.refresh()).failed


class Desk:
    """Runs commands like an administrator, measures them, and records all secrets."""

    def __init__(self, host, deployer, watch):
        self.host, self.deployer, self.watch = host, deployer, watch
        self.seconds = {}

    def type(self, *words):
        began = time.monotonic()
        done = self.deployer.run(*words, "--apply", self.host.name)
        self.seconds.setdefault(words[0], []).append(time.monotonic() - began)
        assert done.returncode == 0, done.stderr
        assert "restart" not in done.stderr, done.stderr
        return done

    def new_password(self, *words):
        done = self.type(*words, "--format", "json")
        told = json.loads(done.stdout)
        secret = told["password"]
        self.watch.secrets |= {secret, ha1(told["number"], secret)}
        assert secret not in done.stderr
        return secret

    def medians(self):
        return ", ".join(
            f"{name} {statistics.median(each):.2f} s" for name, each in self.seconds.items()
        )


def ha1(number, secret):
    return hashlib.md5(f"{number}:{DOMAIN}:{secret}".encode()).hexdigest()


def phone(host, number, secret):
    return Phone(number, secret, domain=DOMAIN, address=(host.address, 8443))


async def refused(host, number, secret):
    async with phone(host, number, secret) as stranger:
        await stranger.connect()
        return (await stranger.register()).status in (401, 403)


async def closed(device):
    """Return the seconds until the host closes a connection."""
    began = time.monotonic()
    while not device.is_closed:
        assert time.monotonic() < began + 10, "the socket is still open"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def one_user(desk, number):
    """Add a user, change its password, remove it; return how long its sockets stay open."""
    host, run = desk.host, asyncio.to_thread
    waits = []
    secret = await run(desk.new_password, "add-user", number, "--name", f"User {number}")
    async with phone(host, number, secret) as first:
        await first.connect()
        assert (await first.register()).status == 200
        other = await run(desk.new_password, "set-password", number)
        waits.append(await closed(first))
    assert await refused(host, number, secret)
    async with phone(host, number, other) as second:
        await second.connect()
        assert (await second.register()).status == 200
        await run(desk.type, "remove-user", number)
        waits.append(await closed(second))
    assert await refused(host, number, other)
    assert "AOR not found" in host.run(f"kamcmd ul.lookup location {number}@{DOMAIN} 2>&1").stdout
    return waits


def search(desk, folder):
    """Search all forbidden places for the recorded secrets."""
    host, secrets = desk.host, sorted(desk.watch.secrets)
    words = [secret for secret in secrets if len(secret) == 24]
    assert len(words) >= 2
    assert desk.watch.found == set()
    assert desk.watch.rounds > 5
    assert watching.in_journal(host, secrets) == []
    assert watching.on_host(host, words, "/etc /var /run /tmp /root /home") == []
    places = "/etc /var /run /tmp /home"
    assert watching.on_host(host, secrets, places, only_readable=True) == []
    assert watching.on_host(host, secrets, "/var/log") == []
    assert watching.in_folder(folder, secrets, besides=("secrets.yaml",)) == []
    assert list((folder / "home" / "tmp").iterdir()) == [], "a crash"
    # prove that each search can find something
    canary = "canary-" + secrets[0][:8]
    desk.watch.secrets.add(canary)
    shown = subprocess.Popen(["sh", "-c", "sleep 30", canary])
    desk.watch.next_round()
    shown.kill()
    shown.wait()
    assert [line for line in desk.watch.found if canary in line]
    host.run(f"logger {canary}; echo {canary} >/var/log/canary", check=True)
    assert watching.in_journal(host, [canary])
    assert watching.on_host(host, [canary], "/var/log")
    assert watching.in_folder(folder, [password("1001")]) == [str(folder / "secrets.yaml")]


@contextlib.contextmanager
def talking(host):
    """A call of two browsers; at the end, each must have heard the other without a gap."""
    pin = spki_pin(host.read("/etc/kamailio/tls/server.crt"))
    resolve = {DOMAIN: host.address}
    with (
        Browser(resolve, spki=[pin], tone_hz=LOW) as low,
        Browser(resolve, spki=[pin], tone_hz=HIGH) as high,
    ):
        alice = low.phone("1001", password=password("1001"))
        bob = high.phone("1004", password=password("1004"))
        call = alice.call("1004")
        incoming = bob.wait_incoming().answer()
        call.wait("answered")
        assert call.hears(HIGH)
        assert incoming.hears(LOW)
        skipped = len(call.heard), len(incoming.heard)
        yield
        for side, tone, skip in ((call, HIGH, skipped[0]), (incoming, LOW, skipped[1])):
            heard = [spectrum.hears(tone) for spectrum in side.heard[skip:]]
            assert len(heard) > 100
            assert longest_silence(heard) < 5, "half a second of the call was lost"
        assert alice.registered
        assert bob.registered
        call.hang_up()
        incoming.wait("ended")


def longest_silence(heard):
    longest = present = 0
    for is_heard in heard:
        present = 0 if is_heard else present + 1
        longest = max(longest, present)
    return longest


def test_users_come_and_go_and_nobody_notices(lab, tmp_path, record_property):
    users = crowd(PHONES + IDLE)
    host, deployer = deploy(lab, tmp_path, "kamailio", users)
    # Without a delay, a pong can arrive before Kamailio has recorded that it expects it
    # (ws_frame.c, ping_pong); at the next ping Kamailio then closes the connection.
    with (
        distance(host, round_trip_seconds=0.02),
        watching.Arguments() as watch,
        Fleet(host, users[:PHONES]) as fleet,
        talking(host),
    ):
        desk = Desk(host, deployer, watch)
        before = units(host)
        waits, lost = [], []
        for index in range(USERS):
            waits += asyncio.run(one_user(desk, str(3000 + index)))
            if index % 10 == 9:
                lost += fleet.refresh()
        record_property(
            "figure",
            f"{USERS} users with {PHONES} sockets and a call: {desk.medians()} (medians of the"
            f" whole command); old sockets closed after {statistics.median(waits):.2f} s more, at"
            f" most {max(waits):.2f} s; {PHONES - fleet.open()} of {PHONES} others lost",
        )
        assert lost == [], host.run("journalctl -u kamailio -o cat -n 40 --no-pager").stdout
        assert fleet.open() == PHONES
        assert units(host) == before
        assert max(waits) < AT_ONCE
        search(desk, tmp_path)
    host.stop()


def test_users_come_and_go_in_mode_asterisk(lab, tmp_path):
    host, deployer = deploy(lab, tmp_path, "asterisk")
    with watching.Arguments() as watch:
        desk = Desk(host, deployer, watch)
        before = units(host)
        for number in ("3000", "3001"):
            assert max(asyncio.run(one_user(desk, number))) < AT_ONCE
        assert units(host) == before
        search(desk, tmp_path)
    host.stop()


def test_what_a_host_tells_and_what_it_refuses(lab, tmp_path):
    host, deployer = deploy(lab, tmp_path, "kamailio")
    asyncio.run(told(host, deployer))
    removed_by_hand(host, deployer)
    silent(host, deployer)
    two_at_once(host, deployer)
    imported(host, deployer)
    unproven(host, deployer)
    unexpected(host, deployer)
    edited(host, deployer)
    away(host, deployer)


async def told(host, deployer):
    """`users --on` shows registrations with address and device, and the number of messages."""
    box = "/var/spool/asterisk/voicemail/default/1002/INBOX"
    leave = f"mkdir -p {box}; touch {box}/msg0000.txt {box}/msg0000.wav"
    host.run(f"runuser -u asterisk -- sh -c '{leave}'", check=True)
    async with phone(host, "1001", password("1001")) as device:
        await device.connect()
        await device.register()
        done = await asyncio.to_thread(
            deployer.run, "users", "--on", host.name, "--format", "json"
        )
    rows = {row["number"]: row for row in json.loads(done.stdout)["users"]}
    (contact,) = rows["1001"]["contacts"]
    assert contact["device"] == "sipdeploy"
    assert contact["host"] == host.name
    assert rows["1002"]["messages"] == 1
    assert rows["1004"]["contacts"] == []
    async with phone(host, "1002", password("1002")) as device:
        await device.connect()
        await device.register()
        call = await device.invite("6002")
        await call.answered()
        await call.ack()
        assert channels(host) == 1
        words = ("--apply", host.name, "--delete-voicemail", "--end-calls")
        done = await asyncio.to_thread(deployer.run, "remove-user", "1002", *words)
        assert done.returncode == 0, done.stderr
        assert channels(host) == 0
    assert host.run(f"test -e {box}").returncode == 1


def channels(host):
    """Return the number of channels in Asterisk."""
    return len(host.run("asterisk -rx 'core show channels concise'").stdout.splitlines())


def removed_by_hand(host, deployer):
    """A user removed with an editor is disconnected by a plain apply too."""

    async def act():
        async with phone(host, "1003", password("1003")) as device:
            await device.connect()
            assert (await device.register()).status == 200
            path = deployer.folder / "inventory.yaml"
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join(line for line in lines if "  1003:" not in line))
            done = await asyncio.to_thread(deployer.run, "users", "--on", host.name)
            assert re.search(
                r"^1003 +\(not in the inventory\) .*sipdeploy$", done.stdout, re.MULTILINE
            )
            done = await asyncio.to_thread(deployer.run, "apply", host.name, "--yes")
            assert done.returncode == 0, done.stderr
            assert "end old sessions" in done.stderr
            await closed(device)

    asyncio.run(act())


def silent(host, deployer):
    """Without Kamailio nobody knows who is registered, and `users --on` says so."""
    host.run("systemctl stop kamailio", check=True)
    done = deployer.run("users", "--on", host.name)
    assert (done.returncode, done.stdout) == (4, "")
    assert "SD714" in done.stderr
    assert "kamailio.service is inactive" in done.stderr
    host.run("systemctl start kamailio", check=True)
    assert deployer.run("users", "--on", host.name).returncode == 0


def two_at_once(host, deployer):
    """Two concurrent commands: both users are in the file and on the host."""
    with contextlib.ExitStack() as stack:
        threads = [
            threading.Thread(target=deployer.run, args=("add-user", number, "--apply", host.name))
            for number in ("4000", "4001", "4002")
        ]
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
    assert deployer.run("plan", host.name, "--check").returncode == 0
    for number in ("4000", "4001", "4002"):
        assert knows(host, number)
        assert f"  {number}: {{}}\n" in (deployer.folder / "inventory.yaml").read_text()


def knows(host, number):
    return f"name: {number}\n" in host.run(f"kamcmd htable.get users s:{number}").stdout


def imported(host, deployer):
    rows = "".join(f"{5000 + index},User {index}\n" for index in range(20))
    (deployer.folder / "people.csv").write_text(f"number,name\n{rows}")
    done = deployer.run("users", "import", "people.csv", "--apply", host.name)
    assert done.returncode == 0, done.stderr
    assert "register as 5000 and 19 more" in done.stderr
    assert "20 of 20 users registered" in done.stderr
    done = deployer.run("secrets", "rotate", "--grace", "1001", "--apply", host.name)
    assert done.returncode == 0, done.stderr
    assert re.search(r" ([0-9]{2}) of \1 users registered", done.stderr), done.stderr
    assert host.run("ls /var/lib/sipdeploy/candidate").returncode != 0
    assert not asyncio.run(refused(host, "1001", password("1001")))
    assert asyncio.run(refused(host, "1004", password("1004")))


def unproven(host, deployer):
    """The host refuses the registration and rolls back; the next apply succeeds."""
    rule = 'route[LOCAL_REQUEST] { if ($fU == "4444") { sl_send_reply("403", "No"); exit; } }\n'
    host.write("/etc/kamailio/local.cfg", rule.encode())
    host.run("systemctl restart kamailio", check=True)
    release = host.read("/var/lib/sipdeploy/release")
    done = deployer.run("add-user", "4444", "--apply", host.name)
    assert done.returncode == 4
    assert "SD709" in done.stderr
    assert "401, 403" in done.stderr
    assert "SD710" in done.stderr
    assert not knows(host, "4444")
    assert host.read("/var/lib/sipdeploy/release") == release
    assert host.run("ls /var/lib/sipdeploy/lock").returncode != 0
    host.run("rm /etc/kamailio/local.cfg; systemctl restart kamailio", check=True)
    assert deployer.run("apply", host.name, "--yes").returncode == 0
    assert deployer.run("remove-user", "4444", "--apply", host.name).returncode == 0


def unexpected(host, deployer):
    """A change of more than users needs a confirmation."""
    path = deployer.folder / "inventory.yaml"
    path.write_text(
        path.read_text().replace("services:\n", "ports: {registrar: 5064}\nservices:\n")
    )
    started = units(host)
    done = deployer.run("add-user", "4500", "--apply", host.name)
    assert done.returncode == 4
    assert "SD711" in done.stderr
    assert units(host) == started
    done = deployer.run("add-user", "4501", "--apply", host.name, "--yes")
    assert done.returncode == 0, done.stderr
    assert units(host) != started


def edited(host, deployer):
    """A user can be removed while somebody's edit waits on the host; the edit stays."""
    host.run("echo '# by hand' >> /etc/kamailio/kamailio.cfg", check=True)
    started = units(host)
    done = deployer.run("remove-user", "4002", "--apply", host.name)
    assert done.returncode == 0, done.stderr
    assert "warning[SD526]: /etc/kamailio/kamailio.cfg" in done.stderr
    assert not knows(host, "4002")
    assert units(host) == started
    assert b"# by hand" in host.read("/etc/kamailio/kamailio.cfg")
    done = deployer.run("apply", host.name, "--yes")
    assert (done.returncode, "error[SD526]" in done.stderr) == (4, True)
    assert deployer.run("apply", host.name, "--yes", "--overwrite").returncode == 0


def away(host, deployer):
    """The host is down: the command reports it, and the files have the change."""
    host.stop()
    done = deployer.run("add-user", "4600", "--apply", host.name)
    assert done.returncode == 4
    assert "contains the change" in done.stderr
    assert "4600" in (deployer.folder / "inventory.yaml").read_text()


def test_a_socket_that_will_not_close_is_not_heard(lab, tmp_path):
    """In mode `asterisk` a registered connection may call without a password."""
    host, deployer = deploy(lab, tmp_path, "asterisk", crowd(1))
    asyncio.run(unwilling(host, deployer))
    host.stop()


async def unwilling(host, deployer):
    device = phone(host, "1003", password("1003"))
    await device.connect()
    try:
        async with phone(host, "1001", password("1001")) as callee:
            await callee.connect()
            for each in (device, callee):
                assert (await each.register()).status == 200
            source = ":{1}".format(*device.wire.connection.transport.get_extra_info("sockname"))
            assert source in host.run("ss -Htn state established sport = :8443").stdout
            # stop reading, so that no close frame is answered
            device.wire.connection.transport.pause_reading()
            await call(device, callee)
            assert len(callee.received("INVITE")) == 1
            command = ("remove-user", "1003", "--apply", host.name)
            done = await asyncio.to_thread(deployer.run, *command)
            assert done.returncode == 0, done.stderr
            assert source not in host.run("ss -Htn state established sport = :8443").stdout
            await call(device, callee)
            assert len(callee.received("INVITE")) == 1
    finally:
        await device.reset()


async def call(device, callee):
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(3):
            await device.invite(callee.number)
            await callee.until(lambda: None, "a call", 2)
