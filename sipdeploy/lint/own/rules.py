"""Rules about groups, menus and conferences. Pure; never shows a PIN."""

from collections.abc import Iterator

from sipdeploy.diagnostics import named
from sipdeploy.inventory.models import Service, Site
from sipdeploy.inventory.own.checks import MOST_SECONDS, next_of
from sipdeploy.inventory.secret import Secret
from sipdeploy.lint.rules import Finding, Subject, rule

_SECONDS_OF_USER = 30


def _pins(site: Site) -> Iterator[tuple[str, str]]:
    """The PINs that the inventory itself has."""
    for number, service in site.services.items():
        if service.kind == "conference" and isinstance(service.pin, Secret):
            yield number, service.pin.reveal()


@rule("SD328", "warning")
def weak_pin(subject: Subject) -> Iterator[Finding]:
    """Weak PIN: a row of digits, the same digit again and again, or the number itself.

    Every user can call the conference and try three PINs in each call.

    Bad:
        services: {6300: {kind: conference, pin: "1234"}}
    Good:
        services: {6300: {kind: conference, pin: "73058"}}
    """
    for number, pin in _pins(subject.site):
        reasons = (
            ("equal to the number", pin == number),
            ("only one or two different digits", len(set(pin)) <= 2),  # noqa: PLR2004
            ("a row of digits", pin in "01234567890" or pin in "09876543210"),
        )
        if reason := next((text for text, holds in reasons if holds), ""):
            yield Finding(
                message=f"the PIN of conference `{number}` is weak",
                span=subject.value(("services", number, "pin")),
                label=reason,
                help="write another one, of five digits or more",
            )


@rule("SD329", "note")
def pin_in_inventory(subject: Subject) -> Iterator[Finding]:
    """PIN in the inventory: everybody who can read the inventory can join the conference.

    Bad:
        services: {6300: {kind: conference, pin: "73058"}}
    Good:
        services: {6300: {kind: conference, pin: {env: CONFERENCE_PIN}}}
    """
    numbers = [number for number, _ in _pins(subject.site)]
    if numbers:
        yield Finding(
            message=f"the inventory contains PINs: {named('conference', numbers)}",
            span=subject.key(("services", numbers[0], "pin")),
            help="name a source instead, such as `pin: {file: conference.pin}`",
        )


@rule("SD331", "warning")
def rings_too_long(subject: Subject) -> Iterator[Finding]:
    """Rings too long: Kamailio ends a call that nobody has answered after 300 seconds.

    It counts all groups to which the call goes on by itself, and 30 seconds for a user.

    Bad:
        users: {1001: , 1002: , 1003: }
        services:
          6100: {kind: group, members: [1001, 1002, 1003], ring: in-turn, timeout: 110}
    Good:
        users: {1001: , 1002: , 1003: }
        services: {6100: {kind: group, members: [1001, 1002, 1003], ring: in-turn, timeout: 20}}
    """
    for number, service in subject.site.services.items():
        seconds = _seconds(subject.site, number)
        if service.kind == "group" and seconds > MOST_SECONDS:
            yield Finding(
                message=f"a call to `{number}` can ring for {seconds} s",
                span=subject.key(("services", number)),
                label=f"Kamailio ends it after {MOST_SECONDS} s",
                help="write a smaller `timeout`, or fewer members",
            )


def _seconds(site: Site, number: str) -> int:
    """How long a call rings, until it is answered or ends by itself."""
    seconds = 0
    while number in site.services and site.services[number].kind == "group":
        group = site.services[number]
        seconds += _of_group(group)
        number = next_of(group)
    return seconds + (_SECONDS_OF_USER if number in site.users else 0)


def _of_group(group: Service) -> int:
    return group.seconds * (1 if group.ring == "all" else len(group.members))
