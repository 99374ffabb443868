"""Attacks that once succeeded: ambiguous tags, reflected replies, exhausted resources."""

import asyncio
import base64
import contextlib
import os
import re
import ssl

import pytest
from signalling import forgive, port_to_keep, registered, run, sniff, talk
from system import DOMAIN

from sipdeploy.sip.dialog import Sdp
from sipdeploy.sip.message import parameter

pytestmark = pytest.mark.lab

CRLF = "\r\n"


@pytest.fixture(autouse=True)
def forgotten(system):
    yield
    forgive(system)
    system.run("for t in unproven pending; do kamcmd htable.flush $t; done")


# --- tags ----------------------------------------------------------------------------------------


def tags(dialog):
    return parameter(dialog.local, "tag"), parameter(dialog.remote, "tag")


@pytest.mark.parametrize("method", ["BYE", "INVITE", "INFO"])
def test_a_tag_in_quotes_opens_no_dialog_of_others(system, method):
    """Kamailio unquotes the last tag and uses it; JsSIP and SIP.js use the last unquoted one."""

    async def scenario():
        async with registered(system, "1001", "1004", "1003") as (alice, bob, eve):
            call, _ = await talk(alice, bob)
            (v, w), dialog = tags(call.established), call.established
            mine = await eve.invite("1004", headers={"Call-ID": dialog.call_id})
            incoming = await bob.incoming(method="INVITE")
            await incoming.ring()
            await mine.ringing()
            stolen = mine.established.copy()
            a, b = tags(stolen)
            stolen.local = f'<sip:1001@{DOMAIN}>;tag={v};tag="{a}"'
            stolen.remote = f'<sip:1004@{DOMAIN}>;tag={w};tag="{b}"'
            stolen.sequence = dialog.sequence + 50
            body = str(Sdp(version=9)) if method == "INVITE" else ""
            request = eve.in_dialog(stolen, method, body=body)
            before = bob.wire.frames_received
            with contextlib.suppress(TimeoutError):
                assert (await eve.exchange(request, 2)).status in {400, 403, 481}
            assert bob.wire.frames_received == before
            await incoming.reject(486)
            assert (await call.bye()).status == 200

    run(scenario())


@pytest.mark.parametrize("last", [";tag", ';tag=""', ";tag=", "; tag", ""])
@pytest.mark.parametrize("method", ["INVITE", "REFER", "MESSAGE", "OPTIONS"])
def test_a_request_without_a_seal_enters_no_call(system, method, last):
    """Kamailio ignores an empty last tag, and phones use the tag before it. JsSIP accepts MESSAGE
    and OPTIONS into the dialog, and then rejects the CSeq of the peer."""
    if not last and method in {"INVITE", "REFER"}:
        pytest.skip("refused: no route of this dialog")

    async def scenario():
        async with registered(system, "1001", "1004", "1003") as (alice, bob, eve):
            await eve.request("MESSAGE", "9999", body="x")  # credentials
            call, _ = await talk(alice, bob)
            v, w = tags(call.established)
            headers = {
                "Call-ID": call.established.call_id,
                "From": f"<sip:1003@{DOMAIN}>;tag={v}",
                "To": f"<sip:1004@{DOMAIN}>;tag={w}{last}",
                "CSeq": f"2147480000 {method}",
                "Refer-To": "<sip:1003@x.invalid>" if method == "REFER" else None,
            }
            body = {"INVITE": str(Sdp(version=9)), "MESSAGE": "x"}.get(method, "")
            request = eve.initial(method, "1004", {"headers": headers, "body": body})
            before = bob.wire.frames_received
            with contextlib.suppress(TimeoutError, ConnectionError):
                reply = await eve.exchange(eve.signed(request), 2)
                assert reply.status in {400, 403, 481}
            assert bob.wire.frames_received == before
            assert (await call.bye()).status == 200

    run(scenario())


# --- replies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["TLS", "TCP"])
def test_a_reply_goes_to_no_address_that_its_sender_chose(system, transport):
    """With two Via values in one line, the second line is not the second value."""
    came = []

    async def scenario():
        async with registered(system, "1001", "1003") as (alice, eve):
            here = alice.wire.local_address[0]

            def on_connection(_, writer):
                came.append(writer)
                writer.close()

            server = await asyncio.start_server(on_connection, here, 0)
            port = server.sockets[0].getsockname()[1]
            call = await alice.invite("1003")
            incoming = await eve.incoming(method="INVITE")
            first, *others = incoming.request.values("Via")
            other_branch = re.sub(r"branch=[^;]*", "branch=z9hG4bKx", first)
            for top in (first, other_branch):
                there = f"SIP/2.0/{transport} {here}:{port};branch=z9hG4bKq"
                lines = ["SIP/2.0 200 OK", f"Via: {top}, {there}"]
                lines += [f"Via: {via}" for via in others]
                copied = ("From", "Call-ID", "CSeq", "Record-Route")
                lines += [f"{name}: {incoming.request.header(name)}" for name in copied]
                lines += [f"To: {incoming.request.header('To')};tag=z"]
                lines += ["Contact: <sip:x@y.invalid;transport=ws>", "Content-Length: 0", "", ""]
                if top != first:
                    await eve.send_raw(CRLF.join(lines))
            await asyncio.sleep(1)
            assert not came
            server.close()
            await incoming.reject(486)
            await call.final()

    run(scenario())


# --- the number of a connection ------------------------------------------------------------------


