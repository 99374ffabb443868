"""The scripts that reload a daemon, against programs that answer like the daemons."""

import os
import subprocess

import pytest
from test_services import of_size, text_of, tree

from sipdeploy.services import asterisk, kamailio

PARTS = ("endpoints", "dialplan", "mailboxes")
# What Asterisk 16 to 22 print when they have loaded nothing, with status 0.
NOTHING_LOADED = (
    "No such module 'res_pjsip.so'",
    "Module 'res_pjsip.so' could not be reloaded: reload failure",
    "A module reload request is already in progress; please be patient",
    "Asterisk is still starting; the module reload request was queued",
    "Module 'res_pjsip.so' reloaded successfully.",
)


class Daemon:
    """A folder with the files of a site, and with programs in place of the daemon's."""

    def __init__(self, folder, script):
        self.folder = folder
        self.script = script
        for file in tree(of_size(3)).files:
            if file.path.startswith(f"{os.path.dirname(script)}/"):  # noqa: PTH120
                (folder / os.path.basename(file.path)).write_bytes(file.content)  # noqa: PTH119
        self.program("sleep", "exec /bin/sleep 0.05")

    def program(self, name, text):
        (self.folder / name).write_text(f"#!/bin/sh\ncd {self.folder}\n{text}\n")
        (self.folder / name).chmod(0o755)

    def run(self, *arguments):
        text = text_of(tree(of_size(3)), self.script)
        folder = os.path.dirname(self.script)  # noqa: PTH120
        text = text.replace(folder, str(self.folder)).replace("+ 40)", "+ 2)")
        environment = {**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}"}
        return subprocess.run(
            ["sh", "-c", text, "reload", *arguments],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )


@pytest.fixture
def daemon(tmp_path):
    return Daemon(tmp_path, asterisk.RELOAD)


# `reload` copies the digests of the files to what is shown, as the daemon does when it loads them.
ASTERISK = """\
case $2 in *reload*) echo x >>asked; echo "{said}"; {reload} ;; *) cat shown ;; esac
"""
LOADS = "grep -h '^; digest' *.conf >shown"


@pytest.mark.parametrize("said", NOTHING_LOADED)
@pytest.mark.parametrize("part", PARTS)
def test_what_asterisk_has_not_loaded_is_a_failure_whatever_it_prints(daemon, part, said):
    (daemon.folder / "shown").write_text("0123456789abcdef")
    daemon.program("asterisk", ASTERISK.format(said=said, reload="true"))
    done = daemon.run(part)
    assert done.returncode == 1
    assert said in done.stdout
    assert "Asterisk has not loaded the new " in done.stdout


@pytest.mark.parametrize("said", ["", "Zkonfigurace načtena", "ERROR: whatever"])
@pytest.mark.parametrize("part", PARTS)
def test_what_asterisk_has_loaded_is_a_success_whatever_it_prints(daemon, part, said):
    daemon.program("asterisk", ASTERISK.format(said=said, reload=LOADS))
    done = daemon.run(part)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_reload_that_begins_late_or_is_refused_at_first_is_waited_for(daemon):
    (daemon.folder / "shown").touch()
    daemon.program(
        "asterisk",
        ASTERISK.format(said="queued", reload=f"(/bin/sleep 0.5; {LOADS}) >/dev/null &"),
    )
    assert daemon.run("dialplan").returncode == 0
    (daemon.folder / "shown").write_text("")
    (daemon.folder / "asked").unlink()
    second = f"[ $(wc -l <asked) -lt 2 ] || {LOADS}"
    daemon.program("asterisk", ASTERISK.format(said="in progress", reload=second))
    assert daemon.run("dialplan").returncode == 0


def test_every_change_of_the_files_changes_their_digest():
    def digest(site, name):
        text = text_of(tree(site), f"/etc/asterisk/{name}")
        (line,) = (line for line in text.splitlines() if line.startswith("; digest "))
        assert text.count(line.removeprefix("; digest ")) == 2  # the comment, and what is loaded
        return line

    few, more, other = of_size(3), of_size(4), of_size(3, "authentication: asterisk")
    for name in ("pjsip_users.conf", "voicemail_users.conf"):
        assert digest(few, name) == digest(of_size(3), name)
        assert digest(few, name) != digest(more, name)
    assert digest(few, "extensions.conf") == digest(more, "extensions.conf")
    assert digest(few, "pjsip_users.conf") != digest(other, "pjsip_users.conf")
    assert "DIGEST" not in "".join(tree(few).text().values())


def test_a_file_has_a_reload_only_if_asterisk_shows_that_it_is_loaded():
    shown = {f"/etc/asterisk/{name}" for names in asterisk.LOADED for name in names}
    shown |= {asterisk.RELOAD, asterisk.DATABASE, asterisk.SOCKETS}
    for site in (of_size(3), of_size(asterisk.MOST_USERS_IN_FILES + 1)):
        made = [file for file in tree(site).files if file.service == asterisk.NAME]
        assert {file.path for file in made if file.reload is not None} <= shown


KAMCMD = """\
case $1 in
htable.reload) if [ "$2" = "{refused}" ]; then echo "error: 500 - {refused}"; else echo Ok.; fi ;;
htable.get) echo "value: $(cat shown)" ;;
esac
"""


@pytest.mark.parametrize("refused", [*kamailio.TABLES, "loaded", ""])
def test_a_table_that_kamailio_does_not_load_is_a_failure(tmp_path, refused):
    """The fault of kamcmd has status 0; without one, the digest must be that of the new file."""
    daemon = Daemon(tmp_path, kamailio.RELOAD_TABLES[1])
    daemon.program("kamcmd", KAMCMD.format(refused=refused))
    (tmp_path / "shown").write_text("0123456789abcdef01234567")
    done = daemon.run()
    assert done.returncode == 1
    assert (f"error: 500 - {refused}" if refused else "has not loaded") in done.stdout
    if not refused:
        database = (tmp_path / "sipdeploy.db").read_bytes()
        start = database.index(b"digest") + len(b"digest")
        (tmp_path / "shown").write_bytes(database[start : start + 24])
        assert daemon.run().returncode == 0
