"""The steps of SIP against a switch in memory: each fault of it is found by its step."""

import asyncio
import time

import pytest

from sipdeploy.inventory.site import load_site
from sipdeploy.proof.outside import signalling, subject, user
from sipdeploy.proof.outside.run import prove
from sipdeploy.proof.outside.subject import Account, Subject
from sipdeploy.sip.message import Reply, Request, parse, uri_of, with_headers
from sipdeploy.sip.phone import Phone, Traced

TEXT = """\
domain: sip.example.test
email: ops@example.com
hosts: {sip1: {address: 203.0.113.10}}
users: {1001: }
services: {6000: {kind: ivr-test}}
"""
CHALLENGE = 'Digest realm="sip.example.test", nonce="n", qop="auth", algorithm=MD5'
ACCOUNTS = tuple(Account(number=n, password="x", title=n) for n in ("2001", "2002"))


def _user(value):
    """The user part of the URI in a header."""
    return uri_of(value).removeprefix("sip:").partition("@")[0]


class Wire:
    """One phone's connection to the switch."""

    def __init__(self, switch):
        self.switch = switch
        self.trace = []
        self.frames_received = 0
        self.end = ""
        self.coming = asyncio.Queue()
        self.is_broken = False

    async def open(self):
        pass

    async def close(self):
        self.switch.forget(self)
        self.coming.put_nowait(None)

    def reset(self):
        self.is_broken = True
        if "keeps lost" not in self.switch.faults:
            self.switch.forget(self)

    async def send(self, text):
        self.note("sent", text)
        await asyncio.sleep(0)
        self.switch.take(self, parse(text))

    async def receive(self):
        return await self.coming.get()

    def deliver(self, message):
        self.note("received", str(message))
        self.coming.put_nowait(str(message))

    def note(self, direction, text):
        self.trace.append(Traced(direction=direction, text=text, at=time.monotonic()))


class Ringing(Wire):
    """A phone that rings, and that nobody answers."""

    def deliver(self, message):
        if isinstance(message, Request) and message.method == "INVITE":
            copied = [
                pair for pair in message.headers if pair[0] in {"Via", "From", "Call-ID", "CSeq"}
            ]
            headers = (*copied, ("To", f"{message.header('To')};tag=ringing"))
            self.ringing = headers
            self.switch.take_reply(self, Reply(status=180, headers=headers))
        elif isinstance(message, Request) and message.method == "CANCEL":
            self.switch.take_reply(self, Reply(status=487, headers=self.ringing))


