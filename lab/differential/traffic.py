"""Sends mutants to a host, and evaluates how its two daemons parsed them.

The corpus determines the content of the messages; this module determines their order.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed

from lab.differential.corpus import Mutant, Names
from lab.differential.line import Line, Office, contact, finals, settled, transmit, written
from sipdeploy.sip.digest import Challenge, Credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lab.differential.line import Build
    from lab.differential.probe import Probe, Reading
    from sipdeploy.sip.phone import Call, Phone, Reply, Request

ME, OTHER, THIRD = "1001", "1002", "1003"
KINDS = {"invite": 62, "register": 4, "takeover": 10, "subscribe": 8, "dialog": 10, "message": 4}
_EXAMPLES = 20
_WIDTH = 24  # concurrent connections
_TOGETHER = 60  # concurrent connections that send one REGISTER each
_SETTLE_SECONDS = 0.7
_IDENTITY = re.compile(
    r"(?i)(from|f|p-asserted-identity|p-preferred-identity|remote-party-id)\s*:"
)
_METHODS = ("BYE", "INFO", "UPDATE", "BYE", "INVITE")  # inside a dialog
_SDP = (
    "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference in the identity of a sender or in the destination of a message."""

    kind: str
    title: str
    what: str
    sent: bytes


@dataclass(slots=True)
class Report:
    """The result of a run. `read` counts the messages that the daemons parsed as a request."""

    sent: Counter[str] = field(default_factory=Counter)
    read: Counter[str] = field(default_factory=Counter)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    def table(self) -> str:
        """Return a table of the counts, with an example of each kind of difference."""
        lines = [f"{'':12}{'sent':>8}{'read':>8}{'different':>11}"]
        different = Counter(finding.kind for finding in self.findings)
        for kind in (*self.sent, "?"):
            row = self.sent[kind], self.read[kind], different[kind]
            if any(row):
                lines.append("{:12}{:8}{:8}{:11}".format(kind, *row))
        lines.append(f"{self.sent.total()} messages in {self.seconds:.0f} s")
        examples = {(found.kind, found.title, found.what): found for found in self.findings}
        for (kind, title, what), found in itertools.islice(examples.items(), _EXAMPLES):
            lines += ["", f"{kind}: {title}", f"  {what}", f"  {found.sent[:600]!r}"]
        return "\n".join(lines)


