"""Reads certificates and checks them for a domain; creates none and stores no key.

The only user of `cryptography`, on which Paramiko depends.
"""

import datetime as dt
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.diagnostics.escapes import shown_line
from sipdeploy.inventory import reading
from sipdeploy.inventory.files import expanded
from sipdeploy.inventory.site import Site

if TYPE_CHECKING:
    from cryptography import x509

PATH = "/etc/kamailio/tls/server.crt"
KEY_PATH = "/etc/kamailio/tls/server.key"
RENEW_BEFORE = dt.timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate, and whether its key belongs to it; `fingerprint` is SHA-256 in hex."""

    names: tuple[str, ...]
    not_before: dt.datetime
    not_after: dt.datetime
    key_matches: bool
    issuer: str = ""
    is_self_signed: bool = False
    fingerprint: str = ""

    def covers(self, domain: str) -> bool:
        """Whether a browser accepts it for the domain (RFC 6125: a `*` matches one label)."""
        wild = "*." + domain.partition(".")[2]
        return domain in self.names or wild in self.names


def parse(certificate: bytes, public_key: bytes) -> Certificate | None:
    """Read a PEM chain (server certificate first) and a PEM public key; None if it is no chain."""
    try:
        leaf = _chain(certificate)[0]
        return Certificate(
            names=_names(leaf),
            not_before=leaf.not_valid_before_utc,
            not_after=leaf.not_valid_after_utc,
            key_matches=_spki(leaf.public_key()) == _public_spki(public_key),
            issuer=shown_line(leaf.issuer.rfc4514_string()),
            is_self_signed=leaf.issuer == leaf.subject,
            fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
        )
    except (ValueError, IndexError, UnsupportedAlgorithm):
        return None


def _chain(pem: bytes) -> "list[x509.Certificate]":
    """The certificates of a PEM text, in order. Raises ValueError for other text."""
    from cryptography import x509  # noqa: PLC0415 - see `prepare`

    return x509.load_pem_x509_certificates(pem)


def prepare() -> None:
    """Import the X.509 module, which is slow, while the facts of a host are read."""
    from cryptography import x509  # noqa: F401, PLC0415


def _names(leaf: "x509.Certificate") -> tuple[str, ...]:
    from cryptography import x509  # noqa: PLC0415 - see `prepare`

    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return ()
    return tuple(
        shown_line(name.lower()) for name in extension.value.get_values_for_type(x509.DNSName)
    )


def _spki(key: object) -> bytes:
    encoding = serialization.Encoding.DER
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public: bytes = key.public_bytes(encoding, form)  # type: ignore[attr-defined]
    return public


def _public_spki(pem: bytes) -> bytes | None:
    try:
        return _spki(serialization.load_pem_public_key(pem))
    except (ValueError, UnsupportedAlgorithm):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """The checked contents of the files that `tls` names."""

    pair: tuple[bytes, bytes] | None = None
    acme_root: bytes | None = None
    dns_credentials: bytes | None = field(default=None, repr=False)


def read_material(site: Site, folder: Path) -> Material:
    """Read the files that `tls` names, relative to `folder`.

    Raises InvalidFiles (SD602 to SD606) with all problems.
    """
    if site.tls.provider == "files":
        return Material(pair=read_files(site, folder))
    if site.tls.provider == "self-signed":
        return Material()
    problems: list[Diagnostic] = []
    contents: dict[str, bytes | None] = {}
    for key in ("ca_bundle", "dns_credentials"):
        name = getattr(site.tls, key)
        contents[key] = _read(folder / expanded(name)) if name else None
        if name and contents[key] is None:
            problems += _missing((key,), (name,), (None,))
    root = contents["ca_bundle"]
    if root is not None and not _is_pem(root):
        fix = f"`openssl x509 -in {site.tls.ca_bundle} -noout -text` shows what it is"
        problems.append(
            Diagnostic("SD602", f"`{site.tls.ca_bundle}` is not a PEM certificate", help=fix)
        )
    if problems:
        raise InvalidFiles(problems)
    return Material(acme_root=root, dns_credentials=contents["dns_credentials"])


def _is_pem(content: bytes) -> bool:
    try:
        return bool(_chain(content))
    except ValueError:
        return False


def read_files(site: Site, folder: Path) -> tuple[bytes, bytes]:
    """The certificate and key of provider `files`, relative to `folder`, checked.

    Raises InvalidFiles (SD602 to SD606) with all problems: unreadable, not PEM, wrong key, wrong
    domain, wrong order, wrong dates.
    """
    named = (site.tls.certificate or "", site.tls.private_key or "")
    certificate, key = (_read(folder / expanded(name)) for name in named)
    problems = list(_missing(("certificate", "private_key"), named, (certificate, key)))
    if certificate is not None and key is not None:
        now = dt.datetime.now(dt.UTC)
        problems = list(_faults(named, (certificate, key), site.domain, now))
    if problems:
        raise InvalidFiles(problems)
    return certificate or b"", key or b""


def _read(path: Path) -> bytes | None:
    try:
        return reading.regular(path, reading.MOST_OF_A_KEY).raw
    except OSError:
        return None


def _missing(
    keys: Iterable[str], names: Iterable[str], contents: Iterable[bytes | None]
) -> Iterator[Diagnostic]:
    for key, name, content in zip(keys, names, contents, strict=True):
        if content is None:
            yield Diagnostic(
                "SD602",
                f"`tls.{key}` names `{name}`, which is not readable",
                help=f"`ls -l {name}`",
            )


def _faults(
    names: tuple[str, str],
    contents: tuple[bytes, bytes],
    domain: str,
    now: dt.datetime,
) -> Iterator[Diagnostic]:
    public = _public_half(contents[1])
    if public is None:
        fix = f"`openssl pkey -in {names[1]} -out {names[1]}` removes a passphrase"
        yield Diagnostic(
            "SD602", f"`{names[1]}` is not a PEM private key without a passphrase", help=fix
        )
    certificate = parse(contents[0], public or b"")
    if certificate is None:
        fix = f"`openssl x509 -in {names[0]} -noout -text` shows what it is"
        yield Diagnostic("SD602", f"`{names[0]}` is not a PEM certificate", help=fix)
        return
    if public is not None and not certificate.key_matches:
        fix = "set `tls.private_key` to the key that this certificate was issued for"
        yield Diagnostic("SD603", f"`{names[1]}` is not the key of `{names[0]}`", help=fix)
    if not certificate.covers(domain):
        covered = ", ".join(certificate.names) or "no name"
        fix = f"get a certificate for `{domain}`, or correct `domain`"
        yield Diagnostic("SD604", f"`{names[0]}` is for {covered}, not for `{domain}`", help=fix)
    for number in _out_of_order(contents[0]):
        fix = "put the server certificate first, then the one that signed it, and so on"
        yield Diagnostic(
            "SD606",
            f"certificate {number} in `{names[0]}` did not sign the one before it",
            help=fix,
        )
    if now > certificate.not_after:
        yield Diagnostic(
            "SD605", f"`{names[0]}` expired on {certificate.not_after:%Y-%m-%d}", help="renew it"
        )
    elif now < certificate.not_before:
        when = f"{certificate.not_before:%Y-%m-%d %H:%M} UTC"
        yield Diagnostic(
            "SD605", f"`{names[0]}` is valid only from {when}", help="check this machine's clock"
        )


def _out_of_order(chain: bytes) -> Iterator[int]:
    """The positions, from 2, of certificates that did not issue the one before them."""
    for number, (one, above) in enumerate(itertools.pairwise(_chain(chain)), 2):
        try:
            one.verify_directly_issued_by(above)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            yield number


def _public_half(key: bytes) -> bytes | None:
    try:
        private = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
