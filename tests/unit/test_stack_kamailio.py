"""The rules of kamailio.cfg: no report about ours, one for each defect, and never an exception."""

import re
import time

import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from stack_kamailio import GOOD, PLACE, codes, found

from sipdeploy.lint.stack import kamailio
from sipdeploy.lint.stack.files import StackFile
from sipdeploy.lint.stack.kamailio import catalogue
from sipdeploy.lint.stack.kamailio.tokens import tokens


def test_the_good_configuration_of_these_tests_has_no_finding():
    assert found(GOOD) == []


# --- the configuration that the design judges: each defect, in words of its own ------------------

GUIDE = """\
children=8
listen=udp:0.0.0.0:5062 advertise 127.0.0.1:5062
listen=tcp:0.0.0.0:5062
listen=tls:0.0.0.0:8443
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "tls.so"
loadmodule "xhttp.so"
loadmodule "websocket.so"
loadmodule "nathelper.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
event_route[xhttp:request] {
    if (ws_handle_handshake()) exit;
}
request_route {
    if ($si == "127.0.0.1" && proto == UDP) {
        record_route();
        if (!lookup("location")) exit;
        t_relay();
        exit;
    }
    if (proto == WS || proto == WSS) {
        if (is_method("INVITE")) {
            if (lookup("location")) {
                record_route();
                t_relay();
                exit;
            }
        }
        if (is_method("REGISTER")) {
            save("location", "0x04");
        }
        $du = "sip:127.0.0.1:5060";
        t_on_reply("FROM_BACKEND");
        t_relay();
        exit;
    }
}
onreply_route[FROM_BACKEND] {
    if (is_method("REGISTER") && status =~ "200") save("location");
}
"""


def line_of(text: str, excerpt: str) -> int:
    return text[: text.index(excerpt)].count("\n") + 1


@pytest.mark.parametrize(
    ("code", "excerpt"),
    [
        pytest.param("SD808", "listen=tls", id="no enable_tls"),
        pytest.param("SD809", 'loadmodule "websocket.so"', id="no tcp_accept_no_cl"),
        pytest.param("SD810", 'save("location", "0x04")', id="save before authentication"),
        pytest.param("SD811", 'lookup("location")) {\n', id="no authentication of INVITE"),
        pytest.param("SD807", "record_route", id="no in-dialog routing"),
        pytest.param("SD815", 'loadmodule "usrloc.so"', id="dead sockets kept"),
        pytest.param("SD821", "listen=tls", id="limits as shipped"),
        pytest.param("SD817", 'loadmodule "tm.so"', id="kamcmd without ctl"),
        pytest.param("SD818", "request_route", id="no flood control"),
        pytest.param("SD813", "$si ==", id="trust in 127.0.0.1"),
        pytest.param("SD816", "listen=udp", id="private socket on every address"),
        pytest.param("SD816", "listen=tcp", id="the same port by TCP"),
        pytest.param("SD822", "listen=tls", id="connections of one address as shipped"),
        pytest.param("SD827", "ws_handle_handshake", id="Origin not checked"),
        pytest.param("SD819", 'loadmodule "websocket.so"', id="replies of anyone"),
    ],
)
def test_each_defect_of_the_guide_is_reported_at_its_line(code, excerpt):
    assert (line_of(GUIDE, excerpt), code) in found(GUIDE, version=None)


# --- mutations -----------------------------------------------------------------------------------

