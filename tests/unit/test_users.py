import io
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fakes import FakeHost

from sipdeploy import inventory, transaction
from sipdeploy.__main__ import main
from sipdeploy.diagnostics import HIDDEN, Diagnostic
from sipdeploy.diagnostics.errors import HostFailed, InvalidFiles
from sipdeploy.editing import draft, tables
from sipdeploy.host import Result, connection, host_failed
from sipdeploy.inventory import files
from sipdeploy.inventory.secret import Secret
from sipdeploy.inventory.site import User, load_site
from sipdeploy.plan.desired import Probe
from sipdeploy.plan.text import _diff
from sipdeploy.proof.inside.register import Register, spread
from sipdeploy.services import kamailio
from sipdeploy.services.service import Port
from sipdeploy.transaction import Report

HEAD = """\
# our site
domain: sip.example.com   # the name
email: ops@example.com
hosts: {sip1: {address: 203.0.113.10}}
tls: {provider: self-signed}
"""
USERS = """\
users:
  1001: {name: Alice}  # the boss
  1002: {name: Bob, voicemail: true}

services:
  6000: {kind: ivr-test}
"""
SECRETS = 'users:\n  "1001": first-Zq8Kd2\n  "1002": second-Zq8Kd2  # by hand\n'


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    Path("inventory.yaml").write_text(HEAD + USERS)
    write_secrets(SECRETS)
    return tmp_path


def write_secrets(text):
    path = Path("secrets.yaml")
    path.write_text(text)
    path.chmod(0o600)


@pytest.fixture
def run(capsys):
    def start(*words):
        code = main(list(words))
        out, err = capsys.readouterr()
        return code, out, err

    return start


def passwords():
    loaded = inventory.open_inventory(Path("inventory.yaml"))
    return {number: secret.reveal() for number, secret in inventory.secrets(loaded).items()}


def state():
    return Path("inventory.yaml").read_bytes(), Path("secrets.yaml").read_bytes()


def test_a_user_is_added_and_nothing_else_changes(run):
    code, out, err = run("add-user", "1003", "--name", "Carol Smith", "--voicemail")
    assert code == 0
    assert err.startswith("inventory.yaml, secrets.yaml: add-user 1003\n")
    new = "  1003: {name: Carol Smith, voicemail: true}\n"
    assert Path("inventory.yaml").read_text() == HEAD + USERS.replace("\n\n", f"\n{new}\n")
    password = passwords()["1003"]
    assert Path("secrets.yaml").read_text() == SECRETS + f'  "1003": "{password}"\n'
    assert stat.S_IMODE(Path("secrets.yaml").stat().st_mode) == 0o600
    assert len(password) >= 24
    assert out == (
        "user       1003\n"
        "name       Carol Smith\n"
        "WebSocket  wss://sip.example.com:8443/ws\n"
        "protocol   sip\n"
        "SIP URI    sip:1003@sip.example.com\n"
        f"password   {password}\n"
    )
    assert password not in err
    assert sorted(path.name for path in Path().iterdir()) == ["inventory.yaml", "secrets.yaml"]


