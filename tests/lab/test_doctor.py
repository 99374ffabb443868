"""Faults made on purpose: the step of verify that fails, and the verdict of doctor."""

import asyncio
import contextlib
import datetime as dt
import os
import re
import socket
import threading
import time

import pytest
from conftest import Deployer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID
from faults import FAULTS, RELOAD_RTP, RESTART, RTP, is_said
from signalling import forgive, run, talk
from system import DOMAIN, System, dropped, packages_of, password

from sipdeploy import inventory
from sipdeploy.host.connection import connect
from sipdeploy.proof.doctor.walk import diagnose_host
from sipdeploy.proof.outside import network
from sipdeploy.proof.outside.ladder import LADDER
from sipdeploy.proof.outside.probes import Probes
from sipdeploy.proof.outside.run import prove
from sipdeploy.proof.outside.subject import Account, Subject

pytestmark = pytest.mark.lab

TOOLS = ("iptables", "nftables", "ufw", "firewalld", "ipset")  # as in test_firewall_rules
QUICK = {
    "DNS",
    "TCP",
    "TLS",
    "WebSocket",
    "wrong path",
    "probe accounts",
    "certificate",
    "REGISTER",
    "password",
    "call",
}
QUICK |= {"service"}
SOUND = {"echo", "speech"}
CRT, KEY = "/etc/kamailio/tls/server.crt", "/etc/kamailio/tls/server.key"
DIALOG_KEY = "/etc/kamailio/dialog-key.cfg"
CUT_SECONDS = 14


@pytest.fixture(scope="module", params=["kamailio", "asterisk"])
def system(request, lab, tmp_path_factory):
    """A host for each mode, with every tool for firewalls."""
    mode = request.param
    host = lab.boot(f"doctor-{mode}", packages=(*packages_of("sid"), *TOOLS))
    host.run("systemctl disable --now firewalld", check=True)
    deployer = Deployer(lab, tmp_path_factory.mktemp(mode))
    deployer.write(name=host.name, address=host.address, mode=mode)
    done = deployer.run("apply", host.name, "--yes")
    if done.returncode:
        host.stop()
        pytest.fail(done.stdout + done.stderr)
    yield System(mode=mode, host=host, deployer=deployer)
    host.stop()


@pytest.fixture
def home(system, monkeypatch):
    """The deploying machine, for code that this process runs."""
    monkeypatch.setenv("HOME", system.deployer.environment["HOME"])
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.chdir(system.deployer.folder)
    return inventory.open_inventory(system.deployer.folder / "inventory.yaml")


# --- faults that need more than a command on the host --------------------------------------------


@contextlib.contextmanager
def dns(system, patch, *addresses):
    """What DNS says, as this machine sees it."""
    del system

    async def resolved(_):
        return addresses

    patch.setattr(network, "resolved", resolved)
    patch.setattr(network, "is_reserved", lambda _: False)
    yield


@contextlib.contextmanager
def public_address(system, _, last):
    """The inventory has an address of nobody as the public one."""
    is_ipv6 = ":" in last
    address = f'"{last}"' if is_ipv6 else f"{system.address.rpartition('.')[0]}.{last}"
    more = "" if is_ipv6 else f", private_address: {system.address}"
    path = system.deployer.folder / "inventory.yaml"
    before = path.read_text()
    entry = f"address: {system.address}"
    path.write_text(before.replace(entry, f"{entry}, public_address: {address}{more}"))
    try:
        yield
    finally:
        path.write_text(before)


@contextlib.contextmanager
def way(system, _, hook, protocol, *words):
    """A firewall between this machine and the host drops packets."""
    with dropped(system, hook, protocol, words[-1]):
        yield


