"""sudo with a password: real shells, and a sudo that reads its password as sudo -S does."""

import contextlib
import getpass
import os
import pty
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sipdeploy import inventory
from sipdeploy.cli import session
from sipdeploy.diagnostics.errors import HostFailed, WrongUsage
from sipdeploy.host import Result
from sipdeploy.host.connection import connect
from sipdeploy.host.sudo import Sudo, passwords
from sipdeploy.host.sudo.password import SudoPassword
from sipdeploy.inventory.commands import NoPasswordError
from sipdeploy.inventory.secret import Secret
from sipdeploy.inventory.site import load_site, source

RIGHT = "pass word$1'\\n%s"
# Reads a line for each try, and writes down all that it reads. Without -S it is `sudo -n`.
SUDO = """#!/bin/sh
n() { echo "$*" >&2; }
log() { printf '%s\\n' "$1" >>LOG; }
log "argv $*"
env >>LOG
WANTS_TTY
while [ "$1" != -- ]; do
    case $1 in -S) asks=yes ;; -p) prompt=$2; shift ;; esac
    shift
done
shift
if [ -n "$asks" ] && [ FREE = no ]; then
    for try in 1 2 3; do
        printf %s "$prompt" >&2
        IFS= read -r given || { n; n "sudo: kein Passwort angegeben"; n "falsch"; exit 1; }
        log "given $given"
        if [ "$given" = "$(cat RIGHT)" ]; then break; fi
        n "Das hat nicht funktioniert, bitte nochmal probieren."
        [ $try != 3 ] || exit 1
    done
elif [ -z "$asks" ] && [ FREE = no ]; then
    n "sudo: Ein Passwort ist notwendig"; exit 1
fi
BARRED
exec 3<&- 4<&- 5<&- 6<&-
exec "$@"
"""
TTY = 'if ! (: <>/dev/tty) 2>/dev/null; then n "sudo: ein TTY, bitte"; exit 1; fi'


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes a sudo, and a function that runs command lines as a login without a terminal."""
    log, right = tmp_path / "log", tmp_path / "right"
    right.write_text(RIGHT)

    class Machine:
        calls = 0

        def install(self, *, wants_tty=False, is_free=False, barred=False):
            text = SUDO.replace("WANTS_TTY", TTY if wants_tty else "").replace("LOG", str(log))
            text = text.replace("FREE", "yes" if is_free else "no").replace("RIGHT", str(right))
            no = 'n "deploy steht nicht in sudoers"; exit 1' if barred else ""
            program = tmp_path / "programs/sudo"
            program.parent.mkdir(exist_ok=True)
            program.write_text(text.replace("BARRED", no))
            program.chmod(0o755)
            monkeypatch.setenv("PATH", str(program.parent), prepend=":")

        def exchange(self, call):
            self.calls += 1
            data = call.input if isinstance(call.input, bytes) else b"".join(call.input)
            done = subprocess.run(
                ["sh", "-c", call.line],
                input=data,
                capture_output=True,
                check=False,
                start_new_session=True,  # no terminal
                timeout=30,
            )
            if call.on_error:
                call.on_error(done.stderr)
            result = Result(status=done.returncode, stdout=done.stdout, stderr=done.stderr)
            return result, False

        def run(self, sudo, argv, data=b""):
            return sudo.run(argv, data, self.exchange, has_shell=True)

        @property
        def given(self):
            lines = log.read_text().splitlines() if log.exists() else []
            return [line.removeprefix("given ") for line in lines if line.startswith("given ")]

        @property
        def log(self):
            return log.read_text()

    made = Machine()
    made.install()
    return made


def typed(text=RIGHT):
    return SudoPassword(lambda: Secret(text))


def diagnostic(call):
    with pytest.raises(HostFailed) as failed:
        call()
    (problem,) = failed.value.diagnostics
    return problem


DATA = bytes(range(256)) * 2000 + b"the end"


@pytest.mark.parametrize("wants_tty", [False, True])
@pytest.mark.parametrize("is_free", [False, True])
def test_the_input_reaches_the_command_and_only_the_password_sudo(machine, wants_tty, is_free):
    """Also where sudo needs no password, which then must not become a part of the input."""
    machine.install(wants_tty=wants_tty, is_free=is_free)
    sudo = Sudo("sip1", "deploy", typed())
    for _ in range(2):
        result = machine.run(sudo, ["sh", "-c", "cat; echo it\\'s >&2; exit 7"], DATA)
        assert (result.status, result.stdout, result.stderr) == (7, DATA, b"it's\n")
    assert machine.given == ([] if is_free else [RIGHT, RIGHT])
    assert machine.calls == (3 if wants_tty else 2), "one exchange for a command"


@pytest.mark.parametrize("wants_tty", [False, True])
def test_a_shell_that_would_show_the_password_does_not_get_it(machine, tmp_path, wants_tty):
    machine.install(wants_tty=wants_tty)
    programs, seen = tmp_path / "programs", tmp_path / "seen"
    (tmp_path / "without").write_text("enable -n printf\n")
    shell = f'#!/bin/bash\nBASH_ENV={tmp_path}/without exec /bin/bash "$@"\n'
    printf = f'#!/bin/sh\necho "$*" >>{seen}\nexec /usr/bin/printf "$@"\n'
    for name, text in (("sh", shell), ("printf", printf)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    sudo = Sudo("sip1", "deploy", typed())
    problem = diagnostic(lambda: machine.run(sudo, ["true"]))
    assert not seen.exists()
    assert machine.given == []
    assert any("no printf of its own" in note for note in problem.notes)


def test_a_stream_reaches_the_command(machine):
    result = machine.run(Sudo("sip1", "deploy", typed()), ["cat"], (b"a\n", b"b\n"))
    assert result.stdout == b"a\nb\n"


@pytest.mark.parametrize("wants_tty", [False, True])
def test_the_password_is_in_no_argv_and_no_environment(machine, wants_tty, monkeypatch):
    """Also if the login exports a variable with the name that the script reads it into."""
    monkeypatch.setenv("p", "exported")
    machine.install(wants_tty=wants_tty)
    calls = []
    sudo = Sudo("sip1", "deploy", typed())

    def exchange(call):
        calls.append(call)
        return machine.exchange(call)

    seen = (
        "for each in $(ls /proc | grep '^[0-9]'); do cat /proc/$each/cmdline; done | tr '\\0' ' '"
    )
    result = sudo.run(["sh", "-c", f"env; {seen}"], b"", exchange, has_shell=True)
    assert "sipdeploy-sudo" in result.text
    assert RIGHT not in result.text
    others = machine.log.replace(f"given {RIGHT}\n", "")
    assert RIGHT not in others
    for call in calls:
        assert RIGHT not in call.line
        assert RIGHT not in repr(call).replace(repr(call.input), "")
    assert RIGHT not in repr(sudo)


@pytest.mark.parametrize("wants_tty", [False, True])
def test_a_wrong_password_is_given_to_sudo_once_and_nothing_else_is(machine, wants_tty):
    machine.install(wants_tty=wants_tty)
    sudo = Sudo("sip1", "deploy", typed("wrong"))
    problem = diagnostic(lambda: machine.run(sudo, ["cat"], b"first\nsecond\nthird\n"))
    assert problem.code == "SD550"
    assert "does not accept this password of `deploy`" in problem.message
    assert problem.notes[1:3] == ("sudo: kein Passwort angegeben", "falsch")
    calls = machine.calls
    again = diagnostic(lambda: machine.run(sudo, ["cat"], b"more\n"))
    assert (again.code, machine.calls) == ("SD550", calls), "the next command asks nobody"
    assert machine.given == ["wrong"]
    assert "wrong" not in str(problem)


def test_a_password_that_is_right_and_does_not_help_is_told(machine):
    machine.install(barred=True)
    problem = diagnostic(lambda: machine.run(Sudo("sip1", "deploy", typed()), ["cat"]))
    assert problem.code == "SD505"
    assert problem.notes == ("deploy steht nicht in sudoers",)
    assert "`sudo -l -U deploy`" in problem.help
    assert machine.given == [RIGHT]


def test_sudo_without_a_password_gets_a_terminal_where_it_wants_one(machine):
    machine.install(wants_tty=True, is_free=True)
    sudo = Sudo("sip1", "deploy")
    for _ in range(2):
        result = machine.run(sudo, ["sh", "-c", "cat; exit 3"], DATA)
        assert (result.status, result.stdout) == (3, DATA)
    assert machine.calls == 3


def test_what_sudo_says_with_a_terminal_is_told_where_it_wants_one(machine):
    """That a terminal is missing is no longer the reason."""
    machine.install(wants_tty=True)
    problem = diagnostic(lambda: machine.run(Sudo("sip1", "deploy"), ["cat"]))
    assert problem.notes == ("sudo: Ein Passwort ist notwendig",)


def test_a_host_that_cannot_make_a_terminal_is_told_what_sudo_wants(machine, tmp_path):
    machine.install(wants_tty=True)
    (tmp_path / "programs/script").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "programs/script").chmod(0o755)
    for password in (None, typed()):
        problem = diagnostic(lambda p=password: machine.run(Sudo("sip1", "deploy", p), ["cat"]))
        assert (problem.code, problem.notes) == ("SD505", ("sudo: ein TTY, bitte",))
    assert machine.given == []


def test_the_first_refusal_is_told_where_a_terminal_does_not_help(machine):
    problem = diagnostic(lambda: machine.run(Sudo("sip1", "deploy"), ["cat"]))
    assert problem.notes == ("sudo: Ein Passwort ist notwendig",)
    assert "`--ask-sudo-password`" in problem.help


def test_one_host_tries_a_password_at_a_time_until_one_has_accepted_it(machine):
    """With a wrong one, the account of a directory would otherwise be locked at once."""
    password, began, refused = typed("wrong"), threading.Barrier(4), []

    def ask(name):
        began.wait()
        refused.append(diagnostic(lambda: machine.run(Sudo(name, "deploy", password), ["cat"])))

    threads = [threading.Thread(target=ask, args=(f"sip{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert machine.given == ["wrong"]
    assert sorted("refused it" in each.message for each in refused) == [False, True, True, True]


def test_hosts_do_not_wait_for_a_command_whose_sudo_has_accepted_the_password(machine):
    """The first command may be long: its standard error tells in time."""
    password, ends = typed(), threading.Event()

    def exchange(call):
        call.on_error(f"{call.mark}?".encode())
        call.on_error(f"{call.mark}\n".encode())
        ends.wait(20)
        return Result(status=0, stdout=b"", stderr=f"{call.mark}?{call.mark}\n".encode()), False

    run = Sudo("sip1", "deploy", password).run
    long = threading.Thread(target=run, args=(["x"], b"", exchange), kwargs={"has_shell": False})
    long.start()
    began = time.monotonic()
    assert machine.run(Sudo("sip2", "deploy", password), ["echo", "hello"]).text == "hello\n"
    assert time.monotonic() - began < 10
    assert long.is_alive()
    ends.set()
    long.join()


def test_a_refusal_elsewhere_does_not_stop_a_host_that_has_accepted_the_password(machine):
    """It may be in the middle of an apply, and must be able to undo it."""
    password = typed()
    first, second = (Sudo(name, "deploy", password) for name in ("sip1", "sip2"))
    assert machine.run(first, ["true"]).status == 0
    machine.install()
    password.refuse("sip2")
    assert diagnostic(lambda: machine.run(second, ["true"])).code == "SD550"
    assert machine.run(first, ["true"]).status == 0


def test_a_command_beside_another_has_the_password_only_if_a_host_has_accepted_it(machine):
    """`kill` must not be one more try with a wrong password."""
    sudo = Sudo("here", "deploy", typed())
    assert sudo.quiet_call(["kill"]).argv[:2] == ["sudo", "-n"]
    assert sudo.quiet_call(["kill"]).input == b""
    assert machine.run(sudo, ["true"]).status == 0
    assert sudo.quiet_call(["kill"]).input == f"{RIGHT}\n".encode()


def test_a_source_that_fails_is_told_and_nothing_is_sent(machine):
    def fetch():
        raise NoPasswordError("the variable `X` is not set")

    sudo = Sudo("sip1", "deploy", SudoPassword(fetch, "`export X=...`"))
    problem = diagnostic(lambda: machine.run(sudo, ["true"]))
    assert (problem.code, problem.help, machine.calls) == ("SD551", "`export X=...`", 0)
    assert "the variable `X` is not set" in problem.message


TEXT = """\
domain: sip.example.test
email: a@example.test
users: {}
hosts:
  sip1: {address: local, public_address: 10.0.0.1, user: ops, sudo_password: VALUE}
