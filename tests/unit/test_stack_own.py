"""The linter of files that others wrote finds nothing in what sipdeploy renders."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sipdeploy.inventory.fields import ASTERISK_VERSIONS, KAMAILIO_VERSIONS
from sipdeploy.inventory.site import load_site
from sipdeploy.lint.stack.files import StackFile
from sipdeploy.lint.stack.judging import judge
from sipdeploy.lint.stack.reading import Tree
from sipdeploy.services import file_set

GOLDEN = Path(__file__).parent.parent / "golden"
TREES = sorted(GOLDEN.glob("*/expected/*"))
# Each host makes its own; without it, rules about what is absent keep silent.
KEY = {"/etc/kamailio/dialog-key.cfg": '#!substdef "!DIALOG_KEY!0123456789abcdef!g"\n'}


def reports(texts, kamailio=None, asterisk=None):
    files = {place: StackFile(path=place, place=place, text=text) for place, text in texts.items()}
    found = judge(Tree(files=files), kamailio=kamailio, asterisk=asterisk)
    return [f"{each.span}: {each.code} {each.message}" for each in found]


def configuration(texts):
    return {p: t for p, t in texts.items() if p.startswith(("/etc/kamailio/", "/etc/asterisk/"))}


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: f"{tree.parent.parent.name}-{tree.name}")
def test_golden_files_have_no_report(tree):
    paths = [path for path in tree.rglob("*") if path.suffix in {".cfg", ".conf"}]
    texts = configuration({f"/{path.relative_to(tree)}": path.read_text() for path in paths})
    version = (5, 4) if tree.parent.parent.name == "oldest" else None
    assert reports(texts, version) == []
    assert reports(texts | KEY, version) == []


numbers = st.from_regex(r"[0-9]{2,15}", fullmatch=True)
users = st.dictionaries(
    numbers,
    st.fixed_dictionaries(
        {"name": st.sampled_from(["Alice", "Zoë O'Neill", 'a;b"c', "日本"])},
        optional={"voicemail": st.booleans(), "max_contacts": st.integers(1, 20)},
    ),
    max_size=40,
)
services = st.dictionaries(
    st.from_regex(r"[0-9*]{1,15}", fullmatch=True),
    st.sampled_from(["ivr-test", "voicemail", "echo"]).map(lambda kind: {"kind": kind}),
    max_size=6,
)
ports = st.lists(st.integers(1024, 9000), min_size=4, max_size=4, unique=True).map(
    lambda free: {
        **dict(zip(("wss", "kamailio", "asterisk", "registrar"), free, strict=True)),
        "rtp": "10000-20000",
    }
)
host = st.sampled_from(
    [
        {"address": "203.0.113.10"},
        {"address": "203.0.113.10", "private_address": "10.0.0.5"},
        {"address": "10.0.0.5", "public_address": "203.0.113.10", "private_address": "10.0.0.5"},
        {"address": "2001:db8::10"},
        {"address": "local", "public_address": "203.0.113.10"},
    ]
)
inventories = st.fixed_dictionaries(
    {
        "domain": st.from_regex(
            r"([a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?\.){1,3}[a-z]{2,5}", fullmatch=True
        ),
        "email": st.just("ops@example.org"),
        "hosts": st.fixed_dictionaries({"sip1": host}),
        "authentication": st.sampled_from(["kamailio", "asterisk"]),
        "users": users,
        "versions": st.fixed_dictionaries(
            {
                "kamailio": st.sampled_from(KAMAILIO_VERSIONS),
                "asterisk": st.sampled_from(ASTERISK_VERSIONS),
            }
        ),
    },
    optional={
        "services": services,
        "ports": ports,
        "origins": st.just(["https://phone.example.org", "https://b.example.org:8443"]),
        "limits": st.fixed_dictionaries(
            {}, optional={"connections": st.integers(64, 32768), "calls": st.integers(16, 4096)}
        ),
        "tls": st.just({"provider": "self-signed"}),
    },
)


def rendered(site):
    hashes = dict.fromkeys(site.users, "0" * 32)
    files = file_set(site, "sip1", versions=site.versions, credentials=hashes)
    return configuration(files.text())


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(inventories)
def test_generated_inventories_have_no_report(inventory):
    site, problems, _ = load_site(json.dumps(inventory), "inventory.yaml")
    assert site or all(each.code.startswith("SD2") for each in problems)
    assume(site)
    kamailio, asterisk = (
        tuple(map(int, version.split(".")))
        for version in (site.versions.kamailio, site.versions.asterisk)
    )
    assert reports(rendered(site) | KEY, kamailio, asterisk) == []


# both lists are equally long, and no rule depends on the version of both
@pytest.mark.parametrize("mode", ["kamailio", "asterisk"])
@pytest.mark.parametrize(
    ("kamailio", "asterisk"), [*zip(KAMAILIO_VERSIONS, ASTERISK_VERSIONS, strict=True)]
)
def test_each_version_in_both_modes_has_no_report(mode, kamailio, asterisk):
    text = json.dumps(
        {
            "domain": "sip.example.org",
            "email": "ops@example.org",
            "hosts": {"sip1": {"address": "203.0.113.10"}},
            "authentication": mode,
            "users": {"1001": {"name": "Alice", "voicemail": True}, "1002": {"name": "Bob"}},
            "services": {"6000": {"kind": "ivr-test"}, "6001": {"kind": "voicemail"}},
            "versions": {"kamailio": kamailio, "asterisk": asterisk},
        }
    )
    site, _, _ = load_site(text, "inventory.yaml")
    version = tuple(map(int, kamailio.split(".")))
    assert reports(rendered(site) | KEY, version, (int(asterisk),)) == []
