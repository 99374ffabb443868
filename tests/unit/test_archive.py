"""The file of a backup: what it keeps, and what a hostile one cannot do."""

import contextlib
import gzip
import io
import json
import tarfile
import time
import tracemalloc

import pytest
from backups import BOX, KEY, LOCAL, ORIGIN, SMALL, entry, hostile, packed, read
from hypothesis import given
from hypothesis import strategies as st

from sipdeploy.keeping import known
from sipdeploy.keeping.archive import DamagedError

GOOD = packed(SMALL)


@contextlib.contextmanager
def bounded():
    """Fail if the work takes more than 4 MiB of memory."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_a_backup_has_what_went_in():
    backup = read(GOOD)
    assert backup.origin == ORIGIN
    assert {e.path: e.size for e in backup.files} == {p: len(c) for p, c in SMALL.items()}
    assert {e.owner for e in backup.files} == {"root:root"}
    assert {e.mode for e in backup.files} == {0o640}
    assert backup.contents == {"/etc/kamailio/dialog-key.cfg": KEY, **LOCAL}


def test_a_backup_is_a_tar_that_other_programs_read():
    with tarfile.open(fileobj=io.BytesIO(GOOD), mode="r:gz") as tar:
        names = tar.getnames()
        manifest = json.loads(tar.extractfile("manifest.json").read())
    assert names == [*(path[1:] for path in SMALL), "manifest.json"]
    assert manifest["format"] == 1
    assert manifest["files"][0].keys() == {"path", "size", "mode", "owner", "sha256"}


def test_odd_names_of_accounts_do_not_spoil_a_backup():
    backup = read(packed(LOCAL, owner="J\u00f6rg Blau:a" + "b" * 31))
    assert {entry.owner for entry in backup.files} == {"J_xc3_xb6rg_Blau:a" + "b" * 31}


def test_equal_hosts_give_equal_backups():
    assert packed(SMALL) == GOOD


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(at, by):
    data = bytearray(GOOD)
    data[at] ^= by
    with contextlib.suppress(DamagedError):
        assert read(bytes(data)) == read(GOOD), "a byte of the gzip header may not matter"


@given(st.integers(0, len(GOOD) - 1))
def test_a_backup_that_ends_early_is_noticed(at):
    with pytest.raises(DamagedError):
        read(GOOD[:at])


@given(st.binary(max_size=3000))
def test_anything_else_is_refused(data):
    for content in (data, gzip.compress(data)):
        with pytest.raises(DamagedError):
            read(content)


PARTS = ("..", ".", "", "etc", "kamailio", "local.cfg", "shadow", "1002", "INBOX", "msg0000.txt")


@given(
    st.one_of(
        st.lists(st.sampled_from(PARTS), max_size=8).map("/".join),
        st.text(max_size=90).filter(lambda name: "\0" not in name),
        st.sampled_from(list(SMALL)).flatmap(
            lambda path: st.sampled_from([f"{path}/../../x", f"/{path}", f"{path}\n", f".{path}"])
        ),
    )
)
def test_only_known_paths_are_taken(name):
    with pytest.raises(DamagedError) as refused:
        read(hostile(entry(name, b"x")))
    reasons = ("no backup has", "not a regular", "header of its tar")
    is_known = known.kind_of(f"/{name}") is not None
    assert (
        is_known
        or str(refused.value).startswith("it has no manifest")
        or any(reason in str(refused.value) for reason in reasons)
    )


KINDS = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
FORMATS = (tarfile.DIRTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME)
HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK, b"9")


@pytest.mark.parametrize("kind", [*KINDS, *FORMATS, *HEADERS])
def test_only_regular_files_are_taken(kind):
    name = "etc/kamailio/local.cfg"
    block = entry(name, type=kind, linkname="/etc/shadow", devmajor=1, devminor=1)
    with pytest.raises(DamagedError, match="not a regular file"):
        read(hostile(block, entry(name, b"x")))


@pytest.mark.parametrize("size", [2**20 + 1, 2**33, 2**62, -1])
def test_a_size_above_the_limit_is_refused_unread(size):
    info = tarfile.TarInfo("etc/kamailio/local.cfg")
    info.size = max(0, size)
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict"))
    if size < 0:
        header[124:136] = b"\xff" * 12
        header[148:156] = b"%06o\0 " % (256 + sum(header[:148]) + sum(header[156:512]))
    with pytest.raises(DamagedError, match=r"has \d+ bytes|not a regular file"):
        read(hostile(bytes(header)))


def test_an_extended_header_does_not_fill_the_memory():
    """Python's tarfile would read all of it."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 2**30
    header = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")
    data = gzip.compress(header + bytes(2**26), 1)
    with bounded(), pytest.raises(DamagedError):
        read(data)


def test_zeros_without_end_are_refused():
    data = gzip.compress(bytes(2**26), 1)
    with bounded(), pytest.raises(DamagedError, match="data after its end"):
        read(data)


