"""The parser of Asterisk's files: what it reads, and that no text makes it fail or slow."""

import time

import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from stack_asterisk import OF_ASTERISK, findings
from test_render_fuzz import asterisk as reference

from sipdeploy.lint.stack.asterisk import parse
from sipdeploy.lint.stack.asterisk.config import ROOTS, lines
from sipdeploy.lint.stack.asterisk.patterns import covers, is_endless, split
from sipdeploy.lint.stack.files import StackFile

PJSIP = "/etc/asterisk/pjsip.conf"


def config(text, **others):
    files = {PJSIP: text} | {f"/etc/asterisk/{name}.conf": t for name, t in others.items()}
    parsed = parse({p: StackFile(path=p, place=p, text=t) for p, t in files.items()})
    return parsed.named("pjsip.conf")


def shape(parsed):
    return [
        (each.name, each.is_template, [f"{s.key}={s.value}" for s in each.settings])
        for each in parsed.sections
    ]


def test_templates_inheritance_and_additions():
    text = "[t](!)\na=1\nb=2\n[u](!,t)\nb=3\n[x](u)\nc=>4\n[x](+)\nd = 5\n[y](t,u)\n"
    assert shape(config(text)) == [
        ("t", True, ["a=1", "b=2"]),
        ("u", True, ["a=1", "b=2", "b=3"]),
        ("x", False, ["a=1", "b=2", "b=3", "c=4", "d=5"]),
        ("y", False, ["a=1", "b=2", "a=1", "b=2", "b=3"]),
    ]
    assert config(text).section("x").get("b") == "3"


def test_an_addition_can_name_a_value_of_its_section():
    text = "[x]\ntype=aor\n[x]\ntype=auth\n[x](+type=auth)\nusername=x\n"
    assert shape(config(text))[1] == ("x", False, ["type=auth", "username=x"])


def test_includes_are_read_in_place():
    parsed = config("[x]\na=1\n#include other.conf\nc=3\n", other="b=2\n[y]\n")
    assert shape(parsed) == [("x", False, ["a=1", "b=2"]), ("y", False, ["c=3"])]
    assert parsed.is_complete
    inner = parsed.sections[0].values["b"]
    assert inner.file.path == "/etc/asterisk/other.conf"
    assert inner.file.text[inner.start : inner.end] == "2"


@pytest.mark.parametrize(
    ("line", "is_complete", "kinds"),
    [
        ("#include gone.conf", False, ["include"]),
        ("#tryinclude gone.conf", True, []),
        ("#include gone/*.conf", False, []),
        ("#exec /bin/true", False, []),
        ("#include pjsip.conf", False, []),  # itself
        ("#inclde x", True, ["directive"]),
        ("no sign", True, ["equals"]),
        ("[x", True, ["bracket"]),
        ("[x](gone)", True, ["template"]),
        ("[y](+)", True, ["addition"]),
    ],
)
def test_lines_with_a_problem(line, is_complete, kinds):
    parsed = config(f"[x]\n{line}\n")
    assert parsed.is_complete == is_complete
    assert [problem.kind for problem in parsed.problems] == kinds


def test_a_file_that_includes_itself_is_read_once():
    assert shape(config("[x]\na=1\n#include pjsip.conf\n")) == [("x", False, ["a=1"])]


def test_a_setting_outside_of_a_section():
    assert [each.kind for each in config("a=1\n[x]\n").problems] == ["outside"]


def test_offsets_point_at_key_and_value():
    text = '[x]\n  contact =>  sip:a\\;lr ; why\nname="b" ;-- c --; \n'
    contact, name = config(text).sections[0].settings
    assert contact.value == "sip:a;lr"
    assert text[contact.start : contact.end].startswith("sip:a")
    assert text[contact.key_start :].startswith("contact")
    assert (name.value, text[name.start : name.end]) == ('"b"', '"b"')


PIECES = ["a=1", "b=>2", ";", ";--", "--;", "\\;", "[x]", "[x](!)", "x", " ", "\n", "-", "\t"]


