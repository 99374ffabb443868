import pytest

from sipdeploy.diagnostics.errors import InvalidFiles, WrongUsage
from sipdeploy.services import tree
from sipdeploy.services.render import FileSet, ManagedFile


def file(path, content=b"x", mode=0o640):
    return ManagedFile(
        path=path,
        content=content,
        mode=mode,
        owner="root:root",
        service="kamailio",
        reload=None,
        sensitive=mode == 0o600,
        template="t",
    )


def files(*these):
    return FileSet(these)


def test_files_stand_as_on_the_host(tmp_path):
    written = tree.write(
        files(file("/etc/a/b"), file("/etc/c", b"y", 0o600)), "sip1", tmp_path / "out"
    )
    root = tmp_path / "out" / "sip1"
    assert (root / "etc/a/b").read_bytes() == b"x"
    assert (root / "etc/c").stat().st_mode & 0o777 == 0o600
    assert (root / "etc/a/b").stat().st_mode & 0o777 == 0o640
    assert [(each.path, each.mode, each.sensitive) for each in written] == [
        ("/etc/a/b", "0640", False), ("/etc/c", "0600", True),
    ]  # fmt: skip
    assert (root / ".gitignore").read_text() == "*\n"


def test_what_an_earlier_run_wrote_goes_and_what_is_yours_stays(tmp_path):
    tree.write(files(file("/etc/a/b"), file("/etc/c")), "sip1", tmp_path)
    (tmp_path / "sip1/etc/notes").write_text("mine")
    tree.write(files(file("/etc/c", b"new")), "sip1", tmp_path)
    left = {str(p.relative_to(tmp_path / "sip1")) for p in (tmp_path / "sip1").rglob("*")}
    assert left == {".gitignore", ".sipdeploy", "etc", "etc/c", "etc/notes"}
    assert (tmp_path / "sip1/etc/c").read_bytes() == b"new"


def test_a_directory_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "sip1").mkdir()
    (tmp_path / "sip1/precious").write_text("mine")
    with pytest.raises(WrongUsage) as failure:
        tree.write(files(file("/etc/c")), "sip1", tmp_path)
    assert "sipdeploy did not create it" in failure.value.diagnostics[0].message
    assert [p.name for p in (tmp_path / "sip1").iterdir()] == ["precious"]


def test_links_lead_nowhere_else(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    tree.write(files(file("/etc/c")), "sip1", tmp_path)
    (tmp_path / "sip1/etc/d").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WrongUsage):
        tree.write(files(file("/etc/d/x")), "sip1", tmp_path)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_forged_marker_removes_nothing_outside(tmp_path):
    (tmp_path / "precious").write_text("mine")
    tree.write(files(file("/etc/c")), "sip1", tmp_path)
    (tmp_path / "sip1/.sipdeploy").write_text(
        f"../precious\n{tmp_path}/precious\netc/../../precious\n"
    )
    tree.write(files(file("/etc/c")), "sip1", tmp_path)
    assert (tmp_path / "precious").exists()


def test_what_cannot_be_written_is_told(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InvalidFiles, match="cannot write"):
        tree.write(files(file("/etc/c")), "sip1", tmp_path / "out")
