"""`address: local`: sipdeploy on the host itself, without SSH, with Debian's own packages."""

import concurrent.futures
import io
import tarfile
import time
from pathlib import Path

import pytest
from system import INVENTORY, passwords

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parent.parent.parent
LIBRARIES = "python3-click python3-jinja2 python3-paramiko python3-pydantic python3-yaml"
LIBRARIES += " python3-websockets"


def test_a_host_applies_to_itself(lab):
    host = lab.boot("itself")
    host.run("apt-get update -q", check=True)
    host.run(f"apt-get install -q -y --no-install-recommends {LIBRARIES}", check=True)
    host.run(["tar", "-x", "-C", "/opt"], input_bytes=program(), check=True)
    inventory = INVENTORY.format(name="sip1", address="local", mode="kamailio")
    inventory = inventory.replace(
        "address: local", f"address: local, public_address: {host.address}"
    )
    host.write("/root/pbx/inventory.yaml", inventory.encode())
    host.write("/root/pbx/secrets.yaml", passwords().encode(), mode=0o600)
    sipdeploy = "cd /root/pbx && PYTHONPATH=/opt python3 -m sipdeploy apply --yes 2>&1"
    interrupt(host, sipdeploy)
    first = host.run(sipdeploy)
    assert first.returncode == 0, first.stdout
    assert "sip1  applied" in first.stdout
    second = host.run(sipdeploy)
    assert "sip1  unchanged, 0 changes" in second.stdout
    calls = host.run(sipdeploy.replace("apply --yes", "calls sip1 --format json"))
    assert calls.stdout == "[]\n"
    logs = host.run(sipdeploy.replace("apply --yes", "logs sip1"))
    assert "Started kamailio.service" in logs.stdout
    listening = host.run("ss -Hltn sport = 8443").stdout
    assert ":8443" in listening


def interrupt(host, command):
    """Ctrl-C while apt installs: the step ends at once with its children, and is undone."""
    host.write("/root/command", f"trap - INT; ({command}); echo status $?".encode())
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(host.run, ["bash", "/root/command"])
        while host.run("pgrep -x apt-get && pgrep -f '[k]amailio'").returncode:
            assert not running.done(), running.result().stdout
            time.sleep(0.1)
        began = time.monotonic()
        host.run("kill -INT $(pgrep -f '[m] sipdeploy apply')", check=True)
        output = running.result().stdout
    assert time.monotonic() - began < 20
    assert "SD533" in output
    assert "interrupted on `sip1` during `install " in output
    assert "the host is unchanged" in output
    assert "status 130" in output
    assert host.run("pgrep -x apt-get || pgrep -x dpkg").stdout == ""
    left = host.run("ls -A /var/lib/sipdeploy").stdout
    assert left == "packages\n", "what apt began to install stays noted, and the lock is gone"


def program() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("sipdeploy", "templates"):
            archive.add(ROOT / name, arcname=name)
    return buffer.getvalue()
