"""Rules about reachability, certificates, versions and sizes. Pure."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import listed
from sipdeploy.inventory.models import MOST_CONNECTIONS
from sipdeploy.lint.rules import Finding, Subject, rule

if TYPE_CHECKING:
    from collections.abc import Iterator

ASTERISK_USERS = 10_000  # what was measured, see docs/size.md
_PORTS_A_CALL = 2  # RTP and RTCP of the one leg that ends in Asterisk
_BUSY = 0.1  # of the users in a call with a service at once


@rule("SD305", "note")
def any_origin(subject: Subject) -> Iterator[Finding]:
    """Any origin: every web page may open the WebSocket.

    Digest authentication does not ride on cookies, so a foreign page gains little; naming the
    pages that hold your phones keeps the rest out before they cost anything.

    Bad:
        origins: []
    Good:
        origins: [https://phone.example.com]
    """
    if not subject.site.origins:
        yield Finding(
            message="web pages of any origin may open the WebSocket",
            span=subject.key(("origins",)),
            help="name yours, as in `origins: [https://phone.example.com]`",
        )


@rule("SD308", "note")
def self_signed(subject: Subject) -> Iterator[Finding]:
    """Self-signed certificate: browsers refuse the WebSocket until each one is told to trust it.

    Bad:
        tls: {provider: self-signed}
    Good:
        tls: {provider: letsencrypt}
    """
    if subject.site.tls.provider == "self-signed":
        yield Finding(
            message="browsers do not trust a self-signed certificate",
            span=subject.value(("tls", "provider")),
            label="fit for trials",
            help="for real phones write `provider: letsencrypt`, or `files`",
        )


@rule("SD310", "warning")
def many_users_in_asterisk(subject: Subject) -> Iterator[Finding]:
    """Many users with `authentication: asterisk`: each registration is looked up by Asterisk.

    It reads user, password and address one by one from a file of SQLite, each time anew, where
    Kamailio has a table in memory. Up to 10,000 users are measured.
    """
    users = len(subject.site.users)
    if subject.site.authentication == "asterisk" and users > ASTERISK_USERS:
        yield Finding(
            message=f"{users} users are many for `authentication: asterisk`",
            span=subject.value(("authentication",)),
            label=f"fit for up to {ASTERISK_USERS}",
            help="write `authentication: kamailio`",
        )


@rule("SD319", "note")
def fewer_connections_than_users(subject: Subject) -> Iterator[Finding]:
    """Fewer connections than users: who comes when all are taken finds the port closed.

    Each connection takes 0.2 MiB of memory, so not all of very many users are provided for.
    """
    users, limit = len(subject.site.users), subject.site.limits.connections
    connections = limit or MOST_CONNECTIONS
    if users > connections:
        yield Finding(
            message=f"{connections} phones can be connected at once, of {users} users",
            span=subject.value(("limits", "connections")),
            help=f"to connect all write `limits: {{connections: {users}}}`, "
            f"which takes {users // 5} MiB of memory",
        )


@rule("SD311", "warning")
def narrow_rtp(subject: Subject) -> Iterator[Finding]:
    """Narrow `ports.rtp`: when it is used up, calls to services get no audio and fail.

    Every call to a service takes two ports; one user in ten at once is reckoned with, and ten
    calls at least. Calls between browsers take none.

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
            message=f"`ports.rtp` {rtp} is enough for {calls} calls to services",
            span=subject.value(("ports", "rtp")),
            label=f"{wanted} for {users} users",
            help=f"write `rtp: {rtp.start}-{rtp.start + wanted * _PORTS_A_CALL}`, or wider"
            if rtp.start + wanted * _PORTS_A_CALL < 65536  # noqa: PLR2004  # the last port
            else "begin lower",
        )


@rule("SD312", "warning")
def unsafe_openssl(subject: Subject) -> Iterator[Finding]:
    """Kamailio 5.5 to 5.7 with OpenSSL 3: workers share its memory and corrupt it now and then.

    `tls_threads_mode`, which cures it, came with 5.7.5. Debian 12 and Ubuntu 22.04 have such
    a pair (kamailio issues 3635 and 3791); Kamailio 5.4 on Debian 11 has OpenSSL 1.1.1.

    Bad:
        versions: {kamailio: "5.6"}
    Good:
        versions: {kamailio: "6.1"}
    """
    version = subject.site.versions.kamailio
    if version in {"5.5", "5.6", "5.7"}:
        yield Finding(
            message=f"Kamailio {version} with OpenSSL 3 can crash under TLS",
            span=subject.value(("versions", "kamailio")),
            help="take Kamailio 5.8 or newer",
        )


_PRIVATE = tuple(
    map(
        ipaddress.ip_network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"),
    )
)


@rule("SD313", "note")
def private_media_address(subject: Subject) -> Iterator[Finding]:
    """Private address for media: browsers outside of this network hear nothing from services.

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
                label="browsers elsewhere cannot reach it",
                help=f"set `public_address`, and `private_address: {address}`, if phones are"
                " to work from outside",
            )


@rule("SD316", "warning")
def deaf_voicemail(subject: Subject) -> Iterator[Finding]:
    """Voicemail that nobody can listen to: users have boxes, but no service plays them.

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
            help="add a service, such as `6001: {kind: voicemail}`",
        )


@rule("SD317", "warning")
def misleading_name(subject: Subject) -> Iterator[Finding]:
    """Misleading name: phones would show the number of somebody else, or the domain.

    Bad:
        users: {1001: {name: "1002"}, 1002: {}}
    Good:
        users: {1001: {name: Alice}, 1002: {}}
    """
    taken = subject.site.users.keys() | subject.site.services.keys() | {subject.site.domain}
    for number, user in subject.site.users.items():
        if user.name != number and user.name.lower() in taken:
            yield Finding(
                message=f"the name of user `{number}` is `{user.name}`, which is somebody else",
                span=subject.value(("users", number, "name")),
                help="give the user another name",
            )
