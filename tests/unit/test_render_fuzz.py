"""No value changes the structure of a rendered file, neither valid nor invalid values.

Small parsers, written after those of Asterisk and Kamailio (A:main/config.c, A:main/callerid.c,
K:src/core/cfg.lex), read the rendered files and compare them with those of a harmless site.
"""

import re
import sqlite3
from functools import cache

from examples import examples
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from sipdeploy.inventory.fields import PortRange
from sipdeploy.inventory.models import Limits
from sipdeploy.inventory.site import HostEntry, Ports, Service, Site, User, Versions, load_site
from sipdeploy.services import file_set, kamailio
from sipdeploy.services.render import display_name

# --- the parsers ---------------------------------------------------------------------------------


def uncommented(text: str) -> list[str]:
    r"""Return the lines without comments: `;` unless `\;`, and nested `;--` to `--;`."""
    lines, depth = [], 0
    for line in text.split("\n"):
        kept, rest = "", line
        while (at := rest.find(";")) >= 0:
            before, after = rest[:at], rest[at + 1 :]
            if before.endswith("\\"):
                kept, rest = kept + ("" if depth else before[:-1] + ";"), after
            elif after.startswith("--") and after[2:3] != "-":
                kept, rest, depth = kept + ("" if depth else before), after[2:], depth + 1
            elif depth and before.endswith("--"):
                rest, depth = after, depth - 1
            elif depth:
                rest = after
            else:
                kept, rest = kept + before, ""
                break
        lines.append(kept + ("" if depth else rest))
    return lines


def asterisk(text: str) -> list[tuple[str, str]]:
    """Parse a file in order: ("[", section and options), ("#", directive), (key, value)."""
    said = []
    for line in map(str.strip, uncommented(text)):
        if line.startswith("["):
            said.append(("[", line))
        elif line.startswith("#"):
            said.append(("#", line))
        elif line:
            key, sign, value = line.partition("=")
            assert sign, f"neither section nor key: {line!r}"
            said.append((key.strip(), value.removeprefix(">").strip()))
    return said


