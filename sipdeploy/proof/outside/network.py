"""The steps below SIP: name, port, certificate, WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import errno
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from sipdeploy.diagnostics import Diagnostic, count, has_errors, listed
from sipdeploy.proof.outside.step import Step, StepFailed, StepSkipped, cause
from sipdeploy.services import certificates
from sipdeploy.sip.wire import HandshakeRefusedError, Wire

if TYPE_CHECKING:
    from sipdeploy.inventory.site import HostEntry
    from sipdeploy.proof.outside.subject import Subject

CONNECT_SECONDS = 3.0
# Names that no public DNS has (RFC 2606, RFC 6761): tests and documentation use them.
RESERVED = ("test", "example", "invalid", "localhost", "example.com", "example.net", "example.org")
WRONG_PATH = "/sipdeploy-proof-of-a-wrong-path"
FOREIGN_ORIGIN = "https://sipdeploy-proof.invalid"
FORBIDDEN = 403
TOO_MANY = 503


# --- DNS -----------------------------------------------------------------------------------------


async def dns(subject: Subject) -> str:
    """The name of the domain leads to this host, and to no stranger."""
    domain = subject.site.domain
    found = await resolved(domain)
    if not found:
        if is_reserved(domain):
            raise StepSkipped(f"`{domain}` is reserved for tests; the address is the inventory's")
        raise StepFailed(
            Diagnostic(
                "SD901",
                f"`{domain}` has no address in DNS, as seen from this machine",
                help=f"add the record `{domain}. A {subject.entry.media_address}` to your DNS; "
                f"`getent ahosts {domain}` shows when this machine sees it",
            )
        )
    problems = tuple(misled(subject, found))
    if problems:
        raise StepFailed(*problems)
    return f"{domain} is {', '.join(found)}"


async def resolved(name: str) -> tuple[str, ...]:
    """The addresses of a name as this machine sees them, IPv4 first; empty if it has none."""
    loop = asyncio.get_running_loop()
    try:
        rows = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # gaierror is an OSError
        return ()
    found = dict.fromkeys(str(row[4][0]) for row in rows)
    return tuple(sorted(found, key=lambda address: ":" in address))


def is_reserved(domain: str) -> bool:
    """Whether a domain is reserved, so that its absence from DNS is no fault."""
    return any(domain == name or domain.endswith(f".{name}") for name in RESERVED)


def misled(subject: Subject, found: Iterable[str]) -> Iterator[Diagnostic]:
    """SD901 if the name does not lead to the host, or leads elsewhere too.

    The inventory may know no IPv6 address of a host: the next step tries those of DNS.
    """
    domain, entries = subject.site.domain, subject.site.hosts
    own = addresses_of(subject.entry)
    strangers = [
        address
        for address in found
        if address not in {each for entry in entries.values() for each in addresses_of(entry)}
        and ":" not in address
    ]
    if not own & set(found):
        yield Diagnostic(
            "SD901",
            f"`{domain}` leads to {listed(found)}, not to `{subject.name}` "
            f"({subject.entry.media_address})",
            help=f"change the record to `{domain}. A {subject.entry.media_address}`, or correct "
            f"`hosts.{subject.name}.public_address`",
        )
    elif strangers:
        yield Diagnostic(
            "SD901",
            f"`{domain}` also leads to {listed(strangers)}, which no host of the inventory has",
            help="phones pick any of these addresses: delete the others from your DNS",
        )


def addresses_of(entry: HostEntry) -> set[str]:
    """The numeric addresses of a host in the inventory."""
    given = (entry.address, entry.public_address, entry.private_address)
    return {address for address in given if address and _is_numeric(address)}


def _is_numeric(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


# --- TCP -----------------------------------------------------------------------------------------


async def tcp(subject: Subject) -> str:
    """The port of the phones can be reached, at every address that a phone may choose."""
    targets = await targets_of(subject)
    reasons = await asyncio.gather(*(knock(address, subject.port) for address in targets))
    reached = [address for address, reason in zip(targets, reasons, strict=True) if not reason]
    problems = [
        _closed(subject, address, reason)
        for address, reason in zip(targets, reasons, strict=True)
        if reason and not (reached and reason == UNROUTED)
    ]
    if not reached:
        raise StepFailed(*problems)
    subject.address = reached[0]
    subject.warnings["TCP"] = tuple(problems)
    return f"port {subject.port} at {', '.join(reached)}"


UNROUTED = "this machine has no route to it"


async def targets_of(subject: Subject) -> tuple[str, ...]:
    """The addresses to try: of DNS those that may be the host's, else that of the inventory."""
    entry, own = subject.entry, addresses_of(subject.entry)
    found = await resolved(subject.site.domain)
    others = {
        address
        for name, other in subject.site.hosts.items()
        if name != subject.name
        for address in addresses_of(other)
    }
    if own & set(found):
        return tuple(a for a in found if a in own or (":" in a and a not in others))
    if entry.is_local:
        return (entry.private_address or entry.media_address,)
    return (entry.media_address,)


