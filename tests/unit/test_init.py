import dataclasses
import json
import math
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from sipdeploy import inventory
from sipdeploy.cli.site import _texts
from sipdeploy.diagnostics.errors import InvalidFiles, WrongUsage
from sipdeploy.editing import init as beginning
from sipdeploy.editing.init import Answers, _gitignore
from sipdeploy.editing.vault import new_password
from sipdeploy.inventory.secrets_file import read_secrets
from sipdeploy.lint import lint_inventory

ROOT = Path(__file__).parent.parent.parent
TEMPLATES = ROOT / "templates/init"


def init(directory, answers=None, name="inventory.yaml", **options):
    return beginning.init(
        directory / name, answers or Answers(), _texts(Path(name), "github"), **options
    )


def everything(directory):
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in directory.rglob("*") if p.is_file()}


def test_a_new_site_is_complete_and_without_errors(tmp_path):
    made = init(tmp_path / "pbx", Answers())
    names = {str(p.relative_to(tmp_path / "pbx")) for p in everything(tmp_path / "pbx")}
    assert names == {
        "inventory.yaml", "secrets.yaml", ".gitignore", "inventory.schema.json",
        ".github/workflows/sipdeploy.yml", ".github/workflows/sipdeploy-requirements.txt",
    }  # fmt: skip
    assert len(made) == len(names)
    path = tmp_path / "pbx/inventory.yaml"
    loaded = inventory.open_inventory(path)
    assert {p.severity for p in lint_inventory(loaded)} <= {"note"}
    credentials, _ = inventory.credentials(loaded)
    assert credentials.keys() == loaded.site.users.keys()


def test_again_it_does_nothing(tmp_path):
    init(tmp_path, Answers())
    before = everything(tmp_path)
    assert init(tmp_path) == []
    same = Answers(domain="SIP.example.com", host="sip1", address="203.0.113.10")
    assert init(tmp_path, same) == []
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("answers", "option"),
    [
        (Answers(domain="other.example.com"), "--domain other.example.com"),
        (Answers(email="a@b.example"), "--email a@b.example"),
        (Answers(host="sip2"), "--host sip2"),
        (Answers(address="203.0.113.11"), "--address 203.0.113.11"),
        (Answers(host="sip1", address="local"), "--address local"),
        (Answers(public_address="203.0.113.12"), "--public-address 203.0.113.12"),
    ],
)
def test_an_option_that_a_site_contradicts_is_not_dropped(tmp_path, answers, option):
    init(tmp_path)
    before = everything(tmp_path)
    with pytest.raises(WrongUsage) as failure:
        init(tmp_path, answers)
    (problem,) = failure.value.diagnostics
    assert f"exists, so `{option}` has no effect" in problem.message
    assert problem.span
    assert everything(tmp_path) == before


@pytest.mark.parametrize("address", ["local", "pbx.example.net", "127.0.0.1"])
def test_a_host_without_an_address_for_media_gets_no_half_site(tmp_path, address):
    with pytest.raises(WrongUsage, match="SD212") as failure:
        init(tmp_path / "pbx", Answers(address=address))
    assert "--public-address" in failure.value.diagnostics[0].help
    assert not (tmp_path / "pbx").exists()
    init(tmp_path / "pbx", Answers(address=address, public_address="203.0.113.12"))
    host = inventory.open_inventory(tmp_path / "pbx/inventory.yaml").site.hosts["sip1"]
    assert (host.address, host.media_address) == (address, "203.0.113.12")


PUBLIC = {"domain": "sip.sipdeploy.org", "address": "8.8.8.8"}


@pytest.mark.parametrize("is_built", [True, False])
def test_a_new_site_has_the_web_phone_if_there_is_a_page(tmp_path, monkeypatch, is_built):
    monkeypatch.setattr(
        "sipdeploy.services.phone.page.folder", lambda: tmp_path if is_built else None
    )
    init(tmp_path)
    path = tmp_path / "inventory.yaml"
    assert (inventory.open_inventory(path).site.phone is not None) is is_built
    assert ("SD720" in path.read_text()) is not is_built


