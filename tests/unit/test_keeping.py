"""What a host gets from a backup, and how it gets there."""

import dataclasses
import hashlib
import io
import shutil
import subprocess
import tarfile
import time

import pytest
from backups import BOX, KEY, LOCAL, MESSAGE, ORIGIN, SMALL, members, packed, read
from fakes import FakeHost
from hosts_facts import recorded
from test_certificates import pair
from test_judged_certificates import INTER, key_pem, leaf

from sipdeploy.diagnostics.errors import HostFailed, InvalidFiles
from sipdeploy.host import Result
from sipdeploy.inventory.site import load_site
from sipdeploy.keeping import age, archive, backup, known, material, restore
from sipdeploy.plan import make_plan, text
from sipdeploy.plan.goal import SiteGoal
from sipdeploy.plan.preview import Present
from sipdeploy.services import acme, certificates
from sipdeploy.services.certificates import Material
from sipdeploy.transaction import candidate, release

DOMAIN = "sip.example.test"
LINEAGE = f"/etc/letsencrypt/live/sipdeploy-{DOMAIN}"
RENEWAL = f"/etc/letsencrypt/renewal/sipdeploy-{DOMAIN}.conf"
SERVER = "acme-v02.api.letsencrypt.org/directory"
ACCOUNT = f"/etc/letsencrypt/accounts/{SERVER}/{'0a' * 16}"
SETTINGS = f"""\
# renew_before_expiry = 30 days
version = 2.9.0
archive_dir = /etc/letsencrypt/archive/sipdeploy-{DOMAIN}
cert = /etc/letsencrypt/live/sipdeploy-{DOMAIN}/cert.pem

[renewalparams]
account = {"0a" * 16}
authenticator = standalone
server = https://{SERVER}
key_type = ecdsa
"""


def site(tls="provider: self-signed"):
    found, problems, _ = load_site(
        f"domain: {DOMAIN}\nemail: a@b.example\nhosts: {{sip1: {{address: 10.0.0.1}}}}\n"
        f"users: {{1001: {{}}, 1002: {{voicemail: yes}}}}\ntls: {{{tls}}}\n",
        "inventory.yaml",
    )
    assert found, problems
    return found


SELF_SIGNED = site()
TRUSTED = site("provider: letsencrypt")


def chosen(contents, wanted=SELF_SIGNED, *, origin=ORIGIN, owner="root:root", **options):
    return material.material(
        read(packed(contents, owner=owner, origin=origin)), wanted, time.time(), **options
    )


def own_pair(**options):
    pem, key, _ = pair(DOMAIN, **options)
    return {certificates.PATH: pem, certificates.KEY_PATH: key}


def certbots(settings=SETTINGS, **options):
    one = leaf(**options)
    chain = one.pem + INTER.pem
    files = {"cert": one.pem, "chain": INTER.pem, "fullchain": chain}
    return {
        RENEWAL: settings.encode(),
        **{f"{LINEAGE}/{half}.pem": pem for half, pem in files.items()},
        f"{LINEAGE}/privkey.pem": key_pem(one.key),
        **{f"{ACCOUNT}/{name}.json": b"{}" for name in ("meta", "regr", "private_key")},
    }


def test_owner_and_mode_follow_from_the_path():
    taken = chosen(SMALL, owner="games:games")
    assert {(file.path, file.owner, file.mode) for file in taken.files} == {
        ("/etc/kamailio/dialog-key.cfg", "root:kamailio", 0o640),
        ("/etc/kamailio/local.cfg", "root:kamailio", 0o640),
        ("/etc/asterisk/local/extensions.conf", "root:asterisk", 0o640),
    }
    hostile = read(packed(LOCAL, mode=0o6777, owner="asterisk:shadow"))
    taken = material.material(hostile, SELF_SIGNED, time.time())
    assert {file.mode for file in taken.files} == {0o644}
    assert {file.owner for file in taken.files} == {"root:kamailio", "root:asterisk"}
    assert {entry.path for entry in chosen(SMALL).messages} == MESSAGE.keys()


