"""Phones in Firefox, with the interface of `lab.browser`.

Firefox is controlled with WebDriver BiDi, over a WebSocket. It gets what `Browser` gives Chromium
by command-line arguments in other ways: names from an /etc/hosts in its own mount namespace,
authorities in its profile, and sound from a private PulseAudio. Without an audio output it would
suspend the AudioContext in which the page measures the incoming audio.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from playwright.async_api import Error as PlaywrightError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from lab.browser import PAGE, Browser, ForeignPage, trust

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

FIREFOX = "firefox-esr"
_START_SECONDS = 60
_STOP_SECONDS = 10
_MESSAGE_BYTES = 64 * 2**20  # a trace is one message
_PREFERENCES: dict[str, bool | int] = {
    # As if the user had allowed the microphone for ever. A fake device would not do: Firefox
    # hides the addresses of the machine from a page without a real microphone in use.
    "permissions.default.microphone": 1,
    # Firefox would choose any interface for a call, also the bridge of a lab that ends during it.
    "media.peerconnection.ice.default_address_only": True,
    "media.autoplay.default": 0,
    "media.block-autoplay-until-in-foreground": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.trr.mode": 5,  # no DNS over HTTPS, which ignores /etc/hosts
}
_IN_OWN_NAMESPACE = 'mount --bind "$1" /etc/hosts; shift; exec "$@"'
_CALL = "async (text) => JSON.stringify(await ({})(JSON.parse(text)))"


def why_not() -> str | None:
    """Return the reason, in one line, why Firefox cannot run here; None if it can."""
    missing = [name for name in (FIREFOX, "pulseaudio", "certutil") if not shutil.which(name)]
    return f"needs {', '.join(missing)}: python -m lab install" if missing else None


class Firefox(Browser):
    """One Firefox. Its phones share one microphone, which plays one tone (see `Browser`).

    It ignores `spki` and `arguments`: a certificate needs one of the `roots`.
    """

    def _start(self, folder: Path, opened: contextlib.ExitStack) -> None:
        sound = opened.enter_context(_sound(folder, self.tone_hz))
        profile = _profile(folder)
        trust(profile, self._roots)
        hosts = folder / "hosts"
        names = "".join(f"{address} {name}\n" for name, address in self.resolve.items())
        hosts.write_text(f"127.0.0.1 localhost\n{names}")
        firefox = (FIREFOX, "--headless", "--no-remote", "--profile", str(profile))
        argv = ["unshare", "--mount", "sh", "-euc", _IN_OWN_NAMESPACE, "sh", str(hosts), *firefox]
        environment = {"HOME": str(folder), "PULSE_SERVER": sound}
        opened.enter_context(
            _running([*argv, "--remote-debugging-port", "0"], folder, environment)
        )
        file = profile / "WebDriverBiDiServer.json"
        _wait(lambda: file.exists() and file.read_text(), folder / "unshare.log")
        self._remote = self._driver.run(_connect(json.loads(file.read_text())), _START_SECONDS)
        opened.callback(lambda: self._driver.run(self._remote.close(), _STOP_SECONDS))
        self._driver.run(self._intercept(), _START_SECONDS)

    async def _page(self) -> Any:
        return await _Page.new(self._remote)

    async def _foreign(self, address: str, script: str, options: dict[str, Any]) -> ForeignPage:
        del options  # Firefox has those of its profile
        page: Any = await _Page.new(self._remote)
        opened = ForeignPage(self._driver, page)
        await page.preload(script)
        await page.goto(address)
        return opened

    async def _intercept(self) -> None:
        """Serve the page without a socket, so that it can have any origin."""
        served = urlsplit(self._origin)
        pattern = {"type": "pattern", "protocol": served.scheme, "hostname": served.hostname}
        phases = ["beforeRequestSent"]
        await self._remote.do("network.addIntercept", phases=phases, urlPatterns=[pattern])
        self._remote.listeners.append(self._provide)

    def _provide(self, event: str, about: dict[str, Any]) -> None:
        if event != "network.beforeRequestSent" or not about["isBlocked"]:
            return
        request = about["request"]
        is_script = request["url"].endswith("/phone.js")
        kind, body = ("text/javascript", self._script) if is_script else ("text/html", PAGE)
        self._remote.begin(
            "network.provideResponse",
            request=request["request"],
            statusCode=200,
            reasonPhrase="OK",
            headers=[{"name": "Content-Type", "value": {"type": "string", "value": kind}}],
            body={"type": "string", "value": body},
        )


class RemoteError(PlaywrightError):
    """Firefox refused a command, or a script of the page failed; PhonePage expects this class."""


class _Page:
    """A page in its own browser context, in the words of Playwright that PhonePage uses."""

    def __init__(self, remote: _Remote, user_context: str, page: str) -> None:
        self._remote = remote
        self._user_context = user_context
        self._page = page
        self._is_closed = False
        self._listeners: dict[str, Callable[[Any], None]] = {}
        remote.listeners.append(self._hear)

    @classmethod
    async def new(cls, remote: _Remote) -> _Page:
        context = (await remote.do("browser.createUserContext"))["userContext"]
        # a window, because timers are slow in a tab in the background
        page = await remote.do("browsingContext.create", type="window", userContext=context)
        return cls(remote, context, page["context"])

    @property
    def context(self) -> _Page:
        """Its browser context, which has no other page."""
        return self

    def on(self, event: str, listener: Callable[[Any], None]) -> None:
        self._listeners[event] = listener

    def is_closed(self) -> bool:
        return self._is_closed

    async def goto(self, url: str) -> None:
        await self._do("browsingContext.navigate", url=url, wait="complete")

    async def preload(self, script: str) -> None:
        """Run a script before those of each page that is loaded."""
        function = f"() => {{ {script} }}"
        await self._remote.do(
            "script.addPreloadScript", functionDeclaration=function, contexts=[self._page]
        )

    async def reload(self) -> None:
        await self._do("browsingContext.reload", wait="complete")

    async def close(self) -> None:
        self._is_closed = True
        self._remote.listeners.remove(self._hear)
        await self._remote.do("browser.removeUserContext", userContext=self._user_context)

    async def evaluate(self, script: str, argument: Any) -> Any:
        # as JSON, because BiDi's own form of values has a type at each of them
        answer = await self._remote.do(
            "script.callFunction",
            functionDeclaration=_CALL.format(script),
            arguments=[{"type": "string", "value": json.dumps(argument)}],
            awaitPromise=True,
            target={"context": self._page},
        )
        if answer["type"] == "exception":
            raise RemoteError(answer["exceptionDetails"]["text"])
        return json.loads(answer["result"].get("value", "null"))

    async def _do(self, method: str, **parameters: Any) -> None:
        await self._remote.do(method, context=self._page, **parameters)

    def _hear(self, event: str, about: dict[str, Any]) -> None:
        if event != "log.entryAdded" or about["source"].get("context") != self._page:
            return
        if about["type"] == "console":
            self._listeners["console"](SimpleNamespace(text=about["text"]))
        else:
            self._listeners["pageerror"](about["text"])


class _Remote:
    """A WebDriver BiDi session: commands with their results, and events."""

    def __init__(self, connection: ClientConnection) -> None:
        self.listeners: list[Callable[[str, dict[str, Any]], None]] = []
        self._connection = connection
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._tasks: set[asyncio.Task[Any]] = {asyncio.create_task(self._read())}

    async def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command; its result."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        command = {"id": number, "method": method, "params": parameters}
        try:
            await self._connection.send(json.dumps(command))
            answer = await self._waiting[number]
        finally:
            del self._waiting[number]
        if answer["type"] == "error":
            raise RemoteError(f"{method}: {answer['error']}: {answer['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def begin(self, method: str, **parameters: Any) -> None:
        """Send a command from a listener, which cannot wait for the result."""
        task = asyncio.create_task(self.do(method, **parameters))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End Firefox."""
        with contextlib.suppress(RemoteError, ConnectionClosed):
            await self.do("browser.close")
        await self._connection.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in self._connection:
                message = json.loads(text)
                if message["type"] == "event":
                    for listener in list(self.listeners):
                        listener(message["method"], message["params"])
                elif waiting := self._waiting.get(message["id"]):
                    waiting.set_result(message)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(RemoteError("Firefox has ended"))


