"""Level `attack`: green on a host that apply made, and exactly one step fails without its guard.

LAB_GUARDS=each removes the guards one by one, instead of several at once.
"""

import asyncio
import contextlib
import json
import os
import re
import time

import pytest
from test_verify import home, left, probes_of  # noqa: F401 - `home` is a fixture

from sipdeploy.proof.outside.attack import calls
from sipdeploy.proof.outside.ladder import LADDER
from sipdeploy.proof.outside.run import prove
from sipdeploy.proof.outside.step import of_level
from sipdeploy.proof.outside.subject import Subject

pytestmark = pytest.mark.lab

ROUTES = "/etc/kamailio/kamailio.cfg"
ANY, KAMAILIO, ASTERISK = ("kamailio", "asterisk"), ("kamailio",), ("asterisk",)
SAVE = '{ fix_nated_register(); setbflag(6); save("location", "0x02"); }'
ALL = f'if (is_method("REGISTER")) {SAVE}'
# Asterisk gets another Contact than the phone sends, so a phone of the proof would have two: there
# only the Contact of the attack is stored too early.
EARLY = f'if (is_method("REGISTER") && $hdr(Expires) == "60" && $tU == $fU) {SAVE}'
PROVE = "\troute(PROVE);\n\troute(IDENTITY);\n"
ANYBODY = '!(is_method("INVITE") && $sht(registered=>$var(source)) == $null)'
OPTIONS = '\tif (is_method("OPTIONS") && $sht(proven=>$var(source)) == $null) exit;\n'
# step: the modes, the text of its guard, and what it becomes; a step may have two guards
GUARDS = {
    "REGISTER of a stranger": (
        KAMAILIO,
        PROVE,
        f"\t{ALL}\n{PROVE}",
    ),
    "REGISTER of a stranger ": (
        ASTERISK,
        PROVE,
        f"\t{EARLY}\n{PROVE}",
    ),
    # the digest check compares the number in To with the one in the credentials, too
    "REGISTER for another": (
        KAMAILIO,
        '\n\t\t\t|| (is_method("REGISTER") && ($(td{s.tolower}) != "DOMAIN" || $tU != $fU))) {',
        ") {",
        'pv_auth_check("DOMAIN", "$var(ha1)", "1", "1")',
        'pv_auth_check("DOMAIN", "$var(ha1)", "1", "0")',
    ),
    "in another's name": (
        KAMAILIO,
        """ == $fU) {
		$xavp(reg=>match_received) = "sip:" + $var(source) + ";transport=ws";
		if (registered("location", "sip:$fU@DOMAIN", 2)) return;""",
        """ != $null) {
		$xavp(reg=>match_received) = "sip:" + $var(source) + ";transport=ws";
		if (registered("location", "sip:$sht(proven=>$var(source))@DOMAIN", 2)) return;""",
    ),
    "in another's name ": (
        ASTERISK,
        "if ($sht(registered=>$var(source)) != $fU) {",
        "if ($sht(registered=>$var(source)) == $null) {",
    ),
    "without registration": (
        KAMAILIO,
        OPTIONS,
        f'{OPTIONS}\tif (is_method("INVITE") && $sht(proven=>$var(source)) == $null) return;\n',
    ),
    "without registration ": (
        ASTERISK,
        "if ($sht(registered=>$var(source)) != $fU) {",
        f"if ($sht(registered=>$var(source)) != $fU && {ANYBODY}) {{",
    ),
    "replayed digest": (
        KAMAILIO,
        'modparam("auth", "nonce_count", 1)',
        'modparam("auth", "nonce_count", 0)',
    ),
    "foreign request in a call": (
        ANY,
        "if ($sht(proven=>$var(source)) == $var(speaker)) {",
        'if ($var(speaker) != "") {',
    ),
    "route of another call": (ANY, "if ($var(signed) != $var(mac)) {", "if (0) {"),
    "forged reply": (
        ANY,
        "if (@via[1].params.seal == $var(mac)) {",
        'if ($var(mac) != "") {',
    ),
    "foreign CANCEL": (
        ANY,
        "if (!isflagset(FLAG_ASTERISK) && ($sht(ringing=>$var(setup)) == $null",
        "if (0 && !isflagset(FLAG_ASTERISK) && ($sht(ringing=>$var(setup)) == $null",
    ),
    "false identity": (ANY, "route[CLAIMS] {\n", "route[CLAIMS] {\n\treturn;\n"),
    "digest to the peer": (
        KAMAILIO,
        '\t# neither a peer nor Asterisk may see a digest\n\tremove_hf("Authorization");\n',
        "",
    ),
    "digest to the peer ": (
        ASTERISK,
        '\tif (!is_method("SUBSCRIBE")) {\n\t\tremove_hf("Authorization");\n',
        '\tif (!is_method("SUBSCRIBE")) {\n',
    ),
    "preloaded Route": (ANY, '\tremove_hf("Route");\n', ""),
    "ambiguous message": (
        ANY,
        '\troute(READ_ALIKE);\n\tif ($var(flaw) == "") return;\n',
        '\troute(READ_ALIKE);\n\t$var(flaw) = "";\n\treturn;\n',
    ),
    "open relay": (
        ANY,
        """	} else if ($rd != "DOMAIN") {
		$var(status) = 403;
		$var(why) = "No Relaying";
		route(REFUSE);
""",
        '	} else if ($rd != "DOMAIN") {\n\t\tt_relay();\n\t\texit;\n',
    ),
    "third phone": (
        ANY,
        """ + ":" + $(du{uri.port});
		if ($sht(proven=>$var(there)) == $var(peer)) return;""",
        """ + ":" + $(du{uri.port});
		return;""",
    ),
    "forged Contact": (
        ANY,
        'if ($var(owner) != $var(number) + "." + $var(mac)) {',
        'if (!($var(owner) =~ "^[0-9]")) {',
    ),
    "Contact elsewhere": (
        ANY,
        'if ($msg(hdrs) =~ "\\n(contact|m):[^\\n]*; *received *=") {',
        "if (0) {",
    ),
    "user out of reach": (ANY, "if ($sht(probes=>$var(callee)) != $null) return;", "return;"),
    "message too large": (
        ANY,
        'if ($(ci{s.len}) > 128 || $ml > 16384 || (is_method("REGISTER") && $ml > 8192)) {',
        "if (0) {",
    ),
    "many media addresses": (ANY, "> 10 * CANDIDATES) {", "> 100 * CANDIDATES) {"),
    "scanner": (ANY, '=~ "(friendly-scanner|', '=~ "(another-scanner|'),
    "guessing": (ANY, "if ($var(count) > 10) route(CLOSE);", ""),
    "flood": (ANY, "#!define MESSAGES_UNPROVEN 30", "#!define MESSAGES_UNPROVEN 3000"),
    "silent connection": (ANY, '"!PROOF_SECONDS!10!g"', '"!PROOF_SECONDS!100!g"'),
}


