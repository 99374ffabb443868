"""More checks between keys; tests/diagnostics has the usual cases."""

import pytest

from sipdeploy.inventory.site import load_site

HEAD = "domain: a.example\nemail: a@a.example\nusers: {}\n"
HOST = "hosts: {h: {address: 203.0.113.10}}\n"


def codes(text):
    return [problem.code for problem in load_site(HEAD + text, "x")[1]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HOST + "ports: {wss: 80}\n", ["SD213"]),
        (HOST + "ports: {wss: 9999, rtp: 10000-10100}\n", []),
        (HOST + "ports: {wss: 10100, rtp: 10000-10100}\n", ["SD214"]),
        (HOST + "ports: {wss: 5070, kamailio: 5070}\n", ["SD213"]),
        (HOST + "tls: {provider: files, certificate: a, private_key: b}\n", []),
        (HOST + "tls: {ca_bundle: a.pem}\n", ["SD217"]),
        (HOST + "tls: {ca_bundle: a.pem, server: 'https://a.example'}\n", []),
        ("hosts: {a: {address: local, public_address: 203.0.113.1}}\n", []),
        ("hosts: {a: {address: 203.0.113.1}, b: {address: 203.0.113.1, port: 2222}}\n", []),
        ("hosts: {a: {address: 203.0.113.1}, b: {address: 203.0.113.1}}\n", ["SD224"]),
        (
            "hosts: {a: {address: web, public_address: 203.0.113.1, private_address: 10.0.0.1}}\n",
            [],
        ),
        ("hosts: {a: {address: web, private_address: 10.0.0.1}}\n", ["SD212"]),
    ],
)
def test_between_keys(text, expected):
    assert codes(text) == expected