"""


@pytest.fixture(autouse=True)
def _forgotten():
    yield
    passwords.use_typed(None)


def test_the_sources_of_an_inventory_start_in_its_directory(tmp_path, monkeypatch):
    (tmp_path / "sudo.txt").write_text(f"{RIGHT}\n")
    monkeypatch.setenv("SUDO_OF_SIP1", RIGHT)
    for value in ("{file: sudo.txt}", "{env: SUDO_OF_SIP1}", "{command: cat sudo.txt}"):
        path = tmp_path / "inventory.yaml"
        path.write_text(TEXT.replace("VALUE", value))
        opened, part = inventory.open_inventory(path), inventory.open_for_host(path, "sip1")[0]
        assert opened.site == part.site
        entry = opened.site.hosts["sip1"]
        password = passwords.of(entry.sudo_password)
        assert password is passwords.of(part.site.hosts["sip1"].sudo_password), "shared"
        with password.tried("sip1") as attempt:
            assert attempt.secret == Secret(RIGHT)
        assert connect("sip1", entry).login
    assert passwords.of(None) is None
    passwords.use_typed(Secret("typed"))
    for written in (None, entry.sudo_password):
        with passwords.of(written).tried("sip1") as attempt:
            assert attempt.secret == Secret("typed"), "what a person types goes first"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("sudo_password: hunter2", "SD234"),
        ("sudo_password: [hunter2]", "SD234"),
        ("sudo_pasword: hunter2", "SD201"),
        ("become_pass: hunter2", "SD201"),
        ("Password: hunter2", "SD201"),
        ("sudo_password: {value: hunter2}", "SD201"),
        ("sudo_password: {env: A, command: b}", "SD221"),
    ],
)
def test_a_password_in_the_inventory_is_refused_and_never_shown(line, code):
    text = TEXT.replace("sudo_password: VALUE", line)
    _, problems, document = load_site(text, "inventory.yaml")
    assert code in {problem.code for problem in problems}
    shown = "\n".join(map(str, problems))
    for number, written in enumerate(text.splitlines(), 1):
        if "hunter2" in written:
            hidden = source(document).hidden[number]
            low = written.index("hunter2") + 1
            assert any(a <= low and low + 7 <= b for a, b in hidden)
    assert "hunter2" not in shown


def test_the_password_is_asked_for_on_the_terminal(monkeypatch):
    monkeypatch.setattr(getpass, "getpass", lambda prompt: "typed" if "sudo" in prompt else "")
    session.ask_sudo_password()
    with passwords.of(None).tried("sip1") as attempt:
        assert attempt.secret == Secret("typed")
    monkeypatch.setattr(getpass, "getpass", lambda _: "")
    with pytest.raises(WrongUsage, match="is empty"):
        session.ask_sudo_password()


def command(*argv, **options):
    return subprocess.run(
        ["python", "-m", "sipdeploy", *argv],
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,  # no terminal
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        **options,
    )


@pytest.mark.parametrize(
    "argv",
    [("--ask-sudo-password", "plan"), ("plan", "sip1", "--ask-sudo-password")],
)
def test_without_a_terminal_nothing_is_read_from_standard_input(tmp_path, argv):
    done = command(*argv, cwd=tmp_path, input="secret\n")
    assert done.returncode == 2
    assert "SD552" in done.stderr
    assert "hosts.NAME.sudo_password" in done.stderr


def test_the_prompt_is_read_from_the_terminal_and_not_shown(tmp_path):
    """With a standard input that belongs to somebody else."""
    words = f"exec {sys.executable} -m sipdeploy --ask-sudo-password schema </dev/null >out"
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
        os.execvp("sh", ["sh", "-c", words])
    shown = b""
    try:
        while b"hosts:" not in shown and select.select([terminal], [], [], 60)[0]:
            shown += os.read(terminal, 1000)
        os.write(terminal, b"typed-Zq8Kd2\n")
        with contextlib.suppress(OSError):  # the terminal is gone with its process
            while select.select([terminal], [], [], 60)[0] and (chunk := os.read(terminal, 1000)):
                shown += chunk
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    assert (status, shown.split()) == (0, b"password of sudo on the hosts:".split())
    assert (tmp_path / "out").read_text().startswith("{")
