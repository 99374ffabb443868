"""Attacks that once succeeded: stolen identities, forged replies, requests in other dialogs."""

import asyncio
import json
import os
import random
import re
import socket
import ssl

import pytest
from signalling import forgive, ha1, proof, registered, run, talk
from system import DOMAIN

from sipdeploy.sip.call import Call
from sipdeploy.sip.dialog import Sdp
from sipdeploy.sip.message import parameter, token

pytestmark = pytest.mark.lab

VICTIM = f"<sip:1002@{DOMAIN}>"
# Bytes after which some parser begins a new header field, or ends the headers.
BREAKS = {
    "CR": "b\r{}",
    "CR-behind-NUL": "\0b\r{}",
    "LF": "b\n{}",
    "LF-CR": "b\n\r{}",
    "CR-fold": "b\r {}",
    "fold": "b\r\n {}",
    "ampersand": "b&{}",
    "ampersand-space": "b& {}",
    "NUL": "b\0{}",
    "vertical-tab": "b\v{}",
    "form-feed": "b\f{}",
}


@pytest.fixture(params=sorted(BREAKS))
def smuggled(request):
    """Return the value of a header field with another field after one of the breaks."""
    return BREAKS[request.param].format


# --- ambiguous messages --------------------------------------------------------------------------


FIELDS = {
    "X-A": "x",
    "Contact": "<sip:x@y.invalid;transport=ws>;x=",
    "Event": "presence;id=",
    "Session-Expires": "90;refresher=",
    "To": f"<sip:6001@{DOMAIN}>;x=",
}


def test_no_field_is_smuggled_into_a_request(system, smuggled):
    async def scenario():
        async with system.phone("1003") as eve:
            for name, value in FIELDS.items():
                if eve.is_closed:
                    await eve.connect()
                    assert (await eve.register()).status == 200
                lie = value + smuggled(f"P-Asserted-Identity: {VICTIM}")
                call = eve.invite("6001", headers={name: lie})
                assert await refusal(eve, call) in {400, None}, name
        async with registered(system, "1003") as (eve,):
            call = await eve.invite("6001")
            await call.answered()
            await call.ack()
            assert (await call.bye()).status == 200

    run(scenario())


async def refusal(phone, asked):
    """Return the status of the final reply; None after a closed connection or no reply."""
    try:
        answer = await asked
        return (await answer.final(2) if isinstance(answer, Call) else answer).status
    except ConnectionError:
        return None
    except TimeoutError:
        await phone.close()
        return None


def test_nobody_registers_as_another_by_a_second_from(system, smuggled):
    async def scenario():
        async with system.phone("1003") as eve:
            await eve.connect()
            lie = smuggled(f"From: <sip:1006@{DOMAIN}>;tag=a")
            asked = eve.register(headers={"X-A": lie}, timeout_seconds=2)
            assert await refusal(eve, asked) in {400, None}
            assert system.contacts("1006") == 0

    run(scenario())


@pytest.mark.parametrize(
    "sender",
    [
        f"sip:1003@{DOMAIN}&z: <sip:1006@{DOMAIN}>;tag=t",
        f"sip:1003@{DOMAIN} <sip:1006@{DOMAIN}>;tag=t",
        f'"a" <sip:1003@{DOMAIN}>, <sip:1006@{DOMAIN}>;tag=t',
        f'"a\\" <sip:1006@{DOMAIN}>" <sip:1003@{DOMAIN}',
        f"<sip:1003@{DOMAIN}?From=1006>;tag=t",
        f"<sip:1003:1006@{DOMAIN}>;tag=t",
        f"<sip:1006@1003@{DOMAIN}>;tag=t",
        f"<sip:%31003@{DOMAIN}>;tag=t",
        f"<sip:1003;x=y@{DOMAIN}>;tag=t",
        f"<sip:1003@{DOMAIN}>;t%61g=t",
    ],
)
def test_from_and_to_have_one_form(system, sender):
    async def scenario():
        async with system.phone("1003") as eve:
            await eve.connect()
            to = sender.partition(";tag")[0]
            for headers in ({"From": sender}, {"From": sender, "To": to}, {"To": to + ";x=1"}):
                if eve.is_closed:
                    await eve.connect()
                asked = eve.register(headers=headers, timeout_seconds=2)
                assert await refusal(eve, asked) in {400, 403, None}
            assert system.contacts("1006") == 0

    run(scenario())


