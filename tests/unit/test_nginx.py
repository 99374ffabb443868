"""The web phone from the host: its files, who reads the contacts, and what a change costs."""

import base64
import dataclasses
import hashlib
import io
import tarfile
from types import SimpleNamespace

import pytest
from hosts_facts import recorded
from test_preflight import facts, told
from test_relay import HA1, actions, as_is, load, now, plan, site

from sipdeploy import services
from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.facts import Socket, Unit
from sipdeploy.keeping import known
from sipdeploy.plan import text
from sipdeploy.plan.desired import desired
from sipdeploy.plan.kept_users import keep_users
from sipdeploy.plan.preflight import firewall as preflight
from sipdeploy.plan.preview import Present
from sipdeploy.proof.inside import verify
from sipdeploy.proof.judgement import judge, unreachable
from sipdeploy.proof.outside.step import PAGE, Proof, StepResult
from sipdeploy.services import nginx, tree
from sipdeploy.services.certificates import Material
from sipdeploy.services.phone import page
from sipdeploy.services.render import UnquotableError, nginx_string
from sipdeploy.services.service import Firewall, HostProfile
from sipdeploy.transaction import site_goal, steps
from sipdeploy.transaction.candidate import archive

PHONE = "phone: {}\n"
ORIGINS = "origins: [https://phone.example.com]\n"


@pytest.fixture(autouse=True)
def built(tmp_path, monkeypatch):
    """A built page."""
    for name in ("index.html", "phone.js", "two.html"):
        (tmp_path / name).write_text(name)
    (tmp_path / "icon-192.png").write_bytes(b"\x89PNG\r\n\0\xff")
    monkeypatch.setattr(page, "folder", lambda: tmp_path)
    return tmp_path


def rendered(more=PHONE, credentials=HA1, **profile):
    made = services.file_set(
        site(more),
        "sip1",
        versions=site(more).versions,
        credentials=credentials,
        profile=HostProfile(**profile),
    )
    return {file.path: file for file in made.files}


def wanted(more=PHONE, credentials=HA1):
    return desired(site(more), "sip1", recorded("sid-applied"), credentials, Material())


def configuration(more=PHONE):
    return rendered(more)[nginx.CONFIGURATION].content.decode()


# Files.


def test_a_host_without_the_page_has_nothing_of_it():
    made = rendered("")
    assert not [path for path in made if "phone" in path or "nginx" in path]
    assert b"nginx" not in b"".join(file.content for file in made.values())


def test_the_host_gets_the_page_and_not_the_one_of_two_phones():
    names = {path.rpartition("/")[2] for path in rendered() if path.startswith(nginx.PAGE)}
    assert names == {"index.html", "phone.js", "icon-192.png", "config.json"}


def test_a_binary_file_is_no_text_to_lint(built):
    assert (
        f"{nginx.PAGE}/icon-192.png"
        not in services.render.FileSet(tuple(rendered().values())).text()
    )
    assert (built / "icon-192.png").read_bytes() == rendered()[
        f"{nginx.PAGE}/icon-192.png"
    ].content


def test_the_configuration_has_every_field_and_one_port():
    shown = configuration()
    assert "listen 0.0.0.0:443 ssl;" in shown
    for name, value in page.headers(site(PHONE), is_local=False).items():
        assert f'add_header {name} "{value}" always;' in shown