class Switch:
    """A registrar and proxy that keeps all promises but those in `faults`."""

    def __init__(self, *faults):
        self.faults = faults
        self.contacts = {}  # user part of a Contact -> its number and its wire
        self.senders = {}  # branch -> the wire that sent the request
        self.answered = {}  # branch of an INVITE -> the wire that answered first
        self.ringing = {}  # branch of an INVITE -> its request and its targets
        self.refused = {}  # branch of an INVITE -> the wires that refused it
        if "another phone" in faults:
            self.contacts["other"] = ("2001", Ringing(self))

    def forget(self, wire):
        self.contacts = {u: row for u, row in self.contacts.items() if row[1] is not wire}

    def take(self, wire, message):
        if isinstance(message, Reply):
            self.take_reply(wire, message)
        elif message.method == "REGISTER":
            self.register(wire, message)
        elif message.method == "INVITE" and not self.is_proven(wire, message):
            if "answers strangers" in self.faults:
                self.reply(wire, message, 200, {"Contact": "<sip:service@pbx>"})
                return
            self.reply(wire, message, 401, {"WWW-Authenticate": CHALLENGE})
        else:
            self.route(wire, message)

    def register(self, wire, request):
        if not request.header("Authorization") and "open" not in self.faults:
            if "stores first" in self.faults:
                self.contacts[_user(request.header("Contact"))] = (
                    _user(request.header("From")),
                    wire,
                )
            self.reply(wire, request, 401, {"WWW-Authenticate": CHALLENGE})
            if "answers twice" in self.faults:
                self.reply(wire, request, 200)
            return
        if "refuses" in self.faults:
            self.reply(wire, request, 503)
            return
        contact = request.header("Contact")
        user, number = _user(contact), _user(request.header("From"))
        seconds = request.header("Expires")
        if seconds == "0":
            self.contacts.pop(user, None)
        else:
            self.contacts[user] = (number, wire)
        granted = "0" if "expired" in self.faults else seconds
        headers = {} if "unbound" in self.faults else {"Contact": f"{contact};expires={granted}"}
        self.reply(wire, request, 200, headers)

    def reply(self, wire, request, status, headers=None, body=""):
        kept = ("via", "from", "to", "call-id", "cseq")
        copied = tuple(pair for pair in request.headers if pair[0].lower() in kept)
        to = request.header("To")
        changes = {"To": to if request.to_tag else f"{to};tag=switch"} | (headers or {})
        wire.deliver(Reply(status=status, headers=with_headers(copied, changes), body=body))

    def route(self, wire, request):
        user = _user(f"<{request.uri}>")
        if user in {"6000", "service"}:
            self.serve(wire, request)
            return
        targets = [w for u, (n, w) in self.contacts.items() if user in {u, n}]
        if not targets:
            status = 486 if "absent is busy" in self.faults else 480
            if request.method != "ACK":
                self.reply(wire, request, status)
            return
        self.senders[request.branch] = wire
        if request.method == "CANCEL":
            self.reply(wire, request, 200)
        if request.method == "INVITE":
            self.ringing[request.branch] = (request, targets)
        if f"no {request.method}" in self.faults:
            if request.method not in {"ACK", "CANCEL"}:
                self.reply(wire, request, 200)
            return
        if any(target.is_broken for target in targets):
            self.reply(wire, request, 500)
            return
        for target in targets:
            target.deliver(request)

    def is_proven(self, wire, request):
        number = _user(request.header("From"))
        if number == "kamailio":
            return "trunk by From" in self.faults
        is_known = (number, wire) in self.contacts.values() or "believes From" in self.faults
        return is_known or bool(request.header("Authorization"))

    def serve(self, wire, request):
        if request.method == "INVITE" and "no service" in self.faults:
            self.reply(wire, request, 503)
        elif request.method == "INVITE":
            address = "10.0.0.1" if "wrong media" in self.faults else "203.0.113.10"
            sdp = f"v=0\r\na=candidate:1 1 udp 1 {address} 10000 typ host\r\n"
            self.reply(wire, request, 200, {"Contact": "<sip:service@pbx>"}, sdp)
        elif request.method == "BYE":
            self.reply(wire, request, 200)

    def take_reply(self, wire, reply):
        number, method = reply.cseq
        del number
        sender = self.senders.get(reply.branch)
        if sender is None or method == "CANCEL":
            return
        if method == "INVITE" and reply.status == 200:
            first = self.answered.setdefault(reply.branch, wire)
            if first is not wire and "both answers" not in self.faults:
                if "no BYE for the surplus" not in self.faults:
                    self.end(wire, reply)
                return
            self.cancel_others(reply.branch, first)
        if reply.status == 487 and reply.branch in self.answered:
            return
        if method == "INVITE" and reply.status >= 300 and not self.is_last(reply, wire):
            return
        if reply.status == 486 and "busy is absent" in self.faults:
            changed = with_headers(reply.headers, {})
            reply = Reply(status=480, headers=changed)
        sender.deliver(reply)

    def is_last(self, reply, wire):
        """Whether all phones have refused: a proxy waits for that (RFC 3261, section 16.7)."""
        _, targets = self.ringing[reply.branch]
        refused = self.refused.setdefault(reply.branch, set())
        refused.add(id(wire))
        return len(refused) == len(targets)

    def cancel_others(self, branch, first):
        request, targets = self.ringing[branch]
        changes = {"CSeq": f"{request.cseq[0]} CANCEL"}
        cancel = Request(
            method="CANCEL", uri=request.uri, headers=with_headers(request.headers, changes)
        )
        for target in targets:
            if target is not first:
                target.deliver(cancel)

    @staticmethod
    def end(wire, reply):
        names = {"from", "to", "call-id"}
        headers = tuple(pair for pair in reply.headers if pair[0].lower() in names)
        changes = {"Via": "SIP/2.0/WSS switch;branch=z9hG4bKbye", "CSeq": "9 BYE"}
        bye = Request(method="BYE", uri="sip:x", headers=with_headers(headers, changes))
        wire.deliver(bye)


@pytest.fixture
def proven(monkeypatch):
    """The failed steps on a switch with faults, with their codes and messages."""
    monkeypatch.setattr(subject, "PATIENCE_SECONDS", 0.4)
    monkeypatch.setattr(signalling, "SURPLUS_SECONDS", 0.4)

    def run(*faults, accounts=ACCOUNTS, steps=signalling.STEPS):
        switch = Switch(*faults)
        monkeypatch.setattr(Phone, "_new_wire", lambda _: Wire(switch))
        site, problems, _ = load_site(TEXT, "inventory.yaml")
        assert site, problems
        made = Subject(
            name="sip1", site=site, entry=site.hosts["sip1"], level="quick", accounts=accounts
        )
        made.address = "203.0.113.10"
        return asyncio.run(prove(made, steps))

    return run


def failed(proof):
    return {each.name: (each.diagnostics[0].code, each.message) for each in proof.failed}


def test_a_good_switch_is_green(proven):
    proof = proven()
    assert failed(proof) == {}
    skipped = [each.name for each in proof.results if each.status == "skipped"]
    assert skipped == ["certificate"]
    assert len(proof.traces) > 4