@settings(max_examples=examples(500), deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_comments_are_those_of_the_independent_reader(text):
    file = StackFile(path="x", place=PJSIP, text=text)
    mine = [line.text for line in lines(file)]
    assert len(mine) == len(list(strip_reference(text)))
    assert mine == list(strip_reference(text))


def strip_reference(text):
    from test_render_fuzz import uncommented  # noqa: PLC0415

    return filter(None, (line.strip(" \t") for line in uncommented(text)))


WORDS = [
    *("[general]\n", "[1001]\n", "[t](!)\n", "[1001](t)\n", "[1001](+)\n", "(", ")", "[", "]"),
    *("type=endpoint\n", "type=aor\n", "type=auth\n", "type=transport\n", "type=identify\n"),
    *("auth=1001\n", "aors=1001\n", "webrtc=yes\n", "bind=0.0.0.0:5060\n", "contact=sip:"),
    *(
        "allow=!all,opus\n",
        "disallow=all\n",
        "password=1\n",
        "context=in\n",
        "[in]\n",
        "mailboxes=",
    ),
    *("exten => _X.,1,", "exten => 1001,", "same => n(a),", "same => ", "n,", "hint,", "s,", "1,"),
    *(
        "Goto(",
        "GotoIf(",
        "Gosub(s,1(",
        "System(",
        "Dial(PJSIP/",
        "VoiceMail(",
        "Set(A=",
        "?",
        ":",
    ),
    *("${EXTEN}", "${FILTER(0-9,", "${SHELL(", "$[", "}", '"', "include => in\n", "switch => x\n"),
    *("#include pjsip.conf\n", "#include *.conf\n", "#exec x\n", ";--", "--;", "\\;", "\n", "\0"),
    *("enabled=yes\n", "secret=a\n", "rtpstart=9\n", "rtpend=x\n", "1001 => 1,A\n", "é", "\ufeff"),
    # `isdigit` accepts the first, `\\d` the second, and `int` refuses the third: it is too long
    *("²", "٣", "9" * 5000, "exten => 1,1,Goto(", "bind=0.0.0.0:", "contact=sip:127.0.0.1:"),
    *("rtpstart=", "max_contacts=", "exten => 1,n+", "same => n,Goto(in,1,", ")\n"),
]
anything = st.one_of(st.lists(st.sampled_from(WORDS), max_size=60).map("".join), st.text())


@settings(max_examples=examples(400), deadline=None)
@given(texts=st.lists(anything, min_size=len(ROOTS), max_size=len(ROOTS)))
def test_no_text_makes_a_rule_fail(texts):
    files = {f"/etc/asterisk/{name}": text for name, text in zip(ROOTS, texts, strict=True)}
    for _, each in findings(files, version=(18, 20)):
        assert 0 <= each.start <= each.end <= len(each.file.text)
        each.file.span(each.start, each.end)


LONG = {
    "sections": "[x]\n" * 60_000,
    "additions": "[x]\n" + "[x](+)\na=1\n" * 30_000,
    "a chain of templates": "[t0](!)\na=1\n"
    + "".join(f"[t{n}](!,t{n - 1})\nb{n}=1\n" for n in range(1, 15_000)),
    "doubling templates": "[t0](!)\na=1\n"
    + "".join(f"[t{n}](!,t{n - 1},t{n - 1})\n" for n in range(1, 15_000)),
    "comments": ";--" * 60_000 + "\n" + "--;" * 60_000,
    "escapes": "[x]\na=" + "\\;" * 100_000,
    "brackets": "[in]\nexten => " + "[" * 100_000,
    "gotos": "[in]\n" + "".join(f"exten => {n},1,Goto({n + 1},1)\n" for n in range(15_000)),
    "patterns": "[in]\n" + "".join(f"exten => _X{n}.,2,Goto(1,a)\n" for n in range(8_000)),
    "includes": "".join(
        f"[c{n}]\ninclude => c{n + 1}\nexten => _X.,1,Goto(9,1)\n" for n in range(4000)
    ),
    "one step": "[in]\nexten => _X.,1,Dial(" + "${FILTER(0," * 30_000,
    "labels": "[in]\n" + "exten => 1,a,NoOp()\n" * 30_000,
    "files": "[x]\n" + "#include *.conf\n" * 500,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("file", ["pjsip.conf", "extensions.conf"])
def test_long_files_take_linear_time(name, file):
    start = time.process_time()
    findings({f"/etc/asterisk/{file}": LONG[name], "/etc/asterisk/other.conf": "[y]\na=1\n"})
    assert time.process_time() - start < 8, "seconds for a text of 200 kB on a busy machine"


@pytest.mark.parametrize(
    ("pattern", "other", "is_covered"),
    [
        ("_X.", "1001", True),
        ("_X.", "1", False),
        ("_X!", "1", True),
        ("_X.", "_X.", True),
        ("_X.", "_X!", False),
        ("_[1-35]XX", "534", True),
        ("_[1-35]XX", "434", False),
        ("_NXX", "_ZXX", False),
        ("_ZXX", "_NXX", True),
        ("_1XXX", "_10XX", True),
        ("_.", "a", True),
        ("_X.", "s", False),
        ("1001", "1001", True),
        ("_555-XXXX", "5551234", True),
    ],
)
def test_patterns(pattern, other, is_covered):
    assert covers(pattern, other) == is_covered


def test_ends_and_parts():
    assert is_endless("_X.")
    assert is_endless("_X!")
    assert not is_endless("_X")
    assert [part for part, _ in split('a,"b,c",${d(e,f)}')] == ["a", '"b,c"', "${d(e,f)}"]


def test_the_independent_reader_reads_the_same():
    text = "[a](!)\nx=1 ; c\n[b](a)\ny => 2\n"
    mine = [(s.key, s.value) for each in config(text).sections for s in each.own]
    assert mine == [(key, value) for key, value in reference(text) if key != "["]


def test_every_rule_is_tried():
    assert len(OF_ASTERISK) > 30


@pytest.mark.parametrize("digits", ["²", "٣", "9" * 5000, "-1", "0x10"])
def test_numbers_that_are_none_make_no_rule_fail(digits):
    files = {
        PJSIP: f"[t]\ntype=transport\nbind=0.0.0.0:{digits}\n"
        f"[a]\ntype=aor\ncontact=sip:127.0.0.1:{digits}\nmax_contacts={digits}\n",
        "/etc/asterisk/rtp.conf": f"[general]\nrtpstart={digits}\nrtpend={digits}\n",
        "/etc/asterisk/extensions.conf": f"[in]\nexten => {digits},1,Goto({digits})\n"
        f"same => n+{digits},Goto(in,1,{digits})\nexten => 1,{digits},VoiceMail({digits})\n",
        "/etc/asterisk/voicemail.conf": f"[default]\n{digits} => {digits},A\n",
        "/etc/kamailio/kamailio.cfg": f"port={digits}\nlisten=udp:127.0.0.1:{digits}\n"
        f'request_route {{ $du = "sip:127.0.0.1:{digits}"; }}\n',
    }
    findings(files, version=(18, 20))
