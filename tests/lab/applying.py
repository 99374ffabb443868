"""Helpers of the tests of apply: a site on a lab host, and a run of apply."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping

from sipdeploy.inventory.site import Site, load_site
from sipdeploy.services import SERVICES, kamailio
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
    loaded, problems, _ = load_site(text, "inventory.yaml")
    assert loaded is not None, problems
    return loaded


def site_on(host, **more: str) -> Site:
    return site({"address": host.address}, **more)


class Events(list[Event]):
    """Keeps every event; a test can use `at` to act in the middle of an apply."""

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
    desired: Site, say: Callable[[Event], None] | None = None, **options: object
) -> Report:
    credentials = {
        number: hashlib.md5(f"{number}:{desired.domain}:secret".encode()).hexdigest()
        for number in desired.users
    }
    events = say if say is not None else Events()
    chosen = Options(**options)
    (report,) = apply(desired, ["sip1"], credentials=credentials, say=events, options=chosen)
    return report


def change_file(
    monkeypatch, name: str, path: str, change: Callable[[bytes], bytes], **fields
) -> None:
    """Render one file of the service `name` with a changed content.

    `fields` replace other fields of the service.
    """
    service = SERVICES[name]

    def files(deployment):
        for file in service.files(deployment):
            if file.path == path:
                content = change(file.content)
                assert content != file.content
                file = dataclasses.replace(file, content=content)  # noqa: PLW2901
            yield file

    changed = dataclasses.replace(service, files=files, **fields)
    monkeypatch.setitem(SERVICES, name, changed)


def deafen(monkeypatch) -> None:
    """Render a valid configuration with which Kamailio does not listen for phones.

    Validation would find this fault, so it has no checks here: the fault appears after the swap.
    """
    change_file(
        monkeypatch,
        "kamailio",
        kamailio.CONFIGURATION,
        lambda content: content.replace(b"\nlisten=tls", b"\n#listen=tls"),
        checks=lambda _: (),
    )


def codes(report: Report) -> list[str]:
    return [problem.code for problem in report.diagnostics if problem.severity == "error"]


def units(host) -> list[str]:
    """Main process and start time of both daemons, which a restart changes."""
    show = "systemctl show -p MainPID,ActiveEnterTimestampMonotonic kamailio asterisk"
    return host.run(show, check=True).stdout.split()


def tree(host) -> list[str]:
    """Content, owner and mode of the files in /etc and in /var/lib/sipdeploy."""
    listing = (
        "cd / && find etc/kamailio etc/asterisk etc/systemd/system var/lib/sipdeploy"
        " -printf '%p %M %u:%g %l ' \\( -type f -exec sha256sum {} \\; -o -printf '\\n' \\) | sort"
    )
    return host.run(listing).stdout.splitlines()


def live(host) -> list[str]:
    """The part of `tree` in /etc, which a rollback must restore."""
    return [line for line in tree(host) if line.startswith("etc/")]