@pytest.mark.parametrize(
    ("fault", "step", "code", "text"),
    [
        ("open", "password", "SD906", "without a password"),
        ("answers twice", "password", "SD906", "without a password"),
        ("refuses", "REGISTER", "SD906", "503"),
        ("expired", "REGISTER", "SD906", "for 0 s"),
        ("unbound", "REGISTER", "SD906", "without binding"),
        ("no INVITE", "call", "SD907", ""),
        ("no ACK", "call", "SD907", "ACK"),
        ("no BYE", "call", "SD907", "BYE"),
        ("no CANCEL", "CANCEL", "SD907", "CANCEL"),
        ("no REFER", "blind transfer", "SD907", "REFER"),
        ("no NOTIFY", "blind transfer", "SD907", "NOTIFY"),
        ("busy is absent", "busy", "SD907", "480"),
        ("absent is busy", "absent", "SD907", "486"),
        ("both answers", "two devices", "SD907", ""),
        ("no BYE for the surplus", "two devices", "SD907", "nothing"),
        ("no service", "service", "SD908", "503"),
        ("wrong media", "service", "SD908", "10.0.0.1"),
    ],
)
def test_each_fault_is_found_by_its_step(proven, fault, step, code, text):
    found = failed(proven(fault))
    assert step in found
    assert found[step][0] == code
    assert text in found[step][1]


def test_a_failed_registration_skips_the_calls(proven):
    proof = proven("refuses")
    statuses = {each.name: each.status for each in proof.results}
    assert statuses["call"] == statuses["service"] == "skipped"


def test_after_a_failure_the_next_step_begins_with_new_phones(proven):
    """The INVITE that still rings at the callee would be taken for the one of the next step."""
    found = failed(proven("no CANCEL"))
    assert list(found) == ["CANCEL"]


def test_one_account_registers_and_calls_services(proven):
    proof = proven(accounts=ACCOUNTS[:1])
    statuses = {each.name: each.status for each in proof.results}
    assert (statuses["REGISTER"], statuses["service"]) == ("ok", "ok")
    assert statuses["call"] == statuses["two devices"] == "skipped"


@pytest.fixture
def own(proven, monkeypatch):
    """The steps of `--user` on a switch with faults."""
    for name in ("ARRIVAL_SECONDS", "FORK_SECONDS", "FORGOTTEN_SECONDS"):
        monkeypatch.setattr(user, name, 0.2)

    def run(*faults):
        steps = (*signalling.STEPS, *user.STEPS)
        return proven(*faults, accounts=ACCOUNTS[:1], steps=steps)

    return run


def test_the_steps_of_one_account_are_green(own):
    proof = own()
    assert failed(proof) == {}
    statuses = {each.name: each.status for each in proof.results}
    assert {statuses[step.name] for step in user.STEPS} == {"ok"}


@pytest.mark.parametrize(
    ("fault", "step", "code", "text"),
    [
        ("open", "phone of a stranger", "SD941", "answered with 200"),
        ("stores first", "phone of a stranger", "SD941", "gets the calls"),
        ("no ACK", "call to itself", "SD907", "ACK of a caller does not reach"),
        ("no BYE", "call to itself", "SD907", "BYE of a caller does not reach"),
        ("believes From", "call of a stranger", "SD941", "in the name of a number"),
        ("answers strangers", "call of a stranger", "SD941", "in the name of a number"),
        ("trunk by From", "call of a trunk", "SD941", "the trunk `kamailio` (200"),
        ("keeps lost", "lost phone", "SD907", "are answered with 500"),
    ],
)
def test_each_fault_is_found_with_one_account(own, fault, step, code, text):
    found = failed(own(fault))
    assert step in found
    assert found[step][0] == code
    assert text in found[step][1]


def test_another_phone_of_the_number_hides_a_lost_one(own):
    """It rings, and nobody can say what the lost one would do."""
    proof = own("another phone")
    assert failed(proof) == {}
    (found,) = (each for each in proof.results if each.name == "lost phone")
    assert (found.status, "other phones of 2001" in found.message) == ("skipped", True)


def test_a_weak_password_of_a_user_is_a_warning(proven):
    account = Account(number="1001", password="1234", title="1001")
    proof = proven(accounts=(account,))
    (found,) = (each for each in proof.results if each.name == "password")
    assert found.status == "ok"
    assert [each.code for each in found.diagnostics] == ["SD302"]


def test_the_candidates_of_a_description():
    sdp = "a=candidate:H 1 UDP 2130706431 203.0.113.10 12000 typ host\r\n"
    sdp += "a=candidate:S 1 UDP 1 2001:db8::1 12000 typ srflx raddr 10.0.0.1 rport 1\r\n"
    assert signalling.candidates(sdp) == ["203.0.113.10", "2001:db8::1"]
