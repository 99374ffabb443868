"""The status of hosts: verdicts on recorded states, formats, and the script."""

import datetime as dt
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import FakeHost
from hypothesis import given
from hypothesis import strategies as st
from status_states import GONE, STATES, answer, changes, status_of

from sipdeploy import host as hosts
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import Result, run_script, script_text, sections
from sipdeploy.host.local import LocalHost
from sipdeploy.operation.status import formats, judging, lengths, metrics, state, values
from sipdeploy.proof import record
from sipdeploy.proof.outside.step import Proof, StepResult

PAGE = Path(__file__).parent.parent.parent / "docs/status.md"
WORDS = {"fine": 0, "look": 1, "broken": 1, "unknown": 4}
# State -> the verdict on the host, and the values that are not fine.
EXPECTED = {
    "fine": ("fine", {}),
    "kamailio-down": (
        "broken",
        {
            "kamailio": "broken",
            **dict.fromkeys(
                ("certificate", "phones", "calls", "memory", "connections"), "unknown"
            ),
        },
    ),
    "port-stuck": ("broken", {"kamailio": "broken", "certificate": "unknown"}),
    "asterisk-down": ("broken", {"asterisk": "broken"}),
    "asterisk-stuck": ("broken", {"asterisk": "broken"}),
    "asterisk-crashed": ("look", {"asterisk": "look"}),
    "unit-disabled": ("look", {"asterisk": "look"}),
    "rules-gone": ("broken", {"firewall": "broken"}),
    "relay-down": ("broken", {"coturn": "broken"}),
    "certificate-soon": ("look", {"certificate": "look"}),
    "certificate-expired": ("broken", {"certificate": "broken"}),
    "certificate-other": ("look", {"certificate": "look"}),
    "renewal-failed": ("look", {"certificate": "look"}),
    "disk-full": ("broken", {"disk": "broken"}),
    "disk-nearly-full": ("look", {"disk": "look"}),
    "memory-full": ("broken", {"memory": "broken"}),
    "connections-nearly-full": ("look", {"connections": "look"}),
    "calls-fail": ("look", {"last hour": "look"}),
    "flood": ("look", {"last hour": "look"}),
    "no-call-log": ("unknown", {"last hour": "unknown"}),
    "file-edited": ("look", {"files": "look"}),
    "reload-missing": ("look", {"files": "look"}),
    "proof-failed": ("broken", {"proof": "broken"}),
    "proof-old": ("fine", {"proof": "unknown"}),
    "security-update": ("look", {"versions": "look"}),
    "old-version-runs": ("look", {"versions": "look"}),
    "lists-old": ("fine", {"versions": "unknown"}),
    "undone-by-itself": ("look", {"release": "look"}),
    "apply-at-work": ("fine", {}),
    "lock-left": ("look", {"release": "look"}),
    "apply-unfinished": ("broken", {"release": "broken"}),
    "release-damaged": (
        "broken",
        {"release": "broken", **dict.fromkeys(("units", "certificate", "proof"), "unknown")},
    ),
    "no-release": ("broken", {"release": "broken"}),
    "proof-at-work": ("fine", {}),
    GONE: ("unknown", {"reachable": "unknown"}),
}
EXPECTED |= dict.fromkeys(("kamailio-stuck", "kamailio-restarting"), EXPECTED["kamailio-down"])


@pytest.mark.parametrize("name", STATES)
def test_a_state_gets_the_right_word_and_exit_code(name):
    status = status_of(name)
    verdict, values_ = EXPECTED[name]
    assert {v.name: v.verdict for v in status.values if v.verdict != "fine"} == values_
    assert (status.verdict, status.exit_code) == (verdict, WORDS[verdict])
    assert bool(status.problems) == (verdict != "fine")
    for problem in status.problems:
        assert "`sip1`" in problem.message
        assert problem.help or name == GONE


@pytest.mark.parametrize("name", STATES)
def test_a_screen_has_80_columns_and_a_line_for_each_value(name):
    status = status_of(name)
    lines = formats.as_text([status]).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 24
    for value in status.values:
        assert any(line.startswith(f"  {value.verdict:<7}  {value.name}") for line in lines)


