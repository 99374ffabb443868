"""What sipdeploy concludes from the rules of a firewall is what the kernel does with real packets.

Each set of rules is written by its own tool. A port is open if a server behind it gets the packet.
"""

import socket
import time

import pytest
from applying import site_on
from system import packages_of

from sipdeploy import facts
from sipdeploy.facts import Query
from sipdeploy.host.connection import connect
from sipdeploy.plan.preflight import firewall

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("login")]

TOOLS = ("iptables", "nftables", "ufw", "firewalld", "ipset")
SERVER = """\
import selectors, socket
tcp = socket.create_server(("", 8443))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("", 15000))
ready = selectors.DefaultSelector()
ready.register(tcp, selectors.EVENT_READ)
ready.register(udp, selectors.EVENT_READ)
while True:
    for key, _ in ready.select():
        if key.fileobj is tcp:
            tcp.accept()[0].close()
        else:
            data, peer = udp.recvfrom(99)
            udp.sendto(data, peer)
"""
KEEP = "ct state established,related accept; tcp dport 22 accept;"
BASE = "type filter hook input priority 5;"
# firewalld loads its rules only after it has started
FIREWALLD = (
    "systemctl start firewalld && until nft list ruleset | grep -q 'dport 22'; do sleep 0.1; done"
)
NFT = (
    "table inet t {{ {before}; chain c {{ "
    "type filter hook {hook} priority {priority}; policy {policy}; {rules}; }}; }}"
)


def nft(
    rules, *, hook="input", priority=0, policy="accept", before="set none { type inet_service; }"
):
    text = NFT.format(rules=rules, hook=hook, priority=priority, policy=policy, before=before)
    return f"nft '{text}'"


def iptables(*rules, tool="iptables"):
    first = ("-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT",)
    ssh = ("-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT",)
    return " && ".join(f"{tool} {rule}" for rule in (*first, *ssh, *rules))


PORTS = "-p tcp -m multiport --dports 80,8443"
MEDIA = "-p udp -m udp --dport 10000:20000"
REJECT = "-A INPUT -j REJECT --reject-with icmp-host-prohibited"
RULES = {
    "no rules": "true",
    "oracle": iptables("-A INPUT -i lo -j ACCEPT", "-A INPUT -p icmp -j ACCEPT", REJECT),
    "oracle, opened": iptables(
        f"-A INPUT {PORTS} -m comment --comment web -j ACCEPT",
        f"-A INPUT {MEDIA} -j ACCEPT",
        REJECT,
    ),
    "oracle, only media": iptables(f"-A INPUT {MEDIA} -j ACCEPT", REJECT),
    "legacy": iptables(f"-A INPUT {PORTS} -j ACCEPT", REJECT, tool="iptables-legacy"),
    "legacy raw": f"iptables-legacy -t raw -A PREROUTING {MEDIA} -j DROP",
    "raw": "iptables -t raw -A PREROUTING -p tcp --dport 8443 -j DROP",
    "policy": iptables("-P INPUT DROP"),
    "jump": "iptables -N ends && iptables -A ends -j LOG && iptables -A ends -p udp -j RETURN "
    "&& iptables -A ends -j DROP && iptables -A INPUT -p tcp ! --dport 22 -j ends",
    "goto": "iptables -N more && iptables -A INPUT -p udp -g more "
    "&& iptables -A INPUT -p udp -j DROP",
    "interface": iptables("-A INPUT ! -i lo -p tcp --dport 8000:9000 -j DROP"),
    "other interface": iptables("-A INPUT -i wg+ -j ACCEPT", "-A INPUT -i eth9 -j DROP"),
    "limit": iptables("-A INPUT -p tcp --syn -m limit --limit 9/s -j ACCEPT", REJECT),
    "flood": iptables(
        "-A INPUT -p tcp --syn -m hashlimit --hashlimit-above 50/sec "
        "--hashlimit-name x --hashlimit-mode srcip -j DROP"
    ),
    "invalid": iptables("-A INPUT -m conntrack --ctstate INVALID -j DROP"),
    "flags": iptables(
        "-A INPUT -p tcp ! --syn -m state --state NEW -j DROP",
        "-A INPUT -p tcp --tcp-flags ALL NONE -j DROP",
    ),
    "one source": iptables("-A INPUT -s 192.0.2.7 -j ACCEPT", REJECT),
    "banned": iptables("-A INPUT -s 192.0.2.0/24 -j DROP", "-A INPUT -p udp --sport 53 -j DROP"),
    "ipset": "ipset create bad hash:net; ipset add bad 192.0.2.0/24; "
    + iptables("-A INPUT -m set --match-set bad src -j DROP"),
    "ipset of friends": "ipset create good hash:net; ipset add good 192.0.2.0/24; "
    + iptables("-A INPUT -m set ! --match-set good src -j DROP"),
    "redirect": "iptables -t nat -A PREROUTING -p tcp --dport 8443 -j REDIRECT --to-ports 9999",
    "ip6 only": iptables(REJECT.replace("icmp-host", "icmp6-adm"), tool="ip6tables"),
    "nft reject": nft(f"{KEEP} reject with icmpx type admin-prohibited"),
    "nft policy": nft(f"{KEEP} udp dport {{ 53, 10000-20000 }} accept", policy="drop"),
    "nft named set": nft(
        f"{KEEP} tcp dport @open accept; drop",
        before="set open { type inet_service; flags interval; elements = { 80, 8440-8450 }; }",
    ),
    "nft verdict map": nft(
        "ct state vmap { established : accept, related : accept, invalid : drop }; "
        "tcp dport vmap { 22 : accept, 8443 : drop }"
    ),
    "nft named map": nft(
        f"{KEEP} meta l4proto . th dport vmap @m; drop",
        before="map m { type inet_proto . "
        "inet_service : verdict; elements = { udp . 15000 : accept }; }",
    ),
    "nft interface": nft('iifname != "lo" udp dport 15000 drop; iifname "tun*" drop'),
    "nft jump": nft(
        "iif lo accept; jump d", before="chain d { tcp dport 22 accept; tcp dport > 8000 drop; }"
    ),
    "nft prerouting": nft("udp dport 15000 drop", hook="prerouting", priority=-300),
    "nft ip table": "nft 'table ip x { chain c { " + BASE + " tcp dport != 22 drop; }; }'",
    "nft ip6 table": "nft 'table ip6 x { chain c { " + BASE + " drop; }; }'",
    "nft dormant": "nft 'table inet x { flags dormant; chain c { " + BASE + " drop; }; }'",
    "nft limit": nft(
        "tcp dport 8443 ct state new limit rate over 99/second drop; udp dport 15000 limit "
        "rate 9/second accept; udp dport 15000 drop"
    ),
    "nft meter": nft(
        "tcp dport 8443 add @seen { ip saddr limit rate over 50/second } drop",
        before="set seen { type ipv4_addr; size 999; flags dynamic; }",
    ),
    "nft fib": nft(
        "fib daddr type != local drop; fib saddr . iif oif missing drop; "
        "tcp flags & (fin | syn | rst | ack) != syn ct state new drop"
    ),
    "nft destination": nft("ip daddr 192.0.2.1 drop; ip daddr {address} udp dport 15000 drop"),
    "nft established only": nft(
        "ct state { established, related } accept; tcp dport 22 accept; "
        "ct state new meta l4proto udp drop"
    ),
    "netdev": "nft 'table netdev n { chain c { type filter hook ingress device host0 priority 0; "
    "udp dport 15000 drop; }; }'",
    "ufw": "ufw allow 22/tcp; ufw --force enable",
    "ufw, opened": "ufw allow 22/tcp; ufw allow 8443/tcp; ufw allow 10000:20000/udp; "
    "ufw --force enable",
    "firewalld": FIREWALLD,
    "firewalld, opened": FIREWALLD + " && firewall-cmd -q --add-port=8443/tcp",
}
CLEAN = """
if systemctl -q is-active firewalld; then systemctl stop firewalld; fi
if grep -qx ENABLED=yes /etc/ufw/ufw.conf; then ufw --force reset; rm -f /etc/ufw/*.rules.20*; fi
nft flush ruleset
for table in $(cat /proc/net/ip_tables_names); do iptables-legacy -t $table -F; done
if [ -n "$(ipset list -n)" ]; then ipset destroy; fi
"""


