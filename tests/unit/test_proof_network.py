"""The rungs below SIP, against sockets of this machine: names, ports, certificates."""

import asyncio
import contextlib
import socket
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID
from test_judged_certificates import DOMAIN, INTER, ROOT, leaf, made

from sipdeploy.inventory.site import load_site
from sipdeploy.proof.outside import network
from sipdeploy.proof.outside.step import StepFailed, StepSkipped, cause
from sipdeploy.proof.outside.subject import Subject
from sipdeploy.services import certificates

HOST = "203.0.113.10"


def subject(domain=DOMAIN, port=8443, hosts=f"sip1: {{address: {HOST}}}", more=""):
    text = f"""\
domain: {domain}
email: ops@example.com
hosts: {{{hosts}}}
ports: {{wss: {port}}}
users: {{1001: }}
{more}
"""
    site, problems, _ = load_site(text, "inventory.yaml")
    assert site, problems
    return Subject(name="sip1", site=site, entry=site.hosts["sip1"], level="ports")


@pytest.fixture
def dns(monkeypatch):
    """The addresses of every name."""
    known = []

    async def resolved(name):
        await asyncio.sleep(0)
        del name
        return tuple(known)

    monkeypatch.setattr(network, "resolved", resolved)
    return known


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (OSError(111, "Connect call failed ('192.0.2.1', 443)"), "connection refused"),
        (ConnectionResetError(104, "Connection reset by peer"), "connection reset by peer"),
        (socket.gaierror(-2, "Name or service not known"), "name or service not known"),
        (ssl.SSLError(1, "[SSL: NO_CIPHERS] none"), "[ssl: no ciphers]"),
        (TimeoutError(), ""),
        (RuntimeError("The answer makes no sense"), "the answer makes no sense"),
    ],
)
def test_the_cause_of_a_failure_has_no_numbers_of_errors(failure, words):
    assert cause(failure).startswith(words)
    assert bool(cause(failure)) == bool(words)
    assert "Errno" not in cause(failure)


def codes(step, subject):
    """Run a step; the codes of its diagnostics, errors and warnings."""
    name = {network.tls: "TLS", network.tcp: "TCP"}.get(step, "")
    try:
        asyncio.run(step(subject))
    except StepFailed as failure:
        return [problem.code for problem in failure.diagnostics]
    return [f"{problem.code} {problem.severity}" for problem in subject.warnings.get(name, ())]


# --- names ---------------------------------------------------------------------------------------


def test_a_name_that_leads_to_the_host(dns):
    dns.append(HOST)
    assert codes(network.dns, subject("sip.example.net")) == []


def test_a_name_without_an_address(dns):
    assert not dns
    assert codes(network.dns, subject("sip.somebody.net")) == ["SD901"]


@pytest.mark.parametrize("domain", ["sip.example.test", "sip.example.com", "pbx.invalid"])
def test_a_reserved_name_without_an_address_is_no_fault(dns, domain):
    assert not dns
    with pytest.raises(StepSkipped, match="reserved"):
        asyncio.run(network.dns(subject(domain)))


def test_a_name_that_is_only_like_a_reserved_one(dns):
    assert not dns
    assert not network.is_reserved("myexample.com")
    assert not network.is_reserved("latest.net")


def test_a_name_that_leads_elsewhere(dns):
    dns.append("198.51.100.7")
    assert codes(network.dns, subject("sip.somebody.net")) == ["SD901"]


def test_a_name_that_also_leads_to_a_stranger(dns):
    dns += [HOST, "198.51.100.7"]
    assert codes(network.dns, subject("sip.somebody.net")) == ["SD901"]


def test_a_name_may_lead_to_every_host_of_the_inventory(dns):
    dns += [HOST, "198.51.100.7"]
    hosts = f"sip1: {{address: {HOST}}}, sip2: {{address: 198.51.100.7}}"
    assert codes(network.dns, subject("sip.somebody.net", hosts=hosts)) == []


def test_the_public_address_of_a_mapped_host_counts(dns):
    dns.append(HOST)
    hosts = f"sip1: {{address: 10.0.0.5, public_address: {HOST}, private_address: 10.0.0.5}}"
    assert codes(network.dns, subject("sip.somebody.net", hosts=hosts)) == []


# --- ports ---------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def serving(context=None):
    """A port of this machine that accepts connections."""

    writers = []

    async def hold(reader, writer):
        writers.append(writer)
        with contextlib.suppress(OSError, EOFError):
            await reader.read()

    server = await asyncio.start_server(hold, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0.05)
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.05)


@pytest.fixture
def here(monkeypatch):
    """Every host is at this address of this machine."""

    async def targets(_):
        await asyncio.sleep(0)
        return ("127.0.0.1",)

    monkeypatch.setattr(network, "targets_of", targets)


@pytest.mark.usefixtures("here")
def test_an_open_port():
    async def scenario():
        async with serving() as port:
            asked = subject(port=port)
            await network.tcp(asked)
            return asked.address

    assert asyncio.run(scenario()) == "127.0.0.1"


@pytest.mark.usefixtures("here")
def test_a_closed_port():
    async def free():
        async with serving() as port:
            return port

    asked = subject(port=asyncio.run(free()))
    with pytest.raises(StepFailed) as failed:
        asyncio.run(network.tcp(asked))
    (problem,) = failed.value.diagnostics
    assert problem.code == "SD902"
    assert "connection refused" in problem.message
    assert f"ss -ltn 'sport = :{asked.port}'" in problem.help