# --- never fine of what it could not ask ---------------------------------------------------------

# Sections without which everything may be fine: words about other sections.
SPARE = {"purpose", "since", "end", "clock"}


@pytest.mark.parametrize("name", sorted(changes("fine").keys() - SPARE))
def test_what_was_not_told_is_not_fine(name):
    told = {key: text for key, text in answer("fine").items() if key != name}
    status = judging.judge(state.parse("sip1", told))
    before = {value.name: value.verdict for value in status_of("fine").values}
    after = {value.name: value.verdict for value in status.values}
    assert set(before.values()) == {"fine"}
    assert set(after.values()) != {"fine"}
    if name not in {"proof", "lists"}:
        assert status.exit_code != 0


@pytest.mark.parametrize("name", sorted(changes("fine").keys() - SPARE - {"lock", "abandoned"}))
def test_what_makes_no_sense_is_not_fine(name):
    """The lock and the mark of an unfinished apply are text of any kind."""
    told = {**answer("fine"), name: "{ no sense \x1b[31m\nat all\n"}
    status = judging.judge(state.parse("sip1", told))
    if name in {"outcome", "renewal", "timer", "probes", "probes-up", "probes-ringing", "certbot"}:
        return  # nothing is the usual answer there
    assert {value.verdict for value in status.values} != {"fine"}


TEXT = st.text(st.characters(codec="utf-8"), max_size=60)


@given(st.dictionaries(st.sampled_from(sorted(changes("fine"))), TEXT))
def test_no_answer_of_a_host_gives_a_traceback(differences):
    status = judging.judge(state.parse("sip1", {**answer("fine"), **differences}))
    assert formats.as_text([status]).isprintable() or "\n" in formats.as_text([status])
    json.loads(formats.as_json([status]))
    metrics.as_prometheus([status], 1.0)


def test_an_answer_that_is_cut_off_is_no_status():
    for told in (b"\x1eclock\n1\n", b"\x1eend\n"):
        host = FakeHost(answers={"status": Result(status=0, stdout=told)})
        with pytest.raises(HostFailed) as failed:
            state.read(host)
        assert failed.value.diagnostics[0].code == "SD739"


# --- details -------------------------------------------------------------------------------------


def value_of(name, section, text):
    told = {**answer("fine"), section: text}
    return next(
        value for value in judging.judge(state.parse("sip1", told)).values if value.name == name
    )


@pytest.mark.parametrize(("days", "verdict"), [(6, "fine"), (90, "look")])
def test_a_short_certificate_may_have_fewer_days_left(days, verdict):
    """Of a life of six days, a quarter is enough; of a longer one, ten days."""
    found = status_of("fine").state
    ends = dt.datetime.fromtimestamp(found.now, dt.UTC) + dt.timedelta(days=5)
    begins = ends - dt.timedelta(days=days)
    short = replace(found.certificate, not_before=begins, not_after=ends)
    status = judging.judge(replace(found, certificate=short, served={"kamailio 8443": short}))
    assert {v.name: v.verdict for v in status.values}["certificate"] == verdict


def test_the_networks_of_phones_and_what_a_proof_adds():
    phones = next(v for v in status_of("proof-at-work").values if v.name == "phones")
    assert phones.text == next(v for v in status_of("fine").values if v.name == "phones").text


def test_calls_that_people_do_not_answer_are_no_failures():
    busy = '{"event":"call","id":"%d","from":"1","to":"2","kind":"phone","status":486}\n'
    value = value_of("last hour", "log", "".join(busy % i for i in range(50)) + "status 0\n")
    assert value.text == "50 calls, 0 answered, 0 failed; 0 refusals"
    assert value.verdict == "fine"


def test_a_log_of_more_lines_than_are_read_says_so(monkeypatch):
    monkeypatch.setattr(state, "MOST_LINES", 2)
    value = value_of("last hour", "log", '{"event":"refused"}\n' * 2 + "status 0\n")
    assert value.text.startswith("at least 0 calls")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (61, "1 min"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (86_400 * 3 + 7200 + 59, "3 d 2 h"),
        (86_400 * 40, "40 d"),
        (86_400 + 60, "1 d"),
    ],
)
def test_ages(seconds, text):
    assert lengths.age(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (35651584, "34 MiB"), (1 << 42, "4.0 TiB")],
)
def test_sizes(number, text):
    assert lengths.size(number) == text


