"""The settings of a phone as text, JSON and a QR code. Pure."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sipdeploy.inventory.site import Site

_LABELS: Mapping[str, str] = {
    "number": "user",
    "name": "name",
    "websocket": "WebSocket",
    "protocol": "protocol",
    "uri": "SIP URI",
    "password": "password",
}


def settings(site: Site, number: str, password: str | None) -> dict[str, str]:
    """The settings of a phone; without the password if `password` is None."""
    values = {
        "number": number,
        "name": site.users[number].name,
        "websocket": f"wss://{site.domain}:{site.ports.wss}/ws",
        "protocol": "sip",  # new WebSocket(url, "sip"); without it, the handshake gets 400
        "uri": f"sip:{number}@{site.domain}",
    }
    return values if password is None else {**values, "password": password}


def as_text(values: Mapping[str, str]) -> str:
    """One line for each setting with a value."""
    return "\n".join(f"{_LABELS[key]:<10} {value}" for key, value in values.items() if value)


def as_json(values: Mapping[str, str]) -> str:
    """The settings as JSON."""
    return json.dumps(values, indent=2)


def qr(values: Mapping[str, str]) -> str:
    """A QR code of the settings as JSON, as text for dark and light terminals."""
    import segno  # noqa: PLC0415 - only for this option

    encoded = {key: values[key] for key in ("websocket", "uri", "password") if key in values}
    drawing = io.StringIO()
    segno.make_qr(json.dumps(encoded, separators=(",", ":"))).terminal(drawing, compact=True)
    return drawing.getvalue().rstrip("\n")