KAMAILIO = re.compile(
    r"""(?P<directive>\#![^\n]*)
    |(?P<comment>\#[^\n]*|//[^\n]*|/\*.*?\*/)
    |(?P<string>"(?:\\.|[^"\\])*"|'[^']*')
    |(?P<word>[A-Za-z0-9_.]+)
    |(?P<space>\s+)
    |(?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)


def tokens(text: str) -> list[str]:
    """Return the Kamailio tokens of a file; strings and comments without their contents."""
    found = []
    for match in KAMAILIO.finditer(text):
        kind = match.lastgroup
        if kind == "directive":
            found.append(re.sub(r'"[^"]*"', "STRING", match[0]))
        elif kind in {"string", "comment"}:
            found.append(kind.upper())
        elif kind != "space":
            found.append(match[0])
    return found


def callerid(value: str) -> tuple[str, str | None]:
    """Return name and number, as ast_callerid_parse does."""
    text = value.strip()
    text = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    if "<" not in text:
        return text.strip('"'), None
    name, _, number = text.rpartition("<")
    name = name.strip()
    name = name[1:-1] if len(name) > 1 and name[0] == name[-1] == '"' else name
    return re.sub(r"\\(.)", r"\1", name), number.rpartition(">")[0] if ">" in number else number


def quoted_string(text: str) -> str:
    """Return the content of a quoted-string (RFC 3261, section 25.1); AssertionError otherwise."""
    assert re.fullmatch(r'"(?:[^"\\\x00-\x1f\x7f]|\\[\x00-\x09\x0b\x0c\x0e-\x7f])*"', text)
    return re.sub(r"\\(.)", r"\1", text[1:-1])


# --- sites ---------------------------------------------------------------------------------------

HARMLESS = {
    "domain": "sip.example.com",
    "name": "Alice",
    "number": "1001",
    "service": "6000",
    "kind": "echo",
    "origin": "https://phone.example.com",
    "public": "203.0.113.10",
    "private": "10.0.0.5",
    "port": 8443,
    "contacts": 5,
    "hash": "0" * 32,
}


def site(**hostile) -> Site:
    """An unchecked site: one user with a mailbox, one service, one origin, NAT."""
    value = HARMLESS | hostile
    host = HostEntry.model_construct(
        address=value["public"], public_address=value["public"], private_address=value["private"]
    )
    user = User.model_construct(
        name=value["name"], voicemail=True, max_contacts=value["contacts"], password=None
    )
    ports = Ports.model_construct(
        wss=value["port"],
        kamailio=5062,
        asterisk=5060,
        registrar=5063,
        rtp=PortRange(10000, 20000),
    )
    return Site.model_construct(
        domain=value["domain"],
        email="ops@example.com",
        hosts={"sip1": host},
        ports=ports,
        authentication=value.get("mode", "asterisk"),
        origins=(value["origin"],),
        users={value["number"]: user},
        services={value["service"]: Service.model_construct(kind=value["kind"])},
        limits=Limits(),
        versions=Versions(),
    )


def texts(**hostile) -> dict[str, str]:
    """Map paths to texts; a table of the database has the path `sipdeploy.db/TABLE`."""
    made = site(**hostile)
    number = hostile.get("number", HARMLESS["number"])
    hashes = {number: hostile.get("hash", HARMLESS["hash"])}
    files = file_set(made, "sip1", versions=made.versions, credentials=hashes)
    found = dict(files.text())
    for table, rows in tables(files).items():
        found[f"sipdeploy.db/{table}"] = repr(rows)
    return found


def tables(files) -> dict[str, list[tuple[str, str]]]:
    (content,) = (file.content for file in files.files if file.path == kamailio.DATABASE)
    connection = sqlite3.connect(":memory:")
    connection.deserialize(content)
    found = {
        table: list(connection.execute(f"SELECT key_name, key_value FROM {table}"))
        for table in kamailio.TABLES
    }
    connection.close()
    return found


@cache
def harmless(mode: str) -> dict[str, str]:
    return texts(mode=mode)


# --- comparisons ---------------------------------------------------------------------------------

PLAIN = re.compile(r"[A-Za-z0-9._:*/+@,-]*\Z")


def same_asterisk(path: str, one: str, other: str, number: str) -> None:
    """Same sections and keys in the same order; changed values have no special characters."""
    mine, theirs = asterisk(one), asterisk(other)
    assert len(mine) == len(theirs), path
    assert one.count("\n") == other.count("\n")
    for (key, value), (key_there, value_there) in zip(mine, theirs, strict=True):
        if (key, value) == (key_there, value_there):
            continue
        if key == "callerid":
            assert callerid(value_there)[1] == number
        elif key == "outbound_proxy":
            assert value_there == f"sip:127.0.0.1:5062;lr;number={number}"
        elif path.endswith("voicemail_users.conf"):
            assert value_there.startswith("-,")
            assert not re.search(r"[,|\"<>;]", value_there[2:])
        elif key == "[":
            assert re.fullmatch(
                rf"\[{re.escape(number)}\]\((user|contacts|password)\)", value_there
            )
        else:
            assert PLAIN.match(re.sub(r"[()?]|hint", "", value_there))
            for mark in "(,)":
                assert value_there.count(mark) == value.count(mark)
        if key != key_there:  # a mailbox, or a host with another address
            assert PLAIN.match(key_there)


def same_kamailio(one: str, other: str) -> None:
    """Same tokens, except the contents of strings, and other words in place of words."""
    mine, theirs = tokens(one), tokens(other)
    if len(mine) != len(theirs):  # an address is one word, or several for IPv6
        shorten = re.compile(r"(?m)^listen=tls:[0-9A-Za-z.:\[\]-]+ advertise [0-9A-Za-z.:\[\]-]+$")
        assert shorten.search(other)
        mine, theirs = tokens(shorten.sub("", one)), tokens(shorten.sub("", other))
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs, strict=True):
        assert a == b or (re.fullmatch(r"[\w.]+", a) and re.fullmatch(r"[A-Za-z0-9.]+", b))


def stays_in_place(mode: str, **hostile) -> None:
    """Render these values: either an error, or files with the structure of the harmless ones."""
    try:
        there = texts(mode=mode, **hostile)
    except (ValueError, TypeError):  # UnquotableError, or not an address or a number
        return
    here = harmless(mode)
    number = str(hostile.get("number", HARMLESS["number"]))
    assert there.keys() == here.keys()
    for path, text in there.items():
        assert "\0" not in text
        if path.startswith("/etc/asterisk") and path.endswith(".conf"):
            same_asterisk(path, here[path], text, number)
        elif path == "/etc/kamailio/kamailio.cfg":
            same_kamailio(here[path], text)
        elif not path.startswith("sipdeploy.db"):
            assert text.count("\n") == here[path].count("\n")
    rows = tables(
        file_set(
            site(mode=mode, **hostile),
            "sip1",
            versions=Versions(),
            credentials={number: str(hostile.get("hash", HARMLESS["hash"]))},
        )
    )
    ((_, value),) = rows["users"]
    assert re.fullmatch(r"voicemail=1;contacts=-?\d+", value)
    if name := hostile.get("name", HARMLESS["name"]):
        assert [quoted_string(value) for _, value in rows["names"]] == [name]


SHARP = [
    *("\n", "\r", "\0", '"', "'", ";", "\\", "\\;", ";--", "--;", "#!", "#", "${", "}", "$(", ")"),
    *("[", "]", "(", "=>", "=", ",", "|", "<", ">", "/*", "*/", "//", "!", "$", "{{", "%}", "é"),
    *(
        "\u2028",
        "\x85",
        "\x1b[31m",
        "\u202e",
        "  ",
        "\t",
        "\ud800",
        "&",
        "@",
        ":",
        "*",
        "_X.",
        "%",
    ),
    *('"\nlisten=udp:0.0.0.0:5060\n', "\n[x]\ntype=endpoint\n", "\n#exec id\n", "#!define A B"),
    *("${SHELL(id)}", "$(id)", "`id`", '!g"\n', "1001", "a", "-", "."),
]
ordinary = st.from_regex(r"[A-Za-z0-9*][A-Za-z0-9._:*/+-]{0,20}", fullmatch=True)
texty = st.one_of(
    st.tuples(ordinary, st.sampled_from(SHARP), st.one_of(st.just(""), ordinary)).map("".join),
    st.lists(st.sampled_from(SHARP), min_size=1, max_size=6).map("".join),
    st.text(min_size=1, max_size=30),
    ordinary,
)
modes = st.sampled_from(["kamailio", "asterisk"])
KEYS = ["domain", "number", "service", "kind", "origin", "public", "private", "hash", "port"]
few = settings(max_examples=examples(300), deadline=None)


@few
@given(mode=modes, key=st.sampled_from([*KEYS, "contacts"]), value=texty)
@example(mode="kamailio", key="private", value="a/*b")
@example(mode="kamailio", key="private", value="a//b")
@example(mode="kamailio", key="origin", value='https://a"b')
@example(mode="kamailio", key="contacts", value="5;voicemail=1")
@example(mode="asterisk", key="kind", value="echo,s,1)\n same => n,System(id")
@example(mode="asterisk", key="number", value="1001](user)\n[x")
@example(mode="asterisk", key="hash", value="0;--")
@example(mode="asterisk", key="kind", value="echo,x")
@example(mode="asterisk", key="number", value="1001;x")
def test_a_value_that_the_model_would_refuse_stays_in_its_place_or_is_refused(mode, key, value):
    stays_in_place(mode, **{key: value})


@few
@given(mode=modes, name=texty)
@example(mode="kamailio", name='"')
@example(mode="kamailio", name="\\")
@example(mode="asterisk", name='Eve" <1006>')
@example(mode="asterisk", name="x\\")
@example(mode="asterisk", name="Ł" * 80)
@example(mode="asterisk", name=";--")
def test_a_name_stays_a_name(mode, name):
    stays_in_place(mode, name=name)


@few
@given(mode=modes, values=st.fixed_dictionaries(dict.fromkeys(("name", "origin"), texty)))
def test_several_values_do_not_help_each_other(mode, values):
    stays_in_place(mode, **values)


# Values that an inventory may contain, written to YAML, parsed and checked.
sane_text = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=80)


@few
@given(
    mode=modes,
    name=sane_text,
    number=st.from_regex(r"[0-9]{2,15}", fullmatch=True),
    service=st.from_regex(r"[0-9*]{1,15}", fullmatch=True),
    domain=st.from_regex(r"([a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?\.){1,3}[a-z]{2,5}", fullmatch=True),
)
def test_what_the_model_lets_through_is_always_rendered(mode, name, number, service, domain):
    text = f"""\
domain: {domain}
email: a@b.example
authentication: {mode}
hosts: {{sip1: {{address: 203.0.113.10, private_address: 10.0.0.5}}}}
origins: [https://{domain}, 'https://[2001:db8::1]:8080']
users: {{'{number}': {{name: '{name.replace("'", "''")}', voicemail: yes}}}}
services: {{'{service}': {{kind: echo}}}}
"""
    found, _, _ = load_site(text, "inventory.yaml")
    assume(found is not None)
    user = found.users[number]
    files = file_set(
        found, "sip1", versions=found.versions, credentials={number: HARMLESS["hash"]}
    )
    assert tables(files)["users"] == [(number, "voicemail=1;contacts=5")]
    if user.name:
        assert quoted_string(tables(files)["names"][0][1]) == user.name
    ids = [
        v for k, v in asterisk(files.text()["/etc/asterisk/pjsip_users.conf"]) if k == "callerid"
    ]
    assert [callerid(value)[1] for value in ids] == [number]
    assert all(len(callerid(value)[0].encode()) < 80 for value in ids)
    same_asterisk(
        "/etc/asterisk/extensions.conf",
        harmless(mode)["/etc/asterisk/extensions.conf"],
        files.text()["/etc/asterisk/extensions.conf"],
        number,
    )


# --- the parsers themselves ----------------------------------------------------------------------


def test_comments_are_read_as_asterisk_reads_them():
    text = "a=1;x\nb=2\\;3\nc=4 ;-- x\nd=5\n--; e=6\n;--- only this line\nf=7\n;-- ;-- --; --; g=8"
    assert asterisk(text) == [
        ("a", "1"),
        ("b", "2;3"),
        ("c", "4"),
        ("e", "6"),
        ("f", "7"),
        ("g", "8"),
    ]


def test_callerid_is_read_as_asterisk_reads_it():
    assert callerid('"Alice" <1001>') == ("Alice", "1001")
    assert callerid("<1001>") == ("", "1001")
    assert callerid('"Eve" <1006>" <1003>') == ('Eve" <1006>', "1003")


def test_the_kamailio_tokens_see_a_break():
    assert tokens('a="x;y"; # c\n/* b */ d') == [
        "a",
        "=",
        "STRING",
        ";",
        "COMMENT",
        "COMMENT",
        "d",
    ]
    assert tokens('a="x"; b="y"') != tokens('a="x; b=y"')
    assert display_name('a"b') == '"a\\"b"'