def test_a_given_password_is_not_shown():
    command = [sys.executable, "-m", "sipdeploy", "add-user", "1003", "--password-stdin"]
    done = subprocess.run(
        [*command, "--format", "json"],
        input="gi:ven # {pass}word\nmore\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "gi:ven" not in done.stdout + done.stderr
    assert json.loads(done.stdout)["uri"] == "sip:1003@sip.example.com"
    assert passwords()["1003"] == "gi:ven # {pass}word"


@pytest.mark.parametrize(
    ("given", "words"),
    [(b"\n", "is empty"), (b"a\x07b\n", "control character"), (b"p\xe4sswort\n", "is not UTF-8")],
)
def test_a_bad_password_is_refused(given, words):
    before = state()
    command = [sys.executable, "-m", "sipdeploy", "set-password", "1001", "--password-stdin"]
    done = subprocess.run(command, input=given, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"SD708" in done.stderr
    assert words in done.stderr.decode()
    assert state() == before


LOCALES = [
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "ascii:strict"},
    {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
]


@pytest.mark.parametrize("variables", LOCALES, ids=lambda each: next(iter(each.values())))
def test_names_in_any_encoding_do_not_stop_a_command(variables):
    def run(*words, given=None):
        command = [sys.executable, "-m", "sipdeploy", *words]
        environment = os.environ | variables
        return subprocess.run(
            command, input=given, env=environment, capture_output=True, check=False
        )

    Path("a.csv").write_bytes("number,name\n1003,\u0141ukasz \U0001f600\n".encode())
    assert run("users", "import", "a.csv").returncode == 0
    assert run("users").returncode == 0
    assert "\u0141ukasz" in json.loads(run("users", "--format", "json").stdout)["users"][2]["name"]
    assert "1003,\u0141ukasz \U0001f600,no,5" in run("users", "export").stdout.decode()
    done = run("set-password", "1003", "--password-stdin", given="p\xe4sswort-lang\n".encode())
    assert done.returncode == 0, done.stderr
    assert passwords()["1003"] == "p\xe4sswort-lang"
    done = run("set-password", "1003")
    assert done.returncode == 0, done.stderr
    assert passwords()["1003"].encode() in done.stdout


@pytest.mark.parametrize(
    ("words", "codes"),
    [
        (["add-user", "1001"], ["SD701"]),
        (["add-user", "6000"], ["SD216"]),
        (["add-user", "12a"], ["SD208"]),
        (["add-user", "1"], ["SD208"]),
        (["add-user", "1003", "--name", "a\nb"], ["SD220"]),
        (["add-user", "x", "--name", "a\nb"], ["SD208", "SD220"]),
        (["remove-user", "1009", "1008"], ["SD702", "SD702"]),
        (["set-password", "1011"], ["SD702"]),
        (["remove-user", "1001", "--delete-voicemail"], ["SD002"]),
        (["remove-user", "1001", "--end-calls"], ["SD002"]),
        (["add-user", "1003", "--apply", "sip2"], ["SD501"]),
        (["remove-user", "--apply", "1001", "1002"], ["SD501"]),
        (["secrets", "rotate", "--grace", "1009"], ["SD702"]),
    ],
)
def test_a_mistake_is_told_and_changes_nothing(run, words, codes):
    before = state()
    code, out, err = run(*words)
    assert code in (1, 2)
    assert out == ""
    assert [line[6:11] for line in err.splitlines() if line.startswith("error[")] == codes
    assert state() == before


def test_a_number_that_is_none_gets_the_rule(run):
    assert "write 2 to 15 digits, such as `1001`" in run("add-user", "bob")[2]


@pytest.mark.parametrize("command", ["remove-user", "set-password"])
def test_numbers_are_not_misspelt_words(run, command):
    err = run(command, "1003")[2]
    assert "did you mean" not in err
    assert "`sipdeploy users` lists the users" in err


def test_a_dry_run_shows_the_change_without_passwords(run):
    Path("inventory.yaml").write_text(HEAD + "users: {1001: {password: first-Zq8Kd2}}\n")
    before = state()
    code, out, err = run("add-user", "1003", "--name", "Carol", "--dry-run")
    assert code == 0
    assert f"-users: {{1001: {{password: {HIDDEN}}}}}" in out
    assert f"+users: {{1001: {{password: {HIDDEN}}}, 1003: {{name: Carol}}}}" in out
    assert out.splitlines()[-1][0] in "+-"  # no empty line of context at the end
    assert err == "secrets.yaml: a new password\nnothing was written\n"
    assert state() == before


@pytest.mark.parametrize("words", [("add-user", "1003"), ("set-password", "1001")])
def test_a_dry_run_for_programs_is_json(run, words):
    before = state()
    code, out, err = run(*words, "--dry-run", "--format", "json")
    assert (code, err) == (0, "nothing was written\n")
    shown = json.loads(out)
    assert shown["is_dry_run"] is True
    assert shown["new_passwords"] == [words[1]]
    assert "secrets.yaml" in shown["files"]
    assert ("+  1003: {}" in shown["diff"]) is (words[0] == "add-user")
    assert state() == before


@pytest.mark.parametrize(
    ("words", "files"),
    [
        (("set-password", "1001"), "secrets.yaml: set-password 1001"),
        (("secrets", "rotate"), "secrets.yaml: new passwords"),
        (("remove-user", "1001"), "inventory.yaml, secrets.yaml: remove-user 1001"),
    ],
)
def test_the_files_that_change_are_named(run, words, files):
    assert run(*words)[2].splitlines()[0] == files


def test_a_json_result_of_a_given_password_is_json(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"long-enough-Zq8Kd2\n")))
    code, out, _ = run("set-password", "1001", "--password-stdin", "--format", "json")
    assert code == 0
    assert json.loads(out)["number"] == "1001"
    assert "Zq8Kd2" not in out


@pytest.mark.parametrize("command", ["add-user", "set-password"])
@pytest.mark.parametrize(("given", "is_weak"), [("pw", True), ("fmK4tXw9Rd2zHq7p", False)])
def test_a_weak_password_is_accepted_with_a_warning(run, monkeypatch, command, given, is_weak):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{given}\n".encode())))
    number = "1003" if command == "add-user" else "1001"
    code, out, err = run(command, number, "--password-stdin")
    assert code == 0
    assert ("warning[SD302]: the password of user" in err) is is_weak
    assert passwords()[number] == given
    assert given not in out + err.replace("password", "")


def test_users_go_with_what_is_theirs(run):
    code, _, _ = run("remove-user", "1001", "1002")
    assert code == 0
    assert Path("inventory.yaml").read_text() == HEAD + USERS.replace(
        "  1001: {name: Alice}  # the boss\n  1002: {name: Bob, voicemail: true}\n", ""
    )
    assert Path("secrets.yaml").read_text() == "users:\n"
    assert run("add-user", "1001")[0] == 0


def test_another_password_goes_where_the_present_one_is(run, monkeypatch):
    monkeypatch.setenv("EVE", "eve-Zq8Kd2")
    Path("dan").write_text("dan-Zq8Kd2\nkept\n")
    users = (
        "users:\n  1001: {}\n  1002: {password: 'own-Zq8Kd2'}  # c\n"
        "  1003: {password: {file: dan}}\n  1004: {password: {env: EVE}}\n"
    )
    Path("inventory.yaml").write_text(HEAD + users)
    before = passwords()
    for number in ("1001", "1002", "1003"):
        assert run("set-password", number)[0] == 0
    after = passwords()
    assert all(before[number] != after[number] for number in ("1001", "1002", "1003"))
    assert Path("secrets.yaml").read_text() == SECRETS.replace(
        "first-Zq8Kd2", f'"{after["1001"]}"'
    )
    text = Path("inventory.yaml").read_text()
    assert text == HEAD + users.replace("'own-Zq8Kd2'", f'"{after["1002"]}"')
    assert Path("dan").read_text() == f"{after['1003']}\nkept\n"
    code, _, err = run("set-password", "1004")
    assert code == 1
    assert "SD706" in err
    assert "variable `EVE`" in err


