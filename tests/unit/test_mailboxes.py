"""The scripts that copy and replace mailboxes, on directories of this machine."""

import io
import subprocess
import tarfile
import threading
import time

import pytest

from sipdeploy.host import script_text

SOUND = b"RIFF" + bytes(1000)


@pytest.fixture
def spool(tmp_path):
    (tmp_path / "voicemail/default").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def boxes(spool):
    return spool / "voicemail/default"


def leave(boxes, number, *, folder="INBOX", index=0, text=b"[message]\n", sound=SOUND):
    place = boxes / number / folder
    place.mkdir(parents=True, exist_ok=True)
    if sound is not None:
        (place / f"msg{index:04}.wav").write_bytes(sound)
    if text is not None:
        (place / f"msg{index:04}.txt").write_bytes(text)


def run(script, *words, data=b"", check=True):
    done = subprocess.run(
        ["sh", "-c", script_text(script), script, *map(str, words)],
        input=data,
        capture_output=True,
        check=False,
        timeout=60,
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


def copied(spool):
    done = run("snapshot", spool)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        files = {
            member.name.removeprefix("var/spool/asterisk/voicemail/default/"): tar.extractfile(
                member
            ).read()
            for member in tar
        }
    assert not list(spool.glob(".sipdeploy*")), "nothing is left"
    return files


def test_a_copy_has_whole_messages_and_no_other_files(spool, boxes):
    leave(boxes, "1001")
    leave(boxes, "1001", index=1, text=None)
    leave(boxes, "1001", index=2, sound=None)
    leave(boxes, "1002", folder="Old", index=7)
    (boxes / "1002/greet.wav").write_bytes(b"hello")
    (boxes / "1002/secret.conf").write_bytes(b"[general]\nsecret = 1\n")
    (boxes / "1002/tmp").mkdir()
    (boxes / "1002/tmp/msg0000.txt").write_bytes(b"unfinished")
    (boxes / "1002/Old/other").write_bytes(b"x")
    (boxes / "1002/Old/msg0008.txt").symlink_to("/etc/passwd")
    with (boxes / "1002/busy.wav").open("wb") as sparse:
        sparse.truncate(2**40)
    (boxes / "a\nb").mkdir()
    assert copied(spool) == {
        "1001/INBOX/msg0000.txt": b"[message]\n",
        "1001/INBOX/msg0000.wav": SOUND,
        "1002/Old/msg0007.txt": b"[message]\n",
        "1002/Old/msg0007.wav": SOUND,
        "1002/greet.wav": b"hello",
        "1002/secret.conf": b"[general]\nsecret = 1\n",
    }


def test_a_host_without_mailboxes_has_an_empty_copy(tmp_path):
    assert copied(tmp_path) == {}
    assert copied(tmp_path / "none") == {}


def test_messages_that_are_renumbered_meanwhile_stay_whole(spool, boxes):
    """Each message says its own name in both files, so a mixture is noticed."""
    for index in range(30):
        name = f"{index}".encode()
        leave(boxes, "1001", index=index, text=name, sound=name)
    place, end = boxes / "1001/INBOX", threading.Event()

    def renumber():
        """As Asterisk after a deletion: move each message down, and the first to the end."""
        while not end.is_set():
            (place / ".lock").touch()
            for suffix in ("wav", "txt"):
                (place / f"msg0000.{suffix}").rename(place / f"msg0030.{suffix}")
            for index in range(30):
                for suffix in ("wav", "txt"):
                    (place / f"msg{index + 1:04}.{suffix}").rename(
                        place / f"msg{index:04}.{suffix}"
                    )
            (place / ".lock").unlink()
            time.sleep(0.3)

    thread = threading.Thread(target=renumber)
    thread.start()
    try:
        for _ in range(5):
            files = copied(spool)
            assert len(files) == 60
            assert {files[f"1001/INBOX/msg{i:04}.txt"] for i in range(30)} == {
                f"{i}".encode() for i in range(30)
            }
            for i in range(30):
                one = f"1001/INBOX/msg{i:04}"
                assert files[f"{one}.txt"] == files[f"{one}.wav"]
    finally:
        end.set()
        thread.join()


def test_a_mailbox_that_asterisk_is_changing_is_copied_again(spool, boxes):
    leave(boxes, "1001")
    lock = boxes / "1001/INBOX/.lock"
    lock.touch()

    def finish():
        time.sleep(0.6)
        leave(boxes, "1001", index=1)
        lock.unlink()

    thread = threading.Thread(target=finish)
    thread.start()
    assert len(copied(spool)) == 4
    thread.join()


def test_a_lock_that_stays_does_not_keep_a_mailbox_out(spool, boxes):
    leave(boxes, "1001")
    (boxes / "1001/INBOX/.lock").touch()
    assert len(copied(spool)) == 2


def tar(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o660
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


RECEIVED = {
    "1001/INBOX/msg0000.txt": b"[message]\n",
    "1001/INBOX/msg0000.wav": SOUND,
    "1002/greet.wav": b"hello",
}


def tree(boxes):
    return {
        str(path.relative_to(boxes)): path.read_bytes()
        for path in boxes.rglob("*")
        if path.is_file()
    }


def test_received_mailboxes_come_into_place_and_go_back(spool, boxes):
    leave(boxes, "1001")
    leave(boxes, "1003")
    before = tree(boxes)
    assert run("messages", "receive", spool, data=tar(RECEIVED)).stdout == b"", "no conflict"
    assert tree(boxes) == before, "receiving changes nothing"
    run("messages", "place", spool)
    assert tree(boxes) == {**before, **RECEIVED}
    for _ in range(2):
        run("messages", "back", spool)
        assert tree(boxes) == before
    run("messages", "place", spool)
    run("messages", "finish", spool)
    assert tree(boxes) == {**before, **RECEIVED}
    assert not list(spool.glob(".sipdeploy*"))


@pytest.mark.parametrize(
    "own",
    [
        {"text": b"[message]\nother\n"},
        {"index": 1},
        {"folder": "Old"},
    ],
)
def test_a_mailbox_with_other_messages_is_named(spool, boxes, own):
    leave(boxes, "1001", **own)
    assert run("messages", "receive", spool, data=tar(RECEIVED)).stdout == b"1001\n"


@pytest.mark.parametrize("renames", [0, 1, 2, 3])
def test_an_interrupted_placement_goes_back(spool, boxes, renames):
    """Each rename of the script is a program, so a wrapper can stop before the n-th."""
    leave(boxes, "1001")
    leave(boxes, "1002", folder="Old")
    before = tree(boxes)
    run("messages", "receive", spool, data=tar(RECEIVED))
    text = script_text("messages").decode()
    at = text.index("place)")
    place = text[at:].replace("mv -T ", "move ", 2)
    move = 'move() { left=$((left - 1)); [ "$left" -ge 0 ] || exit 9; mv -T "$@"; }'
    count = f"left={renames}\n{move}\n"
    done = subprocess.run(
        [
            "sh",
            "-c",
            text[:at].replace("case $what", f"{count}case $what") + place,
            "messages",
            "place",
            str(spool),
        ],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 9 if renames < 4 else 0, done.stderr
    run("messages", "back", spool)
    assert tree(boxes) == before


def test_the_next_restore_undoes_an_interrupted_one(spool, boxes):
    leave(boxes, "1001", text=b"[message]\nmine\n")
    before = tree(boxes)
    run("messages", "receive", spool, data=tar(RECEIVED))
    run("messages", "place", spool)
    run("messages", "receive", spool, data=tar(RECEIVED))
    assert tree(boxes) == before


def test_a_tar_that_ends_early_changes_nothing(spool, boxes):
    leave(boxes, "1001")
    before = tree(boxes)
    data = tar(RECEIVED)
    assert run("messages", "receive", spool, data=data[:900], check=False).returncode != 0
    assert tree(boxes) == before
