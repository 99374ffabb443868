"""A call between a browser and the phone in Python, in each direction."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from sipdeploy.sip.media import open_audio, talk

OWN_HZ = 620


@contextmanager
def beside(scene):
    """Run a phone in Python beside the browser, and end with its result; its error comes first."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(asyncio.run, asyncio.wait_for(scene(), 90))
        try:
            yield
        finally:
            running.result()


def wait(event, seconds=30):
    end = time.monotonic() + seconds
    while not event.is_set():
        assert time.monotonic() < end
        time.sleep(0.1)


def is_called_by(browser_phone, system, number, browser_hz):
    """The browser calls, holds and resumes the call, and hangs up."""
    ready, resumed = threading.Event(), threading.Event()

    async def callee():
        async with system.phone(number) as phone, open_audio(tone_hz=OWN_HZ) as audio:
            await phone.connect()
            await phone.register()
            ready.set()
            side = await talk.answer(await phone.incoming(30, method="INVITE"), audio)
            await side.call.acknowledged()
            await audio.connected()
            assert await audio.hears(browser_hz)
            await side.reoffered(phone, 30)
            await side.reoffered(phone, 30)
            resumed.set()
            assert await audio.hears(browser_hz)
            await side.call.ended(30)

    with beside(callee):
        wait(ready)
        call = browser_phone.call(number).wait("answered", timeout_seconds=30)
        assert call.hears(OWN_HZ), call.listen()
        assert call.hold()
        assert call.unhold()
        wait(resumed)
        assert call.hears(OWN_HZ), call.listen()
        call.hang_up()


def calls(browser_phone, system, number, browser_hz):
    """The phone in Python calls, holds and resumes the call, and hangs up."""

    async def caller():
        async with system.phone(number) as phone, open_audio(tone_hz=OWN_HZ) as audio:
            await phone.connect()
            await phone.register()
            call = await talk.dial(phone, browser_phone.number, audio)
            side = await talk.connect(call, audio, 30)
            assert await audio.hears(browser_hz)
            await side.hold()
            assert await audio.hears_nothing()
            await side.resume()
            assert await audio.hears(browser_hz), str(await audio.state())
            state = await audio.state()
            assert (state.codec, state.dtls) == ("opus/48000", "connected")
            assert (await side.call.bye()).status == 200

    with beside(caller):
        incoming = browser_phone.wait_incoming().answer()
        assert incoming.hears(OWN_HZ), incoming.listen()
        incoming.wait("ended", timeout_seconds=30)
