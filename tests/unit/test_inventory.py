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