def test_new_passwords_for_all_but_the_grace_list(run):
    before = passwords()
    code, out, _ = run("secrets", "rotate", "--grace", "1002")
    assert (code, out) == (0, "")
    after = passwords()
    assert after["1001"] != before["1001"]
    assert after["1002"] == before["1002"]
    assert "# by hand" in Path("secrets.yaml").read_text()


def test_import_is_all_or_none(run):
    Path("a.csv").write_text(
        "\ufeffnumber,name,voicemail,max_contacts,password\n"
        '1003,"Smith, Carol",yes,,\n 1004 ,,,2,given-Zq8Kd2\n'
    )
    assert run("users", "import", "a.csv")[0] == 0
    site = inventory.open_inventory(Path("inventory.yaml")).site
    assert site.users["1003"] == User(name="Smith, Carol", voicemail=True)
    assert site.users["1004"] == User(max_contacts=2)
    assert passwords()["1004"] == "given-Zq8Kd2"
    before = state()
    Path("b.csv").write_text(
        'number,name,password\n1005,,p\n1x,a\tb,hunter2\n1005,,\n1006\n1007,,"hunter2\n"\n'
    )
    code, _, err = run("users", "import", "b.csv")
    assert code == 1
    assert err.count("error[SD707]") == 5
    assert "b.csv:3:1" in err
    assert "hunter2" not in err
    Path("c.csv").write_text("number\n1001\n1002\n6000\n1008\n")
    code, _, err = run("users", "import", "c.csv")
    assert "error[SD701]: users `1001`, `1002` exist already" in err
    assert "c.csv:2:1" in err
    assert "--update" in err
    assert "SD216" in err
    assert state() == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name\nx\n", "the column `number` is missing; the first line has `name`"),
        ("number,nmae\n", "column `nmae` is unknown"),
        ("number,name,name\n", "column `name` occurs twice"),
        ("Nebenstelle;Name;Kennwort\n1003;C;hunter2\n", "the column `number` is missing"),
        ("1003,Carol,hunter2\n", "the first line does not name the columns"),
        ("", "the first line does not name the columns"),
        ('number\n"1', "the file is not valid CSV: a quotation mark has no second one"),
        ('number,name\n"1"x,\n', "not valid CSV: text follows a closing quotation mark"),
        ("number,voicemail\n1003,hunter2\n", "column `voicemail`: neither"),
        ("number,max_contacts\n1003,hunter2\n", "column `max_contacts`: no such number"),
        ("number,name\nhunter2,C\n", "column `number`: this is not the number of a user"),
        ("number,password\n1003,hunter2\t\n", "column `password`: it has a control character"),
        ("number,voicemail\n1003,hunter2\n", "write `yes` or `no`"),
        ("number,max_contacts\n1003,hunter2\n", "write a whole number from 1 to 100"),
        ("number,name\nhunter2,C\n", "write 2 to 15 digits, such as `1001`"),
    ],
)
def test_what_is_no_table_of_users(run, text, words):
    Path("a.csv").write_text(text)
    code, _, err = run("users", "import", "a.csv")
    assert code == 1
    assert words in err
    assert err.count("error[SD707]") == 1
    assert "hunter2" not in err


@pytest.mark.parametrize(
    "text",
    [
        "number,name,voicemail\n1003,Carol,yes\n",
        "number;name;voicemail\r\n1003;Carol;yes\r\n",
        "Number\tName\tVoicemail\n\n1003\tCarol\tTRUE\n\t\t\n",
        "\ufeffName;Max contacts;Voicemail;NUMBER\nCarol;;on;1003\n",
    ],
    ids=["commas", "semicolons", "tabs", "mark-and-order"],
)
def test_spreadsheets_write_tables_of_users(run, text):
    Path("a.csv").write_text(text, "utf-8", newline="")
    code, _, err = run("users", "import", "a.csv")
    assert code == 0, err
    site = inventory.open_inventory(Path("inventory.yaml")).site
    assert site.users["1003"] == User(name="Carol", voicemail=True)


def test_a_missing_table_gets_the_advice_for_a_table(run):
    code, _, err = run("users", "import", "a.csv")
    assert code == 1
    assert "cannot read `a.csv`: no such file or directory" in err
    assert "`sipdeploy users export` prints an example" in err
    assert "init" not in err


def test_weak_passwords_of_a_table_are_warnings_by_line(run):
    Path("a.csv").write_text("number,password\n1003,\n1004,qwe\n1005,fmK4tXw9Rd2zHq7p\n")
    code, out, err = run("users", "import", "a.csv")
    assert code == 0
    assert err.count("warning[SD302]") == 1
    assert "a.csv:3:1" in err
    assert "qwe" not in out + err