def signed(name, key, *, issuer=None, days=90, start=-1, extensions=()):
    """A certificate; `issuer` is a name and a key, or it signs itself."""
    by, signer = issuer or (name, key)

    def called(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    begin = dt.datetime.now(dt.UTC) + dt.timedelta(days=start)
    builder = (
        x509.CertificateBuilder()
        .subject_name(called(name))
        .issuer_name(called(by))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + dt.timedelta(days=days))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    is_ed = isinstance(signer, ed25519.Ed25519PrivateKey)
    return builder.sign(signer, None if is_ed else hashes.SHA256())


@contextlib.contextmanager
def certificate(system, _, kind):
    """Another certificate in the place of the host's."""
    key = ec.generate_private_key(ec.SECP256R1())
    names, options = [DOMAIN], {}
    if kind == "expired":
        options = {"start": -100}
    elif kind == "name":
        names = ["other.example.test"]
    elif kind == "intermediate":
        options = {"issuer": ("Intermediate", ec.generate_private_key(ec.SECP256R1()))}
    elif kind == "ed25519":
        key = ed25519.Ed25519PrivateKey.generate()
    elif kind == "new":
        options = {"days": 4000}
    extensions = [x509.SubjectAlternativeName([x509.DNSName(name) for name in names])]
    if kind == "staple":
        extensions.append(x509.TLSFeature([x509.TLSFeatureType.status_request]))
    made = signed(names[0], key, extensions=extensions, **options)
    system.run(f"cp -a {CRT} {KEY} /root/")
    system.host.write("/root/new.crt", made.public_bytes(serialization.Encoding.PEM))
    system.host.write(
        "/root/new.key",
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    load = "true" if kind == "new" else "kamcmd tls.reload"
    system.host.run(f"cat /root/new.crt >{CRT}; cat /root/new.key >{KEY}; {load}", check=True)
    try:
        yield
    finally:
        system.run(
            f"cp -a /root/server.crt {CRT}; cp -a /root/server.key {KEY}; kamcmd tls.reload"
        )


@contextlib.contextmanager
def crowd(system, _, most):
    """Kamailio accepts only so many connections, and all are in use."""
    path = "/etc/kamailio/kamailio.cfg"
    change = f"s/^\\(t[lc][sp]\\)_max_connections=.*/\\1_max_connections={most}/"
    system.host.run(f"cp -a {path} /root/kept && sed -i '{change}' {path}; {RESTART}", check=True)
    wait_for_port(system)
    ends = contextlib.ExitStack()
    try:
        with held(system, ["1001", "1002", "1003", "1004"], ends):
            yield
    finally:
        system.run(f"cp -a /root/kept {path}; {RESTART}")


@contextlib.contextmanager
def held(system, numbers, stack, port=8443, address=""):
    """Registered phones in a thread of their own, which stay until the end."""
    ready, leave = threading.Event(), threading.Event()

    async def stay():
        async with contextlib.AsyncExitStack() as phones:
            for number in numbers:
                options = {"address": (address or system.address, port)}
                phone = await phones.enter_async_context(system.phone(number, **options))
                await phone.connect()
                assert (await phone.register()).status == 200
            ready.set()
            await asyncio.to_thread(leave.wait)

    thread = threading.Thread(target=lambda: asyncio.run(stay()), daemon=True)
    thread.start()
    assert ready.wait(20)
    stack.callback(leave.set)
    try:
        yield
    finally:
        leave.set()
        thread.join(20)


@contextlib.contextmanager
def cut(system, _):
    """Phones connect through a proxy that cuts each connection after some seconds."""
    forget = "journalctl -q --rotate; sleep 1; journalctl -q --vacuum-time=1s"  # doctor goes by it
    system.run(forget)
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    relays = []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                near, _ = server.accept()
                relays.append(threading.Thread(target=relay, args=(near,), daemon=True))
                relays[-1].start()

    def relay(near):
        far = socket.create_connection((system.address, 8443))
        end = time.monotonic() + CUT_SECONDS
        for one, other in ((near, far), (far, near)):
            threading.Thread(target=pump, args=(one, other), daemon=True).start()
        time.sleep(end - time.monotonic())
        for each in (near, far):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def pump(one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    with contextlib.ExitStack() as stack:
        for number in ("1001", "1002", "1003", "1004"):
            stack.enter_context(held(system, [number], stack, port, "127.0.0.1"))
            time.sleep(2)
        time.sleep(CUT_SECONDS)
    server.close()
    try:
        yield
    finally:
        system.run(forget)


@contextlib.contextmanager
def wrong_password(system, _, number, times):
    """A phone tries a wrong password."""

    async def scenario():
        for _ in range(int(times)):
            async with system.phone(number, "wrong") as phone:
                await phone.connect()
                await phone.register()

    run(scenario())
    try:
        yield
    finally:
        forgive(system)


@contextlib.contextmanager
def phones(system, _, number, count):
    """So many phones of a number are registered."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(held(system, [number] * int(count), stack))
        yield


@contextlib.contextmanager
def gone(system, _, number):
    """A phone was there, and left."""
    with contextlib.ExitStack() as stack, held(system, [number], stack):
        pass
    begun = time.monotonic()
    while system.contacts(number):
        assert time.monotonic() - begun < 20
        time.sleep(0.2)
    yield


@contextlib.contextmanager
def key(system, _):
    """The key that signs calls changes during a call, which then cannot be ended."""

    async def scenario():
        async with system.phone("1001") as caller, system.phone("1004") as callee:
            for phone in (caller, callee):
                await phone.connect()
                assert (await phone.register()).status == 200
            call, _ = await talk(caller, callee)
            change = "sed -i 's/DIALOG_KEY!\\(.\\)/DIALOG_KEY!0\\1/'"
            system.host.run(
                f"cp -a {DIALOG_KEY} /root/kept && {change} {DIALOG_KEY}"
                f" && ! cmp -s /root/kept {DIALOG_KEY}; {RESTART}",
                check=True,
            )
            await asyncio.to_thread(wait_for_port, system)
            for phone in (caller, callee):
                await phone.connect()
                assert (await phone.register()).status == 200
            assert (await call.bye()).status == 403

    run(scenario())
    try:
        yield
    finally:
        system.run(f"cp -a /root/kept {DIALOG_KEY}; {RESTART}")


@contextlib.contextmanager
def announced(system, _, address):
    """Asterisk announces another address for media."""
    lines = f"[ice_host_candidates]\\n{system.address} => {address}\\n"
    permit = f"sed -i '/^ice_permit=/a ice_permit={address}/32' {RTP}"
    system.host.run(
        f"cp -a {RTP} /root/kept && {permit} && printf '\\n{lines}' >>{RTP}; {RELOAD_RTP}"
    )
    try:
        yield
    finally:
        system.run(f"cp -a /root/kept {RTP}; {RELOAD_RTP}")


BY = {
    each.__name__: each
    for each in (
        *(dns, public_address, way, certificate, crowd, cut, wrong_password, phones),
        *(gone, key, announced),
    )
}


@contextlib.contextmanager
def made(fault, system, patch):
    """The host with a fault, which is undone at the end."""
    if fault.by:
        name, *words = fault.by.split()
        with BY[name](system, patch, *words):
            yield
    else:
        done = system.host.run(fault.make)
        try:
            assert done.returncode == 0, done.stdout + done.stderr
            yield
        finally:
            system.host.run(fault.undo)


def wait_for_port(system, seconds=20):
    end = time.monotonic() + seconds
    while True:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((system.address, 8443)) == 0:
                return
        assert time.monotonic() < end
        time.sleep(0.1)


# --- what is said about them ---------------------------------------------------------------------


def asked(system, loaded, stack, account=None):
    """The host as verify and doctor get it, and its connection."""
    name = system.host.name
    opened = []

    def connected():
        if not opened:
            opened.append(connect(name, loaded.site.hosts[name]))
            stack.callback(opened[0].close)
        return opened[0]

    subject = Subject(
        name=name,
        site=loaded.site,
        entry=loaded.site.hosts[name],
        level="full",
        probes=None if account else Probes(name=name, domain=DOMAIN, connect=connected),
        accounts=(account,) if account else (),
    )
    return subject, connected


def account_of(number):
    return Account(number=number, password=password(number), title=number) if number else None


def failing_step(system, loaded, fault):
    """The first step of verify that fails; those after the expected one are left out."""
    names = QUICK | (SOUND if fault.needs_sound else set())
    steps = [step for step in LADDER if step.name in names]
    expected = [step.name for step in steps].index(fault.step) if fault.step else len(steps)
    steps = steps[: expected + 1]
    account = account_of(fault.user) if fault.step == "REGISTER" else None
    with contextlib.ExitStack() as stack:
        subject, _ = asked(system, loaded, stack, account)
        try:
            proof = asyncio.run(prove(subject, steps))
        finally:
            if subject.probes:
                subject.probes.remove()
    return proof.failed[0].name if proof.failed else ""


def diagnosed(system, loaded, topic=None, user=""):
    with contextlib.ExitStack() as stack:
        subject, connected = asked(system, loaded, stack)
        return diagnose_host(subject, connected, topic=topic, account=account_of(user))


def shown(system, text):
    """A text about this host as the table has it."""
    return text.replace(system.host.name, "sip1").replace(system.address, "203.0.113.10")


@pytest.fixture(autouse=True)
def forgiven(system):
    yield
    forgive(system)


def test_a_healthy_host_has_no_fault(system, home):
    begun = time.monotonic()
    found = diagnosed(system, home)
    assert found.verdict is None, found.verdict
    assert found.exit_code == 0
    statuses = {each.name: each.status for each in found.results}
    skipped = {name for name, status in statuses.items() if status == "skipped"}
    assert skipped == {"name", "user", "calls of the user", "relay"}, statuses
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_fault_is_told(system, home, monkeypatch, fault):
    if fault.mode != system.mode:
        pytest.skip(f"a fault of mode {fault.mode}")
    with monkeypatch.context() as patch, made(fault, system, patch):
        loaded = inventory.open_inventory(home.path)
        found = diagnosed(system, loaded, fault.topic, fault.user)
        assert found.verdict is not None, [(r.name, r.status, r.message) for r in found.results]
        message = shown(system, found.verdict.message)
        assert (found.results[-1].name, found.verdict.code) == (fault.rung, fault.code), message
        assert is_said(fault, message), message
        assert found.verdict.help
        if not fault.is_slow or os.environ.get("LAB_FAULTS"):
            assert failing_step(system, loaded, fault) == fault.step
    wait_for_port(system)


def test_everything_was_undone(system, home):
    found = diagnosed(system, home)
    assert found.verdict is None, found.verdict
    assert not re.findall(r"[0-9]{30}", system.run("kamcmd htable.dump probes"))
