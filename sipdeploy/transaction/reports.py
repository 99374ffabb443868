"""The reports of a run, as text and JSON, and the notices of an apply. Pure."""

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from sipdeploy.diagnostics import Diagnostic, Severity, Source, count, has_errors
from sipdeploy.facts import Facts, SelfRollback
from sipdeploy.plan import Plan
from sipdeploy.plan.preview import Present
from sipdeploy.plan.words import minutes
from sipdeploy.services.service import local_place
from sipdeploy.transaction.outside.reachability import Seen

State = Literal["unchanged", "applied", "on trial", "rolled back", "unknown"]
LIVE = ("applied", "on trial")  # the host has the new release


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result on one host. `sources` are the lines that diagnostics point into."""

    host: str
    state: State
    changes: tuple[str, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    seconds: float = 0.0
    sources: Mapping[str, Source] = field(default_factory=dict)
    exit_code: int = 0
    unreachable: str = ""  # why phones cannot reach an applied host from here
    trial_seconds: int | None = None  # of a release on trial, until the host takes it back

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The diagnostics that are errors."""
        return tuple(each for each in self.diagnostics if each.severity == "error")

    @property
    def has_failed(self) -> bool:
        """Whether the host differs from the site, because of an error."""
        return has_errors(self.diagnostics)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The plan for one host; None if the host could not be reached."""

    host: str
    plan: Plan | None
    present: Present
    diagnostics: tuple[Diagnostic, ...] = ()
    sources: Mapping[str, Source] = field(default_factory=dict)
    exit_code: int = 0


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended the run; sipdeploy has undone its changes, see `reports`."""

    def __init__(self, reports: Sequence[Report]) -> None:
        self.reports = tuple(reports)
        super().__init__("interrupted")


def as_text(reports: Sequence[Report]) -> str:
    """One line for each host: `sip1  applied, 42 changes, 15.1 s`. Last, those without phones."""
    lines = [
        f"{report.host}  {report.state}, {_changes(report)}, {report.seconds:.1f} s"
        for report in reports
    ]
    lines += (
        f"{report.host}  goes back by itself in {minutes(report.trial_seconds)}; "
        f"`sipdeploy confirm {report.host}` keeps the new release"
        for report in reports
        if report.trial_seconds is not None
    )
    lines += (
        f"{report.host}  {report.state}; phones cannot reach it from here: {report.unreachable}"
        for report in reports
        if report.unreachable
    )
    return "\n".join(lines)


def unreachable(seen: Seen) -> str:
    """The rung that failed, and what is likely to help."""
    first = seen.after.failed[0] if seen.after else None
    if first is None:
        return ""
    fix = next((each.help for each in first.diagnostics if each.help), "")
    return f"{first.name} failed{f'; {fix}' if fix else ''}"


def _changes(report: Report) -> str:
    """`42 changes`; `42 planned changes` on a host that does not have them."""
    is_planned = bool(report.changes) and report.state not in LIVE
    return count(len(report.changes), "planned change" if is_planned else "change")


def as_json(reports: Sequence[Report]) -> str:
    """The reports as JSON; `changes` lists the planned changes."""
    hosts = [
        {
            "host": report.host,
            "state": report.state,
            "changes": report.changes,
            "problems": [problem.message for problem in report.diagnostics],
            "seconds": round(report.seconds, 3),
            "unreachable": report.unreachable or None,
            "trial_seconds": report.trial_seconds,
        }
        for report in reports
    ]
    return json.dumps({"hosts": hosts}, indent=2)


INTERRUPTED = "SD533"


def interrupted(name: str, title: str) -> Diagnostic:
    """The error for a step that Ctrl-C or SIGTERM ended; `with_state` adds what became of it."""
    return Diagnostic(INTERRUPTED, f"interrupted on `{name}` during `{title}`")


def with_state(problem: Diagnostic, state: State) -> Diagnostic:
    """The error for an interrupted step, with the final state of the host."""
    if problem.code != INTERRUPTED:
        return problem
    became = {
        "unchanged": "the host is unchanged",
        "rolled back": "sipdeploy restored the previous release",
        "applied": "the host has the new release",
        "on trial": "the host has the new release, on trial",
        "unknown": "the state of the host is unknown",
    }
    return replace(problem, message=f"{problem.message}; {became[state]}")


def mixed(name: str, applied: Sequence[str]) -> Diagnostic:
    """The error after `--all-or-nothing` if a confirmation failed after another had succeeded."""
    return Diagnostic(
        "SD534",
        f"the hosts differ: {', '.join(applied)} confirmed the new release, `{name}` did not",
        notes=("a confirmed release is not undone automatically",),
        help=f"`sipdeploy apply {name}` completes the change; to take it back: "
        + ", ".join(f"`sipdeploy rollback {each}`" for each in applied),
    )