@dataclass(slots=True)
class Fuzzer:
    """One run against one host."""

    probe: Probe
    office: Office
    mode: str
    progress: Callable[[str], None] = lambda _: None
    report: Report = field(default_factory=Report)

    async def run(self, mutants: Iterable[Mutant], *, batch: int = 1500) -> Report:
        """Send all mutants in batches, and evaluate each batch."""
        began = time.monotonic()
        waiting: list[Mutant] = []
        for mutant in mutants:
            waiting.append(mutant)
            if len(waiting) == batch:
                await self._batch(waiting)
                waiting = []
        if waiting:
            await self._batch(waiting)
        self.report.seconds = time.monotonic() - began
        return self.report

    async def _batch(self, mutants: list[Mutant]) -> None:
        self.office.sent.forget()
        kinds: dict[str, list[Mutant]] = {kind: [] for kind in KINDS}
        for mutant in mutants:
            kinds[mutant.kind].append(mutant)
        self.report.sent.update({kind: len(found) for kind, found in kinds.items()})
        await self._invites(kinds["invite"])
        await self._registers(kinds["register"], ME)
        await self._registers(kinds["takeover"], OTHER)
        await self._subscribes(kinds["subscribe"])
        await self._dialogs(kinds["dialog"])
        await self._texts(kinds["message"])
        sent, read = self.report.sent.total(), self.report.read.total()
        self.progress(
            f"{self.mode}: {sent} sent, {read} read, {len(self.report.findings)} differences"
        )

    def _found(self, found: tuple[Mutant | None, bytes], what: str) -> None:
        mutant, raw = found
        kind, title = (mutant.kind, mutant.title) if mutant else ("?", "unknown")
        self.report.findings.append(Finding(kind, title, what, raw))

    def _names(self, other: str) -> Names:
        return Names(other, self.office.domain)

    async def _pool(self, build: Build, mutants: list[Mutant], names: Names) -> list[Reply]:
        """Send the mutants over many connections, one at a time on each; return the replies."""
        waiting, answered = list(reversed(mutants)), []

        async def work() -> None:
            async with Line(self.office, ME, build) as line:
                while waiting:
                    mutant = waiting.pop()
                    for reply in await line.turn(mutant, names):
                        self.report.statuses[mutant.kind, reply.status] += 1
                        answered.append(reply)

        await asyncio.gather(*(work() for _ in range(min(_WIDTH, len(mutants)))))
        await asyncio.sleep(_SETTLE_SECONDS)
        return answered

    # --- INVITE: the dialplan logs the caller ----------------------------------------------------

    async def _invites(self, mutants: list[Mutant]) -> None:
        await self._pool(_invite, mutants, self._names(OTHER))
        for reading in self.probe.readings():
            self._judge(reading)

    def _judge(self, reading: Reading) -> None:
        found = self.office.sent.of_call(f"{reading.kamailio_call_id} {reading.call_id}")
        if found[0] is None and reading.caller in {OTHER, ME} and not reading.differences:
            return  # the first request of a connection, or the victim's call
        self.report.read["invite"] += 1
        differences = reading.differences
        if found[0] and reading.caller not in {ME, ""}:
            differences.append(f"caller: Kamailio took {ME} for {reading.caller!r}")
        if differences:
            self._found(found, "; ".join(differences))

    # --- REGISTER: the tables show the number of a connection ------------------------------------

    async def _registers(self, mutants: list[Mutant], number: str) -> None:
        """REGISTER a number with the password of ME, each over a separate connection."""
        for start in range(0, len(mutants), _TOGETHER):
            piece = mutants[start : start + _TOGETHER]
            phones = [self.office.phone(ME) for _ in piece]
            try:
                await asyncio.gather(*(phone.connect() for phone in phones))
                login = await self._login(phones[0])
                sent = [
                    await self._register(phone, number, mutant, login)
                    for phone, mutant in zip(phones, piece, strict=True)
                ]
                await asyncio.gather(*(settled(phone) for phone in phones))
                self._judge_tables(phones, sent)
            finally:
                await asyncio.gather(*(_dropped(phone) for phone in phones))

    async def _login(self, phone: Phone) -> Credentials:
        """Return credentials whose nonce is valid for all connections from this address."""
        reply = await phone.exchange(_register(phone, ME))
        login = Credentials(user=phone.number, password=phone.password)
        login.accept(Challenge.from_reply(reply))
        return login

    async def _register(
        self, phone: Phone, number: str, mutant: Mutant, login: Credentials
    ) -> tuple[Mutant, bytes]:
        request = _register(phone, number)
        request = phone.changed(request, dict([login.header("REGISTER", request.uri)]))
        names = self._names(ME if number == OTHER else OTHER)
        raw = written(self.office.sent, phone, request, mutant, names)
        with contextlib.suppress(ConnectionClosed):
            await transmit(phone, raw, login.count)
        return mutant, raw

    def _judge_tables(self, phones: list[Phone], sent: list[tuple[Mutant, bytes]]) -> None:
        for phone, (mutant, _) in zip(phones, sent, strict=True):
            self.report.statuses.update((mutant.kind, reply.status) for reply in finals(phone))
        tables = ("proven", "registered") if self.mode == "asterisk" else ("proven",)
        for table in tables:
            numbers = self.probe.numbers(table)
            for phone, found in zip(phones, sent, strict=True):
                number = numbers.get(_port(phone))
                self.report.read[found[0].kind] += number is not None and table == "proven"
                if number not in {None, ME}:
                    self._found(found, f"{ME}'s password proved {number!r} ({table})")

    # --- SUBSCRIBE: Asterisk lists the subscriptions ---------------------------------------------

    async def _subscribes(self, mutants: list[Mutant]) -> None:
        """A mutant must subscribe only to the presence of OTHER, never to a mailbox."""
        notified = await self.office.registered(ME)  # it answers each NOTIFY
        await self._pool(_subscribe, mutants, self._names(THIRD))
        for endpoint, resource, event, call_id in self.probe.subscriptions():
            found = self.office.sent.of_call(call_id)
            self.report.read["subscribe"] += found[0] is not None
            if found[0] and (endpoint, resource, event) != (ME, OTHER, "presence"):
                self._found(found, f"{ME} watches {event} of {resource!r} as {endpoint!r}")
        await _dropped(notified)

    # --- inside a dialog: a request must not reach another call ----------------------------------

    async def _dialogs(self, mutants: list[Mutant]) -> None:
        """Send requests of an ended call: no other call may answer them."""
        victim, phone = await self.office.registered(OTHER), await self.office.registered(ME)
        try:
            theirs, own = await _called(victim), await _called(phone)
            await own.bye()
            methods = itertools.cycle(_METHODS)
            replies = await self._pool(
                lambda line: line.in_dialog(own.established, next(methods)),
                mutants,
                _names_of(theirs, self.office.domain),
            )
            self.report.read["dialog"] += len(replies)
            for reply in replies:
                if reply.status // 100 == 2 and reply.call_id != own.established.call_id:  # noqa: PLR2004
                    found = self.office.sent.by_branch.get(reply.branch, (None, b""))
                    self._found(found, f"answered {reply.status} in the call {reply.call_id!r}")
            if OTHER not in self.probe.callers():
                self._found((None, b""), f"the call of {OTHER} has ended, or has another caller")
        finally:
            await asyncio.gather(_dropped(victim), _dropped(phone))
            self.probe.hang_up()

    # --- MESSAGE: phones use the last header of a name -------------------------------------------

    async def _texts(self, mutants: list[Mutant]) -> None:
        callee = await self.office.registered(OTHER)
        callee.wire.keep_trace = True
        await self._pool(_text, mutants, self._names(THIRD))
        for traced in callee.trace:
            if traced.direction == "received" and traced.text.startswith("MESSAGE"):
                self._judge_text(traced.text)
        await _dropped(callee)

    def _judge_text(self, text: str) -> None:
        self.report.read["message"] += 1
        head = re.sub(r"\r\n[ \t]+", " ", text.partition("\r\n\r\n")[0])
        said = [line for line in re.split(r"[\r\n]", head) if _IDENTITY.match(line)]
        if wrong := [line for line in said if f"<sip:{ME}@" not in line]:
            call_id = re.search(r"fuzz-\d+", head)
            found = self.office.sent.of_call(call_id[0] if call_id else "")
            self._found(found, f"a phone would show {wrong[0]!r}")