@pytest.mark.parametrize(
    ("changes", "provider"),
    [
        ({}, "letsencrypt"),
        ({"address": "local", "public_address": "2a00:1450:4001:800::200e"}, "letsencrypt"),
        ({"domain": "sip.sipdeploy.test"}, "self-signed"),
        ({"domain": "pbx.lan"}, "self-signed"),
        ({"email": "ops@example.com"}, "self-signed"),  # no authority accepts this contact
        ({"address": "10.0.0.5"}, "self-signed"),
        ({"address": "203.0.113.10"}, "self-signed"),  # for documentation
        ({"public_address": "192.168.1.5"}, "self-signed"),
    ],
)
def test_the_certificate_is_one_that_the_site_can_get(tmp_path, changes, provider):
    (line, *_) = init(tmp_path, Answers(**{**PUBLIC, **changes}))
    loaded = inventory.open_inventory(tmp_path / "inventory.yaml")
    assert loaded.site.tls.provider == provider
    assert ("Let's Encrypt" in line) == (provider == "letsencrypt")
    assert ("self-signed certificate, because" in line) == (provider == "self-signed")
    assert {p.severity for p in lint_inventory(loaded)} <= {"note"}


def test_a_file_that_cannot_be_read_leaves_nothing_half_made(tmp_path):
    (tmp_path / "secrets.yaml").mkdir()
    with pytest.raises(InvalidFiles):
        init(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["secrets.yaml"]


OTHERS = 'users:\n  "2001": Zq8Kd2-first\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "the secrets file `secrets.yaml` is missing, so 2 users have no password"),
        ("", "the secrets file `secrets.yaml` is empty, so"),
        ("# nothing\n", "the secrets file `secrets.yaml` is empty, so"),
        ("users: {}\n", "the secrets file `secrets.yaml` is empty, so"),
        (OTHERS, "has passwords, but only of numbers that are not users here, so"),
    ],
    ids=["missing", "no-text", "comment", "no-users", "another-site"],
)
def test_a_site_that_has_lost_all_passwords_gets_none_by_itself(tmp_path, text, said):
    """A clone of the repository: new passwords would lock out every phone."""
    init(tmp_path)
    (tmp_path / ".gitignore").unlink()
    path = tmp_path / "secrets.yaml"
    path.unlink()
    if text is not None:
        path.write_text(text)
        path.chmod(0o600)
    before = everything(tmp_path)
    with pytest.raises(InvalidFiles, match="SD230") as failure:
        init(tmp_path)
    (problem,) = failure.value.diagnostics
    assert said in problem.message
    assert "2001" not in str(problem)
    assert "copy `secrets.yaml` from a colleague who has it" in problem.help
    assert f"`sipdeploy -i {tmp_path}/inventory.yaml init --new-passwords`" in problem.help
    with pytest.raises(InvalidFiles) as refused:
        inventory.credentials(inventory.open_inventory(tmp_path / "inventory.yaml"))
    assert refused.value.diagnostics == (problem,)
    assert everything(tmp_path) == before
    init(tmp_path, makes_new_passwords=True)
    found = read_secrets("secrets.yaml", tmp_path)
    assert not found.diagnostics
    assert found.passwords.keys() == {"1001", "1002", *(["2001"] if text == OTHERS else [])}
    assert init(tmp_path, makes_new_passwords=True) == []


def test_a_new_user_gets_a_password_and_the_others_keep_theirs(tmp_path):
    init(tmp_path, Answers())
    before = read_secrets("secrets.yaml", tmp_path).passwords
    path = tmp_path / "inventory.yaml"
    path.write_text(path.read_text().replace("users:\n", "users:\n  1003: {}\n"))
    assert init(tmp_path, Answers()) == [f"{tmp_path}/secrets.yaml: added a password for 1003"]
    after = read_secrets("secrets.yaml", tmp_path)
    assert after.diagnostics == ()
    assert {n: after.passwords[n] for n in before} == before
    assert after.passwords.keys() == {"1001", "1002", "1003"}


def test_passwords_are_for_the_owner_only_and_git_ignores_them(tmp_path):
    init(tmp_path, Answers())
    assert (tmp_path / "secrets.yaml").stat().st_mode & 0o777 == 0o600
    assert "/secrets.yaml" in (tmp_path / ".gitignore").read_text().splitlines()


def test_the_answers_stand_in_the_inventory(tmp_path):
    answers = Answers(
        domain="a.example.org", email="a#b@example.org", host="null", address="2001:db8::1"
    )
    init(tmp_path, answers)
    site = inventory.open_inventory(tmp_path / "inventory.yaml").site
    assert (site.domain, site.email) == ("a.example.org", "a#b@example.org")
    assert site.hosts["null"].address == "2001:db8::1"


