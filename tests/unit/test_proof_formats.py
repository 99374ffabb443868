"""The formats of a proof are what other programs read."""

import json
import re
from xml.etree import ElementTree as ET

from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.proof.outside.step import ACCOUNTS, Proof, StepResult
from sipdeploy.proof.reports import diagram, formats
from sipdeploy.sip.wire import Traced

TEXT = st.text(max_size=40)


def problem(text):
    return Diagnostic("SD902", text, notes=(text,), help=text)


RESULTS = st.builds(
    lambda name, status, message, seconds: StepResult(
        name=name,
        status=status,
        seconds=seconds,
        message=message,
        diagnostics=(problem(message),) if status == "failed" else (),
    ),
    st.sampled_from(["DNS", "TCP", "call", "two devices"]),
    st.sampled_from(["ok", "failed", "skipped"]),
    TEXT,
    st.floats(0, 100),
)
PROOFS = st.lists(
    st.builds(
        lambda host, results: Proof(
            host=host, level="quick", results=tuple(results), seconds=1.5, began=1e9
        ),
        st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True),
        st.lists(RESULTS, max_size=5),
    ),
    max_size=3,
)


@given(PROOFS)
@settings(max_examples=examples(100))
def test_junit_is_xml_with_the_right_counts(proofs):
    root = ET.fromstring(formats.as_junit(proofs))
    assert root.tag == "testsuites"
    for proof, suite in zip(proofs, root, strict=True):
        cases = list(suite)
        assert suite.get("tests") == str(len(cases)) == str(len(proof.results))
        assert suite.get("failures") == str(sum(c.find("failure") is not None for c in cases))
        assert suite.get("skipped") == str(sum(c.find("skipped") is not None for c in cases))
        for case in cases:
            float(case.get("time"))


# https://prometheus.io/docs/instrumenting/exposition_formats/
_VALUE = r'"(?:[^"\\\n]|\\["\\n])*"'
_SAMPLE = re.compile(
    r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)"
    rf"\{{[a-z]+={_VALUE}(?:,[a-z]+={_VALUE})*\}} (?P<value>[0-9.e+-]+)\Z"
)


@given(PROOFS)
@settings(max_examples=examples(100))
def test_prometheus_is_its_text_format(proofs):
    known = set()
    for line in formats.as_prometheus(proofs).split("\n"):
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert kind == "gauge"
            assert name not in known, "all samples of a metric are one group"
            known.add(name)
        elif not line.startswith("# HELP "):
            sample = _SAMPLE.match(line)
            assert sample, line
            assert sample["name"] in known
            float(sample["value"])


@given(PROOFS)
@settings(max_examples=examples(50))
def test_json_and_text_name_every_step(proofs):
    hosts = json.loads(formats.as_json(proofs))["hosts"]
    assert [len(each["steps"]) for each in hosts] == [len(p.results) for p in proofs]
    text = formats.as_text(proofs)
    for proof in proofs:
        for result in proof.results:
            assert result.name in text


def proof_of(*results):
    return Proof(host="sip1", level="quick", results=results, seconds=1.5)


def result(name, status):
    return StepResult(name=name, status=status)


def test_the_summary_says_what_failed():
    proof = proof_of(result("DNS", "ok"), result("TCP", "failed"), result("TLS", "skipped"))
    assert formats.summary(proof) == (
        "sip1  does not work: TCP failed; 2 steps of level quick, 1 skipped, 1.5 s"
    )
    assert formats.summary(proof_of(result("DNS", "ok"))) == (
        "sip1  works; 1 step of level quick, 1.5 s"
    )


def test_an_exit_code_tells_a_broken_host_from_one_that_could_not_be_asked():
    assert proof_of(result("TCP", "ok"), result("call", "skipped")).exit_code == 0
    assert proof_of(result("TCP", "failed")).exit_code == 1
    assert proof_of(result(ACCOUNTS, "failed")).exit_code == 4
    assert proof_of(result(ACCOUNTS, "failed"), result("TCP", "failed")).exit_code == 1


def traced(direction, text, at):
    return Traced(direction=direction, text=text, at=at)


def test_a_ladder_diagram_shows_each_message_where_it_went():
    invite = "INVITE sip:2@d SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\n"
    ringing = "SIP/2.0 180 Ringing\r\nCSeq: 1 INVITE\r\n\r\n"
    proof = Proof(
        host="sip1",
        level="quick",
        results=(StepResult(name="call", status="ok", began=10, seconds=1),),
        traces=(
            ("1st phone", (traced("sent", invite, 10.0), traced("received", ringing, 10.03))),
            ("2nd phone", (traced("received", invite, 10.01), traced("sent", ringing, 10.02))),
            ("1st phone", (traced("sent", invite, 3.0),)),
        ),
    )
    title, _, *rows = diagram.as_text(proof).split("\n")
    assert title == "call: ok"
    assert [re.sub(r"[ |-]+", " ", row).strip() for row in rows] == [
        "0.000 INVITE >",
        "0.010 INVITE >",
        "0.020 < 180 INVITE",
        "0.030 < 180 INVITE",
    ]
    assert len({len(row) for row in rows}) == 1, "the lines of the columns stand below each other"
    first, second = rows[0], rows[1]
    assert first.index("INVITE") < second.index("INVITE")


MESSAGE = TEXT | TEXT.map("SIP/2.0 {}".format)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["sent", "received"]), MESSAGE)))
@settings(max_examples=examples(50))
def test_a_diagram_takes_any_message(messages):
    traces = tuple(
        (f"phone {phone}", (traced(direction, text, float(number)),))
        for number, (phone, direction, text) in enumerate(messages)
    )
    whole = StepResult(name="call", status="ok", began=0, seconds=len(messages))
    proof = Proof(host="sip1", level="quick", results=(whole,), traces=traces)
    lines = diagram.as_text(proof).split("\n")
    assert all(line.isprintable() for line in lines), "a terminal executes nothing of a message"
