"""What doctor concludes from what it sees, and that it concludes nothing from health."""

import asyncio
import dataclasses
import json
import re
import time

import pytest
from examinations import ADDRESS, HEALTHY, case, daemons, log, nobody
from fakes import FakeHost
from hosts_facts import FOLDER
from test_preflight_firewall import DROP, port, range_of, ruleset

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.host import Result
from sipdeploy.proof.doctor import audio, call, causes, connect, register, report, voicemail, walk
from sipdeploy.proof.doctor.ladder import RUNGS, of_topic
from sipdeploy.proof.doctor.rung import Case, Diagnosis, Rung, RungResult
from sipdeploy.proof.outside.step import StepResult
from sipdeploy.sip.media import MediaState
from sipdeploy.sip.media.description import Candidate, Description

SDP = """\
v=0
m=audio 14322 UDP/TLS/RTP/SAVPF 96
a=rtpmap:96 opus/48000/2
a=fingerprint:sha-256 00:11
a=ice-ufrag:x
a=ice-pwd:y
a=setup:active
a=rtcp-mux
a=candidate:1 1 udp 1 {} 14322 typ host
"""
SHUT = [port(range_of(10000, 20000), protocol="udp"), DROP]
SHUT_OUT = [port(range_of(10000, 20000), protocol="udp", name="sport"), DROP]
EDIT = {
    "edits": "/etc/kamailio/kamailio.cfg\t-\tif (loose_route()) {\n",
    "facts": {"managed": {}, "files": {}},
}


def edited(path):
    """Facts in which a file is not as the last apply wrote it."""
    found = case().facts
    changed = dataclasses.replace(found.files[path], digest="00" * 32)
    return {"files": {**found.files, path: changed}}


def media(**changes):
    """A call with sound that everything is well with, but for these values."""
    pair = Candidate(kind="host", address=ADDRESS, port=14322)
    state = {"ice": "completed", "dtls": "connected", "received": 50, "sent": 60}
    state |= {key: changes.pop(key) for key in [*changes] if key in state}
    counts = changes.pop("counted", {"in stun": 3, "in rtp": 60, "out stun": 3, "out rtp": 50})
    return audio.Media(
        **{
            "number": "6002",
            "who": "1002",
            "kind": "echo",
            "status": "200 OK",
            "answer": Description(SDP.format(changes.pop("address", ADDRESS))),
            "arrived": 53,
            "counted": None if counts is None else audio.Counted(packets=counts),
            "state": MediaState(
                ice=state["ice"],
                dtls=state["dtls"],
                codec="opus/48000",
                direction="sendrecv",
                local=pair,
                remote=pair,
                packets_sent=state["sent"],
                packets_received=state["received"],
            ),
            **changes,
        }
    )


def heard(**changes):
    made = case(**{key: changes.pop(key) for key in ("facts", "edits") if key in changes})
    made.media = media(**changes)
    return made


# --- one cause each ------------------------------------------------------------------------------

