"""Why did Bob not ring? Each cause, made on purpose, is answered by `calls` and `logs` alone."""

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from signalling import gone, registered, run, talk
from system import password
from watching import in_journal

pytestmark = pytest.mark.lab

KEYS = {
    *("event", "id", "from", "to", "kind", "began", "phones", "rang", "missed", "answered"),
    *("address", "device", "seconds", "ended", "status", "why", "method", "number"),
}
LATEST_SECONDS = 8


def told(system, words, *arguments):
    """The output of a command, once it has these words, a regular expression."""
    deadline = time.monotonic() + LATEST_SECONDS
    while True:
        command, *options = arguments
        done = system.deployer.run(command, system.host.name, "--since", "5m", *options)
        assert done.returncode == 0, done.stderr
        if re.search(words, done.stdout) or time.monotonic() > deadline:
            assert re.search(words, done.stdout), done.stdout
            return done.stdout
        time.sleep(0.3)


def answered_alike(system, number, words):
    """`calls` and `logs` of the number say so."""
    told(system, words, "calls", "--user", number)
    told(system, words, "logs", "--user", number)


def records(system):
    text = system.run("journalctl -t sipdeploy-calls -o cat --no-pager")
    return [json.loads(line) for line in text.splitlines()]


def test_the_phone_is_off(system):
    async def scenario():
        async with registered(system, "1001", "1003") as (caller, phone):
            await phone.reset()
            await gone(system, "1003")
            assert (await (await caller.invite("1003")).final()).status == 480

    run(scenario())
    answered_alike(system, "1003", "1001 -> 1003:? +no phone of 1003 was registered")
    told(system, r"\(\S+ lost its connection at \d\d:\d\d:\d\d\)", "calls", "--user", "1003")
    told(system, r"1003 lost its connection after ", "logs", "--user", "1003")


def test_a_wrong_password(system):
    async def scenario():
        async with registered(system, "1001") as (caller,), system.phone("1006", "wrong") as phone:
            await phone.connect()
            assert (await phone.register()).status in {401, 403}
            assert (await (await caller.invite("1006")).final()).status == 480

    run(scenario())
    said = r"no phone of 1006 was registered \(at \S+ REGISTER from \S+ refused: Wrong Password\)"
    told(system, said, "calls", "--user", "1006")
    told(system, "1006: REGISTER refused: Wrong Password", "logs", "--user", "1006")


@pytest.mark.parametrize(
    ("status", "words"), [(486, r"1003 was busy"), (603, r"1003 declined, 1 phone rang \(603")]
)
def test_busy_and_declined(system, status, words):
    async def scenario():
        async with registered(system, "1001", "1003") as (caller, phone):
            call = await caller.invite("1003")
            incoming = await phone.incoming(method="INVITE")
            await incoming.ring()
            await incoming.reject(status)
            assert (await call.final()).status == status

    run(scenario())
    answered_alike(system, "1003", words)


def test_cancelled(system):
    async def scenario():
        async with registered(system, "1001", "1004") as (caller, phone):
            call = await caller.invite("1004")
            incoming = await phone.incoming(method="INVITE")
            await incoming.ring()
            await call.ringing()
            await call.cancel()
            await incoming.cancelled()

    run(scenario())
    answered_alike(
        system, "1004", r"1001 -> 1004:? +the caller cancelled after \d s, 1 phone rang"
    )


def test_the_mailbox_answered(system):
    async def scenario():
        async with registered(system, "1001", "1002") as (caller, phone):
            call = await caller.invite("1002")
            incoming = await phone.incoming(method="INVITE")
            await incoming.reject(486)
            assert (await call.final()).status == 200
            await call.ack()
            await asyncio.sleep(1.2)
            await call.bye()

    run(scenario())
    answered_alike(system, "1002", r"1002 was busy, the mailbox answered.*lasted \d s, 1001 hung")


def test_an_unknown_number_and_a_service(system):
    async def scenario():
        async with registered(system, "1001") as (caller,):
            assert (await (await caller.invite("1777")).final()).status == 404
            call = await caller.invite("6002")
            assert (await call.final()).status == 200
            await call.ack()
            await call.bye()

    run(scenario())
    answered_alike(system, "1777", r"1777 is not a number \(404")
    answered_alike(system, "6002", r"echo answered, lasted \d s, 1001 hung up")


