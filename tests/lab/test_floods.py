"""Floods of a host, limited in time and number, with registered phones and a call.

During each flood no phone may be disconnected, the call must continue, a new phone must be able to
register within seconds, and memory must stay below its limit.
"""

import asyncio
import base64
import contextlib
import os
import re
import ssl
import subprocess
import time

import pytest
from conftest import Deployer
from signalling import forgive, registered, talk
from system import DOMAIN, INVENTORY, System, packages_of, passwords

from lab.load import Load, register_many
from sipdeploy.sip.message import token

pytestmark = pytest.mark.lab

PHONES = 500
SECONDS = 8  # the duration of each flood
ENTRY_SECONDS = 5  # for the registration of a new phone
CRLF = "\r\n"


def crowd():
    return [(str(20000 + index), f"lab-only-{index}-Zq8Kd2") for index in range(PHONES)]


@pytest.fixture(scope="module", params=["kamailio", "asterisk"])
def crowded(request, lab, tmp_path_factory):
    """A system with 506 users, and a second address of this machine for the attackers."""
    mode = request.param
    host = lab.boot(f"floods-{mode}", packages=packages_of("sid"))
    folder = tmp_path_factory.mktemp(mode)
    deployer = Deployer(lab, folder)
    deployer.write(name=host.name, address=host.address, mode=mode)
    users = "".join(f"  {number}: {{}}\n" for number, _ in crowd())
    secrets = "".join(f'  "{number}": {secret}\n' for number, secret in crowd())
    text = INVENTORY.format(name=host.name, address=host.address, mode=mode)
    (folder / "inventory.yaml").write_text(text.replace("services:\n", f"{users}services:\n"))
    (folder / "secrets.yaml").write_text(passwords() + secrets)
    done = deployer.run("apply", host.name, "--yes")
    assert done.returncode == 0, done.stderr
    attacker = str(host.network.subnet[251])
    place = ["dev", host.network.name]
    subprocess.run(["ip", "addr", "add", f"{attacker}/24", *place], check=True)
    yield System(mode=mode, host=host, deployer=deployer), attacker
    subprocess.run(["ip", "addr", "del", f"{attacker}/24", *place], check=False)
    host.stop()


# --- the floods: each runs until it is cancelled ------------------------------------------------


def trusting():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@contextlib.asynccontextmanager
async def streams(system, source, count, **options):
    """Open up to `count` connections, as many as the host accepts."""
    opened = []

    async def one():
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(4):
                opened.append(
                    await asyncio.open_connection(
                        system.address, 8443, local_addr=(source, 0), **options
                    )
                )

    for _ in range(0, count, 100):
        await asyncio.gather(*(one() for _ in range(100)))
    try:
        yield opened
    finally:
        for _, writer in opened:
            writer.transport.abort()


async def silent_sockets(system, source):
    """TCP connections without a TLS handshake."""
    async with streams(system, source, 1200):
        await asyncio.sleep(SECONDS)


