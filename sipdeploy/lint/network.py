"""Rules about reachability, certificates, versions and capacity. Pure."""

import ipaddress
from collections.abc import Iterator

from sipdeploy.diagnostics import count, listed
from sipdeploy.inventory.models import MOST_CONNECTIONS
from sipdeploy.lint.rules import Finding, Subject, rule
from sipdeploy.services.phone import page

ASTERISK_USERS = 10_000  # the measured maximum, see docs/size.md
_PORTS_A_CALL = 2  # RTP and RTCP of the one leg that ends in Asterisk
_BUSY = 0.1  # the share of users who call a service at the same time


@rule("SD305", "note")
def any_origin(subject: Subject) -> Iterator[Finding]:
    """Any origin: every web page may open the WebSocket.

    Digest authentication does not use cookies, so another page gains little. Naming the pages
    that contain your phones rejects all others before they use resources.

    Bad:
        origins: []
    Good:
        origins: [https://phone.example.com]
    """
    own, example = page.origin(subject.site), "https://phone.example.com"
    if not subject.site.origins:
        yield Finding(
            message="web pages of any origin may open the WebSocket",
            span=subject.key(("origins",)),
            help=f"list the pages of your phones: `origins: [{own or example}]`",
        )


@rule("SD729", "note")
def no_relay(subject: Subject) -> Iterator[Finding]:
    """No relay: calls from networks that let no direct media out have no sound.

    Many offices and mobile networks do not. A relay (TURN) on the host carries the sound of
    these calls; all others stay direct. docs/turn.md has the ports to open.

    Bad:
        services: {6002: {kind: echo}}
    Good:
        services: {6002: {kind: echo}}
        turn: {}
    """
    if subject.site.turn is None:
        yield Finding(
            message="calls from networks that let no direct media out have no sound",
            span=subject.key(("turn",)),
            help="add `turn: {}`, and open its ports at the provider",
        )


@rule("SD308", "note")
def self_signed(subject: Subject) -> Iterator[Finding]:
    """Self-signed certificate: browsers refuse the WebSocket.

    Each browser needs a manual exception, so this is for trials only.

    Bad:
        tls: {provider: self-signed}
    Good:
        tls: {provider: letsencrypt}
    """
    if subject.site.tls.provider == "self-signed":
        yield Finding(
            message="browsers do not trust a self-signed certificate",
            span=subject.value(("tls", "provider")),
            label="for trials only",
            help="for real phones write `provider: letsencrypt` or `provider: files`",
        )


@rule("SD310", "warning")
def many_users_in_asterisk(subject: Subject) -> Iterator[Finding]:
    """Many users with `authentication: asterisk`: Asterisk is slow at registrations.

    For each registration it reads user, password and address from a SQLite file, whereas Kamailio
    keeps a table in memory. Measurements cover up to 10,000 users.

    Situation: 20,000 users and `authentication: asterisk`
    Fix: `authentication: kamailio`
    """
    users = len(subject.site.users)
    if subject.site.authentication == "asterisk" and users > ASTERISK_USERS:
        yield Finding(
            message=f"{users} users are too many for `authentication: asterisk`",
            span=subject.value(("authentication",)),
            label=f"for up to {ASTERISK_USERS} users",
            help="write `authentication: kamailio`",
        )


@rule("SD319", "note")
def fewer_connections_than_users(subject: Subject) -> Iterator[Finding]:
    """Fewer connections than users: further phones cannot connect when all are in use.

    Each connection takes 0.2 MiB of memory, so the default has an upper limit of 32,768.

    Situation: 300 users and `limits: {connections: 256}`
    Fix: `limits: {connections: 300}`, and a host with enough memory
    """
    users, limit = len(subject.site.users), subject.site.limits.connections
    connections = limit or MOST_CONNECTIONS
    if users > connections:
        yield Finding(
            message=f"{users} users share {connections} connections",
            span=subject.value(("limits", "connections")),
            help=f"to connect all of them write `limits: {{connections: {users}}}`, "
            f"which takes {users // 5} MiB of memory",
        )


@rule("SD311", "warning")
def narrow_rtp(subject: Subject) -> Iterator[Finding]:
    """Narrow `ports.rtp`: when all ports are in use, further calls to services fail.

    Each call to a service takes two ports. The rule expects one user in ten to call a service at
    the same time, and at least ten calls. Calls between browsers take no port.

    Bad:
        ports: {rtp: 10000-10008}
    Good:
        ports: {rtp: 10000-20000}
    """
    rtp, users = subject.site.ports.rtp, len(subject.site.users)
    calls = (rtp.end - rtp.start + 1) // _PORTS_A_CALL
    wanted = max(round(users * _BUSY), 10)
    if calls < wanted:
        yield Finding(
            message=f"`ports.rtp` {rtp} is enough for {count(calls, 'call')} to services",
            span=subject.value(("ports", "rtp")),
            label=f"{wanted} calls are recommended for {count(users, 'user')}",
            help=f"write `rtp: {rtp.start}-{rtp.start + wanted * _PORTS_A_CALL}`, or wider"
            if rtp.start + wanted * _PORTS_A_CALL < 65536  # noqa: PLR2004  # the last port
            else f"start lower: `rtp: {65535 - wanted * _PORTS_A_CALL}-65535`",
        )


