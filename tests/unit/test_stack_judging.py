"""Rules over a stack: their problems, suppressions, excerpts, and the command."""

import json
import sys
import types
from functools import partial

import pytest

from sipdeploy.lint.rules import Rule
from sipdeploy.lint.stack import judging, native
from sipdeploy.lint.stack.files import StackFile
from sipdeploy.lint.stack.reading import Tree
from sipdeploy.lint.stack.rules import RULES, Finding


@pytest.fixture
def stack(tmp_path, monkeypatch):
    """A directory with two files, stand-ins for the parsers, and three rules."""
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_ACTIONS", "SIPDEPLOY_INVENTORY", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(judging, "_MODULES", ("kamailio", "asterisk"))
    parsers = {"kamailio": lambda root, files: (root, files), "asterisk": lambda files: files}
    for name, parse in parsers.items():
        module = types.ModuleType(f"sipdeploy.lint.stack.{name}")
        module.parse = parse
        monkeypatch.setitem(sys.modules, module.__name__, module)

    def weak(stack):
        """A rule.

        Bad: x
        """
        file = stack.kamailio[0]
        at = file.text.index("listen")
        port = stack.asterisk["/etc/asterisk/pjsip.conf"]
        other = ((port, port.text.index("bind"), port.text.index("\n"), "Asterisk binds this"),)
        yield Finding(file=file, start=at, end=at + 6, message="ports differ", other=other)

    def secret(stack):
        file = stack.asterisk["/etc/asterisk/pjsip.conf"]
        at = file.text.index("hunter2")
        yield Finding(file=file, start=at, end=at + 7, message="weak", label="this", help="change")

    for old in list(RULES):
        monkeypatch.delitem(RULES, old)
    monkeypatch.setitem(RULES, "SD801", Rule(code="SD801", severity="warning", check=weak))
    monkeypatch.setitem(RULES, "SD831", Rule(code="SD831", severity="error", check=secret))
    (tmp_path / "kamailio.cfg").write_text("# head\nlisten=udp:127.0.0.1:5062\n")
    (tmp_path / "pjsip.conf").write_text("bind=127.0.0.1:5060\npassword = hunter2 ; ours\n")
    return tmp_path


@pytest.fixture
def run(run, stack):  # noqa: ARG001
    return partial(run, "lint")


def test_a_problem_shows_the_lines_that_matter_of_each_file_and_no_password(run):
    code, out, _ = run(".")
    assert code == 1
    assert out == (
        "warning[SD801]: ports differ\n"
        "  --> kamailio.cfg:2:1\n"
        "   |\n"
        " 2 | listen=udp:127.0.0.1:5062\n"
        "   | ^^^^^^\n"
        "  ::: pjsip.conf:1:1\n"
        "   |\n"
        " 1 | bind=127.0.0.1:5060\n"
        "   | ^^^^^^^^^^^^^^^^^^^ Asterisk binds this\n"
        "\n"
        "error[SD831]: weak\n"
        "  --> pjsip.conf:2:12\n"
        "   |\n"
        " 2 | password = [hidden] ; ours\n"
        "   |            ^^^^^^^^ this\n"
        "   |\n"
        "   = help: change\n"
        "\n"
        "1 error, 1 warning\n"
    )


def test_the_versions_reach_the_rules(run, monkeypatch):
    seen = []

    def rule(stack):
        seen.append((stack.kamailio_version, stack.asterisk_version))
        return ()

    monkeypatch.setitem(RULES, "SD802", Rule(code="SD802", severity="note", check=rule))
    run("kamailio.cfg", "pjsip.conf", "--kamailio-version", "5.6", "--asterisk-version", "22")
    assert seen == [((5, 6), (22,))]


