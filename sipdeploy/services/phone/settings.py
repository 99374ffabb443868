"""The settings of a phone: as text, as JSON, and field by field for the phones that work. Pure."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
    return Settings(
        number=number,
        name=user.name,
        domain=site.domain,
        port=site.ports.wss,
        voicemail=next(mailbox, "") if user.voicemail else "",
        page=page,
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


def as_data(values: Settings) -> dict[str, str]:
    """The settings as plain data, without those that are unknown or must not be shown."""
    data = {
        "number": values.number,
        "name": values.name,
        "websocket": values.websocket,
        "protocol": "sip",  # new WebSocket(url, "sip"); without it, the handshake gets 400
        "uri": values.uri,
    }
    if values.password is not None:
        data["password"] = values.password
    return {**data, "page": values.link} if values.page else data


def as_text(values: Settings) -> str:
    """One line for each setting with a value."""
    lines = as_data(values).items()
    return "\n".join(f"{_LABELS[key]:<10} {value}" for key, value in lines if value)


def as_json(every: Sequence[Settings]) -> str:
    """The settings of users, with the fields of each phone."""
    rows = [{**as_data(values), "phones": phones(values)} for values in every]
    return json.dumps({"users": rows}, indent=2)


def phones(values: Settings) -> dict[str, Fields]:
    """What to type into which field, by the name of the phone."""
    password = "" if values.password is None else values.password
    return {
        **({"Web phone": _web_phone(values, password)} if values.page else {}),
        "Browser-Phone": _browser_phone(values, password),
        "JsSIP": _jssip(values, password),
        "SIP.js": _sipjs(values, password),
    }


def _web_phone(values: Settings, password: str) -> Fields:
    return {"Address": values.page, "Number": values.number, "Password": password}


def _browser_phone(values: Settings, password: str) -> Fields:
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
        "SIP Password": password,
        **mailbox,
        "Chat Engine": "SIP",
    }


def _jssip(values: Settings, password: str) -> Fields:
    """The options of `new JsSIP.UA`, as JavaScript."""
    return {
        "sockets": f"[new JsSIP.WebSocketInterface({json.dumps(values.websocket)})]",
        "uri": json.dumps(values.uri),
        "password": json.dumps(password),
        "session_timers": "false",
    }


def _sipjs(values: Settings, password: str) -> Fields:
    """The arguments of `new Web.SimpleUser` and the paths of its options, as JavaScript."""
    handler = "userAgentOptions.sessionDescriptionHandlerFactoryOptions"
    return {
        "server": json.dumps(values.websocket),
        "aor": json.dumps(values.uri),
        "userAgentOptions.authorizationUsername": json.dumps(values.number),
        "userAgentOptions.authorizationPassword": json.dumps(password),
        f"{handler}.iceGatheringTimeout": "500",
        f"{handler}.peerConnectionConfiguration": "{ iceServers: [] }",
        "reconnectionAttempts": "20",
        "reconnectionDelay": "4",
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
