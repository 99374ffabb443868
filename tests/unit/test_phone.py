"""The command `phone`, and the server of the web phone on this machine."""

import base64
import hashlib
import hmac
import html
import http.client
import json
import os
import re
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from sipdeploy.__main__ import main
from sipdeploy.cli.hosts import is_first, next_step, say_next
from sipdeploy.cli.output import Output
from sipdeploy.cli.phone import server
from sipdeploy.cli.session import Session
from sipdeploy.inventory import open_inventory
from sipdeploy.inventory.secret import ha1
from sipdeploy.inventory.site import load_site
from sipdeploy.plan import Change
from sipdeploy.services.phone import page, settings
from sipdeploy.services.phone.sheet import sheet
from sipdeploy.transaction import Report

INVENTORY = """\
domain: sip.example.com
email: ops@example.com
hosts: {sip1: {address: 203.0.113.10}}
tls: {provider: self-signed}
users:
  1001: {name: 'Alice <"A"> & Co', voicemail: true}
  1002: {name: Bob}
services: {6000: {kind: ivr-test}, 6001: {kind: voicemail}}
"""
SECRETS = {"1001": "first-Secret-8293", "1002": "second-Secret-2311"}
PAGE = "https://phone.example.com/"


def site_of(text=INVENTORY):
    site, problems, _ = load_site(text, "inventory.yaml")
    assert site, problems
    return site


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    lines = [f'  "{number}": {password}\n' for number, password in SECRETS.items()]
    (tmp_path / "secrets.yaml").write_text("users:\n" + "".join(lines))
    (tmp_path / "secrets.yaml").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def phone(folder, capsys):  # noqa: ARG001 - the current folder
    def run(*arguments):
        code = main(["phone", *arguments])
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr("sipdeploy.cli.phone.is_terminal", lambda _: True)


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("terminal")
def test_the_settings_of_existing_users_are_printed_and_nothing_changes(phone, folder):
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    code, out, _ = phone("1002")
    assert code == 0
    assert out == (
        "user       1002\n"
        "name       Bob\n"
        "WebSocket  wss://sip.example.com:8443/ws\n"
        "protocol   sip\n"
        "SIP URI    sip:1002@sip.example.com\n"
        f"password   {SECRETS['1002']}\n"
    )
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == before


def test_without_a_terminal_passwords_need_an_option(phone):
    code, out, err = phone()
    assert code == 0
    assert out.count("SIP URI") == 2
    assert not any(each in out + err for each in SECRETS.values())
    assert "--show-passwords" in err
    code, out, err = phone("1001", "--show-passwords")
    assert SECRETS["1001"] in out
    assert SECRETS["1002"] not in out
    assert "--show-passwords" not in err


def test_a_hidden_password_is_not_even_fetched(phone, folder):
    (folder / "secrets.yaml").unlink()
    assert phone("1001")[0] == 0
    assert phone("1001", "--show-passwords")[0] == 1


def test_an_unknown_number_is_named(phone):
    code, out, err = phone("1001", "1009", "1008")
    assert (code, out) == (1, "")
    assert "`1009` is not a user" in err
    assert "`1008` is not a user" in err


def test_json_has_the_fields_of_browser_phone(phone):
    data = json.loads(phone("1001", "--show-passwords", "--format", "json")[1])
    (user,) = data["users"]
    assert user["websocket"] == "wss://sip.example.com:8443/ws"
    assert user["password"] == SECRETS["1001"]
    fields = user["browser_phone"]
    assert (fields["WebSocket Port"], fields["WebSocket Path"]) == ("8443", "/ws")
    assert fields["VoiceMail Management Number"] == "6001"


@pytest.mark.parametrize("client", ["browser-phone", "jssip", "sip.js"])
def test_a_client_is_described_field_by_field(phone, client):
    code, out, _ = phone("1001", "--client", client, "--show-passwords")
    assert code == 0
    assert SECRETS["1001"] in out
    assert "sip.example.com" in out


