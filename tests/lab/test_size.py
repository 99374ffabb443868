"""Sites below and above the size at which Asterisk reads users from a database."""

import asyncio
import re
import time

import pytest
from applying import units
from conftest import Deployer
from system import DOMAIN, INVENTORY, NUMBERS, packages_of, password, passwords

from sipdeploy.services.asterisk import MOST_USERS_IN_FILES
from sipdeploy.sip.phone import Phone

pytestmark = pytest.mark.lab

SIZES = [MOST_USERS_IN_FILES - 10, 100_000]


class Site:
    """A host with a given number of users, among them those of every lab inventory."""

    def __init__(self, deployer, host, mode):
        self.deployer, self.host, self.mode = deployer, host, mode

    def write(self, count):
        numbers = range(200_000, 200_000 + count - len(NUMBERS))
        users = "".join(f"  {n}: {{name: Number {n}, voicemail: {n % 2 == 0}}}\n" for n in numbers)
        secrets = "".join(f'  "{n}": lab-only-{n}-Zq8Kd2\n' for n in numbers)
        text = INVENTORY.format(name=self.host.name, address=self.host.address, mode=self.mode)
        text = text.replace("services:\n", f"{users}services:\n")
        (self.deployer.folder / "inventory.yaml").write_text(text)
        (self.deployer.folder / "secrets.yaml").touch(mode=0o600)
        (self.deployer.folder / "secrets.yaml").write_text(passwords() + secrets)

    def run(self, *words):
        done = self.deployer.run(*words, timeout=500)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def phone(self, number):
        secret = password(number)
        return Phone(number, secret, domain=DOMAIN, address=(self.host.address, 8443))


@pytest.fixture
def place(lab, tmp_path, request):
    host = lab.boot(
        f"size{len(lab.hosts)}", packages=packages_of("sid")
    )  # a new one for each test
    yield Site(Deployer(lab, tmp_path), host, request.param)
    host.stop()


MESSAGE = "channel originate Local/1002@mailboxes application Playback {}"
SPEECH = "&".join(["vm-intro"] * 4)  # longer than the greeting, which is not recorded


def told_of_messages(phone):
    """Return the NOTIFYs about new messages; each SUBSCRIBE causes another one, without any."""
    return [note for note in phone.received("NOTIFY") if "Messages-Waiting: yes" in note.body]


async def talk(site):
    """1001 calls 1002 and a service; 1002 gets a voicemail message, and its phone a NOTIFY."""
    async with site.phone("1001") as alice, site.phone("1002") as bob:
        for phone in (alice, bob):
            await phone.connect()
            assert (await phone.register()).status == 200
        call = await alice.invite("1002")
        incoming = await bob.incoming(method="INVITE")
        assert "Alice" in incoming.request.header("From"), "the name is Kamailio's to say"
        answered = await incoming.answer()
        await call.answered()
        await call.ack()
        await answered.acknowledged()
        assert (await call.bye()).status == 200
        service = await alice.invite("6002")
        await service.answered()
        await service.ack()
        assert (await service.bye()).status == 200
        site.host.run("asterisk -rx 'channel originate PJSIP/1002 application Wait 1'")
        await (await bob.incoming(method="INVITE")).reject(
            486
        )  # a dialplan can dial the endpoint by name
        headers = {"Event": "message-summary", "Accept": "application/simple-message-summary"}
        assert (await bob.request("SUBSCRIBE", "1002", headers=headers)).status == 200
        await bob.until(lambda: bob.received("NOTIFY") or None, "the first NOTIFY")
        assert not told_of_messages(bob)
        site.host.run(f"asterisk -rx '{MESSAGE.format(SPEECH)}'")
        await bob.until(lambda: told_of_messages(bob) or None, "a NOTIFY of the message", 60)
    # the switch restarts Asterisk, which resets its counters
    site.host.run("rm -rf /var/spool/asterisk/voicemail/default/1002/INBOX")


@pytest.mark.parametrize("place", ["kamailio", "asterisk"], indirect=True)
def test_users_are_served_on_both_sides_of_the_switch(place, record_property):
    for count in SIZES if place.mode == "kamailio" else (SIZES[0], 10_000):
        place.write(count)
        if count > MOST_USERS_IN_FILES:
            assert "asterisk reads users from a database from now on" in place.run("plan")
        place.run("apply", "--yes")
        is_large = "users.db" in place.host.run("ls /etc/asterisk").stdout
        assert is_large == (count > MOST_USERS_IN_FILES)
        asyncio.run(asyncio.wait_for(talk(place), 120))
        before = units(place.host)
        began = time.monotonic()
        said = place.run("add-user", "1999", "--name", "A New One", "--apply", place.host.name)
        seconds = time.monotonic() - began
        assert units(place.host) == before, "nothing was restarted"
        assert "register as 1999" in said
        found = place.host.run("asterisk -rx 'pjsip show endpoint 1999'").stdout
        assert '"A New One" <1999>' in found
        parts = re.findall(r"(swap|reload)[^.]* \.+ ok +([\d.]+)s", said)
        memory = place.host.run("ps -o rss= -C asterisk").stdout.split()[0]
        record_property(
            "figure",
            f"mode {place.mode}, {count} users: one more applied in {seconds:.1f} s, of it swap"
            f" and reload {sum(float(part) for _, part in parts):.1f} s;"
            f" Asterisk takes {int(memory) >> 10} MiB",
        )
        place.run("remove-user", "1999", "--apply", place.host.name)
        assert (
            "1999"
            not in place.host.run("asterisk -rx 'pjsip show endpoint 1999' | grep Endp").stdout
        )
        assert "error" in place.host.run("kamcmd htable.get users s:1999 2>&1").stdout
        assert units(place.host) == before


@pytest.mark.parametrize("place", ["kamailio"], indirect=True)
def test_of_very_many_who_go_those_are_disconnected_who_are_there(place):
    place.write(1000)
    place.run("apply", "--yes")
    last = str(200_000 + 1000 - len(NUMBERS) - 1)
    assert asyncio.run(asyncio.wait_for(survivor(place, last), 200)) == {"200000": 1, last: 0}


async def survivor(site, gone):
    """Remove 550 users, among them `gone`; return the registrations that are left."""
    async with site.phone("200000") as stays, site.phone(gone) as goes:
        for phone in (stays, goes):
            await phone.connect()
            assert (await phone.register()).status == 200
        site.write(450)
        await asyncio.to_thread(site.run, "apply", "--yes")
        look = "kamcmd ul.lookup location {}@{} | grep -c Address: || true"
        return {
            number: int(site.host.run(look.format(number, DOMAIN)).stdout)
            for number in ("200000", gone)
        }
