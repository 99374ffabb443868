import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from sipdeploy.cli import cli
from sipdeploy.lint import explanations
from sipdeploy.transaction.release import Header

ROOT = Path(__file__).parent.parent.parent


def test_from_nothing_to_rendered_files(run):
    code, out, err = run("init")
    assert code == 0
    assert "inventory.yaml: created" in out
    assert err == "next: edit inventory.yaml, then `sipdeploy lint`\n"
    assert run("init")[2] == "nothing is missing\n"
    assert run("lint", "--format", "concise")[0] == 0
    code, out, _ = run("render")
    assert code == 0
    assert "rendered/sip1/etc/kamailio/kamailio.cfg" in out.splitlines()


def test_init_completes_the_inventory_that_is_named(run):
    code, _, err = run("-i", "a site/other.yaml", "init", "--domain", "b.example.net")
    assert code == 0
    assert (
        err == "next: edit a site/other.yaml, then `cd 'a site' && sipdeploy -i other.yaml lint`\n"
    )
    assert not Path("inventory.yaml").exists()
    assert "domain: b.example.net" in Path("a site/other.yaml").read_text()
    job = yaml.safe_load(Path("a site/.github/workflows/sipdeploy.yml").read_text())
    assert job["env"]["SIPDEPLOY_INVENTORY"] == "other.yaml"
    assert run("-i", "a site/other.yaml", "init")[2] == "nothing is missing\n"


def test_init_takes_the_inventory_of_the_environment_unless_it_gets_a_directory(run, monkeypatch):
    monkeypatch.setenv("SIPDEPLOY_INVENTORY", "from-env.yaml")
    assert run("init")[0] == 0
    assert Path("from-env.yaml").exists()
    assert run("init", "pbx")[0] == 0
    assert Path("pbx/inventory.yaml").exists()


def test_init_does_not_guess_between_two_places(run):
    code, _, err = run("-i", "other.yaml", "init", "pbx")
    assert code == 2
    assert "`sipdeploy -i pbx/other.yaml init`" in err
    assert list(Path().iterdir()) == []


def test_render_twice_gives_the_same_bytes(run):
    run("init")
    first = run("render", "-o", "a", "--format", "json")[1]
    second = run("render", "-o", "b", "--format", "json")[1]
    digests = [
        [(each["path"], each["sha256"]) for each in json.loads(text)] for text in (first, second)
    ]
    assert digests[0] == digests[1]


def test_render_has_no_password_in_clear_text(run):
    run("init")
    run("render")
    lines = Path("secrets.yaml").read_text().splitlines()
    words = [line.split('"')[3] for line in lines if line.startswith("  ")]
    content = b"".join(p.read_bytes() for p in Path("rendered").rglob("*") if p.is_file())
    assert len(words) == 2
    assert not [word for word in words if word.encode() in content]


def test_render_needs_the_passwords(run):
    run("init")
    Path("secrets.yaml").unlink()
    code, out, err = run("render")
    assert code == 1
    assert out == ""
    assert "SD230" in err
    assert not Path("rendered").exists()


@pytest.mark.parametrize(
    ("words", "message", "remedy"),
    [
        (("plan", "-o", "no/plan.json"), "cannot write `no/plan.json`: no such", "`mkdir -p no`"),
        (("plan", "-o", "file/p.json"), "cannot write `file/p.json`: not a dir", "`ls -ld file`"),
        (("render", "-o", "file/d"), "cannot write `file/", "`ls -ld file`"),
    ],
)
def test_an_output_that_cannot_be_written_is_reported_before_the_work(run, words, message, remedy):
    """The host of the new site does not exist, and its password command leaves a trace."""
    run("init")
    Path("file").touch()
    text = Path("inventory.yaml").read_text() + "secrets: {command: 'touch fetched'}\n"
    Path("inventory.yaml").write_text(text)
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert message in err
    assert remedy in err
    assert "connect" not in err
    assert not Path("fetched").exists()


@pytest.mark.parametrize(
    ("content", "why"), [(None, "no such file or directory"), (b"\xff", "it is not text")]
)
def test_a_plan_that_cannot_be_read_is_told_in_plain_words(run, content, why):
    run("init")
    if content:
        Path("plan.json").write_bytes(content)
    code, _, err = run("apply", "plan.json")
    assert code == 1
    assert f"the plan `plan.json` cannot be read: {why}\n" in err
    assert "`sipdeploy plan -o plan.json`" in err


