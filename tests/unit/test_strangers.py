"""An inventory from a stranger: `lint` and `render` run no command and read no file outside."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sipdeploy.__main__ import main
from sipdeploy.diagnostics import Diagnostic, Source, Span, full
from sipdeploy.diagnostics.formats import FORMATS
from sipdeploy.inventory import reading
from sipdeploy.inventory.document import Document
from sipdeploy.inventory.secret import PasswordSource
from sipdeploy.inventory.site import Site, _models, load_site
from sipdeploy.lint import git

HEAD = "domain: sip.example.com\nemail: a@b.example\nhosts: {sip1: {address: 203.0.113.10}}\n"
GOOD = "Zq8vN3tRk5Lm2xW7cB4d"  # not in a manual, which SARIF contains
CANARY = "canary"
LIMIT = 20  # seconds, for commands that must end by themselves


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A checkout with an inventory, and private files of the user outside it."""
    for name in ("GITHUB_ACTIONS", "SIPDEPLOY_INVENTORY", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "checkout"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (tmp_path / "shadow").write_text(
        f"root:$6${CANARY}:19000:0:99999:7:::\nusers:\n  {CANARY}: {CANARY}\n"
    )
    return folder


@pytest.fixture
def run(site, capsys):  # noqa: ARG001  # in the checkout
    def start(*words):
        code = main(list(words))
        out, err = capsys.readouterr()
        return code, out + err

    return start


def inventory(lines="", users="{1001: {name: Alice}}"):
    Path("inventory.yaml").write_text(f"{HEAD}users: {users}\n{lines}")


def everything_said(run):
    """Return the output of lint in all formats, with and without trust, and of render."""
    said = [run("lint", "--format", form)[1] for form in FORMATS]
    said += [run("lint", "--trusted", "--format", form)[1] for form in FORMATS]
    return "\n".join([*said, run("render")[1], run("render", "--trusted")[1]])


def in_time(*words):
    """Run a command in a separate process; fail if it does not end in time."""
    done = subprocess.run(
        [sys.executable, "-m", "sipdeploy", *words],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout + done.stderr


def hostile_repository(folder, kind, ran):
    """A repository whose settings run a program, embedded and bare, or with a `.git`."""
    hook = folder.parent / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {ran}\n")
    hook.chmod(0o755)
    folder.mkdir(exist_ok=True)
    subprocess.run(["git", "init", "-q", folder], check=True)
    for key, value in (("core.fsmonitor", hook), ("core.hooksPath", folder.parent)):
        subprocess.run(["git", "-C", folder, "config", key, value], check=True)
    if kind == "bare":
        for part in (folder / ".git").iterdir():
            shutil.move(part, folder / part.name)
        (folder / ".git").rmdir()
        subprocess.run(["git", "--git-dir", folder, "config", "core.bare", "false"], check=True)
        subprocess.run(["git", "--git-dir", folder, "config", "core.worktree", "."], check=True)
    if kind == "gitfile":
        shutil.move(folder / ".git", folder / "real")
        (folder / ".git").write_text("gitdir: real\n")
    (folder / "secrets.yaml").write_text("users:\n")


@pytest.mark.parametrize("kind", ["bare", ".git", "gitfile"])
@pytest.mark.parametrize("where", ["named", "own"])
def test_no_setting_of_a_repository_runs_anything(site, run, tmp_path, kind, where):
    ran = tmp_path / "ran"
    hostile_repository(site / "sub", kind, ran)
    if where == "named":
        inventory("secrets: sub/secrets.yaml\n")
        words = ("lint",)
    else:
        inventory()
        shutil.move("inventory.yaml", "sub/inventory.yaml")
        words = ("-i", "sub/inventory.yaml", "lint")
    subprocess.run(["git", "init", "-q", site], check=True)
    run(*words)
    run(*words, "--trusted")
    assert not ran.exists()


def test_no_program_of_the_checkout_is_taken_for_git(site, run, tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    Path("git").write_text(f"#!/bin/sh\ntouch {ran}\n")
    Path("git").chmod(0o755)
    (site / ".git").mkdir()
    inventory("secrets: s.yaml\n")
    monkeypatch.setenv("PATH", f".:{os.environ['PATH']}")
    run("lint")
    assert not ran.exists()


def test_the_environment_sends_git_nowhere(site, tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", site], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "bad")
    assert git.state_of(site, Path("s.yaml")).is_unignored


@pytest.mark.parametrize("form", ["sha1", "sha256"])
@pytest.mark.parametrize("kind", ["plain", "worktree", "split", "submodule"])
def test_git_is_still_asked(site, tmp_path, kind, form):
    def call(*words, at=site):
        settings = (
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "-c",
            "protocol.file.allow=always",
        )
        subprocess.run(["git", *settings, *words], cwd=at, check=True, capture_output=True)

    call("init", "-q", f"--object-format={form}", ".")
    Path("pbx").mkdir()
    for name in ("has", "takes", "not", "excluded", ":(exclude)x", "a*"):
        Path("pbx", name).write_text("")
    Path("pbx/.gitignore").write_text("not\n")
    call("add", "pbx/has", "pbx/.gitignore")
    call("commit", "-qm", "first")
    folder = site / "pbx"
    if kind == "worktree":
        call("worktree", "add", "-q", "../other", "-b", "other")
        folder = tmp_path / "other/pbx"
    elif kind == "submodule":
        call("init", "-q", f"--object-format={form}", tmp_path / "outer")
        call("submodule", "add", "-q", str(site), "inner", at=tmp_path / "outer")
        folder = tmp_path / "outer/inner/pbx"
    elif kind == "split":
        call("update-index", "--split-index")
    common = subprocess.run(
        ["git", "rev-parse", "--git-common-dir"],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    excluded = folder / common.stdout.strip() / "info/exclude"
    excluded.parent.mkdir(exist_ok=True)
    excluded.write_text("excluded\n")

    def asked(name):
        found = git.state_of(folder, Path(name))
        return "has" if found.is_tracked else "takes" if found.is_unignored else "not"

    assert asked("has") == "has"
    assert asked("../pbx/has") == "has"
    assert [asked(name) for name in ("takes", ":(exclude)x", "h*")] == ["takes"] * 3
    assert [asked(name) for name in ("not", "excluded", "../../x", "/etc/x")] == ["not"] * 4


def test_a_secrets_file_that_git_has_is_told(run):
    inventory()
    Path("secrets.yaml").write_text(f'users:\n  "1001": {GOOD}\n')
    Path("secrets.yaml").chmod(0o600)
    subprocess.run(["git", "init", "-q", "."], check=True)
    assert "SD307" in run("lint")[1]
    subprocess.run(["git", "add", "-f", "secrets.yaml"], check=True)
    code, said = run("lint")
    assert code == 1
    assert "SD306" in said
    subprocess.run(["git", "rm", "-q", "--cached", "secrets.yaml"], check=True)
    Path(".gitignore").write_text("secrets.yaml\n")
    code, said = run("lint")
    assert code == 0
    assert not {"SD306", "SD307", "SD233"} & set(said.replace("[", " ").replace("]", " ").split())


OUTSIDE = [
    "../shadow",
    "{tmp}/shadow",
    "link",
    "folder/shadow",
    "../checkout/../shadow",
    "sub/../../shadow",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_file_outside_is_not_read(site, run, tmp_path, monkeypatch, name):
    (site / "link").symlink_to("../shadow")
    (site / "folder").symlink_to("..")
    (site / "sub").mkdir()
    name = name.format(tmp=tmp_path)
    opened = []
    real = os.open
    monkeypatch.setattr(
        os, "open", lambda path, *a, **k: opened.append(path) or real(path, *a, **k)
    )
    inventory(f"secrets: {name}\n")
    code, said = run("lint")
    assert code == 0
    assert "SD233" in said
    code, said = run("render")
    assert code == 1
    assert "SD233" in said
    inventory(
        f"services: {{6300: {{kind: conference, pin: {{file: {name}}}}}}}\n",
        users=f"{{1001: {{password: {{file: {name}}}}}}}",
    )
    code, said = run("render")
    assert code == 1
    assert "outside" in said
    assert "--trusted" in said
    code, said = run("lint", "--format", "concise")
    assert code == 0
    assert said.count("note[SD233]") == 2
    assert "SD231" not in said
    assert not [path for path in opened if "shadow" in str(path) or str(path) == str(tmp_path)]


CONTENTS = [
    f"root:{CANARY}:1:0:9:7:::\n",
    f"{CANARY}: {CANARY}\n",
    f"users: {{{CANARY}: {CANARY}, {CANARY}: x}}\n",
    f"users: {{{CANARY}: {CANARY}}}\n",
    f"users: {{{CANARY}: }}\n",
    f"{CANARY}: 1\n{CANARY}: 2\n",
    f"? {{{CANARY}: x}}\n: y\n",
    f"users: {CANARY}\n",
    f"users: &{CANARY} !{CANARY} *{CANARY}\n",
    f"- {CANARY}\n---\n{CANARY}\n",
    f"a: '{CANARY}\n",
    f"a: %{CANARY} @{CANARY} `{CANARY}\n\t{CANARY}: [\n",
    f"[{CANARY}]\n\turl = {CANARY}\n",
    f"users: {{1001: {CANARY}}}\n",
    f"users: {{1001: {CANARY}, 1002: {CANARY}}}\n",
]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("inside", content) for content in CONTENTS),
        *(("../shadow", content) for content in CONTENTS[:3]),
        *((".git/config", content) for content in CONTENTS[-3:]),
    ],
)
def test_no_word_of_a_secrets_file_is_shown(site, run, name, content):
    place = site / name
    place.parent.mkdir(exist_ok=True)
    place.write_text(content)
    place.chmod(0o600)
    inventory(f"secrets: {name}\n", users="{1001: {name: Alice}, 1002: {}}")
    said = everything_said(run)
    assert "SD" in said
    assert CANARY not in said


@pytest.mark.parametrize("raw", [b"users: \xe7\n", b"users: \x07\n", b"users: {1001: \xff}"])
def test_no_byte_of_a_secrets_file_is_shown(run, raw):
    Path("secrets.yaml").write_bytes(raw)
    inventory()
    said = everything_said(run)
    assert "SD102" in said
    assert not [word for word in ("0xe7", "0xff", "U+0007") if word in said]


@pytest.mark.parametrize("kind", ["inside", "git"])
def test_an_inventory_that_is_a_link_is_not_followed(site, run, kind):
    target = site / ("notes" if kind == "inside" else ".git/config")
    target.parent.mkdir(exist_ok=True)
    target.write_text(f"[{CANARY}]\n\turl = {CANARY}\n")
    Path("inventory.yaml").symlink_to(target)
    for words in [*(("lint", "--format", form) for form in FORMATS), ("render",)]:
        code, said = run(*words)
        assert code == 1
        assert "SD110" in said
        assert CANARY not in said


def test_a_link_of_ones_own_is_followed(run, tmp_path):
    inventory()
    Path("inventory.yaml").rename(tmp_path / "mine.yaml")
    Path("inventory.yaml").symlink_to("../mine.yaml")
    assert run("lint")[0] == 1
    assert run("lint", "--trusted")[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fifo", "zero", "sparse", "folder"])
def test_what_has_no_end_is_not_read(site, kind):
    path = site / "trap"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "sparse":
        path.touch()
        os.truncate(path, 1 << 30)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/dev/zero")
    Path("lead").symlink_to(path)
    for name in (path, "lead"):
        text = (
            f"{HEAD}users: {{1001: {{password: {{file: {name}}}}}, 1002: {{}}}}\nsecrets: {name}\n"
        )
        Path(f"{Path(name).name}.yaml").write_text(text)
    own = f"{path.name}.yaml"
    for trust in ([], ["--trusted"]):
        # sipdeploy waits for a pipe that the user names and trusts
        selves = [] if trust and kind == "fifo" else [str(path), "lead"]
        said = in_time("lint", own, "lead.yaml", *selves, *trust)
        assert "SD110" in said
        said = in_time("-i", own, "render", *trust)
        assert "cannot read" in said


@pytest.mark.slow
def test_an_inventory_of_ones_own_may_come_from_a_pipe(site):
    text = f"{HEAD}users: {{1001: {{password: {GOOD}}}}}\n"
    for words, code in ((("lint",), 1), (("lint", "--trusted"), 0), (("users",), 0)):
        done = subprocess.run(
            [sys.executable, "-m", "sipdeploy", "-i", "/dev/stdin", *words],
            input=text,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
            cwd=site,
        )
        assert done.returncode == code, done.stdout + done.stderr


@pytest.mark.parametrize("key", ["certificate", "private_key", "ca_bundle", "dns_credentials"])
def test_no_file_of_tls_holds_a_plan_up(site, key):
    from sipdeploy.diagnostics.errors import InvalidFiles  # noqa: PLC0415
    from sipdeploy.services import certificates  # noqa: PLC0415

    os.mkfifo(site / "trap")
    lines = {
        "ca_bundle": "server: https://a.example/d, ca_bundle: trap",
        "dns_credentials": "challenge: dns-01, dns_plugin: rfc2136, dns_credentials: trap",
    }.get(key, "provider: files, certificate: trap, private_key: trap")
    found, problems, _ = load_site(f"{HEAD}users: {{}}\ntls: {{{lines}}}\n", "inventory.yaml")
    assert problems == []
    told = []

    def read():
        with pytest.raises(InvalidFiles) as failed:
            certificates.read_material(found, site)
        told.extend(failed.value.diagnostics)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(LIMIT)
    assert "SD602" in {each.code for each in told}


def test_a_link_that_appears_in_between_is_not_followed(site, tmp_path, monkeypatch):
    (site / "a").mkdir()
    (site / "a/s").write_text("mine")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/s").write_text(CANARY)
    real = os.path.realpath

    def then_swapped(path, **how):
        found = real(path, **how)
        if found.endswith("/a/s"):
            shutil.rmtree(site / "a")
            (site / "a").symlink_to(tmp_path / "b")
        return found

    monkeypatch.setattr(os.path, "realpath", then_swapped)
    with pytest.raises(OSError, match=r"Not a directory|Too many"):
        reading.below(site, Path("a/s"))


def test_neither_lint_nor_render_runs_commands_or_reads_variables(run, monkeypatch):
    monkeypatch.setenv("TOKEN", GOOD)
    for users, lines in (
        ("{1001: {password: {command: touch ran}}}", ""),
        ("{1001: {password: {env: TOKEN}}}", ""),
        ("{1001: {}}", "secrets: {command: touch ran}\n"),
    ):
        inventory(lines, users=users)
        assert run("lint")[0] == 0
        assert run("lint", "--trusted")[0] == 0
        code, said = run("render")
        assert code == 1
        assert "SD233" in said
        assert "--trusted" in said
        assert not Path("ran").exists()
        assert not Path("rendered").exists()
    inventory(users="{1001: {password: {command: echo fmK4tXw9Rd2zHq7pVb3n}}}")
    assert run("render", "--trusted")[0] == 0


@pytest.mark.parametrize("trust", [(), ("--trusted",)])
@pytest.mark.parametrize("content", [None, b"", b"\xff\n", CANARY.encode()])
def test_lint_warns_of_a_file_of_a_password_that_cannot_be_used(run, trust, content):
    if content is not None:
        Path("own").write_bytes(content)
    inventory(
        "services: {6300: {kind: conference, pin: {file: own}}}\n",
        users="{1001: {password: {file: own}}}",
    )
    code, said = run("lint", "--format", "concise", *trust)
    is_password = content == CANARY.encode()
    assert code == 0
    assert ("warning[SD231] cannot fetch the password of user `1001`" in said) != is_password
    assert "warning[SD259] cannot use the PIN of conference `6300`" in said
    assert CANARY not in said


def test_many_large_files_of_passwords_cost_neither_time_nor_memory(run):
    """Each spelling of a path is a source of its own."""
    Path("big").write_bytes(b"a" * (1 << 20))
    rows = (
        f"{number}: {{password: {{file: ./{'./' * (number - 1000)}big}}}}"
        for number in range(1001, 1200)
    )
    inventory(users=f"{{{', '.join(rows)}}}")
    code, said = run("lint", "--format", "concise")
    assert code == 0
    assert said.count("SD231") == 199
    assert said.count("it is larger than 4 KiB") == 199


@pytest.mark.parametrize("key", ["password", "pin"])
def test_a_name_with_a_nul_is_refused(run, key):
    name = '"a\\0b"'
    if key == "pin":
        inventory(f"services: {{6300: {{kind: conference, pin: {{file: {name}}}}}}}\n")
    else:
        inventory(users=f"{{1001: {{password: {{file: {name}}}}}}}")
    code, said = run("lint", "--format", "concise")
    assert code == 1
    assert "SD220" in said


def test_no_guess_is_compared_with_a_password_of_ours(run):
    Path("secrets.yaml").write_text(
        f'users: {{"1001": {GOOD}, "1002": Tr0ub4dor-and3, "1003": {GOOD}}}\n'
    )
    Path("secrets.yaml").chmod(0o600)

    def said(guess):
        users = (
            f"{{1001: {{name: {guess}}}, 1002: {{name: {guess}}}, 1003: {{}}, "
            f"9999: {{password: {guess}}}}}"
        )
        inventory(users=users)
        return "\n".join(run("lint", "--format", form)[1] for form in FORMATS).replace(guess, "")

    assert said(GOOD) == said("Zq8vN3tRk5Lm2xW7cB4e")
    assert said("Tr0ub4dor-and3") == said("Tr0ub4dor-and4")
    assert "users `1001` and `1003` have the same password" in said(GOOD)


def test_why_a_password_of_ours_is_weak_is_not_told(run):
    inventory()
    seen = set()
    for weak in ("1001", "password", "aaaaaaaa", "12345"):
        Path("secrets.yaml").write_text(f'users: {{"1001": "{weak}"}}\n')
        Path("secrets.yaml").chmod(0o600)
        seen.add(run("lint")[1])
    assert len(seen) == 1
    assert "SD302" in seen.pop()


ESCAPES = "a\x1b]0;owned\x07\x1b[2J\u202e\u2028##[set-output name=x;]y ##vso[task.setvariable]z"


@pytest.mark.parametrize("form", FORMATS)
def test_no_text_of_an_inventory_acts_on_a_terminal_or_a_job(form):
    text = f"{ESCAPES}\n::set-output name=a::b\r::stop-commands::x"
    problem = Diagnostic(
        "SD201",
        text,
        label=text,
        notes=(text,),
        help=text,
        span=Span(path=f"::add-mask::x\n::error::{ESCAPES}\udc80", line=1, column=1),
    )
    source = {problem.span.path: Source(lines=[ESCAPES, "::warning::x"])}
    shown = FORMATS[form]([problem], source, None)
    shown.encode()
    if form in {"json", "sarif"}:
        json.loads(shown)
        assert shown.isascii()
        return
    lines = shown.split("\n")
    assert all(line.isprintable() for line in lines)
    assert not [line for line in lines if "##[" in line or "##vso" in line]
    starts = [line.strip() for line in lines if line.strip().startswith("::")]
    assert starts == ([shown] if form == "github" else [])
    assert shown.startswith("::error file=") or form != "github"


def test_a_path_in_sarif_is_an_uri():
    problem = Diagnostic("SD1", "x", span=Span(path="a b%:c#", line=1, column=1))
    (result,) = json.loads(FORMATS["sarif"]([problem], None, None))["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert place == "a%20b%25%3Ac%23"


@pytest.mark.parametrize("name", ["../../x", "..", "-oProxyCommand=touch ran", "a/b", "/etc"])
def test_no_name_of_a_host_is_a_path_or_an_option(run, name):
    text = HEAD.replace("sip1", json.dumps(name)).replace("203.0.113.10", "-oProxyCommand=x")
    Path("inventory.yaml").write_text(f"{text}users: {{1001: {{password: {GOOD}}}}}\n")
    code, said = run("render")
    assert code == 1
    assert {"SD223", "SD211"} <= set(said.replace("[", " ").replace("]", " ").split())
    assert [each.name for each in Path().iterdir()] == ["inventory.yaml"]


@pytest.mark.parametrize("part", ["rendered", "rendered/sip1", "rendered/sip1/etc"])
def test_render_goes_through_no_link(run, tmp_path, part):
    there = tmp_path / "elsewhere"
    there.mkdir()
    Path(part).parent.mkdir(parents=True, exist_ok=True)
    if part.endswith("etc"):
        Path("rendered/sip1/.sipdeploy").write_text("")
    Path(part).symlink_to(there)
    inventory(users=f"{{1001: {{password: {GOOD}}}}}")
    code, said = run("render")
    assert code == 2
    assert "SD420" in said
    assert list(there.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "a: [\n" + "pass" * 250_000,
        HEAD + "users: {" + ", ".join(f"{10000 + i}: {{x: y}}" for i in range(3000)) + "}\n",
        HEAD + "users: {}\nx: [" + "&a [*a, *a], " * 3000 + "]\n",
        "[" * 200_000,
    ],
    ids=["beginnings", "one-line", "aliases", "deep"],
)
@pytest.mark.usefixtures("site")
def test_a_hostile_text_is_told_of_in_time(text):
    Path("inventory.yaml").write_text(text)
    assert "SD" in in_time("lint")


def test_an_excerpt_of_a_line_with_many_passwords_takes_no_square_of_time(monkeypatch):
    """A line is masked once, not once for each of its problems."""
    from sipdeploy import diagnostics  # noqa: PLC0415

    done = []
    real = diagnostics._mask  # noqa: SLF001
    monkeypatch.setattr(diagnostics, "_mask", lambda *a: done.append(1) or real(*a))
    line = "secret " * 100
    source = Source(lines=[line], hidden={1: [(i * 7 + 1, i * 7 + 7) for i in range(100)]})
    problems = [
        Diagnostic(
            "SD1", str(i), span=Span(path="p", line=1, column=i * 7 + 1, end_column=i * 7 + 7)
        )
        for i in range(100)
    ]
    shown = full(problems, {"p": source})
    assert "secret" not in shown
    assert shown.count("^^^^^^^^\n") == 100
    assert len(done) == 1


def test_what_looks_like_a_password_is_hidden_as_before():
    source = Document(path="p", text="a: [\nmy-password : hunter2\nSECRET_KEY: hunter2\n").source()
    assert "hunter2" not in "".join(
        source.excerpt(Span(path="p", line=n, column=1))[0] for n in (2, 3)
    )


def test_an_inventory_of_too_many_values_is_refused(monkeypatch):
    from sipdeploy.inventory import document  # noqa: PLC0415

    monkeypatch.setattr(document, "_MOST_EVENTS", 50)
    _, (problem,) = document.parse("x: [" + "a, " * 60 + "]\n", "other")
    assert problem.code == "SD109"
    assert "more than 50" in problem.message


STARTS = {
    *(f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output")),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "os.system", "os.popen", "os.fork"),
    *("os.startfile", "pty.spawn", "pty.fork", "paramiko.ProxyCommand", "os.forkpty"),
}
PACKAGE = Path(git.__file__).parent.parent
DOCS = PACKAGE.parent / "docs/security.md"


def calls():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                yield str(path.relative_to(PACKAGE)), ast.unparse(node.func)


def first_cells(number):
    """Return the words in backticks in the first cells of a table of docs/security.md."""
    table = DOCS.read_text("utf-8").split("| what |")[number].split("\n\n")[0]
    return [re.findall(r"`([^`]+)`", row.split(" | ")[0]) for row in table.splitlines()[2:]]


def test_every_program_that_is_started_is_in_the_docs():
    prefixes = ("os.exec", "os.spawn", "os.posix_spawn", "asyncio.create_subprocess")
    found = [path for path, name in calls() if name in STARTS or name.startswith(prefixes)]
    assert sorted(found) == sorted(cells[0] for cells in first_cells(1))
    imported = {
        path.name
        for path in PACKAGE.rglob("*.py")
        if re.search(
            r"^\s*from (subprocess|os|pty|asyncio) import", path.read_text(), re.MULTILINE
        )
    }
    assert not imported, "a name of its own would hide a call from this test"


def test_every_file_that_an_inventory_can_name_is_in_the_docs():
    """The keys with free text, except those that name no file."""

    def lines(model, path=()):
        for name, field in model.model_fields.items():
            shown = str(field.annotation) + str(field.metadata)
            inner = [each for each in _models(field.annotation) if each is not model]
            is_line = "fields.line" in shown or "function line" in shown
            is_source = set(model.model_fields) >= set(PasswordSource.model_fields)
            if is_line and not (is_source and name == "command"):
                yield ".".join((*path, name))
            for each in inner:
                keyed = (name, "NUMBER") if name == "users" else (name, "NAME")
                yield from lines(each, keyed if "dict" in str(field.annotation) else (*path, name))

    written = {name for cells in first_cells(2) for name in cells}
    assert set(lines(Site)) == written


READERS = {
    "diagnostics/codes.py",  # its own manuals
    "services/nginx/__init__.py",  # its own page
    "lint/stack/kamailio/catalogue.py",  # its own data
    "inventory/reading.py",
    "proof/reports/page.py",  # its own style sheet
    "host/__init__.py",
    "host/known_hosts.py",
    "host/local.py",
    "host/ssh_settings.py",
    "editing/init.py",
    "lint/stack/asterisk/catalogue.py",  # its own table
    "cli/hosts.py",
    "cli/site.py",
    # these open connections
    "proof/outside/network.py",
    "sip/phone.py",
}


def test_files_are_opened_in_one_place():
    """The other modules read files of sipdeploy or the user: ~/.ssh, templates, /proc, plans."""
    ways = ("read_text", "read_bytes", "open", "os.open", "fdopen")
    found = {path for path, name in calls() if name in ways or name.split(".")[-1] in ways}
    writers = {"inventory/files.py", "cli/run.py", "cli/output.py", "__main__.py"}
    in_memory = {"transaction/release.py", "transaction/candidate.py"}  # tarfile.open of bytes
    in_memory |= {"inventory/own/files.py"}  # wave.open of bytes
    phone = {"cli/phone/server.py", "cli/phone/opening.py"}  # our page, /proc, webbrowser.open
    # the files of the command line of `backup` and `restore`, and pipes
    keeping = {"keeping/age.py", "keeping/backup.py", "keeping/restore.py"}
    assert found <= READERS | writers | in_memory | phone | keeping | {"transaction/lock.py"}
