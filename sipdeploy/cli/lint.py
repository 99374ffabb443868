"""Commands that judge files without a host: lint and test."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import click

from sipdeploy import inventory, lint
from sipdeploy.cli.session import TRUSTED, Session
from sipdeploy.diagnostics import Diagnostic, Severity, Source, count
from sipdeploy.diagnostics.errors import InvalidFiles, WrongUsage
from sipdeploy.diagnostics.formats import Context, Format, attribute, fails, xml_report
from sipdeploy.inventory import files as local
from sipdeploy.inventory import reading, search
from sipdeploy.inventory.reading import BREAK
from sipdeploy.lint import fixing, routes
from sipdeploy.lint.own import lint_own
from sipdeploy.lint.stack import judging, native
from sipdeploy.lint.stack.reading import is_stack

_FORMATS = click.Choice(list(get_args(Format)))


_YAML = frozenset({".yaml", ".yml"})


class _Version(click.ParamType):  # type: ignore[type-arg]  # generic only in new versions
    """A version that lint knows, such as `6.1` or `22`, or a release of it, as numbers."""

    name = "version"

    def __init__(self, daemon: str) -> None:
        self._daemon = daemon

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Split at the dots; wrong usage for anything else."""
        if isinstance(value, tuple):
            return value
        known = judging.VERSIONS[self._daemon]
        series = ".".join(str(value).split(".")[: known[0].count(".") + 1])
        if series not in known or not re.fullmatch(r"[0-9.]*[0-9]", str(value), re.ASCII):
            names = ", ".join(known)
            self.fail(f"lint does not know '{value}'; write one of {names}", param, ctx)
        return tuple(int(part) for part in str(value).split(".") if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choices:
    """What the options of lint choose."""

    is_trusted: bool
    fixes: bool
    kamailio: tuple[int, ...] | None
    asterisk: tuple[int, ...] | None
    native: native.When


@dataclass(slots=True)
class _Found:
    """The problems of all files, the lines of these files, and the versions of the inventory."""

    problems: list[Diagnostic] = field(default_factory=list)
    sources: dict[str, Source] = field(default_factory=dict)
    versions: dict[str, tuple[int, ...]] = field(default_factory=dict)


@click.command("lint", short_help="Show all problems of an inventory, or of configuration files.")
@click.argument("paths", nargs=-1, metavar="[PATH...]", type=click.Path(path_type=Path))
@click.option(
    "--stack",
    "is_stack_only",
    is_flag=True,
    help="The paths are configuration of Kamailio and Asterisk, whatever their names.",
)
@click.option(
    "--format", "form", type=_FORMATS, help="Output format. [default: full; on GitHub: github]"
)
@click.option(
    "--fail-on",
    type=click.Choice(list(get_args(Severity))),
    default="error",
    show_default=True,
    help="The least severity for the exit code 1.",
)
@click.option("--fix", "fixes", is_flag=True, help="Correct what has only one right answer.")
@click.option(
    "--kamailio-version", "kamailio", type=_Version("kamailio"), help="Version, such as 6.1."
)
@click.option(
    "--asterisk-version", "asterisk", type=_Version("asterisk"), help="Version, such as 22."
)
@click.option(
    "--native",
    "when",
    type=click.Choice(list(get_args(native.When))),
    help="Also ask `kamailio -c`, which loads modules and can run code: only for your own files. "
    "[default: never; with --trusted: auto, if it is installed]",
)
@click.option(
    "--explain",
    metavar="[CODE]",
    is_flag=False,
    flag_value="",
    help="Show the manual of a code, such as SD305; without one, list all codes.",
)
@TRUSTED
@click.pass_obj
def lint_command(
    session: Session,
    /,
    paths: tuple[Path, ...],
    *,
    is_stack_only: bool,
    form: Format | None,
    fail_on: Severity,
    when: native.When | None,
    explain: str | None,
    is_trusted: bool,
    fixes: bool,
    kamailio: tuple[int, ...] | None,
    asterisk: tuple[int, ...] | None,
) -> int:
    """Show all problems of an inventory, or of configuration of Kamailio and Asterisk.

    Checks the inventory, or each PATH: an inventory, a file such as kamailio.cfg or pjsip.conf,
    or a directory with such files, such as /etc. Safe for files from a stranger: without
    --trusted, lint runs nothing that they name, and reads nothing outside their directory. The
    exit code is 1 if there are errors; see --fail-on.

    \b
    Examples:
      sipdeploy lint
      sipdeploy lint a.yaml b.yaml --format concise
      sipdeploy lint /etc --kamailio-version 5.6 --fail-on warning
      sipdeploy lint --explain SD305          `--explain` alone lists all codes
    """
    if explain is not None:
        session.output.result(_explained(explain.upper(), form))
        return 0
    when = native.chosen(when, is_trusted=is_trusted)
    choices = _Choices(
        is_trusted=is_trusted, fixes=fixes, kamailio=kamailio, asterisk=asterisk, native=when
    )
    found = _judged(session, paths, choices, is_stack_only=is_stack_only)
    needs_manuals = form == "sarif" or session.output.verbose
    manuals = lint.explanations() if needs_manuals else {}
    context = Context(manuals=manuals, fail_on=fail_on)
    session.output.findings(found.problems, found.sources, form, context)
    for code in sorted({each.code for each in found.problems}):
        session.output.detail(f"\n{code}: {manuals.get(code, '')}")
    if not found.problems:
        session.output.progress("no problems")
    return int(any(fails(each.severity, fail_on) for each in found.problems))


def _judged(
    session: Session, paths: tuple[Path, ...], choices: _Choices, *, is_stack_only: bool
) -> _Found:
    """Judge every path: inventories first, because the stack can take its versions from them."""
    found, stack = _Found(), []
    for path in paths or (session.inventory,):
        inside = search.beside(path) if path.is_dir() and not is_stack_only else None
        is_other = path in paths and path.suffix not in _YAML and not path.exists()
        if inside is None and (is_stack_only or is_other or is_stack(path)):
            stack.append(path)
        else:
            _lint_inventory(session, inside or path, choices, found)
    if stack:
        judged = judging.lint_stack(
            stack,
            kamailio=choices.kamailio or found.versions.get("kamailio"),
            asterisk=choices.asterisk or found.versions.get("asterisk"),
        )
        found.problems += judged.problems
        found.sources |= judged.sources
        found.problems += native.ask(judged.roots, choices.native)
    return found


def _lint_inventory(session: Session, path: Path, choices: _Choices, found: _Found) -> None:
    if choices.fixes:
        _fix(session, path, is_trusted=choices.is_trusted)
    problems, sources, loaded = _problems(path, None, is_trusted=choices.is_trusted)
    found.problems += problems
    found.sources |= sources
    if loaded is not None:
        session.output.detail(f"{path}: {lint.sizes(loaded.site)}")
        versions = loaded.site.versions
        for daemon in ("kamailio", "asterisk"):
            numbers = getattr(versions, daemon).split(".")
            found.versions.setdefault(daemon, tuple(map(int, numbers)))


def _problems(
    path: Path, raw: bytes | None, *, is_trusted: bool
) -> tuple[list[Diagnostic], dict[str, Source], inventory.Inventory | None]:
    try:
        loaded = inventory.open_inventory(path, raw=raw, is_trusted=is_trusted)
    except InvalidFiles as failure:
        return list(failure.diagnostics), failure.sources, None
    own = lint_own(loaded)
    problems = [*lint.lint_inventory(loaded), *own.problems]
    return problems, {**loaded.sources, **own.sources}, loaded


def _fix(session: Session, path: Path, *, is_trusted: bool) -> None:
    """Correct an inventory, and say what was corrected. A file that cannot be read stays."""
    text, _ = reading.read(path, is_trusted=is_trusted)
    if text is None:
        return

    def judge(changed: str) -> list[Diagnostic]:
        return _problems(path, changed.encode(), is_trusted=is_trusted)[0]

    new, done = fixing.fixed(text, judge)
    if done:
        try:
            local.replace_all([(local.read(path, 0o644), new)])
        except OSError as failure:
            raise InvalidFiles([local.unwritable(failure)]) from failure
    for each in done:
        session.output.progress(f"{each.problem.span}: {each}")


def _explained(code: str, form: Format | None) -> str:
    """The manual of a code, or, if `code` is empty, all codes and the first lines of theirs."""
    if form not in (None, "full", "json"):
        message = f"`--explain` has no format `{form}`"
        advice = "leave out `--format`, or write `--format json`"
        raise WrongUsage([Diagnostic("SD002", message, help=advice)])
    known = lint.explanations()
    if code and code not in known:
        raise WrongUsage([_unknown_code(code, known)])
    shown = {code: known[code]} if code else known
    if form == "json":
        return json.dumps([{"code": each, "manual": shown[each]} for each in shown], indent=2)
    if code:
        return f"{code}: {known[code]}"
    return "\n".join(f"{each}  {known[each].partition(chr(10))[0]}" for each in known)


def _unknown_code(code: str, known: Collection[str]) -> Diagnostic:
    """Suggests the code with the same number, as for `305` and `SD3055`, and no other one."""
    digits = re.search(r"[0-9]{3}", code)
    meant = f"SD{digits[0]}" if digits else ""
    advice = "`sipdeploy lint --explain` lists all codes"
    advice = f"did you mean `{meant}`?" if meant in known else advice
    return Diagnostic("SD001", f"there is no code `{code}`", help=advice)


@click.command(
    "test", short_help="Compare the routes of calls with expected ones, without a host."
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "junit"]),
    default="text",
    help="Output format.",
)
@TRUSTED
@click.pass_obj
def test_command(session: Session, file: Path, *, form: str, is_trusted: bool) -> int:
    """Compare where calls lead with the expected routes of FILE; exit with 1 on a difference.

    It needs no host and no password: the inventory decides which number leads where. Whether a
    phone is registered and answers, media, and settings in /etc/asterisk/local on the host are
    not tested; `apply` proves registration and calls.

    \b
    A line of FILE below `routes:` is a call and what it leads to:
      1001 dials 1002: rings 1002, then voicemail
      1001 dials 6000: ivr-test
      1001 dials 6200, presses 1: rings 1001 and 1002, then voicemail 1002
      1001 dials 9: 404
    \b
    Examples:
      sipdeploy test routes.yaml
      sipdeploy test routes.yaml --format junit > report.xml
    """
    text, problems = reading.read(
        file, is_trusted=is_trusted, absent="write one; `sipdeploy test --help` shows its lines"
    )
    loaded = inventory.open_inventory(session.inventory, is_trusted=is_trusted)
    expectations, more = routes.read(text, str(file)) if text is not None else ([], [])
    if problems or more:
        lines = BREAK.split(text or "")
        raise InvalidFiles([*problems, *more], sources={str(file): Source(lines=lines)})
    verdicts = routes.judge(loaded.site, expectations)
    session.output.result(_VERDICTS[form](verdicts))
    failed = sum(not each.holds for each in verdicts)
    session.output.progress(f"{count(len(verdicts), 'route')}, {failed} not as expected")
    return int(failed > 0)


