"""`lint --fix`: only what has one right answer, and nothing else in the file."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipdeploy.__main__ import main
from sipdeploy.diagnostics import Diagnostic, Fix, Span
from sipdeploy.lint.fixing import fixed

HEAD = "domain: sip.example.com\nemail: a@b.example\n"
BAD = (
    HEAD + "# kept\nhosts:\n  sip1: {adress: 203.0.113.10}   # as is\n"
    "orgins:\n  - 'https://phone.example.com/'\n"
    "users: {1001: {name: Alice}}   # sipdeploy: ignore[SD305]\n"
)
GOOD = (
    HEAD + "# kept\nhosts:\n  sip1: {address: 203.0.113.10}   # as is\n"
    "origins:\n  - https://phone.example.com\n"
    "users: {1001: {name: Alice}}\n"
)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_ACTIONS", "SIPDEPLOY_INVENTORY", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def start(text, *words):
        Path("inventory.yaml").write_bytes(text.encode())
        code = main(["lint", "--fix", *words])
        out, err = capsys.readouterr()
        return code, Path("inventory.yaml").read_bytes().decode(), out + err

    return start


def test_three_kinds_of_problems_are_corrected_and_named(run):
    code, text, said = run(BAD)
    assert (code, text) == (0, GOOD)
    assert "inventory.yaml:5:10: `adress` is now `address` (SD201)" in said
    assert "`orgins` is now `origins` (SD201)" in said
    assert "is now `https://phone.example.com` (SD219)" in said
    assert "inventory.yaml:8:32: comment deleted (SD301)" in said


@pytest.mark.parametrize("end", ["\r\n", "\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_the_byte_order_mark_stay(run, end, mark):
    assert run(mark + BAD.replace("\n", end))[1] == mark + GOOD.replace("\n", end)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        HEAD + "hosts: {sip1: {address: 203.0.113.10}}\nusers: {}\nhost: {a: b}\nhosst: 1\n",
        HEAD + "hosts: {sip1: {address: 203.0.113.10, adress: 203.0.113.10}}\nusers: {}\n",
        HEAD + "hosts: [\n",
        "",
    ],
)
def test_what_is_not_certain_stays(run, text):
    _, after, said = run(text)
    assert after == text
    assert "is now" not in said


def test_a_comment_that_is_needed_stays(run):
    text = GOOD.replace("origins:\n  - https://phone.example.com\n", "origins: []")
    text = text.replace("users:", " # sipdeploy: ignore[SD305, SD308]\nusers:")
    assert run(text)[1] == text


def test_a_link_to_a_strangers_file_is_not_written(run, tmp_path):
    (tmp_path / "site").mkdir()
    other = tmp_path / "other.yaml"
    other.write_text(BAD)
    (tmp_path / "site/inventory.yaml").symlink_to(other)
    code, _, said = run(GOOD, "site/inventory.yaml")
    assert (code, other.read_text()) == (1, BAD)
    assert "symbolic link" in said


def test_edits_that_make_it_worse_are_dropped():
    span = Span(path="a", line=1, column=1, end_column=4)
    wrong = Diagnostic("SD201", "x", span=span, fix=Fix(span=span, text="new"))
    worse = [wrong, Diagnostic("SD202", "y")]
    assert fixed("old\n", lambda text: [wrong] if text == "old\n" else worse) == ("old\n", [])


SPANS = st.builds(
    Span,
    path=st.just("a"),
    line=st.integers(0, 9),
    column=st.integers(1, 12),
    end_column=st.none() | st.integers(0, 14),
)


@settings(max_examples=200, deadline=None)
@given(text=st.text("ab \t\r\n\x85", max_size=40), spans=st.lists(SPANS, max_size=6))
def test_any_edit_leaves_the_other_lines(text, spans):
    problems = [
        Diagnostic("SD301", "x", severity="warning", span=s, fix=Fix(span=s, text="é"))
        for s in spans
    ]
    new, done = fixed(text, lambda now: problems if now == text else [])
    assert new.count("é") == len(done)
    for kept in "\r\n\x85":
        assert new.count(kept) == text.count(kept)
