"""The files of a backup: which paths it may have, and what each may contain. Pure.

A backup may come from an attacker, and a restore writes its files as root. So only these paths
are taken, and owner and mode follow from the path.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sipdeploy.diagnostics.escapes import shown_line
from sipdeploy.services import certificates

KIBIBYTE = 1024
SMALL = 64 * KIBIBYTE
# An audio file of a message is 2.9 MB at most; older settings, and other formats, may allow more.
MOST_AUDIO_BYTES = 64 * KIBIBYTE * KIBIBYTE
BOXES = "/var/spool/asterisk/voicemail/default"
CALLS = "/var/lib/sipdeploy/calls.log"
DIALOG_KEY = "/etc/kamailio/dialog-key.cfg"
DIALOG = "key of dialogs"
_AUDIO = r"(?:wav|WAV|gsm|ulaw|alaw|sln|g722|g729|ogg|opus)"
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
_DOMAIN = r"[a-z0-9.-]{1,253}"
_KEY_LINE = re.compile(rb'#!substdef "!DIALOG_KEY![0-9a-f]{64}!g"\n')
# Asterisk reads the text of a message as configuration, in which lines with `#` name other files.
# It strips what is not visible before them, and block comments.
_INCLUDE = re.compile(rb"^[^!-~\n]*#", re.MULTILINE)
_STRANGE = re.compile(rb"[\0-\x08\x0b-\x1f\x7f]|;--")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of file: its paths, its limit, its owner on a host, and the most that others may do.

    `service` uses it; it is empty if no daemon reads it before a restart of its own.
    """

    name: str
    pattern: re.Pattern[str]
    owner: str
    mask: int
    most_bytes: int = SMALL
    service: str = ""


def _kind(name: str, pattern: str, owner: str, mask: int, **options: object) -> Kind:
    return Kind(
        name=name,
        pattern=re.compile(pattern, re.ASCII),
        owner=owner,
        mask=mask,
        **options,  # type: ignore[arg-type]
    )


_BOX = rf"{BOXES}/[0-9]{{2,15}}"
_ASTERISK = "asterisk:asterisk"
_CERTBOT = "/etc/letsencrypt"
_UNITS = (
    r"/etc/systemd/system/(?:kamailio|asterisk|coturn|certbot|nftables|sipdeploy-firewall"
    r"|sipdeploy-nginx)\.service\.d"
)
KINDS = (
    _kind("message", rf"{_BOX}/[A-Za-z0-9]{{1,20}}/msg[0-9]{{4,7}}\.txt", _ASTERISK, 0o660),
    _kind(
        "message",
        rf"{_BOX}/[A-Za-z0-9]{{1,20}}/msg[0-9]{{4,7}}\.{_AUDIO}",
        _ASTERISK,
        0o660,
        most_bytes=MOST_AUDIO_BYTES,
    ),
    _kind(
        "greeting",
        rf"{_BOX}/(?:unavail|busy|greet|temp)\.{_AUDIO}",
        _ASTERISK,
        0o660,
        most_bytes=MOST_AUDIO_BYTES,
    ),
    _kind("mailbox password", rf"{_BOX}/secret\.conf", _ASTERISK, 0o660),
    _kind(DIALOG, re.escape(DIALOG_KEY), "root:kamailio", 0o640, service="kamailio"),
    _kind(
        "certificate",
        re.escape(certificates.PATH),
        "root:kamailio",
        0o644,
        service="kamailio",
    ),
    _kind(
        "certificate",
        re.escape(certificates.KEY_PATH),
        "root:kamailio",
        0o640,
        service="kamailio",
    ),
    _kind(
        "ACME",
        rf"{_CERTBOT}/live/sipdeploy-{_DOMAIN}/(?:cert|chain|fullchain|privkey)\.pem",
        "root:root",
        0o600,
    ),
    _kind("ACME", rf"{_CERTBOT}/renewal/sipdeploy-{_DOMAIN}\.conf", "root:root", 0o644),
    _kind(
        "ACME",
        rf"{_CERTBOT}/accounts/(?:{_NAME}(?::[0-9]{{1,5}})?/){{1,6}}[0-9a-f]{{32}}/"
        r"(?:meta|regr|private_key)\.json",
        "root:root",
        0o600,
    ),
    _kind(
        "local setting",
        r"/etc/kamailio/local\.cfg",
        "root:kamailio",
        0o644,
        most_bytes=KIBIBYTE * KIBIBYTE,
        service="kamailio",
    ),
    _kind(
        "local setting",
        rf"/etc/asterisk/local/{_NAME}",
        "root:asterisk",
        0o644,
        most_bytes=KIBIBYTE * KIBIBYTE,
        service="asterisk",
    ),
    _kind(
        "local setting",
        r"/etc/sipdeploy/local[A-Za-z0-9_.-]{0,32}\.nft",
        "root:root",
        0o644,
        service="firewall",
    ),
    _kind("local setting", rf"{_UNITS}/(?!sipdeploy){_NAME}\.conf", "root:root", 0o644),
    _kind("call log", re.escape(CALLS), "root:root", 0o600, most_bytes=64 * KIBIBYTE * KIBIBYTE),
)
LOCAL = "local setting"
ACME = "ACME"
MESSAGES = ("message", "greeting", "mailbox password")


def kind_of(path: str) -> Kind | None:
    """The kind of a path, from the root; None if no backup has such a file."""
    return next((kind for kind in KINDS if kind.pattern.fullmatch(path)), None)


def is_small(kind: Kind) -> bool:
    """Whether the content of such a file fits into memory, and `faults` may read it."""
    return kind.name not in MESSAGES or kind.most_bytes == SMALL


def faults(path: str, content: bytes) -> Iterator[str]:
    """Why a small file with this path must not reach a host."""
    if path == DIALOG_KEY and not _KEY_LINE.fullmatch(content):
        yield "it has more than the key of dialogs"
    if path.startswith(BOXES) and _INCLUDE.search(content):
        yield "it makes Asterisk read another file"
    elif path.startswith(BOXES) and _STRANGE.search(content):
        yield "it has a control character, or a comment of several lines"
    if b"\0" in content and not path.startswith("/etc/asterisk/local/"):
        yield "it is not text"


def shown(path: str) -> str:
    """A path of an archive, for a message."""
    return shown_line(path)[:200]
