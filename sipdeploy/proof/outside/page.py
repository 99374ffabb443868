"""The step of the web phone: browsers get the page, protected, and strangers get no names."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.proof.outside.network import CONNECT_SECONDS, chain_of
from sipdeploy.proof.outside.step import PAGE, Step, StepFailed, cause
from sipdeploy.services import certificates, nginx
from sipdeploy.services.phone import page

if TYPE_CHECKING:
    from sipdeploy.proof.outside.subject import Subject

OK, UNAUTHORIZED = 200, 401


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """The answer of the web server; `fields` has its header fields, by names in small letters."""

    status: int
    fields: dict[str, str]
    chain: tuple[bytes, ...]


async def served(subject: Subject) -> str:
    """The page comes with the certificate of the phones and all its protection."""
    root, names = await asyncio.gather(_get(subject, "/"), _get(subject, "/contacts.json"))
    fingerprints = [_fingerprint(chain) for chain in (root.chain, subject.chain)]
    if fingerprints[0] != fingerprints[1]:
        raise _failed(
            subject,
            "SD724",
            f"serves another certificate than port {subject.port}",
            f"on `{subject.name}`: `systemctl reload {nginx.UNIT}`",
        )
    wanted = page.headers(subject.site, is_local=False)
    wrong = [name for name, value in wanted.items() if root.fields.get(name.lower()) != value]
    if root.status != OK or wrong:
        answer = f"answers {root.status}" if root.status != OK else f"sends another {wrong[0]}"
        raise _failed(subject, "SD725", f"{answer} for the page", _restore(subject))
    if names.status != UNAUTHORIZED:
        message = f"answers {names.status} to a stranger who asks for the contacts"
        raise _failed(subject, "SD726", message, _restore(subject))
    return f"{page.address(subject.site)}; the contacts need a password"


def _restore(subject: Subject) -> str:
    name = subject.name
    return f"`sipdeploy plan {name}` shows what differs on the host, or a proxy between changes it"


def _failed(subject: Subject, code: str, message: str, advice: str) -> StepFailed:
    assert subject.site.phone is not None  # noqa: S101 - else the step is not taken
    where = f"port {subject.site.phone.port} of `{subject.name}`"
    return StepFailed(Diagnostic(code, f"{where} {message}", help=advice))


def _fingerprint(chain: tuple[bytes, ...]) -> str:
    parsed = certificates.parse(chain[0], b"") if chain else None
    return parsed.fingerprint if parsed else ""


async def _get(subject: Subject, path: str) -> _Answer:
    """Ask for a path; SD723 if the port does not answer as a web server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the certificate is compared with the judged one
    context.verify_mode = ssl.CERT_NONE
    phone, domain = subject.site.phone, subject.site.domain
    assert phone is not None  # noqa: S101 - else the step is not taken
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                subject.address, phone.port, ssl=context, server_hostname=domain
            )
            chain = chain_of(writer.get_extra_info("ssl_object"))
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: {domain}\r\nConnection: close\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
    except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError) as failure:
        reason = cause(failure) or f"no answer within {CONNECT_SECONDS:g} s"
        raise _failed(
            subject,
            "SD723",
            f"does not answer browsers: {reason}",
            f"open TCP {phone.port} to everyone in your provider's firewall; on "
            f"`{subject.name}`: `journalctl -b -u {nginx.UNIT}` shows why it does not answer",
        ) from failure
    writer.transport.abort()
    first, *lines = head.decode("latin-1").split("\r\n")
    status = first.split(" ")[1:2]
    rows = (line.partition(":") for line in lines)
    return _Answer(
        status=int(status[0]) if status and status[0].isdecimal() else 0,
        fields={name.strip().lower(): value.strip() for name, mark, value in rows if mark},
        chain=chain,
    )


def _has_page(subject: Subject) -> bool:
    return subject.site.phone is not None


STEPS: tuple[Step, ...] = (
    Step(name=PAGE, level="ports", run=served, code="SD723", needs=("TLS",), is_wanted=_has_page),
)
