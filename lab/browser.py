"""Phones in a real browser, with JsSIP or SIP.js, and a tone as microphone; here in Chromium.

A call is proven by the frequency of the tone at the other end and by the SIP messages. This
module is independent of sipdeploy, of hosts and of the configuration of a server.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.async_api import Error as PlaywrightError

from lab.machine import run
from lab.phones.build import build
from lab.phones.call import Call
from lab.phones.driver import Driver, shared_driver
from lab.phones.page import NETWORK_CHANGED, NotSeen, PhonePage
from lab.phones.phone import Account, Phone
from lab.phones.sound import write_tone

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from types import TracebackType

    from playwright.async_api import BrowserContext, Page, Route

    from lab.nat import Client

__all__ = ["Account", "Browser", "Call", "ForeignPage", "NotSeen", "Phone", "spki_pin"]

CHROMIUM = "/usr/bin/chromium"
_LAUNCH_SECONDS = 60
T = TypeVar("T")


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
PAGE = (
    '<!doctype html><meta charset="utf-8"><title>sipdeploy test phone</title>'
    '<script src="/phone.js"></script>'
)


class Browser:
    """One Chromium. All its phones share one microphone, which plays one tone; two browsers with
    different tones show which phone hears which.

    `resolve` maps names to addresses. `spki` lists the pins (see `spki_pin`) of self-signed
    certificates to trust. `roots` are additional authorities (PEM) to trust. `origin` is the
    Origin that the server sees; it must be https or localhost. `client` is the network that it
    runs in.
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
        client: Client | None = None,
    ) -> None:
        self.tone_hz = tone_hz
        self._client = client
        self.phones: list[Phone] = []
        self.resolve = dict(resolve or {})
        self._spki = list(spki)
        self._roots = list(roots)
        self._origin = origin
        self._more_arguments = list(arguments)
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as opened:
            script = build()
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="phones-")))
            self._driver = opened.enter_context(shared_driver())
            self._script = script.read_text()
            self._start(folder, opened)
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
        """Open a phone in its own browser context and connect it.

        With `register`, registers it; NotSeen if that fails. Otherwise check `connected`, and
        call `register()`, which returns the status.
        """
        opened = self._driver.run(self._page(), _LAUNCH_SECONDS)
        page = PhonePage(self._driver, opened, account=self._complete(number, account))
        phone = Phone(page)
        self.phones.append(phone)
        page.open(f"{self._origin}/")
        if register and (status := phone.register()) != 200:  # noqa: PLR2004
            raise NotSeen(f"{number} is not registered: {status}\n{phone.dump()}")
        return phone

    def _start(self, folder: Path, opened: contextlib.ExitStack) -> None:
        write_tone(folder / "tone.wav", self.tone_hz)
        environment: dict[str, str | float | bool] = dict(os.environ)
        if self._roots:
            # Chromium reads the database of the user
            (database := folder / ".pki" / "nssdb").mkdir(parents=True)
            trust(database, self._roots)
            environment["HOME"] = str(folder)
        # Chromium ignores the pins without a user data folder; Playwright sets one.
        work = self._driver.playwright.chromium.launch(
            executable_path=self._client.command(CHROMIUM, folder) if self._client else CHROMIUM,
            args=self._arguments(folder / "tone.wav"),
            env=environment,
        )
        self._chromium = self._driver.run(work, _LAUNCH_SECONDS)
        opened.callback(self._close_chromium)

    def _close_chromium(self) -> None:
        self._driver.run(self._chromium.close(), _LAUNCH_SECONDS)

    def open(self, address: str, *, script: str = "", **options: Any) -> ForeignPage:
        """Open a page that is not of the lab, in its own context, with the microphone.

        `script` runs before those of the page; `options` are those of Playwright's context.
        """
        return self._driver.run(self._foreign(address, script, options), _LAUNCH_SECONDS)

    async def _foreign(self, address: str, script: str, options: dict[str, Any]) -> ForeignPage:
        context = await self._context(**options)
        await context.add_init_script(script)
        page = await context.new_page()
        opened = ForeignPage(self._driver, page)
        await _load(lambda: page.goto(address))
        return opened

    async def _page(self) -> Page:
        context = await self._context()
        await context.route("**/*", self._serve)
        return await context.new_page()

    async def _context(self, **options: Any) -> BrowserContext:
        context = await self._chromium.new_context(permissions=["microphone"], **options)
        # Since version 142, Chromium needs a permission to connect from a public page to a
        # private address; older versions do not know it.
        with contextlib.suppress(PlaywrightError):
            await context.grant_permissions(["microphone", "local-network-access"])
        return context

    def _arguments(self, tone: Path) -> list[str]:
        rules = [f"MAP {name} {address}" for name, address in self.resolve.items()]
        arguments = [
            *_ARGUMENTS,
            f"--use-file-for-fake-audio-capture={tone}",
            f"--host-resolver-rules={', '.join([*rules, 'EXCLUDE localhost'])}",
        ]
        if self._spki:
            arguments.append(f"--ignore-certificate-errors-spki-list={','.join(self._spki)}")
        return [*arguments, *self._more_arguments]

    async def _serve(self, route: Route) -> None:
        # Served without a socket, so that the page can have any origin.
        if route.request.url.endswith("/phone.js"):
            await route.fulfill(body=self._script, content_type="text/javascript")
        else:
            await route.fulfill(body=PAGE, content_type="text/html")

    def _complete(self, number: str, account: Account) -> dict[str, Any]:
        domain = account.get("domain") or next(iter(self.resolve))
        defaults = {
            "number": number,
            "domain": domain,
            "wss": f"wss://{domain}:8443/ws",
            "library": "jssip",
            "expires": 600,
            "headers": [],
            "ice": [],
            "password": "",
        }
        return {**defaults, **account}