@pytest.mark.parametrize(
    ("daemon", "given", "version"),
    [
        ("kamailio", "5.6.3", (5, 6, 3)),
        ("kamailio", "3", None),
        ("kamailio", "5", None),
        ("kamailio", "6.99", None),
        ("kamailio", "5.6.x", None),
        ("kamailio", "5.6.", None),
        ("kamailio", "new", None),
        ("asterisk", "23", (23,)),
        ("asterisk", "20.5.1", (20, 5, 1)),
        ("asterisk", "13", None),
        ("asterisk", "22-1", None),
    ],
)
def test_only_a_version_that_lint_knows_is_accepted(run, monkeypatch, daemon, given, version):
    seen = []

    def rule(stack):
        seen.append(getattr(stack, f"{daemon}_version"))
        return ()

    monkeypatch.setitem(RULES, "SD802", Rule(code="SD802", severity="note", check=rule))
    code, _, err = run(".", f"--{daemon}-version", given)
    assert (code == 2, seen) == (version is None, [version] if version else [])
    names = {"kamailio": "5.4, 5.5, 5.6, 5.7, 5.8, 6.0, 6.1", "asterisk": "16, 17, 18, 19, 20"}
    assert (f"lint does not know '{given}'; write one of {names[daemon]}" in err) == (code == 2)


def test_a_path_that_is_not_there_is_no_inventory_unless_it_is_yaml(run):
    for name in ("none.cfg", "none.conf", "none", "etc/none"):
        code, out, _ = run(name)
        assert (code, "SD892" in out, "sipdeploy init" in out) == (1, True, False)
    assert "= help: `ls etc` shows which files are there" in run("etc/none")[1]
    assert "`sipdeploy init` writes an inventory" in run("none.yaml")[1]


def test_the_versions_of_the_inventory_count_too(run, stack, monkeypatch):
    seen = []

    def rule(stack):
        seen.append((stack.kamailio_version, stack.asterisk_version))
        return ()

    monkeypatch.setitem(RULES, "SD802", Rule(code="SD802", severity="note", check=rule))
    (stack / "site.yaml").write_text(
        "domain: sip.example.com\nemail: a@b.example\nhosts: {a: {address: 203.0.113.1}}\n"
        'users: {}\nversions: {kamailio: "5.8", asterisk: "20"}\n'
    )
    run("site.yaml", "kamailio.cfg", "pjsip.conf")
    assert seen == [((5, 8), (20,))]


@pytest.mark.parametrize(
    ("comment", "codes"),
    [
        ("# sipdeploy: ignore[SD801]", {"SD831"}),
        ("// sipdeploy: ignore[SD801]", {"SD831"}),
        ("; sipdeploy: ignore[SD801]", {"SD801", "SD831"}),
        ("# sipdeploy: ignore[SD801, SD820]", {"SD831", "SD301"}),
    ],
)
def test_a_comment_suppresses_in_the_syntax_of_kamailio(run, stack, comment, codes):
    (stack / "kamailio.cfg").write_text(f"listen=udp:127.0.0.1:5062 {comment}\n")
    assert {each["code"] for each in json.loads(run(".", "--format", "json")[1])} == codes


def test_an_error_is_not_suppressed_in_the_syntax_of_asterisk(run, stack):
    text = "bind=1\npassword = hunter2 ; sipdeploy: ignore[SD831]\n"
    (stack / "pjsip.conf").write_text(text)
    found = {each["code"]: each for each in json.loads(run(".", "--format", "json")[1])}
    assert found.keys() == {"SD301", "SD801", "SD831"}
    assert "an error cannot be suppressed" in found["SD301"]["message"]


def test_a_tls_cfg_alone_is_judged(stack, monkeypatch):
    seen = []
    for code in list(RULES):
        monkeypatch.delitem(RULES, code)

    def rule(stack):
        seen.append(stack.kamailio[0].place)
        return ()

    monkeypatch.setitem(RULES, "SD802", Rule(code="SD802", severity="note", check=rule))
    (stack / "tls.cfg").write_text("[server:default]\n")
    assert judging.lint_stack([stack / "tls.cfg"]).roots == []  # Kamailio does not start with it
    assert judging.lint_stack([stack]).roots == [str(stack / "kamailio.cfg")]
    assert seen == ["/etc/kamailio/tls.cfg", "/etc/kamailio/kamailio.cfg"]


