"""The web phone: its built files, the data that it reads, and the header fields it needs.

`web/` has the sources. The files are the same for every site; the site is in `config.json`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.services.coturn.credentials import urls

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


HTTPS = 443
HSTS = "max-age=31536000"  # a year, for this name alone


def folder() -> Path | None:
    """The folder of the built page: in the package in a wheel, in web/dist in a checkout.

    None if it was not built, because Node.js was missing.
    """
    package = Path(__file__).parent.parent.parent
    for each in (package / "page", package.parent / "web" / "dist"):
        if (each / "phone.js").is_file():
            return each
    return None


def missing() -> Diagnostic:
    """Why this installation has no page (SD720), and what to do."""
    source = Path(__file__).parents[3] / "web"
    message = "this installation of sipdeploy has no web phone, because Node.js was missing"
    advice = "install Node.js and npm, then install sipdeploy again"
    if (source / "package.json").is_file():
        place = shlex.quote(str(source))
        advice = f"`apt-get install npm`, then `npm --prefix {place} ci --omit=dev` and"
        advice += f" `npm --prefix {place} run build`"
    return Diagnostic("SD720", message, help=advice)


def require(site: Site) -> None:
    """InvalidFiles (SD720) if the site serves the page, and this installation has none."""
    if site.phone and folder() is None:
        problem = missing()
        raise InvalidFiles([replace(problem, help=f"{problem.help}; or delete `phone`")])


def origin(site: Site) -> str:
    """The web origin of the page on the host (RFC 6454); empty if the host serves none."""
    if site.phone is None:
        return ""
    port = "" if site.phone.port == HTTPS else f":{site.phone.port}"
    return f"https://{site.domain}{port}"


def address(site: Site) -> str:
    """Where users open the page on the host; empty if the host serves none."""
    return f"{origin(site)}/" if site.phone else ""


def config(site: Site, *, is_local: bool) -> str:
    """What the page reads first; everybody may know it.

    It names the relay without a credential, which the page derives as `turn_credential` does.
    """
    values = {
        "domain": site.domain,
        "websocket": f"wss://{site.domain}:{site.ports.wss}/ws",
        "relay": list(urls(site)),
        "is_local": is_local,
    }
    return json.dumps(values)


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


def headers(site: Site, *, is_local: bool) -> dict[str, str]:
    """The header fields of every answer: the page may load and reach nothing but this site."""
    server = f"{site.domain}:{site.ports.wss}"
    frames = "'self'" if is_local else "'none'"  # two phones side by side
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "manifest-src": "'self'",
        "worker-src": "'self'",
        "frame-src": frames,
        "frame-ancestors": frames,
        # https: the page asks whether the server answers at all, when the WebSocket does not
        "connect-src": f"'self' wss://{server} https://{server}",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "phone",
    }
    fields = {
        "Content-Security-Policy": "; ".join(f"{key} {value}" for key, value in policy.items()),
        "Permissions-Policy": "microphone=(self), autoplay=(self), camera=(), geolocation=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    if not is_local and site.tls.provider != "self-signed":  # browsers then allow no exception
        fields["Strict-Transport-Security"] = HSTS
    return fields
