"""The snippets in the manual of each rule: `Bad:` gets its code, `Good:` does not."""

import re
import subprocess
import textwrap

import pytest

from sipdeploy import lint
from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.inventory import open_inventory, refuse_placeholders
from sipdeploy.inventory.secret import Secret
from sipdeploy.inventory.secrets_file import SecretsFile
from sipdeploy.inventory.site import load_site
from sipdeploy.lint import explanations, judge
from sipdeploy.lint import pjsip as lint_pjsip
from sipdeploy.lint import rendered as lint_rendered
from sipdeploy.lint.names import EMERGENCY
from sipdeploy.lint.network import ASTERISK_USERS
from sipdeploy.lint.rules import RULES, Subject

BASE = {
    "domain": "sip.example.com",
    "email": "ops@example.com",
    "hosts": "{sip1: {address: 203.0.113.10}}",
    "users": "{1001: {name: Alice}}",
}
RENDERED = {**lint_rendered.RULES, **lint_pjsip.RULES}
# These rules use data outside the inventory, or very many users; see the tests below.
OUTSIDE = {"SD306", "SD307", "SD310", "SD314", "SD319", "SD321", "SD325", "SD327"}


def snippets(manual, kind):
    pattern = rf"^{kind}:(?: (\S+))?\n((?:    .*\n?|\n)+)"
    found = re.search(pattern, manual, re.MULTILINE)
    assert found, f"the manual lacks `{kind}:`"
    return found[1], textwrap.dedent(found[2])


def subject(lines, **outside):
    text = "".join(
        f"{key}: {value}\n"
        for key, value in BASE.items()
        if not re.search(f"^{key}:", lines, re.MULTILINE)
    )
    site, problems, document = load_site(text + lines, "inventory.yaml")
    assert problems == []
    return Subject(site=site, document=document, **outside)


def codes(found):
    return {diagnostic.code for diagnostic in found}


@pytest.mark.parametrize("code", sorted(RULES.keys() - OUTSIDE))
def test_the_snippets_of_an_inventory_rule(code):
    manual = explanations()[code]
    assert code in codes(judge(subject(snippets(manual, "Bad")[1])))
    assert code not in codes(judge(subject(snippets(manual, "Good")[1])))


@pytest.mark.parametrize("code", RENDERED)
def test_the_snippets_of_a_rule_of_rendered_files(code):
    manual = explanations()[code]
    path, bad = snippets(manual, "Bad")
    (problem, *_) = [p for p in lint_rendered.lint_rendered({path: bad}) if p.code == code]
    assert problem.span.path == path
    path, good = snippets(manual, "Good")
    assert lint_rendered.lint_rendered({path: good}) == []


def test_every_code_has_a_manual():
    assert all(len(text) >= 20 for text in explanations().values())


FOUND = SecretsFile(passwords={"1001": Secret("fmK4tXw9Rd2zHq7pVb3n"), "99": Secret("x" * 3)})


@pytest.mark.parametrize(
    ("code", "severity", "outside"),
    [
        ("SD306", "error", {"tracked": True}),
        ("SD307", "warning", {"unignored": True}),
        ("SD314", "warning", {"shared": FOUND}),
    ],
)
def test_what_lies_beside_the_inventory(code, severity, outside):
    (found,) = [each for each in judge(subject("", **outside)) if each.code == code]
    assert found.severity == severity
    assert code not in codes(judge(subject("")))


def test_many_users_are_too_many_for_asterisk():
    def found(count, mode):
        users = ", ".join(f"{100000 + i}: {{}}" for i in range(count))
        return codes(judge(subject(f"users: {{{users}}}\nauthentication: {mode}\n")))

    assert "SD310" in found(ASTERISK_USERS + 1, "asterisk")
    assert "SD310" not in found(ASTERISK_USERS, "asterisk")
    assert "SD310" not in found(ASTERISK_USERS + 1, "kamailio")


