"""Guards in rendered files: ports of Asterisk, its trusted peers, and loopback."""

import re

import pytest

from sipdeploy.inventory.site import Versions, load_site
from sipdeploy.services import asterisk, file_set, firewall, user_database
from sipdeploy.services.service import Firewall, HostProfile

MODES = ("kamailio", "asterisk")
VERSIONS = Versions.model_construct(kamailio="6.1.5", asterisk="22.10.1")


def site(more="", users="{1001: {voicemail: yes}, 1002: }"):
    text = f"""\
domain: sip.example.com
email: ops@example.com
hosts: {{sip1: {{address: 203.0.113.10}}}}
users: {users}
{more}
"""
    found, problems, _ = load_site(text, "inventory.yaml")
    assert found, problems
    return found


def rendered(more="", kind="nftables", **options):
    made = site(more, **options)
    hashes = {number: number.rjust(32, "a") for number in made.users}
    profile = HostProfile(firewall=Firewall(kind=kind))
    return file_set(made, "sip1", versions=VERSIONS, credentials=hashes, profile=profile).text()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("template", ["webrtc", "user"])
def test_an_endpoint_hears_nobody_but_kamailio(mode, template):
    files = rendered(f"authentication: {mode}")
    settings = user_database.settings(files["/etc/asterisk/pjsip.conf"] + "\n", template)
    assert (settings["deny"], settings["permit"]) == ("0.0.0.0/0.0.0.0", "127.0.0.1/32")


def test_users_of_a_database_hear_nobody_else_either():
    many = "{" + ", ".join(f"{n}: " for n in range(10000, 13001)) + "}"
    made = site(users=many)
    values = dict.fromkeys(made.users, "a" * 32)
    tree = file_set(made, "sip1", versions=VERSIONS, credentials=values)
    (database,) = (file.content for file in tree.files if file.path == asterisk.DATABASE)
    assert b"'0.0.0.0/0.0.0.0' AS deny" in database
    assert b"'127.0.0.1/32' AS permit" in database


def test_the_trunk_is_known_by_address_and_users_by_name():
    text = rendered()["/etc/asterisk/pjsip.conf"]
    assert re.search(r"\[trunk\]\(webrtc\)\n(;.*\n)?identify_by=ip\n", text)
    assert "[user](!,webrtc)\nidentify_by=username\n" in text
    assert "match=127.0.0.1:5062\n" in text


@pytest.mark.parametrize("mode", MODES)
def test_the_endpoint_of_the_digest_is_nobody(mode):
    """No name, address or password leads to it, and no call."""
    files = rendered(f"authentication: {mode}")
    text = files["/etc/asterisk/pjsip.conf"] + files["/etc/asterisk/pjsip_users.conf"]
    (own,) = re.findall(r"^\[loaded\]\n((?:(?!\[).*\n)+)", text, re.MULTILINE)
    assert "type=endpoint\nidentify_by=ip\ndeny=0.0.0.0/0.0.0.0\n" in own
    assert not re.search(r"^(aors|auth|context|permit|transport)=", own, re.MULTILINE)
    assert "endpoint=loaded" not in text
    dialplan = files["/etc/asterisk/extensions.conf"]
    assert not re.search(r"loaded[,|&]|[,(]loaded", dialplan)


@pytest.mark.parametrize("rtp", ["10000-20000", "30000-30101"])
def test_asterisk_sends_media_from_ports_that_the_firewall_opens(rtp):
    files = rendered(f"ports: {{rtp: {rtp}}}")
    ports = re.findall(r"^rtp(?:start|end)=(\d+)$", files["/etc/asterisk/rtp.conf"], re.MULTILINE)
    assert "-".join(ports) == rtp
    assert f"udp dport {rtp} counter accept" in files[firewall.NFTABLES]


@pytest.mark.parametrize("name", ["manager", "http"])
def test_no_other_door_of_asterisk_is_open(name):
    lines = rendered()[f"/etc/asterisk/{name}.conf"].splitlines()
    assert "enabled=no" in lines
    assert not [line for line in lines if line.endswith("=yes")]


@pytest.mark.parametrize("kind", ["nftables", "ufw"])
def test_loopback_is_for_both_daemons_alone(kind):
    files = rendered("ports: {asterisk: 5160, kamailio: 5162, registrar: 5163}", kind=kind)
    rules = files[firewall.NFTABLES if kind == "nftables" else firewall.LOOPBACK_RULES]
    for rule in (
        "udp dport 5160 meta skuid != kamailio counter drop",
        "udp sport 5160 meta skuid != asterisk counter drop",
        "udp dport { 5162,5163 } meta skuid != asterisk counter drop",
        "udp sport { 5162,5163 } meta skuid != kamailio counter drop",
    ):
        assert f"\t\toif lo {rule}\n" in rules
    assert "nft" in files[firewall.UNIT_PATH]
    assert "nftables" in firewall.packages(site(f"firewall: {kind}"), "debian", "sid")


def test_a_loopback_without_its_table_is_mended_with_ufw_too():
    paths = (firewall.LOOPBACK_RULES,)
    assert [check.script for check in firewall.checks(paths)] == ["check_firewall"]


def test_a_caller_opens_its_own_box():
    text = rendered()["/etc/asterisk/extensions.conf"]
    assert "Set(BOX=${FILTER(0-9,${CALLERID(num)})})" in text
    assert re.findall(r"VoiceMailMain\((.*)\)", text) == ["${BOX}@default,s"]


@pytest.mark.parametrize(
    ("more", "calls"),
    [
        ("", 256),
        ("limits: {calls: 20}", 20),
        ("ports: {rtp: 10000-10099}", 50),
        ("limits: {connections: 100000}", 256),
    ],
)
def test_calls_and_memory_of_asterisk_are_bounded(more, calls):
    files = rendered(more)
    assert f"\nmaxcalls={calls}\n" in files["/etc/asterisk/asterisk.conf"]
    unit = files["/etc/systemd/system/asterisk.service.d/sipdeploy.conf"]
    (memory,) = re.findall(r"^MemoryMax=(\d+)M$", unit, re.MULTILINE)
    assert int(memory) >= asterisk.BASE_MIB + calls * asterisk.MIB_PER_CALL


def test_root_writes_nothing_below_a_folder_of_asterisks():
    """A compromised Asterisk could put a link there that redirects root."""
    many = "{" + ", ".join(f"{n}: " for n in range(10000, 13001)) + "}"
    unit = rendered(users=many)["/etc/systemd/system/asterisk.service.d/sipdeploy.conf"]
    as_root = re.findall(r"^Exec\w+=-?\+(.*)$", unit, re.MULTILINE)
    assert len(as_root) == 5
    for command in (*as_root, " ".join(asterisk.USERS)):
        assert not re.search(r"/(var|run)/(lib/|spool/|log/|cache/)?asterisk\b", command)


def test_what_nothing_uses_is_not_loaded():
    modules = rendered()["/etc/asterisk/modules.conf"]
    assert "autoload=no" in modules
    for name in (*asterisk.SPARE_MODULES, *asterisk.REGISTRAR_MODULES):
        assert f"load={name}.so" not in modules
    assert (
        "load=res_pjsip_registrar.so"
        in rendered("authentication: asterisk")["/etc/asterisk/modules.conf"]
    )
