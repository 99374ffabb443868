"""All providers and challenges, changes between them without a gap, and their preconditions."""

import subprocess
import threading
import time

import pytest
from trusted import DOMAIN, HELD, LIVE, trusted_host

pytestmark = pytest.mark.lab

SELF = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=mine -days 60"


@pytest.fixture(scope="module")
def site(lab, tmp_path_factory):
    return trusted_host(lab, tmp_path_factory.mktemp("site"), "ways1")


class Watch:
    """A context that polls the served certificate; `gaps` counts connections without one."""

    def __init__(self, site):
        self.gaps, self.seen = 0, []
        self._site = site
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *failure):
        self._end.set()
        self._thread.join()

    def _look(self):
        while not self._end.wait(0.1):
            found = self._site.served()
            self.gaps += not found
            if found and found not in self.seen:
                self.seen.append(found)


def test_preflight_says_what_stands_in_the_way(site):
    """On a host without a release, before a request to the ACME server."""
    site.write()
    site.authority.point(DOMAIN, "A 192.0.2.7", f"A {site.host.address}", "AAAA 2001:db8::7")
    told = site.apply(status=4)
    assert "SD612" in told
    assert "`192.0.2.7`, `2001:db8::7`" in told
    assert "correct the A and AAAA record" in told
    site.authority.point(DOMAIN)
    assert "has no address in the DNS" in site.apply(status=4)
    site.authority.point(DOMAIN, f"A {site.host.address}")
    taker = "import socket, time; s = socket.create_server(('', 80)); time.sleep(900)"
    unit = ["systemd-run", "--quiet", "--collect", "--unit=web", "python3", "-c", taker]
    site.host.run(unit, check=True)
    while ":80 " not in site.host.run("ss -Htln").stdout:
        time.sleep(0.1)
    told = site.apply(status=4)
    assert "SD613" in told
    assert "`python3`" in told
    site.host.run("systemctl stop web", check=True)
    assert site.host.run("ls /etc/sipdeploy /var/lib/sipdeploy").stdout == ""


def test_a_caa_record_forbids_letsencrypt(site):
    site.authority.point(DOMAIN, f"A {site.host.address}", 'CAA 0 issue "other.example"')
    site.write()
    inventory = site.deployer.folder / "inventory.yaml"
    text = inventory.read_text().replace(f'server: "{site.directory.url}", ', "")
    inventory.write_text(text.replace(", ca_bundle: acme-root.pem", ""))
    told = site.apply(status=4)
    assert "SD615" in told
    assert "`other.example`" in told
    site.authority.point(DOMAIN, f"A {site.host.address}")


def test_what_was_had_is_kept_when_a_later_step_fails(site):
    """All else is restored; the next apply uses the certificate, and requests no other."""
    site.host.write("/etc/kamailio/local.cfg", b"nonsense\n")
    site.write()
    told = site.apply(status=4)
    assert f"get a certificate for {DOMAIN}" in told
    assert "SD401" in told
    assert site.host.run("ls -A /etc/sipdeploy").stdout == ""
    assert site.host.run("ls -A /var/lib/sipdeploy").stdout == ""
    held = site.on_disk(f"{HELD}/fullchain.pem")
    site.host.run("rm /etc/kamailio/local.cfg", check=True)
    told = site.apply()
    assert "get a certificate" not in told
    assert site.served() == held