def upgrade():
    key = base64.b64encode(os.urandom(16)).decode()
    lines = ["GET /ws HTTP/1.1", f"Host: {DOMAIN}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
    return CRLF.join([*lines, "Sec-WebSocket-Protocol: sip", "", ""]).encode()


async def websockets_that_prove_nothing(system, source):
    """Unauthenticated WebSockets that send a keep-alive each second."""
    async with streams(system, source, 600, ssl=trusting()) as opened:
        for _, writer in opened:
            writer.write(upgrade())
        frame = b"\x81\x84\0\0\0\0\r\n\r\n"  # RFC 6455, 5.2: text, masked with zeros
        for _ in range(SECONDS):
            for _, writer in opened:
                with contextlib.suppress(OSError):
                    writer.write(frame)
            await asyncio.sleep(1)


async def attackers(system, source, count, number="1003", **options):
    phones = [system.phone(number, source=source, **options) for _ in range(count)]
    for phone in phones:
        with contextlib.suppress(OSError, TimeoutError):
            await phone.connect()
    return phones


async def flood(phones, text, *, proof=False):
    """All phones send `text()` as fast as possible, and reconnect when they are closed."""
    end = time.monotonic() + SECONDS

    async def one(phone):
        while time.monotonic() < end:
            with contextlib.suppress(OSError, TimeoutError):
                if phone.is_closed:
                    await phone.connect()
                    if proof:
                        await phone.register(timeout_seconds=2)
                for _ in range(20):
                    await phone.send_raw(text())
            await asyncio.sleep(0)

    await asyncio.gather(*map(one, phones))
    for phone in phones:
        await phone.close()


async def replies(system, source):
    phones = await attackers(system, source, 8, keep_trace=False)
    via = f"SIP/2.0/TLS {system.address}:8443;branch=z9hG4bKa1b2.c3.0"

    def text():
        lines = ["SIP/2.0 200 OK", f"Via: {via}", "Via: SIP/2.0/WSS x.invalid;branch=z9hG4bKx"]
        lines += [f"From: <sip:1003@{DOMAIN}>;tag=a", f"To: <sip:1001@{DOMAIN}>;tag=b"]
        return CRLF.join([*lines, f"Call-ID: {token()}", "CSeq: 1 INVITE", "", ""])

    await flood(phones, text)


def register_text(number, *, padding="", call_id=""):
    lines = [
        f"REGISTER sip:{DOMAIN} SIP/2.0",
        f"Via: SIP/2.0/WSS x.invalid;branch=z9hG4bK{token()}",
    ]
    lines += ["Max-Forwards: 70", f"From: <sip:{number}@{DOMAIN}>;tag={token()}"]
    lines += [
        f"To: <sip:{number}@{DOMAIN}>",
        f"Call-ID: {call_id or token(20)}",
        "CSeq: 1 REGISTER",
    ]
    lines += [f"Contact: <sip:{token()}@x.invalid;transport=ws>", f"X-Padding: {padding}"]
    return CRLF.join([*lines, "Content-Length: 0", "", ""])


async def large_registers(system, source):
    phones = await attackers(system, source, 12, keep_trace=False)
    await flood(phones, lambda: register_text("1006", padding="x" * 28000))


async def long_call_ids(system, source):
    phones = await attackers(system, source, 4, keep_trace=False)
    await flood(phones, lambda: register_text("1003", call_id=token(7900)), proof=True)


async def wrong_passwords(system, source):
    """At least 300 wrong passwords, for the own number and for others."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        async with system.phone("1004", "guess", source=source) as phone:
            with contextlib.suppress(OSError, TimeoutError):
                await phone.connect()
                for _ in range(11):
                    await phone.register(timeout_seconds=1)


async def calls_to_a_service(system, source):
    """600 calls in two seconds; the caller hangs up none of them."""
    phone = system.phone("1003", source=source)
    async with phone:
        await phone.connect()
        await phone.register()
        calls = [await phone.invite("6002") for _ in range(600)]
        await asyncio.sleep(SECONDS)
        assert any(call.replies for call in calls)


FLOODS = [
    silent_sockets,
    websockets_that_prove_nothing,
    replies,
    large_registers,
    long_call_ids,
    wrong_passwords,
    calls_to_a_service,
]


# --- the conditions ------------------------------------------------------------------------------


async def enter(system, number):
    """Return the seconds until a new phone is registered."""
    begun = time.monotonic()
    while True:
        phone = system.phone(number, timeout_seconds=3)
        try:
            await phone.connect()
            reply = await phone.register(timeout_seconds=3)
        except (OSError, TimeoutError):
            reply = None
        finally:
            await phone.close()
        seconds = time.monotonic() - begun
        if reply is not None and reply.status == 200:
            return seconds
        assert seconds < 4 * ENTRY_SECONDS, f"not in after {seconds:.1f} s: {reply}"
        await asyncio.sleep(0.2)


def shared_memory(system):
    """Return the used and the total shared memory of Kamailio, in MiB."""
    told = system.run("kamcmd core.shmmem")
    whole, used = (
        int(re.search(rf"\b{key}: (\d+)", told)[1]) >> 20 for key in ("total", "real_used")
    )
    return used, whole


def memory_of_asterisk(system):
    """Return its resident memory in MiB."""
    told = system.run("sed -n 's/^VmRSS:[^0-9]*//p' /proc/$(pidof asterisk)/status")
    return int(told.split()[0]) >> 10


def test_no_flood_keeps_anybody_out(crowded, record_property):
    """All floods in turn, with the same registered phones and the same call."""
    system, source = crowded

    async def scenario():
        load = Load(address=(system.address, 8443), domain=DOMAIN, concurrency=50, workers=1)
        failed = []
        async with (
            register_many(load, crowd()) as fleet,
            registered(system, "1001", "1002") as two,
        ):
            assert fleet.result.failed == ()
            call, _ = await talk(*two)
            for attack in FLOODS:
                task = asyncio.create_task(attack(system, source))
                await asyncio.sleep(1)
                entries = []
                while not task.done():
                    entries.append(await enter(system, "1005"))
                    reply = await call.request_in_dialog("INFO", timeout_seconds=5)
                    assert reply.status == 200, attack.__name__
                    await asyncio.sleep(1)
                await task
                used, whole = shared_memory(system)
                lost = PHONES - await fleet.open_connections()
                figure = (
                    f"mode {system.mode}, {attack.__name__}: newcomer in {max(entries):.1f} s at"
                    f" the most of {len(entries)} tries, {lost} phones lost, shared memory {used}"
                    f" of {whole} MiB, Asterisk {memory_of_asterisk(system)} MiB"
                )
                record_property("figure", figure)
                if max(entries) >= ENTRY_SECONDS or lost or used >= 0.8 * whole:
                    failed.append(figure)
                forgive(system)
            assert (await call.bye()).status == 200
        assert failed == []

    asyncio.run(asyncio.wait_for(scenario(), 400))


def test_a_password_is_changed_while_the_port_is_under_attack(crowded):
    system, source = crowded

    async def scenario():
        task = asyncio.create_task(websockets_that_prove_nothing(system, source))
        await asyncio.sleep(1)
        done = await asyncio.to_thread(
            system.deployer.run, "set-password", "1004", "--apply", system.host.name
        )
        await task
        assert done.returncode == 0, done.stdout + done.stderr

    asyncio.run(asyncio.wait_for(scenario(), 120))
