"""The lines of a host as calls, logs and ladders; hostile lines give no traceback."""

import csv
import datetime as dt
import io
import json
import re

import pytest
from fakes import FakeHost
from hypothesis import given, settings
from hypothesis import strategies as st

from sipdeploy.__main__ import main
from sipdeploy.cli.daytwo import reading
from sipdeploy.host import Result
from sipdeploy.operation import calls, events, journal, ladder, lines

ZONE = dt.UTC
NOON = 1_795_694_400  # 2026-11-26 12:00 UTC


def line(message, when=NOON, unit="kamailio.service", program="sipdeploy-calls", **more):
    text = message if isinstance(message, str | list) or message is None else json.dumps(message)
    return json.dumps(
        {
            "__REALTIME_TIMESTAMP": str(int(when * 1_000_000)),
            "__CURSOR": "s=1;i=2",
            "_SYSTEMD_UNIT": unit,
            "SYSLOG_IDENTIFIER": program,
            "MESSAGE": text,
            **more,
        }
    )


def call(**more):
    base = {"event": "call", "id": "abc", "from": "1001", "to": "1002", "kind": "phone"}
    return {**base, "began": NOON, "phones": 1, "status": 480, "why": "", **more}


def parsed(*rows):
    return list(events.events(journal.entries(rows)))


def results(*rows, since=0):
    return [row.result for row in calls.rows(parsed(*rows), since)]


# --- why a phone did not ring --------------------------------------------------------------------

PHONE = {"number": "1002", "address": "198.51.100.7:4411", "device": "JsSIP 3.13"}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (call(phones=0), "no phone of 1002 was registered"),
        (call(status=486), "1002 was busy (486)"),
        (call(status=603, rang=NOON + 1), "1002 declined, 1 phone rang (603)"),
        (call(status=487, rang=NOON + 1), "the caller cancelled after 5 s, 1 phone rang (487)"),
        (call(status=408, rang=NOON + 1, phones=2), "no answer in 30 s: 2 phones rang"),
        (call(status=408), "no phone of 1002 replied (408)"),
        (call(status=404, to="1777", phones=None), "1777 is not a number (404)"),
        (call(status=503, why="Too Many Calls"), "refused (503 Too Many Calls)"),
        (
            call(status=408, kind="mailbox", missed=486),
            "1002 was busy, and Asterisk did not answer (the mailbox)",
        ),
        (call(status=408, kind="echo", phones=None), "Asterisk did not answer (echo)"),
        (call(status=503, kind="echo", phones=None), "echo refused (503)"),
        (call(status=700), "failed (700)"),
    ],
)
def test_a_call_that_nobody_answered_says_why(record, expected):
    assert results(line(record, NOON + 5)) == [expected]


def test_an_answered_call_says_where_how_long_and_who_hung_up():
    record = call(
        status=200,
        answered=NOON + 4,
        seconds=61,
        ended="callee",
        address="198.51.100.7:4411",
        device="JsSIP 3.13",
    )
    assert results(line(record, NOON + 65)) == [
        "answered at 198.51.100.7:4411 (JsSIP 3.13) after 4 s, lasted 1 min 1 s, 1002 hung up"
    ]


def test_the_mailbox_a_service_a_restart_and_an_end_that_nobody_saw():
    box = call(kind="mailbox", missed=486, answered=NOON, seconds=9, ended="caller", status=200)
    service = call(kind="echo", to="6000", answered=NOON, seconds=5, ended="caller", status=200)
    old = {"event": "call", "id": "x", "from": "1001", "to": "1002", "ended": "caller"}
    lasting = call(answered=NOON, status=0)
    said = results(*(line(each) for each in (box, service, {**old, "status": 200}, lasting)))
    assert sorted(said) == [
        "1002 was busy, the mailbox answered, lasted 9 s, 1001 hung up",
        "answered, no end after 4 h: both phones lost their connection, or it still lasts",
        "began before Kamailio started, 1001 hung up",
        "echo answered, lasted 5 s, 1001 hung up",
    ]


