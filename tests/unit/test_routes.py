"""`sipdeploy test`: where calls lead, against expected routes."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipdeploy.inventory.site import load_site
from sipdeploy.lint.routes import judge, outcome, read

SITE = """\
domain: sip.example.com
email: a@b.example
hosts: {a: {address: 203.0.113.1}}
users: {1001: {name: Alice}, 1002: {name: Bob, voicemail: true}, 0101: {}}
services: {6000: {kind: ivr-test}, "*97": {kind: voicemail}, 7: {kind: echo}}
"""


@pytest.mark.parametrize("mode", ["kamailio", "asterisk"])
@pytest.mark.parametrize(
    ("caller", "dialled", "expected"),
    [
        ("1001", "1002", "rings 1002, then voicemail"),
        ("1002", "1001", "rings 1001"),
        ("1001", "0101", "rings 0101"),
        ("1001", "101", "404"),
        ("1001", "6000", "ivr-test"),
        ("1001", "*97", "voicemail"),
        ("1001", "7", "echo"),
        ("1001", "9", "404"),
        ("1001", "sip:1002@SIP.example.com", "rings 1002, then voicemail"),
        ("1001", "1002@elsewhere.example", "403"),
        ("1001", "tel:112", "416"),
        ("1001", "sips:1002@sip.example.com", "416"),
        ("9999", "1002", "refused"),
    ],
)
def test_where_a_call_leads(mode, caller, dialled, expected):
    site, _, _ = load_site(SITE + f"authentication: {mode}\n", "i.yaml")
    assert outcome(site, caller, dialled) == expected


OWN = SITE.replace(
    "services: {",
    """services: {
    6100: {kind: group, members: [1001, 1002], then: voicemail 1002},
    6101: {kind: group, members: [1001, 1002], ring: in-turn, then: 6200},
    6102: {kind: group, members: [1001]},
    6200: {kind: menu, then: 1001, keys:
        {1: 6100, 2: 1002, 3: voicemail 1002, 9: 6201, "#": 7000}},
    6201: {kind: menu, keys: {1: 6200}},
    6300: {kind: conference},
    7000: {kind: dialplan, context: shop}, """,
)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("0101 dials 6100", "rings 1001 and 1002, then voicemail 1002"),
        ("1001 dials 6100", "rings 1002, then voicemail 1002"),
        ("0101 dials 6101", "rings 1001 before 1002, then 6200"),
        ("0101 dials 6102", "rings 1001"),
        ("1001 dials 6102", "nobody"),
        ("1001 dials 6200", "menu"),
        ("1001 dials 6200, presses 1", "rings 1002, then voicemail 1002"),
        ("1001 dials 6200, presses 2", "rings 1002, then voicemail"),
        ("1001 dials 6200, presses 3", "voicemail 1002"),
        ("1001 dials 6200, presses 4", "menu"),
        ("1001 dials 6200, presses #", "dialplan shop"),
        ("0101 dials 6200, waits", "rings 1001"),
        ("0101 dials 6200, presses 9, presses 1, waits", "rings 1001"),
        ("0101 dials 6200, presses 9, waits", "nobody"),
        ("1001 dials 6300", "conference"),
        ("1001 dials 7000", "dialplan shop"),
    ],
)
def test_what_groups_menus_conferences_and_dialplan_do_with_a_call(call, expected):
    site, problems, _ = load_site(OWN, "i.yaml")
    assert not problems
    expectations, problems = read(f"routes:\n  {json.dumps(call)}: {expected}\n", "routes.yaml")
    assert not problems
    (verdict,) = judge(site, expectations)
    assert verdict.outcome == expected
    assert verdict.holds
    assert verdict.expected.call == call


@pytest.fixture
def run(run):
    Path("inventory.yaml").write_text(SITE)

    def start(text, *words):
        Path("routes.yaml").write_text(text)
        return run("test", "routes.yaml", *words)

    return start


GOOD = "routes:\n  1001 dials 1002: rings 1002, then voicemail\n  1001 dials 9: 404\n"
BAD = GOOD + "  1001 dials 7: ivr-test\n"


def test_all_as_expected(run):
    assert run(GOOD) == (
        0,
        "ok      1001 dials 1002: rings 1002, then voicemail\nok      1001 dials 9: 404\n",
        "2 routes, 0 not as expected\n",
    )


def test_a_difference_is_named_with_its_line(run):
    code, out, err = run(BAD)
    assert (code, err) == (1, "3 routes, 1 not as expected\n")
    assert "FAILED  1001 dials 7: echo, expected ivr-test (routes.yaml:4:3)\n" in out
    rows = json.loads(run(BAD, "--format", "json")[1])["routes"]
    assert [row["ok"] for row in rows] == [True, True, False]
    suite = ET.fromstring(run(BAD, "--format", "junit")[1])
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")


@pytest.mark.parametrize(
    "text",
    [
        "routes: {1001 calls 1002: rings 1002}\n",
        "routes: {1001 dials 1002: RINGS}\n",
        "routes: {1001 dials 1002: {a: b}}\n",
        "routes: [a]\n",
        "rules: {}\n",
        "routes: {1001 dials 1002: 404, 1001 dials 1002: 404}\n",
        "- a\n",
        "",
    ],
)
def test_a_wrong_file_is_a_problem_with_its_line(run, text):
    code, out, err = run(text)
    assert (code, out) == (1, "")
    assert "--> routes.yaml:1:" in err
    assert "= help: " in err


@settings(max_examples=200, deadline=None)
@given(
    text=st.one_of(
        st.text(max_size=60), st.text(max_size=30).map(lambda t: f"routes: {{{t}: {t}}}")
    )
)
def test_no_file_gives_a_traceback(text):
    expectations, problems = read(text, "routes.yaml")
    site, _, _ = load_site(SITE, "i.yaml")
    assert expectations or problems or "routes" in text
    for each in expectations:
        assert outcome(site, each.caller, each.dialled)
