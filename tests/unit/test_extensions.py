"""Extensions of one's own: groups, menus, conferences, dialplan, and the files beside them."""

import io
import re
import subprocess
import time
import wave
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from sipdeploy import inventory as door
from sipdeploy.__main__ import main
from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.editing.init import _gitignore
from sipdeploy.inventory.own import files as own
from sipdeploy.inventory.own.checks import MOST_SECONDS
from sipdeploy.inventory.own.files import Attachments, DialplanFile
from sipdeploy.inventory.secret import Secret
from sipdeploy.inventory.site import Service, Versions, is_secret, load_site, source
from sipdeploy.lint import lint_inventory
from sipdeploy.lint.own import lint_own
from sipdeploy.plan import Change
from sipdeploy.plan.preview import Present
from sipdeploy.plan.text import difference
from sipdeploy.services import asterisk, extensions, file_set
from sipdeploy.services.extensions import modules
from sipdeploy.services.render import ManagedFile
from sipdeploy.services.service import HostProfile

HEAD = """\
domain: sip.example.com
email: a@b.example
hosts: {sip1: {address: 203.0.113.10}}
users: {1001: {name: Alice}, 1002: {name: Bob, voicemail: true}, 1003: {}}
"""
KINDS = """\
services:
  6100: {kind: group, members: [1001, 1002], then: voicemail 1002}
  6101: {kind: group, members: [1001, 1003], ring: in-turn, timeout: 10, then: 6200}
  "*62": {kind: menu, keys: {1: 6100, "#": 1001, "*": voicemail 1002}}
  6200: {kind: menu, prompt: welcome.wav, keys: {1: "*62"}, then: 1001, attempts: 2}
  6300: {kind: conference, pin: 73058, max_members: 5}
  6301: {kind: conference}
  7000: {kind: dialplan, context: shop}
"""
SHOP = "[shop]\nexten => 7000,1,Answer()\n same => n,Hangup()\n"


def problems_of(services):
    site, problems, _ = load_site(HEAD + services, "i.yaml")
    return site, [(p.code, str(p.span)) for p in problems]


