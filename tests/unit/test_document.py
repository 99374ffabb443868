import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipdeploy.inventory.document import parse
from sipdeploy.inventory.reading import decode, read


def data(text):
    document, problems = parse(text, "a.yaml")
    assert problems == []
    return document.data


def codes(text):
    return [problem.code for problem in parse(text, "a.yaml")[1]]


def test_every_scalar_stays_text():
    text = "a: 0101\nb: no\nc: 22:30\nd: 1e3\ne: 0x1F\nf: 2024-01-01\ng: true\nh: 6.10\n"
    assert data(text) == {
        "a": "0101", "b": "no", "c": "22:30", "d": "1e3", "e": "0x1F",
        "f": "2024-01-01", "g": "true", "h": "6.10",
    }  # fmt: skip


def test_nothing_is_none_and_an_empty_text_is_not():
    text = "a:\nb: ~\nc: null\nd: ''\ne: 'null'\n0101:\n"
    assert data(text) == {"a": None, "b": None, "c": None, "d": "", "e": "null", "0101": None}


def test_block_and_flow_lists_and_texts():
    text = "a: [1, {b: 2}]\nc:\n  - d\n  - e: f\ng: |\n  one\n  two\n"
    assert data(text) == {"a": ["1", {"b": "2"}], "c": ["d", {"e": "f"}], "g": "one\ntwo\n"}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\x85", "\u2028"])
def test_places_with_any_line_ending(end):
    document, problems = parse(f"a: 1{end}é漢:{end}  - {{x: yy}}{end}", "a.yaml")
    assert problems == []
    assert str(document.key_span(("é漢",))) == "a.yaml:2:1"
    value = document.value_span(("é漢", 0, "x"))
    assert (value.line, value.column, value.end_column) == (3, 9, 11)


def test_a_byte_order_mark_moves_nothing():
    text, problems = decode(b"\xef\xbb\xbfa: 1\n", "a.yaml")
    assert problems == []
    assert str(parse(text, "a.yaml")[0].key_span(("a",))) == "a.yaml:1:1"


def test_what_is_not_utf8_is_told_with_its_place():
    text, (problem,) = decode("a: 1\nnamé: ".encode() + b"\xff", "a.yaml")
    assert text is None
    assert problem.code == "SD102"
    assert str(problem.span) == "a.yaml:2:7"


def test_a_byte_order_mark_shifts_no_position():
    raw = b"domain: x\nname: M\xfcller\n"
    for each in (raw, b"\xef\xbb\xbf" + raw):
        text, (problem,) = decode(each, "a.yaml")
        assert text is None
        assert str(problem.span) == "a.yaml:2:8"
        assert "0xfc" in problem.message


def test_utf16_is_not_utf8():
    assert decode("a: 1".encode("utf-16"), "a.yaml")[1][0].code == "SD102"


def test_of_two_equal_keys_the_first_stays_and_both_are_placed():
    document, (problem,) = parse("a: {x: 1, x: 2}\nb: 1\nb: 2\n"[:16], "a.yaml")
    assert problem.code == "SD104"
    assert document.data == {"a": {"x": "1"}}
    assert str(problem.span) == "a.yaml:1:11"
    assert problem.notes == ("first used at a.yaml:1:5",)


def test_every_doubled_key_is_told():
    assert codes("a: 1\na: 2\nb: {c: 1, c: 2}\na: 3\n") == ["SD104"] * 3


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: [1", "SD101"),
        ("a: 'x", "SD101"),
        ("a: b: c", "SD101"),
        ("a: %x", "SD101"),
        ("%FOO\na: 1", "SD101"),
        ("a: \x01", "SD102"),
        ("a: \ufeff", "SD102"),
        ("a:\n\tb: 1", "SD103"),
        ("a: &x 1", "SD105"),
        ("a: *x", "SD105"),
        ("<<: {a: 1}", "SD105"),
        ("a: !!int 1", "SD106"),
        ("a: !x 1", "SD106"),
        ("a: 1\n---\nb: 1", "SD107"),
        ("", "SD108"),
        ("# only\n---\n", "SD108"),
        ("text", "SD109"),
        ("[a]", "SD109"),
        ("? [a]\n: b", "SD109"),
        ("{a: 1}: b", "SD109"),
    ],
)
def test_what_an_inventory_cannot_be(text, code):
    document, problems = parse(text, "a.yaml")
    assert [problem.code for problem in problems] == [code]
    assert document.data is None
    assert problems[0].span is not None


def test_what_looks_like_it_but_is_text_does():
    assert data("a: '<<'\n'<<': 1\nb: '*x'\nc: !!str 1\n") == {
        "a": "<<", "<<": "1", "b": "*x", "c": "1",
    }  # fmt: skip


def test_depth_is_no_crash():
    assert codes("a: " + "[" * 50_000) == ["SD109"]
    assert codes("a: " + "{a: " * 50 + "}" * 50) == ["SD109"]
    assert codes("a: " + "[" * 30 + "]" * 30) == []


def test_aliases_do_not_multiply():
    bomb = "a: &a [x]\n" + "".join(f"{c}: &{c} [*a, *a]\n" for c in "bcdefgh")
    started = time.process_time()
    assert set(codes(bomb)) == {"SD105"}
    assert time.process_time() - started < 1


def test_a_file_that_is_not_there_says_what_to_do(tmp_path):
    text, (problem,) = read(tmp_path / "inventory.yaml")
    assert text is None
    assert problem.code == "SD110"
    assert "sipdeploy init" in problem.help


def test_a_directory_is_not_a_file(tmp_path):
    assert read(tmp_path)[1][0].code == "SD110"


YAMLISH = st.text(alphabet="ab01:-[]{},&*!|>'\"#%@`?<~ \n\t\r\x85é漢\ufeff\x00", max_size=60)


@given(YAMLISH | st.text(max_size=80))
def test_no_text_raises_and_every_problem_has_a_place(text):
    document, problems = parse(text, "a.yaml")
    assert document.data is None or isinstance(document.data, dict)
    assert document.data is not None or problems
    for problem in problems:
        assert problem.span.line >= 1
        assert problem.span.column >= 1


@given(st.binary(max_size=80))
def test_no_bytes_raise(raw):
    text, problems = decode(raw, "a.yaml")
    assert (text is None) == bool(problems)


def per_user(count):
    text = "users:\n" + "".join(f"  {100000 + i}: {{name: User {i}}}\n" for i in range(count))
    started = time.process_time()
    assert codes(text) == []
    return time.process_time() - started


def test_time_is_linear():
    assert per_user(16_000) < 10 * max(per_user(4_000), 0.02)
