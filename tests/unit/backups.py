"""Backups for the tests, honest and hostile."""

import gzip
import io
import tarfile

from sipdeploy.keeping import archive
from sipdeploy.keeping.archive import Origin

BOX = "/var/spool/asterisk/voicemail/default/1002"
ORIGIN = Origin(
    host="sip1",
    domain="sip.example.test",
    release=3,
    created="2026-11-27T01:00:00Z",
    sipdeploy="1.0",
    versions={"os": "Debian", "kamailio": "6.1.5", "asterisk": "22.10.1"},
)
KEY = b'#!substdef "!DIALOG_KEY!' + b"0f" * 32 + b'!g"\n'
MESSAGE = {
    f"{BOX}/INBOX/msg0000.txt": b"[message]\norigmailbox=1002\nduration=4\n",
    f"{BOX}/INBOX/msg0000.wav": b"RIFF" + bytes(range(256)) * 300,
    f"{BOX}/greet.wav": b"RIFF greeting",
    f"{BOX}/secret.conf": b"[general]\nsecret = 4711\n",
}
LOCAL = {
    "/etc/kamailio/local.cfg": b"route[LOCAL_REQUEST] {\n}\n",
    "/etc/asterisk/local/extensions.conf": b"[shop]\n",
}
SMALL = {**MESSAGE, "/etc/kamailio/dialog-key.cfg": KEY, **LOCAL}


def members(contents, *, mode=0o640, owner="root:root"):
    """A ustar as a host sends it, opened by the strict reader."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, content in contents.items():
            info = tarfile.TarInfo(path.removeprefix("/"))
            info.size, info.mode = len(content), mode
            info.uname, info.gname = owner.split(":")
            tar.addfile(info, io.BytesIO(content))
    buffer.seek(0)
    return archive.members(buffer)


def packed(contents, *, mode=0o640, owner="root:root", origin=ORIGIN) -> bytes:
    """A backup with these files."""
    buffer = io.BytesIO()
    writer = archive.Writer(buffer)
    for member in members(contents, mode=mode, owner=owner):
        writer.add(f"/{member.name}", member)
    writer.finish(origin)
    return buffer.getvalue()


def hostile(*blocks: bytes) -> bytes:
    """A compressed file of these blocks, and the end of a tar."""
    return gzip.compress(b"".join(blocks) + bytes(1024))


def entry(name: str, content: bytes = b"", **fields: object) -> bytes:
    """A header with any fields, and the content."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    header = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    return header + content + bytes(-len(content) % 512)


def read(data: bytes) -> archive.Backup:
    return archive.read(io.BytesIO(data))