def test_an_update_changes_what_the_table_has_and_no_more(run):
    Path("inventory.yaml").write_text(
        HEAD + "users:\n  1001: {name: Alice}  # the boss\n  1002:\n    name: Bob  # him\n"
        "    voicemail: true\n  1003: {}\n  1004:\n  1005: {name: Eve, password: own-Zq8Kd2}\n"
    )
    write_secrets(SECRETS + '  "1003": third-Zq8Kd2\n  "1004": fourth-Zq8Kd2\n')
    before = passwords()
    Path("a.csv").write_text(
        "number,name,voicemail,max_contacts,password\n1001,,yes,,\n1002,Robert,no,9,\n"
        "1003,Carol,,,other-Zq8Kd2\n1004,Dan,,,fourth-Zq8Kd2\n1005,,,,new-Zq8Kd2x\n1006,Fay,,,\n"
    )
    code, _, err = run("users", "import", "a.csv", "--update")
    assert code == 0, err
    assert Path("inventory.yaml").read_text() == (
        HEAD + "users:\n  1001: {name: Alice, voicemail: true}  # the boss\n  1002:\n"
        "    name: Robert  # him\n    voicemail: false\n    max_contacts: 9\n"
        "  1003: {name: Carol}\n  1004: {name: Dan}\n"
        '  1005: {name: Eve, password: "new-Zq8Kd2x"}\n  1006: {name: Fay}\n'
    )
    after = passwords()
    assert after.keys() - before.keys() == {"1006"}
    assert {n for n in before if before[n] != after[n]} == {"1003", "1005"}
    assert after["1003"] == "other-Zq8Kd2"


def test_an_update_with_what_is_there_changes_nothing(run):
    run("users", "export", "--passwords", "all.csv")
    before = state()
    code, _, err = run("users", "import", "all.csv", "--update")
    assert (code, err) == (0, "import of 2 users: nothing changes\n")
    assert state() == before


def test_an_update_changes_json_and_stays_json(run):
    site = {
        "domain": "sip.example.com",
        "email": "ops@example.com",
        "hosts": {"sip1": {"address": "203.0.113.10"}},
        "tls": {"provider": "self-signed"},
        "users": {"1001": {"name": "Alice"}, "1002": {}},
    }
    Path("inventory.yaml").write_text(json.dumps(site, indent=2))
    Path("a.csv").write_text("number,name,max_contacts\n1001,Alicia,7\n")
    code, _, err = run("users", "import", "a.csv", "--update")
    assert code == 0, err
    users = json.loads(Path("inventory.yaml").read_text())["users"]
    assert users == {"1001": {"name": "Alicia", "max_contacts": 7}, "1002": {}}


def test_what_is_exported_is_imported_the_same(run):
    _, out, _ = run("users", "export")
    assert out == "number,name,voicemail,max_contacts\n1001,Alice,no,5\n1002,Bob,yes,5\n"
    assert run("users", "export", "--passwords", "all.csv")[0] == 0
    assert stat.S_IMODE(Path("all.csv").stat().st_mode) == 0o600
    site, before = inventory.open_inventory(Path("inventory.yaml")).site, passwords()
    run("remove-user", "1001", "1002")
    assert run("users", "import", "all.csv")[0] == 0
    assert inventory.open_inventory(Path("inventory.yaml")).site.users == site.users
    assert passwords() == before


def test_an_export_with_passwords_overwrites_nothing(run):
    Path("all.csv").write_text("mine")
    Path("link.csv").symlink_to("elsewhere")
    for name in ("all.csv", "link.csv"):
        code, _, err = run("users", "export", "--passwords", name)
        assert code == 1
        assert f"cannot write `{name}`: it exists" in err
    assert Path("all.csv").read_text() == "mine"
    assert not Path("elsewhere").exists()


def test_an_export_with_passwords_stays_out_of_git(run):
    subprocess.run(["git", "init", "-q"], check=True)
    Path("a folder").mkdir()
    place = "a folder/all of us.csv"
    code, _, err = run("users", "export", "--passwords", place)
    assert code == 1
    assert "SD307" in err
    assert not Path(place).exists()
    remedy = re.search(r"help: `(echo .*)`, then", err)[1]
    subprocess.run(remedy, shell=True, check=True)
    before = os.umask(0)
    assert run("users", "export", "--passwords", place)[0] == 0
    os.umask(before)
    assert stat.S_IMODE(Path(place).stat().st_mode) == 0o600
    seen = subprocess.run(["git", "status", "--short", "-uall"], capture_output=True, check=True)
    assert b"all of us" not in seen.stdout
    subprocess.run(["git", "add", "-f", place], check=True)
    Path(place).unlink()
    assert "name another file" in run("users", "export", "--passwords", place)[2]
    assert not Path(place).exists()


def test_an_export_that_cannot_be_written_fetches_no_password(run):
    Path("inventory.yaml").write_text(
        HEAD + "users: {1001: {}}\nsecrets: {command: 'touch fetched'}\n"
    )
    code, _, err = run("users", "export", "--passwords", "no/all.csv")
    assert code == 1
    assert "cannot write `no/all.csv`: no such file or directory" in err
    assert "`mkdir -p no`" in err
    Path("all.csv").touch()
    assert run("users", "export", "--passwords", "all.csv")[0] == 1
    assert not Path("fetched").exists()


def test_the_table_of_users():
    site, _, _ = load_site(HEAD + USERS, "inventory.yaml")
    assert tables.as_text(site, {}).splitlines()[1:] == [
        "1001    Alice  -", "1002    Bob    yes",
    ]  # fmt: skip
    contacts = tuple(
        tables.Contact(host="sip1", source=f"192.0.2.1:{port}", registered=0, device="a\x1b[2Jb")
        for port in (1, 2)
    )
    text = tables.as_text(site, {"1002": tables.Presence(contacts=contacts, messages=3)})
    assert text.splitlines()[2].split() == [
        "1002", "Bob", "3", "1970-01-01", "00:00:00Z", "192.0.2.1:1", "on", "sip1", "a\ufffd[2Jb",
    ]  # fmt: skip
    assert text.splitlines()[3].split()[2:3] == ["192.0.2.1:2"]
    told = json.loads(tables.as_json(site, {"1002": tables.Presence(messages=3)}))["users"]
    assert [row["messages"] for row in told] == [None, 3]


