import json

import pytest

from sipdeploy import inventory
from sipdeploy.diagnostics.errors import InvalidFiles, WrongUsage
from sipdeploy.inventory.secret import ha1

TEXT = """\
domain: sip.example.com
email: ops@example.com
hosts: {sip1: {address: 203.0.113.10}, sip2: {address: 203.0.113.11}}
users: {1001: {password: hunter2hunter2}}
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "inventory.yaml"
    file.write_text(TEXT, "utf-8")
    return file


def test_it_gives_site_and_credentials(path):
    loaded = inventory.open_inventory(path)
    assert loaded.directory == path.parent
    expected = ha1("1001", "sip.example.com", "hunter2hunter2")
    assert inventory.credentials(loaded) == ({"1001": expected}, [])


def test_all_problems_come_with_their_lines(path):
    path.write_text(TEXT + "foo: 1\nbar: 2\n")
    with pytest.raises(InvalidFiles) as failure:
        inventory.open_inventory(path)
    assert len(failure.value.diagnostics) == 2
    assert failure.value.sources[str(path)].lines[4] == "foo: 1"


def test_a_missing_password_stops(path):
    path.write_text(TEXT.replace("password: hunter2hunter2", ""))
    with pytest.raises(InvalidFiles, match="SD230"):
        inventory.credentials(inventory.open_inventory(path))


def test_no_file(tmp_path):
    with pytest.raises(InvalidFiles, match="SD110"):
        inventory.open_inventory(tmp_path / "none.yaml")


def test_hosts_are_chosen_by_name(path):
    loaded = inventory.open_inventory(path)
    assert inventory.chosen_hosts(loaded, []) == ["sip1", "sip2"]
    assert inventory.chosen_hosts(loaded, ["sip2", "sip2"]) == ["sip2"]
    with pytest.raises(WrongUsage) as failure:
        inventory.chosen_hosts(loaded, ["web", "spi2"])
    assert {d.help for d in failure.value.diagnostics} == {
        "its hosts are `sip1`, `sip2`",
        "did you mean `sip2`?",
    }


def test_the_schema_is_json():
    assert "users" in json.loads(inventory.schema())["properties"]


# --- a command that needs only one host ----------------------------------------------------------

GOOD_HOST = (
    "hosts: {sip1: {address: 10.0.0.1, user: deploy, port: 2222}, sip2: {address: 10.0.0.2}}"
)


def opened(tmp_path, text):
    path = tmp_path / "inventory.yaml"
    path.write_text(text)
    return inventory.open_for_host(path, "sip1")


@pytest.mark.parametrize(
    "rest",
    [
        "domain: sip.example.com\nemail: a@b.example\nusers: {alice: {}}",
        "domain: nonsense\nemail: a@b.example\nusers: {1001: {nmae: Alice}}",
        "email: 7\nusers: []\nports: {wss: 99999}\nservices: {6000: {kind: dance}}\nnew: 1",
        "domain: sip.example.com\nemail: a@b.example\nusers: {1001: {}, 1001: {}}",
        "domain: sip.example.com\nemail: a@b.example\nusers: {}\ntls: {provider: files}",
        "domain: sip.example.com\nemail: a@b.example\nusers: {}\nports: {wss: 2222}",
    ],
    ids=["number", "domain", "everything", "twice", "files", "ports"],
)
def test_errors_elsewhere_leave_a_host_reachable(tmp_path, rest):
    found, errors = opened(tmp_path, f"{GOOD_HOST}\n{rest}\n")
    assert errors
    entry = found.site.hosts["sip1"]
    assert (entry.address, entry.user, entry.port) == ("10.0.0.1", "deploy", 2222)
    assert {"user", "port"} <= entry.model_fields_set


@pytest.mark.parametrize(
    "hosts",
    [
        "hosts: {sip1: {address: 10.0.0.1, port: ssh}}",
        "hosts: {sip1: {address: 10.0.0.1, usr: deploy}}",
        "hosts: {sip1: {user: deploy}}",
        "hosts: {sip1: {address: 10.0.0.1, address: 10.0.0.9}}",
        "hosts: {sip1: {address: 10.0.0.1}, sip1: {address: 10.0.0.9}}",
        "hosts: {sip1: {address: 10.0.0.1}}\nhosts: {sip1: {address: 10.0.0.9}}",
        "hosts: []",
        "hosts: {sip1: {address: 10.0.0.1",
        "",
    ],
)
def test_a_host_that_might_be_another_one_is_not_reached(tmp_path, hosts):
    with pytest.raises(InvalidFiles):
        opened(tmp_path, f"domain: sip.example.com\nemail: a@b.example\nusers: {{}}\n{hosts}\n")


def test_without_errors_it_is_the_inventory(tmp_path):
    text = f"domain: sip.example.com\nemail: a@b.example\nusers: {{1001: {{}}}}\n{GOOD_HOST}\n"
    found, errors = opened(tmp_path, text)
    assert (list(found.site.users), errors) == (["1001"], [])
