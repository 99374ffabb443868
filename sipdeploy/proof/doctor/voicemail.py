"""The rungs of voicemail: a mailbox, room for messages, and the service that plays them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic, count
from sipdeploy.proof.doctor import causes
from sipdeploy.proof.doctor.audio import no_sounds
from sipdeploy.proof.doctor.causes import WHOLE_ASTERISK
from sipdeploy.proof.doctor.inside import ASTERISK
from sipdeploy.proof.doctor.rung import Case, Rung, broken
from sipdeploy.proof.outside.step import StepFailed, StepSkipped

if TYPE_CHECKING:
    from sipdeploy.proof.outside.subject import Subject

SPOOL = "/var/spool/asterisk"
MESSAGES = 100  # of a mailbox, as voicemail.conf of sipdeploy says
ROOM_KIB = 2048  # three minutes of a message are 3 MB in wav, 300 KB in gsm
MODULE = "app_voicemail.so"


def no_mailbox(case: Case) -> Diagnostic | None:
    """The user, or everybody, has no mailbox in the inventory."""
    users = case.subject.site.users
    if case.number and not users[case.number].voicemail:
        return broken(
            "SD937",
            f"{case.number} has no mailbox",
            f"`users.{case.number}.voicemail` is not set in the inventory",
            fix=f"write `voicemail: true` for {case.number}, then `sipdeploy apply {case.name}`",
        )
    return None


def no_service(case: Case) -> Diagnostic | None:
    """There are mailboxes, and no number to hear messages."""
    site = case.subject.site
    boxes = [number for number, user in site.users.items() if user.voicemail]
    if not boxes or any(item.kind == "voicemail" for item in site.services.values()):
        return None
    return broken(
        "SD937",
        f"nobody can hear messages: the inventory has {count(len(boxes), 'mailbox')[:-1]}"
        f"{'es' if len(boxes) > 1 else 'x'} and no service of the kind voicemail",
        fix=f"write `services: {{6001: {{kind: voicemail}}}}`, then `sipdeploy apply {case.name}`",
    )


def module_missing(case: Case) -> Diagnostic | None:
    """Asterisk runs without voicemail."""
    running = case.inside.lines("running") if case.inside else []
    if not running or MODULE in running or not _has_boxes(case):
        return None
    changed = causes.EDITED_ASTERISK(case)
    return broken(
        "SD937",
        f"Asterisk on `{case.name}` runs without `{MODULE}`: no mailbox answers",
        *(changed.notes if changed else ()),
        fix=f"on `{case.name}`: `asterisk -rx 'module load {MODULE}'` says why it cannot be loaded"
        + (f"; `sipdeploy apply {case.name} --overwrite` restores the files" if changed else ""),
    )


def _has_boxes(case: Case) -> bool:
    return any(user.voicemail for user in case.subject.site.users.values())


def disk_full(case: Case) -> Diagnostic | None:
    """There is no room for messages: space, or names of files."""
    rows = [line.split() for line in case.inside.lines("spool")] if case.inside else []
    sizes = [row for row in rows if len(row) > 5 and row[3].isdigit()]  # noqa: PLR2004 - df
    for row, what, least in zip(sizes, ("KiB", "files"), (ROOM_KIB, 16), strict=False):
        if int(row[1] if row[1].isdigit() else 0) and int(row[3]) < least:
            return broken(
                "SD937",
                f"the disk of {SPOOL} on `{case.name}` is full: no message can be left",
                f"room for {row[3]} {what} on {row[5]}",
                fix=f"on `{case.name}`: `du -xh {SPOOL} | sort -h | tail`; delete messages, or "
                "enlarge the disk",
            )
    return None


def not_writable(case: Case) -> Diagnostic | None:
    """The account of Asterisk may not write there."""
    lines = case.inside.lines("spool") if case.inside else []
    if not lines or "writable" in lines or case.facts is None or not _has_boxes(case):
        return None
    if not case.inside.daemons[ASTERISK].is_active:  # type: ignore[union-attr]
        return None
    return broken(
        "SD937",
        f"Asterisk on `{case.name}` may not write to {SPOOL}: no message can be left",
        f"as the account `asterisk`, `test -w {SPOOL}/voicemail/default` fails",
        fix=f"on `{case.name}`: `chown -R asterisk:asterisk {SPOOL}`",
    )


def box_full(case: Case) -> Diagnostic | None:
    """A mailbox accepts no further message."""
    rows = [line.split() for line in case.inside.lines("boxes")] if case.inside else []
    full = {row[0]: int(row[1]) for row in rows if row[1:] and row[1].isdigit()}
    full = {number: waiting for number, waiting in full.items() if waiting >= MESSAGES}
    mine = [number for number in full if case.number in ("", number)]
    if not mine:
        return None
    return broken(
        "SD937",
        f"the mailbox of {mine[0]} is full: it accepts no message",
        f"{full[mine[0]]} messages in INBOX, of at most {MESSAGES}",
        fix=f"{mine[0]} calls the voicemail service and deletes messages (7 after each)",
    )


def greeting_missing(case: Case) -> Diagnostic | None:
    """The sounds that a mailbox plays are missing."""
    if case.inside is None or not _has_boxes(case) or "vm-intro" in case.inside.lines("sounds"):
        return None
    found = no_sounds(case)
    if found is not None:
        return found
    return broken(
        "SD937",
        f"the sounds of voicemail are missing on `{case.name}`: callers hear no greeting",
        "there is no vm-intro below /usr/share/asterisk/sounds",
        fix=f"on `{case.name}`: `apt-get install --reinstall asterisk-core-sounds-en-gsm`",
    )


async def service(case: Case) -> str:
    """The voicemail service answers a probe, which has no mailbox there."""
    number = _service(case.subject)
    phone = await case.subject.phone(0)
    outgoing = await phone.invite(number)
    reply = await outgoing.final()
    if reply.status != 200:  # noqa: PLR2004
        message = f"the service {number} on `{case.name}` answers with {reply.status} "
        raise StepFailed(Diagnostic("SD908", message + reply.reason, help=case.subject.logs))
    await outgoing.ack()
    await outgoing.bye()
    return f"{number} answers"


def _service(subject: Subject) -> str:
    for number, item in subject.site.services.items():
        if item.kind == "voicemail":
            return number
    raise StepSkipped("the inventory has no service of the kind voicemail")


RUNGS: tuple[Rung, ...] = (
    Rung(
        name="mailboxes",
        topic="voicemail",
        code="SD937",
        faults=(
            *(no_mailbox, no_service, module_missing, disk_full, not_writable, box_full),
            greeting_missing,
        ),
    ),
    Rung(
        name="voicemail",
        topic="voicemail",
        code="SD937",
        ask=service,
        causes=(WHOLE_ASTERISK, module_missing, causes.EDITED_ASTERISK, causes.EDITED_KAMAILIO),
    ),
)