REGISTERED = (
    "\x1econtacts\n1001@sip.example.com\t192.0.2.1:5\t1.0\tPhone\n"
    "1009@sip.example.com\t192.0.2.2:6\t2.0\tOld \x1b[2J\n"
    "1002@before.example.com\t192.0.2.3:7\t3.0\tOther\n\x1emessages\n1002\t3\n\x1eend\n"
)
DOWN = "\x1efailed\nkamailio.service is inactive\nERROR: connect_unix_sock: No such file\n"


@pytest.fixture
def asked(monkeypatch):
    """`users --on` with hosts that give these answers; None for one that is away."""

    def start(run, *answers, words=()):
        names = [f"sip{index + 1}" for index in range(len(answers))]
        hosts = ", ".join(f"{n}: {{address: 203.0.113.{i + 1}}}" for i, n in enumerate(names))
        head = HEAD.replace("{sip1: {address: 203.0.113.10}}", f"{{{hosts}}}")
        Path("inventory.yaml").write_text(head + USERS)

        def connect(name, entry):
            del entry
            answer = answers[names.index(name)]
            if answer is None:
                raise host_failed("SD501", f"`{name}` is away")
            return FakeHost(name, {"registrations": Result(status=0, stdout=answer.encode())})

        monkeypatch.setattr("sipdeploy.cli.live.connect", connect)
        return run("users", *(word for name in names for word in ("--on", name)), *words)

    return start


def test_who_is_registered_and_not_in_the_inventory_is_marked(run, asked):
    code, out, err = asked(run, REGISTERED)
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert rows[1][:3] == ["1001", "Alice", "-"]
    assert rows[2] == ["1002", "Bob", "3", "-"]
    assert "1002@before.example.com  (not in the inventory)" in out
    assert "1009                     (not in the inventory)" in out
    assert "\x1b" not in out
    shown = json.loads(asked(run, REGISTERED, words=("--format", "json"))[1])["users"]
    assert {row["number"]: row["in_inventory"] for row in shown} == {
        "1001": True, "1002": True, "1002@before.example.com": False, "1009": False,
    }  # fmt: skip


@pytest.mark.parametrize("words", [(), ("--format", "json")], ids=["text", "json"])
def test_a_host_without_kamailio_is_no_host_without_phones(run, asked, words):
    code, out, err = asked(run, DOWN, words=words)
    assert (code, out) == (4, "")
    assert "error[SD714]: Kamailio on `sip1` does not answer" in err
    assert "kamailio.service is inactive" in err
    assert "journalctl -b -u kamailio" in err


def test_the_hosts_that_answer_are_shown_beside_those_that_do_not(run, asked):
    code, out, err = asked(run, DOWN, REGISTERED, None)
    assert code == 4
    assert "192.0.2.1:5 on sip2" in out
    assert "SD714" in err
    assert "`sip3` is away" in err
    assert asked(run, None)[:2] == (4, "")


# --- the files -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_at_once_both_end_up_in_the_files():
    command = [sys.executable, "-m", "sipdeploy", "add-user"]
    numbers = [str(1010 + index) for index in range(6)]
    running = [subprocess.Popen([*command, n], stdout=subprocess.DEVNULL) for n in numbers]
    assert [process.wait() for process in running] == [0] * 6
    assert set(numbers) <= passwords().keys()


def test_who_edits_the_file_meanwhile_loses_nothing():
    begun = draft.add(draft.begin(Path("inventory.yaml")), {"1003": User()}, {"1003": Secret("x")})
    Path("inventory.yaml").write_text(HEAD + USERS + "# more\n")
    before = state()
    with pytest.raises(InvalidFiles, match="SD704"):
        begun.commit()
    assert state() == before


@pytest.mark.parametrize("name", ["secrets.yaml", "inventory.yaml"])
def test_a_full_disk_leaves_both_files_as_they_were(monkeypatch, name):
    begun = draft.add(draft.begin(Path("inventory.yaml")), {"1003": User()}, {"1003": Secret("x")})
    before = state()
    rename = files.Path.replace

    def replace(self, target):
        if target.name == name:
            raise OSError(28, "No space left on device", str(target))
        return rename(self, target)

    monkeypatch.setattr(files.Path, "replace", replace)
    with pytest.raises(InvalidFiles, match=f"SD705.*cannot write `.*{name}`: no space left"):
        begun.commit()
    assert state() == before
    assert {path.name for path in Path().iterdir()} == {"secrets.yaml", "inventory.yaml"}


@pytest.mark.parametrize("words", [["add-user", "1003"], ["remove-user", "1002"]])
def test_at_no_time_is_there_a_user_without_a_password(run, monkeypatch, words):
    """After a power cut between the two writes, no user may lack a password."""
    rename, seen = files.Path.replace, []

    def replace(self, target):
        rename(self, target)
        users = set(inventory.open_inventory(Path("inventory.yaml")).site.users)
        kept = yaml.safe_load(Path("secrets.yaml").read_text())["users"]
        seen.append((target.name, users - set(kept)))

    monkeypatch.setattr(files.Path, "replace", replace)
    assert run(*words)[0] == 0
    assert sorted(name for name, _ in seen) == ["inventory.yaml", "secrets.yaml"]
    assert [missing for _, missing in seen] == [set(), set()]


