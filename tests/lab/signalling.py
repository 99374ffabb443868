"""Helpers for scenarios on a running system: registered phones, calls, forged digests."""

import asyncio
import hashlib
import json
import random
import re
import subprocess
import time
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import pytest
from system import DOMAIN, password


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 90))


@asynccontextmanager
async def registered(system, *numbers, **options):
    """Registered phones, each on its own connection."""
    async with AsyncExitStack() as stack:
        phones = [await stack.enter_async_context(system.phone(n, **options)) for n in numbers]
        for phone in phones:
            await phone.connect()
            reply = await phone.register()
            assert reply.status == 200, reply
        yield phones


def port_to_keep():
    """A port for a phone and its heir: the kernel gives none below 32768 to other connections."""
    return random.randrange(20000, 32768)


async def talk(caller, callee):
    """Set up a call between two phones; returns both ends."""
    call = await caller.invite(callee.number)
    incoming = await callee.incoming(method="INVITE")
    await incoming.ring()
    answered = await incoming.answer()
    await call.answered()
    await call.ack()
    await answered.acknowledged()
    return call, answered


async def outcome(caller, number, **options):
    call = await caller.invite(number, **options)
    return (await call.final(45)).status


async def comes_true(seconds, is_so, pause=0.1):
    """Whether something becomes true in time; connections go on meanwhile."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(pause)
    return True


async def gone(system, number, seconds=15):
    has_gone = await comes_true(seconds, lambda: not system.contacts(number), 0.5)
    assert has_gone, f"{number} is still there"


async def sniff(system, program, seconds=15):
    """Start a Python program that reads packets; return its task when it has its socket."""
    task = asyncio.create_task(asyncio.to_thread(system.host.run, ["python3", "-c", program]))
    begun = time.monotonic()
    while "python3" not in system.run("ss -0Hp"):
        assert time.monotonic() - begun < seconds, "the program has no socket"
        await asyncio.sleep(0.1)
    return task


async def challenge(phone, method="REGISTER", uri=""):
    """A nonce of the server for this connection."""
    if method == "REGISTER":
        reply = await phone.register(authenticate=False)
    else:
        reply = await phone.request(method, uri, authenticate=False)
    header = reply.header("WWW-Authenticate") or reply.header("Proxy-Authenticate")
    return re.search(r'nonce="([^"]+)"', header)[1]


def proof(username, ha1, *, method, uri, nonce, realm=DOMAIN):
    """The credentials (RFC 7616) for any HA1."""

    def md5(data):
        return hashlib.md5(data).hexdigest()

    ha2 = md5(f"{method}:{uri}".encode())
    response = md5(ha1 + f":{nonce}:00000001:abc:auth:{ha2}".encode())
    return (
        f'Digest username="{username}", realm="{realm}", nonce="{nonce}", uri="{uri}",'
        f' response="{response}", algorithm=MD5, qop=auth, cnonce="abc", nc=00000001'
    )


def ha1(number):
    text = f"{number}:{DOMAIN}:{password(number)}"
    return hashlib.md5(text.encode()).hexdigest().encode()


def only_kamailio(system):
    if system.mode != "kamailio":
        pytest.skip("Asterisk checks the passwords in this mode")


def forgive(system):
    """Make Kamailio forget failed authentications and rates, for the next tests."""
    tables = ("failures", "rate", "waiting", "known", "added")
    system.run("; ".join(f"kamcmd htable.flush {table}" for table in tables))


@contextmanager
def second_address(system):
    """Add another address to this machine, from which phones can connect to the host."""
    (route,) = json.loads(ip("-json", "route", "get", system.address))
    address = system.address.rpartition(".")[0] + ".9"
    ip("address", "add", f"{address}/24", "dev", route["dev"])
    try:
        yield address
    finally:
        ip("address", "del", f"{address}/24", "dev", route["dev"])


def ip(*arguments):
    done = subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    return done.stdout