@pytest.mark.parametrize(
    "tags", ['tag=t;tag="u"', "tag=t;tag=u", 'tag="t"', "tag=t;x;tag", "tag="]
)
@pytest.mark.parametrize("name", ["From", "To"])
def test_a_dialog_has_one_tag_a_side(system, name, tags):
    """Of two tags, Kamailio uses the last, and phones use the last that is a token."""

    async def scenario():
        async with registered(system, "1003", "1004") as (eve, bob):
            number = {"From": "1003", "To": "1004"}[name]
            lie = {name: f"<sip:{number}@{DOMAIN}>;{tags}"}
            assert await refusal(eve, eve.invite("1004", headers=lie)) in {400, None}
            assert bob.received("INVITE") == []

    run(scenario())


def test_a_digest_is_not_smuggled_past_the_count_of_failures(system, smuggled):
    async def scenario():
        async with system.phone("1006", "guess") as eve:
            await eve.connect()
            nonce = "0" * 32
            uri = f"sip:{DOMAIN}"
            guess = proof("1006", ha1("1003"), method="REGISTER", uri=uri, nonce=nonce)
            asked = eve.register(
                authenticate=False,
                headers={"X-A": smuggled(f"Authorization: {guess}")},
                timeout_seconds=2,
            )
            assert await refusal(eve, asked) in {400, None}

    run(scenario())


def test_no_field_is_smuggled_into_a_reply(system, smuggled):
    async def scenario():
        async with registered(system, "1001", "1003") as (alice, eve):
            call = await alice.invite("1003")
            incoming = await eve.incoming(method="INVITE")
            lie = smuggled(f"P-Asserted-Identity: {VICTIM}")
            await incoming.reply(180, headers={"X-A": lie})
            await alice.silence(0.5)
            await incoming.ring()
            assert (await call.ringing()).values("P-Asserted-Identity") == []
            await incoming.reject(486)
            await call.final()

    run(scenario())


def test_a_call_for_a_mailbox_carries_its_caller_in_the_request_uri(system):
    """The identity that opens a mailbox is not in a header field, so no field can precede it."""

    async def scenario():
        async with registered(system, "1003") as (eve,):
            call = await eve.invite("6001")
            await call.answered()
            await call.ack()
            shown = system.run("asterisk -rx 'core show channels concise'")
            assert re.search(r"!1003!", shown), shown
            await call.bye()
        context = "from-kamailio"
        dialplan = system.run(f"asterisk -rx 'dialplan show {context}'")
        assert "PJSIP_HEADER" not in dialplan

    run(scenario())


# --- replies -------------------------------------------------------------------------------------


def forged(request, status, *, keep_seal=True, headers=()):
    """Return the reply that an attacker who has seen the request would send."""
    vias = [value for name, value in request.headers if name == "Via"]
    if not keep_seal:
        vias = [re.sub(r";seal=[0-9a-f]*", "", via) for via in vias]
    lines = [f"SIP/2.0 {status} Forged", *(f"Via: {via}" for via in vias)]
    lines += [f"{name}: {request.header(name)}" for name in ("From", "Call-ID", "CSeq")]
    lines += [f"To: {request.header('To')};tag=forged", *headers, "Content-Length: 0", "", ""]
    return "\r\n".join(lines)


