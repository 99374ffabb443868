"""The files of Kamailio and Asterisk: how they are found, and that no input does harm."""

import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sipdeploy.diagnostics.formats import FORMATS
from sipdeploy.lint.stack import judging
from sipdeploy.lint.stack.reading import MOST_ENTRIES, is_stack, read_trees

KAMAILIO = "request_route { exit; }\n"


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())


def places(*paths):
    trees, problems = read_trees(paths)
    return [sorted(tree.files) for tree in trees], [each.code for each in problems]


def test_a_tree_of_etc_is_found_by_name_and_place(tmp_path):
    write(
        tmp_path,
        {
            "etc/kamailio/kamailio.cfg": 'include_file "local/a.cfg"\n',
            "etc/kamailio/local/a.cfg": "# a\n",
            "etc/kamailio/local/b.cfg": "# not included\n",
            "etc/kamailio/tls.cfg": "[server:default]\n",
            "etc/asterisk/pjsip.conf": '#include "pjsip.d/*.conf"\n#tryinclude none.conf\n',
            "etc/asterisk/pjsip.d/users.conf": "[1001]\n",
            "etc/asterisk/http.conf": "[general]\n",
            "etc/asterisk/modules.conf": "[modules]\n",
            "etc/apache2/conf.d/http.conf": "Listen 80\n",
            "etc/other/tls.cfg": "nothing\n",
        },
    )
    wanted = [
        "/etc/asterisk/http.conf",
        "/etc/asterisk/pjsip.conf",
        "/etc/asterisk/pjsip.d/users.conf",
        "/etc/kamailio/kamailio.cfg",
        "/etc/kamailio/local/a.cfg",
        "/etc/kamailio/tls.cfg",
    ]
    assert places(tmp_path) == ([wanted], [])
    assert places(tmp_path / "etc") == ([wanted], [])
    assert places(tmp_path / "etc/kamailio", tmp_path / "etc/asterisk") == ([wanted], [])


def test_each_host_of_a_rendered_site_is_a_tree_of_its_own(tmp_path):
    for host in ("sip1", "sip2"):
        write(tmp_path / host, {"etc/kamailio/kamailio.cfg": KAMAILIO})
    assert places(tmp_path) == ([["/etc/kamailio/kamailio.cfg"]] * 2, [])


def test_files_that_are_named_one_by_one(tmp_path, monkeypatch):
    write(tmp_path, {"kamailio.cfg": KAMAILIO, "pjsip.conf": "[a]\n", "proxy.cfg": KAMAILIO})
    monkeypatch.chdir(tmp_path)
    both = ["/etc/asterisk/pjsip.conf", "/etc/kamailio/kamailio.cfg"]
    assert places(Path("kamailio.cfg"), Path("pjsip.conf")) == ([both], [])
    assert places(Path("proxy.cfg")) == ([["/etc/kamailio/proxy.cfg"]], [])
    trees, _ = read_trees([Path("kamailio.cfg")])
    (file,) = trees[0].files.values()
    assert (file.path, str(file.span(14, 18))) == ("kamailio.cfg", "kamailio.cfg:1:15")


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [
        ("kamailio.cfg", True),
        ("tls.cfg", True),
        ("pjsip_users.conf", True),
        ("extensions.conf", True),
        ("inventory.yaml", False),
        ("nginx.conf", False),
    ],
)
def test_a_file_is_recognised_by_its_name(name, is_ours):
    assert is_stack(Path(name)) == is_ours


def test_a_directory_without_anything_is_a_problem(tmp_path):
    assert places(tmp_path) == ([], ["SD890"])
    assert places(tmp_path / "none") == ([], ["SD892"])


@pytest.mark.parametrize(
    "line",
    [
        'include_file "/etc/kamailio/../../secret.cfg"',
        'include_file "../../secret.cfg"',
        'include_file "/etc/kamailio/link.cfg"',
        'include_file "folder/secret.cfg"',
    ],
)
def test_nothing_outside_the_path_is_read(tmp_path, line):
    write(tmp_path, {"secret.cfg": "canary\n", "etc/kamailio/kamailio.cfg": f"{line}\n"})
    (tmp_path / "etc/kamailio/link.cfg").symlink_to(tmp_path / "secret.cfg")
    (tmp_path / "etc/kamailio/folder").symlink_to(tmp_path)
    trees, problems = read_trees([tmp_path / "etc/kamailio"])
    assert "canary" not in str(trees) + str(problems)
    assert [sorted(tree.files) for tree in trees] == [["/etc/kamailio/kamailio.cfg"]]


def test_a_link_out_of_the_path_is_a_problem_and_one_inside_is_not(tmp_path):
    write(tmp_path, {"out/pjsip.conf": "canary\n", "a/kamailio.cfg": KAMAILIO, "a/real": "[x]\n"})
    (tmp_path / "a/pjsip.conf").symlink_to(tmp_path / "out/pjsip.conf")
    (tmp_path / "a/rtp.conf").symlink_to("real")
    (tmp_path / "a/loop").symlink_to(".")
    trees, (problem,) = read_trees([tmp_path / "a"])
    assert sorted(trees[0].files) == ["/etc/asterisk/rtp.conf", "/etc/kamailio/kamailio.cfg"]
    assert (problem.code, problem.span.line) == ("SD892", 1)