def test_the_dns_proves_the_domain(site):
    """rfc2136: BIND accepts the record, and port 80 is not used."""
    credentials = f"""\
dns_rfc2136_server = {site.authority.host.address}
dns_rfc2136_name = acme-updates
dns_rfc2136_secret = {site.authority.tsig_secret}
dns_rfc2136_algorithm = HMAC-SHA256
"""
    (site.deployer.folder / "dns.ini").write_text(credentials)
    (site.deployer.folder / "dns.ini").chmod(0o600)
    words = ("challenge: dns-01", "dns_plugin: rfc2136", "dns_credentials: dns.ini", "dns_wait: 1")
    site.write(", ".join(words))
    told = site.apply()
    assert site.served() == site.on_disk() == site.on_disk(f"{HELD}/fullchain.pem")
    mode = site.host.run("stat -c '%a %U:%G' /etc/sipdeploy/dns.ini").stdout
    assert mode == "600 root:root\n"
    logs = "".join(file.read_text() for file in site.deployer.folder.rglob("*.log"))
    assert site.authority.tsig_secret not in told + logs
    assert site.renew() == "success"
    assert site.served() == site.on_disk() == site.on_disk(f"{HELD}/fullchain.pem")
    assert site.challenged() == 0
    site.sleep_out()
    (site.deployer.folder / "dns.ini").write_text(credentials + "# another\n")
    shown = site.deployer.run("plan", "sip1").stdout
    assert "/etc/sipdeploy/dns.ini" in shown
    assert site.authority.tsig_secret not in shown


def own_pair(site, name, *, domain=DOMAIN):
    names = f"-addext subjectAltName=DNS:{domain} -keyout {name}.key -out {name}.crt"
    subprocess.run(
        [*SELF.split(), *names.split()], cwd=site.deployer.folder, check=True, capture_output=True
    )
    return f"certificate: {name}.crt, private_key: {name}.key"


def test_from_each_provider_to_the_next_without_a_gap(site, record_property):
    own = own_pair(site, "own")
    starts = site.host.run("systemctl show -p ExecMainStartTimestampMonotonic kamailio").stdout
    with Watch(site) as watch:
        for provider, more in (
            ("self-signed", ""),
            ("letsencrypt", ""),
            ("files", own),
            ("letsencrypt", ""),
            ("files", own),
            ("self-signed", ""),
        ):
            site.write(more, provider=provider)
            site.apply()
            assert site.served() == site.on_disk(), provider
            assert "unchanged" in site.apply(), provider
    assert watch.gaps == 0
    assert len(watch.seen) == 4, "one from the DNS test, self-signed, from port 80, ours"
    after = site.host.run("systemctl show -p ExecMainStartTimestampMonotonic kamailio").stdout
    assert after == starts, "kamailio was never restarted"
    record_property("figure", f"6 changes of provider: {len(watch.seen)} certificates, no gap")


RENEWAL = f"/etc/letsencrypt/renewal/sipdeploy-{DOMAIN}.conf"
CERTBOT = "REQUESTS_CA_BUNDLE=/root/acme-root.pem certbot"


def renewed(site):
    """Return the output of a rehearsal of all renewals on the host."""
    return site.host.run(f"{CERTBOT} renew --dry-run --no-random-sleep-on-renew 2>&1").stdout


def test_who_has_left_letsencrypt_is_renewed_no_more(site, record_property):
    """certbot stops renewing it until a rollback or a return; the administrator's own stays."""
    site.host.write("/root/acme-root.pem", site.authority.server_root.encode())
    site.write()
    site.apply()
    held = site.on_disk(f"{HELD}/fullchain.pem")
    assert site.served() == held
    # one of the administrator, and one of a previous domain of the site
    server = f"--server {site.directory.url} --standalone -d {DOMAIN}"
    for name in ("mine", "sipdeploy-old.example.test"):
        words = f"certonly -n --agree-tos -m a@b.example --cert-name {name} {server}"
        told = site.host.run(f"/etc/sipdeploy/certificate.sh open; {CERTBOT} {words} 2>&1")
        assert told.returncode == 0, told.stdout
    assert "certbot stops renewing it" in site.deployer.run("plan", "sip1").stdout
    site.apply()
    assert site.host.run("ls /etc/letsencrypt/renewal").stdout.split() == [
        "mine.conf",
        "sipdeploy-old.example.test.conf.parked",
        f"sipdeploy-{DOMAIN}.conf",
    ]
    with Watch(site) as watch:
        site.write(provider="self-signed")
        assert f"- {RENEWAL}" in site.deployer.run("plan", "sip1").stdout
        site.apply()
        assert "unchanged" in site.apply()
        assert site.served() != held
        told = renewed(site)
        assert "/mine/" in told
        assert "sipdeploy-" not in told, told
        began = time.monotonic()
        done = site.deployer.run("rollback", "sip1", "--yes")
        assert done.returncode == 0, done.stderr
        assert "get a certificate" not in done.stderr
        record_property("figure", f"rollback to letsencrypt: {time.monotonic() - began:.1f} s")
        assert site.served() == held
        assert f"/sipdeploy-{DOMAIN}/" in renewed(site)
        site.write(provider="self-signed")
        site.apply()
        site.write()
        told = site.apply()
        assert "get a certificate" not in told
        assert site.served() == held
        # if the parked certificate is unusable, a new one replaces it
        site.write(provider="self-signed")
        site.apply()
        site.host.run(
            f"sed -i 's/^server = .*/server = https:..other/' {RENEWAL}.parked", check=True
        )
        site.write()
        told = site.apply()
        assert "get a certificate" in told
        assert site.served() == site.on_disk(f"{HELD}/fullchain.pem") != held
        assert f"/sipdeploy-{DOMAIN}/" in renewed(site)
    assert watch.gaps == 0
    site.host.run("certbot delete -n --cert-name mine", check=True)
    site.write(provider="self-signed")
    site.apply()


