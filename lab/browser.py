"""Phones in a real browser: Chromium, JsSIP or SIP.js, a tone as microphone, and ears.

A proof of a call is here the tone's frequency at the far end and the SIP text that passed.
Knows nothing of sipdeploy, of hosts or of any server's configuration.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.async_api import Error as PlaywrightError

from lab.machine import run
from lab.phones.build import build
from lab.phones.call import Call
from lab.phones.driver import shared_driver
from lab.phones.page import NotSeen, PhonePage
from lab.phones.phone import Account, Phone
from lab.phones.sound import write_tone

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from playwright.async_api import Browser as Chromium
    from playwright.async_api import BrowserContext, Route

__all__ = ["Account", "Browser", "Call", "NotSeen", "Phone", "spki_pin"]

CHROMIUM = "/usr/bin/chromium"
_LAUNCH_SECONDS = 60


_ARGUMENTS = (
    "--no-sandbox",  # the lab runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)
_PAGE = (
    '<!doctype html><meta charset="utf-8"><title>sipdeploy test phone</title>'
    '<script src="/phone.js"></script>'
)


class Browser:
    """One Chromium. Its microphone, one tone, is common to all its phones: two browsers with
    two tones show who hears whom.

    `resolve` maps names to addresses; `spki` lists the pins (see `spki_pin`) of certificates to
    trust although no authority signed them: without it such a server is refused. `roots` are
    authorities (PEM) that a person has told it to trust. `origin` is where the page comes from
    as far as a server can see; it must be https or localhost.
    """

    def __init__(
        self,
        resolve: Mapping[str, str] | None = None,
        *,
        spki: Iterable[str] = (),
        roots: Iterable[str] = (),
        tone_hz: int = 440,
        origin: str = "http://localhost",
        arguments: Iterable[str] = (),
    ) -> None:
        self.tone_hz = tone_hz
        self.phones: list[Phone] = []
        self._resolve = dict(resolve or {})
        self._spki = list(spki)
        self._roots = list(roots)
        self._origin = origin
        self._more_arguments = list(arguments)
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as opened:
            script = build()
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="phones-")))
            write_tone(folder / "tone.wav", self.tone_hz)
            self._driver = opened.enter_context(shared_driver())
            self._chromium = self._launch(folder)
            opened.callback(self._close_chromium)
            self._script = script.read_text()
            self._closing = opened.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if failure is not None:
            for phone in self.phones:
                failure.add_note(phone.dump())
        self._closing.close()

    def phone(self, number: str, *, register: bool = True, **account: Unpack[Account]) -> Phone:
        """Open a phone in a browser context of its own and connect it.

        With `register` it is registered when this returns, or NotSeen is raised; without, look
        at `connected` and call `register()`, which returns the status.
        """
        context = self._driver.run(self._context(), _LAUNCH_SECONDS)
        page = PhonePage(self._driver, context, account=self._complete(number, account))
        phone = Phone(page)
        self.phones.append(phone)
        page.open(f"{self._origin}/")
        if register and (status := phone.register()) != 200:  # noqa: PLR2004
            raise NotSeen(f"{number} was not registered: {status}\n{phone.dump()}")
        return phone

    def _launch(self, folder: Path) -> Chromium:
        # Playwright gives it a user data folder, without which Chromium ignores the pins.
        work = self._driver.playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=self._arguments(folder / "tone.wav"),
            env={**os.environ, **({"HOME": str(folder)} if self._trust(folder) else {})},
        )
        return self._driver.run(work, _LAUNCH_SECONDS)

    def _trust(self, home: Path) -> bool:
        """Enter the roots where Chromium looks for those of a person (NSS, below HOME)."""
        database = home / ".pki" / "nssdb"
        if self._roots:
            database.mkdir(parents=True)
            run("certutil", "-N", "--empty-password", "-d", f"sql:{database}")
        for number, root in enumerate(self._roots):
            file = home / f"root{number}.pem"
            file.write_text(root)
            name = ("-n", file.stem, "-t", "C,,", "-i", file)
            run("certutil", "-A", "-d", f"sql:{database}", *name)
        return bool(self._roots)

    def _close_chromium(self) -> None:
        self._driver.run(self._chromium.close(), _LAUNCH_SECONDS)

    async def _context(self) -> BrowserContext:
        context = await self._chromium.new_context(permissions=["microphone"])
        # A page not from this machine may open a socket to a private address only with leave,
        # in a Chromium that knows of it (142 and newer).
        with contextlib.suppress(PlaywrightError):
            await context.grant_permissions(["microphone", "local-network-access"])
        await context.route("**/*", self._serve)
        return context

    def _arguments(self, tone: Path) -> list[str]:
        rules = [f"MAP {name} {address}" for name, address in self._resolve.items()]
        arguments = [
            *_ARGUMENTS,
            f"--use-file-for-fake-audio-capture={tone}",
            f"--host-resolver-rules={', '.join([*rules, 'EXCLUDE localhost'])}",
        ]
        if self._spki:
            arguments.append(f"--ignore-certificate-errors-spki-list={','.join(self._spki)}")
        return [*arguments, *self._more_arguments]

    async def _serve(self, route: Route) -> None:
        # The page comes from here and not from a socket, so that it can have any origin.
        if route.request.url.endswith("/phone.js"):
            await route.fulfill(body=self._script, content_type="text/javascript")
        else:
            await route.fulfill(body=_PAGE, content_type="text/html")

    def _complete(self, number: str, account: Account) -> dict[str, Any]:
        domain = account.get("domain") or next(iter(self._resolve))
        defaults = {
            "number": number,
            "domain": domain,
            "wss": f"wss://{domain}:8443/ws",
            "library": "jssip",
            "expires": 600,
            "headers": [],
            "password": "",
        }
        return {**defaults, **account}


def spki_pin(certificate_pem: str | bytes) -> str:
    """The pin of a certificate's public key as Chromium wants it: base64 of SHA-256."""
    pem = certificate_pem.encode() if isinstance(certificate_pem, str) else certificate_pem
    key = x509.load_pem_x509_certificate(pem).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(der).digest()).decode()
