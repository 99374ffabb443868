"""Rules about rtp.conf, http.conf, manager.conf and voicemail.conf, and about lines as such."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sipdeploy.lint.secrets import weakness
from sipdeploy.lint.stack.asterisk.pjsip import at_section, at_setting, is_open, once, pjsip, place
from sipdeploy.lint.stack.rules import Finding, Stack, rule

if TYPE_CHECKING:
    from sipdeploy.lint.stack.asterisk.config import Section, Setting

_EVERYWHERE = {"", "0.0.0.0", "::", "[::]", "0.0.0.0:0"}  # noqa: S104  # compared, not bound
RTP_DEFAULT = (5000, 31000)


def general(stack: Stack, name: str) -> Section | None:
    """The section `[general]` of a file."""
    config = stack.asterisk.named(name) if stack.asterisk else None
    section: Section | None = config.section("general") if config else None
    return section


def rtp_range(section: Section) -> tuple[int, int]:
    """The ports of rtp.conf, as Asterisk reads them."""
    ends = []
    for key, default in zip(("rtpstart", "rtpend"), RTP_DEFAULT, strict=True):
        match = re.match(r"\d{1,9}", section.get(key))
        ends.append(min(max(int(match[0]) if match else default, 1024), 65535))
    return ends[0] + ends[0] % 2, ends[1]


@rule("SD860", "error")
def wrong_rtp_range(stack: Stack) -> Iterator[Finding]:
    """RTP range that ends before it begins: Asterisk uses 5000 to 31000, which nobody opened.

    Bad: /etc/asterisk/rtp.conf
        [general]
        rtpstart=20000
        rtpend=10000
    Good: /etc/asterisk/rtp.conf
        [general]
        rtpstart=10000
        rtpend=20000
    """
    section = general(stack, "rtp.conf")
    if section is None:
        return
    start, end = rtp_range(section)
    setting = section.values.get("rtpend") or section.values.get("rtpstart")
    texts = [section.get(key) for key in ("rtpstart", "rtpend")]
    if setting and start >= end and not any(map(is_open, texts)):
        yield at_setting(
            setting,
            f"the RTP range {start} to {end} is empty, so Asterisk uses 5000 to 31000",
            "write `rtpstart=10000` and `rtpend=20000`",
        )


@rule("SD861", "error")
def no_ice(stack: Stack) -> Iterator[Finding]:
    """`icesupport=no` in rtp.conf, and browsers in pjsip.conf: their calls have no audio.

    Bad: /etc/asterisk/rtp.conf
        [general]
        icesupport=no
        ; /etc/asterisk/pjsip.conf
        [1001]
        type=endpoint
        webrtc=yes
    Good: /etc/asterisk/rtp.conf
        [general]
        icesupport=yes
        ; /etc/asterisk/pjsip.conf
        [1001]
        type=endpoint
        webrtc=yes
    """
    section, browser = general(stack, "rtp.conf"), _browser(stack)
    setting = section.values.get("icesupport") if section else None
    if section and setting and browser and not section.says("icesupport"):
        yield at_setting(
            setting,
            f"browsers, such as `{browser.name}`, need ICE",
            "write `icesupport=yes`",
            other=(place(browser, "`webrtc=yes`"),),
        )


def _browser(stack: Stack) -> Section | None:
    """The first endpoint of a browser."""
    objects = pjsip(stack)
    endpoints = objects.of("endpoint") if objects else ()
    return next((each for each in endpoints if each.says("webrtc")), None)


@rule("SD869", "note")
def no_turn(stack: Stack) -> Iterator[Finding]:
    """STUN for browsers, and no TURN: in networks that let no UDP out, calls have no audio.

    STUN tells an address; only a TURN server relays. The phones need one in their settings, and
    `turnaddr` is for an Asterisk whose RTP ports are not reachable either.

    Bad: /etc/asterisk/rtp.conf
        [general]
        stunaddr=stun.example.com:3478
        ; /etc/asterisk/pjsip.conf
        [1001]
        type=endpoint
        webrtc=yes
    Good: /etc/asterisk/rtp.conf
        [general]
        stunaddr=turn.example.com:3478
        turnaddr=turn.example.com:3478
        ; /etc/asterisk/pjsip.conf
        [1001]
        type=endpoint
        webrtc=yes
    """
    section, browser = general(stack, "rtp.conf"), _browser(stack)
    setting = section.values.get("stunaddr") if section else None
    if section and setting and setting.value and browser and not section.get("turnaddr"):
        yield at_setting(
            setting,
            "a STUN server, and no TURN server",
            "run a TURN server, such as coturn, and name it in the settings of the phones too",
            other=(place(browser, "`webrtc=yes`"),),
        )


@rule("SD862", "warning")
def public_http(stack: Stack) -> Iterator[Finding]:
    """HTTP server of Asterisk on all addresses without TLS: passwords and calls are readable.

    Browsers open no plain WebSocket from a page with HTTPS either.

    Bad: /etc/asterisk/http.conf
        [general]
        enabled=yes
        bindaddr=0.0.0.0
    Good: /etc/asterisk/http.conf
        [general]
        enabled=yes
        bindaddr=127.0.0.1
    """
    section = general(stack, "http.conf")
    setting = section.values.get("bindaddr") if section else None
    if section is None or setting is None or not section.says("enabled"):
        return
    if setting.value in _EVERYWHERE - {""} and not section.says("tlsenable"):
        yield at_setting(
            setting,
            "the HTTP server listens on all addresses, without TLS",
            "write `bindaddr=127.0.0.1`, or `tlsenable=yes` with `tlscertfile=`",
        )


def _managers(stack: Stack) -> Iterator[Section]:
    """The users of the manager interface, if it is enabled."""
    section = general(stack, "manager.conf")
    if section and section.says("enabled"):
        config = stack.asterisk.named("manager.conf")
        yield from (each for each in config.live if each.get("secret"))


@rule("SD863", "warning")
def public_manager(stack: Stack) -> Iterator[Finding]:
    """Manager interface for any address: whoever guesses a secret controls all calls.

    It listens on all addresses unless `bindaddr` says otherwise.

    Bad: /etc/asterisk/manager.conf
        [general]
        enabled=yes
        bindaddr=0.0.0.0
        [monitor]
        secret=fmK4tXw9Rd2zHq7pVb3n
    Good: /etc/asterisk/manager.conf
        [general]
        enabled=yes
        bindaddr=127.0.0.1
        [monitor]
        secret=fmK4tXw9Rd2zHq7pVb3n
    """
    section = general(stack, "manager.conf")
    if section is None or section.get("bindaddr") not in _EVERYWHERE:
        return
    for user in _managers(stack):
        if not any(user.get(key) for key in ("permit", "deny", "acl")):
            yield at_section(
                user,
                f"`{user.name}` may log in to the manager interface from any address",
                "write `bindaddr=127.0.0.1` in `[general]`, or `deny=0.0.0.0/0` and `permit=`",
            )


@rule("SD864", "error")
def weak_manager_secret(stack: Stack) -> Iterator[Finding]:
    """Weak secret of the manager interface, such as one that manuals print.

    Bad: /etc/asterisk/manager.conf
        [general]
        enabled=yes
        [admin]
        secret=amp111
    Good: /etc/asterisk/manager.conf
        [general]
        enabled=yes
        [admin]
        secret=fmK4tXw9Rd2zHq7pVb3n
        deny=0.0.0.0/0
        permit=127.0.0.1/32
    """
    for user in _managers(stack):
        secret = user.values["secret"]
        is_default = secret.value.lower() in {"mysecret", "amp111", "mysecretpassword"}
        reason = "printed in manuals" if is_default else weakness(secret.value, user.name, "")
        if reason and not is_open(secret.value):
            yield at_setting(
                secret,
                f"the secret of `{user.name}` is weak",
                "write a long random one, as `openssl rand -base64 18` prints",
                label=reason.replace("the number", "the user name"),
            )


def boxes(stack: Stack) -> dict[tuple[str, str], Setting]:
    """The mailboxes of voicemail.conf by number and context."""
    config = stack.asterisk.named("voicemail.conf") if stack.asterisk else None
    return {
        (setting.key, section.name): setting
        for section in (config.live if config else ())
        if section.name.lower() not in {"general", "zonemessages"}
        for setting in section.settings
    }


@rule("SD865", "warning")
def weak_mailbox_password(stack: Stack) -> Iterator[Finding]:
    """Mailbox whose password is its number, 1234 or the like: others hear the messages.

    Bad: /etc/asterisk/voicemail.conf
        [default]
        1001 => 1234,Alice
    Good: /etc/asterisk/voicemail.conf
        [default]
        1001 => 583021,Alice
    """
    for (number, _), setting in boxes(stack).items():
        text = setting.value.partition(",")[0].strip().lstrip("-")
        is_weak = text == number or text in {"1234", "12345", "123456", "4321"}
        if number.isdigit() and text and (is_weak or len(set(text)) == 1):
            yield Finding(
                file=setting.file,
                start=setting.start,
                end=setting.start + len(setting.value.partition(",")[0]),
                message=f"the password of the mailbox `{number}` is easy to guess",
                help="write six digits or more that are not the number",
            )


_FATAL = {
    "bracket": ("the section has no closing `{}`", "add it"),
    "addition": ("`(+)` adds to a section `{}` that is not above", "delete `(+)`"),
    "template": ("the template `{}` is not above", "move it up, or correct its name"),
    "outside": ("a setting precedes the first section", "write a `[section]` above it"),
}


@rule("SD866", "error")
@once
def refused_file(stack: Stack) -> Iterator[Finding]:
    """Line for which Asterisk refuses the whole file: it keeps the old state, or has none.

    Bad: /etc/asterisk/pjsip.conf
        [1001](webrtc)
        aors=1001
    Good: /etc/asterisk/pjsip.conf
        [webrtc](!)
        type=endpoint
        webrtc=yes
        [1001](webrtc)
    """
    for config in stack.asterisk.configs.values() if stack.asterisk else ():
        for problem in config.problems:
            is_sure = config.is_complete or problem.kind in {"bracket", "outside"}
            if problem.kind in _FATAL and is_sure:
                message, fix = _FATAL[problem.kind]
                yield Finding(
                    file=problem.file,
                    start=problem.start,
                    end=problem.end,
                    message=f"Asterisk refuses the file: {message.format(problem.text)}",
                    help=fix,
                )


@rule("SD867", "warning")
def absent_include(stack: Stack) -> Iterator[Finding]:
    """Include of a file that is not there: Asterisk then refuses the including file as a whole.

    `#tryinclude` takes the file if there is one.

    Bad: /etc/asterisk/pjsip.conf
        #include pjsip_users.conf
    Good: /etc/asterisk/pjsip.conf
        #tryinclude pjsip_users.conf
    """
    for config in stack.asterisk.configs.values() if stack.asterisk else ():
        for problem in config.problems:
            if problem.kind == "include":
                yield Finding(
                    file=problem.file,
                    start=problem.start,
                    end=problem.end,
                    message=f"the included file `{problem.text}` is not there",
                    help="write `#tryinclude`, or name the files together with this one",
                )


@rule("SD868", "warning")
def ignored_line(stack: Stack) -> Iterator[Finding]:
    """Line that Asterisk skips: it is neither a section, a setting, a comment nor an include.

    Bad: /etc/asterisk/rtp.conf
        [general]
        rtpstart 10000
    Good: /etc/asterisk/rtp.conf
        [general]
        rtpstart=10000
    """
    for config in stack.asterisk.configs.values() if stack.asterisk else ():
        for problem in config.problems:
            if problem.kind in {"equals", "directive"}:
                yield Finding(
                    file=problem.file,
                    start=problem.start,
                    end=problem.end,
                    message="Asterisk skips this line, because it has no `=`"
                    if problem.kind == "equals"
                    else f"there is no directive `{problem.text[:40]}`",
                    help="write `NAME=VALUE`, or a comment with `;`",
                )
