import pytest

from sipdeploy.lint.rendered import lint_rendered

CFG = "/etc/kamailio/kamailio.cfg"
PJSIP = "/etc/asterisk/pjsip.conf"


def found(text, path=CFG):
    return [(p.code, p.span.line, p.span.column) for p in lint_rendered({path: text})]


def test_positions_are_those_of_the_name():
    assert found("request_route {\n  route(NONE);\n}\n") == [("SD410", 2, 9)]


@pytest.mark.parametrize(
    "text",
    [
        "# route(NONE);\n",
        "// route(NONE);\n",
        "/* route(NONE);\n route(ALSO); */\n",
        'xlog("L_INFO", "// $sht(a) #");\n',
        "route[A] { } request_route { route(A); }\n",
        'route["a:b"] { } request_route { route("a:b"); }\n',
        'reply_route[R] { } request_route { t_on_reply("R"); }\n',
    ],
)
def test_comments_strings_and_what_is_defined(text):
    assert found(text) == []


def test_directives_are_no_comments():
    assert found("#!ifdef X\nlisten=tls:1.2.3.4:8443\n#!endif\n") == [("SD413", 2, 8)]


def test_a_route_may_be_defined_in_another_file():
    files = {CFG: "request_route { route(A); }", "/etc/kamailio/more.cfg": "route[A] { }"}
    assert lint_rendered(files) == []


def test_every_use_is_told():
    text = (
        'request_route { t_on_failure("F"); t_on_branch("B"); t_on_reply("R"); $sht(t=>x) = 1; }\n'
    )
    assert sorted(code for code, _, _ in found(text)) == ["SD411"] * 3 + ["SD412"]


def test_templates_give_their_keys():
    text = "[t](!)\ntype=endpoint\n[u](!,t)\nauth=a\n[e](u)\n[a]\ntype=auth\n"
    assert found(text, PJSIP) == []
    assert found(text.replace("auth=a\n", "aors=b\n"), PJSIP) == [("SD415", 4, 6), ("SD416", 5, 2)]


def test_later_keys_win_and_lists_are_taken_apart():
    text = "[e]\ntype=endpoint\nacl=x\naors=a,b\n[a]\ntype=aor\n"
    assert found(text, PJSIP) == [("SD415", 4, 6)]


def test_other_files_are_left_alone():
    assert found("[e]\ntype=endpoint\n", "/etc/asterisk/rtp.conf") == []
    assert found("route(X)", "/etc/asterisk/extensions.conf") == []
