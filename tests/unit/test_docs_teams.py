"""The recipes of docs/teams.md: its commands run as they are written there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sipdeploy import inventory

PAGE = (Path(__file__).parents[2] / "docs/teams.md").read_text("utf-8")
TEXT = """\
domain: sip.my-site.org
email: ops@my-site.org
hosts: {sip1: {address: 198.18.0.1}}
tls: {provider: self-signed}
users:
  1001: {name: Alice}
  1002: {name: Bob}
"""


def section(title):
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(title, kind):
    return re.findall(rf"```{kind}\n(.*?)```", section(title), re.DOTALL)


def commands(text):
    return [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]


class Person:
    """Somebody with a home directory and a clone of the repository."""

    def __init__(self, root, name, programs):
        self.home, self.place = root / name, root / name / "pbx"
        self.home.mkdir()
        shim = programs / "sipdeploy"
        shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m sipdeploy "$@"\n')
        shim.chmod(0o755)
        self._environment = {
            "HOME": str(self.home),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "GIT_CONFIG_NOSYSTEM": "1",
            **{f"GIT_{who}_{what}": f"{name}@b.example" for who in ("AUTHOR", "COMMITTER")
               for what in ("NAME", "EMAIL")},
        }  # fmt: skip

    def run(self, *lines, fails=False):
        done = subprocess.run(
            ["sh", "-e"],
            input="\n".join(lines),
            cwd=self.place if self.place.exists() else self.home,
            env=self._environment,
            capture_output=True,
            text=True,
            errors="replace",  # of encrypted files
            check=False,
        )
        assert bool(done.returncode) == fails, (lines, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def passwords(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HOME", str(self.home))
            patch.setenv("PATH", self._environment["PATH"])
            found = inventory.secrets(inventory.open_inventory(self.place / "inventory.yaml"))
        return {number: password.reveal() for number, password in found.items()}


@pytest.fixture
def people(tmp_path):
    (tmp_path / "bin").mkdir()

    def person(name):
        return Person(tmp_path, name, tmp_path / "bin")

    first = person("alice")
    first.place.mkdir()
    (first.place / "inventory.yaml").write_text(TEXT)
    first.run("git init -q .", "sipdeploy init --ci none --new-passwords")
    first.run("git add .", "git commit -qm site")
    return first, person


def test_a_new_colleague_is_told_what_is_missing(people):
    first, person = people
    second = person("bob")
    second.run(f"git clone -q {first.place} pbx")
    (shown,) = blocks("A new colleague", "console")
    (command,) = commands(shown)
    said = second.run(command, fails=True)
    assert shown.splitlines()[1] in said
    assert second.run("git status --porcelain") == ""


@pytest.mark.skipif(not shutil.which("age"), reason="needs the program age")
def test_a_team_with_age(people):
    first, person = people
    title = "Passwords in git, with age"
    begin, work, join, admit = map(commands, blocks(title, "console"))
    before = first.passwords()
    first.run(*begin)
    (text,) = blocks(title, "yaml")
    (first.place / "inventory.yaml").write_text(TEXT + text)
    assert first.passwords() == before
    first.run(*work)
    assert "1003" in first.passwords()
    assert not (first.place / "secrets.yaml").exists()

    second = person("bob")
    second.run(f"git clone -q {first.place} pbx")
    key = re.findall(r"^age1\w+$", second.run(*join), re.MULTILINE)[-1]
    said = second.run("sipdeploy render --trusted", fails=True)
    assert "SD231" in said
    assert "no identity matched any of the recipients" in said
    first.run(*(line.replace("age1...", key) for line in admit))
    second.run("git pull -q")
    assert second.passwords() == first.passwords()
    second.run("sipdeploy set-password 1001", "git commit -qam 'Another password'")
    assert second.passwords() != first.passwords()
    first.run(f"git pull -q {second.place}")
    assert second.passwords() == first.passwords()
    history = first.run("git log -p --text")
    assert not any(password in history for password in first.passwords().values())
    # somebody leaves
    (first.place / "recipients.txt").write_text(
        (first.place / "recipients.txt").read_text().replace(f"{key}\n", "")
    )
    first.run(*admit[1:3], "sipdeploy secrets rotate", "git commit -qam 'Bye'")
    second.run("git pull -q")
    assert "SD231" in second.run("sipdeploy render --trusted", fails=True)


# Follows the command line of sops 3.9, and nothing else of it: encrypted is base64 here.
SOPS = r"""#!/bin/sh
case "$*" in
"decrypt secrets.enc.yaml") grep -v '^#' secrets.enc.yaml | base64 -d ;;
"encrypt --filename-override secrets.enc.yaml --output secrets.enc.yaml "*)
    { echo '#sops'; base64 "$6"; } >secrets.tmp && mv secrets.tmp secrets.enc.yaml ;;
*) echo "no such command: $*" >&2; exit 1 ;;
esac
"""


def test_a_team_with_sops(people, tmp_path):
    """A stand-in: sops itself is not in Debian."""
    first, _ = people
    program = tmp_path / "bin/sops"
    program.write_text(SOPS)
    program.chmod(0o755)
    title = "Passwords in git, with sops"
    rules, text = blocks(title, "yaml")
    assert "path_regex" in rules
    before = first.passwords()
    first.run(*(line for block in blocks(title, "console") for line in commands(block)))
    (first.place / "inventory.yaml").write_text(TEXT + text)
    assert first.passwords() == before
    first.run("sipdeploy add-user 1003", "sipdeploy set-password 1001")
    assert first.passwords() != before
    assert not (first.place / "secrets.yaml").exists()