# --- formats -------------------------------------------------------------------------------------


def test_several_hosts_get_a_last_line():
    text = formats.as_text([status_of("fine"), status_of("asterisk-down"), status_of(GONE)])
    assert text.splitlines()[-1] == (
        "3 hosts: 1 fine; 1 in need of a person (sip1); 1 not known (sip1)"
    )


def test_json_has_values_problems_and_figures():
    (host,) = json.loads(formats.as_json([status_of("asterisk-down")]))["hosts"]
    assert (host["host"], host["verdict"]) == ("sip1", "broken")
    assert [problem["code"] for problem in host["problems"]] == ["SD733"]
    assert host["figures"]["units"]["asterisk.service"]["active"] in {"failed", "inactive"}
    (host,) = json.loads(formats.as_json([status_of(GONE)]))["hosts"]
    assert (host["verdict"], host["figures"]) == ("unknown", None)


SAMPLE = re.compile(r'[a-z_]+\{host="[^"]*"(,[a-z]+="[^"]*")*\} -?[0-9]+(\.[0-9]{3})?')


def test_metrics_are_in_the_format_of_prometheus():
    text = metrics.as_prometheus([status_of("fine"), status_of(GONE)], 1795694401.5)
    for line in text.splitlines():
        assert line.startswith(("# HELP sipdeploy_", "# TYPE sipdeploy_")) or SAMPLE.fullmatch(
            line
        )
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names)) == len(metrics.METRICS)


def test_what_is_not_known_has_no_metric():
    text = metrics.as_prometheus([status_of("kamailio-down")], 1.0)
    assert "sipdeploy_phones" not in text
    assert "sipdeploy_users" in text
    text = metrics.as_prometheus([status_of(GONE)], 1.0)
    assert [line for line in text.splitlines() if line[0] != "#"] == [
        'sipdeploy_host_up{host="sip1"} 0',
        'sipdeploy_status_timestamp_seconds{host="sip1"} 1',
        'sipdeploy_value_verdict{host="sip1",value="reachable"} 3',
    ]


def test_a_label_is_escaped():
    status = values.unreached('a"b\\c\nd', [Diagnostic("SD501", "x")])
    assert 'host="a\\"b\\\\c\\nd"' in metrics.as_prometheus([status], 1.0)


# --- the table of the page -----------------------------------------------------------------------


def table():
    rows = ["| state | verdict | exit code | values that are not fine |", "|---|---|---|---|"]
    for name, words in STATES.items():
        status = status_of(name)
        told = "; ".join(
            f"{value.name} {value.verdict}: {value.text}"
            for value in status.values
            if value.verdict != "fine"
        )
        rows.append(f"| {words} | {status.verdict} | {status.exit_code} | {told} |")
    return "\n".join(rows)


def test_the_page_has_the_table_of_states(request):
    text = PAGE.read_text("utf-8")
    begin, _, rest = text.partition("<!-- states -->\n")
    _, _, after = rest.partition("<!-- end -->")
    expected = f"{begin}<!-- states -->\n{table()}\n<!-- end -->{after}"
    if request.config.getoption("update_golden"):
        PAGE.write_text(expected, "utf-8")
    assert PAGE.read_text("utf-8") == expected


def test_the_page_has_every_metric():
    text = PAGE.read_text("utf-8")
    assert set(re.findall(r"^\| `(sipdeploy_\w+)`", text, re.MULTILINE)) == metrics.METRICS.keys()


# --- the script ----------------------------------------------------------------------------------


def test_the_script_prints_what_the_parser_reads():
    printed = set(re.findall(r"\bsection \"?([a-z-]+)", script_text("status").decode()))
    assert {"served"} | {key for key in answer("fine") if " " not in key} <= printed


def on_this_machine(folder):
    done = run_script(LocalHost("here"), ("status", str(folder), "/no/such/file", "10"))
    return sections(done.text)


