"""The settings of a phone: as text, as JSON, and as each phone that works takes them. Pure."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sipdeploy.inventory.secret import ha1
from sipdeploy.services.coturn.credentials import IceServer, ice_servers

if TYPE_CHECKING:
    from sipdeploy.inventory.site import Site

PATH = "/ws"
Fields = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of the phones of one user; `password` is None if it must not be shown."""

    number: str
    name: str
    domain: str
    port: int
    voicemail: str  # the number that plays the user's messages; empty without a mailbox
    page: str  # the address of the web phone; empty if nobody serves it
    relay: IceServer | None  # its credential is empty if passwords must not be shown
    password: str | None = field(repr=False)

    @property
    def websocket(self) -> str:
        """The URL of the server."""
        return f"wss://{self.domain}:{self.port}{PATH}"

    @property
    def uri(self) -> str:
        """The SIP URI of the user."""
        return f"sip:{self.number}@{self.domain}"

    @property
    def ice_servers(self) -> list[dict[str, Any]]:
        """For `RTCPeerConnection({iceServers: [...]})`; empty without a relay."""
        if self.relay is None:
            return []
        data = self.relay.as_data()
        return [{name: value for name, value in data.items() if value}]

    @property
    def link(self) -> str:
        """The web phone with the number of the user, as a camera reads it from a QR code.

        The number is in the fragment, which no server sees. The password is not in it: browsers
        keep and share the addresses that they have opened.
        """
        return f"{self.page}#{self.number}" if self.page else ""


def settings(site: Site, number: str, password: str | None, *, page: str = "") -> Settings:
    """The settings of a user of the site."""
    mailbox = (each for each, service in site.services.items() if service.kind == "voicemail")
    user = site.users[number]
    relays = ice_servers(site, number, ha1(number, site.domain, password or ""))
    if password is None:
        relays = tuple(replace(each, credential="") for each in relays)
    return Settings(
        number=number,
        name=user.name,
        domain=site.domain,
        port=site.ports.wss,
        voicemail=next(mailbox, "") if user.voicemail else "",
        page=page,
        relay=next(iter(relays), None),
        password=password,
    )


_LABELS: Mapping[str, str] = {
    "number": "user",
    "name": "name",
    "websocket": "WebSocket",
    "protocol": "protocol",
    "uri": "SIP URI",
    "password": "password",
    "page": "web phone",
}


def as_data(values: Settings) -> dict[str, Any]:
    """The settings as plain data, without those that are unknown or must not be shown."""
    data: dict[str, Any] = {
        "number": values.number,
        "name": values.name,
        "websocket": values.websocket,
        "protocol": "sip",  # new WebSocket(url, "sip"); without it, the handshake gets 400
        "uri": values.uri,
    }
    if values.password is not None:
        data["password"] = values.password
    if values.page:
        data["page"] = values.link
    if values.relay:
        data["ice_servers"] = values.ice_servers
    return data


def as_text(values: Settings) -> str:
    """One line for each setting with a value."""
    lines = [(_LABELS[key], text) for key, text in as_data(values).items() if key in _LABELS]
    if values.relay:
        lines += [("TURN", url) for url in values.relay.urls]
        lines += [("TURN user", values.number), ("TURN password", values.relay.credential)]
    width = max(10, *(len(label) for label, _ in lines))
    return "\n".join(f"{label:<{width}} {text}" for label, text in lines if text)


def as_json(every: Sequence[Settings]) -> str:
    """The settings of users, with the fields of Browser-Phone."""
    rows = [{**as_data(values), "browser_phone": browser_phone(values)} for values in every]
    return json.dumps({"users": rows}, indent=2)


def browser_phone(values: Settings) -> Fields:
    """What to type into which field of Browser-Phone."""
    mailbox = {"Subscribe to VoiceMail (MWI)": "Yes" if values.voicemail else "No"}
    if values.voicemail:
        mailbox["VoiceMail Management Number"] = values.voicemail
    return {
        "Secure WebSocket Server (TLS)": values.domain,
        "WebSocket Port": str(values.port),
        "WebSocket Path": PATH,
        "Full Name": values.name or values.number,
        "Domain": values.domain,
        "SIP Username": values.number,
        "SIP Password": values.password or "",
        **mailbox,
        "Chat Engine": "SIP",
    }


_JSSIP = """\
const ua = new JsSIP.UA({{
  sockets: [new JsSIP.WebSocketInterface({websocket})],
  uri: {uri},
  password: {password},
  session_timers: false,
}});"""
_JSSIP_TURN = """
// for ua.call(target, {{ pcConfig }}) and session.answer({{ pcConfig }})
const pcConfig = {{ iceServers: {ice_servers} }};"""
_SIPJS = """\
const user = new Web.SimpleUser({websocket}, {{
  aor: {uri},
  reconnectionAttempts: 20,
  reconnectionDelay: 4,
  userAgentOptions: {{
    authorizationUsername: {number},
    authorizationPassword: {password},
    sessionDescriptionHandlerFactoryOptions: {{
      iceGatheringTimeout: 500,
      peerConnectionConfiguration: {{ iceServers: {ice_servers} }},
    }},
  }},
}});"""


def _code(template: str, values: Settings) -> str:
    password = "the password" if values.password is None else values.password
    quoted = {
        "websocket": values.websocket,
        "uri": values.uri,
        "number": values.number,
        "password": password,
        "ice_servers": [
            {**each, "credential": each.get("credential", "the TURN password")}
            for each in values.ice_servers
        ],
    }
    return template.format(**{name: json.dumps(value) for name, value in quoted.items()})


CLIENTS: Mapping[str, Callable[[Settings], str]] = {
    "browser-phone": lambda values: fields_as_text(browser_phone(values)),
    "jssip": lambda values: _code(_JSSIP + (_JSSIP_TURN if values.relay else ""), values),
    "sip.js": lambda values: _code(_SIPJS, values),
}


def fields_as_text(fields: Fields) -> str:
    """A line for each field: `WebSocket Port  8443`."""
    width = max(map(len, fields))
    return "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in fields.items())


def qr(link: str) -> str:
    """A QR code as text for dark and light terminals."""
    import segno  # noqa: PLC0415 - only for this option

    drawing = io.StringIO()
    segno.make_qr(link).terminal(drawing, compact=True)
    return drawing.getvalue().rstrip("\n")
