"""The web phone as a host serves it: its page, its neighbours, its certificate, its end."""

import base64
import json
import ssl
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest
from system import within
from trusted import DOMAIN, fingerprint, password, trusted_host
from web_phones import WebPhone

from lab.browser import Browser, reload
from lab.phones.build import WEB
from sipdeploy.inventory.secret import ha1
from sipdeploy.services import nginx
from sipdeploy.services.phone import page

pytestmark = pytest.mark.lab

ADDRESS = f"https://{DOMAIN}/"
LOW, HIGH = 440, 620
PHONE = "phone: {port: 443}\nturn: {}\norigins: [https://phone.example.com]\n"
OWN = (
    "server { listen 8080; location / { return 200 mine; } }\n"
    "server { listen 8445; location / { return 200 more; } }\n"
)
INJECT = """() => new Promise((done) => {
  const seen = [];
  const note = (event) => seen.push(event.violatedDirective);
  document.addEventListener("securitypolicyviolation", note);
  const attempt = (act) => { try { act(); } catch { seen.push("refused"); } };
  const script = document.createElement("script");
  attempt(() => { script.text = "globalThis.injected = true"; });
  document.head.append(script);
  const image = "<img src=x onerror='globalThis.injected = true'>";
  attempt(() => document.body.insertAdjacentHTML("beforeend", image));
  attempt(() => { fetch("https://evil.example/").catch(() => {}); });
  setTimeout(() => done([globalThis.injected ?? false, seen]), 500);
})"""


@pytest.fixture(scope="module")
def site(lab, tmp_path_factory):
    """A host that gets nginx by its first apply."""
    WEB.build()
    made = trusted_host(lab, tmp_path_factory.mktemp("page"), "page")
    made.write(more=PHONE)
    made.said = made.apply()
    yield made
    made.host.stop()


@pytest.fixture(scope="module")
def browsers(site):
    roots = [site.authority.root(site.directory)]
    resolve = {DOMAIN: site.host.address}
    with (
        Browser(resolve, roots=roots, tone_hz=LOW) as low,
        Browser(resolve, roots=roots, tone_hz=HIGH) as high,
    ):
        yield low, high


def signed_in(browser, number):
    """The page of the host, used as a person does."""
    phone = WebPhone(browser, SimpleNamespace(address=ADDRESS), fragment=f"#{number}")
    filled = "() => document.querySelector('#sign-in-number').value"
    assert within(10, lambda: phone.evaluate(filled) == number)
    phone.fill("Password", password(number))
    phone.key("Enter")
    phone.wait_ready()
    return phone


def get(site, path="", *, user=None, port=443):
    """The status and the header fields of an answer to this machine."""
    request = urllib.request.Request(f"https://{site.host.address}:{port}/{path}")
    request.add_header("Host", DOMAIN)
    if user:
        key = page.derived_key(ha1(user, DOMAIN, password(user)), "contacts")
        token = base64.b64encode(f"{user}:{key}".encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting)
    )
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, dict(refusal.headers), b""


def served(site, port=443):
    ask = f"openssl s_client -connect {site.host.address}:{port} -servername {DOMAIN} </dev/null"
    return fingerprint(site.host, ask)


def test_the_first_apply_names_the_page_and_the_proof_from_here_takes_it(site):
    assert f"next: open {ADDRESS} and sign in" in site.said
    done = site.deployer.run("verify", "sip1", "--level", "ports")
    assert "web phone" in done.stdout, done.stdout + done.stderr
    (row,) = (line for line in done.stdout.splitlines() if " web phone " in line)
    assert " ok " in row, done.stdout


def test_the_server_of_the_package_does_not_run(site):
    state = site.host.run("systemctl is-active nginx; systemctl is-enabled nginx").stdout.split()
    assert state == ["inactive", "disabled"]
    assert ":80 " not in site.host.run("ss -Htln").stdout


def test_nginx_is_nobody_and_sees_little(site):
    pid = site.host.run(f"systemctl show -P MainPID {nginx.UNIT}").stdout.strip()
    status = site.host.run(f"cat /proc/{pid}/status").stdout
    (uid,) = (line.split()[1] for line in status.splitlines() if line.startswith("Uid:"))
    assert int(uid) >= 1000
    inside = f"nsenter -t {pid} -m ls /etc/kamailio /run/kamailio 2>&1"
    seen = site.host.run(inside).stdout
    assert "tls" in seen
    assert "sipdeploy.db" not in seen
    assert site.host.run(f"journalctl -u {nginx.UNIT} -o cat | grep -E 'emerg|alert'").stdout == ""