def test_a_secrets_file_in_git_gets_no_password(run):
    for words in (["init", "-q"], ["add", "secrets.yaml"]):
        subprocess.run(["git", *words], check=True)
    before = state()
    code, _, err = run("add-user", "1003")
    assert code == 1
    assert "SD306" in err
    assert state() == before


def test_a_secrets_file_that_everyone_reads_is_refused(run):
    Path("secrets.yaml").chmod(0o644)
    before = state()
    code, _, err = run("add-user", "1003")
    assert code == 1
    assert "SD304" in err
    assert state() == before


def test_without_a_secrets_file_one_is_made(run):
    Path("secrets.yaml").unlink()
    Path("inventory.yaml").write_text(HEAD + "users: {}\n")
    assert run("add-user", "1003")[0] == 0
    assert stat.S_IMODE(Path("secrets.yaml").stat().st_mode) == 0o600
    assert passwords().keys() == {"1003"}


def test_a_store_takes_the_passwords(run):
    """As with sops or age: one command prints the file, another stores it."""
    Path("secrets.yaml").rename("store")
    command = "users: {}\nsecrets: {command: 'rev store', store: \"sh -c 'rev > store'\"}\n"
    Path("inventory.yaml").write_text(HEAD + command)
    Path("store").write_text("".join(f"{line[::-1]}\n" for line in ["users:", '  "1": one']))
    assert run("add-user", "1003")[0] == 0
    assert "1003" in passwords()
    assert "3001" in Path("store").read_text()
    assert run("set-password", "1003")[0] == 0
    assert run("remove-user", "1003")[0] == 0
    assert "3001" not in Path("store").read_text()


@pytest.fixture
def applied(monkeypatch):
    """Hosts that take every apply."""
    report = Report(host="sip1", state="applied")
    monkeypatch.setattr(transaction, "apply", lambda *_, **__: (report,))
    monkeypatch.setattr(connection, "connect", lambda *_: FakeHost())


COUNTED = "sh -c 'echo >> {0}.asked; cat {0}'"


def times_asked(name):
    path = Path(f"{name}.asked")
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.usefixtures("applied")
@pytest.mark.parametrize(
    ("words", "times"),
    [
        (["render", "--trusted"], 1),
        (["add-user", "1003", "--dry-run"], 1),
        # once to read, and once to verify what the store has
        (["add-user", "1003"], 2),
        (["add-user", "1003", "--apply", "sip1"], 2),
        (["remove-user", "1002", "--apply", "sip1"], 2),
        (["set-password", "1001", "--apply", "sip1"], 2),
        (["users", "export", "--passwords", "all.csv"], 1),
    ],
)
def test_a_vault_is_asked_once(run, words, times):
    """Each time, a vault can ask its owner for a token or a touch."""
    commands = {"command": COUNTED.format("secrets.yaml"), "store": "tee secrets.yaml"}
    Path("inventory.yaml").write_text(f"{HEAD}{USERS}secrets: {json.dumps(commands)}\n")
    assert run(*words)[0] == 0
    assert times_asked("secrets.yaml") == times


@pytest.mark.usefixtures("applied")
def test_the_command_of_a_password_runs_once_for_all_its_users(run):
    Path("door").write_text("open-Zq8Kd2\n")
    source = json.dumps({"command": COUNTED.format("door")})
    users = f"users:\n  2001: {{password: {source}}}\n  2002: {{password: {source}}}\n"
    Path("inventory.yaml").write_text(HEAD + users)
    assert run("add-user", "1003", "--apply", "sip1")[0] == 0
    assert times_asked("door") == 1


def test_a_store_that_loses_passwords_is_noticed(run):
    Path("inventory.yaml").write_text(
        HEAD + "users: {}\nsecrets: {command: 'cat secrets.yaml', store: 'true'}\n"
    )
    before = state()
    code, _, err = run("add-user", "1003")
    assert code == 1
    assert "does not return them" in err
    assert state() == before


def test_what_a_store_complains_of_is_told_without_passwords(run):
    Path("inventory.yaml").write_text(
        HEAD
        + "users: {}\nsecrets: {command: 'cat secrets.yaml', store: \"sh -c 'cat >&2; false'\"}\n"
    )
    code, out, err = run("add-user", "1003")
    assert code == 1
    assert "1003" in err
    assert err.count(HIDDEN) == 3
    assert "Zq8Kd2" not in out + err


def test_nothing_that_holds_passwords_prints_them():
    begun = draft.begin(Path("inventory.yaml"))
    begun = draft.add(begun, {"1003": User()}, {"1003": Secret("third-Zq8Kd2")})
    assert "1003" in repr(begun)
    assert "Zq8Kd2" not in repr(begun)
    assert "Zq8Kd2" not in repr(begun.vault)


def test_a_crash_is_told_without_the_new_password(run, monkeypatch, tmp_path):
    monkeypatch.setattr(draft.Draft, "commit", lambda self: 1 / len(self.vault_text[:0]))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, out, err = run("add-user", "1003")
    assert (code, out) == (3, "")
    (log,) = tmp_path.glob("sipdeploy-*.log")
    text = log.read_text()
    assert "ZeroDivisionError" in text
    assert "Zq8Kd2" not in text + err