def test_a_self_signed_certificate_comes_along_if_it_can_be_served():
    def is_taken(contents, **options):
        taken = chosen(contents, **options)
        paths = {file.path for file in taken.files}
        assert bool(taken.warnings) != bool(paths)
        return paths == {certificates.PATH, certificates.KEY_PATH}

    good = own_pair()
    assert is_taken(good)
    assert not is_taken(own_pair(days=20))
    assert not is_taken({**good, certificates.KEY_PATH: own_pair()[certificates.KEY_PATH]})
    assert not is_taken({certificates.PATH: good[certificates.PATH]})
    assert not is_taken({**good, certificates.PATH: leaf().pem})
    other = dataclasses.replace(ORIGIN, domain="other.example")
    assert chosen(good, origin=other).files == ()


OTHER = dataclasses.replace(ORIGIN, domain="other.example")


@pytest.mark.parametrize(
    ("wanted", "options"),
    [
        (SELF_SIGNED, {"with_local": False}),
        (TRUSTED, {"with_local": False}),
        (SELF_SIGNED, {"origin": OTHER}),
        (TRUSTED, {"origin": OTHER}),
    ],
)
def test_keys_that_others_may_know_are_left_out(wanted, options):
    taken = chosen({**SMALL, **own_pair(), **certbots()}, wanted, **options)
    local = LOCAL.keys() if "origin" in options else set()
    assert {file.path for file in taken.files} == taken.contents.keys() == local
    assert taken.renewal is None
    (problem,) = taken.warnings
    assert problem.code == "SD743"
    assert "keys" in problem.message
    assert "call again" in problem.notes[0]


def test_a_host_makes_new_keys_instead_of_those_that_others_may_know(tmp_path):
    facts = recorded("sid-applied")
    contents = {**SMALL, **own_pair()}
    pair_paths = {certificates.PATH, certificates.KEY_PATH}

    def made(facts, wanted=SELF_SIGNED):
        restored = goal(contents, wanted, tmp_path, with_local=False)
        return make_plan(restored.desired("sip1", facts), facts, time.time()).to_generate

    def having(*paths):
        digests = {path: hashlib.sha256(contents[path]).hexdigest() for path in paths}
        own = {p: dataclasses.replace(facts.files[p], digest=d) for p, d in digests.items()}
        return dataclasses.replace(facts, files={**facts.files, **own})

    dialog = known.DIALOG_KEY
    usual = made(facts)
    assert dialog not in usual, "the host has one that the backup does not have"
    assert made(having(dialog)) == usual | {dialog}
    assert made(having(certificates.KEY_PATH)) == usual | pair_paths
    assert dialog in made(recorded("bookworm-bare"))
    assert dialog in made(having(dialog), TRUSTED)


def test_the_certificate_of_certbot_comes_along_with_its_account():
    contents = certbots()
    taken = chosen(contents, TRUSTED).renewal
    assert taken.account == ACCOUNT
    assert taken.files.keys() == contents.keys()
    assert taken.lineage.answers(acme.order(TRUSTED), time.time())
    written = taken.files[RENEWAL].decode()
    assert written == (
        f"version = 2.9.0\narchive_dir = /etc/letsencrypt/archive/sipdeploy-{DOMAIN}\n"
        + "".join(f"{h} = {LINEAGE}/{h}.pem\n" for h in ("cert", "privkey", "chain", "fullchain"))
        + SETTINGS[SETTINGS.index("\n[") :]
    )


HOSTILE = SETTINGS + "\n".join(
    [
        "renew_hook = touch /root/owned",
        "pre_hook = id",
        "server = file:///x",
        "rsa_key_size = 2048\\nx = y",
        "config_dir = /tmp",
        "account = ../../x",
        "dns_rfc2136_credentials = /etc/shadow",
        "[[webroot_map]]",
        f"{DOMAIN} = /srv/../etc",
        f"{DOMAIN} = /srv/www",
    ]
)


