"""The restore of a backup: an apply that takes from the backup what a host would make itself.

So a host that no apply has seen gets everything in one transaction, and needs no ACME request.
"""

import hashlib
import io
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from sipdeploy.diagnostics import Diagnostic, reason_of
from sipdeploy.diagnostics.errors import HostFailed, SipdeployError
from sipdeploy.facts import STATE, Facts, Query
from sipdeploy.host import Host, ask, host_failed, script_text
from sipdeploy.host.incoming import OnLine
from sipdeploy.inventory.site import Site
from sipdeploy.keeping import archive, backup, known
from sipdeploy.keeping.archive import DamagedError, Entry
from sipdeploy.keeping.material import Material
from sipdeploy.keeping.text import amounts
from sipdeploy.plan.desired import Desired
from sipdeploy.plan.goal import SiteGoal
from sipdeploy.transaction.lock import Owner
from sipdeploy.transaction.runner import Step

RECEIVE_SECONDS = 24 * 3600
PLACE_SECONDS = 600
MOST_NAMED = 10
MARGIN_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """The file of a backup, and what the host gets from it."""

    path: Path
    identities: tuple[Path, ...]
    material: Material
    replaces: bool = False  # messages that the backup does not have


class RestoreGoal:
    """The goal of a restore: the inventory, with the files of a backup. Also its steps."""

    def __init__(self, site_goal: SiteGoal, source: Source) -> None:
        self._goal = site_goal
        self._source = source
        self._takes_renewal = False

    def query(self, host: Host) -> Query:
        """As Goal.query."""
        return self._goal.query(host)

    def packages(self, name: str, facts: Facts) -> tuple[str, ...]:
        """As Goal.packages."""
        return self._goal.packages(name, facts)

    def needs_lists(self, facts: Facts) -> bool:
        """As Goal.needs_lists."""
        return self._goal.needs_lists(facts)

    def expected(self, facts: Facts) -> Facts:
        """The facts with the certificate of certbot that the backup brings."""
        material = self._source.material
        self._takes_renewal = material.takes(facts, self._goal.site, time.time())
        if not self._takes_renewal or material.renewal is None:
            return facts
        renewal = f"/etc/letsencrypt/renewal/{material.renewal.name}.conf"
        return replace(
            facts,
            lineage=material.renewal.lineage,
            renewals=tuple(dict.fromkeys((*facts.renewals, renewal))),
            records={},
        )

    def proven(self, desired: Desired) -> Site:
        """As Goal.proven."""
        return self._goal.proven(desired)

    def problems(self, name: str, facts: Facts) -> list[Diagnostic]:
        """As Goal.problems, and SD512 without space for the messages."""
        problems = self._goal.problems(name, facts)
        size = sum(entry.size for entry in self._source.material.messages)
        free = facts.free_bytes.get("/var", size + MARGIN_BYTES)
        if free < size + MARGIN_BYTES:
            problems.append(
                Diagnostic(
                    "SD512",
                    f"`{name}` has {free // MARGIN_BYTES * 64} MiB free in /var, and the messages "
                    f"of the backup have {size // 1024 // 1024} MiB",
                    help=f"make room on `{name}`: `du -xh /var | sort -h | tail`",
                )
            )
        return problems

    def desired(self, name: str, facts: Facts) -> Desired:
        """The desired state of an apply, with the files of the backup."""
        desired = self._goal.desired(name, facts)
        material = self._source.material
        brings = [*amounts(material.messages)]
        if self._takes_renewal:
            brings.append(f"the certificate for {self._goal.site.domain}, from the backup")
        return replace(
            desired, restored=material.files, refused=material.refused, brings=tuple(brings)
        )

    def receive(self, owner: Owner) -> Step:
        """As Keepsakes.receive."""
        return Receive(owner=owner, source=self._source, takes_renewal=self._takes_renewal)

    def place(self, owner: Owner) -> Step:
        """As Keepsakes.place."""
        return Place(owner=owner)

    def finish(self, owner: Owner) -> Step:
        """As Keepsakes.finish."""
        return Finish(owner=owner)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receive:
    """Streams the files to the host, beside the live ones; certbot's come into their place.

    `undo` deletes them, and restores what certbot had.
    """

    has_undo: ClassVar[bool] = True
    owner: Owner
    source: Source
    takes_renewal: bool
    state: str = STATE
    title: str = "receive the backup"

    def run(self, host: Host, on_line: OnLine) -> None:
        """HostFailed: SD744 if mailboxes have other messages, SD745 if the host cannot take it.

        InvalidFiles (SD741) if the file has changed since it was checked.
        """
        material = self.source.material
        renewal = material.renewal if self.takes_renewal else None
        own = small_tar({**material.contents, **(renewal.files if renewal else {})})
        program = script_text("messages")
        upload = Upload(self.source)
        names = (renewal.name, renewal.account) if renewal else ("", "")
        sizes = (str(len(own)), str(len(program)))
        try:
            sections = ask(
                host,
                ("receive", self.state, self.owner.name, *names, *sizes),
                ("SD745", "the backup cannot be received"),
                data=upload.after((own, program)),
                on_line=on_line,
                timeout_seconds=RECEIVE_SECONDS,
            )
        except HostFailed as failure:
            if upload.problem:
                raise upload.problem from failure
            raise
        if upload.problem:
            raise upload.problem
        others = sections.get("conflict", "").split()
        if others and not self.source.replaces:
            raise _conflict(host.name, others)

    def undo(self, host: Host) -> None:
        """Delete what was received, and restore what certbot had."""
        ask(
            host,
            ("unreceive", self.state),
            ("SD525", "what a restore has brought cannot be removed"),
            data=script_text("messages"),
        )