def test_a_command_without_a_store_takes_nothing(run):
    Path("inventory.yaml").write_text(HEAD + "users: {}\nsecrets: {command: 'cat secrets.yaml'}\n")
    before = state()
    code, _, err = run("add-user", "1003")
    assert code == 1
    assert "SD706" in err
    assert state() == before


def test_an_inventory_that_cannot_be_edited_says_what_to_write(run):
    Path("inventory.yaml").write_text(HEAD + "users:\n  ? 1001\n  : {}\n")
    before = state()
    code, _, err = run("add-user", "1003", "--name", "Carol")
    assert code == 1
    assert "SD703" in err
    assert "--> inventory.yaml:7:5" in err
    assert "`1003: {name: Carol}`" in err
    assert state() == before


def test_a_user_that_cannot_be_removed_is_shown_with_its_place(run):
    users = (
        "users: {\n  1001: {name: Alice},  # the boss\n  1002: {name: Bob},  # hers, not his\n}\n"
    )
    Path("inventory.yaml").write_text(HEAD + users)
    before = state()
    code, _, err = run("remove-user", "1002")
    assert code == 1
    assert "SD703" in err
    assert "--> inventory.yaml:8:3" in err
    assert "1002: {name: Bob},  # hers, not his" in err
    assert "edit it by hand: delete the entry of `1002`" in err
    assert state() == before


def test_anchors_are_refused_before_anything_is_changed(run):
    Path("inventory.yaml").write_text(HEAD + "users: {1001: &a {name: A}, 1002: *a}\n")
    before = state()
    code, _, err = run("add-user", "1003")
    assert code == 1
    assert "SD105" in err
    assert state() == before


def test_an_inventory_behind_a_link_stays_there(run):
    Path("there").mkdir()
    Path("inventory.yaml").rename("there/real.yaml")
    Path("inventory.yaml").symlink_to("there/real.yaml")
    assert run("add-user", "1003")[0] == 0
    assert Path("inventory.yaml").is_symlink()
    assert "1003" in Path("there/real.yaml").read_text()


def test_a_host_that_is_away_is_told_and_the_files_have_the_change(run, monkeypatch):
    monkeypatch.setenv("HOME", str(Path.cwd()))
    inventory_ = (
        HEAD.replace("203.0.113.10", "127.0.0.1, port: 1, public_address: 203.0.113.10") + USERS
    )
    Path("inventory.yaml").write_text(inventory_)
    code, out, err = run("add-user", "1003", "--apply", "sip1")
    assert code == 4, err
    assert "`inventory.yaml` contains the change, and `sip1` does not have it yet" in err
    assert "`sipdeploy apply sip1 --yes` completes the change" in err
    assert "1003" in passwords()
    assert "password" in out


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--apply"], ["sip1", "sip2"]),
        (["--apply", "--yes"], ["sip1", "sip2"]),
        (["--apply", "sip2"], ["sip2"]),
        (["--apply=sip2", "--apply", "sip1"], ["sip2", "sip1"]),
        ([], None),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ["add-user", "1003"],
        ["remove-user", "1002"],
        ["set-password", "1002"],
        ["secrets", "rotate"],
        ["users", "import", "more.csv"],
    ],
)
def test_apply_without_a_host_means_every_host(run, monkeypatch, command, words, names):
    text = HEAD.replace("113.10}}", "113.10}, sip2: {address: 203.0.113.12}}") + USERS
    Path("inventory.yaml").write_text(text)
    Path("more.csv").write_text("number\n1003\n")
    applied = []

    def apply(_, hosts, **__):
        applied.append(list(hosts))
        return tuple(Report(host=name, state="applied") for name in hosts)

    monkeypatch.setattr(transaction, "apply", apply)
    monkeypatch.setattr(connection, "connect", lambda *_: FakeHost())
    code, _, err = run(*command, *words)
    assert code == 0, err
    assert applied == ([names] if names else [])


CLONED = (
    ["plan"],
    ["apply", "--yes"],
    ["render"],
    ["init"],
    ["secrets", "rotate"],
    ["secrets", "rotate", "--apply", "--yes"],
    ["secrets", "rotate", "--grace", "1001"],
    ["set-password", "1001"],
    ["add-user", "1003"],
    ["users", "import", "more.csv"],
    ["users", "export", "--passwords", "all.csv"],
)


@pytest.mark.usefixtures("applied")
@pytest.mark.parametrize("words", CLONED, ids=" ".join)
def test_nothing_in_a_clone_makes_new_passwords_for_all(run, words):
    """The secrets file is not in git: each command says where it is, and writes nothing."""
    Path("inventory.yaml").write_text(HEAD.replace("203.0.113.10", "198.18.0.1") + USERS)
    Path("more.csv").write_text("number\n1003\n")
    Path("secrets.yaml").unlink()
    before = Path("inventory.yaml").read_bytes()
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert "SD230" in err
    assert "the secrets file `secrets.yaml` is missing, so 2 users have no password" in err
    assert "copy `secrets.yaml` from a colleague who has it" in err
    assert not Path("secrets.yaml").exists()
    assert Path("inventory.yaml").read_bytes() == before


def test_a_colleague_s_user_is_no_new_one(run):
    """The inventory came with git, and the secrets file did not: `init` would make another one."""
    Path("inventory.yaml").write_text(HEAD + USERS.replace("  1002", "  1004: {}\n  1002"))
    code, _, err = run("render")
    assert code == 1
    assert "if a colleague has added it, copy `secrets.yaml` from there; otherwise" in err
    assert "`sipdeploy init` generates what is missing" in err