@pytest.mark.parametrize("part", [b"[],", b"{},", b"1,", b'"a",', b'"b" , '])
@pytest.mark.parametrize("files", [0, 200])
def test_a_manifest_needs_no_more_memory_than_its_files(part, files):
    blocks = [entry(f"{BOX[1:]}/INBOX/msg{n:04}.wav") for n in range(files)]
    content = b"[" + part * ((60_000 + 1000 * files) // len(part)) + b"1]"
    data = hostile(*blocks, entry("manifest.json", content))
    with bounded(), pytest.raises(DamagedError, match="its manifest has more"):
        read(data)
    long = hostile(*blocks, entry("manifest.json", b"[" + b" " * (70_000 + 1024 * files) + b"]"))
    with bounded(), pytest.raises(DamagedError, match=r"manifest.json has \d+ bytes"):
        read(long)


def test_a_manifest_of_the_longest_paths_is_accepted():
    box, folder = f"{known.BOXES}/{'9' * 15}", "F" * 20
    contents = {f"{box}/{folder}/msg{n:07}.opus": b"x" for n in range(3000)}
    longest = "/etc/letsencrypt/accounts/" + f"{'a' * 33}:12345/" * 2 + "0a" * 16 + "/meta.json"
    made = read(packed({**contents, longest: b"{}"}, owner=f"{'u' * 31}:{'g' * 31}"))
    assert len(made.files) == 3001


def test_a_large_message_passes_in_pieces():
    data = packed({f"{BOX}/INBOX/msg0000.wav": bytes(2**25)})
    with bounded():
        assert read(data).size == 2**25


@pytest.mark.parametrize(
    ("blocks", "reason"),
    [
        ((entry("etc/kamailio/local.cfg", b"x"),), "no manifest"),
        ((entry("etc/kamailio/local.cfg", b"x"),) * 2, "twice"),
        ((entry("manifest.json", b"{}"), entry("etc/kamailio/local.cfg", b"x")), "after its man"),
        ((entry("manifest.json", b"{}"),), "format is unknown"),
        ((entry("manifest.json", b"[" * 60_000),), "manifest has more"),
        ((entry("manifest.json", b"[" * 60),), "manifest is damaged"),
        ((entry("manifest.json", b'{"format": 1}'),), "manifest is damaged"),
        ((entry("manifest.json", b'{"format": 2}'),), "format is unknown"),
        ((entry("etc/kamailio/dialog-key.cfg", b'include_file "/etc/shadow"'),), "key of dialogs"),
        ((entry("etc/kamailio/dialog-key.cfg", KEY + b"#!define X"),), "key of dialogs"),
        ((entry(f"{BOX[1:]}/INBOX/msg0000.txt", b"\n #include /x"),), "read another file"),
        ((entry(f"{BOX[1:]}/secret.conf", b"#exec id"),), "read another file"),
        ((entry(f"{BOX[1:]}/secret.conf", b"a=b\n\x01#exec id"),), "read another file"),
        ((entry(f"{BOX[1:]}/secret.conf", b"\xef\xbb\xbf#exec id"),), "read another file"),
        ((entry(f"{BOX[1:]}/secret.conf", b";--x--;#exec id"),), "comment of several lines"),
        ((entry(f"{BOX[1:]}/secret.conf", b"a=b;--\n--;#exec id"),), "comment of several lines"),
        ((entry(f"{BOX[1:]}/secret.conf", b"a=b\r#exec id"),), "control character"),
        ((entry(f"{BOX[1:]}/secret.conf", b"a=\x7fb"),), "control character"),
        ((entry("etc/kamailio/local.cfg", b"a\0b"),), "not text"),
    ],
)
def test_a_crafted_backup_is_refused(blocks, reason):
    with pytest.raises(DamagedError, match=reason):
        read(hostile(*blocks))


def test_the_text_of_a_message_as_asterisk_writes_it_is_accepted():
    text = b';\n; Message Information file\n;\n[message]\ncallerid="A #1\tZo\xc3\xab; B" <1001>\n'
    assert not [*known.faults(f"{BOX}/INBOX/msg0000.txt", text)]
    began = time.monotonic()
    assert not [*known.faults(f"{BOX}/INBOX/msg0000.txt", b"\n" * known.SMALL)]
    assert time.monotonic() - began < 1


def listed(change):
    """A backup whose manifest was changed."""
    plain = gzip.decompress(GOOD)
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        manifest = json.loads(tar.extractfile("manifest.json").read())
        at = tar.getmember("manifest.json").offset
    change(manifest)
    return hostile(plain[:at], entry("manifest.json", json.dumps(manifest).encode()))


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["files"].pop(),
        lambda manifest: manifest["files"].append(dict(manifest["files"][0])),
        lambda manifest: manifest["files"].reverse(),
        lambda manifest: manifest["files"][0].update(sha256="0" * 64),
        lambda manifest: manifest["files"][0].update(owner="asterisk:asterisk"),
        lambda manifest: manifest["files"][0].update(mode=0o4755),
        lambda manifest: manifest["files"][0].update(note="new"),
        lambda manifest: manifest.update(files={}),
        lambda manifest: manifest.pop("domain"),
    ],
)
def test_the_manifest_must_agree(change):
    assert read(listed(lambda _: None)) == read(GOOD)
    with pytest.raises(DamagedError):
        read(listed(change))
