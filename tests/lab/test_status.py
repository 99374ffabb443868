"""The status of a real host in states made on purpose, and its metrics in a Prometheus."""

import asyncio
import contextlib
import datetime as dt
import json
import re
from pathlib import Path

import pytest
import yaml
from conftest import Deployer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from signalling import registered, run, talk
from system import DOMAIN, System, packages_of, password

from sipdeploy.host.connection import connect
from sipdeploy.inventory import open_inventory
from sipdeploy.proof.outside.probes import Probes
from sipdeploy.sip.phone import Phone

pytestmark = pytest.mark.lab

EXIT = {"fine": 0, "look": 1, "broken": 1, "unknown": 4}
OF_KAMAILIO = dict.fromkeys(("certificate", "phones", "calls", "memory", "connections"), "unknown")
MAIN = "$(kamcmd core.psx | awk '$1 == \"PID:\" { pid = $2 } /tcp main/ { print pid }')"
TLS, DROP_IN = "/etc/kamailio/tls", "/etc/systemd/system/asterisk.service.d/zz-mine.conf"
BOXES = "/var/spool/asterisk/voicemail"
# A small disk of its own; never more than that is written, also if there is none.
FILLED = f"""set -e
command -v mount >/dev/null || apt-get install -y -q mount >/dev/null
mount -t tmpfs -o size=20m tmpfs {BOXES}
head -c 30M /dev/zero >{BOXES}/full || true"""
CRASHED = """systemctl kill -s KILL asterisk; sleep 1
until asterisk -rx 'core waitfullybooted' | grep booted; do sleep 0.3; done"""
# State -> the commands that make it and end it, and the values that are not fine.
MADE = {
    "kamailio-down": (
        "systemctl stop kamailio",
        "systemctl start kamailio",
        {"kamailio": "broken", **OF_KAMAILIO},
    ),
    "kamailio-stuck": (
        "systemctl kill -s STOP kamailio",
        "systemctl kill -s CONT kamailio",
        {"kamailio": "broken", **OF_KAMAILIO},
    ),
    "port-stuck": (
        f"echo {MAIN} >/run/main; kill -STOP $(cat /run/main)",
        "kill -CONT $(cat /run/main)",
        {"kamailio": "broken", "certificate": "unknown"},
    ),
    "asterisk-down": (
        "systemctl stop asterisk",
        "systemctl start asterisk",
        {"asterisk": "broken"},
    ),
    "asterisk-stuck": (
        "systemctl kill -s STOP asterisk",
        "systemctl kill -s CONT asterisk",
        {"asterisk": "broken"},
    ),
    "asterisk-crashed": (
        CRASHED,
        "systemctl reset-failed asterisk",
        {"asterisk": "look"},
    ),
    "unit-disabled": (
        "systemctl disable -q asterisk",
        "systemctl enable -q asterisk",
        {"asterisk": "look"},
    ),
    "rules-gone": (
        "nft delete table inet sipdeploy",
        "systemctl restart sipdeploy-firewall",
        {"firewall": "broken"},
    ),
    "disk-full": (
        FILLED,
        f"umount {BOXES}",
        {"disk": "broken"},
    ),
    "file-edited": (
        "cp -a /etc/kamailio/tls.cfg /root; echo '# mine' >>/etc/kamailio/tls.cfg",
        "mv /root/tls.cfg /etc/kamailio/tls.cfg",
        {"files": "look"},
    ),
    "reload-missing": (
        f"printf '[Unit]\\nDescription=mine\\n' >{DROP_IN}",
        f"rm {DROP_IN}; systemctl daemon-reload",
        {"files": "look"},
    ),
    "lists-old": (
        "touch -d '40 days ago' /var/lib/apt/lists/partial",
        "touch /var/lib/apt/lists/partial",
        {"versions": "unknown"},
    ),
}


class Site(System):
    """The host, and what the command says about it."""

    def status(self, *options):
        done = self.deployer.run("-q", "status", self.host.name, "--format", "json", *options)
        (host,) = json.loads(done.stdout)["hosts"]
        assert done.returncode == EXIT[host["verdict"]], done.stderr
        assert bool(done.stderr) == (host["verdict"] != "fine")
        return host

    def unfine(self):
        values = {value["name"]: value for value in self.status()["values"]}
        return {
            name: each["verdict"] for name, each in values.items() if each["verdict"] != "fine"
        }

    def text(self, name):
        return next(value for value in self.status()["values"] if value["name"] == name)["text"]


