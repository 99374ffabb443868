"""Rules for rendered configuration: problems that the daemons themselves do not report.

Pure: takes the paths and texts of files, returns diagnostics about them.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from sipdeploy.diagnostics import Diagnostic, Span
from sipdeploy.lint import pjsip as lint_pjsip
from sipdeploy.lint.pjsip import Place

Tree = Mapping[str, str]


RuleFunction = Callable[[Tree], Iterable[Place]]
RULES: dict[str, RuleFunction] = {}


def rule(code: str) -> Callable[[RuleFunction], RuleFunction]:
    """Register a generator as a rule; its docstring is its manual."""

    def enter(check: RuleFunction) -> RuleFunction:
        RULES[code] = check
        return check

    return enter


def lint_rendered(files: Tree) -> list[Diagnostic]:
    """Check the files of one host (`/etc/...` to text); every problem is an error, SD41x."""
    kamailio = {p: _blank_comments(t) for p, t in files.items() if _KAMAILIO.match(p)}
    sections = lint_pjsip.sections(files)
    places = [(code, place) for code, check in RULES.items() for place in check(kamailio)]
    places += [
        (code, place) for code, check in lint_pjsip.RULES.items() for place in check(sections)
    ]
    return [_diagnostic(code, place, files[place.path]) for code, place in places]


def explanations() -> Mapping[str, str]:
    """Return the manual of every code."""
    checks = {**RULES, **lint_pjsip.RULES}
    return {code: inspect.getdoc(check) or "" for code, check in checks.items()}


def _diagnostic(code: str, place: Place, text: str) -> Diagnostic:
    line = text.count("\n", 0, place.offset) + 1
    column = place.offset - text.rfind("\n", 0, place.offset)
    span = Span(path=place.path, line=line, column=column, end_column=column + place.length)
    return Diagnostic(code, place.message, span=span, help=place.help)


_KAMAILIO = re.compile(r"/etc/kamailio/.*\.cfg\Z")
# Strings come first, so that `#` and `//` inside them start no comment.
_TOKEN = re.compile(r'("(?:\\.|[^"\\])*")|(/\*.*?\*/|//[^\n]*|#(?![!@])[^\n]*)', re.DOTALL)


def _blank_comments(text: str) -> str:
    """Replace comments with spaces; offsets and line breaks stay."""
    return _TOKEN.sub(lambda m: m[1] or re.sub(r"[^\n]", " ", m[2]), text)


def _matches(pattern: str, files: Tree) -> Iterator[tuple[str, re.Match[str]]]:
    expression = re.compile(pattern, re.MULTILINE)
    for path, text in files.items():
        for match in expression.finditer(text):
            yield path, match


def _names(pattern: str, files: Tree) -> set[str]:
    return {match[1] for _, match in _matches(pattern, files)}


def _at(path: str, match: re.Match[str], message: str, advice: str) -> Place:
    start, end = match.span(1) if match.re.groups else match.span()
    return Place(path=path, offset=start, length=end - start, message=message, help=advice)


@rule("SD410")
def undefined_route(files: Tree) -> Iterator[Place]:
    """Undefined route: `route(X)` is called, and no file defines `route[X]`.

    Kamailio 5.x starts all the same, and the call does nothing: authentication is skipped.

    Bad: /etc/kamailio/kamailio.cfg
        request_route { route(AUTH); }
    Good: /etc/kamailio/kamailio.cfg
        request_route { route(AUTH); }
        route[AUTH] { exit; }
    """
    defined = _names(r"\broute\s*\[\s*\"?([\w:.-]+)\"?\s*\]", files)
    for path, match in _matches(r"(?<![\w.])route\(\s*\"?([\w:.-]+)\"?\s*\)", files):
        if match[1] not in defined:
            message = f"the route `{match[1]}` is called but not defined"
            yield _at(path, match, message, f"define `route[{match[1]}]`")


_ARMED: Mapping[str, str] = {
    "t_on_failure": "failure_route",
    "t_on_reply": "(?:onreply|reply)_route",
    "t_on_branch": "branch_route",
}


@rule("SD411")
def undefined_armed_route(files: Tree) -> Iterator[Place]:
    """Undefined armed route: `t_on_failure("X")` or the like names a missing block.

    The event that the block should handle passes without any action.

    Bad: /etc/kamailio/kamailio.cfg
        request_route { t_on_failure("OFF"); }
    Good: /etc/kamailio/kamailio.cfg
        request_route { t_on_failure("OFF"); }
        failure_route[OFF] { exit; }
    """
    for function, block in _ARMED.items():
        defined = _names(rf"\b{block}\s*\[\s*\"?([\w:.-]+)\"?\s*\]", files)
        for path, match in _matches(rf"\b{function}\(\s*\"([\w:.-]+)\"\s*\)", files):
            if match[1] not in defined:
                kind = "onreply_route" if "reply" in block else block
                message = f"the {kind} `{match[1]}` is armed but not defined"
                yield _at(path, match, message, f"define `{kind}[{match[1]}]`")


@rule("SD412")
def undeclared_table(files: Tree) -> Iterator[Place]:
    """Undeclared table: `$sht(x=>...)` reads a hash table that no `modparam` declares.

    Bad: /etc/kamailio/kamailio.cfg
        request_route { if ($sht(users=>$fU) == $null) exit; }
    Good: /etc/kamailio/kamailio.cfg
        modparam("htable", "htable", "users=>size=8;")
        request_route { if ($sht(users=>$fU) == $null) exit; }
    """
    declared = _names(r"modparam\(\s*\"htable\"\s*,\s*\"htable\"\s*,\s*\"(\w+)=>", files)
    for path, match in _matches(r"\$sht\w*\((\w+)=>", files):
        if match[1] not in declared:
            message = f"the table `{match[1]}` is used but not declared"
            advice = f'declare it: `modparam("htable", "htable", "{match[1]}=>size=8;")`'
            yield _at(path, match, message, advice)


@rule("SD413")
def tls_switched_off(files: Tree) -> Iterator[Place]:
    """TLS disabled: Kamailio silently ignores `listen=tls:` without `enable_tls=yes`.

    Bad: /etc/kamailio/kamailio.cfg
        listen=tls:0.0.0.0:8443
    Good: /etc/kamailio/kamailio.cfg
        enable_tls=yes
        listen=tls:0.0.0.0:8443
    """
    if _names(r"^\s*(enable_tls|tls_enable)\s*=\s*(?:yes|1|on)\b", files):
        return
    for path, match in _matches(r"^\s*listen\s*=\s*\"?(tls):", files):
        yield _at(path, match, "TLS is off, so this socket never opens", "add `enable_tls=yes`")


@rule("SD414")
def http_refused(files: Tree) -> Iterator[Place]:
    """HTTP rejected: a WebSocket handshake has no Content-Length, which SIP over TCP requires.

    Without `tcp_accept_no_cl=yes` Kamailio closes the connection with `bad request`.

    Bad: /etc/kamailio/kamailio.cfg
        loadmodule "websocket.so"
    Good: /etc/kamailio/kamailio.cfg
        tcp_accept_no_cl=yes
        loadmodule "websocket.so"
    """
    if _names(r"^\s*(tcp_accept_no_cl)\s*=\s*(?:yes|1|on)\b", files):
        return
    for path, match in _matches(r"^\s*loadmodule\s+\"(xhttp|websocket)(?:\.so)?\"", files):
        message = f"`{match[1]}` is loaded, but Kamailio rejects every HTTP request"
        yield _at(path, match, message, "add `tcp_accept_no_cl=yes`")