def attacked(system, loaded, skip=()):
    """A proof of level attack from this process."""
    name = system.host.name
    with contextlib.ExitStack() as stack:
        subject = Subject(
            name=name,
            site=loaded.site,
            entry=loaded.site.hosts[name],
            level="attack",
            probes=probes_of(system, loaded.site, stack),
        )
        subject.ends = time.monotonic() + 90
        steps = [
            step
            for step in of_level(LADDER, "attack")
            if step.is_wanted(subject) and step.name not in skip
        ]
        try:
            return asyncio.run(prove(subject, steps))
        finally:
            subject.probes.remove()


@contextlib.contextmanager
def without(system, names):
    """Some guards are removed from the running Kamailio."""
    text = system.host.read(ROUTES).decode()
    for name in names:
        _, *changes = GUARDS[name]
        for guard, instead in zip(changes[::2], changes[1::2], strict=True):
            assert text.count(guard) == 1, (name, text.count(guard))
            text = text.replace(guard, instead)
    system.host.run(f"cp -p {ROUTES} /root/routes", check=True)
    try:
        system.host.run(f"cat >{ROUTES}", input_bytes=text.encode(), check=True)
        restart(system)
        yield
    finally:
        system.host.run(f"mv /root/routes {ROUTES}", check=True)
        restart(system)


def restart(system):
    system.host.run("systemctl restart kamailio", check=True)
    begun = time.monotonic()
    while system.host.run("kamcmd core.uptime").returncode:
        assert time.monotonic() - begun < 20
        time.sleep(0.1)


def counted(system):
    """The counters that could delay this machine."""
    found = {}
    for table in ("failures", "waiting", "unproven", "pending", "known"):
        said = system.run(f"kamcmd htable.dump {table}")
        rows = re.findall(r"name: (\S+)\s+value: (\S+)", said)
        found |= {f"{table} {key}": value for key, value in rows if value != "0"}
    return found


def test_a_host_of_ours_refuses_every_attack_and_keeps_nothing(system, record_property):
    system.run("kamcmd htable.flush failures; kamcmd htable.flush known")
    began = time.monotonic()
    done = system.deployer.run("verify", "--level", "attack", "--format", "json")
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stdout + done.stderr
    (proof,) = json.loads(done.stdout)["hosts"]
    statuses = {step["name"]: step["status"] for step in proof["steps"]}
    skipped = {name for name, status in statuses.items() if status == "skipped"}
    assert skipped <= {"DNS", "replayed digest"}
    assert ("replayed digest" in skipped) == (system.mode == "asterisk")
    assert seconds < 30
    assert left(system) == {}
    assert counted(system) == {}
    times = [f"{each['name']} {each['seconds']:.2f}" for each in proof["steps"]]
    record_property("figure", f"attack, mode {system.mode}: {seconds:.1f} s; {', '.join(times)}")


def test_failures_of_others_at_this_address_still_count(system, home):  # noqa: F811
    """The host takes back what the proof has caused, and no more."""
    address = str(system.host.network.address)
    system.run(f"kamcmd htable.seti failures s:{address} 70")
    try:
        assert attacked(system, home, skip=("silent connection",)).failed == ()
        said = system.run(f"kamcmd htable.get failures s:{address}")
        assert "value: 70" in said, said
    finally:
        system.run("kamcmd htable.flush failures")


def groups():
    names = list(GUARDS)
    if os.environ.get("LAB_GUARDS") == "each":
        return [(name,) for name in names]
    apart = ("without registration ",)  # it is the text of another guard
    return [tuple(name for name in names if name not in apart), apart]


@pytest.mark.parametrize("names", groups(), ids=lambda names: "+".join(names)[:40])
def test_a_removed_guard_fails_exactly_its_step(system, home, names, monkeypatch):  # noqa: F811
    monkeypatch.setattr(calls, "ARRIVAL_SECONDS", 2)  # an attack arrives on a busy machine, too
    names = [name for name in names if system.mode in GUARDS[name][0]]
    if not names:
        pytest.skip("not a guard of this mode")
    with without(system, names):
        skip = () if "silent connection" in names else ("silent connection",)
        proof = attacked(system, home, skip)
    failed = {each.name: each.message for each in proof.failed}
    system.run("kamcmd htable.flush failures")
    assert failed.keys() == {name.strip() for name in names}, failed
    for each in proof.failed:
        assert {problem.code for problem in each.diagnostics} != {"SD946"}, each.message