def test_a_link_to_a_directory_is_not_entered(tmp_path):
    write(tmp_path, {"out/pjsip.conf": "[x]\n", "in/README": "nothing\n"})
    (tmp_path / "in/asterisk").symlink_to("../out")
    assert places(tmp_path / "in") == ([], ["SD890"])


def test_includes_in_a_circle_end(tmp_path):
    write(tmp_path, {"kamailio.cfg": 'include_file "a.cfg"\n', "a.cfg": 'import_file "a.cfg"\n'})
    write(tmp_path, {"pjsip.conf": "#include *.conf\n"})
    (found,), problems = places(tmp_path)
    assert (len(found), problems) == (3, [])


def test_no_fifo_socket_or_device_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pjsip.conf")
    (tmp_path / "kamailio.cfg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "rtp.conf"))
    (tmp_path / "http.conf").mkdir()
    assert places(tmp_path) == ([], ["SD892"] * 3)
    assert places(tmp_path / "pjsip.conf") == ([], ["SD892"])
    assert places(Path("/dev/zero")) == ([], ["SD892"])


@pytest.mark.parametrize(
    ("raw", "line", "column"),
    [
        (b"ok\nna\xefve\n", 2, 3),
        ("ok\n".encode("utf-16"), 1, 1),
        (b"a\nb\0c\n", 2, 2),
        (b"\x7fELF\x02\x01\x01\0", 1, 5),
    ],
)
def test_a_file_that_is_no_text_has_a_position(tmp_path, raw, line, column):
    write(tmp_path, {"kamailio.cfg": raw})
    trees, (problem,) = read_trees([tmp_path])
    assert trees == []
    assert (problem.code, problem.span.line, problem.span.column) == ("SD893", line, column)


def test_a_byte_order_mark_is_no_problem(tmp_path):
    write(tmp_path, {"kamailio.cfg": b"\xef\xbb\xbf" + KAMAILIO.encode()})
    trees, problems = read_trees([tmp_path])
    assert (trees[0].files["/etc/kamailio/kamailio.cfg"].text, problems) == (KAMAILIO, [])


def test_a_deep_tree_and_very_many_files_end(tmp_path):
    deep = tmp_path.joinpath(*["d"] * 40)
    write(deep, {"kamailio.cfg": KAMAILIO})
    assert places(tmp_path) == ([], ["SD890"])
    write(tmp_path / "wide", {"pjsip.conf": "#include *.conf\n"})
    write(tmp_path / "wide", {f"a{number}.conf": "\n" for number in range(2100)})
    (found,), problems = places(tmp_path / "wide")
    assert (len(found), problems) == (2000, ["SD891"])
    assert MOST_ENTRIES > 2100


def test_very_many_problems_of_a_kind_end_with_their_number(tmp_path):
    text = "".join(f"[{number}]\nallow=opus\n" for number in range(5000))
    write(tmp_path, {"pjsip.conf": text})
    problems = judging.lint_stack([tmp_path / "pjsip.conf"]).problems
    assert [problem.code for problem in problems] == ["SD833"] * 1001
    assert "more than 1000 problems of this kind" in problems[-1].message
    assert problems[-1].span.line == 2001


def test_suppressed_problems_do_not_count_as_many(tmp_path):
    """A comment for each of the first problems neither hides the others nor is superfluous."""
    text = "".join(f"word{number} ; sipdeploy: ignore[SD868]\n" for number in range(1500))
    write(tmp_path, {"rtp.conf": f"[general]\n{text}last\n" + "next\n" * 1200 + text})
    problems = judging.lint_stack([tmp_path / "rtp.conf"]).problems
    assert [problem.code for problem in problems] == ["SD868"] * 1001
    assert problems[0].span.line == 1502


@pytest.mark.slow
def test_a_hostile_directory_takes_little_time_and_memory(tmp_path):
    with (tmp_path / "pjsip.conf").open("wb") as stream:
        stream.truncate(100 << 20)
    write(tmp_path, {f"pjsip{n}.conf": "\U0001f600" + "x" * (15 << 20) for n in range(6)})

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "sipdeploy", "lint", "--format", "concise", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 1, done.stderr
    assert "pjsip.conf:1:1: error[SD892]" in done.stdout
    assert "it is larger than 16 MiB" in done.stdout
    assert "SD891" in done.stdout
    # processor time, because other processes may run on the machine; half of it is the start
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 4


NAMES = st.sampled_from(["kamailio.cfg", "tls.cfg", "pjsip.conf", "extensions.conf", "a/rtp.conf"])
PARTS = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from(
        [
            *(b'include_file "', b"#include ", b"..", b"/", b"*", b"[", b"\0", b'"\n', b"\r"),
            *(b"# sipdeploy: ignore[SD801]", b"; sipdeploy: ignore", b"/etc/kamailio/", b"~"),
        ]
    ),
)
CONTENTS = st.lists(PARTS, max_size=12).map(b"".join)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(files=st.dictionaries(NAMES, CONTENTS, max_size=4))
def test_no_content_gives_a_traceback(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("fuzz")
    write(folder, files)
    for tree in read_trees([folder])[0]:
        for file in tree.files.values():
            assert file.place.startswith("/etc/")
    judged = judging.lint_stack([folder])
    for show in FORMATS.values():
        show(judged.problems, judged.sources, None).encode()


@settings(max_examples=100, deadline=None)
@given(name=st.text(max_size=60))
def test_no_path_gives_a_traceback(name):
    _, problems = read_trees([Path("/nonexistent") / name.lstrip("/")])
    assert problems