@pytest.fixture(scope="module")
def site(lab, tmp_path_factory):
    host = lab.boot("status", packages=packages_of("sid"))
    deployer = Deployer(lab, tmp_path_factory.mktemp("status"))
    deployer.write(name=host.name, address=host.address, mode="kamailio")
    found = Site(mode="kamailio", host=host, deployer=deployer)
    assert found.unfine() == {"release": "broken"}
    host.run("touch /var/lib/apt/lists/partial")  # an image has no fresh lists
    done = deployer.run("apply", host.name, "--yes")
    assert done.returncode == 0, done.stderr
    yield found
    host.stop()


def test_a_host_is_fine_after_its_first_apply(site):
    site.run("touch /run/asked")
    assert site.unfine() == {}
    assert re.fullmatch(r"works: quick, 18 steps, \d+ s ago", site.text("proof"))
    done = site.deployer.run("status")
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    changed = site.run("find /etc /var/lib/sipdeploy -newer /run/asked -type f")
    assert changed == ""


def test_phones_and_calls_count_and_those_of_a_proof_do_not(site, monkeypatch):
    monkeypatch.setenv("HOME", site.deployer.environment["HOME"])
    loaded = open_inventory(site.deployer.folder / "inventory.yaml").site
    name = site.host.name
    probes = Probes(name=name, domain=DOMAIN, connect=lambda: connect(name, loaded.hosts[name]))

    async def scenario():
        async with registered(site, "1001", "1003", "1003") as (caller, callee, _):
            call, _ = await talk(caller, callee)
            ringing = await callee.invite("1001")
            await (await caller.incoming(method="INVITE")).ring()
            await ringing.ringing()
            alone = await asyncio.to_thread(site.status)
            async with contextlib.AsyncExitStack() as stack:
                phones = [
                    await stack.enter_async_context(
                        Phone(
                            each.number, each.password, domain=DOMAIN, address=(site.address, 8443)
                        )
                    )
                    for each in probes.accounts
                ]
                for phone in phones:
                    await phone.connect()
                    assert (await phone.register()).status == 200
                proof, _ = await talk(*phones)
                other = await phones[0].invite(phones[1].number)
                await (await phones[1].incoming(method="INVITE")).ring()
                await other.ringing()
                during = await asyncio.to_thread(site.status)
                await other.cancel()
                await proof.bye()
            await ringing.cancel()
            await call.bye()
            return alone, during

    probes.set()
    try:
        alone, during = run(scenario())
    finally:
        probes.remove()
    for host in (alone, during):
        assert host["figures"]["phones"] == {"phones": 3, "users": 2}
        assert host["figures"]["calls"] == {"up": 1, "ringing": 1}
        assert host["figures"]["networks"] == 1
        assert host["figures"]["users"] == 6


@pytest.mark.parametrize("name", MADE)
def test_a_state(site, name):
    make, end, expected = MADE[name]
    site.host.run(make, check=True)
    try:
        assert site.unfine() == expected
    finally:
        site.host.run(end, check=True)