def test_the_network_is_lost_in_a_call(system):
    async def scenario():
        async with registered(system, "1001", "1005") as (caller, phone):
            call, _ = await talk(caller, phone)
            await phone.reset()
            await gone(system, "1005")
            assert (await call.bye()).status == 480

    run(scenario())
    lost = r"lasted \d+ s, 1001 hung up; the other phone had lost its connection"
    told(system, lost, "calls", "--user", "1005")
    told(system, r"1005 lost its connection", "logs", "--user", "1005")
    told(system, r"BYE refused: Connection Lost", "logs", "--user", "1005")


def test_flood_control(system):
    """A phone that floods loses its connection; a call to it says so."""
    options = "OPTIONS sip:sip.example.test SIP/2.0\r\n"

    async def scenario():
        async with registered(system, "1001", "1004") as (caller, phone):
            request = str(phone.initial("OPTIONS", "sip:sip.example.test", {}))
            assert request.startswith(options)
            with contextlib.suppress(ConnectionError):
                for _ in range(1100):
                    await phone.send_raw(request)
            await gone(system, "1004")
            assert (await (await caller.invite("1004")).final()).status == 480

    run(scenario())
    told(
        system, r"registered \(at \S+ OPTIONS from \S+ refused: Flood\)", "calls", "--user", "1004"
    )
    told(system, r"1004: OPTIONS refused: Flood", "logs", "--user", "1004")


def test_asterisk_is_down(system):
    async def scenario():
        async with registered(system, "1001") as (caller,):
            system.run("systemctl stop asterisk")
            assert (await (await caller.invite("6002")).final(20)).status == 503

    try:
        run(scenario())
    finally:
        system.run("systemctl start asterisk")
    answered_alike(system, "6002", r"1001 -> 6002:? +Asterisk did not answer \(echo\)")
    told(system, r"systemd +Stopped (Asterisk|asterisk)", "logs")


def test_an_answered_call_also_after_a_restart(system):
    async def scenario():
        async with registered(system, "1001", "1003") as (caller, phone):
            call, _ = await talk(caller, phone)
            await asyncio.sleep(1.2)
            await call.bye()
            call, _ = await talk(caller, phone)
            system.run("systemctl restart kamailio")
            for each in (caller, phone):
                await each.close()
                await each.connect()
                assert (await each.register()).status == 200
            assert (await call.bye()).status == 200
            await asyncio.sleep(0.2)

    run(scenario())
    answered_alike(system, "1003", r"answered at \S+ \(\S.*\).*lasted [1-9] s, 1001 hung up")
    answered_alike(system, "1003", r"1001 -> 1003:? +began before Kamailio started, 1001 hung up")


def test_two_byes_are_one_line(system):
    async def scenario():
        async with registered(system, "1001", "1004") as (caller, phone):
            phone.automatic.discard("BYE")
            call, answered = await talk(caller, phone)
            first = asyncio.create_task(call.bye())
            await phone.incoming(method="BYE")
            await answered.bye()
            first.cancel()
            return call.request.call_id

    call_id = run(scenario())
    told(system, "hung up", "logs", "--call", call_id)
    assert [each["event"] for each in records(system) if each.get("id") == call_id] == ["call"]


def test_nobody_forges_a_line_or_a_field(system):
    """Neither the values of a phone, nor another program of the host."""
    nasty = '"}\\u000a,"event":"call" [x] {y} \\ é $(id) `id`'

    async def scenario():
        async with system.phone("1001") as caller, system.phone("1003") as phone:
            for each in (caller, phone):
                await each.connect()
                assert (await each.register(headers={"User-Agent": nasty})).status == 200
            call, _ = await talk(caller, phone)
            await call.bye(headers={"Reason": f"SIP;cause=16;text={nasty}"})
            await caller.request("MESSAGE", "sip:%22,%22x%22:%22@sip.example.test", body="secret!")
            call = await caller.invite("1003", headers={"Call-ID": f'a"b\\c{time.time():.0f}'})
            await (await phone.incoming(method="INVITE")).reject(486)
            await call.final()
            for text in ('X"Y sip:1003@sip.example.test SIP/2.0\r\nFrom: "x"\r\n\r\n', nasty):
                await caller.send_raw(text)
            await asyncio.sleep(0.5)

    run(scenario())
    false = '{"event":"call","id":"forged","from":"1001","to":"6666","status":486,"kind":"phone"}'
    system.run(f"logger -t sipdeploy-calls '{false}'")
    answered_alike(system, "1003", "1003 was busy")
    found = [each for each in records(system) if each.get("id") != "forged"]
    assert {each["event"] for each in found} <= {
        *("call", "refused", "registered", "unregistered", "lost", "expired"),
    }
    assert {key for each in found for key in each} <= KEYS
    for value in (str(value) for each in found for value in each.values()):
        assert re.fullmatch(r"[-A-Za-z0-9 ._,:;()@*+=~!<>/%?\[\]]*", value), value
        assert len(value) <= 128
    assert not in_journal(system.host, ["secret!"])
    assert "6666" not in system.deployer.run("calls", system.host.name).stdout
    assert (
        "forged" not in system.deployer.run("calls", system.host.name, "--format", "json").stdout
    )


