"""The rights of the daemons on their host, their open ports, and their limits in a flood."""

import asyncio
import re
import socket
import textwrap
import time

import pytest
from system import DOMAIN, within

from sipdeploy.sip.dialog import Sdp

pytestmark = pytest.mark.lab

MOST_EXPOSURE = 3.0
CALLS = 256  # the smallest size, see sipdeploy/services/asterisk.py
SERVICES = ("asterisk", "kamailio")


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 90))


def main_pid(system, service):
    return system.run(f"systemctl show -p MainPID --value {service}").strip()


@pytest.mark.parametrize("service", SERVICES)
def test_a_daemon_is_confined(system, service, record_property):
    told = system.run(f"systemd-analyze security --no-pager {service}")
    exposure = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", told)[1])
    record_property("figure", f"{service}: exposure {exposure}")
    assert exposure < MOST_EXPOSURE


@pytest.mark.parametrize("service", SERVICES)
def test_a_daemon_runs_as_itself_without_privileges(system, service):
    status = system.run(f"cat /proc/{main_pid(system, service)}/status")
    account = system.run(f"id -u {service}").strip()
    fields = dict(re.findall(r"^(\w+):\s+(.*)$", status, re.MULTILINE))
    assert fields["Uid"].split() == [account] * 4
    assert {int(fields[f"Cap{kind}"], 16) for kind in ("Eff", "Prm", "Bnd", "Amb")} == {0}
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


@pytest.mark.parametrize("service", SERVICES)
def test_a_daemon_writes_nowhere_but_in_its_own_folders(system, service):
    enter = f"nsenter --target={main_pid(system, service)} --mount -- runuser -u {service} --"
    for folder in ("/etc/asterisk", "/etc/kamailio", "/usr/local/bin", "/var/lib/sipdeploy"):
        assert system.host.run(f"{enter} test -w {folder}").returncode != 0
    own = {"asterisk": "/var/spool/asterisk/voicemail", "kamailio": "/run/kamailio"}[service]
    assert system.host.run(f"{enter} test -w {own}").returncode == 0


@pytest.mark.parametrize("folder", ["/var/log/asterisk", "/var/lib/asterisk", "/run/asterisk"])
def test_other_accounts_read_nothing_of_asterisk(system, folder):
    assert system.host.run(f"ls {folder}").returncode == 0
    assert system.host.run(f"runuser -u nobody -- ls {folder}").returncode != 0


def sockets(system):
    """Return protocol, address and port of each listening socket of Asterisk."""
    rows = system.run("ss -Htulnp").splitlines()
    places = (
        (row.split()[0], *row.split()[4].rsplit(":", 1)) for row in rows if '"asterisk"' in row
    )
    return sorted((protocol, address.strip("[]"), int(port)) for protocol, address, port in places)


def test_asterisk_hears_sip_and_what_its_resolver_opens(system):
    """There is no manager, HTTP or other port."""
    heard = sockets(system)
    assert ("udp", "127.0.0.1", 5060) in heard
    others = [row for row in heard if row != ("udp", "127.0.0.1", 5060)]
    assert {protocol for protocol, _, _ in others} <= {"udp"}
    assert len(others) == 2, others
    assert "Manager (AMI):             No" in system.run("asterisk -rx 'manager show settings'")


@pytest.mark.parametrize("again", [False, True])
def test_the_sockets_of_the_resolver_are_shut_from_outside(system, again):
    if again:
        system.host.run("systemctl restart asterisk", check=True)
    ports = [port for _, address, port in sockets(system) if address == "0.0.0.0"]
    assert len(ports) == 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for _ in range(3):
            stranger.sendto(bytes(12), (system.address, ports[0]))
    time.sleep(0.3)
    rule = system.run("nft list table inet sipdeploy_asterisk")
    assert re.search(rf"udp dport .*\b{ports[0]}\b.* counter packets 3 ", rule)


# --- limits --------------------------------------------------------------------------------------


def test_asterisk_takes_no_more_calls_than_there_is_room_for(system):
    call = "channel originate Local/6002@services application Wait 60"
    told = system.run(
        f"for i in $(seq {CALLS + 20}); do echo 'asterisk -rx \"{call}\"'; done | sh 2>&1;"
        " asterisk -rx 'core show channels count'; systemctl restart asterisk"
    )
    assert f"{CALLS} of {CALLS} max active calls" in told
    assert "MemoryMax=infinity" not in system.run("systemctl show -p MemoryMax asterisk kamailio")