def test_a_machine_without_a_release(tmp_path):
    status = judging.judge(state.parse("here", on_this_machine(tmp_path)))
    assert status.values[0].verdict == "broken"
    assert status.exit_code == 1


def test_the_script_takes_units_and_ports_from_the_release(tmp_path, monkeypatch):
    folder = tmp_path / "releases/12"
    folder.mkdir(parents=True)
    (tmp_path / "release").write_text("12\n")
    (folder / "release.json").write_text(answer("relay-down")["header"])
    text = script_text("status").replace(b"systemctl show", b"echo asked:")
    monkeypatch.setattr(hosts, "script_text", lambda _: text)
    told = on_this_machine(tmp_path)
    found = state.parse("here", told)
    assert {*told["units"].split()[3:]} == {*found.release.units.values()}
    assert {*found.served} == {*found.release.tls} == {"kamailio 8443", "turnserver 5349"}
    assert found.release.domain == "sip.example.test"
    assert found.boot < found.now


def test_the_script_finds_an_edited_and_a_missing_file(tmp_path):
    edited = tmp_path / "edited"
    edited.write_text("new")
    same = tmp_path / "same"
    same.write_text("")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    rows = ((edited, empty), (same, empty), (tmp_path / "gone", empty), (tmp_path / "ours", ""))
    (tmp_path / "managed").write_text(
        "".join(f"{path}\tkamailio\t{sum_}\n" for path, sum_ in rows)
    )
    found = state.parse("here", on_this_machine(tmp_path))
    assert found.changed == (str(edited), str(tmp_path / "gone"))


HA1 = "5f4dcc3b5aa765d61d8327deb882cf99"
PROBE = "1" * 30
KAMCMD = f"""#!/bin/sh
case "$*" in
core.uptime) echo "uptime: 12" ;;
"stats.get_statistics usrloc:") printf 'location-contacts = 3\\nlocation-users = 2\\n' ;;
"htable.dump probes") printf 'name: {PROBE}\\nvalue: {HA1}\\n' ;;
"htable.dump talks") printf 'value: 9 "from":"1001"\\nvalue: 9 "from":"{PROBE}"\\n' ;;
"htable.dump ringing") printf 'name: a\\nvalue: {PROBE}\\nname: b\\nvalue: 1001\\n' ;;
"ul.lookup location {PROBE}@sip.example.test") echo "Address: sip:x" ;;
htable.stats) for table in probes calls talks ringing; do
    printf 'name: %s\\nslots: 4\\nall: 2\\nmin: 0\\n' $table; done ;;
esac
"""
SS = """#!/bin/sh
printf '0 0 10.0.0.1:8443 %s\\n' 198.51.100.7:4411 198.51.100.9:999 203.0.113.5:1 127.0.0.1:5 \\
    '[2001:db8:1:2::3]:7' '[2001:db8:1:9::3]:7' '[2001:db8::3]:7' '[::1]:9' \\
    '[::ffff:198.51.100.8]:3'
"""


def test_the_script_leaves_out_a_proof_and_tells_no_secret_of_it(tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("kamcmd", KAMCMD), ("ss", SS)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (tmp_path / "release").write_text("12\n")
    (tmp_path / "releases/12").mkdir(parents=True)
    (tmp_path / "releases/12/release.json").write_text(answer("fine")["header"])
    text = script_text("status").replace(b"\nPATH=", f"\nPATH={programs}:".encode(), 1)
    monkeypatch.setattr(hosts, "script_text", lambda _: text)
    told = on_this_machine(tmp_path)
    found = state.parse("here", told)
    assert found.phones == state.Phones(phones=2, users=1)
    assert found.calls == state.Calls(up=1, ringing=1)
    assert found.networks == 4
    assert HA1 not in str(told)
    assert PROBE not in str(told)


# --- the record of a proof -----------------------------------------------------------------------


def test_a_kept_proof_is_read_again():
    results = (StepResult(name="TLS", status="ok"), StepResult(name="call", status="failed"))
    proof = Proof(host="sip1", level="quick", results=results, began=1795694000.25)
    found = state.parse("here", {"proof": record.dump(proof).decode()})
    assert found.proof == state.LastProof(
        began=1795694000.25, level="quick", steps=2, failed=("call",)
    )