def test_fail_on_decides_the_exit_code(run, stack, monkeypatch):
    monkeypatch.delitem(RULES, "SD831")
    assert [run(".", "--fail-on", each)[0] for each in ("error", "warning", "note")] == [0, 1, 1]
    (stack / "kamailio.cfg").write_text("listen # sipdeploy: ignore[SD801]\n")
    assert run(".", "--fail-on", "note")[0] == 0


def test_native_is_only_for_trusted_files(run, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    code, _, err = run(".", "--native", "auto")
    assert (code, "add `--trusted`" in err) == (2, True)
    assert "SD895" not in run(".", "--trusted")[1]


def test_what_kamailio_says_has_its_place(run, stack, monkeypatch):
    tool = stack / "bin/kamailio"
    tool.parent.mkdir()
    tool.write_text(
        "#!/bin/sh\n"
        "echo '0(1) CRITICAL: <core> [core/cfg.y:4020]: yyerror_at(): parse error in config file "
        f"{stack}/kamailio.cfg, line 2, column 3-7: syntax error' >&2\n"
        "echo 'ERROR: bad config file (1 errors)' >&2\nexit 255\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stack}/bin:/usr/bin:/bin")
    out = run(".", "--trusted", "--format", "concise")[1]
    assert "kamailio.cfg:2:3: error[SD895] Kamailio rejects this: syntax error" in out
    assert "SD895" not in run(".", "--trusted", "--native", "never")[1]


def test_a_kamailio_that_does_not_answer_is_told_in_plain_words(run, stack, monkeypatch):
    tool = stack / "bin/kamailio"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nexec sleep 60\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stack}/bin:/usr/bin:/bin")
    monkeypatch.setattr(native, "_SECONDS", 0.2)
    out = run(".", "--trusted", "--format", "concise")[1]
    assert "`kamailio -c` did not answer within 0.2 seconds" in out


@pytest.mark.parametrize("form", ["gitlab", "sarif", "junit", "github", "json", "concise"])
def test_every_format_takes_a_problem_of_two_files(run, form):
    code, out, _ = run("--stack", ".", "--format", form)
    assert code == 1
    assert "ports differ" in out
    if form == "sarif":
        result = json.loads(out)["runs"][0]["results"][0]
        (other,) = result["relatedLocations"]
        assert other["physicalLocation"]["artifactLocation"]["uri"] == "pjsip.conf"
    if form == "gitlab":
        first = json.loads(out)[0]
        assert first["location"] == {"path": "kamailio.cfg", "lines": {"begin": 2}}


def test_numbers_and_ports_are_shown_where_no_password_is():
    files = {
        "rtp.conf": "rtpstart=20000",
        "extensions.conf": "exten => 1001,1,NoOp()",
        "included.conf": "exten => 1001,1,NoOp()",
        "pjsip.conf": "bind=5060",
        "voicemail.conf": "alice => 4711,Alice",
        "boxes.conf": "alice => 4711,Alice",
    }
    tree = Tree(
        files={
            name: StackFile(path=name, place=f"/etc/asterisk/{name}", text=text)
            for name, text in files.items()
        }
    )
    hidden = {name for name, source in judging.sources(tree) if source.hidden}
    assert hidden == {"voicemail.conf", "boxes.conf"}


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("password=hunter2", "hunter2"),
        ("secret => hunter2 ; x", "hunter2"),
        ("1001 => 4711,Alice", "4711"),
        ('modparam("db", "db_url", "mysql://me:hunter2@localhost/x")', "hunter2"),
        ('modparam("auth", "secret", "hunter2")', "hunter2"),
    ],
)
def test_a_password_is_not_shown(line, secret):
    ((number, ranges),) = judging.hidden_columns([line])
    assert number == 1
    start, end = ranges[0]
    assert secret in line[start - 1 : end - 1]