def test_every_answer_is_protected_and_strangers_read_no_name(site):
    for path, status in (("", 200), ("phone.js", 200), ("absent", 404), ("contacts.json", 401)):
        got, fields, body = get(site, path)
        assert got == status, path
        policy = fields["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy
        assert "'unsafe" not in policy
        assert fields["Strict-Transport-Security"].startswith("max-age=")
        assert fields["X-Content-Type-Options"] == "nosniff"
        assert fields["Referrer-Policy"] == "no-referrer"
        assert "microphone=(self)" in fields["Permissions-Policy"]
        assert b"Alice" not in body
    status, fields, body = get(site, "contacts.json", user="1001")
    assert (status, fields["Cache-Control"]) == (200, "no-store")
    assert {"number": "1001", "name": "Alice"} in json.loads(body)["users"]
    for path in ("users", "../users", "page/../users", "%2e%2e/users", "//contacts.json"):
        assert get(site, path)[0] in (400, 401, 404), path


def test_from_signing_in_to_a_call(site, browsers):
    alice, other = signed_in(browsers[0], "1001"), signed_in(browsers[1], "1004")
    alice.press("Contacts")
    alice.see("Bob")
    alice.dial("1004")
    other.wait_state("incoming")
    other.act("answer")
    alice.wait_state("active")
    assert alice.hears(HIGH)
    assert other.hears(LOW)
    offer = alice.evaluate("() => lab.descriptions().find((each) => each.includes('typ relay'))")
    assert offer, "the page does not use the relay"
    injected, seen = alice.evaluate(INJECT)
    assert injected is False
    assert any(each.startswith("connect-src") for each in seen)
    # a renewal changes the certificate of both ports, and the call goes on
    before = site.on_disk()
    assert served(site) == before
    assert site.renew() == "success"
    assert served(site) == site.served() == site.on_disk() != before
    assert alice.hears(HIGH)
    alice.do(reload)
    alice.wait_ready()
    alice.close()
    other.close()


def test_a_removed_user_reads_nothing_at_once(site):
    run = f"systemctl show -P InvocationID {nginx.UNIT}"
    before = site.host.run(run).stdout
    assert get(site, "contacts.json", user="1002")[0] == 200
    done = site.deployer.run("remove-user", "1002", "--apply", "sip1", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert get(site, "contacts.json", user="1002")[0] == 401
    status, _, body = get(site, "contacts.json", user="1001")
    assert (status, b"Bob" in body) == (200, False)
    assert site.host.run(run).stdout == before


def test_a_wrong_configuration_is_refused_with_its_line(site):
    """`nginx -t` reads the candidate; the page that runs stays."""
    site.host.write("/etc/sipdeploy/phone/nginx.conf", b"daemon off;\nevents {}\nhtpp {}\n")
    told = site.host.run(f"systemctl reload {nginx.UNIT}; echo status $?").stdout
    assert "status 0" not in told
    assert get(site)[0] == 200
    site.apply("--overwrite")
    assert site.host.run(f"systemctl is-active {nginx.UNIT}").stdout.strip() == "active"


def own_site(site, port):
    fetch = f'import urllib.request as r; print(r.urlopen("http://127.0.0.1:{port}/").read())'
    return site.host.run(["python3", "-c", fetch]).stdout.strip()


def test_a_web_server_of_the_administrator_stays(site):
    host = site.host
    host.run("rm -f /etc/nginx/sites-enabled/default")
    host.write("/etc/nginx/conf.d/own.conf", OWN.encode())
    host.run("systemctl enable -q --now nginx", check=True)
    assert own_site(site, 8080) == "b'mine'"
    digest = "find /etc/nginx -type f -exec sha256sum {} + | sort | sha256sum"
    before = host.run(digest).stdout
    # its port is told, with a remedy that works
    site.write(more=PHONE.replace("443", "8080"))
    host.run(f"systemctl stop {nginx.UNIT}")
    told = site.apply(status=4)
    assert "SD560" in told
    assert "`phone: {port: 8444}`" in told
    site.write(more=PHONE.replace("443", "8444"))
    site.apply()
    assert get(site, port=8444)[0] == 200
    host.run("systemctl reload nginx", check=True)
    assert served(site, 8444) == site.on_disk()
    assert own_site(site, 8080) == "b'mine'"
    # a page that the site does not have any more leaves it alone, and so does an uninstall
    site.write()
    site.apply()
    assert host.run(f"systemctl is-active {nginx.UNIT}").stdout.strip() == "inactive"
    assert host.run(f"find /etc/sipdeploy/phone -type f; ls {nginx.UNIT_PATH}").stdout == ""
    site.write(more=PHONE.replace("443", "8444"))
    site.apply()
    done = site.deployer.run("uninstall", "sip1", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"! stop and disable {nginx.UNIT}" in done.stdout + done.stderr
    assert host.run(f"find /etc/sipdeploy; ls {nginx.UNIT_PATH}").stdout == ""
    assert own_site(site, 8080) == "b'mine'"
    assert host.run(digest).stdout == before
    state = host.run("systemctl is-active nginx; systemctl is-enabled nginx").stdout.split()
    assert state == ["active", "enabled"]
