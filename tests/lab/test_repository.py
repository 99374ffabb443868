"""Kamailio from an apt repository, which only the configured key may sign."""

import pytest
from applying import Events, codes, run_apply, site_on

from lab.origin import SUFFIX, Origin
from sipdeploy.services import install as repository

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("login")]


@pytest.fixture(scope="module")
def offer(lab):
    """The URL of the repository, and the fingerprints of its key and of another key."""
    origin = Origin(lab.boot("archive"))
    return origin.url, *origin.repository()


@pytest.fixture(scope="module")
def host(lab):
    return lab.boot("repository1")


def site(host, offer, *, key="right", fingerprint=None):
    base, url, right, _ = offer
    wanted = f"url: {url}, key: {base}/{key}.asc, fingerprint: {fingerprint or right}"
    return site_on(host, more=f"install: {{kamailio: {{{wanted}}}}}")


def apt(host):
    kept = "find /etc/apt /var/lib/apt/lists -type f ! -name lock ! -path '*/partial/*'"
    return host.run(f"{kept} -exec sha256sum {{}} + | sort; dpkg -l | sort").stdout


@pytest.mark.parametrize("case", ["another key is known", "another key is served"])
def test_a_repository_signed_by_another_key_changes_nothing(host, offer, case):
    wrong = offer[3]
    wanted = site(host, offer, fingerprint=wrong)
    if case == "another key is served":
        wanted = site(host, offer, key="wrong")
    host.run("apt-get -q update", check=True)
    before = apt(host)
    report = run_apply(wanted)
    assert (codes(report), report.state) == (["SD541"], "unchanged")
    (problem,) = (p for p in report.diagnostics if p.code == "SD541")
    assert "is not signed" in " ".join(problem.notes)
    assert wanted.install.repository.fingerprint in problem.help
    assert apt(host) == before
    assert host.run("ls /var/lib/sipdeploy/lock").returncode != 0


def test_the_right_key_lets_kamailio_in(host, offer):
    said = Events()
    report = run_apply(site(host, offer), said)
    assert (codes(report), report.state) == ([], "applied"), report
    assert f"add the repository {offer[1]}" in said.done
    version = host.run("dpkg-query -W -f '${Version}' kamailio kamailio-tls-modules").stdout
    assert version.count(SUFFIX) == 2
    assert ":8443" in host.run("ss -tln").stdout
    assert offer[2] in host.read(repository.SOURCE).decode()


def test_a_second_apply_asks_nothing_of_apt(host, offer):
    said = Events()
    report = run_apply(site(host, offer), said)
    assert (report.state, report.changes, said.done) == (
        "unchanged",
        (),
        ["connect", "read facts"],
    )


def test_the_distributions_own_can_be_had_again(host):
    """The installed version stays and keeps running; the repository is removed from apt."""
    before = host.run("systemctl show -p MainPID kamailio").stdout
    report = run_apply(site_on(host, more="install: {kamailio: package}"))
    assert (codes(report), report.state) == ([], "applied")
    assert report.changes == (f"- {repository.SOURCE}",)
    assert host.run(["ls", repository.SOURCE]).returncode != 0
    assert host.run("systemctl show -p MainPID kamailio").stdout == before
