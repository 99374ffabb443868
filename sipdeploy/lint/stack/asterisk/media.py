"""Rules about the media of pjsip.conf: WebRTC, codecs, certificates, announced addresses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sipdeploy.lint.stack.asterisk.config import is_false, is_true, names
from sipdeploy.lint.stack.asterisk.pjsip import (
    Pjsip,
    at_section,
    at_setting,
    host_and_port,
    is_open,
    is_private,
    pjsip,
    place,
)
from sipdeploy.lint.stack.rules import Finding, Stack, rule

if TYPE_CHECKING:
    from sipdeploy.lint.stack.asterisk.config import Section, Setting

# What `webrtc=yes` sets, whatever the file says.
_SWITCHES = ("use_avpf", "ice_support", "rtcp_mux", "bundle", "media_use_received_transport")
_WORDS = {"media_encryption": "dtls", "dtls_verify": "fingerprint", "dtls_setup": "actpass"}
_BROWSERS = {"opus", "ulaw", "alaw", "g722"}


def _endpoints(objects: Pjsip | None, *, webrtc: bool) -> Iterator[Section]:
    for endpoint in objects.of("endpoint") if objects else ():
        if endpoint.says("webrtc") == webrtc:
            yield endpoint


@rule("SD838", "warning")
def overridden_by_webrtc(stack: Stack) -> Iterator[Finding]:
    """Setting that `webrtc=yes` overrides: Asterisk does not do what the file says.

    `webrtc=yes` sets DTLS, ICE, AVPF, rtcp-mux and bundling, after all other settings.

    Bad: /etc/asterisk/pjsip.conf
        [1001]
        type=endpoint
        webrtc=yes
        ice_support=no
    Good: /etc/asterisk/pjsip.conf
        [1001]
        type=endpoint
        webrtc=yes
    """
    seen = set()
    for endpoint in _endpoints(pjsip(stack), webrtc=True):
        for key in (*_SWITCHES, *_WORDS):
            setting = endpoint.values.get(key)
            if setting and _is_other(setting) and setting not in seen:
                seen.add(setting)
                yield at_setting(
                    setting,
                    f"`{key}={setting.value}` has no effect, because of `webrtc=yes`",
                    "delete the line; for a phone that is not a browser, write `webrtc=no`",
                )


def _is_other(setting: Setting) -> bool:
    if setting.key in _SWITCHES:
        return is_false(setting.value)
    return not is_open(setting.value) and setting.value.lower() != _WORDS[setting.key]


@rule("SD839", "error")
def proxy_without_webrtc(stack: Stack) -> Iterator[Finding]:
    """Proxy without `webrtc=yes`: the browsers behind it get plain RTP, and answer 488.

    Their calls use the endpoint of the proxy, not their own. It looks as if Asterisk removed DTLS.

    Bad: /etc/asterisk/pjsip.conf
        [1001]
        type=endpoint
        webrtc=yes
        [proxy]
        type=endpoint
        aors=proxy
        [proxy]
        type=aor
        contact=sip:127.0.0.1:5062
    Good: /etc/asterisk/pjsip.conf
        [proxy]
        type=endpoint
        webrtc=yes
        aors=proxy
        [proxy]
        type=aor
        contact=sip:127.0.0.1:5062
    """
    objects = pjsip(stack)
    browser = next(_endpoints(objects, webrtc=True), None)
    if objects is None or browser is None or not objects.is_reached_by_proxy:
        return
    for endpoint in _endpoints(objects, webrtc=False):
        hosts = [host_and_port(each.value)[0] for each in objects.contacts(endpoint)]
        is_local = any(map(is_private, hosts))
        if is_local and endpoint.get("media_encryption").lower() != "dtls":
            yield at_section(
                endpoint,
                f"`{endpoint.name}` offers plain RTP/AVP to the browsers behind it",
                "add `webrtc=yes` to it",
                label="browsers answer 488",
                other=(place(browser, "a browser, reached through it"),),
            )


@rule("SD842", "warning")
def public_signaling_for_neighbours(stack: Stack) -> Iterator[Finding]:
    """`external_signaling_address` without `local_net`: neighbours get the public address too.

    Asterisk then writes it into Contact and Via of every request, also of those to a proxy on the
    same host. What answers goes to the public address, where a firewall drops it.

    Bad: /etc/asterisk/pjsip.conf
        [udp]
        type=transport
        external_signaling_address=203.0.113.10
        [proxy]
        type=aor
        contact=sip:127.0.0.1:5062
    Good: /etc/asterisk/pjsip.conf
        [udp]
        type=transport
        external_signaling_address=203.0.113.10
        local_net=127.0.0.0/8
        [proxy]
        type=aor
        contact=sip:127.0.0.1:5062
    """
    objects = pjsip(stack)
    if objects is None:
        return
    contacts = [s for aor in objects.of("aor") for s in aor.settings if s.key == "contact"]
    local = next((s for s in contacts if is_private(host_and_port(s.value)[0])), None)
    for transport in objects.of("transport"):
        setting = transport.values.get("external_signaling_address")
        if setting and setting.value and local and not transport.get("local_net"):
            host = host_and_port(local.value)[0]
            net = "127.0.0.0/8" if host.startswith("127.") else f"{host}/32"
            yield at_setting(
                setting,
                f"`{host}` gets the public address too, because `local_net` is missing",
                f"add `local_net={net}`",
                other=(place(local, "a neighbour"),),
            )


def codecs_of(endpoint: Section) -> set[str]:
    """The codecs that `allow` and `disallow` leave; `all` stands for every codec."""
    left: set[str] = set()
    for setting in endpoint.settings:
        if setting.key in {"allow", "disallow"}:
            for word in names(setting.value.replace("|", ",").lower()):
                name = word.lstrip("!").partition(":")[0].strip()
                is_allowed = (setting.key == "allow") != word.startswith("!")
                if is_allowed:
                    left.add(name)
                elif name == "all":
                    left.clear()
                else:
                    left.discard(name)
    return left


@rule("SD843", "error")
def no_codec(stack: Stack) -> Iterator[Finding]:
    """Endpoint without a usable codec: `disallow=all` after `allow`, or none that browsers have.

    Asterisk applies the lines in their order. Browsers have Opus, G.711 (ulaw, alaw) and G.722.

    Bad: /etc/asterisk/pjsip.conf
        [1001]
        type=endpoint
        allow=opus
        disallow=all
    Good: /etc/asterisk/pjsip.conf
        [1001]
        type=endpoint
        disallow=all
        allow=opus
    """
    objects = pjsip(stack)
    for endpoint in objects.of("endpoint") if objects else ():
        setting = endpoint.values.get("allow") or endpoint.values.get("disallow")
        if setting is None or any(is_open(s.value) for s in endpoint.settings if "allow" in s.key):
            continue
        codecs = codecs_of(endpoint)
        last = endpoint.values.get("disallow", setting)
        if not codecs - {"none"}:
            yield at_setting(
                last if endpoint.values.get("allow") else setting,
                f"`{endpoint.name}` has no codec, so each of its calls fails",
                "write `disallow=all` first, then `allow=opus,ulaw,alaw`",
            )
        elif endpoint.says("webrtc") and not codecs & (_BROWSERS | {"all"}):
            yield at_setting(
                setting,
                f"`{endpoint.name}` has no audio codec that browsers have",
                "add one, such as `allow=opus,ulaw,alaw`",
            )


@rule("SD844", "error")
def dtls_certificate(stack: Stack) -> Iterator[Finding]:
    """DTLS without a certificate, or with two: calls fail, or Asterisk drops the endpoint.

    `webrtc=yes` makes a certificate itself if none is named.

    Bad: /etc/asterisk/pjsip.conf
        [1001]
        type=endpoint
        media_encryption=dtls
    Good: /etc/asterisk/pjsip.conf
        [1001]
        type=endpoint
        media_encryption=dtls
        dtls_auto_generate_cert=yes
    """
    objects = pjsip(stack)
    for endpoint in objects.of("endpoint") if objects else ():
        automatic = endpoint.values.get("dtls_auto_generate_cert")
        is_automatic = automatic is not None and is_true(automatic.value)
        has_file = bool(endpoint.get("dtls_cert_file"))
        if automatic and is_automatic and has_file:
            yield at_setting(
                automatic,
                f"`{endpoint.name}` also has `dtls_cert_file`, so Asterisk drops the endpoint",
                "delete this line, or `dtls_cert_file`",
            )
        elif (
            endpoint.get("media_encryption").lower() == "dtls"
            and not endpoint.says("webrtc")
            and not (is_automatic or has_file)
        ):
            yield at_setting(
                endpoint.values["media_encryption"],
                f"`{endpoint.name}` has no certificate for DTLS",
                "add `dtls_auto_generate_cert=yes`, or write `webrtc=yes` for browsers",
            )


@rule("SD846", "note")
def webrtc_over_udp(stack: Stack) -> Iterator[Finding]:
    """Browser's endpoint with a transport that is no WebSocket: only a proxy can reach it.

    Asterisk also binds media to the address of the transport, which may be a private one.

    Bad: /etc/asterisk/pjsip.conf
        [udp]
        type=transport
        protocol=udp
        [1001]
        type=endpoint
        webrtc=yes
        transport=udp
    Good: /etc/asterisk/pjsip.conf
        [wss]
        type=transport
        protocol=wss
        [1001]
        type=endpoint
        webrtc=yes
        transport=wss
    """
    objects, seen = pjsip(stack), set()
    for endpoint in _endpoints(objects, webrtc=True):
        setting = endpoint.values.get("transport")
        transport = (
            objects.by_name.get(("transport", setting.value)) if objects and setting else None
        )
        if setting is None or transport is None or setting in seen:
            continue
        seen.add(setting)
        protocol = transport.get("protocol", "udp").lower()
        if protocol in {"udp", "tcp", "tls"}:
            yield at_setting(
                setting,
                f"`{endpoint.name}` is for browsers, but its transport is {protocol}",
                "delete the line: Asterisk answers over the transport of the request",
            )