# Services that listen on UDP above 1023, and are often meant for few (IANA's registry of ports).
_LISTENING = {
    1194: "OpenVPN",
    1812: "RADIUS",
    2049: "NFS",
    3478: "TURN",
    4500: "IPsec",
    4789: "VXLAN",
    5060: "SIP",
    5353: "mDNS",
    8472: "flannel",
    51820: "WireGuard",
}


@rule("SD323", "warning")
def wide_rtp(subject: Subject) -> Iterator[Finding]:
    """Wide `ports.rtp`: it makes ports of other services public.

    The firewall opens the whole range for UDP from everywhere, also for programs other than
    Asterisk that listen there. And Asterisk cannot use a port that another program has.

    Bad:
        ports: {rtp: 20000-65535}
    Good:
        ports: {rtp: 10000-20000}
    """
    rtp = subject.site.ports.rtp
    inside = [f"{n} ({what})" for n, what in _LISTENING.items() if rtp.start <= n <= rtp.end]
    if inside:
        yield Finding(
            message=f"`ports.rtp` {rtp} opens the ports of other services",
            span=subject.value(("ports", "rtp")),
            label=", ".join(inside),
            help="write a range without them, such as `rtp: 10000-20000`",
        )


@rule("SD326", "note")
def no_firewall(subject: Subject) -> Iterator[Finding]:
    """No firewall: every account of the host can send messages to the private ports.

    The ports between Kamailio and Asterisk trust whoever reaches them. sipdeploy's firewall keeps
    the other accounts of the host, and other programs, away from them.

    Bad:
        firewall: none
    Good:
        firewall: auto
    """
    if subject.site.firewall == "none":
        yield Finding(
            message="nothing protects the private ports from other accounts of the host",
            span=subject.value(("firewall",)),
            help="write `firewall: auto`, or make sure that nobody else has an account",
        )


@rule("SD312", "warning")
def unsafe_openssl(subject: Subject) -> Iterator[Finding]:
    """Kamailio 5.5 to 5.7 with OpenSSL 3: processes can corrupt shared memory and crash.

    Version 5.7.5 added `tls_threads_mode`, which prevents that. Debian 12 and Ubuntu 22.04 ship
    the affected combination (kamailio issues 3635 and 3791); Debian 11 does not, because its
    Kamailio 5.4 uses OpenSSL 1.1.1.

    Bad:
        versions: {kamailio: "5.6"}
    Good:
        versions: {kamailio: "6.1"}
    """
    hosts = [name for name, host in subject.site.hosts.items() if host.versions]
    named = [(subject.value(("versions", "kamailio")), subject.site.versions.kamailio)]
    for name in hosts:
        version = subject.site.of(name).versions.kamailio
        named.append((subject.value(("hosts", name, "versions", "kamailio")), version))
    for span, version in named:
        if version not in {"5.5", "5.6", "5.7"}:
            continue
        yield Finding(
            message=f"Kamailio {version} with OpenSSL 3 can crash under TLS",
            span=span,
            help='write `versions: {kamailio: "6.1"}` with `install: {kamailio: repository}`',
        )


_PRIVATE = tuple(
    map(
        ipaddress.ip_network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"),
    )
)


@rule("SD313", "note")
def private_media_address(subject: Subject) -> Iterator[Finding]:
    """Private address for media: browsers outside this network hear nothing from services.

    Bad:
        hosts: {sip1: {address: 10.0.0.5}}
    Good:
        hosts: {sip1: {address: 10.0.0.5, private_address: 10.0.0.5, public_address: 203.0.113.10}}
    """
    for name, host in subject.site.hosts.items():
        address = ipaddress.ip_address(host.media_address)
        if any(address.version == net.version and address in net for net in _PRIVATE):
            key = "public_address" if host.public_address else "address"
            yield Finding(
                message=f"`{name}` announces media at the private address `{address}`",
                span=subject.value(("hosts", name, key)),
                label="browsers outside this network cannot reach it",
                help=f"for phones outside this network set `private_address: {address}` and"
                " `public_address` to the address that they reach",
            )


@rule("SD316", "warning")
def deaf_voicemail(subject: Subject) -> Iterator[Finding]:
    """Unreachable voicemail: users have mailboxes, but no service plays the messages.

    Bad:
        users: {1001: {voicemail: true}}
    Good:
        users: {1001: {voicemail: true}}
        services: {6001: {kind: voicemail}}
    """
    boxes = [number for number, user in subject.site.users.items() if user.voicemail]
    kinds = {service.kind for service in subject.site.services.values()}
    if boxes and "voicemail" not in kinds:
        yield Finding(
            message=f"nobody can listen to the voicemail of {listed(boxes)}",
            span=subject.key(("users", boxes[0], "voicemail")),
            help="add a service, such as `services: {6001: {kind: voicemail}}`",
        )


@rule("SD317", "warning")
def misleading_name(subject: Subject) -> Iterator[Finding]:
    """Misleading name: phones would show another user's number, or the domain, as the name.

    Bad:
        users: {1001: {name: "1002"}, 1002: {}}
    Good:
        users: {1001: {name: Alice}, 1002: {}}
    """
    taken = subject.site.users.keys() | subject.site.services.keys() | {subject.site.domain}
    for number, user in subject.site.users.items():
        if user.name != number and user.name.lower() in taken:
            yield Finding(
                message=f"user `{number}` has the misleading name `{user.name}`",
                span=subject.value(("users", number, "name")),
                label="a number of this site, or its domain",
                help="write another name, such as `name: Alice`",
            )