class ForeignPage:
    """A page that is not of the lab."""

    def __init__(self, driver: Driver, page: Page) -> None:
        self._driver = driver
        self._page = page
        self.console: list[str] = []
        page.on("console", lambda message: self.console.append(message.text))
        page.on("pageerror", lambda error: self.console.append(f"error: {error}"))

    @property
    def errors(self) -> list[str]:
        """The errors of the console, without those of a load that was repeated."""
        lines = (line for line in self.console if NETWORK_CHANGED not in line)
        return [line for line in lines if "rror" in line]

    def do(self, act: Callable[[Page], Coroutine[None, None, T]], seconds: float = 20) -> T:
        """Do something with the page: `page.do(lambda page: page.reload())`; TimeoutError."""
        return self._driver.run(act(self._page), seconds)

    def close(self) -> None:
        """Close the page and its context."""
        self._driver.run(self._page.context.close(), _LAUNCH_SECONDS)


def trust(database: Path, roots: Iterable[str]) -> None:
    """Add authorities (PEM) to a certificate database (NSS), which both browsers use."""
    run("certutil", "-N", "--empty-password", "-d", f"sql:{database}")
    for number, root in enumerate(roots):
        name = ("-n", f"root{number}", "-t", "C,,", "-a")
        run("certutil", "-A", "-d", f"sql:{database}", *name, input_text=root)


def spki_pin(certificate_pem: str | bytes) -> str:
    """The pin of the public key of a certificate for Chromium: base64 of SHA-256."""
    pem = certificate_pem.encode() if isinstance(certificate_pem, str) else certificate_pem
    key = x509.load_pem_x509_certificate(pem).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


async def reload(page: Page) -> None:
    """Load a page anew: `foreign.do(reload)`."""
    await _load(page.reload)


async def _load(load: Callable[[], Coroutine[None, None, object]], times: int = 5) -> None:
    """Load a page, again after `NETWORK_CHANGED`."""
    for left in reversed(range(times)):
        try:
            await load()
        except PlaywrightError as error:
            if not left or NETWORK_CHANGED not in str(error):
                raise
        else:
            return
