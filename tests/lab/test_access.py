"""Logins on a real sshd: certificates, agents, and hosts that do not run our scripts."""

import os
import subprocess
import time

import pytest
from applying import site

from sipdeploy.host.connection import connect

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("login")]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """The key of a certificate authority."""
    key = tmp_path_factory.mktemp("authority") / "ca"
    subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", key], check=True)
    return key


@pytest.fixture(scope="module")
def host(lab, authority):
    """A host whose login `ops` needs a certificate; sshd knows the authority, and no key."""
    host = lab.boot("access1")
    host.add_user("ops")
    host.run("rm /home/ops/.ssh/authorized_keys", check=True)
    host.write("/etc/ssh/ca.pub", authority.with_suffix(".pub").read_bytes())
    host.write("/etc/ssh/sshd_config.d/ca.conf", b"TrustedUserCAKeys /etc/ssh/ca.pub\n")
    host.run("systemctl restart ssh", check=True)
    return host


def opened(address, **more):
    return connect("sip1", site({"address": address, **more}).hosts["sip1"])


@pytest.fixture
def keys(tmp_path):
    """A directory for keys, with an agent at `socket`."""
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", tmp_path / "socket"], stdout=subprocess.DEVNULL
    )
    while not (tmp_path / "socket").exists():
        time.sleep(0.01)
    yield tmp_path
    agent.terminate()
    agent.wait()


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
@pytest.mark.parametrize("place", ["file", "agent", "only its certificate in the agent"])
def test_a_certificate_logs_in(host, authority, keys, kind, place):
    key = keys / "key"
    subprocess.run(["ssh-keygen", "-qt", kind, "-N", "", "-f", key], check=True)
    subprocess.run(["ssh-keygen", "-qs", authority, "-Ime", "-nops", f"{key}.pub"], check=True)
    if place != "file":
        environment = {**os.environ, "SSH_AUTH_SOCK": str(keys / "socket")}
        subprocess.run(["ssh-add", "-q", key], check=True, env=environment)
        key.unlink()
    certificate = (keys / "key-cert.pub").rename(keys / "certificate")
    if place == "only its certificate in the agent":
        subprocess.run(["ssh-add", "-qd", f"{key}.pub"], check=True, env=environment)
    named = f"IdentityFile {key}{'.pub' if place == 'agent' else ''}\n"
    config = keys / ".ssh/config"
    config.write_text(
        f"IdentityAgent {keys / 'socket'}\n{named}CertificateFile {certificate}\n"
        f"IdentitiesOnly yes\nUser ops\n{config.read_text()}"
    )
    ops = opened(host.address)
    try:
        assert ops.target.user == "ops"
    finally:
        ops.close()
