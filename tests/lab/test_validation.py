"""The host's own daemons reject a faulty candidate before anything live changes.

`kamailio -c` or a reload of Asterisk would accept each of these faults, at least in part.
"""

import dataclasses
import subprocess

import pytest
from applying import change_file, codes, live, run_apply, site, site_on, units
from system import packages_of

from sipdeploy.inventory.models import Tls
from sipdeploy.plan import desired
from sipdeploy.services import certificates

pytestmark = pytest.mark.lab
CFG = "/etc/kamailio/kamailio.cfg"


@pytest.fixture(scope="module")
def machine(lab):
    return lab.boot("validation1", packages=packages_of("sid"))


@pytest.fixture
def host(machine, login):
    """A host after an apply, and its state then."""
    del login
    report = run_apply(site_on(machine))
    assert report.exit_code == 0, told(report)
    machine.before = live(machine), units(machine)
    return machine


@pytest.fixture
def edit(monkeypatch):
    """Change the rendered text of one path, like a broken template."""

    def edits(path, change):
        change_file(monkeypatch, path.split("/")[2], path, change)

    return edits


def add(text):
    return lambda content: content + text.encode() + b"\n"


def put(old, new):
    return lambda content: content.replace(old.encode(), new.encode(), 1)


def told(report):
    lines = []
    for problem in report.diagnostics:
        lines += [str(problem.span or ""), problem.message, problem.label, *problem.notes]
    return "\n".join(lines)


KAMAILIO = {
    "a brace": (add("}"), "syntax error"),
    "a route that is not there": (add("route[X] { route(NOSUCH); }"), "NOSUCH"),
    "a table that is not there": (
        add("route[X] { $var(a) = $sht(nosuch=>x); }"),
        "there is no table nosuch",
    ),
    "an unknown function": (add("route[X] { nosuch_function(); }"), "nosuch_function"),
    "a module that is not there": (
        put('loadmodule "pv.so"', 'loadmodule "nosuch.so"\nloadmodule "pv.so"'),
        "nosuch",
    ),
    "an unknown parameter": (add('modparam("tm", "nosuch", 1)'), "nosuch"),
    "a bad pattern": (add('route[X] { if ($rU =~ "([") { exit; } }'), "(["),
    "an address of somebody else": (add("listen=udp:203.0.113.77:5099"), "203.0.113.77"),
    "no WebSocket port": (put("\nlisten=tls", "\n#listen=tls"), "tcp 0.0.0.0 port 8443"),
    "no port for Asterisk": (put("\nlisten=TRUNK", "\n#listen=TRUNK"), "does not listen on udp"),
    "TLS not enabled": (put("\nenable_tls=", "\n#enable_tls="), "8443"),
    "requests of browsers refused": (
        put("\ntcp_accept_no_cl=", "\n#tcp_accept_no_cl="),
        "does not answer on port 8443",
    ),
}


@pytest.mark.parametrize("fault", KAMAILIO)
def test_kamailio_is_not_touched(host, edit, fault):
    change, said = KAMAILIO[fault]
    edit(CFG, change)
    report = run_apply(site_on(host))
    assert set(codes(report)) == {"SD401"}, told(report)
    assert said in told(report)
    assert report.state == "unchanged"
    assert (live(host), units(host)) == host.before


ASTERISK = {
    "a bad priority": (
        "extensions.conf",
        add("[x]\nexten => 1,one,Answer()"),
        "extensions.conf:",
    ),
    "an unknown application": (
        "extensions.conf",
        add("[x]\nexten => 1,1,NoSuchThing(a)"),
        "NoSuchThing",
    ),
    "an unknown option": (
        "pjsip.conf",
        put("\n[trunk](webrtc)\n", "\n[trunk](webrtc)\nnosuch=1\n"),
        "nosuch",
    ),
    "an endpoint that cannot be": (
        "pjsip.conf",
        put("\n[trunk](webrtc)\n", "\n[trunk](webrtc)\ndtmf_mode=nosuch\n"),
        "trunk",
    ),
    "no transport": ("pjsip_transport.conf", put("type=transport", "type=nosuch"), "port 5060"),
    "a port of its own": (
        "pjsip_transport.conf",
        put("bind=127.0.0.1:5060", "bind=127.0.0.1:5099"),
        "5060",
    ),
    "a module that is not there": ("modules.conf", add("load = nosuch.so"), "nosuch"),
    "an included file that is not there": (
        "extensions.conf",
        add("#include nosuch.conf"),
        "nosuch.conf",
    ),
}


