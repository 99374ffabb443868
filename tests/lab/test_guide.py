"""`verify --user` on the configuration of a common guide: it names what can be seen from outside.

What needs a load (connections, memory), a program on the host (`kamcmd`) or another network (TURN)
cannot be seen by one phone.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Deployer
from system import DOMAIN, packages_of

from bench.sip import GUIDE

pytestmark = pytest.mark.lab

PEERS = Path(__file__).parents[2] / "bench/peers"
INVENTORY = """\
domain: {domain}
email: ops@example.test
hosts: {{{host.name}: {{address: {host.address}}}}}
tls: {{provider: self-signed}}
origins: ["https://phone.example.test"]
users: {{1001: {{name: Alice}}}}
services: {{6000: {{kind: ivr-test}}}}
"""
TRUNK = """
[1001](user)
auth=1001
aors=1001
[1001](secret)
username=1001
password=1234
[1001](place)
[kamailio]
type=endpoint
context=default
allow=ulaw,opus
aors=kamailio
[kamailio]
type=aor
contact=sip:127.0.0.1:5062
"""
DIALPLAN = "[default]\nexten => 6000,1,Answer()\n same => n,Playback(demo-congrats)\n"
KAMAILIO = "/etc/kamailio/kamailio.cfg"
# What verify says of the guide, with the globals that it misses: step, code, words.
DEFECTS = {
    "Origin not checked": ("wrong path", "SD905", "for the origin"),
    "`save()` before authentication": ("password", "SD906", "without a password"),
    "the phone of a stranger": (
        "phone of a stranger",
        "SD941",
        "without the password",  # both daemons answer; either reply may come first
    ),
    "`1234`": ("password", "SD302", "weak"),
    "no in-dialog routing": ("call to itself", "SD907", "ACK and BYE of a caller do not reach"),
    "no authentication of INVITE, From believed": (
        "call of a stranger",
        "SD941",
        "calls in the name of a number",
    ),
    "trunk matched by From": ("call of a trunk", "SD941", "in the name of the trunk `kamailio`"),
    "dead sockets kept": ("lost phone", "SD907", "keeps a phone whose connection is broken"),
}
# Without one of the two globals, nothing else can be asked.
GLOBALS = {"enable_tls=yes": ("TCP", "SD902"), "tcp_accept_no_cl=yes": ("WebSocket", "SD905")}


@pytest.fixture(scope="module")
def guide(lab, tmp_path_factory):
    host = lab.boot("guide", packages=packages_of("sid"))
    host.write(KAMAILIO, (PEERS / "guide.cfg").read_bytes())
    host.write("/etc/asterisk/pjsip.conf", ((PEERS / "guide.conf").read_text() + TRUNK).encode())
    host.write("/etc/asterisk/extensions.conf", DIALPLAN.encode())
    host.run(["sh", "-c", GUIDE, "sh", DOMAIN], check=True)
    host.run("asterisk -rx 'core waitfullybooted'")
    deployer = Deployer(lab, tmp_path_factory.mktemp("guide"))
    text = INVENTORY.format(domain=DOMAIN, host=host)
    (deployer.folder / "inventory.yaml").write_text(text)
    yield host, deployer
    host.stop()


def verify(deployer, password="1234"):
    done = subprocess.run(
        [sys.executable, "-m", "sipdeploy", "verify", "--user", "1001", "--format", "json"],
        cwd=deployer.folder,
        env=deployer.environment,
        input=f"{password}\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    (proof,) = json.loads(done.stdout)["hosts"]
    return done, {step["name"]: step for step in proof["steps"]}


@pytest.fixture(scope="module")
def proof(guide):
    return verify(guide[1])


@pytest.mark.parametrize(("step", "code", "words"), DEFECTS.values(), ids=DEFECTS)
def test_each_defect_that_a_phone_can_see_is_named(proof, step, code, words):
    done, steps = proof
    assert done.returncode == 1
    found = re.findall(rf"\[{code}\]:.*", done.stderr)
    assert any(words in line for line in found), done.stderr
    assert steps[step]["status"] == "failed"


def test_nothing_else_is_named(proof):
    _, steps = proof
    named = {step for step, _, _ in DEFECTS.values()}
    assert {name for name, step in steps.items() if step["status"] == "failed"} == named


@pytest.mark.parametrize(("line", "step", "code"), [(k, *v) for k, v in GLOBALS.items()])
def test_a_missing_global_is_named_by_its_step(guide, line, step, code):
    host, deployer = guide
    whole = (PEERS / "guide.cfg").read_text()
    assert f"{line}\n" in whole
    try:
        host.write(KAMAILIO, whole.replace(f"{line}\n", "").encode())
        host.run("systemctl restart kamailio")
        done, steps = verify(deployer)
        assert steps[step]["status"] == "failed"
        assert f"[{code}]" in done.stderr
    finally:
        host.write(KAMAILIO, whole.encode())
        host.run("systemctl restart kamailio")