T = "\t"
PHONE = {"number": "1002", "address": "192.0.2.7", "device": "JsSIP"}
LOST = [{"event": "lost", "seconds": each, **PHONE} for each in (60, 61, 60, 62)]
WRONG = {
    "event": "refused", "method": "REGISTER", "status": 401, "why": "Wrong Password",
    "address": "192.0.2.7", "from": "1002",
}  # fmt: skip
FOREIGN = {"event": "refused", "method": "BYE", "status": 403, "why": "Not Your Dialog"}
CAUSES = [
    (connect.clock_wrong, {"facts": {"skew_seconds": 86400.0}}, "86400 s ahead of", "set-ntp"),
    (connect.disk_full, {"facts": {"free_bytes": {"/var": 1024}}}, "the disk of /var", "du -xh"),
    (connect.never_applied, {"facts": {"release": 0}}, "not configured `sip1`", "apply sip1"),
    (causes.interrupted, {"facts": {"has_abandoned_run": True}}, "interrupted", "apply sip1"),
    (
        connect.address_missing,
        {"facts": {"addresses": ("10.0.0.9",)}},
        f"no interface with the address `{ADDRESS}`",
        "private_address",
    ),
    (
        connect.wrong_name,
        {"said": "`sip.example.test` has no address in DNS", "code": "SD901"},
        "no address in DNS",
        "look there",
    ),
    (
        causes.down("kamailio"),
        {"daemons": daemons(kamailio=("failed", "exit-code", 0)), "log_kamailio": "bad config\n"},
        "Kamailio does not run on `sip1`: phones cannot connect",
        "systemctl start kamailio",
    ),
    (
        causes.stuck("kamailio"),
        {"processes": "kamailio T\nasterisk S\n"},
        "Kamailio on `sip1` runs and does nothing",
        "systemctl kill -s CONT kamailio",
    ),
    (
        causes.stuck("asterisk"),
        {"asterisk": ""},
        "Asterisk on `sip1` runs and does nothing",
        "systemctl restart asterisk",
    ),
    (
        causes.crashing("kamailio"),
        {"daemons": daemons(kamailio=("running", "success", 4))},
        "restarted it 4 times",
        "install: {kamailio: repository}",
    ),
    (
        causes.memory_full,
        {"shared": "total: 67108864\nfree: 100000\n"},
        "shared memory of Kamailio on `sip1` is full",
        "limits: {connections: N}",
    ),
    (
        causes.connections_full,
        {"connections": "max_connections: 100\nopened_connections: 98\n"},
        "all 100 connections in use",
        "limits: {connections: N}",
    ),
    (
        causes.tables_differ,
        {"differing": "1001\n1002\n"},
        "another password for `1001`, `1002` than",
        "sh /etc/kamailio/tables.sh",
    ),
    (
        causes.rows_missing,
        {"held": "users 1001\nusers 1002\nservices 6001\nservices 6002\n"},
        "does not know the service `6000` of the inventory",
        "sh /etc/kamailio/tables.sh",
    ),
    (
        causes.rows_missing,
        {"held": "users 1001\nservices 6000\n"},
        "does not know the user `1002` of the inventory",
        "sipdeploy apply sip1",
    ),
    (
        causes.not_loaded,
        {"unloaded": "dialplan\n"},
        "does not run with its extensions.conf",
        "reload.sh dialplan",
    ),
    (
        causes.edited("/etc/asterisk/"),
        {
            "facts": edited("/etc/asterisk/rtp.conf"),
            "edits": f"/etc/asterisk/rtp.conf{T}-rtpstart=10000\n",
            "said": "on `sip1`, no ACK arrives",
        },
        "was edited after the last apply, and no ACK arrives",
        "apply sip1 --overwrite",
    ),
    (
        causes.own_file("/etc/kamailio/local.cfg"),
        {"own": "/etc/kamailio/local.cfg\n", "said": "no ACK arrives"},
        "look at your own `/etc/kamailio/local.cfg`",
        "move it away",
    ),
    (
        connect.taken,
        {"facts": {"sockets": "python3"}},
        "`python3` has port 8443",
        "systemctl status 77",
    ),
    (
        connect.not_listening,
        {"facts": {"sockets": 8444}},
        "runs and does not listen on port 8443",
        "apply sip1",
    ),
    (
        connect.closed_by_rule,
        {"facts": {"nftables": ruleset([port(8443), DROP])}},
        "closes port 8443: the rule with the handle 10",
        "nft insert rule inet t c handle 10 tcp dport 8443 accept",
    ),
    (
        connect.closed_in_front,
        {"said": "nothing answers within 3 s"},
        "port 8443 of `sip1` is blocked in front of it",
        "open TCP 8443",
    ),
    (
        connect.refused_certificate,
        {"said": "the certificate expired on 2026-01-01", "code": "SD605"},
        "expired on 2026-01-01",
        "sipdeploy apply sip1",
    ),
    (
        connect.too_many_unproven,
        {"said": "does not open the WebSocket at /ws: HTTP 503"},
        "refuses new WebSockets",
        "htable.dump unproven",
    ),
    (connect.cut_after, {"calls": log(*LOST)}, "cuts their WebSockets after 60 s", "proxy_read"),
    (
        register.registrar_down,
        {"mode": "asterisk", "daemons": daemons(asterisk=("dead", "success", 0))},
        "Asterisk does not run",
        "systemctl start asterisk",
    ),
    (
        register.open_registrar,
        {"said": "`sip1` accepts a REGISTER without a password"},
        "stores registrations before it checks the password",
        "--overwrite",
    ),
    (register.unknown_number, {"user": "1002", "user_": ""}, "does not know", "apply sip1"),
    (
        register.other_password,
        {"user": "1002", "said": "1002 cannot register on `sip1`: 401 Unauthorized"},
        "another password for 1002 than the inventory",
        "apply sip1",
    ),
    (
        register.too_many_phones,
        {
            "user": "1002",
            "said": "1002 cannot register on `sip1`: 503 Service Unavailable",
            "phones": "AoR: 1002\n" + 5 * "\tUser-Agent: JsSIP 3\n",
        },
        "1002 has all 5 phones",
        "max_contacts",
    ),
    (
        register.must_wait,
        {"user": "1002", "failures": "192.0.2.7 31\n"},
        "at 192.0.2.7 sends a wrong password again and again",
        "set-password 1002",
    ),
    (
        register.wrong_password,
        {"user": "1002", "calls": log({"event": "registered", **PHONE}, WRONG, WRONG)},
        "the phone of 1002 at 192.0.2.7 sends a wrong password",
        "sipdeploy phone 1002",
    ),
    (
        call.other_key,
        {"times": "1795399000\n1795399100\n1795398000\n", "calls": log(FOREIGN)},
        "the key that signs calls on `sip1` was changed",
        "end these calls",
    ),
    (
        call.module_missing,
        {"running": "chan_pjsip.so\nres_crypto.so\nres_rtp_asterisk.so\n"},
        "runs without `res_srtp.so`",
        "module load res_srtp.so",
    ),
    (
        call.not_identified,
        {"identify": "Identify: trunk/trunk\n Match: 127.0.0.1:5999/32\n", "said": "401"},
        "expects them from 127.0.0.1:5999",
        "apply sip1",
    ),
    (
        call.calls_full,
        {"channels": "4 active channels\n2 of 2 max active calls (100.00% of capacity)\n"},
        "all 2 calls with services in use",
        "limits: {calls: N}",
    ),
    (
        call.no_common_codec,
        {"said": "answers with 488 Not Acceptable Here", "trunk": " allow   : (g729)\n"},
        "no codec in common",
        "WebRTC phone",
    ),
    (
        call.no_common_codec,
        {"said": "answers with 488 Not Acceptable Here", "trunk": " webrtc   : no\n"},
        "offers no WebRTC",
        "",
    ),
    (
        call.wrong_media_address,
        {"said": f"the service 6000 on `sip1` expects media at 10.0.0.1, not at {ADDRESS}"},
        "announces 10.0.0.1 for media",
        "hosts.sip1.public_address",
    ),
    (
        call.no_phone,
        {"user": "1002", "phones": "error: 404 - AOR not found\n", "calls": log(LOST[0])},
        "1002 has no phone registered",
        "logs sip1 --user 1002",
    ),
    (
        call.refused_calls,
        {
            "user": "1002",
            "calls": log(
                {
                    **WRONG,
                    "method": "INVITE",
                    "status": 404,
                    "why": "Not Found",
                    "number": "1002",
                    "to": "77",
                }
            ),
        },
        "from 1002 to 77, was refused: INVITE refused: Not Found (404)",
        "calls sip1 --user 1002",
    ),
    (audio.closed_in, {"facts": {"nftables": ruleset(SHUT)}}, "closes UDP 10000-20000", "dport"),
    (
        audio.closed_out,
        {"facts": {"nftables": ruleset(SHUT_OUT, hook="output")}},
        "drops what it sends from UDP 10000-20000",
        "udp sport 10000-20000 accept",
    ),
    (
        audio.other_range,
        {"rtp": "Port start: 30000\nPort end: 40000\n"},
        "uses UDP 30000-40000",
        "systemctl restart asterisk",
    ),
    (audio.no_sounds, {"sounds": ""}, "sound files of Asterisk are missing", "apt-get install"),
    (
        audio.no_relay,
        {"rest": "turn: {}", "facts": {}},
        "coturn does not run",
        "systemctl start coturn",
    ),
    (voicemail.no_mailbox, {"user": "1001"}, "1001 has no mailbox", "voicemail: true"),
    (
        voicemail.module_missing,
        {"running": "res_srtp.so\n"},
        "runs without `app_voicemail.so`",
        "module load app_voicemail.so",
    ),
    (
        voicemail.disk_full,
        {"spool": "Filesystem\ntmpfs 1024 1024 0 100% /var/spool/asterisk\n"},
        "the disk of /var/spool/asterisk on `sip1` is full",
        "delete messages",
    ),
    (
        voicemail.disk_full,
        {"spool": "tmpfs 9999 1 9998 1% /var\ntmpfs 10 10 0 100% /var/spool/asterisk\n"},
        "is full",
        "",
    ),
    (
        voicemail.not_writable,
        {"spool": "overlay 264212084 26470864 79920048 25% /\n"},
        "may not write to /var/spool/asterisk",
        "chown -R asterisk:asterisk",
    ),
    (
        voicemail.box_full,
        {"boxes": "1001 3\n1002 100\n"},
        "the mailbox of 1002 is full",
        "deletes messages",
    ),
    (voicemail.greeting_missing, {"sounds": "digits/1\n"}, "no greeting", "apt-get install"),
]


