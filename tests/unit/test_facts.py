import dataclasses
import re
import subprocess

import pytest
from fakes import FakeHost
from hosts_facts import FOLDER, recorded

from sipdeploy import facts
from sipdeploy import host as hosts
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.facts import Facts, Query, Socket
from sipdeploy.host import Result, script_text
from sipdeploy.host.local import LocalHost

QUERY = Query(
    domain="localhost",
    packages={"other": ("bash", "no-such-package")},
    units=("ssh.service",),
    trees=("/etc/ssh",),
    directories=("/etc",),
    state="/no/such/state",
)


def test_a_bare_host():
    found = recorded("bookworm-bare")
    assert (found.os_id, found.os_version, found.codename) == ("debian", "12", "bookworm")
    assert found.has_systemd
    assert found.installed.keys() <= {"openssl"}
    assert "asterisk" not in found.candidates
    assert found.certificate is None
    assert (found.files, found.managed, found.serial, found.lock_owner) == ({}, {}, "", "")
    assert not found.has_abandoned_run
    assert not found.units["kamailio.service"].is_active
    assert found.skew_seconds == 0


def test_the_script_prints_what_the_facts_read():
    pattern = r'^[^#\n]*?\bsection ([\w-]+)|%s (\w+)\\n" "\$token"'
    matches = re.findall(pattern, script_text("facts").decode(), re.MULTILINE)
    printed = {name for match in matches for name in match if name}
    read = {name for each in dataclasses.fields(Facts) for name in each.metadata["sections"]}
    assert printed - {"end"} == read - {"now"}
    assert set(facts.OPTIONAL) < printed


@pytest.mark.parametrize("section", ["clock", "os", "room", "key"])
def test_a_missing_section_is_told(section):
    text = (FOLDER / "sid-applied.txt").read_text().replace(f"\x1e{section}\n", "\x1eother\n")
    host = FakeHost(answers={"facts": Result(status=0, stdout=text.encode())})
    with pytest.raises(HostFailed) as failed:
        facts.read(host, QUERY)
    assert failed.value.diagnostics[0].notes == (f"KeyError: '{section}'",)


def test_a_host_after_apply():
    key_path = "/etc/kamailio/kamailio.cfg"
    found = recorded("sid-applied")
    assert found.version("kamailio").startswith("6.1.5")
    assert facts.upstream(found.version("asterisk")).startswith("22.10")
    unit = found.units["kamailio.service"]
    assert (unit.is_active, unit.is_enabled, unit.needs_daemon_reload) == (True, True, False)
    key = found.files["/etc/kamailio/tls/server.key"]
    assert (key.mode, key.owner, len(key.digest)) == (0o640, "root:kamailio", 64)
    assert found.directories["/etc/kamailio/tls"].mode == 0o750
    assert found.managed["/etc/asterisk/pjsip.conf"].service == "asterisk"
    assert found.managed[key_path].digest == found.files[key_path].digest
    assert (found.release, found.outcome, found.has_timer) == (1, None, False)
    assert (found.has_firewall_table, found.ssh_ports) == (True, (22,))
    assert set(found.addresses) <= set(found.interfaces)
    assert found.certificate.key_matches
    assert found.certificate.covers("sip.example.test")
    assert not found.certificate.covers("example.test")
    wss = next(socket for socket in found.sockets if socket.port == 8443)
    assert (wss.proto, wss.address, wss.program) == ("tcp", "*", "kamailio")
    assert found.domain_addresses is None


@pytest.mark.parametrize("state", ["masked", "masked-runtime"])
def test_a_masked_unit(state):
    found = facts.parse_units(f"Id=a.service\nActiveState=inactive\nUnitFileState={state}\n")
    assert found["a.service"].is_masked
    assert not facts.parse_units("Id=a.service\nUnitFileState=disabled\n")["a.service"].is_masked


@pytest.mark.parametrize(
    ("line", "socket"),
    [
        (
            'tcp LISTEN 0 128 [::]:22 [::]:* users:(("sshd",pid=9,fd=7))',
            Socket(proto="tcp", address="*", port=22, program="sshd", pid=9),
        ),
        (
            "udp UNCONN 0 0 10.0.0.1%eth0:68 0.0.0.0:*",
            Socket(proto="udp", address="10.0.0.1", port=68),
        ),
        (
            'udp UNCONN 0 0 [fe80::1]%eth0:5060 [::]:* users:(("a b",pid=9,fd=7))',
            Socket(proto="udp", address="fe80::1", port=5060, program="a b", pid=9),
        ),
    ],
)
def test_sockets(line, socket):
    found = facts.parse_sockets(line)
    assert (found[0].proto, found[0].port, found[0].program) == (
        socket.proto,
        socket.port,
        socket.program,
    )
    assert found[0].address.strip("]") == socket.address


