import time

import pytest
from fakes import FakeHost

from sipdeploy import host as hosts
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import LocalHost, Result, check_sudo, run_script


@pytest.fixture
def host():
    return LocalHost("here")


def test_words_arrive_as_they_are(host):
    words = ["a b", "$HOME", "`x`", "'", '"', "\n", "*", "", "é"]
    assert host.run(["printf", "%s|", *words]).text == "".join(f"{word}|" for word in words)


def test_a_status_is_no_exception(host):
    assert host.run(["sh", "-c", "echo no >&2; exit 7"]) == Result(status=7, stderr=b"no\n")


def test_a_missing_program_is_a_status(host):
    assert host.run(["no-such-program"]).status == 127


def test_input_and_both_outputs_pass_at_once(host):
    data = bytes(range(256)) * 20_000
    result = host.run(["tee", "/dev/stderr"], input=data, most_bytes=2 * len(data))
    assert result.stdout == data
    assert result.stderr == data


def test_input_that_nobody_reads_does_no_harm(host):
    assert host.run(["true"], input=b"x" * 1_000_000).status == 0


def test_lines_come_while_the_command_runs(host):
    seen = []
    script = "echo one; sleep 0.3; printf two"
    host.run(["sh", "-c", script], on_line=lambda line: seen.append((line, time.monotonic())))
    assert [line for line, _ in seen] == ["one", "two"]
    assert seen[1][1] - seen[0][1] > 0.2


def test_a_command_that_does_not_end_is_ended(host):
    began = time.monotonic()
    with pytest.raises(HostFailed, match="did not end"):
        host.run(["sh", "-c", "sleep 20"], timeout_seconds=0.3)
    assert time.monotonic() - began < 5


def test_a_script_reads_the_input_behind_it(host, monkeypatch):
    script = b'echo "$0 $1 $2"; cat\n'
    monkeypatch.setattr(hosts, "script_text", lambda _: script)
    result = run_script(host, ("name", "a b", "$c"), input=b"the\nrest")
    assert result.text == "sipdeploy-name a b $c\nthe\nrest"


def test_every_script_is_shell(host):
    for name in ("facts", "lock", "unlock", "packages", "stage", "swap", "restore", "services"):
        text = hosts.script_text(name)
        assert host.run(["sh", "-n"], input=text).output == ""


@pytest.mark.parametrize(
    ("stderr", "words"),
    [
        (b"sudo: a password is required\n", "NOPASSWD"),
        (b"sudo: sorry, you must have a tty to run sudo\n", "NOPASSWD"),
        (b"bash: line 1: sudo: command not found\n", "has no sudo"),
        (b"sh: 1: sudo: not found\n", "has no sudo"),
    ],
)
def test_sudo_that_says_no_is_told(stderr, words):
    with pytest.raises(HostFailed) as failed:
        check_sudo("sip1", "ops", Result(status=1, stderr=stderr))
    problem = failed.value.diagnostics[0]
    assert problem.code == "SD505"
    assert words in problem.message + problem.help


def test_a_command_that_speaks_of_passwords_is_not_sudo():
    check_sudo("sip1", "ops", Result(status=1, stderr=b"login: a password is required\n"))
    check_sudo("sip1", "ops", Result(status=0, stderr=b"sudo: unable to resolve host sip1\n"))


def test_the_fake_takes_what_a_host_takes():
    fake = FakeHost(answers={"name": Result(status=3, stdout=b"a\nb\n")})
    seen = []
    argv = ["sh", "-c", "reader", "sipdeploy-name", "2", "x"]
    assert fake.run(argv, input=b"##data", on_line=seen.append).status == 3
    assert (fake.asked, fake.inputs, seen) == ([("name", "x")], [b"data"], ["a", "b"])
