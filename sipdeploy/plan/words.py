"""What an apply changed, in words, from the lines of its plan. Pure."""

import re
from collections.abc import Iterator, Sequence

from sipdeploy.diagnostics import count

# The first pattern that matches a path names its subject.
SUBJECTS = (
    (r"/etc/kamailio/(sipdeploy\.db|credentials\.sum)", "users and services"),
    (r"/etc/asterisk/(pjsip_users\.conf|voicemail_users\.conf|users\.db)", "users and services"),
    (r"/etc/coturn/users\.db", "users and services"),
    (r"/etc/kamailio/kamailio\.cfg", "routing"),
    (r"/etc/kamailio/tls/.*", "certificate"),
    (r"/etc/kamailio/tls\.cfg", "TLS"),
    (r"/etc/kamailio/.*", "Kamailio"),
    (r"/etc/asterisk/extensions.*", "dialplan"),
    (r"/etc/asterisk/voicemail.*", "voicemail"),
    (r"/etc/asterisk/rtp\.conf", "media"),
    (r"/etc/asterisk/.*|/usr/local/sbin/asterisk|.*/asterisk\.service.*", "Asterisk"),
    (r"/etc/coturn/.*|.*/coturn\.service\.d/.*", "relay"),
    (r"/etc/nginx/.*|.*/nginx\.service\.d/.*", "web server"),
    (r"/etc/sipdeploy/.*\.nft|.*/(sipdeploy-firewall|nftables)\.service.*", "firewall"),
    (r"/etc/letsencrypt/.*|.*certificate.*|.*/certbot\.service\.d/.*", "renewal of certificates"),
    (r"/etc/apt/.*", "package sources"),
    (r".*/kamailio\.service\.d/.*", "Kamailio"),
)
PATH = re.compile(r"[-+~] (/\S+)")
PACKAGE = re.compile(r"\+ package (\S+)")
UPGRADE = re.compile(r"~ package (\S+) (\S+) -> (\S+)")
UNIT = re.compile(r"! (restart|reload|start|stop) (\S+?)(?:\.service|\.timer)?")
ACTIONS = ("start", "restart", "reload", "stop")
FIRST = "+ /etc/kamailio/kamailio.cfg"
MOST_PACKAGES = 2


def in_words(lines: Sequence[str], *, is_users: bool = False) -> str:
    """`changes routing and firewall; restarts kamailio`."""
    return "; ".join(_parts(lines, is_users=is_users)) or count(len(lines), "change")


def _parts(lines: Sequence[str], *, is_users: bool) -> Iterator[str]:
    subjects = dict.fromkeys(_subject(match[1]) for match in map(PATH.match, lines) if match)
    added = sum(PACKAGE.match(line) is not None for line in lines)
    replaced = [match for match in map(UPGRADE.fullmatch, lines) if match]
    if any(line.startswith(FIRST) for line in lines):
        yield "first configuration of the host"
    elif is_users:
        yield "users only"
    elif subjects:
        yield f"changes {listed(list(subjects))}"
    if added:
        yield f"installs {count(added, 'package')}"
    if replaced:
        shown = [f"{name} {new}" for name, _, new in (match.groups() for match in replaced)]
        rest = len(shown) - MOST_PACKAGES
        more = [count(rest, "more package")] if rest > 0 else []
        yield f"brings {listed([*shown[:MOST_PACKAGES], *more])}"
    units = [match.groups() for match in map(UNIT.fullmatch, lines) if match]
    for action in ACTIONS:
        names = [name for what, name in units if what == action]
        if names:
            yield f"{action}s {listed(names)}"


def _subject(path: str) -> str:
    return next((name for pattern, name in SUBJECTS if re.fullmatch(pattern, path)), path)


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def minutes(seconds: float) -> str:
    """`45 s`, `8 min`, `2 h 5 min`: a time that is left."""
    whole = max(0, round(seconds))
    if whole < 120:  # noqa: PLR2004
        return f"{whole} s"
    hours, rest = divmod(whole // 60, 60)
    units = ((hours, "h"), (rest, "min"))
    return " ".join(f"{number} {unit}" for number, unit in units if number)