def test_settings_of_certbot_that_run_programs_are_left_out():
    taken = chosen(certbots(HOSTILE), TRUSTED)
    assert taken.renewal is None, "the server is another one"
    kept = HOSTILE.replace("server = file:///x\n", "").replace("account = ../../x\n", "")
    written = chosen(certbots(kept), TRUSTED).renewal.files[RENEWAL].decode()
    for word in ("hook", "config_dir", "shadow", "\\n"):
        assert word not in written
    assert f"[[webroot_map]]\n{DOMAIN} = /srv/www\n" in written


def test_a_certificate_of_certbot_that_is_of_no_use_is_left_out():
    good = certbots()
    for contents in (
        certbots(days=90, start=-80),
        {**good, f"{LINEAGE}/privkey.pem": certbots()[f"{LINEAGE}/privkey.pem"]},
        {key: value for key, value in good.items() if not key.endswith("/chain.pem")},
        {**good, RENEWAL: SETTINGS.replace("standalone", "manual").encode()},
    ):
        taken = chosen(contents, TRUSTED)
        assert taken.renewal is None
        assert [problem.code for problem in taken.warnings] == ["SD743"]
    broken = {**good, f"{ACCOUNT}/meta.json": b"["}
    taken = chosen(broken, TRUSTED).renewal
    assert taken.account == ""
    assert "account" not in taken.files[RENEWAL].decode()


def test_a_host_keeps_a_certificate_that_lasts_longer():
    now, bare = time.time(), recorded("bookworm-bare")
    longer = chosen(certbots(days=90), TRUSTED).renewal.lineage
    taken = chosen(certbots(days=80), TRUSTED)
    assert taken.takes(bare, TRUSTED, now)
    assert not taken.takes(dataclasses.replace(bare, lineage=longer), TRUSTED, now)
    assert not taken.takes(bare, SELF_SIGNED, now)
    assert not chosen(SMALL, TRUSTED).takes(bare, TRUSTED, now)


def goal(contents, wanted, tmp_path, *, with_local=True, **options):
    file = tmp_path / "sip1.backup"
    file.write_bytes(packed(contents))
    taken = material.material(backup.read(file, ()), wanted, time.time(), with_local=with_local)
    source = restore.Source(file, (), taken, **options)
    own = SiteGoal(
        site=wanted, credentials={"1001": "0" * 32, "1002": "1" * 32}, material=Material()
    )
    return restore.RestoreGoal(own, source)


def planned(made, name="sid-applied"):
    facts = made.expected(recorded(name))
    return make_plan(made.desired("sip1", facts), facts, time.time())


def test_a_restore_needs_no_acme_server(tmp_path):
    plan = planned(goal({**SMALL, **certbots()}, TRUSTED, tmp_path), "bookworm-bare")
    assert plan.order is None
    assert f"+ the certificate for {DOMAIN}, from the backup" in plan.lines()
    assert "+ 1 message of 1 user" in plan.lines()
    without = planned(goal(SMALL, TRUSTED, tmp_path), "bookworm-bare")
    assert without.order is not None


def test_files_of_a_backup_take_the_place_of_generated_ones(tmp_path):
    contents = {**SMALL, **own_pair()}
    plan = planned(goal(contents, SELF_SIGNED, tmp_path))
    changed = {change.path: change.effect for change in plan.changes}
    assert changed["/etc/kamailio/dialog-key.cfg"] == "restart"
    assert changed[certificates.PATH] == "restart"
    assert changed["/etc/asterisk/local/extensions.conf"] == "restart"
    with tarfile.open(fileobj=io.BytesIO(candidate.archive(plan, (), b""))) as tar:
        table = tar.extractfile("generated").read().decode()
    rows = {row.split("\t")[3]: row.split("\t")[0] for row in table.splitlines()}
    assert rows == {
        path: f"/var/lib/sipdeploy/received{path}" for path in contents if path not in MESSAGE
    }
    local = next(c for c in plan.changes if c.path == "/etc/kamailio/local.cfg")
    update = dataclasses.replace(local, kind="update")
    present = Present(current={local.path: b"mine"})
    assert text.difference(update, plan, present) == [], "not a deletion of the whole file"
    signature = release.Signature(who="", when="", purpose="", what=())
    dumped = release.dump(plan.desired, signature).decode()
    assert "received" not in dumped, "a rollback to this release needs no backup"
    assert "local.cfg" not in dumped


