import copy
import re

import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from sipdeploy.editing.edit import (
    NotEditable,
    quoted,
    scalar,
    with_entries,
    with_values,
    without_entries,
)
from sipdeploy.inventory.document import parse
from sipdeploy.inventory.site import load_site

NEW = {"1009": {"name": "Zoë Ångström", "voicemail": True}}


def document(text):
    parsed, problems = parse(text, "a.yaml")
    assert problems == []
    return parsed


def users(text):
    return document(text).data["users"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("users:\n", "users:\n  1009: {}\n"),
        ("users: # none\nx: y\n", "users: # none\n  1009: {}\nx: y\n"),
        ("users: {} # none\n", "users: # none\n  1009: {}\n"),
        ("users: ~\r\nx: y\r\n", "users:\r\n  1009: {}\r\nx: y\r\n"),
        ("users: {\n}\n", "users: {1009: {}\n}\n"),
        ("{users: {}, x: y}", "{users: {1009: {}}, x: y}"),
        ('{"users": null}', '{"users": {"1009": {}}}'),
        ("# {\nusers:\n", "# {\nusers:\n  1009: {}\n"),
        ("", "users:\n  1009: {}\n"),
        ("x: y", "x: y\nusers:\n  1009: {}"),
        ("users: {1001}", "users: {1001, 1009: {}}"),
        ("users: {1001: , }", "users: {1001: , 1009: {}, }"),
        ("users:\n    '1001':", "users:\n    '1001':\n    '1009': {}"),
        ("users:\n  1: {}\n  # his\nx: y\n", "users:\n  1: {}\n  # his\n  1009: {}\nx: y\n"),
        ("users:\n  1: {}\n# hers\nx: y\n", "users:\n  1: {}\n  1009: {}\n# hers\nx: y\n"),
        ("users:\n  1:\t# tab\n", "users:\n  1:\t# tab\n  1009: {}\n"),
        (
            "users: {\n  1: {},\t# a, b\n  2: {}  # c\n}\n",
            "users: {\n  1: {},\t# a, b\n  2: {},  # c\n  1009: {}\n}\n",
        ),
        ("users: {\n\t1: {},\n}\n", "users: {\n\t1: {},\n\t1009: {},\n}\n"),
        ("users:\r  1: {}\rx: y\r", "users:\r  1: {}\r  1009: {}\rx: y\r"),
    ],
)
def test_an_entry_more(before, after):
    parsed, _ = parse(before, "a.yaml")
    assert with_entries(parsed, "users", {"1009": {}}) == after
    assert "1009" in users(after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("  1: {name: A}\n", "  9: {name: Bo Lee, voicemail: true}\n"),
        ("  1: { name: A }\n", "  9: { name: Bo Lee, voicemail: true }\n"),
        ('  "1": {"name": "A"}\n', '  "9": {"name": "Bo Lee", "voicemail": true}\n'),
        ("  1:\n     name: A\n", "  9:\n     name: Bo Lee\n     voicemail: true\n"),
        ("  1:\n    name: A\n  2:\n", "  9:\n    name: Bo Lee\n    voicemail: true\n"),
    ],
)
def test_the_style_is_that_of_the_neighbours(before, after):
    text = f"users:\n{before}"
    entry = {"9": {"name": "Bo Lee", "voicemail": True}}
    assert with_entries(document(text), "users", entry) == text + after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("users:\n  1: {}\n  2: {}\n  3: {}\n", "users:\n  1: {}\n  3: {}\n"),
        ("users:\n  # hers\n  2: {}  # x\n  3: {}\n", "users:\n  # hers\n  3: {}\n"),
        ("users:\n  2:\n    name: B\n    # old\n\n  # c\n", "users:\n\n  # c\n"),
        ("users: {1: {}, 2: {}, 3: {}}\n", "users: {1: {}, 3: {}}\n"),
        ("users: {2: {}, 3: {}}", "users: {3: {}}"),
        ("users: {1: {}, 2: {}}", "users: {1: {}}"),
        ("users: {1: {} , 2: {} }", "users: {1: {} }"),
        ("users: {2: {}}", "users: {}"),
        ("users: {\n  1: {},\n  2: {}\n}\n", "users: {\n  1: {}\n}\n"),
        ("users: {\n  2: {},\n  3: {}, # c\n}\n", "users: {\n  3: {}, # c\n}\n"),
        ("users: { # all\n  2: {},\n}\n", "users: { # all\n  }\n"),
        ("users: {1: {}\n  , 2: {}}", "users: {1: {}}"),
    ],
)
def test_an_entry_less(before, after):
    assert without_entries(document(before), "users", ["2"]) == after
    assert "2" not in (users(after) or {})