def test_users_of_whom_not_all_can_be_connected_are_told_of():
    users = ", ".join(f"{100000 + i}: {{}}" for i in range(300))
    (found,) = [
        each
        for each in judge(subject(f"users: {{{users}}}\nlimits: {{connections: 256}}\n"))
        if each.code == "SD319"
    ]
    assert found.message == "300 users share 256 connections"
    assert "connections: 300" in found.help
    assert "SD319" not in codes(judge(subject(f"users: {{{users}}}\n")))


@pytest.mark.parametrize(
    "password",
    [
        "1001",
        "secret",
        "PASSWORD",
        "a1001b",
        "alice",
        "aaaaaaaaaaaa",
        "12345678901",
        "abababababab",
        "Yealink2024!",
    ],
)
def test_weak_passwords(password):
    lines = f'users: {{1001: {{name: Alice, password: "{password}"}}}}\n'
    assert "SD302" in codes(judge(subject(lines)))


def test_a_weak_password_in_the_secrets_file_is_found():
    shared = SecretsFile(passwords={"1001": Secret("1234")})
    assert "SD302" in codes(judge(subject("", shared=shared)))


def test_a_missing_password_is_a_warning_here():
    (found,) = [
        p for p in judge(subject("", shared=SecretsFile(passwords={}))) if p.code == "SD230"
    ]
    assert found.severity == "warning"
    assert "SD230" not in codes(judge(subject("")))  # no secrets file, as in CI


def test_suppression_is_by_line_and_code():
    line = "tls: {provider: self-signed}"
    assert "SD308" in codes(judge(subject(f"{line}\n")))
    assert codes(judge(subject(f"{line} # sipdeploy: ignore[SD308]\n"))) == {
        "SD305",
        "SD321",
        "SD729",
    }
    assert codes(judge(subject(f"{line} # sipdeploy: ignore[SD308, SD310]\n"))) == {
        "SD305",
        "SD301",
        "SD321",
        "SD729",
    }


def test_an_error_cannot_be_ignored():
    lines = "secrets: a.yaml # sipdeploy: ignore[SD306]\n"
    assert {"SD306", "SD301"} <= codes(judge(subject(lines, tracked=True)))


@pytest.mark.parametrize(
    "network", ["10.0.0.1", "172.31.0.1", "192.168.1.1", "100.64.0.1", "fd00::1"]
)
def test_private_addresses(network):
    found = codes(judge(subject(f'hosts: {{a: {{address: "{network}"}}}}\n')))
    assert "SD313" in found
    lines = f'hosts: {{a: {{address: "{network}", public_address: 203.0.113.1}}}}\n'
    assert "SD313" not in codes(judge(subject(lines))) or ":" in network


def test_lint_reads_the_file_beside_and_runs_nothing(tmp_path):
    path = tmp_path / "inventory.yaml"
    (tmp_path / "secrets.yaml").write_text("users: {1001: abc}\n")
    (tmp_path / "secrets.yaml").chmod(0o644)
    text = "".join(f"{key}: {value}\n" for key, value in BASE.items())
    path.write_text(text)
    problems = lint.lint_inventory(open_inventory(path, is_trusted=False))
    assert {"SD302", "SD304"} <= codes(problems)
    command = f"secrets: {{command: 'touch {tmp_path}/ran'}}\n"
    path.write_text(text + command)
    lint.lint_inventory(open_inventory(path, is_trusted=False))
    assert not (tmp_path / "ran").exists()