def _invite(phone: Phone) -> Request:
    return phone.initial("INVITE", "6001", {"body": _SDP})


def _text(phone: Phone) -> Request:
    return phone.initial("MESSAGE", OTHER, {"body": "hello"})


def _subscribe(phone: Phone) -> Request:
    headers = {"Event": "presence", "Accept": "application/pidf+xml", "Expires": "60"}
    headers["Contact"] = contact(ME)  # a registered Contact, for the NOTIFY
    return phone.initial("SUBSCRIBE", OTHER, {"headers": headers})


def _register(phone: Phone, number: str) -> Request:
    headers = {"Contact": contact(number), "Expires": "600"}
    options = {"headers": headers, "from_user": number, "to_user": number}
    return phone.initial("REGISTER", f"sip:{phone.domain}", options)  # type: ignore[arg-type]


async def _called(phone: Phone) -> Call:
    """Return an answered call to 6002, which does not hang up."""
    call = await phone.invite("6002")
    await call.answered()
    await call.ack()
    return call


def _names_of(call: Call, domain: str) -> Names:
    """Return the placeholders with which an attacker refers to a call."""
    dialog = call.established
    return Names(
        OTHER,
        domain,
        dialog_call_id=f"Call-ID: {dialog.call_id}",
        dialog_from=f"From: {dialog.local}",
        dialog_to=f"To: {dialog.remote}",
    )


def _port(phone: Phone) -> int:
    name = phone.wire.connection.transport.get_extra_info("sockname")
    return int(name[1]) if name else 0


async def _dropped(phone: Phone) -> None:
    with contextlib.suppress(ConnectionError, ConnectionClosed):
        phone.wire.reset()
        await phone.close()