def test_a_port_that_drops(monkeypatch, dns):
    assert not dns
    monkeypatch.setattr(network, "CONNECT_SECONDS", 0.05)

    async def never(*_, **__):
        await asyncio.sleep(5)

    monkeypatch.setattr(asyncio, "open_connection", never)
    with pytest.raises(StepFailed) as failed:
        asyncio.run(network.tcp(subject()))
    (problem,) = failed.value.diagnostics
    assert "nothing answers" in problem.message
    assert "provider" in problem.help


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        ({"2001:db8::1": network.UNROUTED}, []),
        ({"2001:db8::1": "connection refused"}, ["SD902 warning"]),
        ({HOST: "connection refused"}, ["SD902 error"]),
        ({HOST: "x", "2001:db8::1": "x"}, ["SD902", "SD902"]),
    ],
)
def test_every_address_of_the_name_is_tried(monkeypatch, dns, reasons, expected):
    dns += [HOST, "2001:db8::1"]

    async def reached(address, _):
        await asyncio.sleep(0)
        return reasons.get(address, "")

    monkeypatch.setattr(network, "knock", reached)
    assert codes(network.tcp, subject("sip.somebody.net")) == expected


def test_an_address_of_another_host_is_not_tried(dns):
    dns += ["198.51.100.7", HOST, "2001:db8::2"]
    hosts = f"sip1: {{address: {HOST}}}, "
    hosts += "sip2: {address: 198.51.100.7}, sip3: {address: '2001:db8::2'}"
    asked = subject("sip.somebody.net", hosts=hosts)
    assert asyncio.run(network.targets_of(asked)) == (HOST,)


# --- certificates --------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Serve a chain; the codes of the step TLS, and its subject."""
    store = tmp_path / "store.pem"
    store.write_bytes(ROOT.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(store))

    def serve(one, *others, more=""):
        (tmp_path / "chain.pem").write_bytes(one.pem + b"".join(each.pem for each in others))
        (tmp_path / "key.pem").write_bytes(
            one.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "chain.pem", tmp_path / "key.pem")

        async def scenario():
            async with serving(context) as port:
                asked = subject(port=port, more=more)
                asked.address = "127.0.0.1"
                try:
                    await network.tls(asked)
                except StepFailed as failure:
                    return [problem.code for problem in failure.diagnostics], asked
                return [f"{p.code} {p.severity}" for p in asked.warnings["TLS"]], asked

        return asyncio.run(scenario())

    return serve


def test_a_good_chain(served):
    one = leaf()
    told, asked = served(one, INTER)
    assert told == []
    assert [x509.load_pem_x509_certificate(pem) for pem in asked.chain] == [
        one.certificate,
        INTER.certificate,
    ]


def must_staple():
    return leaf(extensions=(x509.TLSFeature([x509.TLSFeatureType.status_request]),))


def of_clients_only():
    return leaf(extensions=(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),))


def of_another_name():
    san = x509.SubjectAlternativeName([x509.DNSName("other.example.test")])
    return made("other", INTER, extensions=(san,))


@pytest.mark.parametrize(
    ("make", "above", "expected"),
    [
        (leaf, (), "SD608"),
        (lambda: leaf(days=30, start=-60), (INTER,), "SD605"),
        (lambda: leaf(days=30, start=2), (INTER,), "SD605"),
        (of_another_name, (INTER,), "SD604"),
        (lambda: leaf(key=ed25519.Ed25519PrivateKey.generate()), (INTER,), "SD609"),
        (must_staple, (INTER,), "SD616"),
        (of_clients_only, (INTER,), "SD609"),
        (lambda: made(DOMAIN, INTER), (INTER,), "SD604"),
    ],
)
def test_a_chain_that_browsers_refuse(served, make, above, expected):
    told, _ = served(make(), *above)
    assert expected in told


def test_a_certificate_of_an_own_authority_is_a_warning_where_the_inventory_names_it(served):
    private = made("private", ca=True)
    between = made("private inter", private, ca=True)
    more = "tls: {server: 'https://acme.example.test/directory'}"
    assert served(leaf(by=between), between, more=more)[0] == ["SD608 warning"]
    assert served(leaf(by=between), between)[0] == ["SD608"]


@pytest.mark.parametrize(
    ("tls", "severity"),
    [
        ("", "error"),  # Let's Encrypt: somebody in between
        ("tls: {server: 'https://acme.example.test/directory'}", "warning"),
        ("tls: {provider: self-signed}", "warning"),
    ],
)
def test_a_self_signed_certificate_is_as_severe_as_its_source_says(served, tls, severity):
    told, _ = served(leaf(by=None), more=tls)
    assert told == (["SD617"] if severity == "error" else ["SD617 warning"])


def test_a_port_without_tls():
    async def scenario():
        async with serving() as port:
            asked = subject(port=port)
            asked.address = "127.0.0.1"
            await network.tls(asked)

    network_seconds, network.CONNECT_SECONDS = network.CONNECT_SECONDS, 0.3
    try:
        with pytest.raises(StepFailed) as failed:
            asyncio.run(scenario())
    finally:
        network.CONNECT_SECONDS = network_seconds
    assert [problem.code for problem in failed.value.diagnostics] == ["SD903"]


def test_the_served_certificate_is_compared_with_the_file_of_the_host(served):
    _, asked = served(leaf(), INTER)
    with pytest.raises(StepSkipped):
        asyncio.run(network.deployed(asked))
    asked.fingerprint = "00" * 32
    assert codes(network.deployed, asked) == ["SD904"]
    asked.fingerprint = certificates.parse(asked.chain[0], b"").fingerprint
    assert codes(network.deployed, asked) == []
