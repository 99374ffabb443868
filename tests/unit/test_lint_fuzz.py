"""Lint of damaged files, from the bytes to the report: any damage is a problem with a place."""

import time
from pathlib import Path

import pytest
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_stack_asterisk_rules import GUIDE
from test_stack_kamailio import GOOD

from sipdeploy.__main__ import main

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = (ROOT / "inventory.example.yaml").read_bytes()
GOLDEN = ROOT / "tests/golden/oldest/expected/sip1"
OURS = {
    f"/{path.relative_to(GOLDEN)}": path.read_bytes()
    for path in sorted(GOLDEN.rglob("*"))
    if path.suffix in {".cfg", ".conf"} and path.parent.name in {"kamailio", "asterisk"}
}
OTHERS = {place: text.encode() for place, text in GUIDE.items()}
OTHERS["/etc/kamailio/kamailio.cfg"] = GOOD.encode()

INSERTED = st.one_of(
    st.binary(max_size=6),
    st.sampled_from(
        [
            *("²", "٣", "9" * 5000, "x" * 20_000, "[" * 300, "{" * 300, "(" * 300, "é", "\ud800"),
            *("\0", "\r", "\r\n", "\x85", "\u2028", "\ufeff", "\t", "'", '"', "\\", "\n", " "),
            *("#!endif\n", "#!ifdef A\n", "include_file ", "#include *.conf\n", "[x](!)\n"),
            *(
                "*a",
                "&a ",
                "<<: ",
                "!!int ",
                "!!python/object:os.system ",
                "- ",
                ": ",
                "? ",
                "|\n",
            ),
            *(
                "${",
                "}",
                "$(",
                "$sht(",
                "same => n,",
                "exten => ",
                "modparam(",
                "route(",
                ",",
                ";",
            ),
            *("1e999", "0x", ".inf", "2026-01-01", "null", "~", "-1", "# sipdeploy: ignore["),
        ]
    ).map(lambda text: text.encode("utf-8", "surrogatepass")),
)
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), INSERTED), min_size=1, max_size=6)


def damaged(raw, edits):
    """Replace some bytes at each place, a part of the length, with others."""
    for part, length, inserted in edits:
        at = int(part * len(raw))
        raw = raw[:at] + inserted + raw[at + length :]
    return raw


def in_time(*words):
    began = time.process_time()
    code = main(["-q", "lint", *words])
    assert code in {0, 1}
    assert time.process_time() - began < 4


SETTINGS = settings(
    max_examples=examples(300),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@SETTINGS
@given(edits=EDITS, form=st.sampled_from(["full", "json", "sarif"]))
def test_a_damaged_inventory_gives_no_traceback(tmp_path_factory, edits, form):
    path = tmp_path_factory.mktemp("fuzz") / "inventory.yaml"
    path.write_bytes(damaged(EXAMPLE, edits))
    in_time(str(path), "--format", form)


OWN = pytest.param(OURS, id="ours", marks=pytest.mark.slow)


@pytest.mark.parametrize("files", [OWN, pytest.param(OTHERS, id="others")])
@SETTINGS
@given(data=st.data(), edits=EDITS, form=st.sampled_from(["full", "json", "sarif"]))
def test_damaged_files_of_the_daemons_give_no_traceback(
    tmp_path_factory, files, data, edits, form
):
    folder = tmp_path_factory.mktemp("fuzz")
    place = data.draw(st.sampled_from(sorted(files)))
    for name, raw in files.items():
        path = folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(damaged(raw, edits) if name == place else raw)
    in_time(str(folder), "--format", form)
