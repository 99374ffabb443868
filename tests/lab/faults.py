"""Faults that are made on purpose on a host, and what `verify` and `doctor` say about each.

The texts are for a host `sip1` at 203.0.113.10, as in the documentation. docs/faults.md is this
table: `python tests/lab/faults.py > docs/faults.md` writes it.
"""

import re
import sys
from dataclasses import dataclass

KAMAILIO, PJSIP, RTP = (
    "/etc/kamailio/kamailio.cfg",
    "/etc/asterisk/pjsip.conf",
    "/etc/asterisk/rtp.conf",
)
RESTART = "systemctl reset-failed kamailio; systemctl restart kamailio"
DROP_IN = "/etc/systemd/system/kamailio.service.d"
RELOAD = "asterisk -rx 'module reload res_pjsip.so' && sleep 0.5"
RELOAD_RTP = "asterisk -rx 'module reload res_rtp_asterisk.so' && sleep 0.5"
EDITED = "`{}` on `sip1` was edited after the last apply, and ..."
MEDIA = "UDP 10000-20000"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault, and what is seen of it.

    make, undo: commands on the host; or `by`: a context of test_doctor.py that does both.
    says: the verdict; `...` stands for what differs from host to host.
    step: the first step of verify that fails; empty if none does.
    user: whose trouble it is.
    """

    name: str
    topic: str
    rung: str
    code: str
    says: str
    step: str = ""
    make: str = ""
    undo: str = ""
    by: str = ""
    user: str = ""
    mode: str = "kamailio"
    needs_sound: bool = False
    is_slow: bool = False  # verify takes minutes, so the test asks it only with LAB_FAULTS=1


def edit(path: str, program: str, then: str) -> dict[str, str]:
    """A change of a file with sed, and its undo."""
    change = f"cp -a {path} /root/kept && sed -i '{program}' {path} && ! cmp -s /root/kept {path}"
    return {"make": f"{change} && {{ {then}; }}", "undo": f"cp -a /root/kept {path}; {then}"}


def certificate(kind: str) -> dict[str, str]:
    """A certificate of test_doctor.py in the place of the host's."""
    return {
        "by": f"certificate {kind}",
        "topic": "connect",
        "rung": "certificate",
        "code": "SD931",
    }


def nft(rules: str, hook: str = "input", policy: str = "accept") -> dict[str, str]:
    """A table of the administrator's own."""
    chain = f"type filter hook {hook} priority 5; policy {policy}; {rules}"
    return {
        "make": f"nft 'table inet shut {{ chain c {{ {chain}; }}; }}'",
        "undo": "nft delete table inet shut",
    }


KEEP = "iif lo accept; ct state established,related accept; tcp dport 22 accept"
OWN_SSH = "-m state --state RELATED,ESTABLISHED -j ACCEPT"
IPTABLES = (
    f"iptables -A INPUT {OWN_SSH} && iptables -A INPUT -i lo -j ACCEPT"
    " && iptables -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT"
)
PORT = {"topic": "connect", "rung": "port", "code": "SD930"}
CLOSED = "the firewall of `sip1` closes port 8443: "
SOUND = {"topic": "audio", "rung": "rules for media", "code": "SD936", "needs_sound": True}
SHUT_OUT = "the firewall of `sip1` drops what it sends from UDP 10000-20000: "
DIGITS = (
    "find -L /usr/share/asterisk/sounds /var/lib/asterisk/sounds -type d -name {} "
    '| while read -r d; do mv "$d" "$(dirname "$d")/{}" 2>/dev/null; done; true'
)
TMPFS = (
    'perl -e \'my ($type, $on, $size) = ("tmpfs", "/var/spool/asterisk", "size=1m"); '
    "exit !!syscall(165, $type, $on, $type, 0, $size)'"
    " && head -c 2M /dev/zero >/var/spool/asterisk/filled; grep -q asterisk /proc/mounts"
)
UNMOUNT = "perl -e 'my $on = \"/var/spool/asterisk\"; exit !!syscall(166, $on, 2)'"
VOICEMAIL = "/var/spool/asterisk/voicemail"
BOX = f"{VOICEMAIL}/default/1002/INBOX"

