import datetime as dt

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.inventory.site import load_site
from sipdeploy.services import certificates

TEXT = """\
domain: sip.example.test
email: a@b.example
hosts: {sip1: {address: 10.0.0.1}}
users: {}
tls: {provider: files, certificate: c.pem, private_key: k.pem}
"""
SITE = load_site(TEXT, "inventory.yaml")[0]


def key_pem(key, password=None):
    encryption = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, encryption)


def pair(name="sip.example.test", days=90, start=0):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    begin = dt.datetime.now(dt.UTC) + dt.timedelta(days=start)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(min(begin, begin + dt.timedelta(days=days - 1)))
        .not_valid_after(begin + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM), key_pem(key), key


@pytest.fixture
def told(tmp_path):
    def read(certificate, key):
        for name, content in (("c.pem", certificate), ("k.pem", key)):
            if content is not None:
                (tmp_path / name).write_bytes(content)
        try:
            certificates.read_files(SITE, tmp_path)
        except InvalidFiles as failure:
            return [problem.code for problem in failure.diagnostics]
        return []

    return read


def test_a_good_pair_is_taken(told):
    assert told(*pair()[:2]) == []
    assert told(*pair("*.example.test")[:2]) == []


def test_what_is_wrong_is_told_all_at_once(told):
    assert told(pair("other.test", days=-1)[0], pair()[1]) == ["SD603", "SD604", "SD605"]
    assert told(*pair(start=5)[:2]) == ["SD605"]
    assert told(*pair("*.test")[:2]) == ["SD604"]


def test_files_that_are_none_are_told(told):
    assert told(None, None) == ["SD602", "SD602"]
    assert told(b"no", b"no") == ["SD602", "SD602"]


def test_a_key_with_a_passphrase_is_told(told):
    certificate, _, key = pair()
    assert told(certificate, key_pem(key, b"secret")) == ["SD602"]


@pytest.mark.parametrize(
    "name",
    ["load_pem_x509_certificates", "load_pem_public_key", "load_pem_private_key"],
)
def test_an_algorithm_that_the_library_has_not_is_told(told, monkeypatch, name):
    certificate, key, _ = pair()

    def unknown(*_, **__):
        raise UnsupportedAlgorithm("a curve of somebody's own")

    for module in (x509, serialization):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, unknown)
    assert set(told(certificate, key)) <= {"SD602", "SD603"}
    assert told(certificate, key)


def test_a_certificate_without_names_covers_nothing():
    assert certificates.parse(b"", b"") is None


def test_a_chain_stands_in_order(told):
    certificate, key, _ = pair()
    stranger, *_ = pair("ca.example.test")
    assert told(certificate, key) == []
    assert told(certificate + stranger, key) == ["SD606"]


def test_what_an_acme_server_needs_is_looked_for_beside_the_inventory(tmp_path):
    text = TEXT.replace(
        "files, certificate: c.pem, private_key: k.pem",
        "letsencrypt, server: https://a.example/dir, ca_bundle: r.pem, challenge: dns-01, "
        "dns_plugin: rfc2136, dns_credentials: dns.ini",
    )
    site = load_site(text, "inventory.yaml")[0]
    with pytest.raises(InvalidFiles) as failed:
        certificates.read_material(site, tmp_path)
    assert [problem.code for problem in failed.value.diagnostics] == ["SD602", "SD602"]
    (tmp_path / "r.pem").write_bytes(pair()[0])
    (tmp_path / "dns.ini").write_text("secret = sesame")
    material = certificates.read_material(site, tmp_path)
    assert material.dns_credentials == b"secret = sesame"
    assert "sesame" not in repr(material)
    (tmp_path / "r.pem").write_text("no certificate")
    with pytest.raises(InvalidFiles):
        certificates.read_material(site, tmp_path)
