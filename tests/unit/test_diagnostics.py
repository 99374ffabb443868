import json
import re
from pathlib import Path

import pytest

from sipdeploy.diagnostics import (
    Diagnostic,
    Source,
    Span,
    concise,
    count,
    full,
    has_errors,
    listed,
    named,
    ordered,
    printable,
    summary,
)
from sipdeploy.diagnostics.formats import as_json, github, sarif

PACKAGE = Path(__file__).parent.parent.parent / "sipdeploy"


def at(line=1, column=1, *, path="a.yaml", end=None, **rest):
    span = Span(path=path, line=line, column=column, end_column=end)
    values = {"code": "SD203", "severity": "error", "message": "user `102` is unknown"}
    return Diagnostic(span=span, **{**values, **rest})


def test_full_looks_like_rustc():
    found = at(41, 11, end=15, label="no host has this name", help="did you mean `sip2`?")
    lines = [""] * 40 + ["    host: sip3"]
    assert full([found], {"a.yaml": Source(lines=lines)}) == (
        "error[SD203]: user `102` is unknown\n"
        "  --> a.yaml:41:11\n"
        "   |\n"
        "41 |     host: sip3\n"
        "   |           ^^^^ no host has this name\n"
        "   |\n"
        "   = help: did you mean `sip2`?\n"
        "\n"
        "1 error"
    )


def test_full_without_source_keeps_label_notes_and_help():
    text = full([at(label="here", notes=("one", "two"), help="do it")])
    assert [line.strip() for line in text.splitlines()[2:6]] == [
        "= note: here",
        "= note: one",
        "= note: two",
        "= help: do it",
    ]


def test_full_without_a_place_tells_the_label():
    found = Diagnostic("SD110", "m", label="why")
    assert "= note: why" in full([found])


def test_colour_only_when_asked():
    assert "\x1b[" not in full([at()])
    assert "\x1b[1;31merror[SD203]\x1b[0m" in full([at()], colour=True)


def test_order_is_file_line_column_and_what_has_no_place_last():
    loose = Diagnostic("SD110", "m")
    found = [loose, at(2, 1), at(1, 9), at(1, 2), at(9, 9, path="A.yaml")]
    assert ordered(found) == [found[4], found[3], found[2], found[1], loose]


def test_equal_ones_are_told_once():
    assert len(ordered([at(), at()])) == 1


@pytest.mark.parametrize(
    ("severities", "text"),
    [
        ([], ""),
        (["error"], "1 error"),
        (["error", "warning", "error"], "2 errors, 1 warning"),
        (["note", "note"], "2 notes"),
    ],
)
def test_summary(severities, text):
    assert summary([at(i, severity=s) for i, s in enumerate(severities, 1)]) == text


def test_only_errors_are_errors():
    assert not has_errors([at(severity="warning"), at(severity="note")])
    assert has_errors([at()])


def test_nothing_to_tell_is_no_text():
    assert full([]) == concise([]) == github([]) == ""
    assert as_json([]) == "[]"


def test_concise_is_one_line():
    assert concise([at(41, 11)]) == "a.yaml:41:11: error[SD203] user `102` is unknown"


def test_github_escapes_what_would_end_the_command():
    found = at(3, 4, path="a,b:c.yaml", message="50% of\nit", severity="note", help="do")
    assert github([found]) == (
        "::notice file=a%2Cb%3Ac.yaml,line=3,col=4,title=SD203::50%25 of%0Ait%0Ado"
    )


def test_json_is_the_value():
    (value,) = json.loads(as_json([at(1, 2, end=3)]))
    assert value["span"] == {"path": "a.yaml", "line": 1, "column": 2, "end_column": 3}
    assert value["severity"] == "error"


def test_sarif_has_what_the_standard_requires():
    log = json.loads(sarif([at(1, 2, end=3), at(2, 1, code="SD101", severity="note")]))
    (run,) = log["runs"]
    assert log["version"] == "2.1.0"
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["SD101", "SD203"]
    first, second = run["results"]
    assert first["ruleIndex"] == 1
    assert first["level"] == "error"
    assert second["level"] == "note"
    region = first["locations"][0]["physicalLocation"]["region"]
    assert region == {"startLine": 1, "startColumn": 2, "endColumn": 3}


HIDING = Source(lines=["a: secret1, b: secret2, c: 1"], hidden={1: [(4, 11), (16, 23)]})


@pytest.mark.parametrize(
    ("column", "end", "marked"),
    [(1, 2, "a"), (4, 11, "[hidden]"), (13, 14, "b"), (16, 23, "[hidden]"), (25, 26, "c")],
)
def test_hidden_parts_are_never_shown_and_carets_stay_right(column, end, marked):
    text, start, stop = HIDING.excerpt(Span(path="x", line=1, column=column, end_column=end))
    assert text == "a: [hidden], b: [hidden], c: 1"
    assert text[start - 1 : stop - 1] == marked


def test_hidden_ranges_may_overlap_and_stay_open():
    source = Source(lines=["a: [secret, more]"], hidden={1: [(4, 1 << 30), (5, 11)]})
    assert source.excerpt(Span(path="x", line=1, column=1))[0] == "a: [hidden]"


def test_a_line_that_is_not_there_has_no_excerpt():
    assert HIDING.excerpt(Span(path="x", line=9, column=1)) is None
    assert "-->" in full([at(9, path="x")], {"x": HIDING})


def test_wide_characters_take_two_columns():
    text = full([at(1, 3, end=4)], {"a.yaml": Source(lines=["漢字x"])})
    assert text.splitlines()[4] == "   |     ^"


def test_a_long_line_is_cut_around_the_place():
    text = full([at(1, 501, end=504)], {"a.yaml": Source(lines=["x" * 500 + "YYY" + "z" * 500])})
    code, pointer = text.splitlines()[3:5]
    assert len(code) < 180
    assert code.index("YYY") == pointer.index("^^^")


def test_terminal_escapes_do_nothing():
    assert printable("a\x1b[2Jb\tc") == "a\ufffd[2Jb c"


def test_listed_counts_what_it_leaves_out():
    assert listed(["a", "b"]) == "`a`, `b`"
    assert listed(map(str, range(12))).endswith("`9` and 2 more")


@pytest.mark.parametrize(
    ("number", "shown"), [(0, "0 users"), (1, "1 user"), (2, "2 users"), (1000, "1000 users")]
)
def test_counts_are_grammatical(number, shown):
    assert count(number, "user") == shown


def test_names_follow_the_noun_that_fits():
    assert named("user", ["1001"]) == "user `1001`"
    assert named("user", ["1001", "1002"]) == "users `1001`, `1002`"


def test_every_text_with_a_count_uses_the_helper():
    """A literal plural beside a number is wrong for 1."""
    nouns = (
        "change|file|package|user|phone|call|day|line|problem|password|registration|mailbox|host"
    )
    plural = re.compile(
        rf"\{{[^{{}}]*(?:len\(|left|number\b)[^{{}}]*\}} (?:more |new )?(?:{nouns})e?s\b"
    )
    allowed = {  # never for 1
        "{number} new passwords", "{len(numbers)} users", "{len(missing)} passwords",
        "{len(rows) - room + 1} more hosts",
    }  # fmt: skip
    texts = [path.read_text() for path in PACKAGE.rglob("*.py")]
    assert {match[0] for text in texts for match in plural.finditer(text)} <= allowed
