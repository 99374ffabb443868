"""The step of the web phone, against a web server of this machine."""

import asyncio
import ssl

import pytest
from cryptography.hazmat.primitives import serialization
from test_judged_certificates import INTER, leaf
from test_proof_network import subject

from sipdeploy.proof.outside import page as step
from sipdeploy.proof.outside import user
from sipdeploy.proof.outside.ladder import LADDER
from sipdeploy.proof.outside.step import PAGE, StepFailed
from sipdeploy.services.phone import page

SERVED, OTHER = leaf(), leaf()


@pytest.fixture
def proven(tmp_path):
    """The result of the step, or its code, for a server that answers each path with a status."""
    chain = tmp_path / "chain.pem"
    chain.write_bytes(SERVED.pem + INTER.pem)
    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key = SERVED.key.private_bytes(*kinds, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, tmp_path / "key.pem")

    def prove(*, deployed=SERVED, root=200, contacts=401, left_out="", is_mute=False):
        async def answer(reader, writer):
            first = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0]
            status = contacts if b"contacts" in first else root
            fields = page.headers(subject(more="phone: {}").site, is_local=False)
            rows = "".join(f"{n}: {v}\r\n" for n, v in fields.items() if n != left_out)
            writer.write(b"" if is_mute else f"HTTP/1.1 {status} x\r\n{rows}\r\n".encode())
            writer.close()

        async def scenario():
            server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
            port = server.sockets[0].getsockname()[1]
            async with server:
                asked = subject(more=f"phone: {{port: {port}}}")
                asked.address, asked.chain = "127.0.0.1", (deployed.pem,)
                return await step.served(asked)

        try:
            return asyncio.run(scenario())
        except StepFailed as failure:
            (problem,) = failure.diagnostics
            return problem

    return prove


def test_a_protected_page_is_proven(proven):
    assert "the contacts need a password" in proven()


@pytest.mark.parametrize(
    ("wrong", "code", "message"),
    [
        ({"is_mute": True}, "SD723", "does not answer browsers"),
        ({"deployed": OTHER}, "SD724", "serves another certificate than port 8443"),
        ({"root": 404}, "SD725", "answers 404 for the page"),
        (
            {"left_out": "Content-Security-Policy"},
            "SD725",
            "sends another Content-Security-Policy for the page",
        ),
        (
            {"left_out": "Strict-Transport-Security"},
            "SD725",
            "sends another Strict-Transport-Security for the page",
        ),
        ({"contacts": 200}, "SD726", "answers 200 to a stranger who asks for the contacts"),
    ],
)
def test_a_page_without_its_protection_is_told(proven, wrong, code, message):
    problem = proven(**wrong)
    assert problem.code == code
    assert message in problem.message
    assert problem.help


def test_a_closed_port_is_told_with_the_provider_s_firewall():
    asked = subject(more="phone: {port: 2}")
    asked.address = "127.0.0.1"
    with pytest.raises(StepFailed) as failed:
        asyncio.run(step.served(asked))
    (problem,) = failed.value.diagnostics
    assert problem.code == "SD723"
    assert "TCP 2 to everyone in your provider's firewall" in problem.help


def test_only_a_site_with_the_page_has_the_step():
    (found,) = (each for each in LADDER if each.name == PAGE)
    assert found.is_wanted(subject(more="phone: {}"))
    assert not found.is_wanted(subject())
    others = [each for each in LADDER if each.name != PAGE and each not in user.STEPS]
    assert all(each.is_wanted(subject()) for each in others)
