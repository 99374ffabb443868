"""Reads certificates and checks them for a domain; creates none and stores no key.

Judges as browsers do, which refuse much that OpenSSL accepts. The only user of `cryptography`, on
which Paramiko depends.
"""

import contextlib
import datetime as dt
import itertools
import os
import re
import ssl
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.diagnostics.escapes import shown_line
from sipdeploy.inventory import reading
from sipdeploy.inventory.files import expanded
from sipdeploy.inventory.site import Site, Tls

if TYPE_CHECKING:
    from cryptography import x509

PATH = "/etc/kamailio/tls/server.crt"
KEY_PATH = "/etc/kamailio/tls/server.key"
T = TypeVar("T")
RENEW_BEFORE = dt.timedelta(days=30)
# Where systems keep the roots that they trust: Debian, Fedora, Alpine and macOS.
STORES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)
# What Chromium and Firefox both accept.
CURVES = ("secp256r1", "secp384r1")
HASHES = ("sha256", "sha384", "sha512")
RSA_BITS = 2048
MUST_STAPLE = "it demands a stapled OCSP response, which Kamailio does not send"
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate, and whether its key belongs to it; `fingerprint` is SHA-256 in hex."""

    names: tuple[str, ...]
    not_before: dt.datetime
    not_after: dt.datetime
    key_matches: bool
    subject: str = ""
    issuer: str = ""
    is_self_signed: bool = False
    fingerprint: str = ""
    faults: tuple[str, ...] = ()  # why browsers refuse it, whatever its names and dates

    @property
    def pairs(self) -> str:
        """The fingerprint as Firefox and openssl show it; Chromium shows it as it is stored."""
        return ":".join(re.findall("..", self.fingerprint)).upper()

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
            subject=shown_line(leaf.subject.rfc4514_string()),
            issuer=shown_line(leaf.issuer.rfc4514_string()),
            is_self_signed=leaf.issuer == leaf.subject,
            fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
            faults=(*_kind_faults(leaf), *((MUST_STAPLE,) if _has_must_staple(leaf) else ())),
        )
    except (ValueError, IndexError, UnsupportedAlgorithm):
        return None


def _chain(pem: bytes) -> "list[x509.Certificate]":
    """The certificates of a PEM text, in order. Raises ValueError for other text."""
    from cryptography import x509  # noqa: PLC0415 - see `prepare`

    chain = x509.load_pem_x509_certificates(pem)
    for each in chain:
        _ = (each.subject, each.issuer)  # the library reads them, and may reject them, only now
    return chain


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
    notes: tuple[str, ...] = ()  # warnings, printed with the plan


def read_material(site: Site, folder: Path) -> Material:
    """Read the files that `tls` names, relative to `folder`.

    Raises InvalidFiles (SD602 to SD606) with all problems.
    """
    if site.tls.provider == "files":
        pair = read_files(site, folder)
        return Material(pair=pair, notes=tuple(w.message for w in lint(site, folder)))
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
    if root is not None and site.tls.ca_bundle:
        problems += _strange_contents(site.tls.ca_bundle, root)
    if problems:
        raise InvalidFiles(problems)
    return Material(acme_root=root, dns_credentials=contents["dns_credentials"])


def _strange_contents(name: str, content: bytes) -> Iterator[Diagnostic]:
    """SD607 for a private key in a file of certificates, SD602 for a file without one."""
    if _PRIVATE_KEY.search(content):
        yield Diagnostic(
            "SD607",
            f"`{name}` contains a private key, and everyone on the host could read it there",
            help=f"keep only the certificates in it: `openssl storeutl -certs {name}` prints them",
        )
    try:
        is_pem = bool(_chain(content))
    except (ValueError, UnsupportedAlgorithm):
        is_pem = False
    if not is_pem:
        fix = f"`openssl x509 -in {name} -noout -text` shows what it is"
        yield Diagnostic("SD602", f"`{name}` is not a PEM certificate", help=fix)


def read_files(site: Site, folder: Path) -> tuple[bytes, bytes]:
    """The certificate and key of provider `files`, relative to `folder`, checked.

    Raises InvalidFiles (SD602 to SD609, SD616) with all errors; warnings are in Material.notes.
    """
    named = (site.tls.certificate or "", site.tls.private_key or "")
    certificate, key = (_read(folder / expanded(name)) for name in named)
    problems = list(_missing(("certificate", "private_key"), named, (certificate, key)))
    found = faults(site, certificate, key, dt.datetime.now(dt.UTC))
    problems += (problem for problem in found if problem.severity == "error")
    if problems:
        raise InvalidFiles(problems)
    return certificate or b"", key or b""


def _read(path: Path) -> bytes | None:
    try:
        return reading.regular(path, reading.MOST_OF_A_KEY).raw
    except OSError:
        return None


def _read_below(folder: Path, name: Path) -> bytes | None:
    try:
        return reading.below(folder, name, reading.MOST_OF_A_KEY).raw
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


def lint(site: Site, folder: Path, *, is_trusted: bool = True) -> Iterator[Diagnostic]:
    """The problems of the files of provider `files` that are there.

    A file may be missing, because a key need not be where the inventory is checked. Reads no file
    outside `folder` unless the inventory is trusted.
    """
    if site.tls.provider != "files":
        return
    certificate, key = (
        _read(folder / expanded(name)) if is_trusted else _read_below(folder, expanded(name))
        for name in (site.tls.certificate or "", site.tls.private_key or "")
    )
    yield from faults(site, certificate, key, dt.datetime.now(dt.UTC))


def faults(
    site: Site, certificate: bytes | None, key: bytes | None, now: dt.datetime
) -> Iterator[Diagnostic]:
    """Every problem of the two files of provider `files`; None for a file that is not there."""
    name, key_name = site.tls.certificate or "", site.tls.private_key or ""
    public = None if key is None else public_half(key)
    if key is not None and public is None:
        fix = f"`openssl pkey -in {key_name} -out {key_name}` removes a passphrase"
        yield Diagnostic(
            "SD602", f"`{key_name}` is not a PEM private key without a passphrase", help=fix
        )
    if certificate is None:
        return
    yield from _strange_contents(name, certificate)
    parsed = parse(certificate, public or b"")
    if parsed is None:
        return
    if public is not None and not parsed.key_matches:
        fix = "set `tls.private_key` to the key that this certificate was issued for"
        yield Diagnostic("SD603", f"`{key_name}` is not the key of `{name}`", help=fix)
    yield from refusals(f"`{name}`", certificate, site.domain, now)
    yield from _trust(f"`{name}`", _chain(certificate), now)


def refusals(name: str, pem: bytes, domain: str, now: dt.datetime) -> Iterator[Diagnostic]:
    """Why browsers refuse a certificate, whoever signed it; `name` says which it is."""
    parsed = parse(pem, b"")
    if parsed is None:
        yield Diagnostic("SD602", f"{name} is not a PEM certificate")
        return
    if not parsed.covers(domain):
        covered = ", ".join(parsed.names) or "no name: browsers ignore its Common Name"
        fix = f"get a certificate with the subjectAltName `DNS:{domain}`, or correct `domain`"
        yield Diagnostic("SD604", f"{name} is for {covered}, not for `{domain}`", help=fix)
    yield from _dates(name, _chain(pem)[0], now)
    for reason in parsed.faults:
        code, fix = "SD609", f"get one for a key on `{CURVES[0]}`, or for 2048 bits of RSA"
        if reason == MUST_STAPLE:
            code, fix = "SD616", "get it without this extension (must-staple)"
        yield Diagnostic(code, f"browsers refuse {name}: {reason}", help=fix)


def served(name: str, pem: bytes, domain: str, now: dt.datetime) -> Iterator[Diagnostic]:
    """Every problem that browsers have with the chain that a server sent."""
    yield from refusals(name, pem, domain, now)
    with contextlib.suppress(ValueError, UnsupportedAlgorithm, IndexError):
        yield from _trust(name, _chain(pem), now)


def for_provider(problem: Diagnostic, tls: Tls) -> Diagnostic:
    """A problem of a served chain, as severe as it is for the source of the certificate.

    A private ACME server sends every intermediate certificate, so that only the root is missing.
    Let's Encrypt signs none that ends at a private root: it comes from somebody in between.
    """
    if tls.provider == "letsencrypt" and tls.server is None and problem.code == "SD617":
        return replace(problem, severity="error")
    if tls.provider == "letsencrypt" and tls.server is not None and problem.code == "SD608":
        return replace(problem, severity="warning")
    return problem


def _dates(name: str, certificate: "x509.Certificate", now: dt.datetime) -> Iterator[Diagnostic]:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > end:
        yield Diagnostic("SD605", f"{name} expired on {end:%Y-%m-%d}", help="renew it")
    elif now < begin:
        yield Diagnostic(
            "SD605",
            f"{name} is valid only from {begin:%Y-%m-%d %H:%M} UTC",
            help="check this machine's clock: `timedatectl`",
        )


def _kind_faults(leaf: "x509.Certificate") -> Iterator[str]:
    """What the TLS of Chromium or of Firefox does not accept in a server's certificate."""
    from cryptography import x509  # noqa: PLC0415 - see `prepare`

    yield from _key_faults(leaf)
    usage = _extension(leaf, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        yield "its key usage lacks digitalSignature"
    purposes = _extension(leaf, x509.ExtendedKeyUsage)
    if purposes is not None and x509.oid.ExtendedKeyUsageOID.SERVER_AUTH not in purposes:
        yield "its extended key usage lacks serverAuth"
    if leaf.issuer == leaf.subject:
        return  # whoever trusts it has installed it
    yield from _signature_faults(leaf)
    basic = _extension(leaf, x509.BasicConstraints)
    if basic is not None and basic.ca:
        yield "it is the certificate of an authority (CA:TRUE), not of a server"


def _key_faults(leaf: "x509.Certificate") -> Iterator[str]:
    from cryptography import x509  # noqa: PLC0415 - see `prepare`

    key = leaf.public_key()
    if leaf.public_key_algorithm_oid == x509.PublicKeyAlgorithmOID.RSASSA_PSS:
        yield "its RSA key is for PSS only"
    elif isinstance(key, rsa.RSAPublicKey):
        if key.key_size < RSA_BITS:
            yield f"its RSA key has only {key.key_size} bits"
    elif not isinstance(key, ec.EllipticCurvePublicKey):
        kind = type(key).__name__.removesuffix("PublicKey").strip("_")
        yield f"its key is of the kind {kind}, neither ECDSA nor RSA"
    elif key.curve.name not in CURVES:
        yield f"its key is on the curve {key.curve.name}"


def _signature_faults(certificate: "x509.Certificate") -> Iterator[str]:
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        algorithm = None
    if algorithm is None:
        yield "its signature is neither ECDSA nor RSA"
    elif algorithm.name not in HASHES:
        yield f"its signature uses {algorithm.name.upper()}"


def _has_must_staple(leaf: "x509.Certificate") -> bool:
    from cryptography import x509  # noqa: PLC0415 - see `prepare`

    features = _extension(leaf, x509.TLSFeature)
    return features is not None and x509.TLSFeatureType.status_request in features


def _extension(certificate: "x509.Certificate", kind: type[T]) -> T | None:
    """The extension of a kind; None if it is missing, twice there, or unreadable."""
    from cryptography import x509  # noqa: PLC0415 - see `prepare`

    try:
        return certificate.extensions.get_extension_for_class(kind).value  # type: ignore[type-var]
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return None


def _trust(
    name: str, chain: "Sequence[x509.Certificate]", now: dt.datetime
) -> Iterator[Diagnostic]:
    """SD606 and SD608 if browsers cannot follow the chain; SD617 if it ends at a private root."""
    chain = tuple(dict.fromkeys(chain))
    roots = public_roots()
    path = _path(chain, roots)
    yield from _order(name, chain, path)
    for above in path[1:]:
        if above not in roots:
            shown = f"`{shown_line(above.subject.rfc4514_string())}` in {name}"
            yield from _dates(shown, above, now)
    for below in path[1:-1]:
        for reason in _signature_faults(below):
            who = shown_line(below.subject.rfc4514_string())
            fix = "get a chain that is signed with SHA-256"
            yield Diagnostic("SD609", f"browsers refuse `{who}` in {name}: {reason}", help=fix)
    last = path[-1]
    issuer = shown_line(last.issuer.rfc4514_string())
    if last.issuer != last.subject and last not in roots:
        yield Diagnostic(
            "SD608",
            f"{name} lacks the certificate of `{issuer}`, which signed "
            + ("the server's" if last is chain[0] else "the last one"),
            severity="error" if roots else "warning",
            notes=() if roots else ("this machine has no list of public roots: it may be one",),
            help="append it to the file (authorities call it intermediate, chain or CA bundle); "
            "the root of your own authority too",
        )
    elif last not in roots:
        what = "is self-signed" if last is chain[0] else f"ends at the root `{issuer}`"
        yield Diagnostic(
            "SD617",
            f"{name} {what}, which no browser has by itself",
            severity="warning",
            help="install it on every device with a phone, or use a public authority",
        )


def _order(
    name: str, chain: "Sequence[x509.Certificate]", path: "Sequence[x509.Certificate]"
) -> Iterator[Diagnostic]:
    for number in _out_of_order(chain):
        fix = "put the server certificate first, then the one that signed it, and so on"
        is_extra = any(each not in path for each in chain)
        yield Diagnostic(
            "SD606",
            f"certificate {number} in {name} did not sign the one before it",
            severity="error" if is_extra else "warning",
            help=fix,
        )


def _out_of_order(chain: "Sequence[x509.Certificate]") -> Iterator[int]:
    """The positions, from 2, of certificates that did not issue the one before them."""
    for number, (one, above) in enumerate(itertools.pairwise(chain), 2):
        if not _is_issued(one, above):
            yield number


def _is_issued(one: "x509.Certificate", above: "x509.Certificate") -> bool:
    try:
        one.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _path(
    chain: "Sequence[x509.Certificate]", roots: "Collection[x509.Certificate]"
) -> "list[x509.Certificate]":
    """The chain of issuers of the first certificate, as far as it can be followed."""
    path = [chain[0]]
    pool = [*(root for root in roots), *chain[1:]]
    while path[-1] not in roots and path[-1].issuer != path[-1].subject:
        issuers = (
            each
            for each in pool
            if each.subject == path[-1].issuer and each not in path and _is_authority(each)
        )
        above = next((each for each in issuers if _is_issued(path[-1], each)), None)
        if above is None:
            break
        path.append(above)
    return path


def _is_authority(certificate: "x509.Certificate") -> bool:
    """Whether it may sign others: CA:TRUE, or a root of version 1, which has no extensions."""
    from cryptography import x509  # noqa: PLC0415 - see `prepare`

    basic = _extension(certificate, x509.BasicConstraints)
    if basic is None:
        return certificate.version == x509.Version.v1
    return basic.ca


def public_roots() -> "Collection[x509.Certificate]":
    """The roots that this machine trusts, which are those of Mozilla on most systems.

    An administrator can add a root of their own to them. Empty if the machine has no such list.
    """
    places = (os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, *STORES)
    for place in places:
        raw = _read(Path(place)) if place else None
        if raw:
            return _roots(raw)
    return ()


@lru_cache(maxsize=1)
def _roots(raw: bytes) -> "frozenset[x509.Certificate]":
    from cryptography import x509  # noqa: PLC0415 - see `prepare`

    roots = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old roots have serial numbers that the library dislikes
        for block in _CERTIFICATE.findall(raw):
            with contextlib.suppress(ValueError):
                roots.append(x509.load_pem_x509_certificate(block))
    return frozenset(roots)


def public_half(key: bytes) -> bytes | None:
    """The public key of a PEM private key, as PEM; None if it is not readable."""
    try:
        private = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