MUTATIONS = [
    ("SD808", "enable_tls=yes\n", ""),
    ("SD809", "tcp_accept_no_cl=yes\n", ""),
    ("SD810", "        route(AUTH);\n", "        force_rport();\n"),
    (
        "SD810",
        '            www_challenge("DOMAIN", "1");\n            exit;\n',
        '            www_challenge("DOMAIN", "1");\n',
    ),
    (
        "SD810",
        '        if (!www_authenticate("DOMAIN", "users")) {',
        '        if (www_authenticate("DOMAIN", "users")) {',
    ),
    ("SD810", "if (!isflagset(FLAG_BACKEND)) {", "if (isflagset(FLAG_BACKEND)) {"),
    (
        "SD811",
        '            proxy_challenge("DOMAIN", "1");\n            exit;\n',
        '            proxy_challenge("DOMAIN", "1");\n',
    ),
    (
        "SD811",
        '    if (is_method("REGISTER")) {\n        if (!w',
        '    if (is_method("INVITE")) return;\n    if (is_method("REGISTER")) {\n        if (!w',
    ),
    ("SD813", " || $sp != 5060) exit;", ") exit;"),
    (
        "SD812",
        "    if (!isflagset(FLAG_BACKEND)) {\n",
        "    if (uri != myself) route(RELAY);\n    if (!isflagset(FLAG_BACKEND)) {\n",
    ),
    ("SD807", "    route(DIALOG);\n", ""),
    ("SD807", "    if (loose_route()) {\n", '    if (is_method("INVITE") && loose_route()) {\n'),
    (
        "SD807",
        "        handle_ruri_alias();\n        route(RELAY);\n",
        "        handle_ruri_alias();\n",
    ),
    (
        "SD807",
        "    if (!has_totag()) return;\n",
        '    if (!has_totag() || is_method("BYE")) return;\n',
    ),
    ("SD805", "    route(DIALOG);\n", "    route(DIALOGS);\n"),
    ("SD805", 't_on_failure("MISSED")', 't_on_failure("MISED")'),
    ("SD806", '    t_on_reply("FROM_PHONE");\n', ""),
    ("SD815", 'modparam("usrloc", "handle_lost_tcp", 1)\n', ""),
    ("SD816", "listen=udp:127.0.0.1:5062", "listen=udp:0.0.0.0:5062"),
    ("SD820", "TLSv1.2+", "TLSv1+"),
    ("SD817", 'loadmodule "ctl.so"\n', ""),
    ("SD818", "    if (!pike_check_req()) exit;\n", ""),
    ("SD819", "    if (!t_check_trans()) drop;\n", "    t_check_trans();\n"),
    ("SD824", "        if ($au != $tU) {\n", "        if ($au == $null) {\n"),
    ("SD824", "        if ($au != $fU) {\n", "        if ($au == $null) {\n"),
    ("SD821", "tls_max_connections=4096\n", ""),
    ("SD822", "tcp_accept_iplimit=1024\n", ""),
]


@pytest.mark.parametrize(("code", "before", "after"), MUTATIONS)
def test_a_mutation_of_a_good_configuration_is_found(code, before, after):
    assert GOOD.count(before) == 1
    assert code in codes(GOOD.replace(before, after))


# --- no false alarm ------------------------------------------------------------------------------

REQUEST = 'loadmodule "registrar.so"\nrequest_route {\n%s}\n%s'


@pytest.mark.parametrize(
    "body",
    [
        'auth_check("$fd", "users", "1"); if ($rc < 0) { auth_challenge("$fd", "0"); exit; }',
        'if (!auth_check("$fd", "users", "1")) { auth_challenge("$fd", "0"); exit; }',
        'if (auth_check("$fd", "users", "1") < 0) { auth_challenge("$fd", "0"); exit; }',
        'if (!(auth_check("$fd", "users", "1"))) { exit; } else { xlog("fine\\n"); }',
        "route(A);",
        "if (!route(A)) exit;",
        "route(A); if ($retcode != 1) { exit; }",
        'if (!allow_source_address("1")) exit;',
        'if ($si != "192.0.2.7") exit;',
        "if (src_ip != 192.0.2.7 && src_ip != 192.0.2.8) exit;",
        "if ($sht(trusted=>$si) == $null) exit;",
        '$var(ok) = 0; if (auth_check("$fd", "u", "1")) $var(ok) = 1; if ($var(ok) == 0) exit;',
        'if (!auth_check("$fd", "users", "1")) { return; }',
        'if (!is_method("REGISTER")) { t_relay(); exit; } else { exit; }',
        'switch ($rm) { case "REGISTER": if (!auth_check("a", "b", "1")) exit; break; default: }',
        'auth_check("a", "b", "1"); switch ($rc) { case -1: case -2: exit; case 1: break; }',
    ],
)
def test_a_registrar_with_a_check_is_not_open(body):
    route = 'route[A] { if (!auth_check("$fd", "users", "1")) return -1; return 1; }'
    if body == "route(A);":
        route = 'route[A] { if (!auth_check("$fd", "users", "1")) { exit; } }'
    text = REQUEST % (f'{body}\nif (is_method("REGISTER")) save("location");\n', route)
    assert "SD810" not in codes(text)


