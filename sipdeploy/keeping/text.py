"""Backups for people. Pure."""

from collections.abc import Iterator, Sequence

from sipdeploy.diagnostics import count
from sipdeploy.keeping import known
from sipdeploy.keeping.archive import Backup, Entry

MEGABYTE = 1_000_000


def amounts(entries: Sequence[Entry]) -> Iterator[str]:
    """`5 messages in the mailboxes of 2 users`, and the like."""
    messages = [e for e in entries if e.kind.name == "message" and e.path.endswith(".txt")]
    greetings = [e for e in entries if e.kind.name == "greeting"]
    for found, noun in ((messages, "message"), (greetings, "greeting")):
        if found:
            users = {entry.path.removeprefix(known.BOXES).split("/")[1] for entry in found}
            yield f"{count(len(found), noun)} of {count(len(users), 'user')}"


def summary(backup: Backup) -> str:
    """Where a backup comes from, and what it has, in two lines."""
    origin = backup.origin
    versions = ", ".join(f"{key} {value}" for key, value in origin.versions.items() if value)
    parts = list(amounts(backup.files))
    parts += [kind for kind in (known.DIALOG, "certificate", "call log") if backup.of(kind)]
    if backup.of(known.ACME):
        parts.append("certificate and account of certbot")
    if local := backup.of(known.LOCAL):
        parts.append(count(len(local), "local file"))
    size = f"{count(len(backup.files), 'file')}, {backup.size / MEGABYTE:.1f} MB"
    return (
        f"{origin.host}  {origin.domain}, release {origin.release}, {origin.created}; {versions}\n"
        f"  {', '.join(parts) or 'nothing'}; {size}"
    )


def listing(backup: Backup) -> str:
    """The files of a backup: mode, owner, size and path of each."""
    rows = [(f"{e.mode:04o}", e.owner, str(e.size), e.path) for e in backup.files]
    owner, size = (max((len(row[i]) for row in rows), default=0) for i in (1, 2))
    return "\n".join(f"{r[0]}  {r[1]:<{owner}}  {r[2]:>{size}}  {r[3]}" for r in rows)
