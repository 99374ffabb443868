"""Apply on real hosts: a bare host, then no changes, then the least disruptive changes."""

import pytest
from applying import Events, codes, run_apply, site, site_on, tree, units

from sipdeploy.host.connection import connect
from sipdeploy.host.local import LocalHost
from sipdeploy.host.ssh import SSHHost

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("login")]


@pytest.fixture(scope="module")
def host(lab):
    return lab.boot("apply1")


@pytest.fixture
def calls(monkeypatch):
    """Records every exchange with a host, and every connection."""
    made = []
    run, connect = SSHHost.run, SSHHost._connect  # noqa: SLF001

    def counted(self, argv, **options):
        made.append(next((word for word in argv if word.startswith("sipdeploy-")), argv[0]))
        return run(self, argv, **options)

    def connected(self):
        made.append("connect")
        connect(self)

    monkeypatch.setattr(SSHHost, "run", counted)
    monkeypatch.setattr(SSHHost, "_connect", connected)
    return made


def test_a_bare_host_becomes_a_running_one(host):
    events = Events()
    report = run_apply(site_on(host), events)
    assert codes(report) == []
    assert report.state == "applied"
    assert "+ /etc/kamailio/kamailio.cfg (restart kamailio)" in report.changes
    assert any(title.startswith("install ") for title in events.done)
    assert "Setting up kamailio" in "\n".join(e.text for e in events if e.state == "line")
    assert host.run("systemctl is-active kamailio asterisk").stdout.split() == ["active"] * 2
    assert host.run("systemctl is-enabled kamailio asterisk").stdout.split() == ["enabled"] * 2
    assert host.run("ls /usr/sbin/policy-rc.d").returncode != 0
    assert sorted(host.run("ls /var/lib/sipdeploy").stdout.split()) == [
        "confirmed",
        "managed",
        "original",
        "original.directories",
        "original.units",
        "packages",
        "release",
        "releases",
        "restore",
        "serial",
    ]
    assert "Alice" not in host.read("/var/log/sipdeploy.log").decode()


def test_the_private_key_is_kamailios_alone(host):
    show = "stat -c '%a %U:%G' /etc/kamailio/tls/server.key /etc/kamailio/dialog-key.cfg"
    assert host.run(show).stdout.splitlines() == ["640 root:kamailio"] * 2
    purpose = "openssl verify -CAfile {0} -verify_hostname sip.example.test {0}"
    assert host.run(purpose.format("/etc/kamailio/tls/server.crt")).returncode == 0


def test_a_second_apply_is_one_exchange_and_changes_nothing(host, calls):
    before = tree(host), units(host), host.read("/var/log/sipdeploy.log")
    report = run_apply(site_on(host))
    assert (report.state, report.changes, report.diagnostics) == ("unchanged", (), ())
    assert calls == ["connect", "sipdeploy-facts"]
    assert before == (tree(host), units(host), host.read("/var/log/sipdeploy.log"))


def test_a_new_name_is_reloaded_and_restarts_nothing(host, calls):
    before = units(host)
    wanted = site_on(host, users="{1001: {name: Alicia, voicemail: yes}, 1002: {name: Bob}}")
    report = run_apply(wanted)
    assert codes(report) == []
    assert report.changes[-2:] == ("! reload asterisk.service", "! reload kamailio.service")
    assert units(host) == before
    assert calls == [
        "connect",
        *(f"sipdeploy-{name}" for name in ("facts", "stage", "swap", "confirm")),
    ]
    assert run_apply(wanted).changes == ()


def test_a_new_port_restarts_only_who_reads_it_and_is_served(host):
    wanted = site_on(host, more="ports: {wss: 9443}")
    report = run_apply(wanted)
    assert codes(report) == []
    assert "! restart kamailio.service" in report.changes
    assert ":9443" in host.run("ss -tln").stdout
    assert run_apply(wanted).changes == ()


