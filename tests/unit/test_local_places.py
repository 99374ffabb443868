"""The administrator's own files beside sipdeploy's: where a setting counts, and where not."""

import re
import subprocess

import pytest
from test_services import inventory, tree

from sipdeploy.host import script_text
from sipdeploy.services.service import local_place

INCLUDE = re.compile(r'^#tryinclude "?(?:/etc/asterisk/)?local/(\S+?)"?$', re.MULTILINE)
MORE = "turn: {}\ninstall: {asterisk: source}"


def included():
    """The names of the files that Asterisk's own include from `local`."""
    site = inventory(more="authentication: asterisk")
    site.services["6300"] = site.services["6000"].model_copy(update={"kind": "conference"})
    texts = tree(site).text()
    return {path: match[1] for path, text in texts.items() if (match := INCLUDE.search(text))}


def test_a_setting_is_sent_to_a_file_that_asterisk_reads():
    """An edit of reload.sh, say, was sent to local/reload.sh, which nothing reads."""
    found = included()
    for path in tree(inventory(more=MORE)).text():
        folder, _, name = path.rpartition("/")
        if folder == "/etc/asterisk":
            place = local_place(path)
            whole = re.sub("_(users|transport)", "", name)
            assert bool(place) == (f"{folder}/{whole}" in found), path
            assert not place or place.startswith(f"{folder}/local/{whole}, "), path
    assert found == {path: path.rpartition("/")[2] for path in found}
    assert all(local_place(path) for path in found)
    assert "/etc/asterisk/confbridge.conf" in found


def test_a_drop_in_of_ones_own_comes_after_that_of_sipdeploy():
    """systemd reads drop-ins in the order of their names: local.conf had no effect."""
    for path in tree(inventory()).text():
        folder, _, name = path.rpartition("/")
        if folder.endswith(".service.d"):
            place = local_place(path).split(",")[0]
            assert place.startswith(f"{folder}/")
            assert place.removeprefix(f"{folder}/") > name


def test_what_takes_the_first_value_reads_the_file_of_the_administrator_first():
    texts = tree(inventory()).text()
    for name, key in (("rtp", "rtpstart"), ("voicemail", "maxmsg"), ("logger", "dateformat")):
        text = texts[f"/etc/asterisk/{name}.conf"]
        include = text.index(f"#tryinclude local/{name}.conf")
        assert text.index("[general]\n") < include < text.index("[general](+)\n") < text.index(key)


def complaints(folder, name, text):
    """What the trial start says about a file in `local`."""
    (folder / name).write_text(text)
    script = script_text("trial_asterisk").decode()
    function = re.search(r"^places\(\) \{.*?^\}$", script, re.MULTILINE | re.DOTALL)[0]
    function = function.replace("/etc/asterisk/local", str(folder))
    done = subprocess.run(
        ["sh", "-c", f'complain() {{ echo "$*"; }}\n{function}\nplaces'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("rtp.conf", "rtpend=15000\n", None),
        ("rtp.conf", "; [general]\n\n[general](+)\nrtpend=15000\n", None),
        ("rtp.conf", "[ice_host_candidates]\na => b\n", None),
        ("rtp.conf", "; mine\n[general]\nrtpend=15000\n", (2, "write [general](+)")),
        ("rtp.conf", "rtpend=1\n  [general] ; mine\nrtpend=2\n", (2, "write [general](+)")),
        ("asterisk.conf", "[options]\nmaxcalls=1\n", (1, "write [options](+)")),
        ("modules.conf", "[modules]\nload=x.so\n", (1, "write [modules](+)")),
        ("modules.conf", "load=x.so\n", None),
        ("logger.conf", "[logfiles]\na => b\n", (1, "write [logfiles](+)")),
        ("manager.conf", "[general]\nenabled=yes\n", (1, "write [general](+)")),
        ("manager.conf", "[general](+)\nenabled=yes\n[me]\nsecret=x\n", None),
        ("voicemail.conf", "maxmsg=5\n", None),
        ("voicemail.conf", "9000 => -,Extra\n", (1, "write [default] above")),
        ("voicemail.conf", "[default]\n9000 => -,Extra\n", None),
        ("pjsip.conf", "; x\nrtp_timeout=1\n[trunk](+)\n", (2, "in no section")),
        ("pjsip.conf", "[trunk](+)\nrtp_timeout=1\n", None),
        ("pjsip.conf", "#include more.conf\nx=1\n", None),
        ("extensions.conf", "exten => 1,1,Answer()\n", (1, "in no section")),
        ("extensions.conf", "[mine]\nexten => 1,1,Answer()\n", None),
        ("extensions.conf", "[general](!,+)\n", None),
        ("other.conf", "[general]\n", None),
    ],
)
def test_a_setting_without_effect_is_told_with_its_line(tmp_path, name, text, said):
    found = complaints(tmp_path, name, text)
    if said is None:
        assert found == []
    else:
        (only,) = found
        assert only.endswith(f"at line {said[0]} of 'local/{name}'")
        assert said[1] in only


def test_no_file_is_no_complaint(tmp_path):
    assert complaints(tmp_path, "unused.txt", "") == []