async def _connect(server: dict[str, Any]) -> _Remote:
    """Begin a session."""
    address = f"ws://{server['ws_host']}:{server['ws_port']}/session"
    remote = _Remote(await connect(address, max_size=_MESSAGE_BYTES, proxy=None))
    await remote.do("session.new", capabilities={})
    events = ["network.beforeRequestSent", "log.entryAdded"]
    await remote.do("session.subscribe", events=events)
    return remote


def _profile(folder: Path) -> Path:
    profile = folder / "profile"
    profile.mkdir()
    lines = (f"user_pref({json.dumps(k)}, {json.dumps(v)});\n" for k, v in _PREFERENCES.items())
    (profile / "user.js").write_text("".join(lines))
    return profile


@contextlib.contextmanager
def _sound(folder: Path, tone_hz: int) -> Iterator[str]:
    """Run a PulseAudio with an output, and a tone as its microphone; its address."""
    socket = folder / "pulse"
    modules = (
        f"module-native-protocol-unix auth-anonymous=1 socket={socket}",
        "module-null-sink sink_name=output rate=48000",
        # not module-sine-source, which delivers a second at a time
        "module-null-sink sink_name=tone rate=48000",
        f"module-sine sink=tone frequency={tone_hz}",
        "module-remap-source source_name=microphone master=tone.monitor",
    )
    loads = [f"--load={module}" for module in modules]
    argv = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
    with _running([*argv, *loads], folder, {"HOME": str(folder)}):
        _wait(socket.exists, folder / "pulseaudio.log")
        yield f"unix:{socket}"


def _wait(listens: Callable[[], object], log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while not listens():
        if time.monotonic() > end:
            raise TimeoutError(f"it does not listen:\n{log.read_text()}")
        time.sleep(0.05)


@contextlib.contextmanager
def _running(argv: Sequence[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run a program in a session of its own until the end of the context."""
    with (folder / f"{argv[0]}.log").open("ab") as log:
        process = subprocess.Popen(
            argv,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield
    finally:
        # the whole session: Firefox consists of several processes
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