def test_every_wrong_answer_is_told_and_nothing_is_written(tmp_path):
    with pytest.raises(WrongUsage) as failure:
        init(tmp_path / "pbx", Answers(domain="x", email="y", host="/", address="-o"))
    assert [d.code for d in failure.value.diagnostics] == ["SD209", "SD210", "SD211", "SD223"]
    assert not (tmp_path / "pbx").exists()


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("./secrets.yaml", "/secrets.yaml"),
        ("private//../private/s.yaml", "/private/s.yaml"),
        ("x/../../s.yaml", None),
        ("/nowhere/s.yaml", None),
        ("~no-such-user/s.yaml", "/~no-such-user/s.yaml"),
    ],
)
def test_git_ignores_the_secrets_however_they_are_written(tmp_path, place, line):
    init(tmp_path, Answers())
    (tmp_path / ".gitignore").unlink()
    path = tmp_path / "inventory.yaml"
    loaded = inventory.open_inventory(path)
    moved = loaded.site.model_copy(update={"secrets": place})
    (write,) = _gitignore(dataclasses.replace(loaded, site=moved))
    lines = write.text.splitlines()
    assert lines == ([line] if line else []) + ["/rendered/"]


def test_the_credentials_of_the_dns_are_ignored_too(tmp_path):
    init(tmp_path, Answers())
    loaded = inventory.open_inventory(tmp_path / "inventory.yaml")
    tls = loaded.site.tls.model_copy(update={"dns_credentials": "dns.ini"})
    site = loaded.site.model_copy(update={"tls": tls})
    (write,) = _gitignore(dataclasses.replace(loaded, site=site))
    assert "/dns.ini" in write.text.splitlines()


def test_a_gitignore_that_is_there_is_added_to(tmp_path):
    (tmp_path / ".gitignore").write_text("*.pyc\nsecrets.yaml")
    init(tmp_path, Answers())
    assert (tmp_path / ".gitignore").read_text() == "*.pyc\nsecrets.yaml\n/rendered/\n"


def test_an_inventory_with_errors_is_told_and_nothing_is_added(tmp_path):
    (tmp_path / "inventory.yaml").write_text("domain: x\n")
    with pytest.raises(InvalidFiles):
        init(tmp_path, Answers())
    assert [p.name for p in tmp_path.iterdir()] == ["inventory.yaml"]


def test_a_broken_secrets_file_is_left_alone(tmp_path):
    (tmp_path / "secrets.yaml").write_text("users: [")
    (tmp_path / "secrets.yaml").chmod(0o600)
    with pytest.raises(InvalidFiles):
        init(tmp_path, Answers())
    assert (tmp_path / "secrets.yaml").read_text() == "users: ["


def test_where_a_command_gives_the_passwords_none_are_made(tmp_path):
    init(tmp_path, Answers())
    (tmp_path / "secrets.yaml").unlink()
    path = tmp_path / "inventory.yaml"
    path.write_text(path.read_text() + "secrets: {command: 'echo users:'}\n")
    assert init(tmp_path, Answers()) == []


def test_a_link_to_the_secrets_stays_a_link(tmp_path):
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault/s").write_text("users:\n")
    (tmp_path / "vault/s").chmod(0o600)
    (tmp_path / "secrets.yaml").symlink_to("vault/s")
    assert f"{tmp_path}/secrets.yaml: added 2 passwords" in init(tmp_path)
    assert (tmp_path / "secrets.yaml").is_symlink()
    assert '"1001"' in (tmp_path / "vault/s").read_text()


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidFiles, match="cannot write"):
        init(tmp_path / "file" / "pbx", Answers())


def test_an_old_schema_is_brought_up_to_date(tmp_path):
    init(tmp_path, Answers())
    (tmp_path / "inventory.schema.json").write_text("{}")
    assert init(tmp_path, Answers()) == [f"{tmp_path}/inventory.schema.json: updated"]
    assert json.loads((tmp_path / "inventory.schema.json").read_text())["properties"]