def _as_text(verdicts: Sequence[routes.Verdict]) -> str:
    return "\n".join(
        f"ok      {each.expected.call}: {each.outcome}"
        if each.holds
        else f"FAILED  {each.expected.call}: {each.outcome}, expected {each.expected.outcome} "
        f"({each.expected.span})"
        for each in verdicts
    )


def _as_json(verdicts: Sequence[routes.Verdict]) -> str:
    rows = [
        {
            "caller": each.expected.caller,
            "dialled": each.expected.dialled,
            "expected": each.expected.outcome,
            "outcome": each.outcome,
            "ok": each.holds,
            "place": str(each.expected.span),
        }
        for each in verdicts
    ]
    return json.dumps({"routes": rows}, indent=2)


def _as_junit(verdicts: Sequence[routes.Verdict]) -> str:
    cases = []
    for each in verdicts:
        message = f"{each.outcome}, expected {each.expected.outcome} ({each.expected.span})"
        failure = "" if each.holds else f"<failure message={attribute(message)}/>"
        name = attribute(each.expected.call)
        cases.append(f'<testcase name={name} classname="routes">{failure}</testcase>')
    failed = sum(not each.holds for each in verdicts)
    return xml_report("sipdeploy test", cases, failed)


_VERDICTS = {"text": _as_text, "json": _as_json, "junit": _as_junit}