def send_by_tls(system, text):
    """Send a message over TLS without a WebSocket, which needs no account."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((system.address, 8443), 5) as plain,
        context.wrap_socket(plain, server_hostname=DOMAIN) as secured,
    ):
        secured.sendall(text.encode())
        secured.settimeout(1)
        try:
            while secured.recv(4096):
                pass
        except OSError:
            pass


@pytest.mark.parametrize("status", [180, 200, 486, 603])
def test_a_reply_from_anywhere_but_the_phone_that_rings_is_dropped(system, status):
    """Sent by a stranger over TLS, another user and the caller; all of them know the Via."""

    async def scenario():
        async with registered(system, "1001", "1002", "1003") as (alice, bob, eve):
            call = await alice.invite("1002")
            incoming = await bob.incoming(method="INVITE")
            police = [f'P-Asserted-Identity: "Police" <sip:110@{DOMAIN}>']
            text = forged(incoming.request, status, headers=police)
            send_by_tls(system, text)
            await eve.send_raw(text)
            await alice.send_raw(text)
            await eve.send_raw(forged(incoming.request, status, keep_seal=False))
            await asyncio.sleep(0.5)
            assert {reply.status for reply in call.replies} <= {100, 407}
            await incoming.answer()
            reply = await call.answered()
            assert reply.values("P-Asserted-Identity") == []
            await call.ack()
            assert (await call.bye()).status == 200

    run(scenario())


def test_only_the_caller_cancels(system):
    """Each ringing phone knows all values that a CANCEL needs."""

    async def scenario():
        async with registered(system, "1001", "1005", "1005", "1003") as (alice, one, two, eve):
            call = await alice.invite("1005")
            incoming = await one.incoming(method="INVITE")
            other = await two.incoming(method="INVITE")
            await incoming.ring()
            await other.ring()
            cancel = one.on_transaction(call.request, "CANCEL")
            for thief in (one, eve):
                assert (await thief.exchange(cancel)).status == 481
            await other.answer()
            await call.answered()
            await call.ack()
            await incoming.cancelled()
            assert (await call.bye()).status == 200

    run(scenario())


SNIFF = """
import json, socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003))
s.bind(("lo", 0)); s.settimeout(8)
print("ready", flush=True)
while True:
    data = s.recv(65535)
    at = data.find(sys.argv[1].encode())
    if at >= 0:
        print(json.dumps(data[at:].decode("latin-1")), flush=True); break
"""


def test_a_registration_is_granted_by_asterisk_alone(system):
    """The sender can compute the branch of Kamailio's Via; the test reads it from the wire."""
    if system.mode != "asterisk":
        pytest.skip("Kamailio grants registrations in this mode")

    async def scenario():
        async with registered(system, "1003") as (eve,), system.phone("1006", "x") as stranger:
            await stranger.connect()
            system.host.write("/tmp/sniff.py", SNIFF.encode())
            sniffer = asyncio.create_task(
                asyncio.to_thread(
                    system.run, f"timeout 10 python3 /tmp/sniff.py 'REGISTER sip:{DOMAIN}'"
                )
            )
            await asyncio.sleep(1)
            system.run("systemctl kill -s STOP asterisk.service")
            try:
                request = stranger.initial(
                    "REGISTER",
                    f"sip:{DOMAIN}",
                    {"to_user": "1006", "headers": {"Contact": stranger.contact}},
                )
                await stranger.send(request)
                seen = json.loads((await sniffer).strip().splitlines()[-1])
                via = re.findall(r"^Via: (.*?)\r$", seen, re.MULTILINE)
                for keep_seal in (True, False):
                    vias = via if keep_seal else [re.sub(r";seal=\w*", "", v) for v in via]
                    lines = ["SIP/2.0 200 OK", *(f"Via: {value}" for value in vias)]
                    copied = ("From", "Call-ID", "CSeq", "Contact")
                    lines += [f"{name}: {request.header(name)}" for name in copied]
                    lines += [f"To: {request.header('To')};tag=x", "Content-Length: 0", "", ""]
                    text = "\r\n".join(lines)
                    await stranger.send_raw(text)
                    await eve.send_raw(text)
                    send_by_tls(system, text)
                await asyncio.sleep(0.5)
                assert system.contacts("1006") == 0
                assert 200 not in [reply.status for reply in stranger.unmatched]
            finally:
                system.run("systemctl kill -s CONT asterisk.service")

    run(scenario())


ANSWERS = int(os.environ.get("LAB_ANSWERS", "20"))


def test_one_of_two_answers_makes_the_call(system):
    """Two phones answer at the same moment: one gets the call, Kamailio tells the other."""

    async def scenario():
        async with registered(system, "1001", "1005", "1005") as (alice, one, two):
            for _ in range(ANSWERS):
                call = await alice.invite("1005")
                rung = [await phone.incoming(method="INVITE") for phone in (one, two)]
                ends = await asyncio.gather(*(answer(each) for each in rung))
                await call.answered()
                await call.ack()
                tag = parameter(call.established.remote, "tag")
                good, other = ends if rung[0].tag == tag else reversed(ends)
                await good.acknowledged()
                bye = await other.ended()
                assert bye.header("Reason").startswith("SIP;cause=200"), bye
                assert {r.to_tag for r in call.replies if r.status == 200} == {tag}
                assert (await call.bye()).status == 200
                await good.ended()
                assert alice.received("BYE") == []
                forgive(system)

    async def answer(incoming):
        await asyncio.sleep(random.uniform(0, 0.003))
        return await incoming.answer()

    asyncio.run(asyncio.wait_for(scenario(), 30 + ANSWERS))