def test_what_is_wrong_with_files_of_ones_own(site):
    served = site.served()
    other = own_pair(site, "other", domain="other.example.test")
    site.write(other, provider="files")
    assert "SD604" in site.apply(status=1)
    site.write("certificate: own.crt, private_key: other.key", provider="files")
    assert "SD603" in site.apply(status=1)
    folder = site.deployer.folder
    (folder / "chain.crt").write_bytes(
        (folder / "own.crt").read_bytes() + (folder / "other.crt").read_bytes()
    )
    site.write("certificate: chain.crt, private_key: own.key", provider="files")
    assert "SD606" in site.apply(status=1)
    (folder / "both.crt").write_bytes(
        (folder / "own.key").read_bytes() + (folder / "own.crt").read_bytes()
    )
    site.write("certificate: both.crt, private_key: own.key", provider="files")
    assert "SD607" in site.apply(status=1)
    assert site.served() == served


def test_a_file_with_other_line_ends_and_text_before_the_certificate(site):
    """What OpenSSL reads as the same certificate passes the verification."""
    own_pair(site, "windows")
    file = site.deployer.folder / "windows.crt"
    file.write_bytes(b"Bag Attributes\r\n" + file.read_bytes().replace(b"\n", b"\r\n"))
    site.write("certificate: windows.crt, private_key: windows.key", provider="files")
    site.apply()
    assert site.served() == site.on_disk()
    assert "unchanged" in site.apply()


def test_a_web_server_gives_the_answer(site):
    """webroot: another web server keeps port 80."""
    site.write("webroot: /srv/www")
    site.host.run("mkdir -p /srv/www", check=True)
    site.listen("/srv/www")
    site.apply()
    assert site.served() == site.on_disk() == site.on_disk(f"{HELD}/fullchain.pem")
    before = site.served()
    assert site.renew() == "success"
    assert site.served() == site.on_disk() != before
    assert site.host.run("systemctl is-active web").stdout.strip() == "active"
    site.host.run("systemctl stop web")
    site.sleep_out()
    site.cert()
    assert site.host.run(f"ls -A {LIVE[:-6]}").stdout.split() == ["server.crt", "server.key"]


def test_ufw_opens_port_80_for_the_challenge_only(site):
    site.host.run("apt-get install -q -y ufw", check=True)
    site.host.run("ufw allow 22/tcp && ufw --force enable", check=True)
    site.write()
    site.apply()
    assert site.on_disk() == site.served()
    added = site.host.run("ufw show added").stdout
    assert "80/tcp" not in added
    before = site.served()
    assert site.renew() == "success"
    assert site.served() != before
    assert site.is_shut()
    assert site.host.run("ufw show added").stdout == added
    assert "sipdeploy-challenge" not in site.host.run("systemctl list-timers --all").stdout
    # a rule of the administrator stays
    site.host.run("ufw allow 80/tcp comment mine", check=True)
    assert site.renew() == "success"
    assert "ufw allow 80/tcp comment 'mine'" in site.host.run("ufw show added").stdout
