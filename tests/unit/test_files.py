import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sipdeploy.inventory import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_read_is_replaced_with_mode_and_mark(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"\xef\xbb\xbfold")
    path.chmod(0o640)
    files.replace_all([(files.read(path, 0o600), "new é")])
    assert path.read_bytes() == b"\xef\xbb\xbfnew \xc3\xa9"
    assert path.stat().st_mode & 0o7777 == 0o640
    assert names(tmp_path) == ["a"]


def test_a_new_file_gets_the_mode_asked_for(tmp_path):
    files.replace_all([(files.read(tmp_path / "a", 0o600), "new")])
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone gives files away")
def test_the_owner_stays(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    os.chown(path, 12, 34)
    files.replace_all([(files.read(path, 0o600), "new")])
    assert (path.stat().st_uid, path.stat().st_gid) == (12, 34)


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    path, target = tmp_path / "a", tmp_path / "there/b"
    target.write_text("old")
    path.symlink_to("there/b")
    files.replace_all([(files.read(path, 0o600), "new")])
    assert path.is_symlink()
    assert target.read_text() == "new"


def test_who_changed_a_file_meanwhile_is_not_overwritten(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("a")
    second.write_text("b")
    read = [files.read(path, 0o600) for path in (first, second)]
    second.write_text("edited")
    with pytest.raises(files.ChangedError, match="b"):
        files.replace_all([(file, "new") for file in read])
    assert (first.read_text(), second.read_text()) == ("a", "edited")
    assert names(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("is_new", [True, False])
def test_all_or_none(tmp_path, monkeypatch, is_new):
    first, second = tmp_path / "a", tmp_path / "b"
    if not is_new:
        first.write_text("a")
    second.write_text("b")
    rename = files.Path.replace

    def replace(self, target):
        if target == second:
            raise OSError(28, "No space left on device", str(target))
        return rename(self, target)

    read = [files.read(path, 0o600) for path in (first, second)]
    monkeypatch.setattr(files.Path, "replace", replace)
    with pytest.raises(OSError, match="No space"):
        files.replace_all([(file, "new") for file in read])
    assert second.read_text() == "b"
    assert first.exists() is not is_new
    assert is_new or first.read_text() == "a"
    assert {"b"} <= set(names(tmp_path)) <= {"a", "b"}


def test_a_failure_leaves_the_old_content(tmp_path, monkeypatch):
    target = tmp_path / "a"
    target.write_text("old")
    monkeypatch.setattr(files.os, "fchmod", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        files.replace_file(target, b"new", 0o600)
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_the_lock_is_one_for_all_processes_and_dies_with_its_holder(tmp_path):
    hold = "import sys, time; from pathlib import Path; from sipdeploy.inventory import files\n"
    hold += "with files.locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(files.BusyError, match=str(tmp_path)), files.locked(tmp_path, 0.1):
        pass
    holder.kill()
    holder.communicate()
    began = time.monotonic()
    with files.locked(tmp_path):
        assert time.monotonic() - began < 5


def test_a_file_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    """After a power cut, a renamed file can be empty if it was not synced."""
    synced, placed = {}, []
    sync, replace = os.fsync, Path.replace

    def watched_sync(handle):
        status = os.fstat(handle)
        synced[status.st_ino] = status.st_size
        sync(handle)

    def watched_replace(path, target):
        placed.append((Path(target).name, synced.get(path.stat().st_ino)))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(Path, "replace", watched_replace)
    files.replace_all([(files.read(tmp_path / name, 0o600), name * 9) for name in "ab"])
    files.replace_file(tmp_path / "c", b"c" * 9, 0o600)
    assert placed == [("a", 9), ("b", 9), ("c", 9)]
    assert tmp_path.stat().st_ino in synced  # and the directory, for the renames
