"""All packaged versions: the daemons accept the rendered files, start, and serve phones.

Debian 11, 12, 13 and sid have Kamailio 5.4, 5.6, 6.0 and 6.1; Debian 11 and sid also have Asterisk
16 and 22. Like `apply`, the tests render for the versions of the host.
"""

import asyncio
import hashlib
import io
import re
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from sipdeploy.inventory.site import Versions, load_site
from sipdeploy.services import SERVICES, asterisk, file_set, kamailio
from sipdeploy.services.service import Port
from sipdeploy.sip.phone import HandshakeRefusedError, Phone

pytestmark = pytest.mark.lab

SUITES = {"bullseye": "5.4.", "bookworm": "5.6.", "trixie": "6.0.", "sid": "6.1."}
WITH_ASTERISK = {"bullseye": "16.", "sid": "22."}
DOMAIN = "sip.example.test"
ORIGIN = "https://phone.example.test"
INVENTORY = """\
domain: {domain}
email: ops@example.test
hosts: {{sip1: {{address: {address}}}}}
authentication: {mode}
tls: {{provider: self-signed}}
origins: ['{origin}', 'http://localhost:3000', 'https://[2001:db8::7]:8443']
users:
  1001: {{name: Alice}}
  1002: {{name: 'Eve; "the" <third>, ${{EXTEN}} \\', voicemail: yes}}
  0103: {{name: 김민준, max_contacts: 1}}
services:
  6000: {{kind: ivr-test}}
  '*97': {{kind: voicemail}}
  6002: {{kind: echo}}
"""
PREPARE = f"""\
install -d -m 0750 -o root -g kamailio /etc/kamailio/tls
cd /etc/kamailio/tls
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={DOMAIN} \
    -addext subjectAltName=DNS:{DOMAIN} -keyout server.key -out server.crt 2>/dev/null
printf '#!substdef "!DIALOG_KEY!%s!g"\\n' "$(openssl rand -hex 32)" >../dialog-key.cfg
chgrp kamailio server.crt server.key ../dialog-key.cfg
chmod 0640 server.key ../dialog-key.cfg
"""

# Messages at WARNING or above that do not point to an error in the rendered files.
ACCEPTED = {
    "kamailio": (
        # tls: logged at every start
        r"openssl bug #1491 .* workaround enabled",
        # tls with OpenSSL 3: the number of reserved thread keys, in tls_threads_mode 2
        r"set maximum pthreads key to",
        # websocket, tm: a reply to a password guesser whose connection was just closed
        r"encode_and_send_ws_frame\(\): sending WebSocket frame$",
        r"encode_and_send_ws_frame\(\): TCP/TLS connection get failed$",
        r"ws_frame_transmit\(\): sending message$",
        r"msg_send_buffer\(\): TCP/TLS connection for WebSocket could not be found$",
    ),
    "asterisk": (
        # Debian's sample of a file that sipdeploy does not use
        r"users\.conf is deprecated",
        # Asterisk 16 at each reload; so a changed transport costs a restart
        r"Transport 'transport' is not fully reloadable, not reloading",
    ),
}


