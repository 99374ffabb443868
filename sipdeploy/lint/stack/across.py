"""Rules across files: Kamailio against Asterisk, the dialplan against pjsip.conf and mailboxes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from sipdeploy.lint.stack.asterisk.dialplan import dialplan
from sipdeploy.lint.stack.asterisk.others import boxes, general, rtp_range
from sipdeploy.lint.stack.asterisk.pjsip import (
    Pjsip,
    Place,
    at_setting,
    host_and_port,
    is_open,
    pjsip,
    place,
)
from sipdeploy.lint.stack.kamailio.config import of
from sipdeploy.lint.stack.rules import Finding, Stack, rule

if TYPE_CHECKING:
    from sipdeploy.lint.stack.asterisk.config import Setting
    from sipdeploy.lint.stack.files import StackFile

_EVERYWHERE = {"", "0.0.0.0", "::"}  # noqa: S104  # compared, not bound
_BIND = re.compile(r"(\[[^\]]*\]|[^:]*|[0-9a-fA-F:]+)(?::([0-9]{1,5}))?")
_UDP_AND_TCP = {"udp", "tcp", "tls"}


class Bind(NamedTuple):
    """A socket that Asterisk binds."""

    proto: str
    host: str
    port: int
    setting: Setting


def _binds(objects: Pjsip | None) -> tuple[list[Bind], bool]:
    """The sockets of Asterisk, and whether these are all."""
    binds, is_whole = [], objects is not None and objects.is_closed("transport")
    for transport in objects.of("transport") if objects else ():
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


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host in {"localhost", "::1"}


def _is_at(address: str, host: str) -> bool:
    return (
        address in _EVERYWHERE or address == host or {address, host} <= {"localhost", "127.0.0.1"}
    )


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
    kamailio = of(stack)
    binds, is_whole = _binds(pjsip(stack))
    for each in kamailio.destinations if is_whole and kamailio.knows_listeners else ():
        host, port = host_and_port(each.uri)
        proto = _proto(each.uri)
        is_own = any(s.port == port and _is_at(s.address, host) for s in kamailio.listeners)
        is_bound = any(b.proto == proto and b.port == port and _is_at(b.host, host) for b in binds)
        if _is_loopback(host) and not is_own and not is_bound and proto in _UDP_AND_TCP:
            at = binds[0].setting
            yield Finding(
                file=each.file,
                start=each.start,
                end=each.end,
                message=f"nothing listens at `{host}:{port}` ({proto})",
                help=f"write port {binds[0].port}, where Asterisk listens"
                if binds[0].port != port
                else f"add `;transport={binds[0].proto}`",
                other=((at.file, at.start, at.end, "Asterisk listens here"),),
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
    kamailio, objects = of(stack), pjsip(stack)
    if objects is None or not kamailio.knows_listeners:
        return
    binds, _ = _binds(objects)
    contacts = [s for aor in objects.of("aor") for s in aor.settings if s.key == "contact"]
    for setting in contacts:
        host, port = host_and_port(setting.value)
        proto = _proto(setting.value)
        listeners = kamailio.listeners
        is_there = any(
            s.proto == proto and s.port == port and _is_at(s.address, host) for s in listeners
        )
        is_own = any(bind.port == port for bind in binds)
        if _is_loopback(host) and not is_there and not is_own:
            first = next((s for s in listeners if s.proto == proto), listeners[0])
            yield at_setting(
                setting,
                f"Kamailio does not listen at `{host}:{port}` ({proto})",
                f"write port {first.port}",
                other=((first.file, first.start, first.end, "Kamailio listens here"),),
            )


_BOX = re.compile(r"\s*(\d+)@?([\w-]*)")


@rule("SD882", "error")
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
    config = stack.asterisk.named("voicemail.conf") if stack.asterisk else None
    database = stack.asterisk.named("extconfig.conf") if stack.asterisk else None
    stored = any("voicemail" in section.values for section in (database.live if database else ()))
    if config is None or not config.is_complete or stored:
        return
    known = boxes(stack)
    for file, start, text in (*_dialled_boxes(stack), *_watched_boxes(stack)):
        match = _BOX.match(text)
        if match and (match[1], match[2] or "default") not in known:
            at = start + match.start(1)
            context = match[2] or "default"
            yield Finding(
                file=file,
                start=at,
                end=at + len(match[0].strip()),
                message=f"there is no mailbox `{match[1]}` in `[{context}]` of voicemail.conf",
                help=f"add `{match[1]} => PIN,NAME` to `[{context}]`",
            )


def _dialled_boxes(stack: Stack) -> Iterator[tuple[StackFile, int, str]]:
    plan = dialplan(stack)
    for _, _, step in plan.steps() if plan else ():
        if step.application.lower() == "voicemail" and "$" not in step.arguments.partition(",")[0]:
            yield step.setting.file, step.arguments_start, step.arguments.partition(",")[0]


def _watched_boxes(stack: Stack) -> Iterator[tuple[StackFile, int, str]]:
    objects, seen = pjsip(stack), set()
    for kind in ("endpoint", "aor"):
        for section in objects.of(kind) if objects else ():
            setting = section.values.get("mailboxes")
            if setting and setting not in seen and not is_open(setting.value):
                seen.add(setting)
                yield setting.file, setting.start, setting.value.partition(",")[0]


@rule("SD883", "error")
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
    objects, plan, seen = pjsip(stack), dialplan(stack), set()
    if objects is None or plan is None or not plan.is_closed:
        return
    for endpoint in objects.of("endpoint"):
        for key in ("context", "message_context", "subscribe_context"):
            setting = endpoint.values.get(key)
            if setting and setting.value and setting not in seen and not is_open(setting.value):
                seen.add(setting)
                if setting.value not in plan.contexts:
                    yield at_setting(
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
    section = general(stack, "rtp.conf")
    setting = section.values.get("rtpstart") if section else None
    if section is None or setting is None:
        return
    start, end = rtp_range(section)
    for port, socket in _udp_ports(stack):
        if start <= port <= end:
            yield at_setting(
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
    for each in of(stack).listeners:
        if each.proto == "udp":
            yield each.port, (each.file, each.start, each.end, "the SIP port")


@rule("SD886", "warning")
def asterisk_beside_proxy(stack: Stack) -> Iterator[Finding]:
    """Asterisk listens on all addresses, though Kamailio reaches it on this host.

    Whoever reaches its port passes Kamailio by, with its authentication and its limits.

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
        for each in of(stack).destinations:
            host, port = host_and_port(each.uri)
            if port == bind.port and bind.host in _EVERYWHERE and _is_loopback(host):
                yield at_setting(
                    bind.setting,
                    "Asterisk listens on all addresses, so callers can pass Kamailio by",
                    f"write `bind={host}:{port}`",
                    other=((each.file, each.start, each.end, "Kamailio sends here"),),
                )
                break