def test_render_of_an_unknown_host(run):
    run("init")
    code, _, err = run("render", "--host", "sip2")
    assert code == 2
    assert "did you mean `sip1`?" in err


def test_lint_shows_all_and_exits_1_on_errors_only(run):
    Path("a.yaml").write_text("domain: x\n")
    code, out, _ = run("lint", "a.yaml", "b.yaml", "--format", "json")
    assert code == 1
    assert {each["code"] for each in json.loads(out)} == {"SD110", "SD202", "SD209"}
    run("init")
    code, out, _ = run("lint", "--format", "sarif")
    assert code == 0
    assert json.loads(out)["runs"][0]["results"]


def test_lint_without_problems_says_so(run):
    run("init", "--domain", "sip.my-site.org", "--address", "198.18.0.1")
    text = (
        Path("inventory.yaml").read_text().replace("origins: []", "origins: [https://a.example]")
    )
    Path("inventory.yaml").write_text(
        text.replace("provider: self-signed", "provider: self-signed # sipdeploy: ignore[SD308]")
    )
    assert run("lint") == (0, "", "no problems\n")
    assert run("-q", "lint") == (0, "", "")


def test_the_inventory_can_be_named_in_three_ways(run, monkeypatch):
    run("init", "pbx")
    assert run("lint")[0] == 1
    assert run("-i", "pbx/inventory.yaml", "lint")[0] == 0
    assert run("lint", "pbx/inventory.yaml")[0] == 0
    monkeypatch.setenv("SIPDEPLOY_INVENTORY", "pbx/inventory.yaml")
    assert run("lint")[0] == 0


def test_global_options_work_before_and_after_the_command(run):
    run("init", "pbx")
    site = "pbx/inventory.yaml"
    assert run("lint", "-i", site)[0] == 0
    assert run("-i", "missing.yaml", "lint", "-i", site)[0] == 0
    exported = run("-i", site, "users", "export")
    assert exported[0] == 0
    assert run("users", "export", "-i", site) == exported
    assert run("users", "-i", site, "export") == exported
    assert run("users", "-i", "missing.yaml", "export", "-i", site) == exported
    assert run("add-user", "1003", "-i", site, "-q")[2] == ""
    assert run("add-user", "1004", "-i", site)[2] != ""


def test_a_verbose_lint_has_sizes_and_manuals(run):
    run("init")
    code, out, err = run("lint", "-v", "--format", "json")
    assert code == 0
    assert err.startswith("inventory.yaml: 1 host, 2 users, 3 services\n")
    for each in json.loads(out):
        assert f"{each['code']}: {explanations()[each['code']]}" in err
    assert run("lint", "--format", "json") == (0, out, "")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("plan ", "beta"),
        ("plan -i pbx/inventory.yaml ", "alpha"),
        ("-i pbx/inventory.yaml users --on ", "alpha"),
    ],
)
def test_host_names_come_from_the_inventory_of_the_command(run, monkeypatch, capsys, words, name):
    run("init", "pbx", "--host", "alpha")
    run("init", "--host", "beta")
    monkeypatch.setenv("_SIPDEPLOY_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"sipdeploy {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) + 1))
    with pytest.raises(SystemExit):
        run()
    assert capsys.readouterr().out == f"plain,{name}\n"


def test_a_history_fits_the_terminal(run, monkeypatch):
    run("init")
    change = "~ /etc/systemd/system/kamailio.service.d/sipdeploy.conf (restart kamailio)"
    kept = tuple(
        Header(
            number=number,
            who="a.rather.long.name@machine-with-a-long-name.office.example.com (pid 4194304)",
            when="2026-11-26T20:30:54Z",
            purpose=f"remove-user {' '.join(str(4000 + each) for each in range(30))}",
            what=(change,) * number,
            is_current=number == 2,
        )
        for number in (1, 2)
    )
    monkeypatch.setattr("sipdeploy.transaction.history", lambda *_: kept)
    code, out, _ = run("history", "sip1")
    assert code == 0
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "     1  2026-11-26 20:30 UTC,"
    assert lines[1].startswith("        a.rather.long.name@machine-")
    assert "        changes Kamailio" in lines
    assert [line[:6] for line in lines if line[:6].strip()] == ["     1", "*    2"]
    whole = run("history", "sip1", "-v")[1]
    assert whole.count(change) == 3
    assert "4029" in whole


def test_the_example_has_no_error(run):
    code, out, _ = run("lint", str(ROOT / "inventory.example.yaml"), "--format", "concise")
    assert code == 0
    assert "error" not in out