@dataclass
class Machine:
    suite: str
    host: Any
    versions: Versions

    @property
    def has_asterisk(self) -> bool:
        return self.suite in WITH_ASTERISK

    @property
    def units(self) -> dict[str, Any]:
        daemons = ("asterisk", "kamailio") if self.has_asterisk else ("kamailio",)
        return {name: SERVICES[name] for name in daemons}

    def run(self, command: str) -> str:
        return self.host.run(command, check=True).stdout

    def ask(self, command: str) -> str:
        """Return the output of Asterisk's command line, without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.run(f"asterisk -rx '{command}'"))


def prepare(lab, suite: str) -> Machine:
    """Boot a host with all packages; no daemon runs yet."""
    host = lab.boot(f"versions-{suite}", suite=suite)
    host.write("/usr/sbin/policy-rc.d", b"#!/bin/sh\nexit 101\n", mode=0o755)
    modules = (kamailio, asterisk) if suite in WITH_ASTERISK else (kamailio,)
    site = site_at("203.0.113.10", "kamailio")
    names = " ".join(name for m in modules for name in m.packages(site, "debian", suite))
    install = f"apt-get -qq -y --no-install-recommends install {names}"
    environment = "DEBIAN_FRONTEND=noninteractive"
    host.run(
        f"{environment} {install} || {{ apt-get -qq update && {environment} {install}; }}",
        check=True,
    )
    host.share_packages()
    found = host.run("kamailio -v; asterisk -V 2>/dev/null").stdout
    speaks = re.search(r"^Asterisk (\d+\.\d+\.\d+)", found, re.MULTILINE)
    versions = Versions.model_construct(
        kamailio=re.search(r"^version: kamailio (\S+)", found)[1],
        asterisk=speaks[1] if speaks else "22",
    )
    return Machine(suite=suite, host=host, versions=versions)


@pytest.fixture(scope="module")
def machines(lab):
    """All four hosts, prepared concurrently; an exception replaces a host that failed."""

    def attempt(suite: str) -> Machine | Exception:
        try:
            return prepare(lab, suite)
        except Exception as failure:  # noqa: BLE001  # the tests of this suite report it
            return failure

    with ThreadPoolExecutor(len(SUITES)) as pool:
        made = dict(zip(SUITES, pool.map(attempt, SUITES), strict=True))
    yield made
    for machine in made.values():
        if isinstance(machine, Machine):
            machine.host.kill()


@pytest.fixture(scope="module", params=SUITES)
def machine(request, machines):
    made = machines[request.param]
    if isinstance(made, Exception):
        notes = "; ".join(getattr(made, "__notes__", ()))
        pytest.fail(f"no host with {request.param}: {made} {notes}")
    return made


@pytest.fixture(scope="module", params=["kamailio", "asterisk"])
def mode(request):
    return request.param


@pytest.fixture(scope="module")
def started(machine, mode):
    """A host whose daemons have started with newly rendered files."""
    put(machine, mode)
    machine.run("systemctl daemon-reload")
    for unit in machine.units:
        machine.host.run(f"systemctl stop {unit}")
    if machine.has_asterisk:
        machine.run("rm -f /var/lib/asterisk/astdb.sqlite3")
    for unit in machine.units:
        machine.run(f"systemctl start {unit} || {{ journalctl -u {unit} -n 20 >&2; false; }}")
    if machine.has_asterisk:
        machine.run("asterisk -rx 'core waitfullybooted'")
    return machine


def site_on(machine: Machine, mode: str):
    return site_at(machine.host.address, mode)


def site_at(address: str, mode: str):
    text = INVENTORY.format(domain=DOMAIN, address=address, mode=mode, origin=ORIGIN)
    site, problems, _ = load_site(text, "inventory.yaml")
    assert site, problems
    return site


def put(machine: Machine, mode: str) -> None:
    """Write the rendered files with owner and mode, and the files that the host generates."""
    site = site_on(machine, mode)
    hashes = {n: hashlib.md5(f"{n}:{DOMAIN}:secret-{n}".encode()).hexdigest() for n in site.users}
    files = file_set(site, "sip1", versions=machine.versions, credentials=hashes).files
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for file in files:
            if file.service in machine.units:
                info = tarfile.TarInfo(file.path)
                info.size, info.mode = len(file.content), file.mode
                info.uname, info.gname = file.owner.split(":")
                tar.addfile(info, io.BytesIO(file.content))
    command = f"{PREPARE}exec tar --extract --absolute-names --no-overwrite-dir"
    machine.host.run(command, check=True, input_bytes=buffer.getvalue())


def phone(machine: Machine, number: str, **options: Any) -> Phone:
    address = (machine.host.address, 8443)
    options = {"origin": ORIGIN, **options}
    return Phone(number, f"secret-{number}", domain=DOMAIN, address=address, **options)


def complaints(machine: Machine) -> list[str]:
    """Return the log lines at WARNING or above since the start, except ACCEPTED."""
    said = {
        unit: machine.run(
            "journalctl --no-pager --output cat _SYSTEMD_INVOCATION_ID="
            f"$(systemctl show --property InvocationID --value {unit})"
        )
        for unit in machine.units
        if unit in ACCEPTED
    }
    worst = re.compile(r"\b(WARNING|ERROR|CRITICAL|ALERT|BUG)\b")
    return [
        f"{name}: {line}"
        for name, text in said.items()
        for line in text.splitlines()
        if worst.search(line) and not any(re.search(p, line) for p in ACCEPTED[name])
    ]


def listening(machine: Machine) -> set[tuple[str, str, str]]:
    """Return protocol, address with port, and program of every listening socket."""
    lines = machine.run("ss --no-header --tcp --udp --listening --numeric --processes")
    found = (line.split() for line in lines.splitlines())
    return {(w[0], w[4], re.search(r'"([^"]+)"', line)[1]) for w in found for line in [w[-1]]}


def has(sockets: set[tuple[str, str, str]], port: Port) -> bool:
    return (port.protocol, f"{port.address}:{port.number}", port.process) in sockets


# --- the versions, the check, the start ----------------------------------------------------------


def test_the_versions_are_the_ones_that_are_meant(machine):
    assert machine.versions.kamailio.startswith(SUITES[machine.suite])
    if machine.has_asterisk:
        assert machine.versions.asterisk.startswith(WITH_ASTERISK[machine.suite])


def test_kamailio_accepts_the_files(machine, mode):
    put(machine, mode)
    done = machine.host.run(["kamailio", "-c", "-f", kamailio.CONFIGURATION])
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert kamailio.parse_check(said) == []
    assert "config file ok" in said


def test_kamailio_says_where_a_fault_is(machine, mode):
    if mode == "asterisk":
        pytest.skip("the same in both modes")
    broken = f"/tmp/stage{kamailio.CONFIGURATION}"
    machine.run(f"install -D {kamailio.CONFIGURATION} {broken}")
    machine.run(
        f"sed -i 's/^children=2/&\\nno_such=1/; s/^route.RELAY.*/&\\nno_such(1);/' {broken}"
    )
    done = machine.host.run(["kamailio", "-c", "-f", broken])
    numbers = re.findall(r"(?m)^(\d+):", machine.run(f"grep -n no_such {broken}"))
    verdicts = kamailio.parse_check(done.stdout + done.stderr)
    assert (verdicts[0].path, verdicts[0].line) == (broken, int(numbers[0]))
    assert {verdict.line for verdict in verdicts} <= set(map(int, numbers))


def test_the_daemons_start_and_listen(started, mode):
    site = site_on(started, mode)
    for unit, module in started.units.items():
        assert started.run(f"systemctl is-active {unit}") == "active\n"
        sockets = listening(started)
        for port in module.listens(site, site.hosts["sip1"]):
            assert has(sockets, port), (port, sockets)


def test_the_tables_are_loaded(started, mode):
    def rows(table: str) -> dict[str, str]:
        dump = started.run(f"kamcmd htable.dump {table}")
        return dict(re.findall(r"name: (.*)\n\s*value: (.*)\n", dump))

    assert rows("users") == {
        "1001": "voicemail=0;contacts=5",
        "1002": "voicemail=1;contacts=5",
        "0103": "voicemail=0;contacts=1",
    }
    assert rows("services") == {"6000": "ivr-test", "*97": "voicemail", "6002": "echo"}
    assert rows("names")["1002"] == r'"Eve; \"the\" <third>, ${EXTEN} \\"'
    assert len(rows("credentials")) == (3 if mode == "kamailio" else 0)


def test_asterisk_has_what_the_files_ask_for(started):
    if not started.has_asterisk:
        pytest.skip(f"no Asterisk in {started.suite}")
    endpoints = started.ask("pjsip show endpoints")
    for name in ("1001", "1002", "0103", "trunk"):
        assert re.search(rf"^ Endpoint:  {name}\b", endpoints, re.MULTILINE), endpoints
    assert "Eve the third EXTEN" in started.ask("pjsip show endpoint 1002")
    assert "0103" in started.ask("pjsip show endpoint 0103").split("callerid ")[1].split("\n")[0]
    assert re.search(r"default +1002 +Eve the third", started.ask("voicemail show users"))


def test_asterisk_runs_every_module_that_is_named(started):
    if not started.has_asterisk:
        pytest.skip(f"no Asterisk in {started.suite}")
    running = set(re.findall(r"(?m)^(\S+)\.so .* Running ", started.ask("module show")))
    text = started.run("cat /etc/asterisk/modules.conf")
    named = set(re.findall(r"(?m)^load=(\S+)\.so$", text))
    assert len(named) > 50
    assert named - running == set()


def test_asterisk_knows_every_application_and_function_of_the_dialplan(started):
    if not started.has_asterisk:
        pytest.skip(f"no Asterisk in {started.suite}")
    text = re.sub(r";.*", "", started.run("cat /etc/asterisk/extensions.conf"))
    applications = set(re.findall(r"(?:,1|=> n(?:\(\w+\))?),(\w+)\(", text))
    functions = set(re.findall(r"\$\{(\w+)\(", text))
    assert {"VoiceMail", "VoiceMailMain", "Gosub", "Echo"} <= applications
    assert {"VM_INFO", "CUT", "FILTER"} <= functions
    for name in applications:
        assert f"'{name}'".lower() in started.ask(f"core show application {name}").lower(), name
    for name in functions:
        assert f"'{name}'" in started.ask(f"core show function {name}"), name
    assert re.search(r"exists: *\n? *Returns a boolean", started.ask("core show function VM_INFO"))
    assert "pbx_config" in started.ask("dialplan show from-kamailio")


def test_a_reload_shows_what_is_loaded(started):
    """Each version shows the digest of each part, and that of Kamailio's tables."""
    started.run("sh /etc/kamailio/tables.sh")
    if not started.has_asterisk:
        pytest.skip("no package of Asterisk")
    for part in ("endpoints", "dialplan", "mailboxes"):
        started.run(f"sh /etc/asterisk/reload.sh {part}")
    # another digest is not shown
    edit = "sed 's/^; digest .*/; digest 0123456789abcdef/'"
    started.run(f"{edit} -i.kept /etc/asterisk/extensions.conf")
    quick = "sed 's/+ 40/+ 1/' /etc/asterisk/reload.sh >/root/reload.sh"
    done = started.host.run(f"{quick}; sh /root/reload.sh dialplan")
    started.run("mv /etc/asterisk/extensions.conf.kept /etc/asterisk/extensions.conf")
    assert (done.returncode, "has not loaded the new" in done.stdout) == (1, True)


