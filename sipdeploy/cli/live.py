"""Applies changes of users to hosts, and reads the state of users from them. Imported late."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from sipdeploy.cli import run
from sipdeploy.cli.output import is_terminal
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.editing import problems
from sipdeploy.editing.tables import Contact, Presence
from sipdeploy.host import host_failed, run_script, sections
from sipdeploy.host.connection import connect
from sipdeploy.host.incoming import number, whole
from sipdeploy.inventory import secret
from sipdeploy.plan import effects
from sipdeploy.proof.probe_numbers import is_probe
from sipdeploy.services import kamailio
from sipdeploy.transaction import Options

if TYPE_CHECKING:
    from sipdeploy.cli.session import Session
    from sipdeploy.diagnostics import Diagnostic
    from sipdeploy.editing.draft import Draft
    from sipdeploy.host.connection import Ahead
    from sipdeploy.inventory.site import Site
    from sipdeploy.plan import Plan
    from sipdeploy.plan.preview import Present
    from sipdeploy.transaction import Report

LOCK_WAIT_SECONDS = 120
ASK_SECONDS = 180


def bring(
    session: Session,
    done: Draft,
    names: Sequence[str],
    ahead: Ahead,
    *,
    purpose: str,
    is_agreed: bool,
    before: Mapping[str, str],
) -> int:
    """Apply a written change to the named hosts; the exit code.

    `before` has the HA1 of the users before the change. If it could not be applied, prints how to
    continue.
    """
    agreement = Agreement(session, done)
    new = secret.credentials(done.after.site.domain, done.passwords)
    options = Options(
        folder=done.after.directory,
        connect=ahead.take,
        purpose=purpose,
        agree=None if is_agreed else agreement,
        expects=partial(is_expected, kamailio.credential_sums(done.before.site.domain, before)),
        prove=new,
        verify="ports",
        foreign="refuse",
        lock_wait_seconds=LOCK_WAIT_SECONDS,
    )
    code, reports = run.apply(session, done.after, names, options, form="")
    left = [each for each in reports if each.state != "applied" and (each.changes or each.errors)]
    if code or agreement.is_refused:
        shown = [*agreement.missing, *_unfinished(done, left, is_yes=not sys.stdin.isatty())]
        session.output.problems(shown)
        return code or (HostFailed.exit_code if agreement.missing else 0)
    return 0


def is_expected(before: bytes, plan: Plan) -> bool:
    """Whether a plan changes only users, and the host has exactly the users of before."""
    digest = hashlib.sha256(before).hexdigest()
    sums = [change.before for change in plan.changes if change.path == kamailio.SUMS]
    return plan.is_only_data and all(each == digest for each in sums)


def _unfinished(done: Draft, reports: Sequence[Report], *, is_yes: bool) -> Iterator[Diagnostic]:
    """How to complete the change on hosts that do not have it, by what stopped it there."""
    edited, foreign = (
        {r.host for r in reports if any(p.code in codes for p in r.errors)}
        for codes in (("SD526",), ("SD553", "SD554"))
    )
    failed = {r.host for r in reports if r.errors} - edited - foreign
    for names, option in (
        ([r.host for r in reports if not r.errors], ""),  # another host stopped them
        (sorted(failed), ""),
        (sorted(edited), " --overwrite"),
        (sorted(foreign), " --take-over"),
    ):
        if names:
            options = f"{option}{' --yes' if is_yes else ''}"
            yield problems.unfinished(done.path, names, options)


class Agreement:
    """Asks about a plan that does more than the command says; without a terminal, refuses it."""

    def __init__(self, session: Session, done: Draft) -> None:
        self._session = session
        before, after = done.before.site.users, done.after.site.users
        self._own = {*done.passwords, *(number for number in before if number not in after)}
        self.is_refused = False
        self.missing: list[Diagnostic] = []

    def __call__(self, plans: Mapping[str, tuple[Plan, Present]]) -> bool:
        """Whether to carry the plans out."""
        reasons = {name: self._reason(*each) for name, each in plans.items()}
        if not any(reasons.values()):
            return True
        if is_terminal(sys.stdin):
            self.is_refused = not self._session.output.agree(plans)
        else:
            self.is_refused = True
            self.missing = [
                problems.unexpected(name, reason) for name, reason in reasons.items() if reason
            ]
        return not self.is_refused

    def _reason(self, plan: Plan, present: Present) -> str:
        """What the plan does beyond the command; empty if nothing."""
        if not plan.is_only_data:
            return "would change more than users"
        others = sorted(effects.user_effects(plan, present).disconnected - self._own)
        return f"would also disconnect {effects.named(others)}" if others else ""


def delete_boxes(site: Site, names: Sequence[str], numbers: Sequence[str]) -> None:
    """Delete the mailboxes of removed users; HostFailed (SD712)."""
    _clear(site, names, ("boxes", *numbers), ("SD712", "not all mailboxes were deleted"))


def end_calls(site: Site, names: Sequence[str], numbers: Sequence[str]) -> None:
    """Hang up the calls of removed users with services and mailboxes; HostFailed (SD713)."""
    _clear(site, names, ("calls", *numbers), ("SD713", "not all calls were ended"))


def _clear(
    site: Site, names: Sequence[str], argv: tuple[str, ...], problem: tuple[str, str]
) -> None:
    """Run a script on each host; `problem` is code and message of a failure."""
    code, message = problem
    for name in names:
        host = connect(name, site.hosts[name])
        try:
            result = run_script(host, argv)
        finally:
            host.close()
        if result.status:
            notes = tuple(result.output.splitlines()[-3:])
            raise host_failed(code, f"{message} on `{name}`", notes=notes)


def presences(
    site: Site, names: Sequence[str]
) -> tuple[dict[str, Presence], tuple[Diagnostic, ...]]:
    """Contacts and number of waiting messages on the named hosts, and why others did not answer.

    Has each user of the site, and then each number that is registered and not a user. It is empty
    if no host answered.
    """
    contacts: dict[str, list[Contact]] = {}
    messages: dict[str, int] = {}
    silent: list[Diagnostic] = []
    for name in names:
        try:
            answer = _ask(name, site)
        except HostFailed as failure:
            silent += failure.diagnostics
            continue
        for user, contact in _contacts(name, site.domain, answer.get("contacts", "")):
            contacts.setdefault(user, []).append(contact)
        for line in answer.get("messages", "").splitlines():
            box, _, count = line.partition("\t")
            messages[box] = messages.get(box, 0) + whole(count)
    if len(silent) >= len(names):
        return {}, tuple(silent)
    found = {
        number: Presence(
            contacts=tuple(contacts.get(number, ())), messages=messages.get(number, 0)
        )
        for number in dict.fromkeys((*site.users, *sorted(contacts)))
    }
    return found, tuple(silent)


def _ask(name: str, site: Site) -> Mapping[str, str]:
    data = "".join(f"{number}@{site.domain}\n" for number in site.users).encode()
    host = connect(name, site.hosts[name])
    try:
        result = run_script(host, ("registrations",), input=data, timeout_seconds=ASK_SECONDS)
    finally:
        host.close()
    answer = sections(result.text)
    if "failed" in answer:
        raise host_failed(
            "SD714",
            f"Kamailio on `{name}` does not answer, so the registrations are unknown",
            notes=tuple(answer["failed"].strip().splitlines()[:5]),
            help_=f"on `{name}`: `journalctl -b -u kamailio` shows why",
        )
    if "end" not in answer:
        raise host_failed("SD509", f"cannot read the registrations from `{name}`")
    return answer


def _contacts(name: str, domain: str, text: str) -> Iterator[tuple[str, Contact]]:
    """The contacts by number; one of another domain, by its address of record.

    Without the phones of a proof, which is under way at this moment.
    """
    for line in text.splitlines():
        row = line.split("\t")
        if len(row) == 4 and not is_probe(row[0].partition("@")[0]):  # noqa: PLR2004 - address, source, time, device
            registered = int(number(row[2], 0))
            contact = Contact(host=name, source=row[1], registered=registered, device=row[3])
            yield row[0].removesuffix(f"@{domain}"), contact