@pytest.mark.parametrize(
    ("debian", "upstream"),
    [
        ("6.1.5-1+b2", "6.1.5"),
        ("1:22.10.1~dfsg+~cs6.15.60671435-1", "22.10.1"),
        ("1:16.28.0~dfsg-0+deb11u4", "16.28.0"),
        ("5.6.3-2", "5.6.3"),
        ("", "0"),
    ],
)
def test_upstream_versions(debian, upstream):
    assert facts.upstream(debian) == upstream


def test_the_script_runs_on_this_machine():
    found = facts.read(LocalHost("here"), QUERY)
    assert found.installed.keys() == {"bash"}
    assert found.domain_addresses
    assert abs(found.skew_seconds) < 30
    assert found.memory_bytes > 0
    assert found.free_bytes.keys() == {"/", "/var", "/etc"}


def test_a_certificate_is_read_with_its_key(monkeypatch, tmp_path):
    pair = (tmp_path / "server.crt", tmp_path / "server.key")
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    new += ["-nodes", "-subj", "/CN=a", "-out", str(pair[0]), "-keyout", str(pair[1])]
    subprocess.run(new, check=True, capture_output=True)
    monkeypatch.setattr(facts.certificates, "PATH", str(pair[0]))
    monkeypatch.setattr(facts.certificates, "KEY_PATH", str(pair[1]))
    local = LocalHost("here")
    local._prefix = ()  # noqa: SLF001 - the account of the tests can read them
    assert facts.read(local, QUERY).certificate.key_matches


@pytest.mark.parametrize(
    ("bits", "status", "denied"),
    [
        ("000001ffffffffff", 0, ()),
        ("000001ffffffffff", 127, ()),  # nft is not installed yet
        ("000001ffffffffff", 1, ("nft",)),
        ("000001ffffffefff", 127, ("nft",)),
        ("00000000a80425fb", 0, ("nft",)),  # Docker's default
    ],
)
def test_nft_needs_the_capability_and_must_not_be_refused(
    monkeypatch, tmp_path, bits, status, denied
):
    (tmp_path / "status").write_text(f"Name:\tsh\nCapInh:\t0\nCapEff:\t{bits}\nSeccomp:\t0\n")
    (tmp_path / "nft").write_text(f"#!/bin/sh\nexit {status}\n")
    (tmp_path / "nft").chmod(0o755)
    original = hosts.script_text

    def text(name):
        own = original(name).replace(b"/proc/self/status", str(tmp_path / "status").encode())
        return own.replace(b"exec </dev/null", f"PATH={tmp_path}:$PATH\nexec </dev/null".encode())

    monkeypatch.setattr(hosts, "script_text", text)
    assert facts.read(LocalHost("here"), QUERY).denied == denied


def test_a_host_that_answers_nonsense_is_told():
    host = FakeHost(answers={"facts": Result(status=1, stdout=b"This account is not available\n")})
    with pytest.raises(HostFailed) as failed:
        facts.read(host, QUERY)
    assert failed.value.diagnostics[0].code == "SD509"
    assert "not available" in failed.value.diagnostics[0].notes[0]


@pytest.mark.parametrize(("text", "flag"), [("yes\n", True), ("", False), (" \n\n", False)])
def test_a_flag_is_text_and_not_white_space(text, flag):
    assert facts.parse_flag(text) is flag


def test_a_file_whose_name_has_a_line_break_is_passed_over():
    text = (
        "640 root:kamailio /etc/kamailio/a\n640 root:root /etc/kamailio/b\nc d e\n\n9 9 x\nend\n"
    )
    found = facts.parse_modes(text)
    assert found.keys() == {"/etc/kamailio/a", "/etc/kamailio/b"}


def test_the_room_of_a_host_is_that_of_its_unit():
    assert (
        facts.parse_room("# Managed by x; Room for 8192 users; memory and files for 512") == 8192
    )
    assert facts.parse_room("# Managed by sipdeploy.") == 0