def _conflict(name: str, boxes: Sequence[str]) -> HostFailed:
    more = f" and {len(boxes) - MOST_NAMED} more" if len(boxes) > MOST_NAMED else ""
    return host_failed(
        "SD744",
        f"mailboxes on `{name}` have messages or greetings that the backup lacks: "
        f"{', '.join(boxes[:MOST_NAMED])}{more}",
        notes=("nothing was changed",),
        help_="add `--replace-voicemail` to delete them: the mailboxes become as in the backup",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Renames the mailboxes into place; `undo` restores those that were there."""

    has_undo: ClassVar[bool] = True
    owner: Owner
    state: str = STATE
    title: str = "restore the messages"

    def run(self, host: Host, on_line: OnLine) -> None:
        """HostFailed (SD745) if that fails."""
        _mailboxes(host, self, "place", on_line)

    def undo(self, host: Host) -> None:
        """Restore the earlier mailboxes."""
        _mailboxes(host, self, "back", lambda _: None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Deletes the mailboxes that were replaced, after the confirmation."""

    has_undo: ClassVar[bool] = False
    owner: Owner
    state: str = STATE
    title: str = "delete the replaced messages"

    def run(self, host: Host, on_line: OnLine) -> None:
        """A failure here undoes nothing: the next restore deletes them."""
        try:
            _mailboxes(host, self, "finish", on_line)
        except SipdeployError:
            on_line("the earlier mailboxes stay in /var/spool/asterisk/.sipdeploy-restore")

    def undo(self, host: Host) -> None:
        """Nothing."""


def _mailboxes(host: Host, step: Place | Finish, what: str, on_line: OnLine) -> None:
    ask(
        host,
        ("mailboxes", step.state, step.owner.name, what),
        ("SD745", "the mailboxes cannot be replaced"),
        data=script_text("messages"),
        on_line=on_line,
        timeout_seconds=PLACE_SECONDS,
    )


def small_tar(contents: Mapping[str, bytes]) -> bytes:
    """A tar of these files, path -> content; root alone can read them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, content in contents.items():
            info = tarfile.TarInfo(path[1:])
            info.size, info.mode = len(content), 0o600
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Upload:
    """The mailboxes of a backup as a tar in pieces, compared with what was checked before.

    The pieces end early at a difference; `problem` then says why.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.problem: SipdeployError | None = None

    def after(self, first: Iterable[bytes]) -> Iterator[bytes]:
        """These bytes, and then the tar."""
        yield from first
        try:
            yield from self._tar()
        except SipdeployError as failure:
            self.problem = failure
        except (DamagedError, OSError) as wrong:
            self.problem = backup.damaged(self._source.path, DamagedError(reason_of(wrong)))

    def _tar(self) -> Iterator[bytes]:
        wanted = {entry.path: entry for entry in self._source.material.messages}
        with backup.opened(self._source.path, self._source.identities) as stream:
            for member in archive.files_of(stream):
                entry = wanted.pop(member.name, None)
                if entry is None:
                    for _ in member.chunks():
                        pass
                    continue
                yield from _piece(entry, member)
        if wanted:
            raise DamagedError("it has changed since it was checked")
        yield bytes(2 * archive.BLOCK)


def _piece(entry: Entry, member: archive.Member) -> Iterator[bytes]:
    """The header and the content of one file of a mailbox."""
    if member.size != entry.size:
        raise DamagedError("it has changed since it was checked")
    info = tarfile.TarInfo(entry.path.removeprefix(f"{known.BOXES}/"))
    info.size, info.mode = entry.size, 0o660
    info.mtime = int(time.time())
    yield info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    digest = hashlib.sha256()
    for chunk in member.chunks():
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != entry.sha256:
        raise DamagedError("it has changed since it was checked")
    yield bytes(-entry.size % archive.BLOCK)