@pytest.fixture(scope="module")
def host(lab):
    host = lab.boot("rules1", packages=(*packages_of("sid"), *TOOLS))
    host.write("/root/server.py", SERVER.encode())
    host.run("systemctl disable --now firewalld", check=True)
    host.run("systemd-run --quiet --unit=server python3 /root/server.py", check=True)
    end = time.monotonic() + 20
    while ":8443 " not in host.run("ss -Htln").stdout:
        assert time.monotonic() < end
        time.sleep(0.1)
    return host


def answers(host):
    """Whether the servers of the host answer from outside: TCP and UDP."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        is_tcp = probe.connect_ex((host.address, 8443)) == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.5)
        probe.connect((host.address, 15000))
        is_udp = any(echoes(probe) for _ in range(3))
    return is_tcp, is_udp


def echoes(probe):
    try:
        probe.send(b"x")
        return probe.recv(9) == b"x"
    except OSError:
        return False


def read(site):
    query = Query(domain=site.domain, packages={"other": ()}, units=(), trees=(), directories=())
    connected = connect("sip1", site.hosts["sip1"])
    try:
        return facts.read(connected, query)
    finally:
        connected.close()


def concluded(host, site):
    """The same, as sipdeploy concludes it from the rules; None if it cannot say."""
    found = read(site)
    tables = firewall.read_tables(site, found, site.hosts["sip1"])
    answers = []
    for protocol, port in (("tcp", 8443), ("udp", 15000)):
        packet = firewall.packet_to(protocol, port, host.address, found)
        decision = firewall.decide(tables, packet)
        answers.append(True if decision.is_open else None if not decision.closed else False)
    return tuple(answers)


@pytest.fixture
def rules(host, request):
    """The host with a set of rules, and its site."""
    host.run(CLEAN)
    done = host.run(RULES[request.param].replace("{address}", host.address))
    assert done.returncode == 0, done.stderr
    yield host, site_on(host, more="firewall: nftables")
    host.run(CLEAN)


@pytest.mark.parametrize("rules", RULES, indirect=True)
def test_the_kernel_agrees(rules):
    host, site = rules
    assert concluded(host, site) == answers(host)


CLOSED = ("oracle", "legacy raw", "policy", "jump", "nft reject", "nft policy", "ufw", "firewalld")


@pytest.mark.parametrize("rules", CLOSED, indirect=True)
def test_the_command_that_is_printed_opens_the_ports(rules):
    host, site = rules
    assert not all(answers(host))
    (problem,) = firewall.problems(site, "sip1", read(site))
    assert (problem.code, problem.severity) == ("SD518", "warning")
    host.run(problem.help.split("`")[3], check=True)
    assert all(answers(host)), problem.help
    assert [*firewall.problems(site, "sip1", read(site))] == []