def test_a_missing_phone_is_explained_by_what_happened_before():
    lost = {"event": "lost", **PHONE, "seconds": 60}
    wrong = {"event": "refused", "method": "REGISTER", "status": 401, "why": "Wrong Password"}
    wrong |= {"from": "1002", "to": "1002", "number": "", "address": "203.0.113.9:1"}
    for before, words in (
        (lost, "198.51.100.7:4411 lost its connection at "),
        (wrong, "REGISTER from 203.0.113.9:1 refused: Wrong Password"),
    ):
        (said,) = results(
            line(before, NOON + 0.2), line(call(phones=0), NOON + 0.3), since=NOON - 1
        )
        assert said.startswith("no phone of 1002 was registered (")
        assert words in said


def test_a_refused_stranger_does_not_hide_that_the_phone_is_there():
    """A wrong password while a phone is registered explains nothing."""
    there = {"event": "registered", **PHONE}
    wrong = {"event": "refused", "method": "REGISTER", "why": "Wrong Password", "from": "1002"}
    (said,) = results(line(there), line(wrong), line(call(phones=0)))
    assert said == "no phone of 1002 was registered"


def test_a_connection_lost_in_a_call_is_said_with_the_call():
    ended = call(status=200, answered=NOON, seconds=30, ended="caller")
    bye = {
        "event": "refused",
        "method": "BYE",
        "status": 480,
        "why": "Connection Lost",
        "id": "abc",
    }
    (said,) = results(line(ended), line(bye))
    assert said.endswith("1001 hung up; the other phone had lost its connection")


def test_an_invite_that_was_refused_before_it_was_a_call_is_a_row():
    refusal = {"event": "refused", "method": "INVITE", "status": 503, "why": "Too Many Failures"}
    refusal |= {"from": "1001", "to": "1002", "number": "", "address": "203.0.113.9:1"}
    (row,) = calls.rows(parsed(line(refusal)))
    assert (row.caller, row.callee) == ("1001", "1002")
    assert row.result == "INVITE refused: Too Many Failures (503), from 203.0.113.9:1"


# --- lines of others -----------------------------------------------------------------------------


def test_only_kamailio_can_write_a_line_of_the_call_log():
    record = call(phones=0)
    assert not parsed(line(record, unit="ssh.service"), line(record, unit=""))
    assert not parsed(line(record, program="kamailio"))


def test_a_line_with_control_characters_reaches_no_terminal():
    record = call(to="1002\x1b[2J\u202e\n", why="\x9b31m", status=480)
    row = calls.rows(parsed(line(record)))
    text = calls.as_text(row, ZONE)
    assert text.isprintable()
    assert "\\x1b[2J" in text


def test_a_message_that_is_no_utf_8_is_shown():
    entry = journal.parse(line(list(b"caf\xe9 \x1b[0m\x1b[2J"), program="asterisk"))
    assert entry is not None
    assert entry.text == "caf\ufffd \\x1b[2J"


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
JSON = (
    PLAIN | st.lists(PLAIN, max_size=3) | st.dictionaries(st.text(max_size=3), PLAIN, max_size=2)
)
KEYS = (
    *("event", "id", "from", "to", "kind", "status", "why", "began", "rang", "answered", "phones"),
    *("missed", "seconds", "ended", "address", "device", "method", "number", "way", "hop", "what"),
)
NAMES = st.sampled_from(["call", "refused", "registered", "lost", "limit", "sip", "x"])
PROGRAMS = st.sampled_from(["sipdeploy-calls", "sipdeploy-trace", "x"])
RECORDS = st.fixed_dictionaries({"event": NAMES | JSON}, optional=dict.fromkeys(KEYS[1:], JSON))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(RECORDS, PROGRAMS), max_size=4))
def test_no_record_gives_a_traceback_or_a_control_character(records):
    rows = [line(record, program=program) for record, program in records]
    found = list(journal.entries(rows))
    several = calls.rows(list(events.events(found)))
    texts = [
        calls.as_text(several, ZONE),
        calls.as_csv(several),
        json.dumps(calls.as_data(several)),
        "\n".join(lines.as_text(each, ZONE) for each in lines.folded(lines.lines(found))),
        ladder.draw(list(ladder.messages(found)), ZONE),
        calls.as_text(calls.rows([events.masked(e) for e in events.events(found)]), ZONE),
    ]
    for text in texts:
        assert text.replace("\n", "").isprintable()