@pytest.mark.parametrize(
    "body",
    [
        'if (!auth_check("$fd", "users", "1")) { auth_challenge("$fd", "0"); }',
        'if ($ua =~ "phone") { if (!auth_check("$fd", "users", "1")) exit; }',
        'if (is_method("INVITE")) { if (!auth_check("$fd", "users", "1")) exit; }',
        'auth_check("$fd", "users", "1");',
        "route(A);",
        "if ($sht(banned=>$si) != $null) exit;",
        "while ($var(i) < 3) { $var(i) = $var(i) + 1; }",
    ],
)
def test_a_registrar_whose_check_can_be_passed_by_is_open(body):
    route = 'route[A] { if (!auth_check("$fd", "users", "1")) return -1; return 1; }'
    text = REQUEST % (f'{body}\nif (is_method("REGISTER")) save("location");\n', route)
    assert "SD810" in codes(text)


def test_a_reply_may_save():
    text = """\
loadmodule "registrar.so"
request_route { t_on_reply("A"); $du = "sip:10.0.0.1"; t_relay(); }
onreply_route[A] { if (status == "200") save("location"); }
"""
    assert "SD810" not in codes(text)


@pytest.mark.parametrize(
    ("body", "is_open"),
    [
        ('save("location");', True),
        ('if (allow_source_address("1")) save("location");', True),  # of the visitor of a page
        ('if (auth_check("$fd", "u", "1")) save("location");', False),
        ('if ($hdr(Origin) == "https://a.example.com") exit;\nsave("location");', False),
        ('$du = "sip:10.0.0.1"; t_relay();', False),  # the server there may ask for a password
    ],
)
def test_the_origin_of_a_page_matters_where_no_password_is_needed(body, is_open):
    text = f"request_route {{ {body} }}\nevent_route[xhttp:request] {{ ws_handle_handshake(); }}\n"
    assert ("SD827" in codes(text)) == is_open


def test_who_listens_for_this_host_alone_is_not_open():
    text = REQUEST % ('save("location");\n', "listen=udp:127.0.0.1:5060\n")
    assert "SD810" not in codes(text)


def test_calls_from_other_domains_need_no_password():
    text = """\
request_route {
    if (from_uri == myself) {
        if (!proxy_authenticate("$fd", "users")) { proxy_challenge("$fd", "0"); exit; }
    }
    if (from_uri != myself && uri != myself) exit;
    if (!lookup("location")) exit;
    t_relay();
}
"""
    assert not codes(text) & {"SD811", "SD812", "SD814"}


BACKEND = """\
request_route {
    if (is_method("INVITE")) { record_route(); lookup("location"); t_relay(); exit; }
    if (is_method("ACK|BYE")) { %s t_relay(); exit; }
}
"""


def test_a_dialog_may_go_to_the_address_in_its_requests_except_to_browsers():
    assert "SD807" not in codes(BACKEND % "")
    assert "SD807" in codes(BACKEND % '$du = "sip:10.0.0.1";')
    assert "SD807" in codes('loadmodule "websocket.so"\n' + BACKEND % "")


# --- the preprocessor ----------------------------------------------------------------------------


def parsed(text: str, **files: str):
    others = {f"/etc/kamailio/{n}.cfg": text for n, text in files.items()}
    found = {place: StackFile(path=place, place=place, text=t) for place, t in others.items()}
    return kamailio.parse(StackFile(path="k", place=PLACE, text=text), found).syntax


def test_only_active_lines_count():
    text = "#!define A\n#!ifdef A\nx=1\n#!else\nx=2\n#!endif\n#!ifndef A\nx=3\n#!endif\n"
    assert [setting.value for setting in parsed(text).settings] == ["1"]


def test_defines_and_substitutions_are_put_in():
    text = '#!define PORT 5062\n#!substdef "!HOST!10.0.0.1!g"\n'
    text += 'listen=HOST\nport=PORT\nalias="x.HOST"\n'
    assert [setting.value for setting in parsed(text).settings] == [
        "10.0.0.1",
        "5062",
        "x.10.0.0.1",
    ]