def made(values):
    """A case of the table above, in which sockets are written short."""
    values = dict(values)
    if "user_" in values:
        found = case(user=values["user"])
        sections = {**found.inside.texts, "user": ""}
        found.inside = dataclasses.replace(found.inside, texts=sections)
        return found
    facts = values.get("facts", {})
    if "sockets" in facts:
        change = (
            {"program": facts["sockets"], "pid": 77}
            if isinstance(facts["sockets"], str)
            else {"port": facts["sockets"]}
        )
        sockets = tuple(
            dataclasses.replace(each, **change) if each.port == 8443 else each
            for each in case().facts.sockets
        )
        values["facts"] = {"sockets": sockets}
    return case(values.pop("mode", "kamailio"), **values)


@pytest.mark.parametrize(
    ("verdict", "values", "message", "fix"),
    CAUSES,
    ids=[f"{number}-{row[0].__name__}" for number, row in enumerate(CAUSES)],
)
def test_a_cause_is_told_with_its_remedy(verdict, values, message, fix):
    found = verdict(made(values))
    assert found is not None
    assert message in found.message
    assert fix in found.help
    assert "SD930" <= found.code <= "SD938"


FAULTS = [(rung.name, fault) for rung in RUNGS for fault in rung.faults]


@pytest.mark.parametrize(("rung", "fault"), FAULTS)
@pytest.mark.parametrize("mode", ["kamailio", "asterisk"])
def test_a_healthy_host_has_no_fault(rung, fault, mode):
    assert fault(case(mode)) is None, rung


