import re
from pathlib import Path

import pytest
import yaml

from sipdeploy.inventory.models import AsteriskSource, Install, KamailioRepository
from sipdeploy.inventory.site import (
    HostEntry,
    Site,
    Turn,
    User,
    Versions,
    json_schema,
    load_site,
)

EXAMPLE = Path(__file__).parent.parent.parent / "inventory.example.yaml"


def fits(value, schema, root):
    """A small validator for the keywords of JSON Schema that the schema uses."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in schema or "oneOf" in schema:
        return any(fits(value, one, root) for one in schema.get("anyOf") or schema["oneOf"])
    kinds = {"string": str, "number": (int, float), "integer": int, "boolean": bool,
             "object": dict, "array": list, "null": type(None)}  # fmt: skip
    wanted = schema.get("type", list(kinds))
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if not any(isinstance(value, kinds[kind]) for kind in wanted):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, list):
        return all(fits(item, schema.get("items", {}), root) for item in value)
    if isinstance(value, dict):
        return _object_fits(value, schema, root)
    return True


def _object_fits(value, schema, root):
    if not set(schema.get("required", ())) <= value.keys():
        return False
    for key, item in value.items():
        inner = schema.get("properties", {}).get(key)
        for pattern, one in schema.get("patternProperties", {}).items():
            if re.search(pattern, str(key)):
                inner = one
        if inner is None:
            inner = schema.get("additionalProperties", {})
        if inner is False or not fits(item, inner if isinstance(inner, dict) else {}, root):
            return False
    return True


def as_an_editor_reads(text):
    """Parse like an editor, by YAML 1.2 core: numbers are numbers, keys are text."""
    value = yaml.safe_load(text)
    return {
        k: {str(n): u for n, u in v.items()} if isinstance(v, dict) else v
        for k, v in value.items()
    }


def test_the_example_fits_the_schema():
    schema = json_schema()
    assert fits(as_an_editor_reads(EXAMPLE.read_text("utf-8")), schema, schema)


@pytest.mark.parametrize(
    "line",
    [
        "foo: 1",
        "users: {1: {}}",
        "users: {1001: {nmae: x}}",
        "tls: {provider: x}",
        "ports: {wss: x}",
    ],
)
def test_the_schema_refuses(line):
    schema = json_schema()
    value = as_an_editor_reads(EXAMPLE.read_text("utf-8")) | as_an_editor_reads(line)
    assert not fits(value, schema, schema)


def test_the_schema_takes_a_password_in_each_form():
    schema = json_schema()
    value = as_an_editor_reads(EXAMPLE.read_text("utf-8"))
    for password in ("x", 1234, {"env": "A"}, {"file": "a"}, {"command": "a b"}):
        assert fits(value | {"users": {"1001": {"password": password}}}, schema, schema)


def names(model):
    return set(model.model_fields)


def test_the_example_names_every_key():
    text = EXAMPLE.read_text("utf-8")
    models = [
        Site,
        HostEntry,
        User,
        Versions,
        Install,
        AsteriskSource,
        KamailioRepository,
        Turn,
        *(type(getattr(LOADED, k)) for k in ("ports", "tls")),
    ]
    for model in models:
        for key in names(model):
            assert re.search(rf"^[ #]*{key}:", text, re.MULTILINE), key


LOADED, _, _ = load_site(EXAMPLE.read_text("utf-8"), "inventory.example.yaml")


def test_the_example_shows_the_defaults():
    small, problems, _ = load_site(
        "domain: a.example\nemail: a@a.example\nhosts: {h: {address: 203.0.113.10}}\nusers: {}\n",
        "x",
    )
    assert problems == []
    for key in ("ports", "authentication", "origins", "secrets", "versions", "install"):
        assert getattr(LOADED, key) == getattr(small, key), key
    assert LOADED.hosts["sip1"] == small.hosts["h"]
    assert LOADED.users["1001"].model_copy(update={"name": ""}) == User()


def test_the_example_is_what_the_guide_has():
    assert LOADED.users["1002"].voicemail
    kinds = {number: service.kind for number, service in LOADED.services.items()}
    assert kinds.items() >= {"6000": "ivr-test", "6001": "voicemail", "6002": "echo"}.items()


def test_a_site_does_not_change():
    with pytest.raises(ValueError, match="frozen"):
        LOADED.domain = "x"


def test_media_goes_to_the_public_address():
    assert HostEntry(address="10.0.0.1").media_address == "10.0.0.1"
    host = HostEntry(address="local", public_address="203.0.113.1")
    assert host.is_local
    assert host.media_address == "203.0.113.1"


def test_a_password_is_not_in_any_text_of_the_site():
    site, _, _ = load_site(
        "domain: a.example\nemail: a@a.example\nhosts: {h: {address: 203.0.113.10}}\n"
        "users: {1001: {password: hunter2}}\n", "x",
    )  # fmt: skip
    assert site.users["1001"].password.reveal() == "hunter2"
    assert "hunter2" not in repr(site) + str(site) + site.model_dump_json() + str(
        site.model_dump()
    )