def test_a_second_restore_changes_no_file(tmp_path):
    made = goal({**SMALL, **own_pair()}, SELF_SIGNED, tmp_path)
    facts = recorded("sid-applied")
    have = {
        file.path: dataclasses.replace(
            next(iter(facts.files.values())), digest=file.digest, mode=file.mode, owner=file.owner
        )
        for file in made.desired("sip1", facts).restored
    }
    facts = dataclasses.replace(facts, files={**facts.files, **have})
    plan = make_plan(made.desired("sip1", facts), facts, time.time())
    assert not {change.path for change in plan.changes} & have.keys()
    assert not plan.is_empty, "it brings messages"


def received(made, host=None):
    host = host or FakeHost(answers={"receive": Result(status=0, stdout=b"\x1econflict\n")})
    made.expected(recorded("bookworm-bare"))
    made.receive(restore.Owner(name="me", purpose="restore")).run(host, lambda _: None)
    return host


def test_the_host_gets_two_tars(tmp_path):
    contents = {**SMALL, **certbots()}
    host = received(goal(contents, TRUSTED, tmp_path))
    *_, lineage, account, own, program = host.asked[0]
    assert (lineage, account) == (f"sipdeploy-{DOMAIN}", ACCOUNT)
    data = host.inputs[0]
    first, second = data[: int(own)], data[int(own) + int(program) :]
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        assert {f"/{name}" for name in tar.getnames()} == contents.keys() - MESSAGE.keys()
        assert {member.mode for member in tar} == {0o600}
    with tarfile.open(fileobj=io.BytesIO(second)) as tar:
        found = {f"{BOX[:-4]}{member.name}": tar.extractfile(member).read() for member in tar}
    assert found == MESSAGE


def test_other_messages_on_the_host_stop_a_restore(tmp_path):
    answer = Result(status=0, stdout=b"\x1econflict\n1001\n1002\n")
    with pytest.raises(HostFailed, match="lacks: 1001, 1002"):
        received(goal(SMALL, SELF_SIGNED, tmp_path), FakeHost(answers={"receive": answer}))
    received(
        goal(SMALL, SELF_SIGNED, tmp_path, replaces=True), FakeHost(answers={"receive": answer})
    )


def test_a_file_that_changes_after_its_check_is_noticed(tmp_path):
    made = goal(SMALL, SELF_SIGNED, tmp_path)
    changed = {**SMALL, f"{BOX}/greet.wav": b"RIFF greetinG"}
    (tmp_path / "sip1.backup").write_bytes(packed(changed))
    with pytest.raises(InvalidFiles, match="has changed since it was checked"):
        received(made)
    (tmp_path / "sip1.backup").unlink()
    with pytest.raises(InvalidFiles, match="no such file"):
        received(made)


def test_no_room_for_the_messages_is_said_before(tmp_path):
    made = goal(SMALL, SELF_SIGNED, tmp_path)
    facts = recorded("sid-applied", free_bytes={"/": 10**9, "/var": 10**6, "/etc": 10**9})
    messages = [p.message for p in made.problems("sip1", facts) if p.code == "SD512"]
    assert "messages of the backup" in messages[-1]


def sent(contents, **facts):
    """The output of the script `backup`."""
    rows = {"release": "3", "domain": DOMAIN, "os": "Debian", "kamailio": "6.1", **facts}
    header = "".join(f"{key} {value}\n" for key, value in rows.items()).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in {"header": header, **contents}.items():
            info = tarfile.TarInfo(name.removeprefix("/"))
            info.size, info.mode, info.uname, info.gname = len(content), 0o640, "root", "kamailio"
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def host_with(output, status=0, stderr=b""):
    marked = output  # the fake marks the output as a script does
    return FakeHost(answers={"backup": Result(status=status, stdout=marked, stderr=stderr)})