def test_the_policy_allows_no_frame_and_no_inline_script():
    fields = page.headers(site(PHONE), is_local=False)
    policy = fields["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy
    assert "frame-src 'none'" in policy
    assert "unsafe" not in policy
    assert "microphone=(self)" in fields["Permissions-Policy"]
    assert fields["X-Content-Type-Options"] == "nosniff"
    assert fields["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(("provider", "is_sent"), [("self-signed", False), ("letsencrypt", True)])
def test_browsers_insist_on_https_only_with_a_certificate_that_they_trust(provider, is_sent):
    given = site(PHONE)
    changed = given.model_copy(update={"tls": given.tls.model_copy(update={"provider": provider})})
    fields = page.headers(changed, is_local=False)
    assert ("Strict-Transport-Security" in fields) is is_sent
    assert "Strict-Transport-Security" not in page.headers(changed, is_local=True)


@pytest.mark.parametrize("wrong", ['a"b', "a$b", "a\\b", "a\nb"])
def test_a_string_of_nginx_ends_where_it_should(wrong):
    with pytest.raises(UnquotableError):
        nginx_string(wrong)


def test_the_certificate_is_read_and_nothing_else_of_kamailio():
    unit = rendered()[nginx.UNIT_PATH].content.decode()
    assert "TemporaryFileSystem=/etc/kamailio:ro\nBindReadOnlyPaths=/etc/kamailio/tls\n" in unit
    assert "DynamicUser=yes" in unit
    assert "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\n" in unit
    high = rendered("phone: {port: 8444}\n")[nginx.UNIT_PATH].content.decode()
    assert "CAP_NET_BIND_SERVICE" not in high


def test_the_page_gets_the_relay_without_a_credential():
    config = rendered(f"{PHONE}turn: {{}}\n")[f"{nginx.PAGE}/config.json"].content.decode()
    assert '"turns:sip.example.test:5349?transport=tcp"' in config
    assert '"is_local": false' in config
    assert '"relay": []' in rendered()[f"{nginx.PAGE}/config.json"].content.decode()


# Who reads the contacts.


def test_a_user_reads_the_contacts_with_the_key_that_the_page_derives():
    lines = rendered()[nginx.USERS].content.decode().splitlines()
    key = page.derived_key(HA1["1001"], "contacts")
    digest = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    assert lines[0] == f"1001:{{SHA}}{digest}"
    assert [line.partition(":")[0] for line in lines] == ["1001", "1002"]
    assert key not in "".join(lines)
    assert HA1["1001"] not in "".join(lines)


def test_the_file_of_keys_is_for_nginx_alone_and_never_shown():
    file = rendered()[nginx.USERS]
    assert (file.mode, file.owner, file.sensitive) == (0o640, "root:kamailio", True)
    before, after = wanted(), wanted(credentials={**HA1, "1002": "3" * 32})
    found = plan(after, as_is(before))
    present = Present(current={f.path: f.content for f in before.files})
    shown = text.as_text("sip1", found, present, diffs=True)
    assert "+1002:{SHA}[hidden]" in shown
    for credentials in (HA1, {"1002": "3" * 32}):
        for line in nginx.passwords(credentials).decode().splitlines():
            assert line.partition("}")[2] not in shown


def test_the_contacts_are_outside_the_page():
    """A location guards one path; a page below `root` could be reached by another one."""
    made = rendered()
    assert not [path for path in made if path.startswith(nginx.PAGE) and "contacts" in path]
    assert made[nginx.CONTACTS].mode == 0o640
    guarded = configuration().split("location = /contacts.json {")[1].split("}")[0]
    assert "auth_basic_user_file /etc/sipdeploy/phone/users;" in guarded
    assert "root /etc/sipdeploy/phone;" in guarded
    assert "limit_req zone=number burst=20 nodelay;" in guarded


def test_a_removed_user_is_out_at_once_and_nothing_restarts():
    before, after = wanted(), wanted(credentials={"1001": HA1["1001"]})
    found = plan(after, as_is(before))
    assert found.is_only_data
    assert nginx.UNIT not in actions(found)
    assert nginx.USERS in {change.path for change in found.changes}


def test_a_rollback_keeps_the_users_of_today():
    then, today = wanted(), wanted(credentials={**HA1, "1002": "3" * 32})
    kept = keep_users(then, today, site(PHONE), "sip1", recorded("sid-applied"))
    files = {file.path: file.content for file in kept.files}
    assert files[nginx.USERS] == nginx.passwords({**HA1, "1002": "3" * 32})


# Ports.


@pytest.mark.parametrize(
    ("more", "codes"),
    [
        ("phone: {}\n", []),
        ("phone:\n", []),
        ("phone: {port: 443}\nturn: {tls: 443}\n", ["SD213"]),
        ("phone: {port: 8444}\nturn: {tls: 443}\n", []),
        ("phone: {port: 8443}\n", ["SD213"]),
        ("phone: {port: 80}\n", ["SD213"]),
        ("phone: {port: 10000}\n", ["SD214"]),
        ("phone: {port: 6000}\n", ["SD722"]),
        ("ports: {wss: 6000}\n", ["SD722"]),
        ("phone: {prot: 1}\n", ["SD201"]),
    ],
)
def test_ports_that_clash_are_refused(more, codes):
    assert load(more)[1] == codes


def test_the_advice_for_the_port_is_one_that_browsers_accept():
    from test_relay import SMALL  # noqa: PLC0415

    from sipdeploy.inventory.site import load_site  # noqa: PLC0415

    (problem,) = load_site(f"{SMALL}turn: {{tls: 443}}\nphone: {{}}\n", "x")[1]
    assert problem.message == "`phone.port` is 443, which `turn.tls` uses"
    assert problem.help == "write another port, such as `port: 8444`"


def test_the_firewall_opens_the_port():
    rules = rendered()["/etc/sipdeploy/firewall.nft"].content.decode()
    assert "tcp dport 443 counter accept" in rules
    ufw = rendered(firewall=Firewall(kind="ufw"))["/etc/sipdeploy/ufw.sh"].content.decode()
    assert "rules='8443/tcp 10000:20000/udp 443/tcp'" in ufw


def test_the_preflight_names_a_closed_port():
    closed = {"iptables": "*filter\n:INPUT DROP [0:0]\nCOMMIT\n"}
    known = dataclasses.replace(recorded("sid-applied"), nftables="", iptables=closed)
    (problem,) = (
        p for p in preflight.problems(site(PHONE), "sip1", known) if "web phone" in p.message
    )
    assert "TCP port 443 (the web phone)" in problem.message


def test_the_page_may_open_the_websocket():
    shown = rendered(f"{PHONE}{ORIGINS}")["/etc/kamailio/kamailio.cfg"].content.decode()
    assert "^(https://phone[.]example[.]com|https://sip[.]example[.]test)$" in shown
    assert "hdr(Origin) =~" not in rendered()["/etc/kamailio/kamailio.cfg"].content.decode()
    other = rendered(f"phone: {{port: 8444}}\n{ORIGINS}")["/etc/kamailio/kamailio.cfg"]
    assert b"|https://sip[.]example[.]test:8444)$" in other.content


# Before an apply.


def test_without_a_built_page_nothing_is_applied(monkeypatch, tmp_path):
    monkeypatch.setattr(page, "folder", lambda: None)
    for act in (
        lambda: site_goal(site(PHONE), HA1, tmp_path),
        lambda: tree.render_hosts(site(PHONE), ["sip1"], credentials=HA1),
    ):
        with pytest.raises(InvalidFiles) as failure:
            act()
        (problem,) = failure.value.diagnostics
        assert problem.code == "SD720"
        assert "or delete `phone`" in problem.help
    assert tree.render_hosts(site(""), ["sip1"], credentials=HA1)


MINE = Socket(proto="tcp", address="*", port=443, program="nginx", pid=77)
RUNNING = {nginx.UNIT: Unit(active="active", is_enabled=True, needs_daemon_reload=False)}


@pytest.mark.parametrize(
    ("program", "units", "codes"),
    [
        ("nginx", {}, ["SD560"]),
        ("apache2", {}, ["SD560"]),
        ("apache2", RUNNING, ["SD560"]),
        ("nginx", RUNNING, []),
    ],
)
def test_another_web_server_is_told_from_the_own_one(program, units, codes):
    taken = dataclasses.replace(MINE, program=program)
    base = facts()
    known = facts(sockets=(*base.sockets, taken), units={**base.units, **units})
    found = [p for p in told(known, more=PHONE) if p.code in ("SD514", "SD560")]
    assert [problem.code for problem in found] == codes
    for problem in found:
        assert f"`{program}` (pid 77) on `sip1` already listens on port 443" in problem.message
        assert problem.help == "write `phone: {port: 8444}`, or stop the program"


def test_a_free_port_is_proposed():
    base = facts()
    more = dataclasses.replace(MINE, port=8444)
    known = facts(sockets=(*base.sockets, MINE, more))
    (problem,) = (p for p in told(known, more=PHONE) if p.code == "SD560")
    assert "`phone: {port: 8445}`" in problem.help


@pytest.mark.parametrize(("installed", "idle"), [({}, True), ({"nginx": "1"}, False)])
def test_the_server_of_a_new_package_stays_off(installed, idle):
    made = wanted()
    base = as_is(wanted(""))
    known = dataclasses.replace(base, installed={**base.installed, **installed})
    step = steps._install_packages(SimpleNamespace(plan=plan(made, known)))  # noqa: SLF001
    assert (nginx.IDLE_UNIT in step.disabled_units) is idle
    assert nginx.UNIT in step.disabled_units


# Plans.


def test_an_unchanged_host_needs_nothing():
    made = wanted()
    assert plan(made, as_is(made)).lines() == ()


def test_a_new_certificate_is_read_without_a_restart():
    made = wanted()
    found = plan(made, as_is(made), now() + 10 * 365 * 86400)
    assert actions(found) == {"kamailio.service": "reload", nginx.UNIT: "reload"}
    assert found.reloads[-1] == nginx.RELOAD


def test_certbot_s_hook_reloads_it_and_compares_the_fingerprint():
    given = "tls: {provider: letsencrypt}\n"
    from sipdeploy.inventory.site import load_site  # noqa: PLC0415

    inventory = (
        "domain: sip.example.com\nemail: a@b.example\nhosts: {sip1: {address: 203.0.113.1}}\n"
        f"users: {{}}\n{given}{PHONE}"
    )
    found, problems, _ = load_site(inventory, "x")
    assert found, problems
    made = services.file_set(found, "sip1", versions=found.versions, credentials={})
    script = next(f for f in made.files if f.path.endswith("/certificate.sh")).content.decode()
    assert f"systemctl is-active -q {nginx.UNIT}" in script
    assert f'readers="$readers {nginx.UNIT}" ports="$ports 127.0.0.1:443"' in script


def test_a_restart_interrupts_nobody():
    before, after = wanted(), wanted("phone: {port: 8444}\n")
    found = plan(after, as_is(before))
    assert actions(found)[nginx.UNIT] == "restart"
    assert "restart sipdeploy-nginx (no interruption)" in [*text.costs(found, Present())]


def test_a_site_without_the_page_any_more_stops_it():
    before, after = wanted(), wanted("")
    found = plan(after, as_is(before))
    assert actions(found)[nginx.UNIT] == "stop"
    deleted = {change.path for change in found.changes if change.kind == "delete"}
    assert {nginx.CONFIGURATION, nginx.USERS, nginx.CONTACTS, nginx.UNIT_PATH} <= deleted


def test_a_built_script_is_not_shown_as_a_difference(built):
    before = wanted()
    (built / "phone.js").write_text("x" * 5000)
    (built / "icon-192.png").write_bytes(b"\0other")
    found = plan(wanted(), as_is(before))
    present = Present(current={f.path: f.content for f in before.files})
    shown = text.as_text("sip1", found, present, diffs=True)
    assert f"~ {nginx.PAGE}/phone.js" in shown
    assert "xxx" not in shown
    assert "PNG" not in shown


def test_the_host_asks_for_the_page():
    made = wanted()
    raw = archive(plan(made, as_is(wanted(""))), (), b"{}")
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        rows = tar.extractfile("probes").read().decode().splitlines()
    (row,) = (row for row in rows if row.startswith("https\t"))
    assert row.split("\t")[:4] == ["https", "127.0.0.1", "443", "sip.example.test"]


def test_a_page_that_is_not_served_is_told_with_its_log():
    left = "https\t127.0.0.1\t443\tsip.example.test\t/x.crt\tdoes not serve the page\n"
    (problem,) = verify.problems("sip1", {"left": left}, 5)
    assert problem.message == "https://127.0.0.1:443 does not serve the page on `sip1` within 5 s"
    assert "journalctl -b -u sipdeploy-nginx" in problem.help


def test_an_error_of_nginx_has_its_place():
    output = (
        'nginx: [emerg] unknown directive "sevrer" in /etc/sipdeploy/phone/nginx.conf:58\n'
        "nginx: configuration file /etc/sipdeploy/phone/nginx.conf test failed\n"
    )
    (complaint,) = nginx.parse_check(output)
    assert (complaint.path, complaint.line) == (nginx.CONFIGURATION, 58)
    assert complaint.text == 'unknown directive "sevrer"'


# After an apply, from outside.


def proof(**statuses):
    results = tuple(
        StepResult(name=PAGE if name == "page" else name, status=status)
        for name, status in statuses.items()
    )
    return Proof(host="sip1", level="quick", results=results)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (proof(TCP="ok", page="failed"), proof(TCP="ok", page="failed"), "unreachable"),
        (proof(TCP="ok", page="ok"), proof(TCP="ok", page="failed"), "undo"),
        (proof(TCP="failed"), proof(TCP="failed", page="failed"), "undo"),
    ],
)
def test_a_closed_port_of_the_page_takes_no_apply_back(before, after, verdict):
    """The provider's firewall is often opened afterwards, and phones work without the page."""
    assert judge(before, after, is_first=False, is_suspect=True) == verdict


def test_what_browsers_cannot_do_is_said():
    message = unreachable("sip1", proof(TCP="ok", page="failed")).message
    assert "browsers cannot open the web phone from here" in message


@pytest.mark.parametrize("unit", ["coturn", "sipdeploy-nginx", "kamailio"])
def test_a_backup_has_the_administrator_s_settings_of_a_unit(unit):
    kind = known.kind_of(f"/etc/systemd/system/{unit}.service.d/mine.conf")
    assert kind
    assert kind.name == known.LOCAL
    assert known.kind_of(f"/etc/systemd/system/{unit}.service.d/sipdeploy.conf") is None
