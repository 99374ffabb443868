import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sipdeploy.diagnostics import full, has_errors
from sipdeploy.inventory import open_inventory
from sipdeploy.inventory.site import is_secret, load_site, source
from sipdeploy.lint import lint_inventory

SMALLEST = """\
domain: sip.example.com
email: ops@example.com
hosts: {sip1: {address: 203.0.113.10}}
users: {1001: {name: Alice}, 1002: {name: Bob}}
"""


def test_the_smallest_inventory_of_the_design():
    site, problems, document = load_site(SMALLEST, "inventory.yaml")
    assert problems == []
    assert site.ports.wss == 8443
    assert (site.ports.rtp.start, site.ports.rtp.end) == (10000, 20000)
    assert site.tls.provider == "letsencrypt"
    assert list(site.users) == ["1001", "1002"]
    assert document.path == "inventory.yaml"


def test_numbers_stay_text():
    site, _, _ = load_site(SMALLEST.replace("1001", "0101"), "x")
    assert "0101" in site.users


def test_with_an_error_there_is_no_site_but_a_document():
    site, problems, document = load_site(SMALLEST + "foo: 1\n", "x")
    assert site is None
    assert [p.code for p in problems] == ["SD201"]
    assert document.data["foo"] == "1"


def test_sections_with_defaults_may_be_empty():
    text = SMALLEST + "".join(
        f"{k}:\n" for k in ("ports", "tls", "origins", "services", "versions")
    )
    assert load_site(text, "x")[1] == []
    assert load_site(text.replace("1001: {name: Alice}", "1001: "), "x")[1] == []


def test_problems_of_all_stages_come_at_once():
    text = SMALLEST.replace("sip.example.com", "sip") + (
        "foo: 1\nports: {wss: 22}\nservices: {1002: {kind: echo}, 1001: {kind: x}}\nfoo: 2\n"
    )
    codes = sorted(p.code for p in load_site(text, "x")[1])
    assert codes == ["SD104", "SD201", "SD207", "SD209", "SD213", "SD216"]


def test_a_key_like_an_inner_tag_is_a_key():
    text = SMALLEST.replace("{name: Alice}", "{'<text>': x, '<mapping>': y}")
    assert [p.code for p in load_site(text, "x")[1]] == ["SD201", "SD201"]


@pytest.mark.parametrize(
    ("path", "secret"),
    [
        (("users", "1001", "password"), True),
        (("users", "1001", "pasword"), True),
        (("users", "1001", "password", "value"), True),
        (("users", "1001", "password", "env"), False),
        (("users", "1001", "name"), False),
        (("domain",), False),
        (("hosts", "a", "user"), False),
    ],
)
def test_is_secret(path, secret):
    assert is_secret(path) is secret


VALUES = st.recursive(
    st.none() | st.text(max_size=8) | st.integers() | st.sampled_from(["local", "1.2.3.4", "a.b"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = ["domain", "email", "hosts", "ports", "tls", "users", "services", "secrets", "origins",
        "versions", "authentication", "x"]  # fmt: skip
INNER = [
    "address", "user", "port", "name", "password", "voicemail", "kind", "provider", "rtp", "wss",
    "kamailio", "env", "public_address",
]  # fmt: skip
ENTRY = st.dictionaries(st.sampled_from(INNER), VALUES, max_size=4)
SECTION = VALUES | ENTRY | st.dictionaries(st.sampled_from(["1001", "a", "1"]), ENTRY, max_size=2)


@given(st.dictionaries(st.sampled_from(KEYS), SECTION))
def test_no_data_raises_and_every_problem_has_a_place(data):
    text = yaml.safe_dump(data, allow_unicode=True)
    site, problems, document = load_site(text, "x")
    assert (site is None) == has_errors(problems)
    assert all(problem.span for problem in problems)
    full(problems, {"x": source(document)})


@given(st.text(max_size=80))
def test_no_text_raises(text):
    site, problems, _ = load_site(SMALLEST + text, "x")
    assert (site is None) == has_errors(problems)


GREEK = st.characters(min_codepoint=0x370, max_codepoint=0x1FFF)  # in none of the texts
FORMS = ["{k}: {v}", "{k}: {{value: {v}}}", "{k}: [{v}]"]


@given(
    st.text(alphabet=GREEK, min_size=5, max_size=20),
    st.sampled_from(["password", "pasword", "Passwort", "secret"]),
    st.sampled_from(FORMS),
)
def test_no_password_is_ever_shown(password, key, form):
    quoted = yaml.safe_dump(password, default_style='"', allow_unicode=True, width=999).strip()
    inner = form.format(k=key, v=quoted)
    text = SMALLEST.replace("name: Alice", inner) + "foo: 1\n"
    _, problems, document = load_site(text, "x")
    shown = full(problems, {"x": source(document)})
    assert problems
    assert password not in shown
    assert quoted not in shown


def seconds(count, tmp_path):
    users = "".join(f"  {100000 + i}: {{name: User {i}, voicemail: yes}}\n" for i in range(count))
    text = SMALLEST.rsplit("users", 1)[0] + "users:\n" + users
    started = time.process_time()
    loaded = open_inventory(tmp_path / "inventory.yaml", raw=text.encode())
    lint_inventory(loaded)
    assert len(loaded.site.users) == count
    return time.process_time() - started


def test_the_time_of_lint_is_linear(tmp_path):
    """`python -m bench size` measures the seconds."""
    assert seconds(10_000, tmp_path) < 10 * max(seconds(2_500, tmp_path), 0.02)