def test_passwords_are_strong_and_readable():
    made = [new_password() for _ in range(200)]
    assert len(set(made)) == 200
    alphabet = set("".join(made))
    assert len(made[0]) * math.log2(len(alphabet)) > 128
    assert not alphabet & set("0O1lI")


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_lint_knows_what_git_has(tmp_path):
    def git(*words):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True)

    def codes():
        loaded = inventory.open_inventory(tmp_path / "inventory.yaml")
        return {p.code for p in lint_inventory(loaded)}

    init(tmp_path, Answers())
    git("init")
    assert not {"SD306", "SD307"} & codes()
    (tmp_path / ".gitignore").unlink()
    assert "SD307" in codes()
    git("add", "secrets.yaml")
    assert "SD306" in codes()


def job():
    return yaml.safe_load((TEMPLATES / "sipdeploy.yml").read_text())


def install(folder, **variables):
    """Run the install step as a CI runner does, with a fake Python that prints its arguments."""
    (folder / "tools").mkdir(exist_ok=True)
    for name in ("python3", "pip"):
        (folder / "tools" / name).write_text(f'#!/bin/sh\necho "$0 $*" >> {folder}/started\n')
        (folder / "tools" / name).chmod(0o755)
    (folder / "step").write_text(job()["jobs"]["lint"]["steps"][1]["run"])
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "step"],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**job()["env"], **variables, "RUNNER_TEMP": str(folder), "PATH":
             f"{folder}/tools:{os.environ['PATH']}"},
    )  # fmt: skip


WHEEL = {"SIPDEPLOY_WHEEL": "https://a.example/s-1-py3-none-any.whl", "SIPDEPLOY_SHA256": "a" * 64}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"SIPDEPLOY_WHEEL": WHEEL["SIPDEPLOY_WHEEL"]},
        {"SIPDEPLOY_SHA256": WHEEL["SIPDEPLOY_SHA256"]},
        {**WHEEL, "SIPDEPLOY_WHEEL": "sipdeploy"},
        {**WHEEL, "SIPDEPLOY_WHEEL": "http://a.example/s.whl"},
        {**WHEEL, "SIPDEPLOY_SHA256": "latest"},
    ],
)
def test_the_job_fails_with_one_line_while_nothing_names_what_to_install(tmp_path, variables):
    done = install(tmp_path, **variables)
    assert done.returncode == 1
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    assert "set SIPDEPLOY_WHEEL and SIPDEPLOY_SHA256" in done.stdout
    assert not (tmp_path / "started").exists()


def test_the_job_goes_on_with_both(tmp_path):
    folder = tmp_path / ".github/workflows"
    folder.mkdir(parents=True)
    shutil.copy(TEMPLATES / "sipdeploy-requirements.txt", folder)
    (tmp_path / "sipdeploy/bin").mkdir(parents=True)
    done = install(tmp_path, **WHEEL)
    assert "venv" in (tmp_path / "started").read_text(), done.stderr
    lines = (tmp_path / "sipdeploy/requirements.txt").read_text().splitlines()
    assert lines[-1] == f"sipdeploy @ {WHEEL['SIPDEPLOY_WHEEL']} --hash=sha256:{'a' * 64}"


def test_the_job_may_little_and_takes_nothing_without_a_hash():
    steps = job()["jobs"]["lint"]["steps"]
    assert job()["permissions"] == {}
    assert job()["jobs"]["lint"]["permissions"] == {"contents": "read"}
    used = [step["uses"] for step in steps if "uses" in step]
    assert used
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", each) for each in used)
    assert "--require-hashes" in steps[1]["run"]
    assert "--only-binary :all:" in steps[1]["run"]
    # the script contains no expression, because its value would become code
    assert "${{" not in (TEMPLATES / "sipdeploy.yml").read_text()


def gitlab():
    return yaml.safe_load((TEMPLATES / "gitlab.yml").read_text())["sipdeploy"]