def test_the_bye_of_the_other_phone_ends_nothing(system):
    """A caller may hold an early dialog with each phone that rang."""

    async def scenario():
        async with registered(system, "1001", "1005", "1005") as (alice, one, two):
            call = await alice.invite("1005")
            rung = [await phone.incoming(method="INVITE") for phone in (one, two)]
            for each in rung:
                await each.ring()
            good = await rung[0].answer()
            await call.answered()
            await call.ack()
            two.automatic.discard("BYE")
            other = await rung[1].answer()
            assert (await other.bye()).status == 481
            assert (await other.request_in_dialog("INFO")).status == 481
            assert alice.received("BYE") == alice.received("INFO") == []
            assert (await good.bye()).status == 200
            await call.ended()

    run(scenario())


def test_a_phone_that_answers_late_is_told(system):
    """The transaction has ended, and the CANCEL reached the other phone too late."""

    async def scenario():
        async with registered(system, "1001", "1005", "1005") as (alice, one, two):
            call = await alice.invite("1005")
            first = await one.incoming(method="INVITE")
            second = await two.incoming(method="INVITE")
            await second.ring()
            await first.answer()
            await call.answered()
            await call.ack()
            await asyncio.sleep(6)
            late = await second.answer()
            await late.ended()
            assert [r for r in alice.received(200) if r.to_tag == second.tag] == []
            assert (await call.bye()).status == 200

    run(scenario())


def test_an_answer_is_forwarded_until_its_ack(system):
    """The transaction ends five seconds after the answer, and the ACK may take longer."""

    async def scenario():
        async with registered(system, "1001", "1004") as (alice, bob):
            call = await alice.invite("1004")
            incoming = await bob.incoming(method="INVITE")
            answered = await incoming.answer()
            await call.answered()
            await asyncio.sleep(7)
            await bob.send(incoming.replies[-1])
            await alice.until(lambda: alice.received(200)[2:] or None, "the 200 again")
            assert {r.to_tag for r in call.replies if r.status == 200} == {incoming.tag}
            await call.ack()
            await answered.acknowledged()
            assert (await call.bye()).status == 200

    run(scenario())


@pytest.mark.parametrize(
    "second",
    [
        "SIP/2.0/TLS {address}:{port};branch=z9hG4bKq",
        "SIP/2.0/TCP {address}:{port};branch=z9hG4bKq",
        "SIP/2.0/UDP {address}:{port};branch=z9hG4bKq",
    ],
)
def test_a_late_answer_leads_nowhere_else(system, second):
    """Two values in one Via line must not count as one."""

    async def scenario():
        with socket.socket() as listener, socket.socket(type=socket.SOCK_DGRAM) as heard:
            here = str(system.host.network.address)
            listener.bind((here, 0))
            listener.listen()
            listener.settimeout(1.5)
            heard.bind((here, listener.getsockname()[1]))
            heard.settimeout(0.5)
            via = second.format(address=here, port=listener.getsockname()[1])
            async with registered(system, "1001", "1004") as (alice, bob):
                call = await alice.invite("1004")
                incoming = await bob.incoming(method="INVITE")
                ours, *others = incoming.request.values("Via")
                branch = re.sub(r"branch=([^;.]*)", r"branch=\g<1>x", ours)
                for vias in ([f"{branch}, {via}", *others], [branch, via, *others]):
                    text = forged(incoming.request, 200)
                    head, rest = text.split("\r\n", 1)
                    rest = re.sub(r"(?m)^Via:.*\r\n", "", rest)
                    lines = [head, *(f"Via: {value}" for value in vias), rest]
                    await bob.send_raw("\r\n".join(lines))
                with pytest.raises(TimeoutError):
                    await asyncio.to_thread(listener.accept)
                with pytest.raises(TimeoutError):
                    heard.recv(100)
                assert 200 not in [reply.status for reply in call.replies]
                await incoming.reject(486)
                await call.final()

    run(scenario())


