"""The proof from outside, against a host that apply made, in both modes."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from xml.etree import ElementTree as ET

import pytest
from applying import change_file, codes
from signalling import outcome, registered, run
from system import DOMAIN, dropped, password

from sipdeploy import inventory
from sipdeploy.host.connection import connect
from sipdeploy.inventory.secret import ha1
from sipdeploy.proof.outside import user
from sipdeploy.proof.outside.probes import Probes
from sipdeploy.proof.outside.run import prove_host
from sipdeploy.proof.outside.subject import Subject
from sipdeploy.services import firewall
from sipdeploy.transaction import Options, apply

pytestmark = pytest.mark.lab

QUICK_SECONDS = 5
RUNS = int(os.environ.get("LAB_PROOFS", "20"))  # 200 take two minutes
GONE_SECONDS = 120
OWN = [step.name for step in user.STEPS]
LIFETIME = "import sipdeploy.proof.outside.probes as p; p.LIFETIME_SECONDS = 6; "


@pytest.fixture
def home(system, monkeypatch):
    """The deploying machine of the system, for code that this process runs."""
    monkeypatch.setenv("HOME", system.deployer.environment["HOME"])
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.chdir(system.deployer.folder)
    return inventory.open_inventory(system.deployer.folder / "inventory.yaml")


def probes_of(system, site, stack):
    name = system.host.name

    def opened():
        host = connect(name, site.hosts[name])
        stack.callback(host.close)
        return host

    return Probes(name=name, domain=DOMAIN, connect=opened)


@contextlib.contextmanager
def accounts(system, loaded):
    """Probe accounts that are set."""
    with contextlib.ExitStack() as stack:
        probes = probes_of(system, loaded.site, stack)
        probes.set()
        try:
            yield probes.accounts
        finally:
            probes.remove()


def quick(system, loaded):
    name = system.host.name
    with contextlib.ExitStack() as stack:
        subject = Subject(
            name=name,
            site=loaded.site,
            entry=loaded.site.hosts[name],
            level="quick",
            probes=probes_of(system, loaded.site, stack),
        )
        return prove_host(subject)


def left(system):
    """Everything of a proof that a host could keep."""
    ask = {
        "probes": "kamcmd htable.dump probes",
        "contacts": "kamcmd ul.dump brief | grep AoR: | grep -E '[0-9]{30}'",
        "known": "kamcmd htable.dump known | grep -E '[0-9]{30}'",
        "held": "kamcmd htable.dump held | grep -E '[0-9]{30}'",
        "proven": "kamcmd htable.dump proven | grep -E '[0-9]{30}'",
        "asterisk": "asterisk -rx 'database show probes' | grep -E '[0-9]{30}'",
        "registrar": "asterisk -rx 'database show registrar' | grep -E '[0-9]{30}'",
        "timers": "systemctl list-units --all --plain --no-legend 'sipdeploy-probes*'",
        "files": "ls /run/systemd/transient | grep sipdeploy-probes",
        "channels": "asterisk -rx 'core show channels concise'",
    }
    said = {key: system.host.run(command).stdout.strip() for key, command in ask.items()}
    # Asterisk forgets the Contact of a phone that has died by itself, in time
    ends = re.findall(r'"expiration_time":"(\d+)"', said["registrar"])
    if all(int(end) < time.time() + GONE_SECONDS for end in ends):
        said["registrar"] = ""
    return {key: text for key, text in said.items() if text and "does not exist" not in text}


def test_quick_is_green_and_quick(system):
    done = system.deployer.run("verify", "--format", "json")
    assert done.returncode == 0, done.stderr
    (proof,) = json.loads(done.stdout)["hosts"]
    statuses = {step["name"]: step["status"] for step in proof["steps"]}
    assert statuses.pop("DNS") == "skipped"
    assert set(statuses.values()) == {"ok"}, done.stderr
    assert len(statuses) == 18
    assert proof["seconds"] < QUICK_SECONDS
    assert left(system) == {}
    sys.stdout.write(f"{system.mode}: {proof['seconds']} s\n")


def test_many_proofs_raise_no_false_alarm_and_leave_nothing(system, home):
    seconds = []
    for _ in range(RUNS):
        proof = quick(system, home)
        assert proof.failed == (), [each.message for each in proof.diagnostics]
        seconds.append(proof.seconds)
    assert left(system) == {}
    assert sorted(seconds)[RUNS // 2] < QUICK_SECONDS


def test_a_probe_reaches_only_probes_and_services(system, home):
    async def scenario():
        with accounts(system, home) as (first, second):
            async with (
                registered(system, "1001") as (alice,),
                system.phone(first.number, first.password) as probe,
                system.phone(second.number, second.password) as other,
            ):
                for phone in (probe, other):
                    await phone.connect()
                    assert (await phone.register(expires=60)).status == 200
                for caller, callee in ((alice, first.number), (probe, "1001")):
                    assert await outcome(caller, callee) == 404
                    assert (await caller.request("MESSAGE", callee, body="x")).status == 404
                    reply = await caller.request(
                        "SUBSCRIBE", callee, headers={"Event": "presence", "Expires": "60"}
                    )
                    assert reply.status == 404
                call = await probe.invite(other.number)
                incoming = await other.incoming(method="INVITE")
                await incoming.reject(486)
                assert (await call.final()).status == 486
                assert not alice.received("INVITE")
                assert not alice.received("MESSAGE")
                shown = system.deployer.run("users", "--on", system.host.name)
                assert "1001" in shown.stdout
                assert first.number not in shown.stdout + shown.stderr
                known = system.run("kamcmd htable.dump known")
                assert first.number not in known
            for wrong in (first.password + "x", ""):
                async with system.phone(first.number, wrong) as thief:
                    await thief.connect()
                    assert (await thief.register()).status in {401, 403}

    run(scenario())
    assert left(system) == {}


def test_the_connection_of_a_removed_probe_is_nobody(system, home):
    async def scenario():
        async with registered(system, "1001") as (alice,), contextlib.AsyncExitStack() as stack:
            with accounts(system, home) as (first, _):
                probe = system.phone(first.number, first.password)
                await stack.enter_async_context(probe)
                await probe.connect()
                assert (await probe.register(expires=60)).status == 200
            assert await outcome(probe, "1001") in {401, 403, 407}
            assert not alice.received("INVITE")

    run(scenario())


@contextlib.contextmanager
def noting_arguments(system):
    """Each program that a script may start writes its arguments to a file first."""
    names = "kamcmd asterisk systemd-run systemctl perl sed timeout cut head cat wc grep"
    wrapper = "for name in {names}; do real=$(command -v $name); {{ echo '#!/bin/sh'; "
    wrapper += """echo 'printf "%s\\n" "'$name' $*" >>/root/arguments'; echo exec $real '"$@"'; """
    wrapper += "}} >/root/$name; chmod 755 /root/$name; done; mv {paths} /usr/local/sbin/"
    paths = " ".join(f"/root/{name}" for name in names.split())
    system.host.run(wrapper.format(names=names, paths=paths), check=True)
    try:
        yield
    finally:
        system.run("cd /usr/local/sbin && rm " + names)


def test_the_password_of_a_probe_is_in_no_argument_and_in_no_log(system, home):
    """Every program that the script starts notes its arguments; so does the journal."""
    with noting_arguments(system), accounts(system, home) as both:
        pass
    seen = system.run("cat /root/arguments; rm /root/arguments")
    journal = system.run("journalctl -b --no-pager -o cat")
    for account in both:
        assert account.number in seen, "arguments are noted"
        for text in (account.password, ha1(account.number, DOMAIN, account.password)):
            assert text not in seen
            assert text not in journal


def test_a_killed_prover_leaves_nothing_when_the_timer_of_the_host_has_run(system):
    command = f"{LIFETIME}import sys; from sipdeploy.__main__ import main; main(['verify'])"
    with subprocess.Popen(
        [sys.executable, "-c", command],
        cwd=system.deployer.folder,
        env=system.deployer.environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as prover:
        for line in prover.stderr:
            if " REGISTER ." in line:
                prover.send_signal(signal.SIGKILL)
                break
        prover.wait()
    assert {"probes", "timers"} <= left(system).keys()
    begun = time.monotonic()
    while left(system):
        assert time.monotonic() - begun < 20, left(system)
        time.sleep(0.5)


def as_user(system, number, folder):
    """The results of `verify --user` without keys for SSH, by step."""
    done = subprocess.run(
        [sys.executable, "-m", "sipdeploy", "verify", "--user", number, "--format", "junit"],
        cwd=system.deployer.folder,
        env={**system.deployer.environment, "HOME": str(folder)},
        input=f"{password(number)}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {case.get("name"): case for case in ET.fromstring(done.stdout).iter("testcase")}


@pytest.mark.parametrize("number", ["1001", "1002"])  # 1002 has a mailbox
def test_a_user_is_enough_without_ssh(system, tmp_path, number):
    cases = as_user(system, number, tmp_path)
    assert cases["REGISTER"].find("*") is None
    assert cases["service"].find("*") is None
    assert cases["call"].find("skipped") is not None
    # in mode `asterisk`, only a registered phone calls
    skipped = {name for name in OWN if cases[name].find("skipped") is not None}
    assert skipped == ({"lost phone"} if system.mode == "asterisk" else set())
    assert "channels" not in left(system), "a mailbox still listens"


def test_the_other_phone_of_a_user_rings_for_a_moment(system, tmp_path):
    def calls_of(phone, method):
        return {each.call_id for each in phone.received(method)}

    async def ring(phone):
        while True:
            await (await phone.incoming(60, method="INVITE")).ring()

    async def scenario():
        async with registered(system, "1005") as (other,):
            ringing = asyncio.create_task(ring(other))
            cases = await asyncio.to_thread(as_user, system, "1005", tmp_path)
            assert cases["phone of a stranger"].find("*") is None
            assert cases["call to itself"].find("*") is None
            assert cases["lost phone"].find("skipped") is not None
            assert len(calls_of(other, "INVITE")) >= 2
            await other.until(
                lambda: calls_of(other, "CANCEL") == calls_of(other, "INVITE") or None, "a CANCEL"
            )
            ringing.cancel()

    run(scenario())


def test_a_wrong_password_of_a_user_is_told(system):
    done = subprocess.run(
        [sys.executable, "-m", "sipdeploy", "verify", "--user", "1001"],
        cwd=system.deployer.folder,
        env=system.deployer.environment,
        input="wrong\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "SD906" in done.stderr
    assert "set-password 1001" in done.stderr
    system.run("kamcmd htable.flush failures; kamcmd htable.flush waiting")


def test_a_monitor_writes_its_file_and_ends_cleanly(system, tmp_path):
    file = tmp_path / "sipdeploy.prom"
    command = ["verify", "--every", "10s", "--format", "prometheus", "-o", str(file)]
    with subprocess.Popen(
        [sys.executable, "-m", "sipdeploy", *command],
        cwd=system.deployer.folder,
        env=system.deployer.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as monitor:
        begun = time.monotonic()
        while not file.exists():
            assert time.monotonic() - begun < 30
            time.sleep(0.1)
        monitor.send_signal(signal.SIGTERM)
        _, errors = monitor.communicate(timeout=30)
    assert monitor.returncode == 0, errors
    text = file.read_text()
    assert f'sipdeploy_verify_success{{host="{system.host.name}",level="quick"}} 1\n' in text
    assert file.stat().st_mode & 0o777 == 0o644
    assert left(system) == {}


def test_the_ladder_shows_the_calls(system):
    done = system.deployer.run("verify", "--ladder")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^call: ok\n", done.stdout, re.MULTILINE)
    assert re.search(r"-+ INVITE -+>", done.stdout)
    assert re.search(r"<-+ 200 BYE -+", done.stdout)
    assert not re.search(r"[0-9]{30}", done.stdout + done.stderr)


def test_a_stopped_daemon_is_found(system):
    daemon = "kamailio" if system.mode == "kamailio" else "asterisk"
    system.run(f"systemctl stop {daemon}")
    try:
        done = system.deployer.run("verify", "--format", "json")
    finally:
        system.host.run(f"systemctl start {daemon}", check=True)
        time.sleep(2)
    assert done.returncode in {1, 4}
    (proof,) = json.loads(done.stdout)["hosts"]
    failed = [step["name"] for step in proof["steps"] if step["status"] == "failed"]
    assert failed == (["TCP", "probe accounts"] if daemon == "kamailio" else ["probe accounts"])


# --- apply ---------------------------------------------------------------------------------------


def applied(system, loaded, **options):
    """Apply from this process, so that a service can be changed."""
    credentials, _ = inventory.credentials(loaded)
    chosen = Options(folder=loaded.directory, verify="quick", **options)
    (report,) = apply(
        loaded.site,
        [system.host.name],
        credentials=credentials,
        say=lambda _: None,
        options=chosen,
    )
    return report


def test_a_firewall_that_shuts_phones_out_goes_back(system, home, monkeypatch):
    rule = b"tcp dport 8443 counter "
    with monkeypatch.context() as patch:
        change_file(
            patch,
            "firewall",
            firewall.NFTABLES,
            lambda text: text.replace(rule + b"accept", rule + b"reject"),
        )
        report = applied(system, home)
    assert report.state == "rolled back", report.diagnostics
    assert "SD912" in codes(report)
    assert "SD902" in codes(report)
    assert quick(system, home).failed == ()


def test_a_host_that_was_closed_before_stays_applied_and_says_so(system):
    path = system.deployer.folder / "inventory.yaml"
    before = path.read_text()
    path.write_text(before + "origins: [https://phone.example.test]\n")
    try:
        with dropped(system, "out", "tcp", 8443):
            done = system.deployer.run("apply", system.host.name, "--yes")
            assert done.returncode == 1, done.stderr
            last = done.stdout.strip().split("\n")[-1]
            assert "applied; phones cannot reach it from here: TCP failed" in last
            assert "open TCP 8443" in last
            again = system.deployer.run("apply", system.host.name, "--yes")
            assert again.returncode == 0, again.stderr
            assert "unchanged" in again.stdout
        done = system.deployer.run("verify")
        assert done.returncode == 0, done.stderr
        assert "refused, a foreign origin too" in done.stdout
    finally:
        path.write_text(before)
        done = system.deployer.run("apply", system.host.name, "--yes")
    assert done.returncode == 0, done.stderr
    assert "prove from here, level quick" in done.stderr


def test_a_rollback_is_proved_from_here_too(system):
    path = system.deployer.folder / "inventory.yaml"
    before = path.read_text()
    name = system.host.name
    path.write_text(before + "origins: [https://phone.example.test]\n")
    try:
        done = system.deployer.run("apply", name, "--yes")
        assert done.returncode == 0, done.stderr
        done = system.deployer.run("rollback", name, "--yes")
        assert done.returncode == 0, done.stderr
        assert "try from here, before the change" in done.stderr
        assert "prove from here, level quick" in done.stderr
        assert left(system) == {}
    finally:
        path.write_text(before)
    done = system.deployer.run("apply", name, "--yes")
    assert done.returncode == 0, done.stderr
    assert "unchanged" in done.stdout