def test_every_verdict_says_nothing_about_a_host_that_was_not_asked():
    found = dataclasses.replace(case(), inside=None)
    for rung in RUNGS:
        for verdict in rung.faults:
            assert verdict(found) is None, rung.name


# --- the call with sound -------------------------------------------------------------------------

NOTHING = {"ice": "failed", "dtls": "new", "received": 0, "sent": 0}
CALLS = [
    (
        {**NOTHING, "arrived": 0, "counted": {}},
        "1002 sends, the host never receives: UDP 10000-20000 is blocked in front of it",
        "open UDP 10000-20000",
    ),
    (
        {**NOTHING, "arrived": 0, "counted": {"in stun": 9, "out stun": 9}},
        "the host sends, 1002 never receives: UDP 10000-20000 is blocked on the way back",
        "rules for outgoing traffic",
    ),
    (
        {**NOTHING, "arrived": 0, "counted": {"in stun": 9}},
        "1002 sends and the host receives, but it sends nothing back",
        "nft list ruleset",
    ),
    (
        {
            **NOTHING,
            "arrived": 0,
            "counted": {"in stun": 9},
            "facts": {"nftables": ruleset(SHUT_OUT, hook="output")},
        },
        "drops what it sends from UDP 10000-20000: the rule with the handle 10",
        "nft insert rule",
    ),
    (
        {
            **NOTHING,
            "arrived": 8,
            "counted": {"in stun": 9, "out stun": 8},
            "facts": {"nftables": ruleset(SHUT)},
        },
        "closes UDP 10000-20000: the rule with the handle 10",
        "nft insert rule",
    ),
    (
        {**NOTHING, "arrived": 8, "counted": {"in stun": 9, "out stun": 8}},
        "what 1002 sends arrives at the host, and Asterisk does not answer it",
        "journalctl -b -u asterisk",
    ),
    (
        {"dtls": "failed", "received": 0, "counted": {"in dtls": 3, "out stun": 3}},
        "the encryption (DTLS) with `sip1` does not: it is failed",
        "small MTU",
    ),
    ({"received": 0}, "1002 sends 60 packets of sound, and the host sends none", "channelstats"),
    ({}, "the host sends sound, and not what 1002 says", "channelstats"),
    ({"kind": "ivr-test"}, "the host sends 50 packets, all of them silence", "channelstats"),
    ({"address": "10.0.0.1"}, "announces 10.0.0.1 for media", "public_address"),
    (
        {"answer": Description(SDP.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP").format(ADDRESS))},
        "its audio is RTP/AVP, not DTLS-SRTP",
        "sipdeploy apply sip1",
    ),
    ({"status": "503 Service Unavailable"}, "refuses a call with sound: 503", "journalctl"),
    (
        {**NOTHING, "arrived": 0, "counted": None, "problem": "ICE did not connect"},
        "1002 and the host do not connect: UDP 10000-20000 is probably blocked",
        "with SSH, `sipdeploy doctor sip1 audio` counts",
    ),
]


@pytest.mark.parametrize(("changes", "message", "fix"), CALLS)
def test_a_silent_call_is_explained_by_its_packets(changes, message, fix):
    found = walk.first(audio.CALL_WITH_SOUND, heard(**changes))
    assert message in found.message
    assert fix in found.help
    assert found.code == "SD936"


def test_the_evidence_names_both_sides():
    found = walk.first(audio.CALL_WITH_SOUND, heard(**CALLS[1][0]))
    text = " ".join(found.notes)
    assert f"the service offers host {ADDRESS}:14322" in text
    assert "here: ICE failed, DTLS new" in text
    assert "at the host: in 9 of ICE, 0 of DTLS, 0 of sound; out 9 of ICE" in text


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("ready\nin stun 3 192.0.2.7\nout rtp 50 192.0.2.7\n", {"in stun": 3, "out rtp": 50}),
        ("ready\n", {}),
        ("no packet socket: Operation not permitted\n", None),
        ("", None),
        (None, None),
    ],
)
def test_packets_of_the_host_are_counted_only_if_it_could_count(text, counted):
    found = audio.parse_counts(text)
    assert (found.packets if found else None) == counted