def test_new_passwords_for_all_are_said_to_need_a_consent(run):
    text = HEAD + "users: {1001: {}, 1002: {}}\n"
    Path("inventory.yaml").write_text(text)
    Path("secrets.yaml").write_text('users: {"1001": "open-Zq8Kd2", "1002": "shut-Zq8Kd2"}\n')
    assert "run `sipdeploy apply` to" in run("set-password", "1001")[2]
    assert "run `sipdeploy apply --take-over` to" in run("secrets", "rotate")[2]
    assert "run `sipdeploy apply` to" in run("secrets", "rotate", "--grace", "1001")[2]


EDITED = Diagnostic("SD526", "/etc/kamailio/sipdeploy.db on `sip2` was edited")
LOST = Diagnostic("SD506", "the connection was lost")


def test_what_completes_a_change_is_said_for_each_host(run, monkeypatch):
    more = "".join(f", sip{n}: {{address: 203.0.113.1{n}}}" for n in (2, 3, 4))
    text = HEAD.replace("113.10}}", f"113.10}}{more}}}") + USERS
    Path("inventory.yaml").unlink()
    Path("it.yaml").write_text(text)
    reports = (
        Report(host="sip1", state="applied", changes=("~ x",)),
        Report(host="sip2", state="unchanged", diagnostics=(EDITED,), exit_code=4),
        Report(host="sip3", state="unchanged", diagnostics=(LOST,), exit_code=4),
        Report(host="sip4", state="unchanged", changes=("~ x",)),
    )
    monkeypatch.setattr(transaction, "apply", lambda *_, **__: reports)
    monkeypatch.setattr(connection, "connect", lambda *_: FakeHost())
    code, _, err = run("-i", "it.yaml", "remove-user", "1002", "--apply")
    assert code == 4
    assert "`it.yaml` contains the change, and `sip3` does not have it yet" in err
    assert "`sipdeploy -i it.yaml apply sip3 --yes` completes the change\n" in err
    assert "and `sip2` does not have it yet" in err
    assert "`sipdeploy -i it.yaml apply sip4 --yes` completes the change\n" in err, "now"
    assert "`sipdeploy -i it.yaml apply sip2 --overwrite --yes` completes the change, and" in err


# --- output and proof ----------------------------------------------------------------------------


class Desired:
    domain = "sip.example.com"
    ports = (Port(protocol="tcp", address="0.0.0.0", number=8443, process="k", key="ports.wss"),)
    probe = Probe(domain=domain, origin="https://a.example")


def test_a_proof_says_who_was_refused_and_tells_no_secret():
    host = FakeHost(
        answers={
            "register": Result(status=0, stdout=b"\x1erefused\n1003\t401\t403\t\n\x1eproved\n")
        }
    )
    step = Register(desired=Desired, credentials={"1003": "5ecre7", "1004": "5ecre8"})
    with pytest.raises(HostFailed, match="`1003` cannot register") as caught:
        step.run(host, lambda _: None)
    (problem,) = caught.value.diagnostics
    assert problem.notes == ("`1003`: REGISTER was answered with 401, 403, nothing",)
    assert host.inputs == [b"1003 5ecre7\n1004 5ecre8\n"]
    assert "5ecre7" not in " ".join(host.asked[0])
    assert "5ecre7" not in repr(step) + str(host.asked)
    assert step.title == "register as 1003 and 1 more"
    assert host.asked[0][2:] == (
        *("127.0.0.1", "8443", "sip.example.com"),
        *("20", "2", "https://a.example"),
    )


@pytest.mark.parametrize(
    ("total", "proven", "told"),
    [
        (1, 1, []),
        (3, 3, ["\x1estep 3 of 3 users registered"]),
        (5000, 530, ["\x1estep 530 of 5000 users registered within 20 s"]),
    ],
)
def test_how_many_were_proven_is_told(total, proven, told):
    answer = Result(status=0, stdout=f"\x1erefused\n\x1eproved\n{proven}\n".encode())
    credentials = {str(1000 + index): "5ecre7" for index in range(total)}
    lines = []
    step = Register(desired=Desired, credentials=credentials)
    step.run(FakeHost(answers={"register": answer}), lines.append)
    assert lines == told


def test_that_nobody_was_proven_is_a_failure():
    answer = Result(status=0, stdout=b"\x1erefused\n\x1eproved\n0\n")
    step = Register(desired=Desired, credentials={"1003": "5ecre7"})
    with pytest.raises(HostFailed, match="no user could register"):
        step.run(FakeHost(answers={"register": answer}), lambda _: None)


@pytest.mark.parametrize("total", [1, 49, 100, 412, 5000])
def test_those_who_are_proven_first_are_from_all_over_the_list(total):
    numbers = [str(index) for index in range(total)]
    found = spread(numbers)
    assert sorted(found) == sorted(numbers)
    first = [int(number) for number in found[:25]]
    assert max(first) - min(first) >= min(total - 1, total * 0.4)


def test_a_plan_shows_whose_password_changes_and_no_checksum():
    before, after = ({"1001": each * 32, "1002": "c" * 32} for each in "ab")
    rows = _diff(*(kamailio.credential_sums("a.example", each) for each in (before, after)))
    assert rows[-3:] == [
        f"-1001@a.example {HIDDEN}",
        f"+1001@a.example {HIDDEN}",
        f" 1002@a.example {HIDDEN}",
    ]