@pytest.mark.parametrize(
    ("keys", "after"),
    [
        ("134", "{2: {}}"),
        ("12", "{3: {}, 4: {}}"),
        ("34", "{1: {}, 2: {}}"),
        ("23", "{1: {}, 4: {}}"),
        ("1234", "{}"),
    ],
)
def test_several_entries_less(keys, after):
    text = "users: {1: {}, 2: {}, 3: {}, 4: {}}\n"
    assert without_entries(document(text), "users", keys) == f"users: {after}\n"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("users: {\n  1: {}, # a\n  2: {} # b, c\n}\n", "a.yaml:3:3"),
        ("users: {\n  1: {}, # a\n  2: {},\n}\n", "a.yaml:3:3"),
        ("users: {\n  1: {},\n  2: {}, # b\n}\n", "a.yaml:3:3"),
        ("users: {\n  2: {},\n  # of the third\n  3: {}\n}\n", "a.yaml:2:3"),
        ("users: {1: {} # a, b\n  , 2: {}}", "a.yaml:2:5"),
    ],
)
def test_an_entry_in_braces_beside_a_comment_is_left_to_a_person(text, place):
    with pytest.raises(NotEditable, match="comment beside `2`") as caught:
        without_entries(document(text), "users", ["2"])
    assert str(caught.value.span) == place


@pytest.mark.parametrize("text", ["users:\n  ? 1\n  : {}\n", "users:\n  1: {}\n  ? 2\n  : {}\n"])
def test_what_cannot_be_edited_is_said(text):
    with pytest.raises(NotEditable):
        with_entries(document(text), "users", NEW)
    with pytest.raises(NotEditable):
        without_entries(document(text), "users", [next(reversed(users(text)))])


@pytest.mark.parametrize(
    "value", ["old", '"old"', "'old'", "|-\n    old\n", ">-\n    old\n    er\n\n", '"o\\\n   ld"']
)
def test_another_value(value):
    text = f"users:\n  1: {value}"
    after = with_values(document(text + "\n  # c\n  2: x\n"), {("users", "1"): 'n"ew\\'})
    assert users(after) == {"1": 'n"ew\\', "2": "x"}
    assert after.startswith('users:\n  1: "n\\"ew\\\\"')
    assert after.endswith("\n  # c\n  2: x\n")


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20))
def test_every_text_reads_back_the_same(text):
    for written in (scalar(text), quoted(text)):
        assert document(f"users: [{written}]\n").data["users"] == [text], written
        assert document(f"users: {written}").data["users"] == text, written


# --- inventories in the styles that people use ---------------------------------------------------

COMMENTS = st.sampled_from(["", " # a comment", "\t# tab, and a comma", "  #{ 1001: 'x' }", " "])
NAMES = st.sampled_from(
    [
        "Alice",
        "'Bob, the \"builder\"'",
        '"Zoë # 1"',
        "Ли Вэй",
        "漢字",
        '"{}"',
        "O'Neil",
        '"\\u00e9"',
    ]
)
BREAKS = st.sampled_from(["\n", "\r\n", "\n", "\x85"])


@st.composite
def entries(draw, *, least=0):
    numbers = draw(st.lists(st.integers(1000, 1008), min_size=least, max_size=5, unique=True))
    fields = st.fixed_dictionaries(
        {}, optional={"name": NAMES, "voicemail": st.sampled_from(["true", "no"])}
    )
    return {str(number): draw(fields) for number in numbers}


def flow(fields, pad=""):
    inside = ", ".join(f"{key}: {value}" for key, value in fields.items())
    return f"{{{pad}{inside}{pad if inside else ''}}}"


@st.composite
def block(draw, users):
    """Users on separate lines, with comments and blank lines anywhere: (owner, line)."""
    indent = " " * draw(st.integers(1, 4))
    deeper = indent + " " * draw(st.integers(1, 4))
    quote = draw(st.sampled_from(["", "'", '"']))
    rows = [("", f"users:{draw(COMMENTS)}")]
    between = st.sampled_from([[], [], [""], [f"{indent}# of the group"], ["# far left", ""]])
    for number, fields in users.items():
        rows += [("", line) for line in draw(between)]
        key = f"{indent}{quote}{number}{quote}:"
        own = [f"{key}{draw(COMMENTS)}"]
        if fields and draw(st.booleans()):
            own += [f"{deeper}{name}: {value}{draw(COMMENTS)}" for name, value in fields.items()]
            own += draw(st.sampled_from([[], [f"{deeper}# of this one"]]))
        elif fields or draw(st.booleans()):
            pad = draw(st.sampled_from(["", " "]))
            own = [f"{key} {flow(fields, pad)}{draw(COMMENTS)}"]
        rows += [(number, line) for line in own]
    return [*rows, *(("", line) for line in draw(between))]


@st.composite
def braces(draw, users):
    """Users in braces, on one line or several, with or without a comma after the last."""
    rows = [f"{number}: {flow(fields)}" for number, fields in users.items()]
    comma = "," * draw(st.booleans()) if rows else ""
    if draw(st.booleans()):
        return [("", f"users: {{{', '.join(rows)}{comma}}}{draw(COMMENTS)}")]
    lines = [f"  {row},{draw(COMMENTS)}" for row in rows[:-1]]
    lines += [f"  {row}{comma}{draw(COMMENTS)}" for row in rows[-1:]]
    inside = list(zip(users, lines, strict=True))
    return [("", f"users: {{{draw(COMMENTS)}"), *inside, ("", f"}}{draw(COMMENTS)}")]


