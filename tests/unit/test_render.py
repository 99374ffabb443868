"""The quoting filters: accepted values, their quoted forms, and a test for every filter."""

import re

import jinja2
import pytest

from sipdeploy.services import render
from sipdeploy.services.render import Quoted, UnquotableError

BREAKS = ["\n", "\r", "\0", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\ud800", "\v", "\f"]


@pytest.mark.parametrize("good", ["1001", "*97", "sip.example.com", "a-b_c", "2001:db8::1", 5060])
def test_token_passes_as_it_is(good):
    assert render.token(good) == str(good)


@pytest.mark.parametrize(
    "bad", ["", "a b", "a;b", 'a"b', "a'b", "$x", "a\n", "\n", "#!x", "é", "\u0661"]
)
def test_token_refuses_what_would_need_quotes(bad):
    with pytest.raises(UnquotableError):
        render.token(bad)


def test_token_list():
    assert render.token_list(("opus", "ulaw")) == "opus,ulaw"
    with pytest.raises(UnquotableError):
        render.token_list(("opus", "ulaw\n"))


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "[2001:db8::1]"),
        ("::1", "[::1]"),
        ("::", "[::]"),
        ("sip.example.com", "sip.example.com"),
    ],
)
def test_uri_host_puts_only_ipv6_in_brackets(host, shown):
    assert render.uri_host(host) == shown


@pytest.mark.parametrize("bad", ["", "::1]:80 x", "1.2.3.4\n", ":: ", "[::1]"])
def test_uri_host_refuses_what_is_no_host(bad):
    with pytest.raises(UnquotableError):
        render.uri_host(bad)


ORIGINS = (
    "https://phone.example.org",
    "https://phone.example.org:8444",
    "http://localhost:3000",
    "https://[2001:db8::7]:8080",
)


def test_origin_pattern_matches_these_and_no_other():
    text = render.posix_pattern(ORIGINS)
    assert text.startswith('"^(')
    assert text.endswith(')$"')
    # Brackets with one character mean the same in POSIX and in Python, except `[[]`.
    pattern = re.compile(text[1:-1].replace("[[]", r"\[").replace("[]]", r"\]"))
    assert all(pattern.search(origin) for origin in ORIGINS)
    others = ["https://phoneXexample.org", "https://phone.example.org.evil.test", ""]
    others += [f"x{origin}" for origin in ORIGINS] + [f"{origin}/" for origin in ORIGINS]
    assert not [other for other in others if pattern.search(other)]


@pytest.mark.parametrize(
    "bad", ["phone.example.org", "https://a.b/c", "https://a|b", "https://(a)", "https://a\n", "*"]
)
def test_origin_pattern_refuses_what_is_no_origin(bad):
    with pytest.raises(UnquotableError):
        render.posix_pattern(["https://fine.example.org", bad])


def test_display_name_is_a_quoted_string_of_sip():
    assert render.display_name('Zoë "Z" \\ <x>; y') == r'"Zoë \"Z\" \\ <x>; y"'
    assert not isinstance(render.display_name("x"), Quoted)
    for bad in BREAKS:
        with pytest.raises(UnquotableError):
            render.display_name(f"x{bad}x")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Alice", "Alice"),
        ("  Zoë   Müller ", "Zoë Müller"),
        ('Eve; "the" <third>', "Eve the third"),
        ("a,b|c", "a b c"),
        ("${EXTEN} $(id) #exec", "EXTEN id exec"),
        ("back\\slash", "back slash"),
        (";--x--;", "--x--"),
        ('"', ""),
        ("김민준 🙂", "김민준 🙂"),
        ("Ł" * 80, "Ł" * 39),  # Asterisk keeps 79 bytes, and would cut the last character in half
    ],
)
def test_asterisk_name_loses_only_what_asterisk_would_read(name, shown):
    assert render.asterisk_name(name) == shown


@pytest.mark.parametrize("bad", BREAKS)
def test_asterisk_name_refuses_breaks(bad):
    with pytest.raises(UnquotableError):
        render.asterisk_name(f"x{bad}x")


# --- the environment -----------------------------------------------------------------------------


def printed(text: str, **values: object) -> str:
    return render.environment().from_string(text).render(values)


@pytest.mark.parametrize("value", ["text", "", None, True, 1.5, ["a"], ("a",), {"a": 1}, b"x"])
def test_what_no_filter_has_quoted_is_not_printed(value):
    with pytest.raises(UnquotableError):
        printed("{{ value }}", value=value)


def test_numbers_and_quoted_text_are_printed():
    assert printed("{{ a }} {{ b | token }}", a=5, b="x") == "5 x"


@pytest.mark.parametrize("more", ["| upper", "~ 'x'", "| replace('a', 'b')", "| trim"])
def test_quoted_text_that_was_changed_is_quoted_no_longer(more):
    with pytest.raises(UnquotableError):
        printed("{{ (value | token) " + more + " }}", value="a")


def test_templates_are_compiled_once_and_again_when_they_change(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "templates"
    folder.mkdir()
    monkeypatch.setattr(render, "template_directory", lambda: folder)
    compiled = []
    really = jinja2.Environment.compile
    monkeypatch.setattr(
        jinja2.Environment,
        "compile",
        lambda self, *rest, **named: compiled.append(rest[0]) or really(self, *rest, **named),
    )
    for text in ("one", "one", "two", "two"):
        (folder / "a.j2").write_text(text)
        made = render.environment.__wrapped__()
        assert made.get_template("a.j2").render() == text
    assert compiled == ["one", "two"]


def test_an_unknown_name_is_an_error_and_not_nothing():
    with pytest.raises(jinja2.UndefinedError):
        printed("{% if nothing.such %}{% endif %}")


@pytest.mark.parametrize(
    "template",
    sorted(
        p for f in ("kamailio", "asterisk") for p in (render.template_directory() / f).glob("*.j2")
    ),
    ids=lambda p: p.name,
)
def test_templates_use_only_our_filters_and_no_second_way_of_printing(template):
    tree = jinja2.Environment(autoescape=True).parse(template.read_text("utf-8"))
    used = {node.name for node in tree.find_all(jinja2.nodes.Filter)}
    assert used <= render.FILTERS.keys()
    others = (jinja2.nodes.Macro, jinja2.nodes.FilterBlock, jinja2.nodes.AssignBlock)
    assert not list(tree.find_all(others))


def test_every_filter_gives_quoted_text():
    examples = {"token_list": ["a"], "posix_pattern": ["https://a.example"], "phone_key": "*"}
    for name, function in render.FILTERS.items():
        assert isinstance(function(examples.get(name, "a")), Quoted), name