def test_a_registration_that_is_granted_too_late_is_nobodys(system):
    """The connection closes before Asterisk answers; the next one may have the same port."""
    if system.mode != "asterisk":
        pytest.skip("Kamailio grants registrations in this mode")

    async def scenario():
        port = port_to_keep()
        async with system.phone("1003", source_port=port) as phone:
            await phone.connect()
            phone.takes_challenge(await phone.register(authenticate=False), 1)
            headers = {"Contact": phone.contact, "Expires": "600"}
            options = {"to_user": "1003", "headers": headers}
            request = phone.signed(phone.initial("REGISTER", f"sip:{DOMAIN}", options))
            system.run("systemctl kill -s STOP asterisk.service")
            try:
                await phone.send(request)
                await asyncio.sleep(0.3)
                await phone.reset()
                await asyncio.sleep(1)
            finally:
                system.run("systemctl kill -s CONT asterisk.service")
            await asyncio.sleep(1.5)
        async with system.phone("1003", "wrong", source_port=port) as heir:
            await heir.connect()
            call = await heir.invite("6001", authenticate=False)
            assert (await call.final(5)).status == 403

    run(scenario())


# --- connections ---------------------------------------------------------------------------------


def upgrades(count, *, with_key):
    key = base64.b64encode(os.urandom(16)).decode()
    lines = ["GET /ws HTTP/1.1", f"Host: {DOMAIN}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: sip"]
    lines += [f"Sec-WebSocket-Key: {key}"] if with_key else []
    return count * CRLF.join([*lines, "", ""]).encode()


@pytest.mark.parametrize("with_key", [False, True])
def test_a_connection_counts_once_as_unproven(system, with_key):
    """Many handshakes on one connection must not use up the share of its address."""

    async def scenario():
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        _, writer = await asyncio.open_connection(system.address, 8443, ssl=context)
        writer.write(upgrades(200, with_key=with_key))
        await writer.drain()
        await asyncio.sleep(0.5)
        counted = re.findall(r"value: (\d+)", system.run("kamcmd htable.dump unproven"))
        writer.transport.abort()
        assert all(int(value) <= 1 for value in counted), counted
        async with registered(system, "1005"):
            pass

    run(scenario())


def test_a_handshake_inside_a_websocket_counts_nothing(system):
    async def scenario():
        async with system.phone("1003") as phone:
            await phone.connect()
            for _ in range(30):
                await phone.send_raw(upgrades(1, with_key=True).decode())
            await asyncio.sleep(0.5)
            counted = re.findall(r"value: (\d+)", system.run("kamcmd htable.dump unproven"))
            assert all(int(value) <= 1 for value in counted), counted

    run(scenario())


# --- resources that one user can exhaust ---------------------------------------------------------


def test_one_user_takes_not_every_call_to_services(system):
    async def scenario():
        async with registered(system, "1001", "1003") as (alice, eve):
            calls = []
            for index in range(300):
                calls.append(await eve.invite("6002"))
                if index % 50 == 49:
                    await asyncio.sleep(0.5)
            await asyncio.sleep(3)
            call = await alice.invite("6002")
            status = (await call.final(10)).status
            for each in calls:
                if each.dialog is not None:
                    await each.ack()
                    await eve.send(eve.in_dialog(each.dialog, "BYE"))
            assert status == 200
            await call.ack()
            await call.bye()

    try:
        run(scenario())
    finally:
        system.run("asterisk -rx 'channel request hangup all'")


SNIFF = """
import socket, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)); s.settimeout(.3)
end, seen = time.time() + 8, 0
while time.time() < end:
    try: data, origin = s.recvfrom(65535)
    except OSError: continue
    seen += origin[2] == 4 and data[16:19] == bytes((198, 51, 100))
print(seen)
"""


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_candidates_are_bounded_in_every_request(system, method):
    """Asterisk sends several packets to each candidate, also to third parties."""

    async def scenario():
        async with registered(system, "1003") as (eve,):
            call = await eve.invite("6002")
            await call.answered()
            await call.ack()
            sdp = str(Sdp(version=9))
            own = re.search(r"a=candidate:.*?\r\n", sdp)[0]
            many = "".join(
                f"a=candidate:{i} 1 udp {2113937151 - i} 198.51.100.{i} 40000 typ host\r\n"
                for i in range(1, 61)
            )
            heard = await sniff(system, SNIFF)
            offer = sdp.replace(own, many)
            reply = await call.request_in_dialog(method, body=offer)
            seen = int((await heard).stdout)
            await call.bye()
            assert (reply.status, seen) == (488, 0)

    run(scenario())


def test_a_burst_of_large_messages_cuts_no_phone_off(system):
    """By default Kamailio queues only 32 KiB for a connection."""

    async def scenario():
        async with registered(system, "1001", "1003") as (alice, eve):
            await eve.request("MESSAGE", "9999", body="x")
            for _ in range(60):
                padding = {"headers": {"X-Pad": "x" * 24000}, "body": "x"}
                await eve.send(eve.signed(eve.initial("MESSAGE", "1001", padding)))
            await asyncio.sleep(3)
            assert not alice.is_closed
            assert (await alice.register()).status == 200

    run(scenario())


def test_a_number_sets_up_so_many_calls_at_once(system):
    """A call keeps its INVITE twice for thirty seconds: 75 of 24 KB a second fill the memory."""

    async def scenario():
        async with registered(system, "1003", "1004") as (eve, callee):
            calls = []
            for _ in range(300):
                calls.append(await eve.invite("1004"))
                await asyncio.sleep(0.02)
                while callee.inbox.requests:
                    await callee.inbox.requests.pop().ring()
            await asyncio.sleep(1)
            refused = [call for call in calls if call.replies and call.replies[-1].status >= 480]
            assert len(refused) > 100
            assert not callee.is_closed

    run(scenario())