async def knock(address: str, port: int) -> str:
    """Open and close a connection; why that failed, or empty."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        return f"nothing answers within {CONNECT_SECONDS:g} s"
    except OSError as failure:
        if failure.errno in {errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
            return UNROUTED
        return cause(failure)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return ""


def _closed(subject: Subject, address: str, reason: str) -> Diagnostic:
    port, name = subject.port, subject.name
    if "refused" in reason:
        why = f"on `{name}`: `ss -ltn 'sport = :{port}'` shows whether Kamailio listens there; "
        why += "a firewall that rejects gives the same answer"
    elif reason == UNROUTED:
        why = "run this command on a machine that can reach the host"
    else:
        why = f"open TCP {port} to everyone in your provider's firewall, and in any firewall "
        why += f"between; on `{name}`: `nft list ruleset` shows the host's own rules"
    # phones fall back to IPv4 where IPv6 does not answer
    is_spare = ":" in address and address != subject.entry.media_address
    return Diagnostic(
        "SD902",
        f"port {port} of `{name}` cannot be reached at {address}: {reason}",
        severity="warning" if is_spare else "error",
        help=why,
    )


# --- TLS -----------------------------------------------------------------------------------------


async def tls(subject: Subject) -> str:
    """The certificate that the port serves is one that browsers take, and the deployed one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # judged below, with the reasons
    context.verify_mode = ssl.CERT_NONE
    domain = subject.site.domain
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(
                subject.address, subject.port, ssl=context, server_hostname=domain
            )
    except (OSError, EOFError, TimeoutError) as failure:
        raise StepFailed(
            Diagnostic(
                "SD903",
                f"port {subject.port} of `{subject.name}` does not speak TLS: {_reason(failure)}",
                help=subject.logs,
            )
        ) from failure
    subject.chain = chain_of(writer.get_extra_info("ssl_object"))
    version = writer.get_extra_info("ssl_object").version()
    writer.transport.abort()
    await asyncio.sleep(0)
    problems = tuple(judged(subject, dt.datetime.now(dt.UTC)))
    if has_errors(problems):
        raise StepFailed(*problems)
    subject.warnings["TLS"] = problems
    served = certificates.parse(subject.chain[0], b"")
    assert served is not None  # noqa: S101 - `judged` has read it
    days = (served.not_after - dt.datetime.now(dt.UTC)).days
    seen = f"{version}, {count(len(subject.chain), 'certificate')}"
    return f"{seen}, valid for {count(days, 'more day')}"


def _reason(failure: Exception) -> str:
    return cause(failure) or f"no answer within {CONNECT_SECONDS:g} s"


def chain_of(secured: Any) -> tuple[bytes, ...]:
    """The certificates that the server sent, in PEM, the server's first.

    Python 3.13 has a method for it, earlier versions the same below the surface.
    """
    if hasattr(secured, "get_unverified_chain"):
        chain = secured.get_unverified_chain() or ()
    else:
        chain = secured._sslobj.get_unverified_chain() or ()  # noqa: SLF001
    return tuple(
        (
            ssl.DER_cert_to_PEM_cert(each) if isinstance(each, bytes) else each.public_bytes()
        ).encode()
        for each in chain
    )