def test_the_relay_and_its_password_are_told(phone, folder):
    """As docs/turn.md derives it: printf turn | openssl dgst -sha256 -hmac HA1."""
    (folder / "inventory.yaml").write_text(f"{INVENTORY}turn: {{tls: 443}}\n")
    key = hashlib.md5(f"1001:sip.example.com:{SECRETS['1001']}".encode()).hexdigest()
    relayed = hmac.new(key.encode(), b"turn", "sha256").hexdigest()[:32]
    _, text, _ = phone("1001", "--show-passwords")
    assert re.search(rf"^TURN password +{relayed}$", text, re.MULTILINE)
    assert len(re.findall(r"^TURN +turns?:sip\.example\.com:", text, re.MULTILINE)) == 3
    for words in (("--format", "json"), ("--client", "jssip"), ("--client", "sip.js")):
        assert f'"credential": "{relayed}"' in phone("1001", "--show-passwords", *words)[1]
        assert relayed not in phone("1001", *words)[1]
        assert "turns:sip.example.com:443?transport=tcp" in phone("1001", *words)[1]
    assert phone("1001", "--sheet", "out.html", "--show-passwords")[0] == 0
    assert relayed in (folder / "out.html").read_text()


@pytest.mark.parametrize("client", ["jssip", "sip.js"])
def test_a_password_is_quoted_as_javascript(client):
    code = settings.CLIENTS[client](settings.settings(site_of(), "1001", 'a"b\\c{d}'))
    assert json.dumps('a"b\\c{d}') in code
    assert "{{" not in code
    hidden = settings.CLIENTS[client](settings.settings(site_of(), "1001", None))
    assert '"the password"' in hidden


def test_the_link_has_the_number_and_no_password():
    values = settings.settings(site_of(), "1001", "secret", page=PAGE)
    assert values.link == f"{PAGE}#1001"


def test_a_qr_code_is_drawn_with_the_address_of_a_page_alone(phone):
    code, out, _ = phone("1001", "--qr", "--page", PAGE)
    assert code == 0
    drawn = settings.qr(f"{PAGE}#1001")
    assert drawn in out
    assert len(drawn.splitlines()) > 10
    code, out, err = phone("1001", "--qr")
    assert (code, out) == (2, "")
    assert "--page" in err
    assert "write `phone: {port: 443}`" in err


def test_the_page_of_the_host_is_the_default(phone, folder):
    (folder / "inventory.yaml").write_text(f"{INVENTORY}phone: {{}}\n")
    assert '"page": "https://sip.example.com/#1001"' in phone("1001", "--format", "json")[1]
    assert "█" in phone("1001", "--qr")[1] or "▄" in phone("1001", "--qr")[1]
    assert f'"page": "{PAGE}#1001"' in phone("1001", "--format", "json", "--page", PAGE)[1]
    assert phone("--sheet", "out.html")[0] == 0
    sheets = (folder / "out.html").read_text()
    assert "https://sip.example.com/" in sheets
    assert "<svg" in sheets


@pytest.mark.parametrize("wrong", ["http://phone.example.com/", "phone.example.com", f"{PAGE}#1"])
def test_a_page_is_an_https_address(phone, wrong):
    assert phone("1001", "--page", wrong)[0] == 2


def test_a_user_without_a_mailbox_gets_no_voicemail_number():
    assert settings.settings(site_of(), "1001", None).voicemail == "6001"
    assert settings.settings(site_of(), "1002", None).voicemail == ""


def test_settings_show_no_password_by_accident():
    assert "secret" not in repr(settings.settings(site_of(), "1001", "secret"))


# --- the sheet -----------------------------------------------------------------------------------


def test_a_sheet_has_a_page_for_each_person_and_is_private(phone, folder):
    code, out, err = phone("--sheet", "out.html", "--show-passwords", "--page", PAGE)
    assert (code, out) == (0, "")
    assert err == "out.html: 2 pages, with passwords\n"
    assert (folder / "out.html").stat().st_mode & 0o777 == 0o600
    text = (folder / "out.html").read_text()
    assert text.count("<article>") == 2
    assert text.count("<svg") == 2
    assert all(each in text for each in SECRETS.values())
    code, _, err = phone("--sheet", "out.html")
    assert code == 1
    assert "it exists" in err


@pytest.mark.usefixtures("terminal")
def test_a_sheet_without_passwords_has_room_for_them(phone, folder):
    assert phone("--sheet", "out.html")[0] == 0
    text = (folder / "out.html").read_text()
    assert not any(each in text for each in SECRETS.values())
    assert text.count('class="empty"') == 2