# --- causes that need care -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "seconds",
    [(60, 61), (60, 300, 12, 61, 5), (700, 700, 701, 700), (1, 200, 400, 90), (4, 4, 4, 4)],
)
def test_connections_that_end_at_any_time_are_no_proxy(seconds):
    lost = [{"event": "lost", "seconds": each, **PHONE} for each in seconds]
    assert connect.cut_after(case(calls=log(*lost))) is None


def test_connections_that_are_lost_at_once_or_long_ago_are_no_proxy():
    assert connect.cut_after(case(calls=log(*LOST, apart=0))) is None
    assert connect.cut_after(case(calls=log(*LOST), clock="1795403700.0")) is None


def test_a_wrong_password_that_was_corrected_is_no_trouble():
    rows = log(WRONG, WRONG, {"event": "registered", **PHONE})
    assert register.wrong_password(case(user="1002", calls=rows)) is None


def test_a_user_whose_phone_is_there_has_one():
    found = case(user="1002", phones="AoR: 1002@sip.example.test\n\tAddress: sip:x\n")
    assert call.no_phone(found) is None


def test_an_old_key_explains_no_new_refusal():
    """Refusals from before the change, a key that Kamailio has not read, and an old key."""
    for times in (
        "1795399000\n1795400100\n1795398000\n",  # Kamailio was restarted since
        "1795400100\n1795399000\n1795398000\n",
        "1795398000\n1795399100\n1795399000\n",  # the key is that of the last apply
    ):
        assert call.other_key(case(times=times, calls=log(FOREIGN))) is None


