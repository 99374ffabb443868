"""Rules across files: Kamailio against Asterisk, the dialplan against pjsip.conf and mailboxes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from sipdeploy.lint.stack import asterisk, kamailio
from sipdeploy.lint.stack.addresses import host_and_port, is_loopback, is_wildcard
from sipdeploy.lint.stack.asterisk.dialplan import dialplan
from sipdeploy.lint.stack.asterisk.others import boxes, rtp_range
from sipdeploy.lint.stack.asterisk.pjsip import Pjsip, Place, at, is_open, once, pjsip, place
from sipdeploy.lint.stack.rules import Finding, Stack, rule

if TYPE_CHECKING:
    from sipdeploy.lint.stack.asterisk.config import Setting
    from sipdeploy.lint.stack.files import StackFile

_BIND = re.compile(r"(\[[^\]]*\]|[^:]*|[0-9a-fA-F:]+)(?::([0-9]{1,5}))?")
_UDP_AND_TCP = {"udp", "tcp", "tls"}


class Bind(NamedTuple):
    """A socket that Asterisk binds."""

    proto: str
    host: str
    port: int
    setting: Setting


def _binds(objects: Pjsip) -> tuple[list[Bind], bool]:
    """The sockets of Asterisk, and whether these are all."""
    binds, is_whole = [], objects.is_closed("transport")
    for transport in objects.of("transport"):
        setting = transport.values.get("bind")
        match = _BIND.fullmatch(setting.value) if setting else None
        if setting is None or match is None or is_open(setting.value):
            is_whole = False
            continue
        proto = transport.get("protocol", "udp").lower()
        default = 5061 if proto == "tls" else 5060
        binds.append(Bind(proto, match[1].strip("[]"), int(match[2] or default), setting))
    return binds, is_whole and bool(binds)


def _proto(uri: str) -> str:
    match = re.search(r";transport=(\w+)", uri, re.IGNORECASE)
    return match[1].lower() if match else "udp"


def _is_at(address: str, host: str) -> bool:
    is_same = address == host or {address, host} <= {"localhost", "127.0.0.1"}
    return is_same or is_wildcard(address)


@rule("SD880", "error")
def nothing_listens(stack: Stack) -> Iterator[Finding]:
    """Kamailio sends to a port of this host at which Asterisk does not listen.

    Bad: /etc/kamailio/kamailio.cfg
        listen=udp:127.0.0.1:5062
        request_route { $du = "sip:127.0.0.1:5070"; t_relay(); }
        ; /etc/asterisk/pjsip.conf
        [udp]
        type=transport
        bind=127.0.0.1:5060
    Good: /etc/kamailio/kamailio.cfg
        listen=udp:127.0.0.1:5062
        request_route { $du = "sip:127.0.0.1:5060"; t_relay(); }
        ; /etc/asterisk/pjsip.conf
        [udp]
        type=transport
        bind=127.0.0.1:5060
    """
    proxy = kamailio.of(stack)
    binds, is_whole = _binds(pjsip(stack))
    for each in proxy.destinations if is_whole and proxy.knows_listeners else ():
        host, port = host_and_port(each.uri)
        proto = _proto(each.uri)
        is_own = any(s.port == port and _is_at(s.address, host) for s in proxy.listeners)
        is_bound = any(b.proto == proto and b.port == port and _is_at(b.host, host) for b in binds)
        if is_loopback(host) and not is_own and not is_bound and proto in _UDP_AND_TCP:
            yield Finding(
                file=each.file,
                start=each.start,
                end=each.end,
                message=f"nothing listens at `{host}:{port}` ({proto})",
                help=f"write port {binds[0].port}, where Asterisk listens"
                if binds[0].port != port
                else f"add `;transport={binds[0].proto}`",
                other=(place(binds[0].setting, "Asterisk listens here"),),
            )


@rule("SD881", "error")
def contact_is_no_listener(stack: Stack) -> Iterator[Finding]:
    """Contact of a trunk at a port of this host at which Kamailio does not listen.

    Bad: /etc/asterisk/pjsip.conf
        [trunk]
        type=aor
        contact=sip:127.0.0.1:5080
        ; /etc/kamailio/kamailio.cfg
        listen=udp:127.0.0.1:5062
    Good: /etc/asterisk/pjsip.conf
        [trunk]
        type=aor
        contact=sip:127.0.0.1:5062
        ; /etc/kamailio/kamailio.cfg
        listen=udp:127.0.0.1:5062
    """
    proxy, objects = kamailio.of(stack), pjsip(stack)
    if not proxy.knows_listeners:
        return
    binds, _ = _binds(objects)
    for setting in objects.static_contacts:
        host, port = host_and_port(setting.value)
        proto = _proto(setting.value)
        listeners = proxy.listeners
        is_there = any(
            s.proto == proto and s.port == port and _is_at(s.address, host) for s in listeners
        )
        is_own = any(bind.port == port for bind in binds)
        if is_loopback(host) and not is_there and not is_own:
            first = next((s for s in listeners if s.proto == proto), listeners[0])
            yield at(
                setting,
                f"Kamailio does not listen at `{host}:{port}` ({proto})",
                f"write port {first.port}",
                other=((first.file, first.start, first.end, "Kamailio listens here"),),
            )


_BOX = re.compile(r"\s*(\d+)@?([\w-]*)")


@rule("SD882", "error")
@once
def missing_mailbox(stack: Stack) -> Iterator[Finding]:
    """Mailbox that voicemail.conf does not have: no message can be left, and none is announced.

    Bad: /etc/asterisk/extensions.conf
        [in]
        exten => 1001,1,VoiceMail(1001@default,u)
        ; /etc/asterisk/voicemail.conf
        [default]
        1002 => 583021,Bob
    Good: /etc/asterisk/extensions.conf
        [in]
        exten => 1001,1,VoiceMail(1001@default,u)
        ; /etc/asterisk/voicemail.conf
        [default]
        1001 => 583021,Alice
    """
    files = asterisk.of(stack)
    is_stored = any("voicemail" in each.values for each in files.named("extconfig.conf").live)
    if is_stored or not files.named("voicemail.conf").is_complete:
        return
    known = boxes(stack)
    for file, start, text in (*_dialled_boxes(stack), *_watched_boxes(stack)):
        match = _BOX.match(text)
        if match and (match[1], match[2] or "default") not in known:
            begin = start + match.start(1)
            context = match[2] or "default"
            yield Finding(
                file=file,
                start=begin,
                end=begin + len(match[0].strip()),
                message=f"there is no mailbox `{match[1]}` in `[{context}]` of voicemail.conf",
                help=f"add `{match[1]} => PIN,NAME` to `[{context}]`",
            )


def _dialled_boxes(stack: Stack) -> Iterator[tuple[StackFile, int, str]]:
    for _, _, step in dialplan(stack).steps():
        if step.application.lower() == "voicemail" and "$" not in step.arguments.partition(",")[0]:
            yield step.setting.file, step.arguments_start, step.arguments.partition(",")[0]


def _watched_boxes(stack: Stack) -> Iterator[tuple[StackFile, int, str]]:
    for kind in ("endpoint", "aor"):
        for section in pjsip(stack).of(kind):
            setting = section.values.get("mailboxes")
            if setting and not is_open(setting.value):
                yield setting.file, setting.start, setting.value.partition(",")[0]


@rule("SD883", "error")
@once
def missing_context(stack: Stack) -> Iterator[Finding]:
    """Context of an endpoint that the dialplan does not have: each of its calls gets 404.

    Bad: /etc/asterisk/pjsip.conf
        [1001]
        type=endpoint
        context=users
        ; /etc/asterisk/extensions.conf
        [in]
        exten => 6000,1,Answer()
    Good: /etc/asterisk/pjsip.conf
        [1001]
        type=endpoint
        context=in
        ; /etc/asterisk/extensions.conf
        [in]
        exten => 6000,1,Answer()
    """
    plan = dialplan(stack)
    for endpoint in pjsip(stack).of("endpoint") if plan.is_closed else ():
        for key in ("context", "message_context", "subscribe_context"):
            setting = endpoint.values.get(key)
            if setting is None or setting.value in plan.contexts or is_open(setting.value):
                continue
            if setting.value:
                yield at(
                    setting,
                    f"the dialplan has no context `{setting.value}`",
                    f"add a section `[{setting.value}]` to extensions.conf",
                )


@rule("SD885", "error")
def port_among_rtp(stack: Stack) -> Iterator[Finding]:
    """RTP range with the port of a SIP socket in it: some calls have no audio.

    Bad: /etc/asterisk/rtp.conf
        [general]
        rtpstart=5000
        rtpend=20000
        ; /etc/asterisk/pjsip.conf
        [udp]
        type=transport
        bind=127.0.0.1:5060
    Good: /etc/asterisk/rtp.conf
        [general]
        rtpstart=10000
        rtpend=20000
        ; /etc/asterisk/pjsip.conf
        [udp]
        type=transport
        bind=127.0.0.1:5060
    """
    section = asterisk.of(stack).named("rtp.conf").general
    setting = section.values.get("rtpstart")
    if setting is None:
        return
    start, end = rtp_range(section)
    for port, socket in _udp_ports(stack):
        if start <= port <= end:
            yield at(
                setting,
                f"the SIP port {port} is in the RTP range {start} to {end}",
                "write `rtpstart=10000`, or move the SIP port out of the range",
                other=(socket,),
            )


def _udp_ports(stack: Stack) -> Iterator[tuple[int, Place]]:
    """The UDP ports of SIP, and where they are written."""
    for bind in _binds(pjsip(stack))[0]:
        if bind.proto == "udp":
            yield bind.port, place(bind.setting, "the SIP port")
    for each in kamailio.of(stack).listeners:
        if each.proto == "udp":
            yield each.port, (each.file, each.start, each.end, "the SIP port")


@rule("SD886", "warning")
def asterisk_beside_proxy(stack: Stack) -> Iterator[Finding]:
    """Asterisk listens on all addresses, though Kamailio reaches it on this host.

    A caller who reaches Asterisk's port avoids Kamailio, its authentication and its limits.

    Bad: /etc/asterisk/pjsip.conf
        [udp]
        type=transport
        bind=0.0.0.0:5060
        ; /etc/kamailio/kamailio.cfg
        listen=udp:127.0.0.1:5062
        request_route { $du = "sip:127.0.0.1:5060"; t_relay(); }
    Good: /etc/asterisk/pjsip.conf
        [udp]
        type=transport
        bind=127.0.0.1:5060
        ; /etc/kamailio/kamailio.cfg
        listen=udp:127.0.0.1:5062
        request_route { $du = "sip:127.0.0.1:5060"; t_relay(); }
    """
    for bind in _binds(pjsip(stack))[0]:
        for each in kamailio.of(stack).destinations:
            host, port = host_and_port(each.uri)
            if port == bind.port and is_wildcard(bind.host) and is_loopback(host):
                yield at(
                    bind.setting,
                    "Asterisk listens on all addresses, so callers can pass Kamailio by",
                    f"write `bind={host}:{port}`",
                    other=((each.file, each.start, each.end, "Kamailio sends here"),),
                )
                break