@given(st.text() | JSON.map(json.dumps))
def test_no_line_gives_a_traceback(text):
    list(journal.entries([text, line(text), line(text, program="sipdeploy-trace")]))
    list(lines.folded(lines.lines(journal.entries([line(text, program="kamailio")]))))


@given(st.text())
def test_no_time_gives_a_traceback(text):
    journal.instant(text, dt.datetime(2026, 11, 27, 10, 20, tzinfo=ZONE))


@pytest.mark.parametrize("text", ["x" * 3000, "\x1b" * 500, "\\" * 1200])
def test_a_line_that_the_connection_has_cut_off_is_shown(text):
    """A line that is reported while a command runs has at most 2000 characters."""
    entry = journal.parse(line(text, program="asterisk")[:2000])
    assert entry is not None
    assert entry.text.startswith((text[:100], "\\x1b\\x1b"))


def test_huge_numbers_and_times_are_unknown():
    assert journal.parse(line({}, when=10**12)) is None
    (event,) = parsed(line(call(began=10**400, phones=-1, seconds=True)))
    assert (event.began, event.phones, event.seconds) == (None, None, None)


# --- output --------------------------------------------------------------------------------------


def test_no_cell_of_the_csv_is_a_formula():
    record = call(to="=cmd()", why="", device="+1", answered=NOON, kind="phone")
    cells = list(csv.reader(io.StringIO(calls.as_csv(calls.rows(parsed(line(record)))))))
    assert cells[0][:3] == ["began", "from", "to"]
    assert cells[1][2] == "'=cmd()"
    assert not [cell for cell in cells[1] if cell[:1] in {"=", "+", "-", "@"}]


def test_masked_calls_have_no_number_and_no_address():
    lost = {"event": "lost", **PHONE}
    record = call(phones=0, id="1002@198.51.100.7")
    address = "[2001:db8:1:2::7]:4411"
    answered = call(answered=NOON, address=address, why="SIP;text=1002", device="Zoë's phone")
    found = [events.masked(event) for event in parsed(line(lost), line(record), line(answered))]
    assert [event.device for event in found] == ["", "", ""]
    text = calls.as_text(calls.rows(found), ZONE) + calls.as_csv(calls.rows(found))
    assert "**01 -> **02" in text
    assert "198.51.100.*" in text
    assert "2001:db8:1:*" in text
    assert not re.search(r"\b100[12]\b|100\.7|:2::7", text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", "2026-11-27 08:20:00"),
        ("90s", "2026-11-27 10:18:30"),
        ("10:14", "2026-11-27 10:14:00"),
        ("10:30", "2026-11-26 10:30:00"),
        ("2026-11-26", "2026-11-26 00:00:00"),
        ("2026-11-26 09:01", "2026-11-26 09:01:00"),
    ],
)
def test_times_of_since(text, expected):
    then = journal.instant(text, dt.datetime(2026, 11, 27, 10, 20, tzinfo=ZONE))
    assert then is not None
    assert journal.clock(then, ZONE) == expected


@pytest.mark.parametrize("text", ["", "2", "h", "25:00", "yesterday", "²h", "-1h"])
def test_other_times_are_refused(text):
    assert journal.instant(text, dt.datetime(2026, 11, 27, tzinfo=ZONE)) is None


CLOSED_TAB = (
    "ERROR: <core> [core/tcp_read.c:375]: tcp_read_data(): error reading: Connection reset by"
    " peer (104) ([127.0.0.1]:52408 -> [127.0.0.1]:8443)\n"
    "ERROR: <core> [core/tcp_read.c:309]: tcp_read_data(): -> [127.0.0.1]:8443)\n"
    "ERROR: <core> [core/tcp_read.c:1734]: tcp_read_req(): error reading - c: 0x7f11 r: 0x7f12"
).splitlines()