def test_the_lines_of_a_number_are_limited(system):
    before = len(records(system))

    async def scenario():
        async with registered(system, "1006") as (phone,):
            system.run("kamcmd htable.seti lines s:1006 998")
            for _ in range(6):
                await phone.request("MESSAGE", "sip:1777@sip.example.test", body="x")

    run(scenario())
    system.run("kamcmd htable.delete lines s:1006")
    told(system, "1006 reached the limit of the call log", "logs", "--user", "1006")
    events = [each["event"] for each in records(system)[before:]]
    assert events[:1] == ["registered"]
    assert (events.count("refused"), events.count("limit")) == (2, 1)


def test_logs_follows(system):
    command = [sys.executable, "-m", "sipdeploy", "logs", system.host.name, "-f", "--since", "1s"]
    deployer = system.deployer
    environment = {**deployer.environment, "PYTHONUNBUFFERED": "1"}

    async def scenario():
        async with registered(system, "1001") as (caller,):
            assert (await (await caller.invite("1888")).final()).status == 404

    with subprocess.Popen(
        command, cwd=deployer.folder, env=environment, stdout=subprocess.PIPE, text=True
    ) as following:
        limit = threading.Timer(60, following.kill)
        limit.start()
        while not system.run("pgrep -f '[j]ournalctl.* -f '") and limit.is_alive():
            time.sleep(0.1)
        run(scenario())
        assert any("1888 is not a number" in line for line in following.stdout)
        following.send_signal(signal.SIGINT)
        following.communicate()
        limit.cancel()
    assert following.returncode == 0


def wait_for_trace(system):
    deadline = time.monotonic() + 30
    while until(system) <= int(system.run("date +%s")):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def until(system):
    """When Kamailio ends its trace, in seconds since 1970; 0 without one."""
    found = re.search(r"until\s+value: (\d+)", system.run("kamcmd htable.dump traced"))
    return int(found[1]) if found else 0


def traced(system, seconds, scenario):
    """The output of a trace of 1002 during a scenario."""
    done = []
    arguments = ("trace", system.host.name, "--user", "1002", "--seconds", str(seconds))
    tracing = threading.Thread(target=lambda: done.append(system.deployer.run(*arguments)))
    tracing.start()
    wait_for_trace(system)
    run(scenario())
    tracing.join()
    assert done[0].returncode == 0, done[0].stderr
    return done[0].stdout


def test_a_trace_is_a_ladder_without_digests_and_ends(system):
    async def scenario():
        async with registered(system, "1001", "1002", "1003") as (caller, phone, other):
            call, _ = await talk(caller, phone)
            await call.bye()
            await caller.request("MESSAGE", "sip:1002@sip.example.test", body="a secret text")
            await (await caller.invite("1003")).cancel()
            assert other

    drawn = traced(system, 6, scenario)
    for words in (
        *("Kamailio", "- REGISTER +digest", "200 REGISTER", "INVITE +SDP", "180 Ringing", "BYE"),
        "1001 -> 1002, Call-ID ",
    ):
        assert words in drawn, drawn
    assert "-> 1003" not in drawn
    assert not in_journal(system.host, ["response=", password("1002"), "a secret text"])
    before = system.run("journalctl -t sipdeploy-trace -o cat | wc -l")
    run(scenario())
    assert system.run("journalctl -t sipdeploy-trace -o cat | wc -l") == before


def test_a_trace_ends_although_its_script_is_killed(system):
    tracing = threading.Thread(
        target=system.deployer.run,
        args=("trace", system.host.name, "--user", "1002", "--seconds", "20"),
    )
    tracing.start()
    wait_for_trace(system)
    busy = system.deployer.run("trace", system.host.name, "--user", "1003", "--seconds", "5")
    assert busy.returncode == 4
    assert "somebody traces 1002 for another" in busy.stderr
    system.run("pkill -KILL -f '^sh .*sipdeploy-trace'")
    tracing.join()
    end = until(system)
    while int(system.run("date +%s")) <= end:
        time.sleep(0.5)
    before = system.run("journalctl -t sipdeploy-trace -o cat | wc -l")

    async def scenario():
        async with registered(system, "1002"):
            pass

    run(scenario())
    assert system.run("journalctl -t sipdeploy-trace -o cat | wc -l") == before