def new_lists(name: str) -> Diagnostic:
    """The note of a plan, which otherwise changes nothing on the host."""
    return Diagnostic(
        "SD520",
        f"plan updated the package lists of `{name}` (`apt-get update`), which were old",
        severity="note",
        notes=("it has changed nothing else there",),
    )


def drift(name: str, path: str) -> Diagnostic:
    """The error for a managed file that somebody edited on the host."""
    place = local_place(path)
    keep = f", or move the edit to {place}: sipdeploy never touches that file" if place else ""
    return Diagnostic(
        "SD526",
        f"{path} on `{name}` was edited since the last apply",
        notes=("nothing was changed",),
        help=f"`sipdeploy plan {name}` shows the edit; add `--overwrite` to replace it{keep}",
    )


def left_alone(name: str, plan: Plan) -> tuple[Diagnostic, ...]:
    """The warnings for edits that a change of only users leaves alone."""
    return tuple(
        Diagnostic(
            "SD526",
            f"{edit.path} on `{name}` was edited since the last apply; this apply changes only "
            "users and leaves the edit alone",
            severity="warning",
            notes=(
                (f"its reload of {edit.service} brings the edit into use, if it is not yet",)
                if edit.reload in plan.reloads
                else ()
            ),
            help=f"`sipdeploy plan {name}` shows the edit; `sipdeploy apply {name} --overwrite` "
            "replaces it",
        )
        for edit in plan.left
    )


def overwritten(name: str, path: str) -> Diagnostic:
    """The warning for an edit that `--overwrite` replaces."""
    return Diagnostic(
        "SD526", f"apply overwrites an edit of {path} on `{name}`", severity="warning"
    )


def on_trial(name: str, facts: Facts, *, severity: Severity = "error") -> Diagnostic:
    """The error of an apply, or the warning of a plan, while a release is on trial."""
    left = minutes(facts.trial_seconds or 0)
    return Diagnostic(
        "SD542",
        f"a release is on trial on `{name}`: it goes back by itself in {left}",
        severity=severity,
        notes=(f"owner of the trial: {facts.run_owner}, with `{facts.lock_purpose}`",),
        help=f"to keep it, `sipdeploy confirm {name}`; to go back now, add `--undo`",
    )


def back_on_trial(name: str, numbers: str) -> Diagnostic:
    """The warning of a trial that removes users or changes passwords."""
    return Diagnostic(
        "SD543",
        f"this trial removes or disconnects {numbers} on `{name}`: if it goes back, their old "
        "passwords are valid again",
        severity="warning",
        help=f"confirm it soon, or `sipdeploy apply {name}` without `--try`",
    )


def back_when_watched(name: str, numbers: str) -> Diagnostic:
    """The warning of a watched apply that removes users or changes passwords."""
    return Diagnostic(
        "SD543",
        f"this apply removes or disconnects {numbers} on `{name}`: if the watch takes it back, "
        "their old passwords are valid again",
        severity="warning",
        help=f"after that, `sipdeploy apply {name}` without `--watch` disconnects them for good",
    )


def without_return(warnings: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """The warnings of a confirmed release, which does not go back any more."""
    return tuple(warning for warning in warnings if warning.code != "SD543")


def reason(outcome: SelfRollback) -> str:
    """Why a host has rolled back by itself."""
    reasons = {
        "timer": "nobody confirmed the apply in time",
        "trial": "nobody confirmed its trial in time",
        "boot": "it booted during the apply",
    }
    return reasons.get(outcome.how, outcome.how)


def self_rollback(name: str, outcome: SelfRollback) -> Diagnostic:
    """The warning after a rollback by the host itself."""
    when = dt.datetime.fromtimestamp(outcome.when, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Diagnostic(
        "SD527",
        f"`{name}` restored the previous release by itself at {when}: {reason(outcome)}",
        severity="warning",
        notes=(f"owner of the apply: {outcome.owner}",),
    )


def undone(name: str, facts: Facts) -> Diagnostic:
    """The warning after sipdeploy undid an unfinished apply."""
    return Diagnostic(
        "SD527",
        f"an earlier apply to `{name}` did not finish; sipdeploy has undone it",
        severity="warning",
        notes=(f"owner of that apply: {facts.run_owner}",) if facts.run_owner else (),
    )


def unfinished(name: str, facts: Facts) -> Diagnostic:
    """The warning of plan about an unfinished apply."""
    undo = "the host's own timer will" if facts.has_timer else "the next apply will"
    return Diagnostic(
        "SD527",
        f"an apply to `{name}` is unfinished; {undo} undo it",
        severity="warning",
        notes=(f"owner of that apply: {facts.run_owner}",) if facts.run_owner else (),
    )
