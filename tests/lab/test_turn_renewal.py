"""certbot renews the certificate while a call runs over the relay."""

import pytest
from trusted import DOMAIN, fingerprint, password, trusted_host

from lab.turn import Turn
from sipdeploy.inventory.secret import ha1
from sipdeploy.services.coturn.credentials import turn_credential

pytestmark = pytest.mark.lab

NUMBER = "20001"


def served(site):
    ask = f"openssl s_client -connect {site.host.address}:5349 -servername {DOMAIN} </dev/null"
    return fingerprint(site.host, ask)


def test_a_renewal_keeps_relayed_calls(lab, tmp_path):
    site = trusted_host(lab, tmp_path, "turnrenew")
    site.write(users=[(NUMBER, password("1"))], more="turn: {}\n")
    site.apply()
    name, secret = turn_credential(NUMBER, ha1(NUMBER, DOMAIN, password("1")))
    values = {"server": (site.host.address, 5349), "username": name, "password": secret}
    before = served(site)
    assert before == site.on_disk()
    with Turn(transport="tls", **values) as one, Turn(transport="tls", **values) as two:
        one.relayed()
        there = two.relayed()
        assert one.permit(site.host.address) == two.permit(site.host.address) == 0
        assert site.renew() == "success"
        assert served(site) == site.served() == site.on_disk() != before
        one.send(*there, b"still here")
        assert two.receive()[1] == b"still here"
        assert one.refresh().error == 0
    site.host.run("systemctl stop coturn", check=True)
    before = site.on_disk()
    assert site.renew() == "success"  # a relay that does not run keeps nothing from being renewed
    assert site.served() == site.on_disk() != before
    site.host.stop()
