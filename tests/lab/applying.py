"""What the tests of apply share: a site on a lab host, and apply as a person would start it."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping

from sipdeploy.inventory.site import Site, load_site
from sipdeploy.services import kamailio
from sipdeploy.transaction import Options, Report, apply
from sipdeploy.transaction.runner import Event

INVENTORY = """\
domain: sip.example.test
email: ops@example.com
hosts: {{sip1: {host}}}
tls: {{provider: self-signed}}
users: {users}
services: {{6000: {{kind: ivr-test}}}}
{more}
"""
USERS = "{1001: {name: Alice, voicemail: yes}, 1002: {name: Bob}}"


def site(host: Mapping[str, object], *, users: str = USERS, more: str = "") -> Site:
    entry = "{" + ", ".join(f"{key}: {value}" for key, value in host.items()) + "}"
    text = INVENTORY.format(host=entry, users=users, more=more)
    found, problems, _ = load_site(text, "inventory.yaml")
    assert found is not None, problems
    return found


def site_on(host, **more: str) -> Site:
    return site({"address": host.address}, **more)


class Events(list[Event]):
    """Keeps every event; `at` lets a test act in the middle of an apply."""

    def __init__(self, at: Callable[[Event], None] | None = None) -> None:
        super().__init__()
        self._at = at

    def __call__(self, event: Event) -> None:
        self.append(event)
        if self._at:
            self._at(event)

    @property
    def done(self) -> list[str]:
        return [event.title for event in self if event.state == "ok"]


def run_apply(
    wanted: Site, say: Callable[[Event], None] | None = None, **options: object
) -> Report:
    credentials = {
        number: hashlib.md5(f"{number}:{wanted.domain}:secret".encode()).hexdigest()
        for number in wanted.users
    }
    heard = say if say is not None else Events()
    chosen = Options(**options)
    (report,) = apply(wanted, ["sip1"], credentials=credentials, say=heard, options=chosen)
    return report


def deafen(monkeypatch) -> None:
    """From now on the configuration parses, and Kamailio does not listen to phones.

    The trial start would see it: here it sees nothing, as with a fault that comes later.
    """
    original = kamailio.files

    def deaf(deployment):
        for file in original(deployment):
            if file.path.endswith("kamailio.cfg"):
                content = file.content.replace(b"\nlisten=tls", b"\n#listen=tls")
                assert content != file.content
                file = dataclasses.replace(file, content=content)  # noqa: PLW2901
            yield file

    monkeypatch.setattr(kamailio, "checks", lambda _: ())
    monkeypatch.setattr(kamailio, "files", deaf)


def codes(report: Report) -> list[str]:
    return [problem.code for problem in report.diagnostics if problem.severity == "error"]


def units(host) -> list[str]:
    """Main process and start of both daemons: equal before and after, none was restarted."""
    show = "systemctl show -p MainPID,ActiveEnterTimestampMonotonic kamailio asterisk"
    return host.run(show, check=True).stdout.split()


def tree(host) -> list[str]:
    """Content, owner and mode of everything in /etc and of what sipdeploy keeps."""
    listing = (
        "cd / && find etc/kamailio etc/asterisk etc/systemd/system var/lib/sipdeploy"
        " -printf '%p %M %u:%g %l ' \\( -type f -exec sha256sum {} \\; -o -printf '\\n' \\) | sort"
    )
    return host.run(listing).stdout.splitlines()


def live(host) -> list[str]:
    """The same of /etc alone: what a rollback must bring back."""
    return [line for line in tree(host) if line.startswith("etc/")]
