"""Helpers of the tests of the rules over Asterisk's files."""

import re

from sipdeploy.lint.stack import across, kamailio
from sipdeploy.lint.stack.asterisk import RULE_MODULES, parse
from sipdeploy.lint.stack.files import StackFile
from sipdeploy.lint.stack.rules import RULES, Stack

OF_ASTERISK = sorted(
    code
    for code, each in RULES.items()
    if each.check.__module__ in {across.__name__, *(module.__name__ for module in RULE_MODULES)}
)
BESIDE = {"SD870", "SD871"}  # of dialplan beside an inventory
_FILE = re.compile(r"^[;#] (/etc/\S+)\n", re.MULTILINE)


def split_files(path, text):
    """A snippet names further files in comments of their own: `; /etc/asterisk/pjsip.conf`."""
    parts = _FILE.split(text)
    files = {path: parts[0]}
    files.update(zip(parts[1::2], parts[2::2], strict=True))
    return files


def stack_of(files, version=None, *, is_ours=False):
    parsed = {p: StackFile(path=p, place=p, text=text) for p, text in files.items()}
    cfg = parsed.pop("/etc/kamailio/kamailio.cfg", None)
    return Stack(
        asterisk=parse(parsed),
        kamailio=kamailio.parse(cfg, parsed) if cfg else None,
        asterisk_version=version,
        is_ours=is_ours,
    )


def findings(files, version=None, codes=OF_ASTERISK):
    stack = stack_of(files, version, is_ours=set(codes) <= BESIDE)
    return [(code, finding) for code in codes for finding in RULES[code].check(stack)]


def reported(files, version=None, codes=OF_ASTERISK):
    """Code, line and marked text of each finding; a path alone means `pjsip.conf`."""
    if isinstance(files, str):
        files = {"/etc/asterisk/pjsip.conf": files}
    return [
        (code, each.file.span(each.start, each.end).line, each.file.text[each.start : each.end])
        for code, each in findings(files, version, codes)
    ]
