"""Other accounts of the host cannot send to, or answer for, Kamailio and Asterisk."""

import asyncio
import contextlib
import re
import textwrap

import pytest
from system import DOMAIN

pytestmark = pytest.mark.lab

# Sends a request from a given port, and prints the replies of one second.
SPEAK = """
    import socket, sys
    port, method, user, source = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.bind(("127.0.0.1", source))
    own.settimeout(1)
    source = own.getsockname()[1]
    text = "\\r\\n".join([
        f"{method} sip:6002@127.0.0.1:{port} SIP/2.0",
        f"Via: SIP/2.0/UDP 127.0.0.1:{source};branch=z9hG4bK{source}{method}{user}",
        "Max-Forwards: 70", f"From: <sip:{user}@DOMAIN>;tag=x{source}",
        "To: <sip:6002@DOMAIN>", f"Call-ID: {source}-{method}-{user}", f"CSeq: 1 {method}",
        f"Contact: <sip:{user}@127.0.0.1:{source}>", "Content-Length: 0", "", "",
    ])
    try:
        own.sendto(text.encode(), ("127.0.0.1", port))
        while True:
            print(own.recv(4096).decode().splitlines()[0])
    except PermissionError:
        print("refused")
    except TimeoutError:
        pass
"""
# Answers every request on Asterisk's port as Asterisk would, and prints it.
ANSWER = """
    import socket
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.bind(("127.0.0.1", 5060))
    own.settimeout(15)
    print("ready", flush=True)
    while True:
        text, sender = own.recvfrom(65535)
        lines = text.decode().split("\\r\\n")
        print(lines[0], flush=True)
        kept = ("via:", "from:", "call-id:", "cseq:", "record-route:", "to:")
        reply = ["SIP/2.0 603 Decline"] + [x for x in lines if x.lower().startswith(kept)]
        reply = [x + ";tag=liar" if x.lower().startswith("to:") else x for x in reply]
        try:
            own.sendto("\\r\\n".join([*reply, "Content-Length: 0", "", ""]).encode(), sender)
            print("replied", flush=True)
        except PermissionError:
            print("refused", flush=True)
"""


def write(system, script):
    code = textwrap.dedent(script).replace("DOMAIN", DOMAIN)
    system.host.write("/srv/local.py", code.encode())


def speak(system, *arguments, account="nobody"):
    """Return the output of SPEAK: status lines, nothing, or `refused` if it cannot send."""
    write(system, SPEAK)
    words = " ".join(map(str, arguments))
    return system.run(f"runuser -u {account} -- python3 /srv/local.py {words} 2>&1").split("\n")[
        :-1
    ]


@contextlib.contextmanager
def without_firewall(system):
    """Here the attack must succeed, or its failure elsewhere would prove nothing."""
    system.host.run("nft delete table inet sipdeploy", check=True)
    try:
        yield
    finally:
        system.host.run("systemctl restart sipdeploy-firewall", check=True)


@pytest.mark.parametrize("account", ["nobody", "root"])
@pytest.mark.parametrize("user", ["trunk", "1001", "presence"])
def test_no_other_account_speaks_to_asterisk(system, user, account):
    before = calls_processed(system)
    for method in ("INVITE", "REGISTER", "MESSAGE"):
        assert speak(system, 5060, method, user, 0, account=account) == ["refused"]
    assert calls_processed(system) == before


def calls_processed(system):
    """The calls of Asterisk since its start: those of the proof of the apply, and no more."""
    return re.search(r"(\d+) calls? processed", system.run("asterisk -rx 'core show calls'"))[1]


@pytest.mark.parametrize("port", [5062, 5063])
def test_no_other_account_speaks_to_kamailio(system, port):
    assert speak(system, port, "INVITE", "1001", 0) == ["refused"]


def test_it_is_the_firewall_that_stops_it(system):
    with without_firewall(system):
        assert any("SIP/2.0 " in line for line in speak(system, 5060, "INVITE", "1001", 0))


def test_asterisk_takes_nobody_for_the_trunk_by_name(system):
    """Without the firewall, Asterisk still identifies the trunk only by address and port."""
    with without_firewall(system):
        assert "SIP/2.0 401 Unauthorized" in speak(system, 5060, "INVITE", "trunk", 0)


def test_who_takes_asterisks_port_reaches_no_phone(system):
    """Asterisk is down, so another program can listen on its port."""
    write(system, ANSWER)
    system.run("systemctl stop asterisk")
    run = "systemd-run --quiet --collect --unit=liar -p User=nobody -p RuntimeMaxSec=60"
    try:
        system.host.run(
            f"{run} -p StandardOutput=file:/run/liar python3 -u /srv/local.py", check=True
        )
        status = asyncio.run(asyncio.wait_for(call(system), 60))
    finally:
        system.run("systemctl stop liar; systemctl restart asterisk")
    heard = system.run("cat /run/liar")
    method = "INVITE sip:6002" if system.mode == "kamailio" else "REGISTER"
    assert method in heard, "it was not asked: this proves nothing"
    assert "refused" in heard
    assert "replied" not in heard
    assert status != 603, "the phone has the answer of a stranger"


async def call(system):
    async with system.phone("1001", timeout_seconds=20) as phone:
        await phone.connect()
        registered = await phone.register()
        if registered.status != 200:
            return registered.status
        return (await (await phone.invite("6002")).final(45)).status
