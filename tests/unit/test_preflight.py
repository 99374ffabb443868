import dataclasses
import re

import pytest
from hosts_facts import recorded

from sipdeploy.facts import Socket, Unit
from sipdeploy.inventory.site import load_site
from sipdeploy.plan import preflight
from sipdeploy.plan.desired import ports
from sipdeploy.services import firewall, kamailio

GIB = 1024**3


def site(host="{address: 10.0.0.1}", install="{}", more=""):
    text = (
        f"domain: sip.example.test\nemail: a@b.example\nhosts: {{sip1: {host}}}\nusers: {{}}\n"
        f"install: {install}\n{more}\n"
    )
    found, problems, _ = load_site(text, "inventory.yaml")
    assert found, problems
    return found


def facts(**changes):
    fine = {
        "addresses": ("10.0.0.1",),
        "domain_addresses": ("10.0.0.1",),
        "memory_bytes": 2 * GIB,
        "free_bytes": {"/": 9 * GIB, "/var": 9 * GIB, "/etc": 9 * GIB},
    }
    return recorded("sid-applied", **{**fine, **changes})


SMALL = kamailio.Sizes(room=512, connections=512, shared_mib=200, private_mib=17)


PACKAGES = "{asterisk: package, kamailio: package}"


def told(found, *, host="{address: 10.0.0.1}", install=PACKAGES, given=SMALL, more=""):
    wanted = site(host, install, more)
    listens = ports(wanted, wanted.hosts["sip1"])
    return preflight.problems(wanted, "sip1", found, listens, given=given)


def words(problem):
    return f"{problem.severity} {problem.code} {problem.message} | {problem.help}"


def test_a_good_host_has_no_problems():
    assert told(facts()) == []