def test_a_host_that_does_not_answer_at_all_is_down():
    made = case(said="port 8443 cannot be reached: nothing answers within 3 s")
    made.inside = None
    made.unasked = (Diagnostic("SD501", "`sip1` does not answer on port 22"),)
    assert connect.gone(made).message == f"`sip1` does not answer at {ADDRESS}, on no port"


def test_a_port_that_answers_elsewhere_means_a_wrong_public_address():
    made = case(
        said="nothing answers", more=", public_address: 192.0.2.99, private_address: " + ADDRESS
    )
    made.elsewhere = ADDRESS
    found = connect.wrong_public_address(made)
    assert f"answers at {ADDRESS}, and not at 192.0.2.99" in found.message


# --- the walk ------------------------------------------------------------------------------------


def rung(name, *, status=None, fault="", cause="", topic="connect"):
    def told(text):
        return (lambda _: Diagnostic("SD930", text) if text else None,)

    async def ask(_):
        if status == "failed":
            raise OSError("the wire is cut")
        return "seen"

    return Rung(
        name=name,
        topic=topic,
        code="SD932",
        ask=ask if status else None,
        faults=told(fault),
        causes=told(cause),
    )


def walked(*rungs, **values):
    return asyncio.run(walk.walk(case(**values), rungs))


def test_the_walk_stops_at_the_first_broken_rung():
    found = walked(rung("one", status="ok"), rung("two", fault="it leaks"), rung("three"))
    assert [(each.name, each.status) for each in found.results] == [
        ("one", "ok"),
        ("two", "failed"),
    ]
    assert found.verdict.message == "it leaks"
    assert found.exit_code == 1


def test_a_failure_that_nothing_explains_is_told_as_it_is():
    found = walked(rung("one", status="failed"))
    assert found.verdict.code == "SD932"
    assert "the wire is cut" in found.verdict.message
    assert "journalctl" in found.verdict.help


def test_a_cause_explains_a_failure_and_only_a_failure():
    assert walked(rung("one", status="failed", cause="rust")).verdict.message == "rust"
    assert walked(rung("one", status="ok", cause="rust")).verdict is None


def test_without_the_host_only_the_outside_is_asked():
    asked = case()
    asked.inside, asked.unasked = None, (Diagnostic("SD501", "no way in", help="knock"),)
    asked.subject.probes = None
    rungs = (rung("out", status="ok"), rung("in"), rung("later", status="ok", topic="call"))
    found = asyncio.run(walk.walk(asked, rungs))
    assert [each.status for each in found.results] == ["ok", "skipped", "skipped"]
    assert found.exit_code == 4
    text = report.as_text(found)
    assert "nothing is wrong as far as this machine can see" in text
    assert "no way in" in text
    assert "knock" in text