def test_git_would_not_add_the_sheet(phone, folder):
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    code, _, err = phone("--sheet", "out.html", "--show-passwords")
    assert code == 1
    assert "SD307" in err
    assert not (folder / "out.html").exists()


def test_a_name_cannot_break_out_of_the_sheet():
    text = sheet([settings.settings(site_of(), "1001", '<script>"')]).decode()
    assert "<script" not in text
    assert html.escape('Alice <"A"> & Co') in text


# --- the page ------------------------------------------------------------------------------------


def test_the_policy_allows_no_inline_script_and_only_this_server():
    policy = page.headers(site_of(), is_local=True)["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    servers = re.search(r"connect-src ([^;]*)", policy)[1]
    assert servers == "'self' wss://sip.example.com:8443 https://sip.example.com:8443"


def test_a_derived_key_is_no_ha1():
    secret = ha1("1001", "sip.example.com", "x")
    assert page.derived_key(secret, "contacts") != page.derived_key(secret, "turn")
    assert secret not in page.derived_key(secret, "contacts")
    # web/test/data.test.js has the same
    assert page.derived_key("0123456789abcdef" * 2, "contacts").startswith("fd9ddc22")


# --- the phone on this machine -------------------------------------------------------------------


@pytest.fixture
def built(tmp_path):
    where = tmp_path / "page"
    where.mkdir()
    for name in ("index.html", "two.html", "phone.js", "style.css", "icon.svg"):
        (where / name).write_text(f"this is {name}")
    (where / "other.exe").write_text("not a file of a page")
    return where


@pytest.fixture
def serving(built):
    site = site_of()
    credentials = {number: ha1(number, site.domain, each) for number, each in SECRETS.items()}
    running = []

    def start(*numbers):
        contents = server.contents(site, credentials, numbers, built)
        one = server.PhoneServer(site, contents)
        threading.Thread(target=one.serve_forever, daemon=True).start()
        running.append(one)
        return one

    yield start
    for one in running:
        one.shutdown()
        one.server_close()


def get(one, path="", *, whole="", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", one.server_port, timeout=5)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET", whole or one.address.removeprefix(one.origin) + path, headers=named)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body, answer.headers


def test_the_page_is_served_signed_in(serving):
    one = serving("1001")
    status, body, headers = get(one)
    assert (status, body) == (200, "this is index.html")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Cache-Control"] == "no-store"
    account = json.loads(get(one, "account.json")[1])
    assert account == {"number": "1001", "ha1": ha1("1001", "sip.example.com", SECRETS["1001"])}
    config = json.loads(get(one, "config.json")[1])
    assert config["websocket"] == "wss://sip.example.com:8443/ws"
    assert config["is_local"] is True


def test_two_phones_are_side_by_side(serving):
    one = serving("1001", "1002")
    assert get(one)[1] == "this is two.html"
    for place, number in (("first/", "1001"), ("second/", "1002")):
        assert get(one, place)[1] == "this is index.html"
        assert json.loads(get(one, f"{place}account.json")[1])["number"] == number
    assert get(one, "account.json")[0] == 404


def test_contacts_need_the_key_of_the_user(serving):
    one = serving("1001")
    secret = ha1("1001", "sip.example.com", SECRETS["1001"])

    def asked(text):
        encoded = base64.b64encode(text.encode()).decode()
        return get(one, "contacts.json", Authorization=f"Basic {encoded}")[:2]

    status, body = asked(f"1001:{page.derived_key(secret, 'contacts')}")
    assert status == 200
    names = [user["name"] for user in json.loads(body)["users"]]
    assert names == ['Alice <"A"> & Co', "Bob"]
    assert asked(f"1001:{secret}")[0] == 401
    assert asked(f"1002:{page.derived_key(secret, 'contacts')}")[0] == 401
    assert get(one, "contacts.json")[0] == 401
    assert get(one, "contacts.json", Authorization="Basic ä?")[0] == 401


def test_nothing_is_served_without_the_random_path(serving):
    one, two = serving("1001"), serving("1001")
    assert one.address.removeprefix(one.origin) != two.address.removeprefix(two.origin)
    for path in ("/", "/account.json", "/x/account.json", two.address.removeprefix(two.origin)):
        assert get(one, whole=path)[0] == 404
    assert get(one, "../../etc/passwd")[0] == 404
    assert get(one, "other.exe")[0] == 404


@pytest.mark.parametrize("host", ["evil.example:80", "evil.example", "localhost", ""])
def test_a_name_that_leads_to_this_machine_is_refused(serving, host):
    one = serving("1001")
    assert get(one, "account.json", Host=host)[0] == 421


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_another_user_of_this_machine_gets_nothing(serving):
    one = serving("1001")
    path = one.address.removeprefix(one.origin) + "account.json"
    request = f"GET {path} HTTP/1.0\\r\\nHost: 127.0.0.1:{one.server_port}\\r\\n\\r\\n"
    ask = f"exec 3<>/dev/tcp/127.0.0.1/{one.server_port}; printf '{request}' >&3; cat <&3"

    def asked(**who):
        argv = ["/bin/bash", "-c", ask]
        return subprocess.run(argv, check=True, timeout=10, capture_output=True, **who).stdout

    assert b" 200 " in asked()
    refused = asked(user=65534, group=65534, extra_groups=[])
    assert b" 403 " in refused
    assert b"ha1" not in refused


def row(client, port, state="01", uid=0):
    return f"   0: {client} 0100007F:{port:04X} {state} 0:0 0:0 0 {uid} 0 1 1 0 20 4 30 10 -1\n"


@pytest.mark.parametrize(
    ("rows", "is_own"),
    [
        (row("0100007F:1000", 8080, uid=os.geteuid()), True),
        (row("0100007F:1000", 8080, uid=4321), False),
        ("", False),
        # the end of an earlier connection, which the kernel gives to root
        (row("0100007F:1000", 8080, state="06"), False),
        (row("0200007F:1000", 8080) + row("0100007F:1000", 8080, uid=4321), False),
        (row("0100007F:1000", 8081), False),
    ],
)
def test_the_owner_of_a_connection(tmp_path, rows, is_own):
    table = tmp_path / "tcp"
    table.write_text("  sl  local_address rem_address ...\n" + rows)
    seen = server.is_own(("127.0.0.1", 0x1000), ("127.0.0.1", 8080), table)
    assert seen is is_own


def test_without_a_list_of_connections_the_path_protects(tmp_path):
    assert server.is_own(("127.0.0.1", 1), ("127.0.0.1", 2), tmp_path / "absent")


class Stopped(server.PhoneServer):
    """A server that is interrupted at once."""

    def serve_forever(self, **_):
        raise KeyboardInterrupt


@pytest.fixture
def opened(phone, built, monkeypatch):
    """Runs `phone --open` with a built page, and notes what the browser gets."""
    shown = []
    monkeypatch.setattr("sipdeploy.services.phone.page.folder", lambda: built)
    monkeypatch.setattr(server, "PhoneServer", Stopped)
    monkeypatch.setattr("webbrowser.open", lambda address: shown.append(address) or True)
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.setenv("DISPLAY", ":0")
    return lambda *arguments: (*phone("--open", *arguments), shown)


def test_open_serves_until_ctrl_c_and_explains_the_certificate(opened):
    code, out, err, shown = opened("1002")
    assert code == 0
    assert out.strip() == shown[0]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", shown[0])
    assert "open https://sip.example.com:8443/healthz in the same browser" in err
    assert "the phone of 1002; Ctrl-C ends it" in err
    assert not any(each in out + err for each in SECRETS.values())


def test_open_without_a_number_is_the_first_user(opened):
    assert "the phone of 1001;" in opened()[2]


def test_two_on_one_loudspeaker_whistle(opened):
    err = opened("1001", "1002")[2]
    assert "the phone of 1001 and 1002" in err
    assert "headset" in err


def test_three_are_too_many(opened, folder):
    (folder / "inventory.yaml").write_text(INVENTORY.replace("Bob}", "Bob}\n  1003: {}"))
    code, _, err, _ = opened("1001", "1002", "1003")
    assert code == 2
    assert "one phone or two" in err


def test_without_a_desktop_no_text_browser_takes_the_terminal(opened, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    code, out, err, shown = opened("1001")
    assert (code, shown) == (0, [])
    assert "open this address in a browser on this machine" in err
    assert out.startswith("http://127.0.0.1:")


def test_over_ssh_the_tunnel_is_explained(opened, monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", "198.51.100.7 1 203.0.113.1 22")
    _, out, err, _ = opened("1001")
    port = re.search(r":(\d+)/", out)[1]
    assert f"`ssh -L {port}:127.0.0.1:{port} THIS_MACHINE`" in err


def test_origins_that_would_refuse_the_page_are_named(opened, folder):
    text = INVENTORY + "origins: [https://phone.example.com]\n"
    (folder / "inventory.yaml").write_text(text)
    code, out, err, shown = opened("1001", "--port", "18080")
    assert (code, out, shown) == (1, "", [])
    assert "add `http://127.0.0.1:18080` to `origins`, `sipdeploy apply`" in err
    text = INVENTORY + 'origins: [https://phone.example.com, "http://127.0.0.1:18080"]\n'
    (folder / "inventory.yaml").write_text(text)
    assert opened("1001", "--port", "18080")[0] == 0


def test_a_port_in_use_is_reported(opened):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err, _ = opened("1001", "--port", str(port))
    assert code == 2
    assert f"cannot serve on port {port}" in err


def test_without_the_page_the_remedy_is_told(phone, monkeypatch):
    monkeypatch.setattr("sipdeploy.services.phone.page.folder", lambda: None)
    code, out, err = phone("--open")
    assert (code, out) == (1, "")
    assert "SD720" in err
    assert "npm --prefix" in err


def test_a_port_is_only_for_open(phone):
    assert phone("1001", "--port", "8080")[0] == 2


# --- the next step after the first apply ---------------------------------------------------------


def change(kind, path):
    values = {"mode": 0o644, "owner": "root:root", "service": "kamailio", "effect": "restart"}
    return str(Change(kind=kind, path=path, **values))


def test_only_the_first_apply_makes_a_calling_system():
    assert is_first([change("create", "/etc/kamailio/credentials.sum")])
    assert not is_first([change("update", "/etc/kamailio/credentials.sum")])
    assert not is_first([change("create", "/etc/kamailio/tls.cfg")])


@pytest.mark.parametrize(("state", "is_said"), [("applied", True), ("unchanged", False)])
def test_a_host_that_was_not_changed_has_no_next_step(folder, capsys, state, is_said):  # noqa: ARG001
    session = Session(output=Output())
    changes = (change("create", "/etc/kamailio/credentials.sum"),)
    loaded = open_inventory(Path("inventory.yaml"))
    say_next(session, loaded, [Report(host="sip1", state=state, changes=changes)])
    assert ("phone --open 1001 1002" in capsys.readouterr().err) is is_said


@pytest.mark.parametrize(
    ("path", "users", "command"),
    [
        (None, "{1001: {}, 1002: {}, 1003: {}}", "sipdeploy phone --open 1001 1002"),
        ("my site.yaml", "{1001: {}}", "sipdeploy -i 'my site.yaml' phone --open 1001"),
        (None, "{}", "sipdeploy add-user 1001 --apply"),
    ],
)
def test_the_next_step_can_be_typed(tmp_path, monkeypatch, path, users, command):
    monkeypatch.chdir(tmp_path)
    head = INVENTORY.partition("users:")[0]
    file = Path(path or "inventory.yaml")
    file.write_text(f"{head}users: {users}\n")
    session = Session(named=file if path else None, output=Output())
    assert f"`{command}`" in next_step(session, open_inventory(file))


@pytest.mark.parametrize(
    ("port", "address"),
    [(443, "https://sip.example.com/"), (8444, "https://sip.example.com:8444/")],
)
def test_the_page_of_the_host_is_the_next_step(folder, port, address):
    (folder / "inventory.yaml").write_text(f"{INVENTORY}phone: {{port: {port}}}\n")
    said = next_step(Session(output=Output()), open_inventory(Path("inventory.yaml")))
    assert f"open {address} and sign in; `sipdeploy phone 1001 1002` prints" in said