def test_an_include_is_read_where_it_stands():
    text = 'a=1\ninclude_file "b.cfg"\nc=3\n'
    syntax = parsed(text, b='b=2\ninclude_file "/etc/kamailio/b.cfg"\n')
    assert [s.name for s in syntax.settings][:2] == ["a", "b"]
    assert syntax.settings[-1].name == "c"
    assert syntax.settings[1].token.file.place == "/etc/kamailio/b.cfg"
    assert syntax.is_complete


def test_a_missing_include_silences_what_is_absent():
    bad = 'loadmodule "sl.so"\nlisten=tls:192.0.2.1:5061\nrequest_route { route(X); t_relay(); }\n'
    assert {"SD801", "SD805", "SD808"} <= codes(bad)
    assert not codes(f'include_file "more.cfg"\n{bad}')
    assert codes(f'import_file "more.cfg"\n{bad}') >= {"SD808"}
    assert not codes(f'import_file "more.cfg"\n{bad}') & {"SD801", "SD805"}


def test_a_missing_quote_is_the_only_error_of_its_file():
    text = 'request_route {\n  if (!www_authorize("x, "users")) exit;\n  route(relay);\n}\n'
    text += 'route[relay] {\n  sl_send_reply("200", "OK");\n}\n'
    assert [each for each in found(text) if each[1] != "SD818"] == [(2, "SD826")]
    assert (1, "SD826") in found('log_name="kamailio\nlisten=udp:192.0.2.1:5060\n')


def test_a_finding_in_an_include_points_there():
    listen = "# tls\nlisten=tls:192.0.2.1:5061\n"
    places = found(
        'include_file "tls-listen.cfg"\n', files=[("/etc/kamailio/tls-listen.cfg", listen)]
    )
    assert (2, "SD808") in places


def test_tls_cfg_is_read_beside_kamailio_cfg_and_alone():
    tls = "[server:default]\nmethod = TLSv1.1+ # old\n[client:default]\nmethod = TLSv1.2+\n"
    text = 'loadmodule "tls.so"\nmodparam("tls", "config", "/etc/kamailio/tls.cfg")\n'
    assert (2, "SD820") in found(text, files=[("/etc/kamailio/tls.cfg", tls)])
    assert found(tls) == [(2, "SD820")]


def test_parameters_depend_on_the_version():
    text = 'loadmodule "tls.so"\nmodparam("tls", "keylog_mode", 1)\n'
    assert "SD803" in codes(text, version=(5, 4))
    assert "SD803" in codes(text, version=(5, 5))
    assert "SD803" not in codes(text, version=(6, 1))
    assert "SD803" not in codes(text, version=None)


def test_a_module_that_the_catalogue_does_not_know_may_have_any_function():
    call = 'request_route { own_function("x"); }\n'
    assert "SD804" in codes(f'loadmodule "tm.so"\n{call}')
    assert "SD804" not in codes(f'loadmodule "tm.so"\nloadmodule "own.so"\n{call}')


def test_the_catalogue_knows_what_each_version_offers():
    assert {"t_relay", "t_on_reply"} <= catalogue.names("tm", "functions", None)
    assert "handle_lost_tcp" in catalogue.names("usrloc", "parameters", (5, 4))
    assert "lookup_branches" not in catalogue.CORE
    assert not catalogue.names("tm", "functions", None) & catalogue.CORE


def test_a_global_parameter_has_a_first_version():
    """`kamailio -c` of 5.4 and 5.6 refuses the good configuration for this line alone."""
    assert codes(GOOD, version=(5, 6)) == {"SD825"}
    older = GOOD.replace("tcp_accept_iplimit=1024\n", "")
    assert codes(older, version=(5, 4)) == codes(older, version=(5, 6)) == set()
    assert codes(GOOD, version=None) == set()


@pytest.mark.parametrize(
    ("version", "is_warned"), [((5, 6), False), ((5, 7), True), ((5, 8), True), ((6, 0), False)]
)
def test_the_thread_mode_is_asked_for_where_its_default_is_unsafe(version, is_warned):
    assert ("SD823" in codes('loadmodule "tls.so"\n', version=version)) == is_warned


