import sys

import pytest

from sipdeploy.inventory import secrets_file
from sipdeploy.inventory.commands import NoPasswordError, run
from sipdeploy.inventory.passwords import resolve_passwords
from sipdeploy.inventory.secrets_file import parse_secrets, read_secrets
from sipdeploy.inventory.site import load_site

HEAD = "domain: a.example\nemail: a@a.example\nhosts: {h: {address: 203.0.113.10}}\n"


def resolve(users, directory, extra=""):
    site, problems, document = load_site(f"{HEAD}users: {{{users}}}\n{extra}", "inventory.yaml")
    assert problems == []
    found, problems = resolve_passwords(site, directory, inventory=document)
    return {number: secret.reveal() for number, secret in found.items()}, problems


def codes(problems):
    return [problem.code for problem in problems]


@pytest.fixture
def secrets(tmp_path):
    def write(text, mode=0o600):
        path = tmp_path / "secrets.yaml"
        path.write_text(text, "utf-8")
        path.chmod(mode)
        return path

    return write


def test_every_source(tmp_path, monkeypatch, secrets):
    monkeypatch.setenv("ALICE", "from-env")
    (tmp_path / "bob").write_text("from-file\nsecond line\n")
    secrets('users: {"1004": from-secrets}\n')
    users = (
        "1001: {password: {env: ALICE}}, 1002: {password: {file: bob}}, "
        "1003: {password: {command: 'echo from-command'}}, 1004: {}, 1005: {password: own}"
    )
    found, problems = resolve(users, tmp_path)
    assert problems == []
    assert found == {
        "1001": "from-env", "1002": "from-file", "1003": "from-command",
        "1004": "from-secrets", "1005": "own",
    }  # fmt: skip


def test_every_problem_is_told_with_its_place(tmp_path):
    users = (
        "1001: {password: {env: NOT_SET}}, 1002: {password: {file: none}}, "
        "1003: {password: {command: 'false'}}, 1004: {password: {command: 'true'}}, "
        "1005: {password: {command: no-such-program}}, 1006: {}"
    )
    found, problems = resolve(users, tmp_path)
    assert found == {}
    assert codes(problems) == ["SD231"] * 5 + ["SD230"]
    assert all(problem.span for problem in problems)
    assert "sipdeploy init" in problems[-1].help


def test_missing_ones_are_one_problem(tmp_path):
    _, (problem,) = resolve(", ".join(f"{1000 + i}: {{}}" for i in range(30)), tmp_path)
    assert problem.message.endswith("so 30 users have no password")
    assert "and 20 more" in problem.notes[0]


def test_what_a_command_prints_is_never_shown(tmp_path):
    script = tmp_path / "tool"
    script.write_text("#!/bin/sh\necho hunter2; echo the vault is sealed >&2; exit 3\n")
    script.chmod(0o755)
    _, (problem,) = resolve("1001: {password: {command: './tool hunter2'}}", tmp_path)
    assert "hunter2" not in repr(problem)
    assert "status 3: the vault is sealed" in problem.message


def test_a_command_has_no_shell_and_no_input(tmp_path):
    assert run("echo '$HOME' ; ls", tmp_path) == "$HOME ; ls\n"
    assert run("cat", tmp_path) == ""


def test_a_command_that_takes_too_long_is_ended(tmp_path):
    with pytest.raises(NoPasswordError, match=r"more than 0[.]05 seconds"):
        run(
            f"{sys.executable} -c 'import threading; threading.Event().wait(9)'",
            tmp_path,
            seconds=0.05,
        )


@pytest.mark.parametrize("command", ["'open", "  "])
def test_a_command_that_is_none(tmp_path, command):
    with pytest.raises(NoPasswordError):
        run(command, tmp_path)


def test_a_command_in_place_of_the_file(tmp_path):
    extra = "secrets: {command: \"echo 'users: {1001: abc}'\"}\n"
    assert resolve("1001: {}", tmp_path, extra) == ({"1001": "abc"}, [])
    assert codes(resolve("1001: {}", tmp_path, "secrets: {command: 'false'}\n")[1]) == ["SD231"]
    _, (problem,) = resolve(
        "1001: {}, 1002: {password: x}", tmp_path, "secrets: {command: 'echo users:'}\n"
    )
    assert "to the output of the command" in problem.help


