"""5,000 phones from one address at once, with the limits that `apply` has set."""

import asyncio
import json
import time

import pytest
from conftest import Deployer
from system import DOMAIN, INVENTORY, packages_of, passwords

from bench.phones import Swarm
from lab.load import Load, register_many
from sipdeploy.sip.phone import Phone

pytestmark = pytest.mark.lab

PHONES = 5000


def crowd():
    return [(str(20000 + index), f"lab-only-{index}-Zq8Kd2") for index in range(PHONES)]


@pytest.mark.parametrize("mode", ["kamailio", "asterisk"])
def test_5000_phones_are_registered_at_once(lab, tmp_path, record_property, mode):
    host = lab.boot(f"crowd-{mode}", packages=packages_of("sid"))
    deployer = Deployer(lab, tmp_path)
    deployer.write(name=host.name, address=host.address, mode=mode)
    users = "".join(f"  {number}: {{}}\n" for number, _ in crowd())
    secrets = "".join(f'  "{number}": {secret}\n' for number, secret in crowd())
    inventory = INVENTORY.format(name=host.name, address=host.address, mode=mode)
    inventory = inventory.replace("services:\n", f"{users}services:\n")
    (tmp_path / "inventory.yaml").write_text(inventory)
    (tmp_path / "secrets.yaml").write_text(passwords() + secrets)
    done = deployer.run("apply", host.name, "--yes")
    assert done.returncode == 0, done.stderr
    figure = asyncio.run(asyncio.wait_for(register_and_call(host, deployer), 400))
    record_property("figure", f"mode {mode}: {figure}")
    record_property("figure", f"mode {mode}: {saturate(host)}")
    host.stop()


def saturate(host):
    """As many calls as the host can take; every request of each arrives at the other phone."""
    swarm = Swarm((host.address, 8443), DOMAIN, crowd()[:240])
    swarm.connect()
    assert swarm.register().done == 240
    tally = swarm.talk(3)
    swarm.close()
    assert not tally.failures
    assert tally.done > 100
    assert (tally.acknowledged, tally.ended) == (tally.done, tally.done)
    return (
        f"{tally.rate:.0f} calls a second set up and ended, of which one in a hundred waits for"
        f" its 180 over {tally.p99 * 1000:.0f} ms, client and server on the same cores"
    )


def status(deployer, host):
    """What `status` says about the phones and calls, and how long it takes."""
    begun = time.monotonic()
    done = deployer.run("-q", "status", host.name, "--format", "json")
    (found,) = json.loads(done.stdout)["hosts"]
    return found, time.monotonic() - begun


def day_two(name):
    """What an administrator does while people talk; nobody may notice."""
    return (
        ("calls", name, "--since", "10m"),
        ("logs", name, "--since", "10m", "--user", "1001"),
        ("trace", name, "--user", "1001", "--seconds", "5"),
        ("backup", name, "-o", "sip1.tar.gz"),
        ("backup", "--verify", "sip1.tar.gz"),
        ("verify", name),
        ("add-user", "1007", "--name", "Grace", "--apply", name),
        ("set-password", "1007", "--apply", name),
        ("remove-user", "1007", "--yes", "--apply", name),
        ("apply", name, "--yes"),
        ("history", name),
        ("cert", name),
    )


async def register_and_call(host, deployer):
    address = (host.address, 8443)
    load = Load(address=address, domain=DOMAIN, concurrency=100, workers=2)
    async with register_many(load, crowd()) as fleet:
        result = fleet.result
        assert result.failed == ()
        assert result.registered == PHONES
        assert await fleet.open_connections() == PHONES
        rate = result.registered / result.seconds
        memory = host.run("kamcmd core.shmmem | sed -n 's/.*real_used: //p'").stdout.strip()
        assert int(memory) < PHONES * 156 * 1024, "the guide's memory of a connection"
        figure = (
            f"{PHONES} phones registered in {result.seconds:.1f} s ({rate:.0f} a second, client"
            f" and server on the same cores), {int(memory) >> 20} MiB of shared memory in use"
        )
        # and one more phone can still call one of them
        caller = Phone("1001", "lab-only-1001-Zq8Kd2", domain=DOMAIN, address=address)
        async with caller, Phone(*crowd()[0], domain=DOMAIN, address=address) as callee:
            for phone in (caller, callee):
                await phone.connect()
                assert (await phone.register()).status == 200
            call = await caller.invite(callee.number)
            answered = await (await callee.incoming(method="INVITE")).answer()
            await call.answered()
            await call.ack()
            await answered.acknowledged()
            found, seconds = await asyncio.to_thread(status, deployer, host)
            assert found["figures"]["phones"] == {"phones": PHONES + 2, "users": PHONES + 1}
            assert found["figures"]["calls"] == {"up": 1, "ringing": 0}
            for words in day_two(host.name):
                done = await asyncio.to_thread(deployer.run, *words)
                assert done.returncode == 0, (words, done.stdout[-999:], done.stderr[-999:])
            assert (await answered.request_in_dialog("INFO")).status == 200
            assert (await call.bye()).status == 200
            await answered.ended()
            assert await fleet.open_connections() == PHONES
    return f"{figure}; `sipdeploy status` takes {seconds:.1f} s"
