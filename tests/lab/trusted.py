"""A host with a certificate from an ACME server, for the tests of certificates."""

import json
import os
import re
import socket
import time
from dataclasses import dataclass
from typing import Any

from conftest import Deployer
from system import DOMAIN, packages_of, password, passwords

from lab import acme
from lab.acme import Authority, Directory

NUMBERS = ("1001", "1002", "1004")
INVENTORY = """\
domain: {domain}
email: ops@{domain}
hosts: {{sip1: {{address: {address}}}}}
tls: {{{tls}}}
users: {{1001: {{name: Alice}}, 1002: {{name: Bob, voicemail: yes}}, 1004: {{}}{users}}}
services: {{6000: {{kind: ivr-test}}}}
{more}
"""
LIVE = "/etc/kamailio/tls/server"
HELD = f"/etc/letsencrypt/live/sipdeploy-{DOMAIN}"


@dataclass
class Trusted:
    """The host, its authority and name server, and the deploying machine."""

    host: Any
    authority: Authority
    directory: Directory
    deployer: Deployer

    def write(self, tls="", *, provider="letsencrypt", users=(), more="", directory=None):
        """Write the inventory, with additional settings of `tls`."""
        settings = [f"provider: {provider}"]
        if provider == "letsencrypt":
            server = (directory or self.directory).url
            settings += [f'server: "{server}"', "ca_bundle: acme-root.pem"]
        settings += [tls] if tls else []
        text = INVENTORY.format(
            domain=DOMAIN,
            address=self.host.address,
            tls=", ".join(settings),
            users="".join(f", {number}: {{}}" for number, _ in users),
            more=more,
        )
        folder = self.deployer.folder
        (folder / "inventory.yaml").write_text(text)
        (folder / "acme-root.pem").write_text(self.authority.server_root)
        secrets = "".join(f'  "{number}": {secret}\n' for number, secret in users)
        (folder / "secrets.yaml").touch(mode=0o600)
        (folder / "secrets.yaml").write_text(passwords() + secrets)

    def apply(self, *options, status=0):
        """Run `sipdeploy apply`; returns its output."""
        done = self.deployer.run("apply", "sip1", "--yes", *options)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def cert(self, *options, status=0):
        """Run `sipdeploy cert`; returns its data."""
        done = self.deployer.run("cert", "sip1", "--format", "json", *options)
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads(done.stdout)

    def renew(self):
        """Make a renewal due, and run it as the timer of certbot does; the result of the unit."""
        renewal = f"/etc/letsencrypt/renewal/sipdeploy-{DOMAIN}.conf"
        sooner = f"sed -i '1i renew_before_expiry = 1000 days' {renewal}"
        due = f"sed -i '/renew_before_expiry/d' {renewal} && {sooner}"
        self.host.run(due, check=True)
        shown = "systemctl show -P InvocationID -P Result certbot.service"
        before = self.host.run(shown).stdout.split()
        told = self.host.run("systemctl start certbot.service")
        run, result = self.host.run(shown).stdout.split()
        assert run not in before, f"certbot did not run: {told.stdout}{told.stderr}"
        return result

    def sleep_out(self):
        """Make no renewal due."""
        renewal = f"/etc/letsencrypt/renewal/sipdeploy-{DOMAIN}.conf"
        self.host.run(f"sed -i '/renew_before_expiry/d' {renewal}; systemctl reset-failed")

    def served(self, port=8443):
        """The fingerprint of the served certificate, SHA-256 in hex."""
        return fingerprint(self.host, f"openssl s_client -connect 127.0.0.1:{port} </dev/null")

    def on_disk(self, path=f"{LIVE}.crt"):
        return fingerprint(self.host, f"cat {path}")

    def is_shut(self):
        """Whether port 80 is closed from outside although a server listens on it."""
        self.listen()
        try:
            return not is_open(self.host, 80)
        finally:
            self.host.run("systemctl stop web")

    def listen(self, folder="/srv"):
        """Start a web server on port 80 as the unit `web`."""
        server = f"python3 -m http.server 80 -d {folder}"
        self.host.run(f"systemd-run --quiet --collect --unit=web {server}", check=True)
        end = time.monotonic() + 20
        while ":80 " not in self.host.run("ss -Htln").stdout:
            assert time.monotonic() < end
            time.sleep(0.1)

    def challenged(self):
        """The number of packets for challenges that the firewall has accepted."""
        rules = self.host.run("nft list chain inet sipdeploy input").stdout
        match = re.search(r"dport @challenge counter packets (\d+)", rules)
        return int(match[1]) if match else 0


def fingerprint(host, command):
    shown = host.run(f"{command} 2>/dev/null | openssl x509 -noout -fingerprint -sha256").stdout
    return shown.strip().partition("=")[2].replace(":", "").lower()


def is_open(host, port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host.address, port)) == 0


def trusted_host(lab, folder, name, *, is_bare=False):
    """A host with its own authority, before the first apply; without packages if bare."""
    authority = Authority(lab.boot(f"{name}-ca", packages=acme.PACKAGES))
    suite = os.environ.get("LAB_SUITE", "sid")
    packages = () if is_bare else (*packages_of(suite), "certbot", "mount", "ufw")
    host = lab.boot(name, suite=suite, packages=packages)
    authority.point(DOMAIN, f"A {host.address}")
    authority.is_asked_by(host)
    return Trusted(
        host=host,
        authority=authority,
        directory=authority.serve(),
        deployer=Deployer(lab, folder),
    )


__all__ = ["DOMAIN", "HELD", "LIVE", "Trusted", "is_open", "password", "trusted_host"]