def test_a_late_answer_names_no_connection(system):
    """Kamailio sends a reply over the connection that the parameter `i` of the first Via names."""

    async def scenario():
        async with registered(system, "1001", "1004", "1006") as (alice, bob, victim):
            address, port = victim.wire.local_address
            there = f"wss:{address}:{port} ->"
            (number,) = re.findall(rf"(\d+): {there}", system.run("kamcmd ws.dump"))
            call = await alice.invite("1004")
            incoming = await bob.incoming(method="INVITE")
            await incoming.answer()
            await call.answered()
            await call.ack()
            await asyncio.sleep(6)
            late = forged(incoming.request, 200)
            name = f"{int(number):x}"[::-1]
            await bob.send_raw(re.sub(r"(?m)^(Via: [^\r]*)", rf"\1;i={name}", late, count=1))
            await victim.silence(0.5)
            assert (await call.bye()).status == 200

    run(scenario())


# --- dialogs -------------------------------------------------------------------------------------


async def call_of(phone, number, **headers):
    """Set up a call to a service."""
    call = await phone.invite(number, headers=headers)
    await call.answered()
    await call.ack()
    return call


def party_of(routes):
    """Return the seal in a route set."""
    return re.search(r";party=([^;>]+)", routes[0])[1]


def test_a_call_id_holds_no_space(system):
    """The fields that a seal covers are separated by spaces."""

    async def scenario():
        async with registered(system, "1003", "1004") as (eve, bob):
            for call_id in ("a 1003 6002", "a\t1003"):
                asked = eve.invite("1004", headers={"Call-ID": call_id})
                assert await refusal(eve, asked) in {400, None}
            assert bob.received("INVITE") == []

    run(scenario())


def test_the_text_under_a_seal_reads_in_one_way(system):
    """Once, the fields under a seal were separated by colons."""

    async def scenario():
        async with registered(system, "1001", "1003") as (alice, eve):
            victim = await call_of(alice, "6002")
            call_id = f"{victim.established.call_id}:1003:x"
            mine = await call_of(eve, "6002", **{"Call-ID": call_id})
            stolen = victim.established.copy()
            mac = party_of(mine.established.routes).split(".")[-1]
            for side in ("", "asterisk.", "callee.", "phone."):
                seal = f"1003.x:1003:6002.{side}{mac}"
                stolen.routes = tuple(
                    re.sub(r";party=[^;>]*", f";party={seal}", route)
                    for route in mine.established.routes
                )
                assert (await eve.request_in_dialog(stolen, "BYE")).status == 403
            assert (await mine.bye()).status == 200
            assert (await victim.bye()).status == 200

    run(scenario())


@pytest.mark.parametrize("method", ["BYE", "INVITE", "INFO", "REFER"])
@pytest.mark.parametrize("same_tag", [False, True])
def test_a_second_dialog_with_that_call_id_opens_no_first(system, method, same_tag):
    """An attended transfer reveals Call-ID and both tags of a call."""

    async def scenario():
        async with registered(system, "1001", "1003") as (alice, eve):
            victim = await call_of(alice, "6002")
            dialog = victim.established
            tag = parameter(dialog.local, "tag") if same_tag else token()
            mine = await eve.invite(
                "6002",
                headers={"Call-ID": dialog.call_id, "From": f"<sip:1003@{DOMAIN}>;tag={tag}"},
            )
            reply = await mine.final()
            if reply.status == 200:
                await mine.ack()
                stolen = dialog.copy()
                stolen.routes = mine.established.routes
                stolen.sequence += 50
                body = str(Sdp(version=9)) if method == "INVITE" else ""
                for local in (dialog.local, f"<sip:1003@{DOMAIN}>;tag={tag}"):
                    stolen.local = local
                    if not (same_tag and local != dialog.local):
                        refused = await eve.request_in_dialog(stolen, method, body=body)
                        assert refused.status in {403, 481}, local
                await mine.bye()
            assert alice.received("BYE") == []
            assert (await victim.bye()).status == 200

    run(scenario())


@pytest.mark.parametrize("method", ["BYE", "INVITE"])
def test_a_call_to_a_party_opens_no_dialog_of_its(system, method):
    """The same between phones: the attacker calls one party, and pretends to be the other."""

    async def scenario():
        async with registered(system, "1001", "1004", "1003") as (alice, bob, eve):
            victim, answered = await talk(alice, bob)
            for target, dialog in (("1004", victim), ("1001", answered)):
                stolen = dialog.established.copy()
                mine = await eve.invite(
                    target,
                    headers={
                        "Call-ID": stolen.call_id,
                        "From": re.sub(r"sip:\d+@", "sip:1003@", stolen.local),
                        "To": re.sub(r";tag=.*", "", stolen.remote),
                    },
                )
                phone = bob if target == "1004" else alice
                incoming = await phone.incoming(method="INVITE")
                await incoming.answer()
                reply = await mine.answered()
                assert parameter(reply.header("To"), "tag") != parameter(stolen.remote, "tag")
                stolen.routes = mine.established.routes
                stolen.sequence += 50
                body = str(Sdp(version=9)) if method == "INVITE" else ""
                refused = await eve.request_in_dialog(stolen, method, body=body)
                assert refused.status == 403
            assert (await victim.request_in_dialog("INFO")).status == 200
            assert (await victim.bye()).status == 200

    run(scenario())