FAULTS: tuple[Fault, ...] = (
    # --- host and name
    Fault(
        name="clock off by a day",
        topic="connect",
        rung="host",
        code="SD933",
        says="the clock of `sip1` is ... s ahead of the clock of this machine",
        make='printf \'#!/bin/sh\\nexec /bin/date -d "+1 day" "$@"\\n\' >/usr/local/sbin/date && '
        "chmod 755 /usr/local/sbin/date",
        undo="rm /usr/local/sbin/date",
    ),
    Fault(
        name="an apply was interrupted",
        topic="connect",
        rung="host",
        code="SD938",
        says="an apply on `sip1` was interrupted: its files and daemons may not fit together",
        make="mkdir -p /var/lib/sipdeploy/undo && touch /var/lib/sipdeploy/undo/index",
        undo="rm /var/lib/sipdeploy/undo/index",
    ),
    Fault(
        name="DNS leads to another host",
        topic="connect",
        rung="name",
        code="SD930",
        step="DNS",
        says="`sip.example.test` leads to `198.51.100.7`, not to `sip1` (203.0.113.10)",
        by="dns 198.51.100.7",
    ),
    Fault(
        name="no DNS record",
        topic="connect",
        rung="name",
        code="SD930",
        step="DNS",
        says="`sip.example.test` has no address in DNS, as seen from this machine",
        by="dns",
    ),
    Fault(
        name="wrong `public_address`",
        **PORT,
        step="TCP",
        says="port 8443 of `sip1` answers at 203.0.113.10, and not at ..., which the "
        "inventory calls its public address",
        by="public_address 250",
    ),
    Fault(
        name="`public_address` in IPv6 of a host with IPv4 alone",
        topic="connect",
        rung="host",
        code="SD930",
        step="TCP",
        says="`sip1` has no interface with the address `2001:db8::7`",
        by="public_address 2001:db8::7",
    ),
    # --- port
    Fault(
        name="port closed by a policy `drop` of nftables",
        **PORT,
        step="TCP",
        says=f"{CLOSED}the policy `drop` of the chain `inet shut c`",
        **nft(KEEP, policy="drop"),
    ),
    Fault(
        name="port closed by a last `REJECT` of iptables",
        **PORT,
        step="TCP",
        says=f"{CLOSED}rule 4 of the chain `INPUT` of iptables, `-j REJECT ...`",
        make=f"{IPTABLES} && iptables -A INPUT -j REJECT --reject-with icmp-host-prohibited",
        undo="iptables -F INPUT",
    ),
    Fault(
        name="port closed by iptables-legacy",
        **PORT,
        step="TCP",
        says=f"{CLOSED}rule 1 of the chain `PREROUTING` of iptables-legacy (table raw), `...`",
        make="iptables-legacy -t raw -A PREROUTING -p tcp --dport 8443 -j DROP",
        undo="iptables-legacy -t raw -F",
    ),
    Fault(
        name="port closed by ufw",
        **PORT,
        step="TCP",
        says=f"{CLOSED}the policy `drop` of the chain `INPUT` of iptables",
        make="ufw allow 22/tcp && ufw --force enable",
        undo="ufw --force reset; rm -f /etc/ufw/*.rules.20*",
    ),
    Fault(
        name="port closed by firewalld",
        **PORT,
        step="TCP",
        says=f"{CLOSED}the rule with the handle ...",
        make="systemctl start firewalld && "
        "until nft list table inet firewalld 2>/dev/null | grep -q 'dport 22'; do sleep 0.1; done",
        undo="systemctl stop firewalld; nft delete table inet firewalld",
    ),
    Fault(
        name="port closed in the own table of sipdeploy",
        **PORT,
        step="TCP",
        says=f"{CLOSED}the rule with the handle ...",
        make="nft insert rule inet sipdeploy input tcp dport 8443 reject",
        undo="systemctl restart sipdeploy-firewall",
    ),
    Fault(
        name="port closed on the way, by a provider's firewall",
        **PORT,
        step="TCP",
        says="port 8443 of `sip1` is blocked in front of it",
        by="way out tcp dport 8443",
    ),
    Fault(
        name="Kamailio is down",
        topic="connect",
        rung="port",
        code="SD933",
        step="TCP",
        says="Kamailio does not run on `sip1`: phones cannot connect",
        make="systemctl stop kamailio",
        undo=RESTART,
    ),
    Fault(
        name="Kamailio rejects its edited configuration",
        topic="connect",
        rung="port",
        code="SD933",
        step="TCP",
        says="Kamailio does not run on `sip1`: phones cannot connect",
        make=f"cp -a {KAMAILIO} /root/kept && echo 'route[ {{' >>{KAMAILIO}; {RESTART}; true",
        undo=f"cp -a /root/kept {KAMAILIO}; {RESTART}",
    ),
    Fault(
        name="Kamailio listens on another port",
        **PORT,
        step="TCP",
        says="Kamailio on `sip1` runs and does not listen on port 8443",
        **edit(KAMAILIO, r"s/^\(listen=tls:.*\):8443 /\1:8444 /", RESTART),
    ),
    Fault(
        name="another program has the port",
        topic="connect",
        rung="certificate",
        code="SD930",
        step="TLS",
        says="`python3` has port 8443 on `sip1`, in the place of Kamailio",
        make="systemctl stop kamailio && systemd-run --quiet --collect --unit=other python3 -m "
        "http.server 8443 && until ss -Htln | grep -q :8443; do sleep 0.1; done",
        undo=f"systemctl stop other; {RESTART}",
    ),
    # --- certificate
    Fault(
        name="certificate expired",
        **certificate("expired"),
        step="TLS",
        says="the certificate that port 8443 of `sip1` serves expired on ...",
    ),
    Fault(
        name="certificate for another name",
        **certificate("name"),
        step="TLS",
        says="the certificate that port 8443 of `sip1` serves is for "
        "other.example.test, not for `sip.example.test`",
    ),
    Fault(
        name="intermediate certificate missing",
        **certificate("intermediate"),
        step="TLS",
        says="the certificate that port 8443 of `sip1` serves lacks the certificate "
        "of `CN=Intermediate`, which signed the server's",
    ),
    Fault(
        name="certificate with an Ed25519 key",
        **certificate("ed25519"),
        step="TLS",
        says="browsers refuse the certificate that port 8443 of `sip1` serves: its "
        "key is of the kind Ed25519, neither ECDSA nor RSA",
    ),
    Fault(
        name="certificate with must-staple",
        **certificate("staple"),
        step="TLS",
        says="browsers refuse the certificate that port 8443 of `sip1` serves: it "
        "demands a stapled OCSP response, which Kamailio does not send",
    ),
    Fault(
        name="new certificate not loaded",
        **certificate("new"),
        step="certificate",
        says="port 8443 of `sip1` serves the old certificate: the new one was not loaded",
    ),
    Fault(
        name="Kamailio is stuck (SIGSTOP)",
        topic="connect",
        rung="certificate",
        code="SD933",
        step="TLS",
        says="Kamailio on `sip1` runs and does nothing: phones cannot connect",
        make="systemctl kill -s STOP kamailio",
        undo="systemctl kill -s CONT kamailio",
    ),
    Fault(
        name="connection limit reached",
        topic="connect",
        rung="certificate",
        code="SD933",
        step="TLS",
        says="`sip1` has all 4 connections in use: no further phone can connect",
        by="crowd 4",
    ),
    Fault(
        name="shared memory full",
        topic="connect",
        rung="certificate",
        code="SD933",
        step="TLS",
        says="the shared memory of Kamailio on `sip1` is full: it refuses phones and calls",
        make=f"sed 's/ -m [0-9]* / -m 11 /' {DROP_IN}/sipdeploy.conf >{DROP_IN}/zz.conf && "
        f"systemctl daemon-reload && {RESTART} && sleep 0.5",
        undo=f"rm {DROP_IN}/zz.conf; systemctl daemon-reload; {RESTART}",
    ),
    # --- WebSocket
    Fault(
        name="WebSocket path changed",
        topic="connect",
        rung="WebSocket",
        code="SD932",
        step="WebSocket",
        says=EDITED.format(KAMAILIO),
        **edit(KAMAILIO, r"s#(ws/?)?(#(sip/?)?(#", RESTART),
    ),
    Fault(
        name="WebSockets open on every path",
        topic="connect",
        rung="wrong path",
        code="SD932",
        step="wrong path",
        says=EDITED.format(KAMAILIO),
        **edit(KAMAILIO, r"s#\^/(ws/?)?(\[?\]\.\*)?\$\"#^/\"#", RESTART),
    ),
    Fault(
        name="a proxy in between cuts WebSockets",
        topic="connect",
        rung="WebSocket",
        code="SD932",
        says="something between the phones and `sip1` cuts their WebSockets after ... s",
        by="cut",
    ),
    # --- registration
    Fault(
        name="HA1 of a user out of step",
        topic="register",
        rung="registration",
        code="SD934",
        says="Kamailio on `sip1` has another password for `1001` than ...sipdeploy.db",
        make="kamcmd htable.sets credentials s:1001 s:00000000000000000000000000000000",
        undo="sh /etc/kamailio/tables.sh; kamcmd htable.reload credentials",
    ),
    Fault(
        name="`save()` before authentication",
        topic="register",
        rung="password",
        code="SD934",
        step="password",
        says="`sip1` stores registrations before it checks the password: everybody "
        "can take over every number",
        **edit(
            KAMAILIO,
            r"s/^\troute(PROVE);$/\tif (is_method(\"REGISTER\")) { save(\"location\"); "
            r"exit; }\n&/",
            RESTART,
        ),
    ),
    Fault(
        name="wrong realm",
        topic="register",
        rung="registration",
        code="SD934",
        step="REGISTER",
        says="`sip1` asks for passwords of the realm `other.example.test`, and they "
        "are stored for "
        "`sip.example.test`: nobody can register",
        **edit(
            KAMAILIO,
            r"s/auth_challenge(\"DOMAIN\"/auth_challenge(\"other.example.test\"/",
            RESTART,
        ),
    ),
    Fault(
        name="Asterisk is down, mode `asterisk`",
        topic="register",
        rung="daemons",
        code="SD933",
        step="probe accounts",
        says="Asterisk does not run on `sip1`: ...",
        make="systemctl stop asterisk",
        undo="systemctl start asterisk",
        mode="asterisk",
    ),
    Fault(
        name="Asterisk is stuck (SIGSTOP), mode `asterisk`",
        topic="register",
        rung="daemons",
        code="SD933",
        step="probe accounts",
        says="Asterisk on `sip1` runs and does nothing: ...",
        make="systemctl kill -s STOP asterisk",
        undo="systemctl kill -s CONT asterisk",
        mode="asterisk",
        is_slow=True,
    ),
    Fault(
        name="a user's phone has a wrong password",
        topic="register",
        rung="user",
        code="SD934",
        says="the phone of 1003 at ... sends a wrong password",
        by="wrong_password 1003 2",
        user="1003",
    ),
    Fault(
        name="a user's phone tries a wrong password again and again",
        topic="register",
        rung="user",
        code="SD934",
        says="a phone of 1004 at ... sends a wrong password again and again, and "
        "Kamailio makes it wait",
        by="wrong_password 1004 24",
        user="1004",
    ),
    Fault(
        name="a user has as many phones as `max_contacts`",
        topic="register",
        rung="user",
        code="SD934",
        step="REGISTER",
        says="1005 has all 2 phones that `max_contacts` allows; a further one is refused",
        by="phones 1005 2",
        user="1005",
    ),
    # --- calls
    Fault(
        name="`loose_route` removed",
        topic="call",
        rung="call",
        code="SD938",
        step="call",
        says=EDITED.format(KAMAILIO),
        **edit(KAMAILIO, r"s/if (loose_route()) {/if (1 == 0) {/", RESTART),
    ),
    Fault(
        name="the seal's key changed during a call",
        topic="call",
        rung="call",
        code="SD935",
        says="the key that signs calls on `sip1` was changed: calls from before can "
        "be neither held nor ended",
        by="key",
    ),
    Fault(
        name="Asterisk is down",
        topic="call",
        rung="service",
        code="SD933",
        step="service",
        says="Asterisk does not run on `sip1`: ...",
        make="systemctl stop asterisk",
        undo="systemctl start asterisk",
    ),
    Fault(
        name="Asterisk is stuck (SIGSTOP)",
        topic="call",
        rung="service",
        code="SD933",
        step="service",
        says="Asterisk on `sip1` runs and does nothing: ...",
        make="systemctl kill -s STOP asterisk",
        undo="systemctl kill -s CONT asterisk",
    ),
    Fault(
        name="Asterisk's `identify` wrong",
        topic="call",
        rung="service",
        code="SD935",
        step="service",
        says="Asterisk on `sip1` does not recognize the calls that Kamailio sends "
        "from port 5062: it expects them from 127.0.0.1:5999/32",
        **edit(PJSIP, r"s/^match=\(.*\):5062/match=\1:5999/", RELOAD),
    ),
    Fault(
        name="no codec in common",
        topic="call",
        rung="service",
        code="SD935",
        step="service",
        says="Asterisk on `sip1` and the phone have no codec in common",
        **edit(PJSIP, r"s/^allow=.*/allow=g729/", RELOAD),
    ),
    Fault(
        name="`webrtc=no`",
        topic="call",
        rung="service",
        code="SD935",
        step="service",
        says="Asterisk on `sip1` offers no WebRTC: `webrtc=no` for calls with phones",
        **edit(PJSIP, r"s/^webrtc=yes/webrtc=no/", RELOAD),
    ),
    Fault(
        name="media announced at a wrong address",
        topic="call",
        rung="service",
        code="SD936",
        step="service",
        says="`sip1` announces 198.51.100.7 for media, and phones reach it at "
        "203.0.113.10: calls to services are silent",
        by="announced 198.51.100.7",
    ),
    Fault(
        name="`icesupport=no`",
        topic="call",
        rung="service",
        code="SD936",
        step="service",
        says="Asterisk on `sip1` announces no address for media: phones hear nothing",
        **edit(RTP, "s/^icesupport=yes/icesupport=no/", RELOAD_RTP),
    ),
    Fault(
        name="a service is missing in Kamailio's table",
        topic="register",
        rung="registration",
        code="SD935",
        step="service",
        says="Kamailio on `sip1` does not know the service `6000` of the inventory",
        make="kamcmd htable.delete services s:6000",
        undo="kamcmd htable.reload services",
    ),
    Fault(
        name="a service is missing in the dialplan",
        topic="call",
        rung="service",
        code="SD938",
        step="service",
        says=EDITED.format("/etc/asterisk/extensions.conf"),
        **edit(
            "/etc/asterisk/extensions.conf",
            r"s/^\[ivr-test\]/[ivr-lost]/",
            "asterisk -rx 'dialplan reload' && sleep 0.5",
        ),
    ),
    Fault(
        name="the callee has no phone",
        topic="call",
        rung="calls of the user",
        code="SD935",
        says="1003 has no phone registered: calls to it get 480, or its mailbox",
        by="gone 1003",
        user="1003",
    ),
    # --- sound
    Fault(
        name="RTP range shut on the host, in",
        **SOUND,
        step="echo",
        says=f"the firewall of `sip1` closes {MEDIA}: the rule with the handle ...",
        **nft("udp dport 10000-20000 drop"),
    ),
    Fault(
        name="RTP range shut on the host, out",
        **SOUND,
        step="echo",
        says=f"{SHUT_OUT}the rule with the handle ...",
        **nft("udp sport 10000-20000 drop", hook="output"),
    ),
    Fault(
        name="a part of the RTP range shut on the host",
        **{**SOUND, "needs_sound": False},
        says=f"the firewall of `sip1` closes {MEDIA}: the rule with the handle ...",
        **nft("udp dport 15000-15999 drop"),
    ),
    Fault(
        name="RTP range shut on the way, in",
        **{**SOUND, "rung": "call with sound"},
        step="echo",
        says=f"the phone here sends, the host never receives: {MEDIA} is blocked in front of it",
        by="way out udp dport 10000-20000",
    ),
    Fault(
        name="RTP range shut on the way, out",
        **{**SOUND, "rung": "call with sound"},
        step="echo",
        says=f"the host sends, the phone here never receives: {MEDIA} is blocked on the way back",
        by="way in udp sport 10000-20000",
    ),
    Fault(
        name="RTP range shut on the way, in both directions",
        **{**SOUND, "rung": "call with sound"},
        step="echo",
        says=f"the phone here sends, the host never receives: {MEDIA} is blocked in front of it",
        by="way both udp 10000-20000",
    ),
    Fault(
        name="Asterisk uses another RTP range",
        **{**SOUND, "needs_sound": False},
        says="Asterisk on `sip1` uses UDP 30000-30999 for media, and 10000-20000 is open for it",
        **edit(RTP, "s/^rtpstart=.*/rtpstart=30000/; s/^rtpend=.*/rtpend=30999/", RELOAD_RTP),
    ),
    Fault(
        name="sound files missing",
        **{**SOUND, "rung": "speech"},
        says="the sound files of Asterisk are missing on `sip1`: services answer, and say nothing",
        make=DIGITS.format("digits", "digits-gone"),
        undo=DIGITS.format("digits-gone", "digits"),
    ),
    # --- voicemail
    Fault(
        name="disk full for voicemail",
        topic="voicemail",
        rung="mailboxes",
        code="SD937",
        says="the disk of /var/spool/asterisk on `sip1` is full: no message can be left",
        make=TMPFS,
        undo=UNMOUNT,
    ),
    Fault(
        name="Asterisk may not write messages",
        topic="voicemail",
        rung="mailboxes",
        code="SD937",
        says="Asterisk on `sip1` may not write to /var/spool/asterisk: no message can be left",
        make=f"install -d -o root -g root -m 755 {VOICEMAIL}/default",
        undo=f"chown -R asterisk:asterisk {VOICEMAIL}",
    ),
    Fault(
        name="a mailbox has 100 messages",
        topic="voicemail",
        rung="mailboxes",
        code="SD937",
        says="the mailbox of 1002 is full: it accepts no message",
        make=f"mkdir -p {BOX} && for n in $(seq 0 99); do touch {BOX}/msg$(printf %04d $n).txt; "
        f"done; chown -R asterisk:asterisk {VOICEMAIL}",
        undo=f"rm -rf {BOX}",
    ),
    Fault(
        name="voicemail is not loaded",
        topic="voicemail",
        rung="mailboxes",
        code="SD937",
        says="Asterisk on `sip1` runs without `app_voicemail.so`: no mailbox answers",
        make="asterisk -rx 'module unload app_voicemail.so'",
        undo="asterisk -rx 'module load app_voicemail.so'",
    ),
    Fault(
        name="a user has no mailbox",
        topic="voicemail",
        rung="mailboxes",
        code="SD937",
        says="1001 has no mailbox",
        make="true",
        undo="true",
        user="1001",
    ),
)


HEADING = """\
# Faults, and what is said about them

Each fault was made on purpose on a host that `apply` had made, and undone again.
`tests/lab/test_doctor.py` does it, and keeps this table true. The step is the first one of
`sipdeploy verify` that fails (`-`: none does, for example because the fault hits one user, or a
later call). The verdict is what `sipdeploy doctor sip1` says; `...` stands for what differs from
host to host.

| fault | step of `verify` | topic of `doctor` | verdict |
|---|---|---|---|
"""


def page() -> str:
    """docs/faults.md."""
    return HEADING + "".join(f"{row(fault)}\n" for fault in FAULTS)


def row(fault: Fault) -> str:
    """A row of the table."""
    user = f" --user {fault.user}" if fault.user else ""
    step = f"`{fault.step}`" if fault.step else "-"
    return f"| {fault.name} | {step} | `{fault.topic}{user}` | {fault.code}: {fault.says} |"


def is_said(fault: Fault, message: str) -> bool:
    """Whether a verdict is the one of the table."""
    pattern = ".*".join(map(re.escape, fault.says.split("...")))
    return re.fullmatch(pattern, message, re.DOTALL) is not None


if __name__ == "__main__":
    sys.stdout.write(page())