def test_hand_edits_lost_owners_and_stopped_services_are_mended(host):
    run_apply(site_on(host))
    host.run("echo '; by hand' >> /etc/asterisk/rtp.conf; chmod 644 /etc/asterisk/pjsip.conf")
    host.run("systemctl disable --now kamailio")
    refused = run_apply(site_on(host))
    assert (refused.state, codes(refused)) == ("unchanged", ["SD526"])
    report = run_apply(site_on(host), overwrites=True)
    assert report.changes == (
        "~ /etc/asterisk/pjsip.conf (0644 root:asterisk -> 0640 root:asterisk)",
        "~ /etc/asterisk/rtp.conf (edited on the host) (restart asterisk)",
        "! restart asterisk.service",
        "! start kamailio.service",
        "! enable kamailio.service",
    )
    assert run_apply(site_on(host)).changes == ()


def test_a_file_that_the_site_has_no_more_is_removed(host):
    host.run("echo x > /etc/kamailio/old.cfg")
    host.run("printf '/etc/kamailio/old.cfg\\tkamailio\\n' >> /var/lib/sipdeploy/managed")
    report = run_apply(site_on(host))
    assert "- /etc/kamailio/old.cfg (restart kamailio)" in report.changes
    assert host.run("ls /etc/kamailio/old.cfg").returncode != 0
    assert run_apply(site_on(host)).changes == ()


def test_another_domain_gets_another_certificate_by_reload(host):
    old = host.read("/etc/kamailio/tls/server.crt")
    host.run(
        "cd /etc/kamailio/tls && openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x"
        " -days 5 -addext subjectAltName=DNS:sip.example.test -keyout server.key -out server.crt"
    )
    before = units(host)
    report = run_apply(site_on(host))
    assert report.changes[-1] == "! reload kamailio.service"
    assert units(host) == before
    assert host.read("/etc/kamailio/tls/server.crt") != old
    assert run_apply(site_on(host)).changes == ()


def test_a_login_with_sudo_does_the_same(host):
    host.add_user("ops", sudo="nopasswd")
    wanted = site({"address": host.address, "user": "ops"})
    report = run_apply(wanted)
    assert (report.state, codes(report)) == ("unchanged", [])


def test_a_jump_host_is_passed_through(host, lab, tmp_path):
    jump = (
        f"Host far\n  HostName {host.address}\n  ProxyJump {host.address},root@{host.address}:22\n"
    )
    (tmp_path / ".ssh/config").write_text(f"{jump}Include {lab.ssh_config}\n")
    wanted = site({"address": "far", "public_address": host.address})
    assert run_apply(wanted).state == "unchanged"


def test_a_proxy_command_is_run(host, lab, tmp_path):
    command = f"ssh -F {lab.ssh_config} -W %h:%p {host.address}"
    proxy = f"Host far\n  HostName {host.address}\n  ProxyCommand {command}\n"
    (tmp_path / ".ssh/config").write_text(f"{proxy}Include {lab.ssh_config}\n")
    wanted = site({"address": "far", "public_address": host.address})
    assert run_apply(wanted).state == "unchanged"


@pytest.mark.parametrize("login_name", ["root", "ops"])
def test_big_input_and_output_pass_at_once(host, login_name):
    wanted = site({"address": host.address, "user": login_name})
    connection = connect("sip1", wanted.hosts["sip1"])
    data = bytes(range(256)) * 15_000  # 3.8 MB on both outputs; the limit is 8 MiB each
    try:
        result = connection.run(["tee", "/dev/stderr"], input=data)
    finally:
        connection.close()
    assert (result.status, result.stdout == data, result.stderr == data) == (0, True, True)


def test_local_host_is_what_ssh_is(host):
    """The arguments of a command arrive unchanged on both kinds of host."""
    remote = connect("sip1", site_on(host).hosts["sip1"])
    words = ["printf", "%s|", "a b", "$HOME", "`x`", "'", '"', "\n", "*", "", "é", "-n", "!1"]
    try:
        for machine in (remote, LocalHost("here")):
            assert machine.run(words).text == "".join(f"{word}|" for word in words[2:])
            assert machine.run(["false"]).status == 1
            assert machine.run(["sh", "-c", "echo no >&2; exit 7"]).stderr == b"no\n"
            lines = []
            machine.run(["printf", "1\\n2\\n3"], on_line=lines.append)
            assert lines == ["1", "2", "3"]
    finally:
        remote.close()