def test_the_file_is_not_read_when_nobody_needs_it(tmp_path, secrets):
    secrets("not: [yaml")
    assert resolve("1001: {password: x}", tmp_path) == ({"1001": "x"}, [])


@pytest.mark.parametrize(
    ("mode", "severity"),
    [(0o600, None), (0o400, None), (0o640, "warning"), (0o644, "error"), (0o602, "error")],
)
def test_the_mode_of_the_file(tmp_path, secrets, mode, severity):
    path = secrets('users: {"1001": abc}\n', mode)
    problems = read_secrets("secrets.yaml", tmp_path).diagnostics
    assert [problem.severity for problem in problems] == ([severity] if severity else [])
    for problem in problems:
        assert problem.code == "SD304"
        assert f"chmod 600 {path}" in problem.help


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("users: [a]", "SD232"),
        ("users: {1001: }", "SD232"),
        ("users: {1001: {a: b}}", "SD232"),
        ('users: {1001: "a\\nb"}', "SD232"),
        ("1001: abc", "SD232"),
        ("users: {1001: !hunter2 }", "SD106"),
        ("users: {1001: *hunter2}", "SD105"),
        ("users: {1001: 'hunter2}", "SD101"),
        ("users: {1001: a, 1001: b}", "SD104"),
    ],
)
def test_a_bad_file_is_told_without_showing_it(text, code):
    problems = parse_secrets(text, "secrets.yaml").diagnostics
    assert code in codes(problems)
    assert "hunter2" not in repr(problems)


@pytest.mark.parametrize(
    "text",
    [
        "- a\n",
        "word\n",
        "1001: a\n",
        "users: [a]\n",
        "users:\n---\na: b\n",
        "{{a}}: b",
    ],
)
def test_a_file_of_another_shape_gets_the_advice_for_a_secrets_file(text):
    problems = parse_secrets(text, "secrets.yaml").diagnostics
    assert problems
    for problem in problems:
        assert "write `users:`" in problem.help
        assert "domain" not in problem.help + problem.message


def test_only_an_absent_file_is_no_problem(tmp_path, secrets):
    assert read_secrets("secrets.yaml", tmp_path).diagnostics == ()
    secrets('users: {"1001": abc}\n')
    assert codes(read_secrets("secrets.yaml/more", tmp_path).diagnostics) == ["SD110"]
    assert codes(read_secrets(".", tmp_path).diagnostics) == ["SD110"]


def test_a_file_without_users_is_empty():
    assert parse_secrets("users:\n", "s").passwords == {}


@pytest.mark.parametrize(
    "text",
    [
        'users:\n  "1001": abcdEFGH12\n  "0102": zzzzzzzzz9\n',
        '# Keep it safe: "x"\n\n# twice\nusers:\n  "1001": abcdEFGH12\n',
        'users:\n  "1001": abcdEFGH12\n  "1001": abcdEFGH13\n',
        'users:\n  "1001": null\n',
        'users:\n  "1001": 0x12345678 # mine\n',
        'users:\n  "1001": ab-cd_EF-\n  "1002": "ab: c # {}[]*&"\n  "1003": " x"\n',
        'users:\n  "1001": "a\\x41b"\n  "1002": "ab" "cd"\n',
        'users:\n  "1001": "ab\n  cd"\n',
        'users:\n  "1001": ""\n',
        'users:\n  "1001": -abcdefgh\n',
        "users:\n",
    ],
)
def test_a_file_as_it_is_written_is_read_as_any_yaml_is(text, monkeypatch):
    quick = parse_secrets(text, "secrets.yaml")
    parse_secrets.cache_clear()
    monkeypatch.setattr(secrets_file, "_as_written", lambda *_: None)
    assert quick == parse_secrets(text, "secrets.yaml")