def judged(subject: Subject, now: dt.datetime) -> Iterator[Diagnostic]:
    """What browsers say to the chain."""
    name = f"the certificate that port {subject.port} of `{subject.name}` serves"
    site, pem = subject.site, b"".join(subject.chain)
    for problem in certificates.served(name, pem, site.domain, now):
        yield certificates.for_provider(problem, site.tls)


async def deployed(subject: Subject) -> str:
    """The served certificate is the one in the file of the host."""
    if not subject.fingerprint:
        raise StepSkipped("the certificate on the host is not known")
    served = certificates.parse(subject.chain[0], b"")
    if served is None or served.fingerprint != subject.fingerprint:
        raise StepFailed(
            Diagnostic(
                "SD904",
                f"port {subject.port} of `{subject.name}` serves another certificate than "
                f"{certificates.PATH}",
                notes=(
                    f"served: {served.fingerprint if served else 'none'}",
                    f"deployed: {subject.fingerprint}",
                ),
                help=f"on `{subject.name}`: run `kamcmd tls.reload`; if that does not help, "
                "another machine or a proxy answers in its place",
            )
        )
    return f"SHA-256 {served.fingerprint[:16]}..., as in {certificates.PATH}"


# --- WebSocket -----------------------------------------------------------------------------------


async def wss(subject: Subject) -> str:
    """The handshake of a phone succeeds."""
    if problem := await _opens(subject):
        raise StepFailed(problem)
    return f"wss://{subject.site.domain}:{subject.port}/ws"


async def refusals(subject: Subject) -> str:
    """A handshake with a wrong path, or from a page of elsewhere, is refused."""
    checks = [_refuses(subject, path=WRONG_PATH)]
    if subject.site.origins:
        checks.append(_refuses(subject, origin=FOREIGN_ORIGIN))
    problems = [each for each in await asyncio.gather(*checks) if each]
    if problems:
        raise StepFailed(*problems)
    return f"refused{', a foreign origin too' if subject.site.origins else ''}"


def _wire(subject: Subject, **changes: str) -> Wire:
    return Wire(
        address=(subject.address, subject.port),
        server_name=subject.site.domain,
        path=changes.get("path", "/ws"),
        origin=changes.get("origin", subject.origin),
        tls=subject.tls,
        open_seconds=CONNECT_SECONDS,
    )


async def _opens(subject: Subject) -> Diagnostic | None:
    wire = _wire(subject)
    try:
        await wire.open()
    except OSError as failure:
        is_full = isinstance(failure, HandshakeRefusedError) and failure.status == TOO_MANY
        full = f"too many connections that have not registered; on `{subject.name}`: "
        full += "`kamcmd htable.dump unproven` counts them"
        return Diagnostic(
            "SD905",
            f"`{subject.name}` does not open the WebSocket at /ws: {_reason(failure)}",
            help=full if is_full else subject.logs,
        )
    await wire.close()
    return None


async def _refuses(subject: Subject, **changes: str) -> Diagnostic | None:
    """SD905 if the handshake succeeds with a path or an origin that the host must refuse."""
    wire = _wire(subject, **changes)
    try:
        await wire.open()
    except OSError:
        return None
    await wire.close()
    (key, value) = next(iter(changes.items()))
    return Diagnostic(
        "SD905",
        f"`{subject.name}` opens a WebSocket for the {key} `{value}`, which it must refuse",
        help=f"`sipdeploy plan {subject.name}` shows what differs on the host; "
        f"`sipdeploy apply {subject.name}` restores its configuration",
    )


STEPS: tuple[Step, ...] = (
    Step(name="DNS", level="ports", run=dns, code="SD901"),
    Step(name="TCP", level="ports", run=tcp, code="SD902"),
    Step(name="TLS", level="ports", run=tls, code="SD903", needs=("TCP",)),
    Step(name="WebSocket", level="ports", run=wss, code="SD905", needs=("TLS",)),
    Step(name="wrong path", level="ports", run=refusals, code="SD905", needs=("WebSocket",)),
)
