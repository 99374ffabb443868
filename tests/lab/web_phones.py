"""Helpers of the tests of the web phone: the page served as `sipdeploy phone --open` does it."""

import contextlib
import threading

from system import DOMAIN, INVENTORY, NUMBERS, password, within

from lab.phones.build import HERE, WEB
from lab.phones.sound import Spectrum, is_speech, tone_seconds
from sipdeploy.cli.phone.server import Content, PhoneServer, contents
from sipdeploy.inventory.secret import ha1
from sipdeploy.inventory.site import load_site
from sipdeploy.services.phone import page

CREDENTIALS = {number: ha1(number, DOMAIN, password(number)) for number in NUMBERS}


@contextlib.contextmanager
def served(*numbers, is_local=True):
    """The server of a page. If it is not local, the page is as a host would serve it."""
    text = INVENTORY.format(name="host", address="192.0.2.1", mode="kamailio")
    site, _, _ = load_site(text, "inventory.yaml")
    parts = contents(site, CREDENTIALS, numbers, WEB.build().parent)
    if not is_local:
        body = page.config(site, is_local=False).encode()
        parts["config.json"] = Content(body=body, type=page.TYPES[".json"])
        del parts["account.json"]
    with PhoneServer(site, parts) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def listener() -> str:
    """The script that measures what a page hears and plays."""
    return (HERE / "build" / "listen.js").read_text()


class WebPhone:
    """The web phone in a browser, used by its buttons."""

    def __init__(self, browser, server, fragment="", **options):
        self.foreign = browser.open(
            f"{server.address}{fragment}", script=listener(), **{"locale": "en-GB", **options}
        )
        self.do = self.foreign.do

    def close(self):
        self.foreign.close()

    def press(self, name, seconds=20):
        """Press the button with this name."""
        button = lambda page: page.get_by_role("button", name=name, exact=True)  # noqa: E731
        self.do(lambda page: button(page).first.click(timeout=seconds * 1000), seconds + 5)

    def act(self, action, card=0, seconds=20):
        """Press a button of a call, by what it is for."""
        place = f".call-card >> nth={card} >> [data-action={action}]"
        self.do(lambda page: page.click(place, timeout=seconds * 1000), seconds + 5)

    def fill(self, label, text):
        self.do(lambda page: page.get_by_label(label, exact=True).first.fill(text))

    def key(self, key):
        self.do(lambda page: page.keyboard.press(key))

    def dial(self, number):
        self.press("Keypad")
        self.fill("Number or name", number)
        self.key("Enter")

    def text(self, place):
        return self.do(lambda page: page.inner_text(place))

    def see(self, text, seconds=20):
        """Wait until a text is visible."""
        where = lambda page: page.get_by_text(text).filter(visible=True).first  # noqa: E731
        wait = seconds * 1000
        self.do(lambda page: where(page).wait_for(timeout=wait), seconds + 5)

    def gone(self, place, seconds=20):
        self.do(
            lambda page: page.wait_for_selector(place, state="detached", timeout=seconds * 1000),
            seconds + 5,
        )

    def wait_state(self, state, seconds=20):
        """Wait until a call is in this state."""
        place = f".call-card[data-state={state}]"
        self.do(lambda page: page.wait_for_selector(place, timeout=seconds * 1000), seconds + 5)

    def wait_ready(self, seconds=20):
        place = "#status[data-state=registered]"
        self.do(lambda page: page.wait_for_selector(place, timeout=seconds * 1000), seconds + 5)

    def evaluate(self, script, argument=None, seconds=20):
        return self.do(lambda page: page.evaluate(script, argument), seconds)

    def listen(self, seconds=1.0):
        """The mean spectrum that arrives in the newest call."""
        measured = self.evaluate("(ms) => lab.listen(ms)", seconds * 1000)
        return Spectrum.of(measured) if measured else Spectrum.silence()

    def hears(self, hz, seconds=8):
        return within(seconds, lambda: self.listen().hears(hz))

    def plays(self, hz, seconds=8):
        """Whether the page itself plays a tone."""

        def now():
            measured = self.evaluate("() => lab.plays()")
            return bool(measured) and Spectrum.of(measured).hears(hz)

        return within(seconds, now, pause=0.05)

    def heard_speech(self):
        return is_speech([Spectrum.of(each) for each in self.evaluate("() => lab.heard()")])

    def heard_seconds(self, hz):
        frames = [Spectrum.of(each) for each in self.evaluate("() => lab.heard()")]
        return tone_seconds(frames, hz)


class FirefoxPhone(WebPhone):
    """The web phone in Firefox, whose driver has no mouse: scripts click on its buttons."""

    def wait(self, script, seconds=20):
        assert within(seconds, lambda: self.evaluate(f"() => Boolean({script})")), script

    def act(self, action, card=0, seconds=20):
        cards = f"document.querySelectorAll('.call-card')[{card}]"
        button = f"{cards}?.querySelector('[data-action={action}]')"
        self.wait(button, seconds)
        self.evaluate(f"() => {button}.click()")

    def dial(self, number):
        fill = "document.querySelector('#dial-number').value = number"
        submit = "document.querySelector('#dial').requestSubmit()"
        self.evaluate(f"(number) => {{ {fill}; {submit}; }}", number)

    def wait_state(self, state, seconds=20):
        self.wait(f"document.querySelector('.call-card[data-state={state}]')", seconds)

    def gone(self, place, seconds=20):
        self.wait(f"!document.querySelector('{place}')", seconds)

    def wait_ready(self, seconds=20):
        self.wait("document.querySelector('#status[data-state=registered]')", seconds)