def test_the_log_of_asterisk_is_the_journal(system):
    """The journal has its own limits, so a flood fills no file."""
    before = system.run("du -sb /var/log/asterisk")
    system.run("asterisk -rx 'core set debug 0'; asterisk -rx 'module load no_such_module.so'")
    last = "journalctl -q -u asterisk -n 20 -o cat"
    assert within(10, lambda: "no_such_module" in system.run(last))
    assert system.run("du -sb /var/log/asterisk") == before
    limits = system.run("systemctl show -p LogRateLimitBurst asterisk")
    assert limits.strip() == "LogRateLimitBurst=1000"


def offer(address, count):
    lines = []
    for line in str(Sdp()).split("\r\n"):
        if not line.startswith("a=candidate"):
            lines.append(line)
            continue
        lines += [
            f"a=candidate:{i} 1 udp {2113937151 - i} {address} {20001 + i} typ host generation 0"
            for i in range(count)
        ]
    return "\r\n".join(lines)


def test_an_address_that_stays_silent_gets_little(system, lab, record_property):
    """The caller chooses the candidates, and must not make Asterisk flood a third party."""
    hook = "type filter hook output priority {}; policy accept; oif != lo udp sport 10000-20000"
    asked, sent = (
        f"chain {name} {{ {hook.format(at)} counter; }}" for name, at in (("a", -10), ("b", 10))
    )
    system.host.run(["nft", f"table inet measure {{ {asked}; {sent}; }}"], check=True)
    began = time.monotonic()

    async def scenario():
        async with system.phone("1001") as phone:
            await phone.connect()
            assert (await phone.register()).status == 200
            calls = [await phone.invite("6002", sdp=offer(lab.address, 20)) for _ in range(4)]
            for call in calls:
                await call.answered()
                await call.ack()
            await asyncio.sleep(1.5)
            told = system.run("nft list table inet measure")
            seconds = time.monotonic() - began
            for call in calls:
                await call.bye()
            return told, seconds

    try:
        told, seconds = run(scenario())
    finally:
        system.run("nft delete table inet measure")
    tried, left = map(int, re.findall(r"counter packets (\d+)", told))
    record_property("figure", f"{tried} packets tried, {left} sent in {seconds:.1f} s")
    assert left <= 50 + 50 * seconds
    rule = system.run("nft list chain inet sipdeploy unanswered")
    assert int(re.search(r"@unanswered4 .* counter packets (\d+)", rule)[1]) > 0


# --- mailboxes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "application"), [("1002", "VoiceMailMain"), ("1001", "Playback")]
)
def test_a_caller_opens_its_own_box_and_no_other(system, number, application):
    """1002 has a mailbox, 1001 has none."""

    async def scenario():
        async with system.phone(number) as phone:
            await phone.connect()
            assert (await phone.register()).status == 200
            call = await phone.invite("6001")
            await call.answered()
            await call.ack()
            begun = time.monotonic()
            while True:
                told = system.run("asterisk -rx 'core show channels concise'")
                (row,) = told.splitlines()
                fields = row.split("!")
                if fields[5] != "Answer":  # it waits half a second for media
                    break
                assert time.monotonic() - begun < 10
                await asyncio.sleep(0.2)
            await call.bye()
            return fields

    fields = run(scenario())
    assert fields[5] == application
    if application == "VoiceMailMain":
        assert fields[6] == f"{number}@default,s"


ASK = """
    import socket
    for address in ("127.0.0.1", "127.0.0.2"):
        own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        own.bind((address, 0))
        own.settimeout(2)
        port = own.getsockname()[1]
        text = "\\r\\n".join([
            "OPTIONS sip:1001@127.0.0.1:5060 SIP/2.0",
            f"Via: SIP/2.0/UDP {address}:{port};branch=z9hG4bK{port}", "Max-Forwards: 70",
            "From: <sip:1001@DOMAIN>;tag=x", "To: <sip:1001@DOMAIN>", f"Call-ID: {port}",
            "CSeq: 1 OPTIONS", "Content-Length: 0", "", "",
        ])
        own.sendto(text.encode(), ("127.0.0.1", 5060))
        print(own.recv(4096).decode().split()[1])
"""


def test_asterisk_refuses_other_addresses(system):
    """The endpoints have their own address lists, in case the firewall is off."""
    if system.mode == "asterisk":
        pytest.skip("there everybody is asked for a password")
    script = textwrap.dedent(ASK).replace("DOMAIN", DOMAIN)
    system.host.write("/srv/addresses.py", script.encode())
    system.host.run("nft delete table inet sipdeploy", check=True)
    try:
        told = system.run("python3 /srv/addresses.py 2>&1").split()
    finally:
        system.host.run("systemctl restart sipdeploy-firewall", check=True)
    assert (told[0] != "401", told[1]) == (True, "401")