def test_lines_of_a_closed_connection_are_one():
    rows = [
        *(line(each, NOON + i / 10, program="kamailio") for i, each in enumerate(CLOSED_TAB)),
        line("INFO: tls [m.c:1]: OpenSSL", NOON + 0.5, program="kamailio"),
        line("Listening on", NOON + 0.6, program="kamailio"),
        line("ERROR: tm [t.c:1]: no memory", NOON + 1, program="kamailio"),
        line(CLOSED_TAB[0], NOON + 9, program="kamailio"),
        line(CLOSED_TAB[0], NOON + 20, program="kamailio"),
    ]
    found = list(lines.lines(journal.entries(rows)))
    assert [each.text for each in lines.folded(found)] == [
        "a connection has closed (3 lines, see -v)",
        "for information (2 lines, see -v)",
        "ERROR: tm [t.c:1]: no memory",
        "a connection has closed (1 line, see -v)",
        "a connection has closed (1 line, see -v)",
    ]


def test_a_stranger_cannot_hide_a_line_as_noise():
    """The text of a message that Kamailio quotes is no line about a connection."""
    text = "ERROR: <core> [core/parser/msg_parser.c:1]: parse_msg(): x tcp_read_data(): EOF"
    (found,) = lines.lines(journal.entries([line(text, program="kamailio")]))
    assert not lines.noise(found)


def test_logs_of_a_number_and_of_a_call():
    rows = [
        line(call(status=486)),
        line(call(id="other", to="1003")),
        line("NOTICE: auth-fail user=1002 ip=203.0.113.7", program="kamailio"),
        line("NOTICE: user=10021", program="kamailio"),
        line("channel of abc", program="asterisk", unit="asterisk.service"),
        line("Started Kamailio.", program="systemd", unit="init.scope"),
    ]
    of_user = [each.text for each in lines.lines(journal.entries(rows), number="1002")]
    assert of_user == [
        "1001 -> 1002: 1002 was busy (486)",
        "NOTICE: auth-fail user=1002 ip=203.0.113.7",
    ]
    of_call = [each.text for each in lines.lines(journal.entries(rows), call="abc")]
    assert of_call == ["1001 -> 1002: 1002 was busy (486)", "channel of abc"]
    every = [lines.as_text(each, ZONE) for each in lines.lines(journal.entries(rows))]
    assert every[0] == "2026-11-26 12:00:00.000  calls      1001 -> 1002: 1002 was busy (486)"


LADDER = """\
                198.51.100.7:4411      Kamailio               203.0.113.9:5522       Asterisk
                --- 1001 -> 1002, Call-ID abc
12:00:00.000    |- INVITE +digest +SDP>|                      |                      |
12:00:00.000    |                      |---- INVITE +SDP ---->|                      |
12:00:00.000    |                      |<-- 486 Busy Here ----|                      |
                    Reason: SIP;cause=17
12:00:00.000    |                      |---------------- INVITE +SDP --------------->|
12:00:00.000    |                      |<--------------- 200 OK +SDP ----------------|
12:00:00.000    |-------- BYE -------->|                      |                      |
12:00:00.000    |                      |<----------------- 200 BYE ------------------|
"""


def sip(way, hop, what, number="1 INVITE", **more):
    record = {"event": "sip", "way": way, "hop": hop, "what": what, "from": "1001", "to": "1002"}
    return line({**record, "cseq": number, "id": "abc", **more}, program="sipdeploy-trace")


def test_a_trace_is_a_ladder():
    rows = [
        sip("in", "198.51.100.7:4411", "INVITE", sdp=True, digest=True),
        sip("out", "203.0.113.9:5522", "INVITE", sdp=True),
        sip("in", "203.0.113.9:5522", "486 Busy Here", why="SIP;cause=17"),
        sip("out", "asterisk", "INVITE", sdp=True),
        sip("in", "asterisk", "200 OK", sdp=True),
        sip("in", "198.51.100.7:4411", "BYE", "2 BYE"),
        sip("in", "asterisk", "200 OK", "2 BYE"),
    ]
    drawn = ladder.draw(list(ladder.messages(journal.entries(rows))), ZONE)
    assert f"{drawn}\n" == LADDER


# --- commands ------------------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host that answers with the lines in `rows`."""
    text = (
        "domain: sip.example.com\nemail: a@example.com\nhosts: {sip1: {address: 203.0.113.10}}\n"
    )
    (tmp_path / "inventory.yaml").write_text(text + "users: {1001: {}, 1002: {}}\n")
    monkeypatch.chdir(tmp_path)
    machine = FakeHost()
    monkeypatch.setattr(reading, "connect", lambda *_: machine)
    return machine


