"""certificate.sh with a relay: both daemons serve the new certificate, or both the old one."""

import os
import shutil
import subprocess

import pytest
from test_certificates import key_pem
from test_judged_certificates import leaf
from test_relay import SMALL

from sipdeploy import services
from sipdeploy.inventory.site import load_site
from sipdeploy.services import acme

PROGRAMS = {
    "install": 'for file; do before=$last last=$file; done; exec cp "$before" "$last"',
    "logger": "exit 0",
    "sleep": "exit 0",
    "kamcmd": 'cp "$HERE/live/server.crt" "$HERE/served-8443"',
    "systemctl": """echo "$*" >>"$HERE/asked"
case $1:$RELAY in
is-active:stopped) exit 3 ;;
reload:refuses) echo refused; exit 1 ;;
reload:works) cp "$HERE/live/server.crt" "$HERE/served-5349" ;;
esac""",
    "openssl": """[ "$1" = s_client ] || exec "$OPENSSL" "$@"
cat "$HERE/served-${3##*:}" """,
}


@pytest.fixture
def renew(tmp_path):
    """Run the deployment of a new certificate; what happened, by the state of coturn."""
    text = SMALL.replace("tls: {provider: self-signed}\n", "turn: {}\n")
    site, problems, _ = load_site(text, "x")
    assert site, problems
    files = services.file_set(site, "sip1", versions=site.versions, credentials={}).files
    script = next(file.content.decode() for file in files if file.path == acme.SCRIPT)
    programs, lineage = tmp_path / "programs", tmp_path / "lineage"
    for folder in (programs, lineage, tmp_path / "live", tmp_path / "state"):
        folder.mkdir()
    for name, body in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    for before, after in (
        ("PATH=/usr/local/sbin:", f"PATH={programs}:/usr/local/sbin:"),
        ("live=/etc/kamailio/tls/server", f"live={tmp_path}/live/server"),
        ("state=/var/lib/sipdeploy", f"state={tmp_path}/state"),
        (f"lineage=/etc/letsencrypt/live/{acme.lineage(site.domain)}", f"lineage={lineage}"),
    ):
        assert script.count(before) == 1, before
        script = script.replace(before, after)
    old, new = leaf(), leaf()
    (lineage / "fullchain.pem").write_bytes(new.pem)
    (lineage / "privkey.pem").write_bytes(key_pem(new.key))
    (tmp_path / "live/server.crt").write_bytes(old.pem)
    (tmp_path / "live/server.key").write_bytes(key_pem(old.key))
    for port in ("8443", "5349"):
        (tmp_path / f"served-{port}").write_bytes(old.pem)

    def run(relay):
        own = {"HERE": str(tmp_path), "RELAY": relay, "OPENSSL": shutil.which("openssl")}
        environment = {**os.environ, **own}
        done = subprocess.run(
            ["sh", "-c", script, "sh", "deploy"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        names = {old.pem: "old", new.pem: "new"}
        live, kamailio, coturn = (
            names[(tmp_path / name).read_bytes()]
            for name in ("live/server.crt", "served-8443", "served-5349")
        )
        return done.returncode, (live, kamailio, coturn), done.stdout + done.stderr

    return run


def test_the_relay_serves_a_renewed_certificate_too(renew):
    code, served, output = renew("works")
    assert (code, served) == (0, ("new", "new", "new")), output


def test_a_relay_that_does_not_run_keeps_no_certificate_from_being_used(renew):
    code, served, output = renew("stopped")
    assert (code, served) == (0, ("new", "new", "old")), output


@pytest.mark.parametrize("relay", ["refuses", "ignores"])
def test_a_relay_that_does_not_take_it_is_a_failure_and_the_old_one_stays(renew, relay):
    code, served, output = renew(relay)
    assert (code, served) == (1, ("old", "old", "old")), output
    why = "systemctl reload coturn.service: refused" if relay == "refuses" else "10.0.0.1:5349"
    assert why in output
