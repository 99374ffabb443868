"""Helpers of the tests of the rules over Asterisk's files."""

import re
from dataclasses import dataclass

from sipdeploy.lint.stack import across
from sipdeploy.lint.stack.asterisk import RULE_MODULES, parse
from sipdeploy.lint.stack.files import StackFile
from sipdeploy.lint.stack.rules import RULES, Stack

OF_ASTERISK = sorted(
    code
    for code, each in RULES.items()
    if each.check.__module__ in {across.__name__, *(module.__name__ for module in RULE_MODULES)}
)
_FILE = re.compile(r"^[;#] (/etc/\S+)\n", re.MULTILINE)


@dataclass
class Socket:
    proto: str
    address: str
    port: int
    file: StackFile
    start: int
    end: int


@dataclass
class Destination:
    uri: str
    file: StackFile
    start: int
    end: int


class Kamailio:
    """Reads the simplest kamailio.cfg: `listen=` with an address, and quoted URIs."""

    def __init__(self, file):
        self.listeners = [
            Socket(m[1], m[2], int(m[3]), file, m.start(), m.end())
            for m in re.finditer(r"listen=(\w+):([\d.]+):(\d+)", file.text)
        ]
        self.destinations = [
            Destination(m[1], file, m.start(1), m.end(1))
            for m in re.finditer(r'"(sip:[^"]+)"', file.text)
        ]


def split_files(path, text):
    """A snippet names further files in comments of their own: `; /etc/asterisk/pjsip.conf`."""
    parts = _FILE.split(text)
    files = {path: parts[0]}
    files.update(zip(parts[1::2], parts[2::2], strict=True))
    return files


def stack_of(files, version=None):
    parsed = {p: StackFile(path=p, place=p, text=text) for p, text in files.items()}
    cfg = parsed.pop("/etc/kamailio/kamailio.cfg", None)
    return Stack(
        asterisk=parse(parsed),
        kamailio=Kamailio(cfg) if cfg else None,
        asterisk_version=version,
    )


def findings(files, version=None, codes=OF_ASTERISK):
    stack = stack_of(files, version)
    return [(code, finding) for code in codes for finding in RULES[code].check(stack)]


def reported(files, version=None, codes=OF_ASTERISK):
    """Code, line and marked text of each finding; a path alone means `pjsip.conf`."""
    if isinstance(files, str):
        files = {"/etc/asterisk/pjsip.conf": files}
    return [
        (code, each.file.span(each.start, each.end).line, each.file.text[each.start : each.end])
        for code, each in findings(files, version, codes)
    ]