def answer(machine, *rows, script="journal"):
    text = "\x1ejournal\n" + "".join(f"{row}\n" for row in rows) + "\x1eend\n"
    machine.answers[script] = Result(status=0, stdout=text.encode())


def test_calls_prints_a_table_json_and_csv(host, capsys):
    answer(host, line(call(phones=0)), line(call(to="1003", status=486)))
    assert main(["calls", "sip1", "--user", "1002", "--since", "2026-11-26"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "1001 -> 1002  no phone of 1002 was registered" in out
    assert main(["calls", "sip1", "--since", "2026-11-26", "--format", "json"]) == 0
    assert [row["callee"] for row in json.loads(capsys.readouterr().out)] == ["1002", "1003"]
    assert main(["calls", "sip1", "--since", "2026-11-26", "--format", "csv", "--mask"]) == 0
    assert "**01,**02" in capsys.readouterr().out
    assert host.asked[0][0] == "journal"
    assert host.asked[0][5:] == journal.OF_CALLS


def test_the_host_is_asked_for_earlier_lines_too(host):
    answer(host)
    assert main(["calls", "sip1", "--since", "2026-11-26 12:00"]) == 0
    then = dt.datetime(2026, 11, 26, 12).astimezone().timestamp()
    assert int(host.asked[0][2]) == then - 12 * 3600


@pytest.mark.parametrize(
    "argv",
    [
        ["calls", "sip1", "--since", "soon"],
        ["calls", "sip1", "--user", "1002; reboot"],
        ["logs", "sip1", "--user", "١٢"],
        ["trace", "sip1", "--user", "bob"],
    ],
)
def test_wrong_options_are_refused_before_the_host_is_asked(host, argv, capsys):
    assert main(argv) == 2
    assert "SD002" in capsys.readouterr().err
    assert not host.asked


def test_a_journal_that_cannot_be_read_is_a_problem(host, capsys):
    host.answers["journal"] = Result(status=1, stderr=b"Failed to open files: x\n")
    for command in ("calls", "logs"):
        assert main([command, "sip1"]) == 4
        err = capsys.readouterr().err
        assert "SD731" in err
        assert "Failed to open files: x" in err


def test_a_log_that_is_too_long_says_from_where_it_is(host, capsys, monkeypatch):
    monkeypatch.setattr(reading, "MOST_LINES", 2)
    answer(host, line(call()), line(call()))
    assert main(["calls", "sip1"]) == 0
    assert "only the newest 2 lines are read, since 2026-11-2" in capsys.readouterr().err


def test_masked_logs_leave_out_what_may_have_numbers(host, capsys):
    answer(host, line(call(status=486)), line("user=1001", program="kamailio"))
    assert main(["logs", "sip1", "--mask", "--since", "2026-11-26"]) == 0
    out = capsys.readouterr().out
    assert "**01 -> **02" in out
    assert "1001" not in out


def test_logs_follows_from_its_last_line(host, capsys, monkeypatch):
    answer(host, line(call(status=486)))
    asked = []

    def follow(machine, cursor, match, seconds, on_line):
        del machine, match, seconds
        asked.append(cursor)
        if len(asked) == 2:
            raise KeyboardInterrupt
        on_line(line("new line", program="asterisk", unit="asterisk.service", __CURSOR="s=9"))
        on_line("journal")

    monkeypatch.setattr(reading, "follow", follow)
    assert main(["logs", "sip1", "-f", "--since", "2026-11-26"]) == 0
    assert asked == ["s=1;i=2", "s=9"]
    assert "new line" in capsys.readouterr().out


def test_trace_draws_what_came(host, capsys):
    answer(host, sip("in", "198.51.100.7:4411", "INVITE"), script="trace")
    assert main(["trace", "sip1", "--user", "1002", "--seconds", "5"]) == 0
    assert "INVITE" in capsys.readouterr().out
    assert ("trace", "1002", "5") in host.asked
    host.answers["trace"] = Result(status=1, stderr=b"somebody traces 1001 for another 30 s\n")
    assert main(["trace", "sip1", "--user", "1002"]) == 4
    assert "SD732" in capsys.readouterr().err
