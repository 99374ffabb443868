"""What browsers refuse in a certificate is found by lint, and before an apply."""

import datetime as dt
import subprocess
from dataclasses import dataclass

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from test_certificates import SITE, TEXT, key_pem, pair

from sipdeploy.__main__ import main
from sipdeploy.diagnostics.errors import InvalidFiles
from sipdeploy.host import script_text
from sipdeploy.inventory.site import load_site
from sipdeploy.services import certificates

DOMAIN = "sip.example.test"
NOW = dt.datetime.now(dt.UTC)


@dataclass
class Made:
    pem: bytes
    key: object
    certificate: x509.Certificate


def named(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def usage(**more):
    every = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: name in more for name in every})


def made(name, by=None, *, key=None, hash_=None, extensions=(), ca=None, days=90, start=-1):
    key = key or ec.generate_private_key(ec.SECP256R1())
    signer = by.key if by else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(by.certificate.subject if by else named(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + dt.timedelta(days=start))
        .not_valid_after(NOW + dt.timedelta(days=start + days))
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    is_ed = isinstance(signer, ed25519.Ed25519PrivateKey)
    built = builder.sign(signer, None if is_ed else hash_ or hashes.SHA256())
    return Made(built.public_bytes(serialization.Encoding.PEM), key, built)


SAN = x509.SubjectAlternativeName([x509.DNSName(DOMAIN)])
ROOT = made("root", ca=True)
INTER = made("inter", ROOT, ca=True)


def leaf(**more):
    extensions = (SAN, *more.pop("extensions", ()))
    return made(DOMAIN, more.pop("by", INTER), extensions=extensions, **more)


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Code and severity of everything that lint says about a certificate and a key."""
    store = tmp_path / "store.pem"
    store.write_bytes(made("Another root", ca=True).pem + ROOT.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(store))

    def say(pem, key=None):
        (tmp_path / "c.pem").write_bytes(pem)
        (tmp_path / "k.pem").unlink(missing_ok=True)
        if key is not None:
            (tmp_path / "k.pem").write_bytes(key)
        return [(each.code, each.severity) for each in certificates.lint(SITE, tmp_path)]

    say.store = store
    say.folder = tmp_path
    return say


def test_a_complete_chain_is_good(told):
    one = leaf()
    assert told(one.pem + INTER.pem, key_pem(one.key)) == []
    assert told(one.pem + INTER.pem + ROOT.pem, key_pem(one.key)) == []


def test_an_intermediate_that_is_missing(told):
    one = leaf()
    assert told(one.pem) == [("SD608", "error")]
    (told.folder / "k.pem").write_bytes(key_pem(one.key))
    with pytest.raises(InvalidFiles) as failed:
        certificates.read_files(SITE, told.folder)
    (problem,) = failed.value.diagnostics
    assert "CN=inter" in problem.message


def test_without_a_list_of_roots_nothing_is_an_error(told, monkeypatch):
    monkeypatch.setattr(certificates, "public_roots", lambda: ())
    assert told(leaf().pem) == [("SD608", "warning")]


def test_a_list_of_roots_may_have_certificates_that_are_not_readable(told):
    bad = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    told.store.write_bytes(bad + ROOT.pem)
    assert told(leaf().pem + INTER.pem) == []


def test_an_authority_of_ones_own_is_a_warning_once_its_root_is_there(told):
    own = made("own", ca=True)
    one = leaf(by=own)
    assert told(one.pem) == [("SD608", "error")]
    assert told(one.pem + own.pem) == [("SD617", "warning")]
    told.store.write_bytes(own.pem)
    assert told(one.pem) == []


def test_a_self_signed_one_is_a_warning(told):
    assert told(pair()[0]) == [("SD617", "warning")]
    assert told(made(DOMAIN, extensions=(SAN,), ca=True).pem) == [("SD617", "warning")]


def test_only_a_stranger_in_the_chain_is_an_error(told):
    one, stranger = leaf(), made("stranger", ca=True)
    assert told(one.pem + ROOT.pem + INTER.pem) == [("SD606", "warning")] * 2
    assert told(one.pem + INTER.pem + stranger.pem) == [("SD606", "error")]
    assert told(one.pem + one.pem + INTER.pem) == []
    no_authority = made("inter", ROOT, ca=False, key=INTER.key)
    assert ("SD608", "error") in told(one.pem + no_authority.pem)
    version_1 = made("inter", ROOT, key=INTER.key)
    assert ("SD608", "error") in told(one.pem + version_1.pem)


def test_an_intermediate_that_has_expired_or_is_signed_badly(told):
    old = made("inter", ROOT, ca=True, key=INTER.key, days=5, start=-10)
    assert told(leaf().pem + old.pem) == [("SD605", "error")]
    weak = made("inter", ROOT, ca=True, key=INTER.key, hash_=hashes.SHA224())
    assert told(leaf().pem + weak.pem) == [("SD609", "error")]


REFUSED = {
    "Ed25519": lambda: leaf(key=ed25519.Ed25519PrivateKey.generate()),
    "secp521r1": lambda: leaf(key=ec.generate_private_key(ec.SECP521R1())),
    "1024 bits": lambda: leaf(key=rsa.generate_private_key(65537, 1024)),
    "SHA224": lambda: leaf(hash_=hashes.SHA224()),
    "neither ECDSA nor RSA": lambda: leaf(
        by=made("inter", ROOT, ca=True, key=ed25519.Ed25519PrivateKey.generate())
    ),
    "digitalSignature": lambda: leaf(extensions=(usage(key_encipherment=True),)),
    "serverAuth": lambda: leaf(
        extensions=(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),)
    ),
    "CA:TRUE": lambda: leaf(ca=True),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_kind_that_browsers_refuse(reason):
    found = list(certificates.refusals("it", REFUSED[reason]().pem, DOMAIN, NOW))
    assert [each.code for each in found] == ["SD609"]
    assert reason in found[0].message


def test_a_kind_that_browsers_accept():
    for one in (
        leaf(key=ec.generate_private_key(ec.SECP384R1())),
        leaf(key=rsa.generate_private_key(65537, 2048), ca=False),
        leaf(
            extensions=(
                usage(digital_signature=True),
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
            )
        ),
    ):
        assert list(certificates.refusals("it", one.pem, DOMAIN, NOW)) == []


def test_must_staple_and_a_name_that_is_only_the_common_name():
    staple = x509.TLSFeature([x509.TLSFeatureType.status_request])
    codes = [
        [each.code for each in certificates.refusals("it", pem, DOMAIN, NOW)]
        for pem in (leaf(extensions=(staple,)).pem, made(DOMAIN, INTER).pem, b"none")
    ]
    assert codes == [["SD616"], ["SD604"], ["SD602"]]


def test_a_key_in_a_file_that_everyone_may_read(told, tmp_path):
    one = leaf()
    chain = one.pem + INTER.pem
    assert told(key_pem(one.key) + chain, key_pem(one.key)) == [("SD607", "error")]
    assert told(chain + key_pem(one.key, b"secret")) == [("SD607", "error")]
    text = TEXT.replace(
        "files, certificate: c.pem, private_key: k.pem",
        "letsencrypt, server: https://a.example/dir, ca_bundle: r.pem",
    )
    (tmp_path / "r.pem").write_bytes(ROOT.pem + key_pem(ROOT.key))
    with pytest.raises(InvalidFiles) as failed:
        certificates.read_material(load_site(text, "inventory.yaml")[0], tmp_path)
    assert [problem.code for problem in failed.value.diagnostics] == ["SD607"]


def test_line_ends_and_text_around_it_do_not_matter(told):
    one = leaf()
    odd = (b"Bag Attributes: x\n" + one.pem + b"subject=inter\n" + INTER.pem).replace(
        b"\n", b"\r\n"
    )
    assert told(odd, key_pem(one.key).replace(b"\n", b"\r\n")) == []


def test_the_plan_has_the_warnings_too(told):
    certificate, key, _ = pair()
    told(certificate, key)
    (note,) = certificates.read_material(SITE, told.folder).notes
    assert "self-signed" in note


def test_lint_shows_the_place_and_reads_nothing_outside(told, capsys, monkeypatch):
    folder = told.folder / "site"
    folder.mkdir()
    monkeypatch.chdir(folder)
    inventory = folder / "inventory.yaml"
    inventory.write_text(TEXT)

    def lint(*more):
        status = main(["lint", "--format", "concise", *more])
        return status, capsys.readouterr().out

    assert lint()[0] == 0, "files that are not there are no fault here"
    one = leaf()
    (folder / "c.pem").write_bytes(one.pem)
    (folder / "k.pem").write_bytes(key_pem(INTER.key))
    status, said = lint()
    assert status == 1
    assert said.count("inventory.yaml:5:") == 2
    assert "SD608" in said
    assert "SD603" in said
    (folder / "c.pem").rename(told.folder / "outside.pem")
    inventory.write_text(TEXT.replace("c.pem", "../outside.pem"))
    assert "SD608" not in lint()[1]
    assert "SD608" in lint("--trusted")[1]


@pytest.mark.parametrize("change", ["crlf", "text before", "other order"])
def test_verify_compares_certificates_and_not_their_text(tmp_path, change):
    one = leaf()
    file = {
        "crlf": (one.pem + INTER.pem).replace(b"\n", b"\r\n"),
        "text before": b"Certificate:\n    Data:\n" + one.pem,
        "other order": one.pem + ROOT.pem + INTER.pem,
    }[change]
    assert verified(tmp_path, file, one.pem) == ""
    assert "another certificate" in verified(tmp_path, file, leaf().pem)
    assert verified(tmp_path, file, b"") == "does not speak TLS"


def verified(folder, file, served):
    """What `answers` says about a port that serves `served`, in a shell without a server."""
    (folder / "file.crt").write_bytes(file)
    (folder / "answer.in").write_bytes(b"CONNECTED\n" + served + b"HTTP/1.1 101 \r\n\0SIP/2.0 401")
    script = script_text("swap").decode().split("\nis_up()")[0]
    run = f"""{script}
    candidate={folder}
    talk() {{ :; }}
    timeout() {{ cat "$candidate/answer.in"; }}
    answers 127.0.0.1 8443 {DOMAIN} "$candidate/file.crt" "" 1001
    printf %s "$reason"
    """
    done = subprocess.run(["sh", "-c", run], capture_output=True, text=True, check=True)
    return done.stdout