def test_explain(run):
    code, out, _ = run("lint", "--explain", "sd305")
    assert code == 0
    assert out.startswith("SD305: Any origin")
    assert run("lint", "--explain=SD305")[1] == out
    for misspelt in ("SD3055", "305", "SD-305"):
        code, _, err = run("lint", "--explain", misspelt)
        assert code == 2
        assert "did you mean `SD305`?" in err
    code, _, err = run("lint", "--explain", "SD999")
    assert code == 2
    assert "did you mean" not in err


def test_explain_has_a_format_for_programs(run):
    (row,) = json.loads(run("lint", "--explain", "SD305", "--format", "json")[1])
    assert row["code"] == "SD305"
    assert row["manual"] == explanations()["SD305"]
    rows = json.loads(run("lint", "--explain", "--format", "json")[1])
    assert [row["code"] for row in rows] == sorted(explanations())
    code, out, err = run("lint", "--explain", "SD305", "--format", "sarif")
    assert (code, out) == (2, "")
    assert "`--explain` has no format `sarif`" in err


def test_explain_without_a_code_lists_all_codes(run):
    code, out, _ = run("lint", "--explain")
    assert code == 0
    codes = [line.partition("  ")[0] for line in out.splitlines()]
    assert codes == sorted(explanations())
    assert "SD101  The file is not YAML. The parser stops at the first such place." in out


def test_every_code_that_is_told_can_be_explained(run):
    package = (ROOT / "sipdeploy").rglob("*.py")
    told = {code for path in package for code in re.findall(r'"(SD\d{3})"', path.read_text())}
    assert len(told) > 100
    for code in sorted(told):
        status, out, err = run("lint", "--explain", code)
        assert (status, len(out.strip()) > len("SD000: ") + 20) == (0, True), code + err


def test_schema(run):
    assert json.loads(run("schema")[1])["title"] == "Site"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rendr"], "'render'"),
        (["lint", "--formt", "json"], "--format"),
        (["lint", "--format", "xml"], "full"),
        (["completion", "tcsh"], "bash"),
    ],
)
def test_wrong_usage_is_answered_with_the_right_one(run, words, said):
    code, _, err = run(*words)
    assert code == 2
    assert said in err


@pytest.mark.parametrize(
    ("words", "verb"), [(("apply",), "apply"), (("rollback", "sip1"), "roll back")]
)
def test_without_a_terminal_there_is_no_confirmation(run, words, verb):
    code, _, err = run(*words)
    assert code == 2
    assert "cannot ask for confirmation: standard input is not a terminal" in err
    assert f"add `--yes` to {verb} without confirmation" in err


def every_command(group=cli, path=()):
    yield path
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            yield from every_command(group.get_command(context, name), (*path, name))


@pytest.mark.parametrize("command", list(every_command()), ids=" ".join)
def test_help_has_examples(run, command):
    code, out, _ = run(*command, "--help")
    assert code == 0
    if command != ("secrets",):  # a group with one command, which has examples
        assert "\n  sipdeploy " in out or "\n    sipdeploy " in out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(run, shell):
    code, out, _ = run("completion", shell)
    assert code == 0
    assert "_SIPDEPLOY_COMPLETE" in out


def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "sipdeploy", "--version"],
        capture_output=True,
        check=True,
    )
    assert done.stdout.startswith(b"sipdeploy, version ")


@pytest.mark.parametrize(
    ("words", "files"),
    [
        ([], {".github/workflows/sipdeploy.yml"}),
        (["--ci", "none"], set()),
        (["--ci", "gitlab"], {".gitlab/sipdeploy.yml", ".gitlab-ci.yml"}),
    ],
)
def test_init_writes_the_job_of_one_ci_service(run, words, files):
    run("init", *words)
    known = (".github/workflows/sipdeploy.yml", ".gitlab/sipdeploy.yml", ".gitlab-ci.yml")
    assert {name for name in known if Path(name).exists()} == files
    if ".gitlab-ci.yml" in files:
        assert "local: .gitlab/sipdeploy.yml" in Path(".gitlab-ci.yml").read_text()
        assert run("init")[1] == ""  # it stays with GitLab


def test_init_leaves_the_pipeline_of_a_person_alone(run):
    Path(".gitlab-ci.yml").write_text("test: {script: make}\n")
    run("init")
    assert Path(".gitlab-ci.yml").read_text() == "test: {script: make}\n"
    assert Path(".gitlab/sipdeploy.yml").exists()