def test_asterisk_can_speak(started):
    if not started.has_asterisk:
        pytest.skip(f"no Asterisk in {started.suite}")
    sounds = [*(f"digits/{n}" for n in range(1, 6)), "vm-intro", "pbx-invalid", "vm-youhave"]
    for sound in sounds:
        started.run(f"ls /usr/share/asterisk/sounds/en*/{sound}.gsm")


# --- phones --------------------------------------------------------------------------------------


def talked(coroutine) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 30))


def test_pages_of_other_origins_are_refused(started):
    async def scenario():
        for origin in (ORIGIN, "http://localhost:3000", "https://[2001:db8::7]:8443", None):
            async with phone(started, "1001", origin=origin) as welcome:
                await welcome.connect()
        for origin in (f"{ORIGIN}.evil.test", "https://[2001:db8::7]", "null"):
            async with phone(started, "1001", origin=origin) as stranger:
                with pytest.raises(HandshakeRefusedError):
                    await stranger.connect()

    talked(scenario())


def test_two_phones_register_and_talk(started, mode):
    if mode == "asterisk" and not started.has_asterisk:
        pytest.skip(f"no Asterisk in {started.suite}")

    async def scenario():
        async with phone(started, "1002") as eve, phone(started, "0103") as minjun:
            for one in (eve, minjun):
                await one.connect()
                assert (await one.register()).status == 200
            call = await eve.invite("0103")
            incoming = await minjun.incoming()
            identity = incoming.request.values("P-Asserted-Identity")
            assert identity == [rf'"Eve; \"the\" <third>, ${{EXTEN}} \\" <sip:1002@{DOMAIN}>']
            await incoming.ring()
            answered = await incoming.answer()
            await call.answered()
            await call.ack()
            await answered.acknowledged()
            assert (await answered.request_in_dialog("INFO")).status == 200
            assert (await call.bye()).status == 200
            await answered.ended()
            refused = await minjun.invite("1002")
            await (await eve.incoming(method="INVITE")).reject(603)
            if started.has_asterisk:  # voicemail answers
                assert "UDP/TLS/RTP/SAVPF" in (await refused.answered()).body
                await refused.ack()
                assert (await refused.bye()).status == 200
            else:
                assert (await refused.final()).status == 503

    talked(scenario())


async def guess(guesser: Phone) -> None:
    for _ in range(30):
        await guesser.register(timeout_seconds=2)


def test_a_wrong_password_ends_the_connection_at_last(started, mode):
    if mode == "asterisk" and not started.has_asterisk:
        pytest.skip(f"no Asterisk in {started.suite}")

    async def scenario():
        async with phone(started, "1001") as guesser:
            guesser.password = "guess"
            await guesser.connect()
            assert (await guesser.register()).status in {401, 403}
            with pytest.raises((ConnectionError, TimeoutError)):
                await guess(guesser)

    talked(scenario())
    started.run("kamcmd htable.flush failures")


def test_services_answer(started):
    if not started.has_asterisk:
        pytest.skip(f"no Asterisk in {started.suite}")

    async def scenario():
        async with phone(started, "1002") as eve:
            await eve.connect()
            assert (await eve.register()).status == 200
            for number in ("6000", "6002", "*97"):
                call = await eve.invite(number)
                reply = await call.answered()
                assert f"c=IN IP4 {started.host.address}\r\n" in reply.body
                assert "a=fingerprint:" in reply.body
                await call.ack()
                assert (await call.bye()).status == 200

    talked(scenario())


def test_nothing_was_complained_of(started):
    assert complaints(started) == []