def sound(rate=8000, channels=1, width=2, seconds=0.1):
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as stream:
        stream.setnchannels(channels)
        stream.setsampwidth(width)
        stream.setframerate(rate)
        stream.writeframes(b"\1" * int(rate * seconds) * channels * width)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with an inventory of all kinds, its dialplan and its prompt."""
    monkeypatch.chdir(tmp_path)
    Path("inventory.yaml").write_text(HEAD + KINDS)
    Path("dialplan").mkdir()
    Path("dialplan/shop.conf").write_text(SHOP)
    Path("welcome.wav").write_bytes(sound())
    return tmp_path


def opened(*, is_trusted=True):
    return door.open_inventory(Path("inventory.yaml"), is_trusted=is_trusted)


def refused(*, is_trusted=True):
    """The problems of the attachments: code, place, message."""
    with pytest.raises(InvalidFiles) as failure:
        door.attachments(opened(is_trusted=is_trusted))
    return [(p.code, str(p.span or ""), p.message) for p in failure.value.diagnostics]


def rendered(*, version="22.10.1", attachments=None):
    loaded = opened()
    attached = attachments or door.attachments(loaded)
    versions = Versions.model_construct(kamailio="6.1.5", asterisk=version)
    hashes = dict.fromkeys(loaded.site.users, "0" * 32)
    files = file_set(
        loaded.site, "sip1", versions=versions, credentials=hashes, attachments=attached
    )
    return {file.path: file for file in files.files}


def context(text, name):
    """The lines of a context, without comments."""
    match = re.search(rf"^\[{re.escape(name)}\]\n(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL)
    return [line.strip() for line in match[1].splitlines() if line and line[0] != ";"]


# --- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "codes"),
    [
        ("{kind: group, members: [1001]}", []),
        ("{kind: group, members: [1001], then: 6000}", []),
        ("{kind: group}", ["SD251"]),
        ("{kind: menu, then: 1001}", ["SD251"]),
        ("{kind: dialplan}", ["SD251"]),
        ("{kind: group, members: 1001}", ["SD203"]),
        ("{kind: echo, members: [1001]}", ["SD250"]),
        ("{kind: group, members: [1001], pin: 73058}", ["SD250"]),
        ("{kind: group, members: [6000]}", ["SD252"]),
        ("{kind: group, members: [1001, 1001]}", ["SD254"]),
        ("{kind: group, members: [1001], then: 99}", ["SD252"]),
        ("{kind: group, members: [1001], then: voicemail 1001}", ["SD252"]),
        ("{kind: group, members: [1001], then: voicemail 6000}", ["SD252"]),
        ("{kind: group, members: [1001], then: mail 1001}", ["SD254"]),
        ("{kind: group, members: [1001], timeout: 121}", ["SD205"]),
        ("{kind: group, members: [1001], ring: some}", ["SD207"]),
        ("{kind: menu, keys: {1: 1001, '#': 6000}}", []),
        ("{kind: menu, keys: {12: 1001}}", ["SD254"]),
        ("{kind: menu, keys: {A: 1001}}", ["SD254"]),
        ("{kind: dialplan, context: shop}", []),
        *(
            (f"{{kind: dialplan, context: {name}}}", ["SD257"])
            for name in ("services", "sipdeploy-phones", "general", "globals", "from-kamailio")
        ),
        ("{kind: dialplan, context: 'a b'}", ["SD254"]),
        ("{kind: dialplan, context: 'a,s,1)'}", ["SD254"]),
        ("{kind: conference, pin: 12}", ["SD259"]),
        ("{kind: conference, pin: 12a4}", ["SD259"]),
        ("{kind: conference, pin: {env: X}, max_members: 2}", []),
        ("{kind: conference, max_members: 101}", ["SD205"]),
    ],
)
def test_the_keys_of_a_service_fit_together(entry, codes):
    _, problems = problems_of(f"services: {{6000: {{kind: echo}}, 6100: {entry}}}\n")
    assert [code for code, _ in problems] == codes


def test_a_group_has_at_most_thirty_members():
    numbers = [str(number) for number in range(2000, 2031)]
    users = ", ".join(f"{number}: " for number in numbers)
    text = HEAD.replace("users: {", f"users: {{{users}, ")
    entry = "services: {6100: {kind: group, members: [%s]}}\n"
    assert load_site(text + entry % ", ".join(numbers[:30]), "i")[0]
    (problem,) = load_site(text + entry % ", ".join(numbers), "i")[1]
    assert problem.code == "SD254"


@pytest.mark.parametrize(
    ("services", "loops"),
    [
        ("6100: {members: [1001], then: 6100}", 1),
        ("6100: {members: [1001], then: 6101}, 6101: {members: [1002], then: 6100}", 1),
        ("6100: {members: [1001], then: 6200}, 6200: {keys: {1: 1001}, then: 6100}", 1),
        ("6099: {members: [1001], then: 6100}, 6100: {members: [1001], then: 6100}", 1),
        # a caller who presses keys may go round
        ("6200: {keys: {1: 6200}}", 0),
        ("6100: {members: [1001], then: 6200}, 6200: {keys: {1: 6100}}", 0),
        ("6100: {members: [1001], then: 6101}, 6101: {members: [1001], then: 1002}", 0),
    ],
)
def test_no_call_goes_round_by_itself(services, loops):
    services = services.replace("{members", "{kind: group, members")
    services = services.replace("{keys", "{kind: menu, keys")
    _, problems = problems_of(f"services: {{{services}}}\n")
    assert [code for code, _ in problems] == ["SD253"] * loops


def test_a_pin_is_shown_nowhere():
    text = HEAD + KINDS.replace("73058", "730x58")
    _, problems, document = load_site(text, "i.yaml")
    assert [p.code for p in problems] == ["SD259"]
    assert "730x58" not in str(problems)
    hidden = source(document).hidden
    line = next(n for n, row in enumerate(text.splitlines(), 1) if "730x58" in row)
    ((start, end),) = hidden[line]
    assert text.splitlines()[line - 1][start - 1 : end - 1] == "730x58"
    assert is_secret(("services", "6300", "pim"))  # a misspelt key
    assert not is_secret(("services", "6300", "pin", "file"))


# --- files beside the inventory ------------------------------------------------------------------


def test_files_are_deployed_as_they_are(folder):
    files = rendered()
    shop = files["/etc/asterisk/dialplan/shop.conf"]
    assert (shop.content.decode(), shop.mode, shop.owner) == (SHOP, 0o640, "root:asterisk")
    assert shop.reload == asterisk.DIALPLAN
    assert extensions.source_of(shop) == "dialplan/shop.conf"
    prompt = files["/etc/asterisk/prompts/6200.wav"]
    assert (prompt.content, prompt.reload) == ((folder / "welcome.wav").read_bytes(), ())
    assert (
        "#include dialplan/shop.conf\n" in files["/etc/asterisk/extensions.conf"].content.decode()
    )


def test_the_reload_waits_for_the_dialplan_of_ones_own(folder):
    def digest():
        text = rendered()["/etc/asterisk/extensions.conf"].content.decode()
        return re.search("^; digest (.*)$", text, re.MULTILINE)[1]

    before = digest()
    (folder / "dialplan/shop.conf").write_text(SHOP + "; other\n")
    assert digest() != before


def test_without_a_service_of_the_kind_no_dialplan_is_read(folder):
    (folder / "inventory.yaml").write_text(HEAD)
    (folder / "dialplan/shop.conf").write_text("#exec /bin/sh\n")
    assert door.attachments(opened()) == Attachments()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("#include x\n", ("SD255", "dialplan/shop.conf:4:1")),
        ("  #TryInclude <x>\n", ("SD255", "dialplan/shop.conf:4:3")),
        ("#exec /bin/sh\n", ("SD255", "dialplan/shop.conf:4:1")),
        ("[services]\n", ("SD257", "dialplan/shop.conf:4:2")),
        ("[ sipdeploy-phones ](+)\n", ("SD257", "dialplan/shop.conf:4:2")),
        ("[general]\n", ("SD257", "dialplan/shop.conf:4:2")),
        ("[Services]\n", ("SD257", "dialplan/shop.conf:4:2")),
        # what Asterisk reads in another way
        ("; x ;--\n[services]\n; --;\n", ("SD257", "dialplan/shop.conf:5:2")),
        ("; x ;--\n", ("SD255", "dialplan/shop.conf:4:5")),
        ("#inc;--x--;lude /etc/passwd\n", ("SD255", "dialplan/shop.conf:4:5")),
        ("[from-;--x--;kamailio](+)\n", ("SD255", "dialplan/shop.conf:4:7")),
        ("x=\\;--\n", ("SD255", "dialplan/shop.conf:4:4")),
        (";-- x\n --;[services]\n", ("SD255", "dialplan/shop.conf:4:1")),
        ("; x\n--;[services]\n", ("SD255", "dialplan/shop.conf:5:1")),
        ("x=\\; y --;[services]\n", ("SD255", "dialplan/shop.conf:4:8")),
        ("\x0b[services]\n", ("SD255", "dialplan/shop.conf:4:1")),
        ("\x01#exec /bin/sh\n", ("SD255", "dialplan/shop.conf:4:1")),
        ("; a\r[services]\n", ("SD255", "dialplan/shop.conf:4:4")),
        ("\ufeff[services]\n", ("SD255", "dialplan/shop.conf:4:1")),
        ("[services\n", ("SD257", "dialplan/shop.conf:4:2")),
        ("; [services]\n[globals]\nX=1\n", None),
        (";-----------;\n; --- x --;\n;---\n\r\n; ;\n\t\r\n", None),
        ("\0", ("SD255", "dialplan/shop.conf:4:1")),
    ],
)
@pytest.mark.parametrize("is_trusted", [True, False])
@pytest.mark.usefixtures("folder")
def test_a_file_keeps_to_its_own_contexts(text, found, is_trusted):
    Path("dialplan/shop.conf").write_text(SHOP + text, newline="")
    if found is None:
        assert door.attachments(opened(is_trusted=is_trusted)).dialplan
    else:
        assert found in [problem[:2] for problem in refused(is_trusted=is_trusted)]


@pytest.mark.usefixtures("folder")
def test_a_file_of_nothing_but_strange_characters_is_read_in_time():
    Path("dialplan/shop.conf").write_text("\x01" * 500_000 + "-" * 400_000 + ";" * 100_000)
    began = time.monotonic()
    assert len(refused()) <= 210
    assert time.monotonic() - began < 5


def test_contexts_of_sipdeploy_are_reserved(folder):
    """Whatever the templates write: a context that a user could take over is missed here."""
    text = rendered()["/etc/asterisk/extensions.conf"].content.decode()
    for name in re.findall(r"^\[([^\]]+)\]", text, re.MULTILINE):
        (folder / "dialplan/shop.conf").write_text(f"{SHOP}[{name}]\n")
        assert [code for code, *_ in refused()] == ["SD257"], name


@pytest.mark.parametrize("is_trusted", [True, False])
def test_no_link_is_followed(folder, is_trusted):
    (folder.parent / "outside.conf").write_text(SHOP + "; canary\n")
    inside = folder / "dialplan/real.txt"
    inside.write_text(SHOP)
    for target in ("../../outside.conf", "real.txt", "/etc/hostname"):
        (folder / "dialplan/shop.conf").unlink()
        (folder / "dialplan/shop.conf").symlink_to(target)
        problems = refused(is_trusted=is_trusted)
        assert [code for code, *_ in problems] == ["SD255"]
        assert "link" in problems[0][2]
        assert "canary" not in str(problems)
    for path in (folder / "dialplan").iterdir():
        path.unlink()
    (folder / "dialplan").rmdir()
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    (elsewhere / "shop.conf").write_text(SHOP)
    (folder / "dialplan").symlink_to(elsewhere)
    assert [code for code, *_ in refused(is_trusted=is_trusted)] == ["SD255"]


def test_a_strange_file_is_a_problem_and_no_crash(folder):
    (folder / "dialplan/a b.conf").write_text("")
    (folder / "dialplan/extensions.conf").write_text("")
    (folder / "dialplan/latin.conf").write_bytes(b"[x]\n; \xff\n")
    (folder / "dialplan/big.conf").write_text("; " + "x" * own.MOST_OF_A_FILE)
    (folder / "dialplan/folder.conf").mkdir()
    subprocess.run(["mkfifo", str(folder / "dialplan/pipe.conf")], check=True)
    (folder / "dialplan/.hidden.conf").write_text("[services]\n")
    (folder / "dialplan/notes.txt").write_text("[services]\n")
    assert sorted(code for code, *_ in refused()) == ["SD102"] + ["SD255"] * 5


def test_the_context_of_a_service_must_exist(folder):
    (folder / "dialplan/shop.conf").write_text("[other]\n")
    ((code, place, _),) = refused()
    assert (code, place) == ("SD256", "inventory.yaml:12:35")
    (folder / "dialplan/shop.conf").unlink()
    (folder / "dialplan").rmdir()
    assert [each[:2] for each in refused()] == [("SD256", "inventory.yaml:12:35")]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "no such file"),
        (b"", "not a WAV"),
        (b"RIFF\0\0\0\0WAVEfmt ", "not a WAV"),
        (sound(channels=2), "does not play"),
        (sound(rate=44100), "does not play"),
        (sound(width=1), "does not play"),
        (sound(seconds=0), "does not play"),
        (b"\0" * (own.MOST_OF_A_PROMPT + 1), "larger"),
    ],
)
def test_a_prompt_that_asterisk_cannot_play_is_refused(folder, content, word):
    if content is None:
        (folder / "welcome.wav").unlink()
    else:
        (folder / "welcome.wav").write_bytes(content)
    ((code, place, message),) = refused()
    assert (code, place.startswith("inventory.yaml:9:")) == ("SD258", True)
    assert word in message


def test_a_prompt_is_written_without_what_is_not_sound(folder):
    plain = sound(16000)
    extra = b"LIST" + (8).to_bytes(4, "little") + b"canary!!"
    body = plain[12:] + extra
    (folder / "welcome.wav").write_bytes(
        b"RIFF" + (4 + len(body)).to_bytes(4, "little") + b"WAVE" + body
    )
    assert rendered()["/etc/asterisk/prompts/6200.wav16"].content == plain


def test_the_prompt_of_a_stranger_is_read_below_the_folder_only(folder):
    (folder.parent / "outside.wav").write_bytes(sound())
    (folder / "welcome.wav").unlink()
    (folder / "welcome.wav").symlink_to("../outside.wav")
    assert "6200" in door.attachments(opened()).prompts
    assert [code for code, *_ in refused(is_trusted=False)] == ["SD233"]
    assert [(p.code, p.severity) for p in lint_own(opened(is_trusted=False)).problems] == [
        ("SD233", "note")
    ]


# --- PINs ----------------------------------------------------------------------------------------


def test_a_pin_comes_from_the_sources_of_passwords(folder, monkeypatch):
    text = HEAD + "services: {6300: {kind: conference, pin: %s}}\n"
    monkeypatch.setenv("CONFERENCE", "2468013")
    (folder / "pin").write_text("13579\nmore\n")
    for pin, value in (
        ("73058", "73058"),
        ("{env: CONFERENCE}", "2468013"),
        ("{file: pin}", "13579"),
        ("{command: echo 97531}", "97531"),
    ):
        (folder / "inventory.yaml").write_text(text % pin)
        assert door.attachments(opened()).pins["6300"].reveal() == value
        if "env" in pin or "command" in pin:
            assert [code for code, *_ in refused(is_trusted=False)] == ["SD233"]
    for pin in ("{env: NOT_SET}", "{file: absent}", "{command: echo abc}", "{command: 'false'}"):
        (folder / "inventory.yaml").write_text(text % pin)
        ((code, _, message),) = refused()
        assert code == "SD259"
        assert "abc" not in message


def test_git_does_not_get_the_file_of_a_pin(folder):
    (folder / "inventory.yaml").write_text(
        HEAD + "services: {6300: {kind: conference, pin: {file: room.pin}}}\n"
    )
    (folder / "room.pin").write_text("73058\n")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    codes = [each.code for each in lint_inventory(opened())]
    assert "SD327" in codes
    (write,) = _gitignore(opened())
    assert "/room.pin" in write.text.splitlines()


def test_a_pin_is_in_one_sensitive_file_only():
    site, _, _ = load_site(HEAD + KINDS, "i.yaml")
    attached = Attachments(
        dialplan={"shop.conf": DialplanFile(path="shop.conf", text=SHOP)},
        pins={"6300": Secret("73058")},
    )
    files = file_set(
        site, "sip1", versions=site.versions, credentials={}, attachments=attached
    ).files
    holders = [file for file in files if b"73058" in file.content]
    assert [file.path for file in holders] == ["/etc/asterisk/confbridge_users.conf"]
    assert (holders[0].sensitive, holders[0].mode) == (True, 0o640)
    assert "73058" not in repr(attached)


def test_a_plan_shows_neither_a_pin_nor_the_bytes_of_a_prompt():
    path = "/etc/asterisk/confbridge_users.conf"
    change = Change(
        kind="update", path=path, mode=0o640, owner="root:asterisk", service="asterisk",
        effect="reload", sensitive=True,
    )  # fmt: skip
    file = ManagedFile(
        path=path, content=b"[a]\npin=73058\n", mode=0o640, owner="root:asterisk",
        service="asterisk", reload=(), template="",
    )  # fmt: skip
    plan = SimpleNamespace(
        to_generate=frozenset(), desired=SimpleNamespace(files=(file,)), left=()
    )
    rows = difference(change, plan, Present(current={path: b"[a]\npin = 13579\n"}))
    assert len(rows) >= 2
    assert not re.search("73058|13579", "".join(rows))
    prompt = replace(change, path="/etc/asterisk/prompts/6200.wav")
    assert difference(prompt, plan, Present(current={prompt.path: sound()})) == []


# --- what Asterisk gets --------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_a_group_rings_its_members_but_not_the_caller():
    text = rendered()["/etc/asterisk/extensions.conf"].content.decode()
    assert "exten => 6100,1,Goto(sipdeploy-groups,6100,1)" in context(text, "services")
    lines = context(text, "sipdeploy-groups")
    assert "same => n,Gosub(sipdeploy-member,1001,1)" in lines
    assert "same => n,Gosub(sipdeploy-turn,1003,1(10))" in lines
    for name in ("sipdeploy-member", "sipdeploy-turn"):
        first = context(text, name)[0]
        assert first == 'exten => _X.,1,GotoIf($["${EXTEN}" = "${CALLER}"]?caller)'


@pytest.mark.usefixtures("folder")
def test_a_phone_that_rings_cannot_send_the_call_elsewhere():
    """302 would make Asterisk call what the phone says, in a context of the caller."""
    text = rendered()["/etc/asterisk/extensions.conf"].content.decode()
    dials = re.findall(r"Dial\((.*)\)$", text, re.MULTILINE)
    assert len(dials) == 3
    for dial in dials:
        options = dial.rsplit(",", 1)[1]
        assert "i" in re.sub(r"\(.*?\)", "", options), dial


@pytest.mark.usefixtures("folder")
def test_kamailio_lets_a_call_ring_as_long_as_a_group_may():
    """A phone rings 30 s otherwise; who cancels must still be known as the caller then."""
    text = rendered()["/etc/kamailio/kamailio.cfg"].content.decode()
    caller, phone = (int(number) // 1000 for number in re.findall(r"t_set_fr\((\d+)\)", text))
    assert caller > MOST_SECONDS
    assert phone > Service(kind="group", timeout="120").seconds
    for table in ("ringing", "setups"):
        expire = re.search(rf'"{table}=>[^"]*autoexpire=(\d+);', text)[1]
        assert int(expire) > caller


@pytest.mark.usefixtures("folder")
def test_phones_that_ring_are_limited():
    text = rendered()["/etc/asterisk/extensions.conf"].content.decode()
    lines = context(text, "sipdeploy-groups")
    assert lines[0] == "exten => 6100,1,GotoIf($[${GROUP_COUNT(phones@ringing)} + 2 > 64]?then)"
    ringing = [line for line in text.splitlines() if "Dial(" in line and "ARG1" in line]
    ringing += [line for line in text.splitlines() if "Dial(${PHONES" in line]
    assert len(ringing) == 2
    for line in ringing:
        assert "b(sipdeploy-ringing^s^1)U(sipdeploy-answered)" in line


@pytest.mark.usefixtures("folder")
def test_a_menu_leads_where_its_keys_say_and_no_further_than_its_attempts():
    text = rendered()["/etc/asterisk/extensions.conf"].content.decode()
    spoken = context(text, "sipdeploy-menu-star62")
    assert "exten => 1,1,Goto(services,6100,1)" in spoken
    assert "exten => #,1,Goto(sipdeploy-phones,1001,1)" in spoken
    assert "exten => *,1,Goto(sipdeploy-boxes,1002,1)" in spoken
    assert any("vm-press&digits/star&vm-for" in line for line in spoken)
    assert "same => n(then),Goto(sipdeploy-nobody,s,1)" in spoken
    recorded = context(text, "sipdeploy-menu-6200")
    assert "same => n,Background(/etc/asterisk/prompts/6200)" in recorded
    assert "same => n,GotoIf($[${ROUND} > 2]?then)" in recorded
    assert "same => n(then),Goto(sipdeploy-phones,1001,1)" in recorded


@pytest.mark.usefixtures("folder")
def test_modules_are_loaded_where_they_are_used():
    def loaded():
        text = rendered()["/etc/asterisk/modules.conf"].content.decode()
        return set(re.findall(r"^load=(\w+)\.so$", text, re.MULTILINE))

    assert {"app_confbridge", "bridge_softmix"} <= loaded()
    assert not loaded() & {"app_read", "func_db", "app_system"}
    more = " same => n,ExecIf($[1]?read(X))\n same => n,Set(DB(a/b)=1) ; MATH(1+1)\n"
    more += " same => n,System(x)\n same => n,MixMonitor(a.wav)\n same => n,Record(/a/b:wav)\n"
    more += " same => n,Originate(Local/1@a,app,Echo)\n"
    Path("dialplan/shop.conf").write_text(SHOP + more)
    assert {"app_read", "app_exec", "func_db"} <= loaded()
    by_hand = {module for module, _ in modules.BY_HAND.values()}
    assert not loaded() & {"func_math", *by_hand}
    assert {"app_mixmonitor", "app_originate", "app_record"} <= by_hand
    Path("inventory.yaml").write_text(HEAD)
    assert not loaded() & {"app_confbridge", "bridge_softmix", *modules.ALL}
    assert "/etc/asterisk/confbridge.conf" not in rendered()


def test_a_build_has_every_module_that_a_service_can_need():
    site, _, _ = load_site(HEAD + "install: {asterisk: source}\n", "i.yaml")
    one, two = (asterisk.build(each) for each in (site, site))
    assert one == two
    names = {*asterisk.MODULES, *asterisk.SPARE_MODULES}
    assert {*modules.ALL, *modules.SPARE, *modules.CONFERENCE} <= names
    assert len(asterisk.SPARE_MODULES) == len(set(asterisk.SPARE_MODULES))


def test_calls_of_groups_need_twice_the_ports():
    narrow = HEAD + "ports: {rtp: 10000-10399}\n"
    plain, _, _ = load_site(narrow, "i.yaml")
    group, _, _ = load_site(narrow + "services: {6: {kind: group, members: [1001]}}\n", "i.yaml")
    assert [asterisk.sizes(site, HostProfile()).calls for site in (plain, group)] == [200, 100]


def test_a_rollback_renders_services_of_which_it_knows_only_the_kind():
    site, _, _ = load_site(HEAD, "i.yaml")
    kinds = ("group", "menu", "conference", "dialplan")
    services = {
        str(6000 + n): Service.model_validate({"kind": kind}) for n, kind in enumerate(kinds)
    }
    then = site.model_copy(update={"services": services})
    assert file_set(then, "sip1", versions=site.versions, credentials={}).files


# --- lint ----------------------------------------------------------------------------------------


def test_lint_judges_the_dialplan_with_the_rest_of_asterisk(folder, capsys, monkeypatch):
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    (folder / "dialplan/shop.conf").write_text(
        "[shop]\nexten => 7000,1,Dial(PJSIP/1001@trnk,20)\n same => n,Goto(shopp,s,1)\n"
        " same => n,MixMonitor(a.wav)\n"
    )
    assert main(["lint", "--format", "concise"]) == 1
    said = capsys.readouterr().out
    assert re.search(r"dialplan/shop\.conf:2:\d+: .*trnk", said), said
    assert re.search(r"dialplan/shop\.conf:2:17: .*SD870.*`Dial`", said), said
    assert re.search(r"dialplan/shop\.conf:3:\d+: .*shopp", said), said
    assert re.search(r"dialplan/shop\.conf:4:\d+: .*SD871.*`app_mixmonitor`", said), said
    assert "/etc/asterisk" not in said


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("exten => 7000,1,Answer()", True),
        ("exten => _7XXX,1,Answer()", True),
        ("include => more\n[more]\nexten => _X.,1,Answer()", True),
        ("exten => s,1,Answer()", False),
        ("exten => 7000,2,Answer()", False),
        ("exten => 7001,1,Answer()", False),
        ("switch => Realtime/x", True),  # nobody knows
    ],
)
def test_lint_says_that_a_context_lacks_the_number(folder, text, answers):
    (folder / "dialplan/shop.conf").write_text(f"[shop]\n{text}\n")
    codes = [each.code for each in lint_own(opened()).problems]
    assert ("SD256" in codes) != answers


def test_lint_says_one_thing_about_an_include(folder):
    (folder / "dialplan/shop.conf").write_text(f'#include "more.conf"\n{SHOP}')
    (problem,) = lint_own(opened()).problems
    assert problem.code == "SD255"
    assert problem.help.startswith("delete the line: ")


@pytest.mark.parametrize(
    ("dialled", "advice"),
    [
        ("9999", "add the user with `sipdeploy add-user 9999`"),
        ("1004", "write `1003`, or add the user with `sipdeploy add-user 1004`"),
        ("alice", "add the user with `sipdeploy add-user NUMBER`"),
    ],
)
def test_lint_says_how_to_add_a_user_that_is_dialled(folder, dialled, advice):
    (folder / "dialplan/shop.conf").write_text(
        f"[shop]\nexten => 7000,1,Dial(PJSIP/{dialled},20,iI)\n"
    )
    (problem,) = lint_own(opened()).problems
    assert (problem.code, problem.help) == ("SD859", advice)


@pytest.mark.usefixtures("folder")
def test_a_sound_inventory_of_all_kinds_has_no_problem_in_its_files():
    assert lint_own(opened()).problems == []
    assert lint_own(opened(is_trusted=False)).problems == []


# --- users ---------------------------------------------------------------------------------------


def test_a_user_of_a_group_is_not_removed_without_a_word(folder, capsys):
    (folder / "secrets.yaml").touch(mode=0o600)
    (folder / "secrets.yaml").write_text(
        "users:\n" + "".join(f'  "{n}": "fmK4tXw9Rd2zHq{n}"\n' for n in (1001, 1002, 1003))
    )
    before = (folder / "inventory.yaml").read_text()
    assert main(["remove-user", "1002", "--yes"]) == 1
    said = capsys.readouterr().err
    assert said.count("sends calls to user `1002`") == 3  # a member, two mailboxes
    assert "inventory.yaml:6:" in said
    assert (folder / "inventory.yaml").read_text() == before