def certificate(days):
    """A certificate with a long life, of which some days are left."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, DOMAIN)])
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(days=days, hours=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - dt.timedelta(days=90))
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(DOMAIN)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    return made.public_bytes(pem), key.private_bytes(pem, form, plain)


def test_the_certificate_on_the_disk_and_on_the_port(site):
    site.host.run(f"cp -a {TLS} /root/tls", check=True)
    try:
        chain, key = certificate(5)
        site.host.write(f"{TLS}/server.crt", chain)
        assert site.unfine() == {"certificate": "look"}
        assert site.text("certificate") == "5 days left"
        site.host.write(f"{TLS}/server.key", key)
        site.host.write(f"{TLS}/server.crt", certificate(50)[0])
        assert site.text("certificate") == "50 days left; port 8443 serves another one"
        chain, key = certificate(-1)
        site.host.write(f"{TLS}/server.key", key)
        site.host.write(f"{TLS}/server.crt", chain)
        site.run("chgrp kamailio /etc/kamailio/tls/*; kamcmd tls.reload")
        assert site.unfine() == {"certificate": "broken"}
    finally:
        site.host.run(f"rm -rf {TLS} && cp -a /root/tls {TLS} && kamcmd tls.reload", check=True)
    assert site.unfine() == {}


def test_calls_that_fail_a_proof_that_fails_and_a_new_one(site):
    async def scenario():
        async with registered(site, "1001", "1003", "1004") as phones:
            calls = [await phone.invite("6002") for phone in phones]
            assert {(await call.final(20)).status for call in calls} == {503}

    site.run("systemctl stop asterisk")
    try:
        run(scenario())
        assert site.deployer.run("verify", site.host.name).returncode == 1
    finally:
        site.run("systemctl start asterisk")
    found = site.status()
    verdicts = {value["name"]: value["verdict"] for value in found["values"]}
    assert {name for name, each in verdicts.items() if each != "fine"} == {"last hour", "proof"}
    assert {problem["code"] for problem in found["problems"]} == {"SD736"}
    assert site.deployer.run("verify", site.host.name).returncode == 0
    assert site.unfine() == {"last hour": "look"}


SERVER = "http://127.0.0.1:9099"
PROMETHEUS = f"""
printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
apt-get update -q && apt-get install -y -q --no-install-recommends prometheus || exit 1
mkdir -p /root/data && echo 'global: {{}}' >/root/prometheus.yml
promtool tsdb create-blocks-from openmetrics /root/metrics /root/data || exit 1
systemd-run -q --unit=lab-prometheus prometheus --config.file=/root/prometheus.yml \\
    --storage.tsdb.path=/root/data --storage.tsdb.retention.time=10y \\
    --web.listen-address={SERVER.removeprefix("http://")} || exit 1
until promtool query instant {SERVER} 'vector(1)'; do sleep 0.3; done
promtool check rules /root/alerts.yml && promtool test rules /root/alerts_test.yml &&
    promtool check metrics </root/printed
"""


def asked(site, query, now):
    """What Prometheus on the host answers to a query."""
    word = query.replace("$host", ".*").replace("'", "'\\''")
    command = f"promtool query instant --time={now} {SERVER} '{word}'"
    return site.host.run(command, check=True).stdout.strip()


def openmetrics(texts, now):
    """Metrics with a time, as promtool reads them; a sample an hour ago, and one now."""
    lines = [line for text in texts for line in text.splitlines()]
    families = {}
    for line in lines:
        if not line.startswith("#"):
            families.setdefault(re.match(r"\w+", line)[0], []).append(line)
    rows = []
    for name, samples in families.items():
        rows.append(f"# TYPE {name} gauge")
        rows += [f"{line} {when}" for line in samples for when in (now - 3600, now - 60, now)]
    return "\n".join([*rows, "# EOF", ""]).encode()


def test_the_queries_of_the_dashboard_and_the_alerts_in_a_prometheus(site):
    folder = Path(__file__).parent.parent.parent / "docs/dashboards"
    rules = (folder / "alerts.yml").read_bytes()
    board = json.loads((folder / "sipdeploy.json").read_text("utf-8"))
    texts = [
        site.deployer.run(command, site.host.name, "--format", "prometheus").stdout
        for command in ("status", "verify")
    ]
    now = int(site.run("date +%s"))
    site.host.write("/root/metrics", openmetrics(texts, now))
    site.host.write("/root/alerts.yml", rules)
    cases = (Path(__file__).parents[1] / "status/alerts_test.yml").read_text("utf-8")
    beside = re.sub(r"^rule_files: .*$", "rule_files: [alerts.yml]", cases, flags=re.MULTILINE)
    site.host.write("/root/alerts_test.yml", beside.encode())
    site.host.write("/root/printed", texts[0].encode())
    site.host.run(PROMETHEUS, check=True)
    for panel in board["panels"]:
        for target in panel["targets"]:
            assert f'host="{site.host.name}"' in asked(site, target["expr"], now), target["expr"]
    raised = {
        rule["alert"]
        for rule in yaml.safe_load(rules)["groups"][0]["rules"]
        if asked(site, rule["expr"], now)
    }
    assert raised == {"SipdeployNeedsLook"}  # calls have failed, see above


def test_a_host_that_is_gone(site):
    site.host.stop()
    done = site.deployer.run("status", site.host.name)
    assert done.returncode == 4
    assert done.stdout.startswith(f"{site.host.name}  not known: reachable\n")
    assert "SD50" in done.stderr
    assert password("1001") not in done.stdout + done.stderr
