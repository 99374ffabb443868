"""The web phone: its built files, the data that it reads, and the header fields it needs.

`web/` has the sources. The files are the same for every site; the site is in `config.json`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sipdeploy.inventory.site import Site

TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}


def folder() -> Path | None:
    """The folder of the built page: in the package in a wheel, in web/dist in a checkout.

    None if it was not built, because Node.js was missing.
    """
    package = Path(__file__).parent.parent.parent
    for each in (package / "page", package.parent / "web" / "dist"):
        if (each / "phone.js").is_file():
            return each
    return None


def config(site: Site, *, is_local: bool) -> str:
    """What the page reads first; everybody may know it."""
    websocket = f"wss://{site.domain}:{site.ports.wss}/ws"
    return json.dumps({"domain": site.domain, "websocket": websocket, "is_local": is_local})


def contacts(site: Site) -> str:
    """The names and services, for signed-in users alone (`derived_key`)."""
    users = [{"number": number, "name": user.name} for number, user in site.users.items()]
    services = [{"number": number, "kind": each.kind} for number, each in site.services.items()]
    return json.dumps({"users": users, "services": services}, ensure_ascii=False)


def derived_key(ha1: str, purpose: str) -> str:
    """A credential of a user for one purpose, which the page derives in the same way.

    With it, a server checks who reads the contacts without knowing a password or an HA1.
    """
    return hmac.new(ha1.encode(), purpose.encode(), hashlib.sha256).hexdigest()


def headers(site: Site) -> dict[str, str]:
    """The header fields of every answer: the page may load and reach nothing but this site."""
    server = f"{site.domain}:{site.ports.wss}"
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "manifest-src": "'self'",
        "worker-src": "'self'",
        "frame-src": "'self'",  # two phones side by side
        "frame-ancestors": "'self'",
        # https: the page asks whether the server answers at all, when the WebSocket does not
        "connect-src": f"'self' wss://{server} https://{server}",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "phone",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{key} {value}" for key, value in policy.items()),
        "Permissions-Policy": "microphone=(self), autoplay=(self), camera=(), geolocation=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