def test_the_topics_are_ladders():
    names = {topic: [each.name for each in of_topic(topic)] for topic in ("connect", "voicemail")}
    assert names["connect"] == ["host", "name", "port", "certificate", "WebSocket", "wrong path"]
    assert not {"call with sound", "calls of the user"} & {*names["voicemail"]}
    assert names["voicemail"][-1] == "voicemail"
    assert len(of_topic(None)) == len(RUNGS)


# --- the report ----------------------------------------------------------------------------------

DIAGNOSIS = Diagnosis(
    host="sip1",
    topic="audio",
    results=(
        RungResult(name="port", status="ok", message="port 8443 at 192.0.2.1"),
        RungResult(name="call with sound", status="failed", message="x", seconds=1.23456),
    ),
    verdict=Diagnostic("SD936", "it is \x1b[31mshut", notes=("seen", "counted"), help="open it"),
)


def test_the_text_has_rungs_verdict_evidence_and_remedy():
    assert report.as_text(DIAGNOSIS) == (
        "sip1  port ................... ok      port 8443 at 192.0.2.1\n"
        "sip1  call with sound ........ broken\n"
        "sip1  [SD936] it is \ufffd[31mshut\n"
        "  evidence   seen\n"
        "             counted\n"
        "  type       open it"
    )
    assert report.as_text(DIAGNOSIS, has_shown=True).startswith("sip1  [SD936]")


def test_the_data_has_the_same():
    data = json.loads(report.as_json(DIAGNOSIS))
    assert data["verdict"]["rung"] == "call with sound"
    assert data["verdict"]["evidence"] == ["seen", "counted"]
    assert data["verdict"]["type"] == "open it"
    assert [each["status"] for each in data["rungs"]] == ["ok", "broken"]
    sound = dataclasses.replace(DIAGNOSIS, verdict=None, results=DIAGNOSIS.results[:1])
    assert json.loads(report.as_json(sound))["verdict"] is None
    assert "nothing is wrong with audio: 1 rung holds" in report.as_text(sound)


def test_a_step_result_without_problem_says_nothing():
    made = Case(subject=case().subject, connect=nobody, result=StepResult(name="x", status="ok"))
    assert (made.problem, made.said, made.number) == (None, "", "")


# --- the examination -----------------------------------------------------------------------------


def answering(*left_out):
    """A host that answers the script, but for these sections."""
    clock = f"\x1eclock\n{time.time()}\n".encode()
    text = (FOLDER / "sid-applied.txt").read_bytes()
    recorded_facts = re.sub(rb"\x1eclock\n[0-9.]+\n", clock, text)
    sections = "".join(
        f"\x1e{name}\n{text}" for name, text in HEALTHY.items() if name not in left_out
    )
    return FakeHost(
        answers={"doctor": Result(status=0, stdout=recorded_facts + sections.encode())}
    )


def examined(host):
    found = case(user="1002")
    found.inside = None
    found.connect = lambda: host
    found.subject.probes = object()
    return found, asyncio.run(walk.climb(RUNGS[0], found))


def test_a_host_is_examined_in_one_exchange():
    host = answering()
    found, (result, verdict) = examined(host)
    assert (result.status, verdict) == ("ok", None), verdict
    assert found.inside.daemons["kamailio"].answers
    ((name, *arguments),) = host.asked
    assert (name, arguments[-1]) == ("doctor", "1002")


def test_an_examination_that_does_not_end_is_no_verdict():
    found, (result, verdict) = examined(answering("examined"))
    assert (result.status, verdict) == ("skipped", None)
    assert [each.code for each in found.unasked] == ["SD939"]
    assert found.subject.probes is None
    assert [each.number for each in found.subject.accounts] == ["1002"]


def test_the_state_of_a_stuck_daemon_lacks_what_only_it_knows():
    host = answering("connections", "shared", "differing", "running", "channels", "identify")
    found, (_, verdict) = examined(host)
    assert verdict is None
    for rung in RUNGS[1:]:
        for fault in rung.faults:
            fault(found)  # none fails