THIEF = Socket(proto="tcp", address="*", port=8443, program="nginx", pid=77)
BARE = {"installed": {}, "candidates": {"kamailio": "5.6.3-2", "asterisk": "1:22.1-1"}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"os_id": "fedora", "os_name": "Fedora 40"}, ["error SD510 `sip1` runs Fedora 40"]),
        ({"os_version": "10"}, ["error SD510"]),
        ({"os_id": "ubuntu", "os_version": "18.04"}, ["error SD510"]),
        ({"os_id": "ubuntu", "os_version": "20.04"}, ["error SD510", "Ubuntu 22.04"]),
        ({"os_id": "ubuntu", "os_version": "22.04"}, []),
        ({"os_id": "ubuntu", "os_version": "24.04"}, []),
        ({"installed": {"kamailio": "5.4.4", "asterisk": "1:16.8.0~dfsg-1"}}, []),
        (
            {"installed": {"kamailio": "5.4.4", "asterisk": "1:16.7.0~dfsg-1"}},
            ["error SD511 `sip1` has asterisk 1:16.7.0~dfsg-1; supported are 16.8 to 22"],
        ),
        ({"installed": {"kamailio": "6.1.5", "asterisk": "1:23.0.0-1"}}, ["error SD511"]),
        ({"has_systemd": False}, ["error SD510 `sip1` does not run systemd as init"]),
        (
            {"installed": {}, "candidates": {}, "codename": "noble"},
            ["archive of `sip1` has no kamailio", "archive of `sip1` has no asterisk"],
        ),
        (
            {"installed": {"kamailio": "6.0.1-1"}, "codename": "trixie"},
            ["its archive has no asterisk | write `install: {asterisk: source}`"],
        ),
        ({"installed": {"kamailio": "5.3.1", "asterisk": "1:22.1"}}, ["error SD511"]),
        ({"installed": {"kamailio": "6.2.0", "asterisk": "1:22.1"}}, ["error SD511"]),
        ({"installed": {"kamailio": "6.1.9", "asterisk": "1:13.1"}}, ["error SD511"]),
        (
            {**BARE, "free_bytes": {"/": GIB // 2, "/var": 9 * GIB, "/etc": 9 * GIB}},
            ["error SD512 `sip1` has 512 MiB free in /, and 1024 MiB are needed"],
        ),
        ({"free_bytes": {"/": GIB // 2, "/var": GIB, "/etc": GIB}}, []),
        ({"free_bytes": {"/": GIB, "/var": 1, "/etc": GIB}}, ["error SD512"]),
        ({"memory_bytes": GIB // 4}, ["error SD513"]),
        ({"skew_seconds": 59.0}, []),
        ({"skew_seconds": 61.0}, ["warning SD515 the clock of `sip1` is 61 s ahead of"]),
        ({"skew_seconds": -3700.0}, ["error SD515 the clock of `sip1` is 3700 s behind"]),
        ({"sockets": (THIEF,)}, ["error SD514 `nginx` (pid 77)", "set `ports.wss` to a free"]),
        ({"addresses": ("10.9.9.9",)}, ["error SD516", "private_address` to one of `10.9.9.9`"]),
        ({"domain_addresses": ()}, ["warning SD517 `sip.example.test` does not resolve"]),
        ({"domain_addresses": ("1.2.3.4",)}, ["resolves to `1.2.3.4`"]),
        ({"domain_addresses": None}, []),
        # Debian's own line in /etc/hosts says nothing about what phones are told
        ({"domain_addresses": ("127.0.1.1",)}, []),
        ({"domain_addresses": ("::1", "127.0.0.1")}, []),
        ({"domain_addresses": ("127.0.1.1", "1.2.3.4")}, ["resolves to `1.2.3.4` on `sip1`"]),
        ({"denied": ("nft",)}, ["error SD537 `sip1` may not change", "CAP_NET_ADMIN"]),
        ({"denied": ("namespaces",)}, ["error SD537", "--features nesting=1"]),
    ],
)
def test_each_problem_is_told(changes, expected):
    problems = told(facts(**changes))
    text = "\n".join(words(problem) for problem in problems)
    for part in expected:
        assert part in text
    if not expected:
        assert problems == []
    assert all(problem.help for problem in problems)


def test_all_problems_are_told_at_once():
    problems = told(facts(os_id="arch", addresses=("10.9.9.9",), sockets=(THIEF,)))
    assert {problem.code for problem in problems} == {"SD510", "SD514", "SD516"}


@pytest.mark.parametrize("unit", ["kamailio.service", "asterisk.service", firewall.UNIT])
def test_a_masked_unit_is_told_before_anything(unit):
    known = facts().units
    units = {**known, unit: dataclasses.replace(known[unit], is_masked=True)}
    (problem,) = told(facts(units=units))
    assert (problem.severity, problem.code) == ("error", "SD536")
    assert f"`{unit}` is masked on `sip1`" in problem.message
    assert problem.help == f"on `sip1`: `systemctl unmask {unit}`"


def test_units_that_the_site_does_not_need_may_be_masked():
    masked = Unit(active="inactive", is_enabled=False, needs_daemon_reload=False, is_masked=True)
    units = {**facts().units, "certbot.timer": masked, "certbot.service": masked}
    assert told(facts(units=units), more="tls: {provider: self-signed}") == []
    (problem,) = (p for p in told(facts(units=units)) if p.code == "SD536")
    assert "`certbot.timer` and `certbot.service` are masked" in problem.message
    units = {**facts().units, firewall.UNIT: masked}
    found = facts(units=units, denied=("nft",))
    assert told(found, more="firewall: none\ntls: {provider: self-signed}") == []


def test_behind_nat_the_private_address_counts():
    host = "{address: 203.0.113.10, private_address: 10.0.0.1}"
    found = facts(domain_addresses=("203.0.113.10",))
    assert told(found, host=host) == []


def test_a_port_on_another_address_is_free():
    other = Socket(proto="udp", address="10.0.0.1", port=5060, program="x", pid=1)
    assert told(facts(sockets=(other,))) == []
    everywhere = Socket(proto="udp", address="*", port=5060, program="", pid=0)
    assert "a program on `sip1`" in told(facts(sockets=(everywhere,)))[0].message


def test_memory_that_a_host_has_not_is_told_with_what_it_can_carry():
    given = kamailio.Sizes(room=262_144, connections=32_768, shared_mib=6807, private_mib=174)
    assert told(facts(memory_bytes=8 * GIB), given=given) == []
    (problem,) = told(facts(memory_bytes=4 * GIB), given=given)
    assert "4096 MiB of memory, and this site needs 7063 MiB (6807 MiB of it" in problem.message
    fit = int(re.search(r"connections: (\d+)", problem.help)[1])
    assert fit == 17_920
    assert 6807 - 0.2 * (32_768 - fit) + 256 <= 4096
    (hopeless,) = told(facts(memory_bytes=GIB // 8), given=given)
    assert hopeless.help == "use a host with more memory"