REAL = "domain: sip.my-site.org\nemail: ops@my-site.org\nhosts: {a: {address: 198.18.0.1}}\n"


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        ("", set()),
        ("domain: sip.example.net\n", {"sip.example.net"}),
        ("email: me@mail.example\n", {"me@mail.example"}),
        ("hosts: {a: {address: 192.0.2.7}}\n", {"192.0.2.7"}),
        ("hosts: {a: {address: sip1, public_address: 203.0.113.1}}\n", {"203.0.113.1"}),
        ('hosts: {a: {address: "2001:db8::1"}}\n', {"2001:db8::1"}),
        ("domain: sip.myexample.com\n", set()),
    ],
)
def test_placeholders_are_told_and_refused_by_apply(tmp_path, lines, left):
    rest = [each for each in REAL.splitlines() if each.split(":")[0] not in lines.split(":")[0]]
    path = tmp_path / "inventory.yaml"
    path.write_text("\n".join([*rest, lines, "users: {}\n"]))
    loaded = open_inventory(path)
    problems = [each for each in lint.lint_inventory(loaded) if each.code == "SD321"]
    assert {text for each in problems for text in re.findall("`([^`]+)`", each.message)} == left
    if not left:
        refuse_placeholders(loaded, ["a"])
        return
    with pytest.raises(InvalidFiles) as raised:
        refuse_placeholders(loaded, ["a"])
    assert {each.severity for each in raised.value.diagnostics} == {"error"}
    messages = [each.message for each in raised.value.diagnostics]
    assert {re.findall("`([^`]+)`", each)[0] for each in messages} == left


def test_apply_takes_a_placeholder_that_can_work(tmp_path):
    """The demo applies sip.example.com with a certificate of its own."""
    path = tmp_path / "inventory.yaml"
    text = REAL.replace("sip.my-site.org", "sip.example.com") + "users: {}\n"
    path.write_text(text + "tls: {provider: self-signed}\n")
    refuse_placeholders(open_inventory(path), ["a"])
    path.write_text(text.replace("198.18.0.1}", "198.18.0.1}, b: {address: 192.0.2.1}")
                    + "tls: {provider: self-signed}\n")  # fmt: skip
    refuse_placeholders(open_inventory(path), ["a"])


@pytest.mark.parametrize(
    "name", ["sip.office.local", "pbx.lan", "a.test", "sip.home.arpa", "a.internal"]
)
def test_a_private_name_gets_no_certificate(name):
    assert "SD320" in codes(judge(subject(f"domain: {name}\n")))
    assert "SD320" not in codes(
        judge(subject(f"domain: {name}\ntls: {{provider: self-signed}}\n"))
    )


@pytest.mark.parametrize("name", ["sip.local.org", "sip.lan-party.net", "home.host"])
def test_a_public_name_can_get_one(name):
    assert "SD320" not in codes(judge(subject(f"domain: {name}\n")))


@pytest.mark.parametrize("number", EMERGENCY)
def test_every_emergency_number_is_told_as_a_service_and_as_a_user(number):
    assert "SD322" in codes(judge(subject(f"services: {{{number}: {{kind: echo}}}}\n")))
    assert "SD322" in codes(judge(subject(f"users: {{{number}: {{name: Alice}}}}\n")))
    line = f"users: {{{number}: {{name: Alice}}}} # sipdeploy: ignore[SD322]\n"
    assert not {"SD322", "SD301"} & codes(judge(subject(line)))


def test_secrets_beside_the_inventory_that_git_has_are_told(tmp_path):
    def git(*words):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True)

    path = tmp_path / "inventory.yaml"
    text = (
        REAL + "users: {1001: {password: {file: alice.txt}}, 1002: {password: {file: ../b.txt}}}\n"
    )
    path.write_text(text.replace("}}", ", sudo_password: {file: sudo.txt}}}", 1))
    for name, content in {
        "new.csv": "Number;Name;Password\r\n1003;Carol;canary\r\n",
        "plain.csv": "number,name\n1003,Carol\n",
        "alice.txt": "canary\n",
        "sudo.txt": "canary\n",
    }.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "pipe.csv").mkdir()
    (tmp_path / "out.csv").symlink_to("/etc/shadow")

    def found():
        problems = lint.lint_inventory(open_inventory(path, is_trusted=False))
        assert "canary" not in str(problems)
        return sorted(
            (each.code, re.findall("`([^`]+)`", each.message)[0])
            for each in problems
            if each.code in ("SD325", "SD327")
        )

    assert found() == []
    git("init", "-q")
    assert found() == [("SD327", "alice.txt"), ("SD327", "new.csv"), ("SD327", "sudo.txt")]
    (tmp_path / ".gitignore").write_text("alice.txt\nsudo.txt\n")
    git("add", "new.csv")
    assert found() == [("SD325", "new.csv")]
