"""What somebody types into a phone, for a terminal, for machines and as a QR code. Pure."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sipdeploy.inventory.site import Site

_LABELS: Mapping[str, str] = {
    "number": "user",
    "name": "name",
    "websocket": "WebSocket",
    "uri": "SIP URI",
    "password": "password",
}


def settings(site: Site, number: str, password: str | None) -> dict[str, str]:
    """The settings of a phone; `password` is None where it is not to be shown."""
    shown = {
        "number": number,
        "name": site.users[number].name,
        "websocket": f"wss://{site.domain}:{site.ports.wss}/ws",
        "uri": f"sip:{number}@{site.domain}",
    }
    return shown if password is None else {**shown, "password": password}


def as_text(shown: Mapping[str, str]) -> str:
    """One line for each that has a value."""
    return "\n".join(f"{_LABELS[key]:<10} {value}" for key, value in shown.items() if value)


def as_json(shown: Mapping[str, str]) -> str:
    """The settings for machines."""
    return json.dumps(shown, indent=2, ensure_ascii=False)


def qr(shown: Mapping[str, str]) -> str:
    """A QR code of the settings as JSON, drawn with characters for a dark or a light terminal."""
    import segno  # noqa: PLC0415 - only where somebody looks at it

    kept = {key: shown[key] for key in ("websocket", "uri", "password") if key in shown}
    drawing = io.StringIO()
    segno.make_qr(json.dumps(kept, separators=(",", ":"))).terminal(drawing, compact=True)
    return drawing.getvalue().rstrip("\n")