@st.composite
def inventories(draw, *, least=0, style=None):
    """A text, and its lines as (owner, line, ending)."""
    users = draw(entries(least=least))
    style = style or draw(st.sampled_from([block, braces]))
    head = ["domain: a.example", f"email: a@a.example{draw(COMMENTS)}", "", "# hosts"]
    hosts = ["hosts: {h: {address: 203.0.113.10}}", *draw(st.sampled_from([[], ["", "# users"]]))]
    tail = ["services:", f"  6000: {{kind: echo}}{draw(COMMENTS)}"]
    body = draw(style(users))
    head, hosts, tail = ([("", line) for line in part] for part in (head, hosts, tail))
    rows = [*head, *hosts, *body, *tail] if draw(st.booleans()) else [*head, *tail, *hosts, *body]
    ending = draw(BREAKS)
    last = ending if draw(st.booleans()) else ""
    whole = [(owner, line + ending) for owner, line in rows[:-1]]
    whole.append((rows[-1][0], rows[-1][1] + last))
    return "".join(line for _, line in whole), whole


def loaded(text):
    site, problems, parsed = load_site(text, "inventory.yaml")
    assert site is not None, (problems, text)
    return site, parsed


def ending(text):
    return next(each for each in ("\r\n", "\n", "\x85") if each in text)


def trimmed(text):
    return re.sub(r"[ \t]+(?=[\r\n\x85]|$)", "", text)


def has_only_more(old, new):
    """Whether `new` is `old` with one insertion, or with a comma and one insertion."""
    start = common(old, new)
    if old[start:] == new[start + len(new) - len(old) :]:
        return True
    if new[start] != ",":
        return False
    old, new = old[start:], new[start + 1 :]
    start = common(old, new)
    return old[start:] == new[start + len(new) - len(old) :]


def common(old, new):
    pairs = zip(old, new, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(old), len(new)))


@settings(max_examples=examples(500))
@given(inventories(least=1))
def test_no_byte_changes_but_those_of_the_new_user(given_):
    text, _ = given_
    site, parsed = loaded(text)
    after = with_entries(parsed, "users", NEW)
    wanted, changed = loaded(after)
    assert wanted == site.model_copy(update={"users": wanted.users})
    assert list(wanted.users) == [*site.users, "1009"]
    assert wanted.users["1009"].name == "Zoë Ångström"
    assert {n: wanted.users[n] for n in site.users} == site.users
    assert has_only_more(text, after)
    # a removal restores the text, except for blanks at the ends of lines; a last line keeps its
    # new line ending
    try:
        again = without_entries(changed, "users", ["1009"])
    except NotEditable:
        assert "#" in text
    else:
        assert trimmed(again) in (trimmed(text), trimmed(text + ending(text)))


@settings(max_examples=examples(500))
@given(inventories(least=1, style=block), st.data())
def test_exactly_the_lines_of_the_user_go(given_, data):
    text, rows = given_
    site, parsed = loaded(text)
    number = data.draw(st.sampled_from(sorted(site.users)))
    after = without_entries(parsed, "users", [number])
    assert after == "".join(line for owner, line in rows if owner != number)
    rest = {n: user for n, user in site.users.items() if n != number}
    assert loaded(after)[0] == site.model_copy(update={"users": rest})


@settings(max_examples=examples(500))
@given(inventories(least=1, style=braces), st.data())
def test_the_user_goes_out_of_braces(given_, data):
    text, rows = given_
    site, parsed = loaded(text)
    number = data.draw(st.sampled_from(sorted(site.users)))
    try:
        after = without_entries(parsed, "users", [number])
    except NotEditable:
        assert any("#" in line for owner, line in rows if owner)
        return
    rest = {n: user for n, user in site.users.items() if n != number}
    assert loaded(after)[0] == site.model_copy(update={"users": rest})
    if any(
        owner for owner, _ in rows
    ):  # on separate lines: no other line changes, except for commas and blanks
        others = "".join(line for owner, line in rows if owner != number)
        assert re.sub(r"[,\s]", "", after) == re.sub(r"[,\s]", "", others)
    else:
        start = common(text, after)
        assert text[start:].endswith(after[start:])


@settings(max_examples=examples(500))
@given(inventories())
def test_a_user_can_be_added_to_any_inventory(given_):
    site, parsed = loaded(given_[0])
    after, _ = loaded(with_entries(parsed, "users", NEW))
    assert {n: u for n, u in after.users.items() if n != "1009"} == site.users


@settings(max_examples=examples(500))
@given(inventories(least=1), st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1))
def test_another_value_changes_nothing_else(given_, value):
    _, parsed = loaded(given_[0])
    paths = [path for path in parsed.marks if path[0] == "users" and path[2:] == ("name",)]
    for path in paths:
        after = with_values(parsed, {path: value})
        start = common(parsed.text, after)
        assert start >= parsed.text.index(path[1])
        data = copy.deepcopy(document(after).data)
        assert data["users"][path[1]].pop("name") == value
        old = copy.deepcopy(document(parsed.text).data)
        old["users"][path[1]].pop("name")
        assert data == old
