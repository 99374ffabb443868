"""Checks a host key against known_hosts files (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT); writes none.

Pure, except for `read` and `is_revoked`.
"""

import base64
import binascii
import fnmatch
import hashlib
import hmac
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from sipdeploy.inventory.files import expanded

SSH_PORT = 22
KRL = b"SSHKRL\n\0"  # the first bytes of a key revocation list


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a known_hosts file."""

    names: str
    key_type: str
    key: bytes
    marker: str
    file: str
    line: int

    @property
    def place(self) -> str:
        """`file:line`, to find it with an editor."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The state of a host key, and the entry that decides it.

    The entry of an unknown key is a certificate authority (`@cert-authority`), if there is one.
    """

    state: Literal["known", "unknown", "changed", "revoked"]
    entry: Entry | None = None


def read(files: Iterable[str]) -> tuple[Entry, ...]:
    """Every entry of the files that can be read; a missing file has none."""
    entries: list[Entry] = []
    for file in files:
        try:
            text = expanded(file).read_text(errors="replace")
        except OSError:
            continue
        entries += parse(text, file)
    return tuple(entries)


def parse(text: str, file: str) -> list[Entry]:
    """Read the lines of one file; skips invalid lines, as OpenSSH does."""
    numbered = enumerate(text.splitlines(), start=1)
    entries = (_entry(line, file, number) for number, line in numbered)
    return [entry for entry in entries if entry is not None]


def _entry(text: str, file: str, line: int) -> Entry | None:
    fields = text.split()
    if not fields or fields[0].startswith("#"):
        return None
    marker = fields.pop(0) if fields[0].startswith("@") else ""
    if len(fields) < 3:  # noqa: PLR2004 - names, type, key
        return None
    try:
        key = base64.b64decode(fields[2], validate=True)
    except binascii.Error:
        return None
    return Entry(names=fields[0], key_type=fields[1], key=key, marker=marker, file=file, line=line)


def is_revoked(file: str, key_type: str, key: bytes) -> bool:
    """Whether RevokedHostKeys (a list of keys, or a KRL of ssh-keygen(1)) has a key.

    Every key counts as revoked if the file cannot be read, as with OpenSSH.
    """
    path = expanded(file)
    try:
        content = path.read_bytes()
    except OSError:
        return True
    if not content.startswith(KRL):
        lines = "".join(f"x {line}\n" for line in content.decode(errors="replace").splitlines())
        return any(entry.key == key for entry in parse(lines, file))
    with tempfile.NamedTemporaryFile("w", prefix="sipdeploy-key-") as public:
        public.write(f"{key_type} {base64.b64encode(key).decode()}\n")
        public.flush()
        argv = ["ssh-keygen", "-Q", "-f", str(path), public.name]
        done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, check=False)  # noqa: S603 - no shell
    return done.returncode != 0


def entry_name(host: str, port: int) -> str:
    """The name of a host in the file: `[host]:port`, or `host` for port 22."""
    name = host.lower()
    return name if port == SSH_PORT else f"[{name}]:{port}"


def entries_for(entries: Iterable[Entry], name: str) -> tuple[Entry, ...]:
    """The entries whose names match, with revoked keys and certificate authorities."""
    return tuple(entry for entry in entries if _matches(entry.names, name))


def judge(entries: Sequence[Entry], key_type: str, key: bytes) -> Verdict:
    """Check a key against the entries of its host.

    A key of another type than the known ones counts as changed, because sipdeploy asked the host
    for the known types first.
    """
    plain = [entry for entry in entries if entry.marker in ("", "@revoked")]
    same = [entry for entry in plain if entry.key == key]
    for entry in same:
        if entry.marker == "@revoked":
            return Verdict(state="revoked", entry=entry)
    if same:
        return Verdict(state="known", entry=same[0])
    trusted = [entry for entry in plain if not entry.marker]
    if not trusted:
        authorities = [entry for entry in entries if entry.marker == "@cert-authority"]
        return Verdict(state="unknown", entry=next(iter(authorities), None))
    of_type = [entry for entry in trusted if entry.key_type == key_type]
    return Verdict(state="changed", entry=(of_type or trusted)[0])


def fingerprint(key: bytes) -> str:
    """`SHA256:...` as ssh-keygen -l prints it."""
    digest = base64.b64encode(hashlib.sha256(key).digest()).decode()
    return "SHA256:" + digest.rstrip("=")


def _matches(names: str, name: str) -> bool:
    """Whether a comma-separated list names the host; a matching `!pattern` excludes it."""
    matches = False
    for pattern in names.split(","):
        if pattern.startswith("!"):
            if _fits(pattern[1:], name):
                return False
        elif _fits(pattern, name):
            matches = True
    return matches


def _fits(pattern: str, name: str) -> bool:
    if pattern.startswith("|1|"):
        return _hash_fits(pattern, name)
    literal = pattern.lower().replace("[", "[[]")  # only * and ? are wild here
    return fnmatch.fnmatchcase(name, literal)


def _hash_fits(pattern: str, name: str) -> bool:
    parts = pattern.split("|")
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in parts[2:4])
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), digest)