def test_a_backup_is_written_as_it_arrives(tmp_path):
    target = tmp_path / "sip1.backup"
    contents = {**SMALL, "/etc/shadow": b"x", "/etc/kamailio/local.cfg/../x": b"y"}
    made = backup.make(host_with(sent(contents)), target, ())
    assert target.stat().st_mode & 0o7777 == 0o600
    content = backup.read(target, ())
    assert content.origin == made.backup.origin
    assert content.origin.domain == DOMAIN
    assert {entry.path for entry in content.files} == SMALL.keys()
    assert [problem.notes for problem in made.warnings] == [
        ("/etc/shadow", "/etc/kamailio/local.cfg/../x")
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["sip1.backup"]


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        (host_with(sent(SMALL), status=1, stderr=b"disk full\n"), "no backup"),
        (host_with(sent(SMALL)[:5000]), "something else"),
        (host_with(b"x" * 5000), "something else"),
        (host_with(b""), "something else"),
    ],
)
def test_a_failed_backup_leaves_the_earlier_one(host, reason, tmp_path):
    target = tmp_path / "sip1.backup"
    target.write_bytes(b"before")
    with pytest.raises(HostFailed, match=reason):
        backup.make(host, target, ())
    assert target.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["sip1.backup"]


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A stand-in for age that follows its command line."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "age"
    script.write_text(
        "#!/bin/sh\ncase $1 in\n-r) echo age-encryption.org/v1; base64 ;;\n--decrypt) "
        '[ -s "$3" ] || { echo "no identity matched" >&2; exit 1; }; sed 1d | base64 -d ;;\nesac\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return script


def test_an_encrypted_backup_has_no_plain_byte_on_the_disk(program, tmp_path, monkeypatch):
    target, key = tmp_path / "sip1.backup", tmp_path / "key.txt"
    backup.make(host_with(sent(SMALL)), target, ("age1" + "q" * 58,))
    assert target.read_bytes().startswith(b"age-encryption.org/v1\n")
    with pytest.raises(InvalidFiles, match="is encrypted"):
        backup.read(target, ())
    key.touch()
    with pytest.raises(InvalidFiles, match="age cannot decrypt"):
        backup.read(target, (key,))
    key.write_text("AGE-SECRET-KEY-1")
    assert {entry.path for entry in backup.read(target, (key,)).files} == SMALL.keys()
    program.write_text("#!/bin/sh\necho bad recipient >&2\nexit 1\n")
    before = target.read_bytes()
    with pytest.raises(InvalidFiles, match="age cannot encrypt"):
        backup.make(host_with(sent(SMALL)), target, ("age1" + "q" * 58,))
    assert target.read_bytes() == before
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidFiles, match="no `age`"):
        backup.make(host_with(sent(SMALL)), target, ("age1" + "q" * 58,))


@pytest.mark.skipif(not shutil.which("age"), reason="needs the program age")
def test_the_real_age_reads_and_writes(tmp_path):
    target, key = tmp_path / "sip1.backup", tmp_path / "key.txt"
    said = subprocess.run(["age-keygen", "-o", key], capture_output=True, text=True, check=True)
    recipient = said.stderr.split()[-1]
    age.check_recipients([recipient])
    backup.make(host_with(sent(SMALL)), target, (recipient,))
    assert {entry.path for entry in backup.read(target, (key,)).files} == SMALL.keys()
    data = bytearray(target.read_bytes())
    data[-20] ^= 1
    target.write_bytes(bytes(data))
    with pytest.raises(InvalidFiles, match="SD742"):
        backup.read(target, (key,))


def test_members_are_those_of_other_programs(tmp_path):
    for path, content in SMALL.items():
        (tmp_path / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path[1:]).write_bytes(content)
    names = [path[1:] for path in SMALL]
    argv = ["tar", "--format=ustar", "-cf", "-", "-C", tmp_path, *names]
    made = subprocess.run(argv, capture_output=True, check=True).stdout
    found = {m.name: m.content(10**6) for m in archive.members(io.BytesIO(made))}
    assert found == {path[1:]: content for path, content in SMALL.items()}
    assert {m.name: m.content(10**6) for m in members({"/x": KEY})} == {"x": KEY}