def test_a_party_speaks_for_its_own_side_alone(system):
    """The callee's route with the caller's tags, and vice versa."""

    async def scenario():
        async with registered(system, "1001", "1004") as (alice, bob):
            call, answered = await talk(alice, bob)
            for thief, own, other in ((alice, call, answered), (bob, answered, call)):
                stolen = other.established.copy()
                stolen.routes = own.established.routes
                assert (await thief.request_in_dialog(stolen, "INFO")).status == 403
                stolen.routes = other.established.routes
                assert (await thief.request_in_dialog(stolen, "INFO")).status == 403
            # a dialog is a Call-ID and both tags (RFC 3261, section 12); the seal is older than
            # the callee's tag
            another = call.established.copy()
            another.local = re.sub(r";tag=.*", ";tag=another", another.local)
            assert (await alice.request_in_dialog(another, "INFO")).status == 403
            assert alice.received("INFO") == bob.received("INFO") == []
            assert (await call.bye()).status == 200

    run(scenario())


def test_a_call_to_ones_own_number_leads_to_no_other(system):
    """With both ends an attacker chooses both tags, and still gets no route to Asterisk."""

    async def scenario():
        async with registered(system, "1005", "1005", "1001") as (one, two, alice):
            victim = await call_of(alice, "6002")
            dialog = victim.established
            mine = await one.invite(
                "1005",
                headers={
                    "Call-ID": dialog.call_id,
                    "From": re.sub(r"sip:\d+@", "sip:1005@", dialog.local),
                },
            )
            incoming = await two.incoming(method="INVITE")
            incoming.tag = parameter(dialog.remote, "tag")
            await incoming.answer()
            await mine.answered()
            stolen = dialog.copy()
            stolen.routes = mine.established.routes
            stolen.sequence += 50
            assert (await one.request_in_dialog(stolen, "BYE")).status in {403, 480}
            # the same as if Asterisk had answered
            stolen.routes = tuple(
                route.replace(".phone.", ".asterisk.") for route in stolen.routes
            )
            assert ".asterisk." in stolen.routes[0]
            assert (await one.request_in_dialog(stolen, "BYE")).status == 403
            assert (await victim.bye()).status == 200

    run(scenario())


def test_a_replaces_takes_over_no_call_with_a_service(system):
    async def scenario():
        async with registered(system, "1001", "1003") as (alice, eve):
            victim = await call_of(alice, "6002")
            dialog = victim.established
            tags = (parameter(dialog.remote, "tag"), parameter(dialog.local, "tag"))
            replaces = f"{dialog.call_id};to-tag={tags[0]};from-tag={tags[1]}"
            call = await eve.invite("6002", headers={"Replaces": replaces})
            await call.final()
            await asyncio.sleep(0.5)
            assert alice.received("BYE") == []
            assert (await victim.bye()).status == 200

    run(scenario())


@pytest.mark.parametrize("method", ["MESSAGE", "OPTIONS", "REFER", "INVITE"])
def test_no_stranger_speaks_in_a_dialog(system, method):
    """Phones find a dialog by Call-ID and tags, for any method."""

    async def scenario():
        async with registered(system, "1001", "1004", "1003") as (alice, bob, eve):
            call, _ = await talk(alice, bob)
            dialog = call.established
            headers = {
                "Call-ID": dialog.call_id,
                "From": re.sub(r"sip:\d+@", "sip:1003@", dialog.local),
                "To": dialog.remote,
                "CSeq": f"2147480000 {method}",
                "Refer-To": f"<sip:1003@{DOMAIN}>",
            }
            body = "x" if method == "MESSAGE" else ""
            reply = await eve.request(method, "1004", headers=headers, body=body)
            assert reply.status in {403, 481}
            assert bob.received(method)[1 if method == "INVITE" else 0 :] == []
            assert (await call.bye()).status == 200

    run(scenario())
