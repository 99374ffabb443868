"""`sipdeploy phone --open`: a web phone on this machine, until Ctrl-C."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sipdeploy.cli.phone import server
from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import InvalidFiles, WrongUsage
from sipdeploy.services.phone import page

if TYPE_CHECKING:
    from sipdeploy.cli.session import Session
    from sipdeploy.inventory import Inventory


def open_phone(session: Session, loaded: Inventory, numbers: Sequence[str], port: int) -> int:
    """Serve a phone until Ctrl-C; InvalidFiles or WrongUsage if that cannot work."""
    site = loaded.site
    chosen = list(numbers) or list(site.users)[:1]
    folder = page.folder()
    if len(chosen) not in (1, 2):
        message = f"`--open` opens one phone or two, not {len(chosen)}"
        raise WrongUsage([Diagnostic("SD002", message, help="name one or two numbers")])
    if folder is None:
        raise InvalidFiles([page.missing()])
    contents = server.contents(site, session.credentials(loaded), chosen, folder)
    try:
        serving = server.PhoneServer(site, contents, port)
    except OSError as failure:
        message = f"cannot serve on port {port} of this machine: {failure.strerror}"
        advice = "choose another port, or leave `--port` out"
        raise WrongUsage([Diagnostic("SD002", message, help=advice)]) from failure
    with serving:
        if site.origins and serving.origin not in site.origins:
            raise InvalidFiles([_foreign(serving.origin, serving.server_port)])
        _tell(session, loaded, chosen, serving)
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            session.output.progress("")
    return 0


def _tell(
    session: Session, loaded: Inventory, numbers: Sequence[str], serving: server.PhoneServer
) -> None:
    """Print the address and what to do first, and open the browser of this desktop."""
    site, say = loaded.site, session.output.progress
    if site.tls.provider == "self-signed":
        server = f"https://{site.domain}:{site.ports.wss}/healthz"
        say(f"first: open {server} in the same browser, and accept the self-signed certificate")
    if len(numbers) > 1:
        say("use a headset: two phones on one loudspeaker hear each other and whistle")
    if "SSH_CONNECTION" in os.environ:
        port = serving.server_port
        say(f"from another machine, first: `ssh -L {port}:127.0.0.1:{port} THIS_MACHINE`")
    is_opened = _has_desktop() and webbrowser.open(serving.address)
    say(f"the phone of {' and '.join(numbers)}; Ctrl-C ends it")
    say("your browser opens:" if is_opened else "open this address in a browser on this machine:")
    session.output.result(serving.address)


def _has_desktop() -> bool:
    """Whether a window can open; `webbrowser` would start a text browser in the terminal."""
    names = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    return sys.platform == "darwin" or any(os.environ.get(name) for name in names)


def _foreign(origin: str, port: int) -> Diagnostic:
    message = f"the inventory's `origins` do not allow a page of this machine, `{origin}`"
    advice = f"add `{origin}` to `origins`, `sipdeploy apply`, and add `--port {port}`"
    return Diagnostic("SD721", message, help=advice)