@pytest.mark.parametrize("fault", ASTERISK)
def test_asterisk_is_not_touched(host, edit, fault):
    name, change, said = ASTERISK[fault]
    edit(f"/etc/asterisk/{name}", change)
    report = run_apply(site_on(host))
    assert set(codes(report)) == {"SD401"}, told(report)
    assert said in told(report)
    assert report.state == "unchanged"
    assert (live(host), units(host)) == host.before


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("/etc/kamailio/local.cfg", "route[LOCAL_REQUEST] { nosuch(); }\n", "local.cfg:1:"),
        ("/etc/asterisk/local/extensions.conf", "[x]\nexten => 1,1,NoSuch()\n", "NoSuch"),
    ],
)
def test_what_the_administrator_wrote_is_judged_with_it(host, edit, path, text, said):
    """An apply reports errors in local files that would stop a daemon at its restart."""
    folder = path.rpartition("/")[0]
    host.run(f"mkdir -p {folder}", check=True)
    host.write(path, text.encode())
    module = CFG if "kamailio" in path else "/etc/asterisk/extensions.conf"
    mark = "# more" if "kamailio" in path else "; more"
    edit(module, add(mark))
    try:
        report = run_apply(site_on(host))
    finally:
        host.run(f"rm {path}", check=True)
    assert set(codes(report)) == {"SD401"}, told(report)
    assert f"{path.rpartition('/')[2]}" in told(report)
    assert said in told(report)
    assert units(host) == host.before[1]


def test_a_private_key_that_kamailio_may_not_read(host, monkeypatch):
    """Kamailio would run with the old key until its next restart, and then fail."""
    original = desired.generated_files

    def closed(*words):
        return tuple(
            dataclasses.replace(made, owner="root:root", mode=0o600)
            if made.path.endswith("server.key")
            else made
            for made in original(*words)
        )

    monkeypatch.setattr(desired, "generated_files", closed)
    report = run_apply(site_on(host))
    assert set(codes(report)) == {"SD401"}, told(report)
    assert (live(host), units(host)) == host.before


def make_pair(folder, name, domain):
    """Make a key and a certificate for a domain."""
    files = folder / f"{name}.crt", folder / f"{name}.key"
    name_of = f"-subj /CN=x -addext subjectAltName=DNS:{domain}"
    what = f"req -x509 -newkey rsa:2048 -nodes -days 90 {name_of}"
    argv = ["openssl", *what.split(), "-out", files[0], "-keyout", files[1]]
    subprocess.run(argv, check=True, capture_output=True)
    return files[0].read_bytes(), files[1].read_bytes()


def test_certificates_that_the_host_finds_wrong(host, monkeypatch, tmp_path):
    """The deploying machine has checked the files; the host checks them again."""
    good = make_pair(tmp_path, "good", "sip.example.test")
    other = make_pair(tmp_path, "other", "else.example.test")
    entry = {"address": host.address}
    wanted = site(entry).model_copy(
        update={"tls": Tls(provider="files", certificate="c", private_key="k")}
    )
    for pair, said in (
        ((good[0], other[1]), "the key in the candidate does not belong to its certificate"),
        (other, "the certificate in the candidate is not for sip.example.test"),
    ):
        monkeypatch.setattr(certificates, "read_files", lambda *_, pair=pair: pair)
        report = run_apply(wanted)
        assert set(codes(report)) == {"SD521"}, told(report)
        assert said in told(report)
        assert (live(host), units(host)) == host.before
