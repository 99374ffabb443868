"""The SIP client without a network: parser, digests, dialogs, and automatic answers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.load import Load, register_many
from sipdeploy.sip.dialog import Dialog, Sdp
from sipdeploy.sip.digest import Challenge, Credentials, parse_challenge
from sipdeploy.sip.message import (
    MalformedMessage,
    Reply,
    Request,
    parameter,
    parse,
    split_list,
    uri_of,
    with_headers,
)
from sipdeploy.sip.phone import CallRefusedError, Phone

INVITE = Request(
    method="INVITE",
    uri="sip:1002@sip.example.test",
    headers=(
        ("Via", "SIP/2.0/WSS a.invalid;branch=z9hG4bKa"),
        ("From", "<sip:1001@sip.example.test>;tag=f1"),
        ("To", "<sip:1002@sip.example.test>"),
        ("Call-ID", "c1"),
        ("CSeq", "7 INVITE"),
        ("Record-Route", "<sip:p2;lr>, <sip:p1;lr>"),
        ("Contact", '"A; B" <sip:1001@a.invalid;transport=ws>;expires=60'),
    ),
)
OK = Reply(
    status=200,
    reason="OK",
    headers=with_headers(
        INVITE.headers,
        {"To": "<sip:1002@sip.example.test>;tag=t1", "Contact": "<sip:1002@b.invalid>"},
    ),
)


class FakeWire:
    """Replaces the socket: records sent messages, and delivers those of the test."""

    def __init__(self):
        self.sent: list[Request | Reply] = []
        self.raw: list[str] = []
        self.change = asyncio.Condition()
        self.coming: asyncio.Queue[str | None] = asyncio.Queue()
        self.frames_received = 0
        self.end = ""
        self.trace = []

    async def open(self):
        pass

    async def send(self, text):
        self.raw.append(text)
        if text.strip():
            async with self.change:
                self.sent.append(parse(text))
                self.change.notify_all()

    async def receive(self):
        text = await self.coming.get()
        self.frames_received += text is not None
        return text

    async def close(self):
        self.coming.put_nowait(None)


@pytest.fixture
def wire(monkeypatch):
    fake = FakeWire()
    monkeypatch.setattr(Phone, "_new_wire", lambda _: fake)
    return fake


def test_a_load_on_nothing_fails_for_each_user_and_leaves_no_worker():
    async def scene():
        with socket.socket() as taken:  # bound but not listening, so that it refuses at once
            taken.bind(("127.0.0.1", 0))
            load = Load(address=taken.getsockname(), domain="sip.example.test", workers=2)
            async with register_many(load, [("1001", "a"), ("1002", "b"), ("1003", "c")]) as fleet:
                return fleet.result, await fleet.open_connections()

    result, count = asyncio.run(scene())
    assert (result.registered, count) == (0, 0)
    assert sorted(number for number, _ in result.failed) == ["1001", "1002", "1003"]
    assert all("ConnectionRefused" in why for _, why in result.failed)


def phone(**changes):
    options = {"domain": "sip.example.test", "address": ("192.0.2.1", 1), "timeout_seconds": 2}
    return Phone("1001", "secret", **(options | changes))


def reply_to(request, status, headers=None, tag="t1"):
    kept = ("via", "from", "to", "call-id", "cseq")
    copied = tuple(pair for pair in request.headers if pair[0].lower() in kept)
    changes = {"To": f"{request.header('To')};tag={tag}"} if not request.to_tag else {}
    return str(Reply(status=status, headers=with_headers(copied, changes | (headers or {}))))


async def sent(wire, count):
    """Wait for the sent message with this index (from 1)."""
    async with asyncio.timeout(2), wire.change:
        await wire.change.wait_for(lambda: len(wire.sent) >= count)
    return wire.sent[count - 1]


class TestParse:
    def test_compact_and_folded_headers_are_spelt_out(self):
        message = parse("MESSAGE sip:a SIP/2.0\r\ni: x\r\nf: <sip:b>\r\n ;tag=1\r\nl: 2\r\n\r\nhi")
        assert isinstance(message, Request)
        assert (message.call_id, message.from_tag, message.body) == ("x", "1", "hi")

    def test_a_status_line_needs_no_reason(self):
        message = parse("SIP/2.0 200\r\n\r\n")
        assert isinstance(message, Reply)
        assert (message.status, message.reason) == (200, "")

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "OPTIONS sip:a SIP/2.0\r\n",
            "OPTIONS sip:a SIP/3.0\r\n\r\n",
            "SIP/2.0 99 No\r\n\r\n",
            "OPTIONS sip:a SIP/2.0\r\nno colon\r\n\r\n",
            "OPTIONS sip:a SIP/2.0\r\nbad name: x\r\n\r\n",
            "OPTIONS sip:a SIP/2.0\r\nContent-Length: 3\r\n\r\nhi",
            "OPTIONS sip:a SIP/2.0\r\nContent-Length: -1\r\n\r\nhi",
        ],
    )
    def test_what_is_not_sip_is_refused(self, text):
        with pytest.raises(MalformedMessage):
            parse(text)

    def test_content_length_counts_bytes_and_cuts_what_is_beyond(self):
        text = "MESSAGE sip:a SIP/2.0\r\nContent-Length: 2\r\n\r\n\u00e9tail"
        assert parse(text).body == "\u00e9"

    @given(st.text())
    def test_any_text_is_a_message_or_refused(self, text):
        with contextlib.suppress(MalformedMessage):
            parse(text)

    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
    def test_what_is_written_reads_back(self, body):
        request = replace(INVITE, body=body)
        again = parse(str(request))
        assert again.body == body
        assert again.headers[:-1] == request.headers

    def test_addresses_come_apart(self):
        contact = INVITE.header("Contact")
        assert uri_of(contact) == "sip:1001@a.invalid;transport=ws"
        assert parameter(contact, "expires") == "60"
        assert parameter(contact, "transport") == ""
        assert uri_of("sip:a@b;tag=x") == "sip:a@b"
        assert parameter("sip:a@b;tag=x", "tag") == "x"
        assert parameter('<sip:a>;pub-gruu="sip:a;gr=u"', "PUB-GRUU") == "sip:a;gr=u"

    def test_lists_split_outside_quotes_and_brackets(self):
        assert split_list('"a, b" <sip:x,y;lr>, <sip:z>') == ['"a, b" <sip:x,y;lr>', "<sip:z>"]

    def test_headers_are_replaced_in_place_added_and_left_out(self):
        headers = (("A", "1"), ("B", "2"), ("C", "3"))
        changes = {"b": "x", "C": None, "D": "4"}
        assert with_headers(headers, changes) == (("A", "1"), ("b", "x"), ("D", "4"))


class TestDigest:
    def test_rfc_2617_section_3_5(self):
        challenge = parse_challenge(
            'Digest realm="testrealm@host.com", qop="auth,auth-int", '
            'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
        )
        login = Credentials(user="Mufasa", password="Circle Of Life", challenge=challenge)
        name, value = login.header("GET", "/dir/index.html", "0a4f113b")
        assert name == "Authorization"
        assert 'response="6629fae49393a05397450978507c4ef1"' in value
        assert 'opaque="5ccc069c403ebaf9f0171e9517f40e41"' in value
        assert "nc=00000001" in value

    def test_without_qop_it_is_the_rfc_2069_form(self):
        challenge = Challenge(
            realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", proxy=True
        )
        login = Credentials(user="Mufasa", password="Circle Of Life", challenge=challenge)
        name, value = login.header("GET", "/dir/index.html")
        assert name == "Proxy-Authorization"
        assert 'response="670fd8c2df070c60b045671b8b24ff02"' in value
        assert "nc=" not in value

    def test_each_use_of_a_nonce_is_counted_and_a_new_challenge_starts_again(self):
        login = Credentials(
            user="a", password="b", challenge=Challenge(realm="r", nonce="n", qop=True)
        )
        login.header("GET", "/")
        assert "nc=00000002" in login.header("GET", "/")[1]
        login.accept(Challenge(realm="r", nonce="m", qop=True))
        assert "nc=00000001" in login.header("GET", "/")[1]

    @pytest.mark.parametrize("value", ["Basic realm=x", 'Digest realm="x"', ""])
    def test_other_challenges_are_refused(self, value):
        with pytest.raises(MalformedMessage):
            parse_challenge(value)

    def test_md5_is_chosen_among_several(self):
        reply = Reply(
            status=401,
            headers=(
                ("WWW-Authenticate", 'Digest realm="r", nonce="s", algorithm=SHA-256'),
                ("WWW-Authenticate", 'Digest realm="r", nonce="m", algorithm=MD5, stale=TRUE'),
            ),
        )
        assert Challenge.from_reply(reply) == Challenge(realm="r", nonce="m", stale=True)


class TestDialog:
    def test_the_caller_reverses_the_record_route(self):
        dialog = Dialog.of_caller(INVITE, OK)
        target = "sip:1002@b.invalid"
        assert dialog.next_hop() == (target, ("<sip:p1;lr>", "<sip:p2;lr>"))
        assert dialog.key == ("c1", "f1", "t1")
        assert dialog.sequence == 7

    def test_the_callee_keeps_its_order_and_swaps_the_sides(self):
        dialog = Dialog.of_callee(INVITE, "t1")
        target = "sip:1001@a.invalid;transport=ws"
        assert dialog.next_hop() == (target, ("<sip:p2;lr>", "<sip:p1;lr>"))
        assert dialog.key == ("c1", "t1", "f1")

    def test_a_strict_router_becomes_the_request_uri(self):
        dialog = Dialog(
            call_id="c",
            local="l",
            remote="r",
            remote_target="sip:x",
            routes=("<sip:p>", "<sip:q;lr>"),
        )
        assert dialog.next_hop() == ("sip:p", ("<sip:q;lr>", "<sip:x>"))

    def test_lr_is_a_uri_parameter_and_not_part_of_a_name(self):
        routes = ("<sip:p;lrx=1>;lr",)
        dialog = Dialog(call_id="c", local="l", remote="r", remote_target="sip:x", routes=routes)
        assert dialog.next_hop()[0] == "sip:p;lrx=1"

    def test_a_forger_numbers_for_itself(self):
        dialog = Dialog.of_caller(INVITE, OK)
        phone().in_dialog(dialog.copy(), "BYE")
        assert dialog.sequence == 7

    def test_a_refresh_moves_the_target(self):
        dialog = Dialog.of_caller(INVITE, OK)
        dialog.refresh(replace(INVITE, headers=(("Contact", "<sip:new>"),)))
        assert dialog.next_hop()[0] == "sip:new"


def test_the_offer_has_what_webrtc_needs():
    text = str(Sdp())
    for part in ("UDP/TLS/RTP/SAVPF", "a=fingerprint:sha-256 ", "a=ice-ufrag:", "a=ice-pwd:"):
        assert part in text
    assert "a=setup:actpass\r\n" in text
    assert text.endswith("\r\n")


class TestRequests:
    def test_cancel_and_ack_of_a_refusal_keep_branch_number_and_route(self):
        invite = replace(INVITE, headers=(*INVITE.headers, ("Route", "<sip:p;lr>")))
        cancel = phone().on_transaction(invite, "CANCEL")
        ack = phone().on_transaction(invite, "ACK", OK)
        assert (cancel.branch, cancel.cseq, cancel.to_tag) == (invite.branch, (7, "CANCEL"), "")
        assert (ack.branch, ack.cseq, ack.to_tag) == (invite.branch, (7, "ACK"), "t1")
        assert ack.header("Route") == "<sip:p;lr>"
        assert not cancel.values("Contact")

    def test_headers_given_replace_and_leave_out(self):
        request = phone().initial("MESSAGE", "1002", {"headers": {"to": "<sip:x>", "Via": None}})
        assert request.values("To") == ["<sip:x>"]
        assert not request.values("Via")

    def test_another_sender_can_be_named(self):
        request = phone().initial("MESSAGE", "sip:9@else", {"from_user": "1003", "to_user": "5"})
        assert request.uri == "sip:9@else"
        assert uri_of(request.header("From")) == "sip:1003@sip.example.test"
        assert uri_of(request.header("To")) == "sip:5@sip.example.test"


CHALLENGE = {"WWW-Authenticate": 'Digest realm="r", nonce="n1", qop="auth"'}


class TestPhone:
    def test_register_answers_the_challenge_takes_the_gruu_and_uses_the_nonce_again(self, wire):
        async def scene():
            async with phone() as one:
                await one.connect()
                first = asyncio.create_task(one.register())
                wire.coming.put_nowait(reply_to(await sent(wire, 1), 401, CHALLENGE))
                answer = await sent(wire, 2)
                contact = f'{answer.header("Contact")};pub-gruu="sip:1001@x;gr=u"'
                wire.coming.put_nowait(reply_to(answer, 200, {"Contact": contact}))
                assert (await first).status == 200
                assert one.contact == "<sip:1001@x;gr=u>"
                again = asyncio.create_task(one.register())
                wire.coming.put_nowait(reply_to(await sent(wire, 3), 200))
                await again
                return wire.sent

        first, answer, again = asyncio.run(scene())
        assert not first.values("Authorization")
        assert (answer.call_id, answer.cseq[0]) == (first.call_id, first.cseq[0] + 1)
        assert answer.branch != first.branch
        assert "nc=00000002" in again.header("Authorization")

    def test_a_refused_answer_is_not_repeated(self, wire):
        async def scene():
            async with phone() as one:
                await one.connect()
                task = asyncio.create_task(one.register())
                for count in (1, 2):
                    wire.coming.put_nowait(reply_to(await sent(wire, count), 401, CHALLENGE))
                return await task, len(wire.sent)

        reply, count = asyncio.run(scene())
        assert (reply.status, count) == (401, 2)

    def test_without_authentication_the_challenge_is_the_reply(self, wire):
        async def scene():
            async with phone() as one:
                await one.connect()
                task = asyncio.create_task(one.request("MESSAGE", "1002", authenticate=False))
                wire.coming.put_nowait(reply_to(await sent(wire, 1), 407))
                return await task

        assert asyncio.run(scene()).status == 407

    def test_a_refused_call_is_acknowledged_on_its_transaction(self, wire):
        async def scene():
            async with phone() as one:
                await one.connect()
                call = await one.invite("1002")
                wire.coming.put_nowait(reply_to(await sent(wire, 1), 486))
                with pytest.raises(CallRefusedError, match="486"):
                    await call.answered()
                return wire.sent

        invite, ack = asyncio.run(scene())
        assert (ack.method, ack.branch, ack.to_tag) == ("ACK", invite.branch, "t1")

    def test_an_answered_call_is_acknowledged_end_to_end(self, wire):
        async def scene():
            async with phone() as one:
                await one.connect()
                call = await one.invite("1002")
                invite = await sent(wire, 1)
                wire.coming.put_nowait(reply_to(invite, 180, tag="early"))
                await call.ringing()
                more = {"Contact": "<sip:b>", "Record-Route": "<sip:p2;lr>, <sip:p1;lr>"}
                wire.coming.put_nowait(reply_to(invite, 200, more))
                await call.answered()
                return invite, await call.ack(), call.established.key[2]

        invite, ack, remote_tag = asyncio.run(scene())
        assert (ack.uri, ack.cseq) == ("sip:b", (invite.cseq[0], "ACK"))
        assert ack.header("Route") == "<sip:p1;lr>, <sip:p2;lr>"
        assert ack.branch != invite.branch
        assert ack.to_tag == remote_tag == "t1"

    def test_a_cancelled_invite_is_answered_487_and_its_cancel_200(self, wire):
        async def scene():
            async with phone() as one:
                await one.connect()
                wire.coming.put_nowait(str(INVITE))
                came = await one.incoming()
                await came.ring()
                wire.coming.put_nowait(str(one.on_transaction(INVITE, "CANCEL")))
                await came.cancelled()
                return wire.sent

        ringing, cancel, refusal = asyncio.run(scene())
        assert [ringing.status, cancel.status, refusal.status] == [180, 200, 487]
        assert cancel.cseq[1] == "CANCEL"
        assert ringing.to_tag == refusal.to_tag

    def test_manners(self, wire):
        async def scene():
            async with phone() as one:
                await one.connect()
                for method, to in (("OPTIONS", "<sip:a>"), ("BYE", "<sip:a>;tag=x")):
                    changes = {"CSeq": f"1 {method}", "To": to}
                    request = replace(INVITE, method=method)
                    wire.coming.put_nowait(str(one.changed(request, changes)))
                wire.coming.put_nowait("\r\n\r\n")
                wire.coming.put_nowait("nonsense")
                await sent(wire, 2)
                await one.until(lambda: one.malformed or None, "nonsense")
                return [reply.status for reply in wire.sent], wire.raw[-1]

        assert asyncio.run(scene()) == ([200, 481], "\r\n")

    def test_silence_is_broken_by_a_frame(self, wire):
        async def scene():
            async with phone() as one:
                await one.connect()
                await one.silence(0.01)
                wire.coming.put_nowait(str(OK))
                with pytest.raises(AssertionError, match="silence"):
                    await one.silence(0.05)
                return await one.stray()

        assert asyncio.run(scene()).status == 200

    def test_a_lost_connection_ends_the_waiting(self, wire):
        async def scene():
            async with phone() as one:
                await one.connect()
                task = asyncio.create_task(one.request("MESSAGE", "1002"))
                await sent(wire, 1)
                await wire.close()
                with pytest.raises(ConnectionError, match="closed before"):
                    await task

        asyncio.run(scene())

    @pytest.mark.usefixtures("wire")
    def test_no_reply_is_a_timeout_that_says_for_what(self):
        async def scene():
            async with phone() as one:
                await one.connect()
                await one.request("MESSAGE", "1002", timeout_seconds=0.01)

        with pytest.raises(TimeoutError, match="1001: no final reply to MESSAGE"):
            asyncio.run(scene())