# --- any input -----------------------------------------------------------------------------------

PIECES = [
    *("request_route", "route[", "]", "{", "}", "(", ")", "if", "else", "while", "switch", "case"),
    *(
        "default",
        ":",
        ";",
        "exit",
        "return",
        "$var(x)",
        "$(",
        "$",
        "$sht(a=>$si)",
        "==",
        "!=",
        "=~",
    ),
    *(
        "&&",
        "||",
        "!",
        "save",
        "lookup",
        "t_relay",
        "loose_route",
        "is_method",
        '"',
        "'",
        "\\",
        "#",
    ),
    *("#!define A A", "#!ifdef A", "#!else", "#!endif", '#!substdef "!A!B A!g"', "/*", "*/", "//"),
    *("\n", " ", "listen=", "tls:", "modparam", "loadmodule", "include_file", '"k.cfg"', ",", "A"),
    *("#!include_file", "#!subst", "\0", "\x85", "\ud800", "é", "=", "-", "[server:x]"),
]


@settings(max_examples=examples(400), deadline=None)
@given(st.one_of(st.lists(st.sampled_from(PIECES), max_size=60).map(" ".join), st.text()))
def test_no_text_raises(text):
    found(text, files=[("/etc/kamailio/k.cfg", text)])


@settings(max_examples=examples(100), deadline=None)
@given(st.data())
def test_no_damaged_configuration_raises(data):
    at = data.draw(st.integers(0, len(GOOD)))
    until = data.draw(st.integers(at, len(GOOD)))
    found(GOOD[:at] + data.draw(st.sampled_from(PIECES)) + GOOD[until:])


HOSTILE = {
    "braces": "request_route " + "{" * 50_000,
    "ifs": "request_route {" + "if (x) {" * 20_000,
    "elses": "request_route {" + "if (x) exit; else " * 20_000,
    "parentheses": "request_route { if (" + "(" * 50_000,
    "negations": "request_route { if (" + "!(" * 50_000,
    "quotes": '"\\' * 100_000,
    "missing quotes": 'x="a\n\\"b' * 50_000,
    "words behind strings": '"a"b\n"\\"c"d\n' * 30_000,
    "variables": "$(" * 100_000,
    "comments": "/*" * 100_000,
    "defines": "".join(f"#!define A{n} " + f"A{n - 1} " * 50 + "\n" for n in range(300))
    + "x=A299",
    "substitutions": "".join(f'#!substdef "!A{n}!B{n}!g"\n' for n in range(3000)),
    "conditions": "#!ifdef A\n" * 50_000,
    "states": "request_route {"
    + 'if ($fU == "{}") setflag(1);'.join(map(str, range(3000)))
    + "t_relay();}",
    "flags": "request_route {"
    + "".join(f"if (x{n}()) setflag({n});" for n in range(2000))
    + "t_relay(); }",
    "routes": "request_route { route(R0); }"
    + "".join(
        f"route[R{n}] {{ if (a()) route(R{n + 1}); route(R{n + 1}); }}" for n in range(2000)
    ),
    "binary": "".join(map(chr, range(256))) * 500,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_takes_a_moment(name):
    began = time.process_time()
    found(HOSTILE[name])
    assert time.process_time() - began < 4


def test_three_thousand_lines_take_half_a_second():
    block = GOOD[GOOD.index("route[DIALOG]") : GOOD.index("onreply_route")]
    more = "".join(
        re.sub(r"route\[(\w+)", rf"route[\g<1>{n}", block).replace('("FROM', f'("{n}FROM')
        for n in range(90)
    )
    text = GOOD + more
    assert text.count("\n") > 3000
    found(text)  # the catalogue is read once
    began = time.process_time()
    found(text)
    assert time.process_time() - began < 1.5  # 0.5 s on a machine that does nothing else


def test_each_token_is_where_its_span_says():
    file = StackFile(path="k", place=PLACE, text=GOOD)
    assert all(
        token.value == GOOD[token.start : token.end]
        for token in tokens(file)
        if token.kind in {"word", "pv", "mark"}
    )