def run_gitlab(folder, **variables):
    """Run the script of the job as GitLab does, with a fake Python that prints its arguments."""
    (folder / "tools").mkdir(exist_ok=True)
    python = folder / "tools/python3"
    tool = f'#!/bin/sh\necho "$0 $*" >> {folder}/started\n'
    (folder / "tool").write_text(tool)
    copies = "".join(
        f'cp {folder}/tool "$3/bin/{name}"; chmod +x "$3/bin/{name}"\n'
        for name in ("python", "sipdeploy")
    )
    python.write_text(f'{tool}mkdir -p "$3/bin"\n{copies}')
    python.chmod(0o755)
    script = folder / "step"
    script.write_text("\n".join(gitlab()["script"]))
    return subprocess.run(
        ["sh", "-e", script], cwd=folder, capture_output=True, text=True, check=False,
        env={**gitlab()["variables"], **variables, "TMPDIR": str(folder), "PATH":
             f"{folder}/tools:{os.environ['PATH']}"},
    )  # fmt: skip


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"SIPDEPLOY_WHEEL": WHEEL["SIPDEPLOY_WHEEL"]},
        {**WHEEL, "SIPDEPLOY_WHEEL": "sipdeploy"},
        {**WHEEL, "SIPDEPLOY_WHEEL": "http://a.example/s.whl"},
        {**WHEEL, "SIPDEPLOY_SHA256": "latest"},
    ],
)
def test_the_job_of_gitlab_fails_while_nothing_names_what_to_install(tmp_path, variables):
    done = run_gitlab(tmp_path, **variables)
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert "set SIPDEPLOY_WHEEL and SIPDEPLOY_SHA256" in done.stdout
    assert not (tmp_path / "started").exists()


def test_the_job_of_gitlab_installs_by_hash_and_reports(tmp_path):
    (tmp_path / ".gitlab").mkdir()
    shutil.copy(TEMPLATES / "sipdeploy-requirements.txt", tmp_path / ".gitlab")
    done = run_gitlab(tmp_path, **WHEEL)
    assert done.returncode == 0, done.stderr
    started = (tmp_path / "started").read_text()
    assert "--only-binary :all: --require-hashes" in started
    assert "sipdeploy lint\n" in started
    (own,) = tmp_path.glob("tmp.*")
    last = (own / "requirements.txt").read_text().splitlines()[-1]
    assert last == f"sipdeploy @ {WHEEL['SIPDEPLOY_WHEEL']} --hash=sha256:{'a' * 64}"
    assert (tmp_path / gitlab()["artifacts"]["reports"]["codequality"]).exists()


def test_the_hooks_of_pre_commit_start_lint():
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert {hook["id"] for hook in hooks} == {"sipdeploy-lint", "sipdeploy-lint-stack"}
    for hook in hooks:
        assert hook["entry"].startswith("sipdeploy lint")
        assert f"`{hook['id']}`" in (ROOT / "docs/lint.md").read_text()
    pattern = next(hook["files"] for hook in hooks if hook["id"] == "sipdeploy-lint")
    assert re.search(pattern, "pbx/inventory.yaml")
    assert not re.search(pattern, "ansible/my-inventory.yaml")


def test_what_the_job_installs_is_what_sipdeploy_needs():
    pinned = {}
    for block in (TEMPLATES / "sipdeploy-requirements.txt").read_text().split("\n"):
        if found := re.match(r"([a-z0-9-]+)==([0-9.]+)( ;[^\\]*)? \\$", block):
            pinned[found[1]] = tuple(map(int, found[2].split(".")))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for line in project["dependencies"]:
        name, least = line.split(">=")
        assert pinned[name] >= tuple(map(int, least.split(".")))


def test_nobody_is_sent_to_a_name_that_we_do_not_own():
    """sipdeploy is not on PyPI: whoever registers the name could run code at our users."""
    texts = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Makefile"]
    for folder in ("docs", "templates", "sipdeploy", ".ci", ".github"):
        texts += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    by_name = re.compile(
        r"(pipx?|uvx?|uv tool|conda|brew|poetry|python3? -m pip)\b[^\n|`]*"
        r"\b(run|install|add|download|tool|upgrade)\b[^\n|`]*\ssipdeploy(\s|==|`|$)"
        r"|uvx sipdeploy|(FROM|docker (run|pull)) sipdeploy"
    )
    found = [
        f"{path}: {hit[0]}"
        for path in texts
        if path.suffix != ".pyc" and (hit := by_name.search(path.read_text(errors="replace")))
    ]
    assert not found


def test_a_gitignore_that_is_a_link_is_left_alone(tmp_path):
    (tmp_path / "profile").write_text("mine\n")
    (tmp_path / "site").mkdir()
    (tmp_path / "site/.gitignore").symlink_to("../profile")
    with pytest.raises(InvalidFiles):
        init(tmp_path / "site", Answers())
    assert (tmp_path / "profile").read_text() == "mine\n"
