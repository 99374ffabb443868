"""The services: versions, sizes, tables, packages, and the errors of `kamailio -c`."""

import datetime as dt
import re
import sqlite3
from pathlib import Path

import pytest

from sipdeploy.inventory.site import Versions, load_site
from sipdeploy.services import SERVICES, asterisk, certbot, file_set, kamailio, user_database
from sipdeploy.services.service import LOOPBACK, HostProfile, parse_version

SAMPLES = Path(__file__).parent.parent / "golden" / "kamailio-c"
PASSWORD = "correct-horse-battery"


def inventory(users="{1001: {name: Alice, voicemail: yes}, 1002: }", more=""):
    text = f"""\
domain: sip.example.com
email: ops@example.com
hosts: {{sip1: {{address: 203.0.113.10}}}}
users: {users}
services: {{6000: {{kind: ivr-test}}, '*97': {{kind: voicemail}}}}
{more}
"""
    site, problems, _ = load_site(text, "inventory.yaml")
    assert site, problems
    return site


def tree(site, *, of=("6.1.5", "22.10.1"), credentials=None):
    versions = Versions.model_construct(kamailio=of[0], asterisk=of[1])
    hashes = {n: n.rjust(32, "a") for n in site.users} if credentials is None else credentials
    return file_set(site, "sip1", versions=versions, credentials=hashes)


def text_of(files, path):
    return files.text()[path]


# --- versions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("6.1", (6, 1, 999)),
        ("5.6.3", (5, 6, 3)),
        ("22", (22, 999, 999)),
        ("16.28.0", (16, 28, 0)),
        ("5.4.4.1", (5, 4, 4)),
    ],
)
def test_parse_version(text, version):
    assert parse_version(text) == version


SINCE = {
    "tcp_close_connection(": (5, 6),
    "tcp_accept_iplimit=": (5, 7, 3),
    "tls_threads_mode=": (5, 7, 5),
    "tcp_listen_backlog=": (6, 1),
}


@pytest.mark.parametrize(
    "version",
    ["5.4", "5.4.4", "5.5", "5.6.3", "5.7.2", "5.7.3", "5.7.5", "5.7", "5.8.0", "6.0.1", "6.1.0"],
)
@pytest.mark.parametrize("mode", ["kamailio", "asterisk"])
def test_settings_stand_only_where_kamailio_knows_them(version, mode):
    site = inventory(more=f"authentication: {mode}")
    text = text_of(tree(site, of=(version, "22")), "/etc/kamailio/kamailio.cfg")
    for setting, since in SINCE.items():
        assert (setting in text) == (parse_version(version) >= since), setting
    closed = re.search(r'tcp_set_connection_lifetime\(("\$var\(connection\)", )?"1"\)', text)
    assert (closed is not None) == (parse_version(version) < (5, 6))


@pytest.mark.parametrize(
    ("version", "line"),
    [
        ("16.28.0", "md5_cred=" + "1001".rjust(32, "a")),
        ("20.19.0", "md5_cred=" + "1001".rjust(32, "a")),  # still read, until 22 and after
        ("22.10.1", "password_digest=MD5:" + "1001".rjust(32, "a")),
    ],
)
def test_digest_is_written_as_this_asterisk_reads_it(version, line):
    site = inventory(more="authentication: asterisk")
    files = tree(site, of=("6.1", version))
    text = "".join(
        text_of(files, f"/etc/asterisk/{n}") for n in ("pjsip.conf", "pjsip_users.conf")
    )
    assert line in text.splitlines()
    assert ("auth_type=digest" in text) == ("password_digest" in line)


def test_opus_only_where_debian_has_it():
    old, new = (tree(inventory(), of=("6.1", v)) for v in ("16.28.0", "22.10.1"))
    assert "allow=ulaw,alaw\n" in text_of(old, "/etc/asterisk/pjsip.conf")
    assert "codec_opus" not in text_of(old, "/etc/asterisk/modules.conf")
    assert "allow=opus,ulaw,alaw\n" in text_of(new, "/etc/asterisk/pjsip.conf")
    assert "load=codec_opus_open_source.so\n" in text_of(new, "/etc/asterisk/modules.conf")


# --- the whole tree ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["kamailio", "asterisk"])
def test_rendering_twice_gives_the_same_bytes(mode):
    site = inventory(more=f"authentication: {mode}")
    assert tree(site) == tree(site)


def test_the_order_of_the_inventory_does_not_matter_to_the_database():
    one = tree(inventory("{1001: {name: A}, 1002: {name: B}}"))
    two = tree(inventory("{1002: {name: B}, 1001: {name: A}}"))
    assert database_of(one) == database_of(two)


@pytest.mark.parametrize("mode", ["kamailio", "asterisk"])
def test_no_password_and_no_time_is_in_the_tree(mode):
    users = f"{{1001: {{password: {PASSWORD}, voicemail: yes}}}}"
    now = dt.datetime.now(tz=dt.UTC)
    for file in tree(inventory(users, f"authentication: {mode}")).files:
        assert PASSWORD.encode() not in file.content
        assert str(now.year).encode() not in file.content, file.path
        assert not re.search(rb"\d\d:\d\d:\d\d", file.content), file.path


def test_hashes_are_only_where_they_are_used_and_in_sensitive_files():
    for mode, place in (
        ("kamailio", kamailio.DATABASE),
        ("asterisk", "/etc/asterisk/pjsip_users.conf"),
    ):
        files = tree(inventory(more=f"authentication: {mode}"))
        holders = [f for f in files.files if b"aaaaaaaa" in f.content]
        assert [file.path for file in holders] == [place]
        assert all(file.sensitive and file.mode == 0o640 for file in holders)


def test_every_file_has_an_owner_a_service_and_a_place_of_its_own():
    files = tree(inventory()).files
    paths = [file.path for file in files]
    assert paths == sorted(set(paths))
    directories = {d.path for m in SERVICES.values() for d in m.directories}
    directories |= {"/etc/systemd/system"}
    directories |= {f"{certbot.HOOKS}/{hook}" for hook in ("pre", "post", "deploy")}  # certbot's
    assert {str(Path(path).parent) for path in paths} <= directories
    for file in files:
        assert file.owner in {"root:root", "root:kamailio", "root:asterisk"}
        assert file.service in SERVICES
        assert file.mode & 0o027 == 0 or file.owner == "root:root"
        assert file.content.endswith(b"\n") or file.path == kamailio.DATABASE


# --- addresses and ports -------------------------------------------------------------------------


def listen_line(host, more=""):
    site, problems, _ = load_site(
        f"domain: a.example\nemail: a@a.example\nhosts: {{h: {host}}}\nusers: {{}}\n{more}", "i"
    )
    assert site, problems
    files = file_set(site, "h", versions=site.versions, credentials={})
    text = text_of(files, "/etc/kamailio/kamailio.cfg")
    return re.search(r"^listen=tls:(.*)$", text, re.MULTILINE)[1], site


@pytest.mark.parametrize(
    ("host", "line", "address"),
    [
        ("{address: 203.0.113.1}", "0.0.0.0:8443 advertise 203.0.113.1:8443", "0.0.0.0"),
        ("{address: '2001:db8::1'}", "[::]:8443 advertise [2001:db8::1]:8443", "::"),
        (
            "{address: 203.0.113.1, private_address: 10.0.0.5}",
            "10.0.0.5:8443 advertise 203.0.113.1:8443",
            "10.0.0.5",
        ),
        (
            "{address: '2001:db8::1', private_address: 'fd00::5'}",
            "[fd00::5]:8443 advertise [2001:db8::1]:8443",
            "fd00::5",
        ),
    ],
)
def test_where_phones_are_heard(host, line, address):
    shown, site = listen_line(host)
    assert shown == line
    ports = kamailio.listens(site, site.hosts["h"])
    assert (ports[0].protocol, ports[0].address, ports[0].number) == ("tcp", address, 8443)


def test_only_the_websocket_is_public():
    site = inventory(more="ports: {wss: 9443, kamailio: 6062, asterisk: 6060, registrar: 6063}")
    host = site.hosts["sip1"]
    ports = [*kamailio.listens(site, host), *asterisk.listens(site, host)]
    assert [(p.protocol, p.address, p.number, p.process, p.key) for p in ports] == [
        ("tcp", "0.0.0.0", 9443, "kamailio", "ports.wss"),
        ("udp", LOOPBACK, 6062, "kamailio", "ports.kamailio"),
        ("udp", LOOPBACK, 6063, "kamailio", "ports.registrar"),
        ("udp", LOOPBACK, 6060, "asterisk", "ports.asterisk"),
    ]


@pytest.mark.parametrize(("port", "needs"), [(443, True), (1023, True), (1024, False)])
def test_a_port_below_1024_needs_a_capability(port, needs):
    files = tree(inventory(more=f"ports: {{wss: {port}}}"))
    text = text_of(files, "/etc/systemd/system/kamailio.service.d/sipdeploy.conf")
    assert ("AmbientCapabilities=CAP_NET_BIND_SERVICE\n" in text) == needs


@pytest.mark.parametrize("mapped", [True, False])
def test_ice_offers_the_public_address_alone(mapped):
    host = "{address: 203.0.113.1%s}" % (", private_address: 10.0.0.5" if mapped else "")
    _, site = listen_line(host)
    files = file_set(site, "h", versions=site.versions, credentials={})
    rtp = text_of(files, "/etc/asterisk/rtp.conf")
    assert "ice_permit=203.0.113.1/32\n" in rtp
    assert ("10.0.0.5 => 203.0.113.1\n" in rtp) == mapped
    pjsip = text_of(files, "/etc/asterisk/pjsip.conf")
    assert f"media_address={'10.0.0.5' if mapped else '203.0.113.1'}\n" in pjsip


# --- packages ------------------------------------------------------------------------------------


def test_packages():
    site = inventory()
    both = [m.packages(site, "debian", "bullseye") for m in (kamailio, asterisk)]
    for names in both:
        assert list(names) == sorted(set(names))
    assert "kamailio-tls-modules" in both[0]
    assert "asterisk-voicemail" in both[1]
    assert "asterisk-voicemail" not in asterisk.packages(site, "debian", "sid")


# --- sizes ---------------------------------------------------------------------------------------


def many(count):
    return inventory("{" + ", ".join(f"{n}: " for n in range(100000, 100000 + count)) + "}")


def of_size(count, more=""):
    site = inventory("{11: {name: Alice, voicemail: yes}}", more)
    users = {str(100_000 + number): site.users["11"] for number in range(count)}
    return site.model_copy(update={"users": users})


@pytest.mark.parametrize(
    ("users", "sizes"),
    [
        (2, (1024, 199, 17, 9, 65536)),
        (5000, (16_384, 1740, 21, 13, 65536)),
        (100_000, (65_536, 6807, 174, 14, 131_072)),
    ],
)
def test_sizes_follow_from_the_number_of_users(users, sizes):
    connections, shared, private, table, open_files = sizes
    files = tree(of_size(users))
    text = text_of(files, "/etc/kamailio/kamailio.cfg")
    assert f"\ntcp_max_connections={connections}\ntls_max_connections={connections}\n" in text
    assert f'"credentials=>size={table};' in text
    unit = text_of(files, "/etc/systemd/system/kamailio.service.d/sipdeploy.conf")
    assert f"-m {shared} -M {private} -X fm -x fm\n" in unit
    assert f"LimitNOFILE={open_files}\n" in unit
    rows = dict(rows_of(database_of(files), "credentials"))
    assert len(rows) == users


def test_memory_is_never_less_than_what_was_measured():
    """sip-config.md 3.6: 64 MiB + 0.2 a connection; 64 MiB private load 100,000 users."""
    for count in (0, 1, 100, 5000, 100_000):
        given = kamailio.sizes(of_size(count), HostProfile())
        assert given.connections >= min(1.5 * count, 32_768)
        assert given.shared_mib >= 64 + 0.2 * given.connections + 0.0002 * count
        assert given.private_mib >= 8 + 0.00056 * count


def test_the_inventory_may_say_how_many_connections_there_will_be():
    given = kamailio.sizes(of_size(100_000, "limits: {connections: 100000}"), HostProfile())
    assert (given.connections, given.room) == (100_000, 262_144)
    assert given.shared_mib > 20_000
    small = kamailio.sizes(of_size(100_000, "limits: {connections: 1000}"), HostProfile())
    assert small.shared_mib < 500


def test_growing_by_a_user_changes_a_size_at_few_steps_and_at_each_once():
    """A change of size costs a restart, so the size doubles, and shrinks only at a quarter."""
    profile, steps = HostProfile(), []
    for count in (*range(0, 6000, 10), *range(6000, 0, -10), *range(0, 6000, 10)):
        site = of_size(0).model_copy(update={"users": range(count)})
        room = kamailio.sizes(site, profile).room
        assert room >= 256 + 1.5 * count
        if room != profile.room:
            steps.append(count)
        profile = HostProfile(room=room)
    up = [0, 10, 180, 520, 1200, 2570, 5300]
    assert steps[:7] == up
    assert len(steps) <= 16, steps
    back_and_forth = [5290, 5291] * 20
    rooms = []
    for count in back_and_forth:
        site = of_size(0).model_copy(update={"users": range(count)})
        profile = HostProfile(room=kamailio.sizes(site, profile).room)
        rooms.append(profile.room)
    assert rooms[1:] == [rooms[1]] * (len(rooms) - 1)


def test_a_plan_names_a_step_and_the_next_one():
    assert list(kamailio.notes(of_size(5290), HostProfile(room=8192))) == []
    (note,) = kamailio.notes(of_size(5291), HostProfile(room=8192))
    assert "room for 16384 users" in note
    assert "(now 8192)" in note
    assert "for size comes above 10752 users" in note
    assert kamailio.sizes(of_size(10_752), HostProfile()).room == 16_384
    assert kamailio.sizes(of_size(10_753), HostProfile()).room == 32_768
    assert list(kamailio.notes(of_size(5291), HostProfile())) == []  # a new host


# --- users of a large site ----------------------------------------------------------------------

MANY = asterisk.MOST_USERS_IN_FILES + 1


def users_database(site, version="22.10.1"):
    files = {file.path: file for file in tree(site, of=("6.1.5", version)).files}
    assert files[asterisk.DATABASE].reload == asterisk.USERS
    return opened(files[asterisk.DATABASE].content)


def row(connection, view, key, number):
    found = connection.execute(f"SELECT * FROM {view} WHERE {key} = ?", (number,))
    return dict(zip((column[0] for column in found.description), found.fetchone(), strict=True))


def test_asterisk_reads_users_from_a_database_where_they_are_many():
    few, many = tree(of_size(MANY - 1)), tree(of_size(MANY))
    own = {f"/etc/asterisk/{name}" for name in (*asterisk.DATABASE_FILES, "users.db")}
    files = {f"/etc/asterisk/{name}" for name in asterisk.USER_FILES}
    for made, there, absent in ((few, files, own), (many, own, files)):
        paths = {file.path for file in made.files}
        assert there <= paths
        assert not absent & paths
    assert "#include pjsip_users.conf" in text_of(few, "/etc/asterisk/pjsip.conf")
    assert "#include pjsip_users.conf" not in text_of(many, "/etc/asterisk/pjsip.conf")
    assert "#include" not in text_of(many, "/etc/asterisk/voicemail.conf")
    assert "load=res_sorcery_realtime.so" in text_of(many, "/etc/asterisk/modules.conf")
    assert "load=res_sorcery_realtime.so" not in text_of(few, "/etc/asterisk/modules.conf")
    assert "sqlite3" in asterisk.packages(of_size(MANY), "debian", "sid")
    assert "sqlite3" not in asterisk.packages(of_size(10), "debian", "sid")


def test_a_host_near_the_limit_stays_as_it_is():
    has = HostProfile(has_user_database=True)
    half = asterisk.MOST_USERS_IN_FILES // 2
    assert asterisk.has_database(of_size(half + 1), has)
    assert not asterisk.has_database(of_size(half + 1), HostProfile())
    assert not asterisk.has_database(of_size(half), has)
    (there,) = asterisk.notes(of_size(MANY), HostProfile())
    assert f"more than {MANY - 1}" in there
    (back,) = asterisk.notes(of_size(half), has)
    assert "from files again" in back
    assert not [*asterisk.notes(of_size(MANY), has), *asterisk.notes(of_size(half), HostProfile())]


@pytest.mark.parametrize("mode", ["kamailio", "asterisk"])
@pytest.mark.parametrize("version", ["16.28.0", "22.10.1"])
def test_a_user_is_the_same_endpoint_from_the_database_as_from_a_file(mode, version):
    site = of_size(MANY, f"authentication: {mode}")
    few = tree(of_size(2, f"authentication: {mode}"), of=("6.1.5", version))
    text = text_of(few, "/etc/asterisk/pjsip.conf") + text_of(
        few, "/etc/asterisk/pjsip_users.conf"
    )
    connection = users_database(site, version)
    views = {"user": "endpoints", "contacts": "aors"}
    views |= {"password": "auths"} if mode == "asterisk" else {}
    for template, view in views.items():
        own = re.search(rf"^\[100001\]\({template}\)\n([^[]*)", text, re.MULTILINE)[1]
        wanted = user_database.settings(text, template)
        pairs = [line.split("=", 1) for line in own.splitlines() if line]
        wanted |= {key: value.replace("\\;", ";") for key, value in pairs}
        found = {k: str(v) for k, v in row(connection, view, "id", "100001").items() if v}
        assert found.pop("id") == "100001"
        # a phone subscribes to its own mailbox; no query reads all users
        left = {"mailboxes"} if view == "endpoints" else set()
        assert found == {key: value for key, value in wanted.items() if key not in left}
    box = row(connection, "mailboxes", "mailbox", "100001")
    assert (box["context"], box["fullname"]) == ("default", "Alice")
    connection.close()


def test_the_database_has_boxes_of_those_alone_who_have_one():
    site = of_size(MANY)
    site.users["100007"] = site.users["100000"].model_copy(update={"voicemail": False, "name": ""})
    connection = users_database(site)
    (count,) = connection.execute("SELECT count(*) FROM mailboxes").fetchone()
    assert count == MANY - 1
    assert row(connection, "aors", "id", "100007")["mailboxes"] == ""
    assert row(connection, "endpoints", "id", "100007")["callerid"] == "<100007>"
    plan = connection.execute("EXPLAIN QUERY PLAN SELECT * FROM endpoints WHERE id = '1'")
    assert "USING PRIMARY KEY" in plan.fetchone()[3]
    # Asterisk would load endpoints with mailboxes at its start, and keep them in memory
    asked = connection.execute("SELECT count(*) FROM endpoints WHERE mailboxes != ''")
    assert asked.fetchone() == (0,)
    connection.close()


# --- the database --------------------------------------------------------------------------------


def database_of(files):
    return next(file.content for file in files.files if file.path == kamailio.DATABASE)


def opened(content):
    connection = sqlite3.connect(":memory:")
    connection.deserialize(content)
    return connection


def rows_of(content, table):
    connection = opened(content)
    rows = list(connection.execute(f"SELECT key_name, key_value FROM {table} ORDER BY key_name"))
    connection.close()
    return rows


def test_tables_hold_what_the_routing_asks_for():
    users = "{1001: {name: 'Eve; \"the\" <third>', voicemail: yes}, 0102: {max_contacts: 1}}"
    content = database_of(tree(inventory(users)))
    assert rows_of(content, "users") == [
        ("0102", "voicemail=0;contacts=1"),
        ("1001", "voicemail=1;contacts=5"),
    ]
    assert rows_of(content, "names") == [("1001", r'"Eve; \"the\" <third>"')]
    assert rows_of(content, "services") == [("*97", "voicemail"), ("6000", "ivr-test")]
    assert rows_of(content, "credentials") == [
        ("0102", "0102".rjust(32, "a")),
        ("1001", "1001".rjust(32, "a")),
    ]


def test_where_asterisk_checks_passwords_kamailio_has_none():
    content = database_of(tree(inventory(more="authentication: asterisk")))
    assert rows_of(content, "credentials") == []
    assert len(rows_of(content, "users")) == 2


def test_schema_is_what_htable_and_db_sqlite_read():
    """K:htable/README, 1.2 and 3.x: these columns, string keys and values, version 2."""
    connection = opened(database_of(tree(inventory())))
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA journal_mode").fetchall() != [("wal",)]
    versions = dict(connection.execute("SELECT table_name, table_version FROM version"))
    assert versions == dict.fromkeys((*kamailio.TABLES, "loaded"), 2)
    for table in kamailio.TABLES:
        columns = {row[1]: row[2] for row in connection.execute(f"PRAGMA table_info({table})")}
        assert columns == {
            "key_name": "TEXT",
            "key_type": "INTEGER",
            "value_type": "INTEGER",
            "key_value": "TEXT",
            "expires": "INTEGER",
        }
        rows = connection.execute(f"SELECT key_type, value_type, expires FROM {table}")
        assert set(rows) <= {(0, 0, 0)}
    connection.close()


def test_an_empty_table_is_there_too():
    content = kamailio.database({"credentials": (), "users": ()})
    assert rows_of(content, "users") == []


def test_every_table_that_kamailio_loads_is_in_the_database():
    files = tree(inventory())
    text = text_of(files, "/etc/kamailio/kamailio.cfg")
    assert set(re.findall(r"dbtable=(\w+);", text)) == {*kamailio.TABLES, "loaded"}


# --- errors of kamailio -c -----------------------------------------------------------------------

FAULTS = {
    "brace": ("syntax error", "from its opening"),
    "command": ("unknown command", "no_such_function"),
    "core": ("syntax error", ""),
    "include": ("cannot open included file", "/nowhere/x.cfg"),
    "module": ("failed to load module", "no_such"),
    "param": ("Can't set module parameter", "no_such"),
    "pv": ("Can't get from cache", "nosuch"),
    "short": ("syntax error", ""),
    "string": ("syntax error", "unclosed string"),
    "syntax": ("syntax error", ""),
    "warn": ("could not resolve", "nosuch.invalid"),
}


def said(version):
    text = (SAMPLES / f"{version}.txt").read_text("utf-8")
    parts = re.split(r"(?m)^### (\w+)\.cfg\n", text)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("version", sorted(path.stem for path in SAMPLES.glob("*.txt")))
def test_complaints_of_the_real_kamailio_are_understood(version):
    outputs = said(version)
    assert outputs.keys() == FAULTS.keys()
    for name, output in outputs.items():
        verdicts = kamailio.parse_check(output)
        what, which = FAULTS[name]
        assert what in verdicts[0].text, name
        if which and name != "brace":
            assert which in verdicts[0].text, name
        assert all(verdict.text for verdict in verdicts)
        assert all(verdict.line for verdict in verdicts) or name == "warn"
        places = [(verdict.path, verdict.line) for verdict in verdicts]
        if name not in {"include", "warn"}:  # these have no position, or only a line
            assert len(places) == len(set(places))
            assert {path for path, _ in places} == {f"/staged/{name}.cfg"}
            assert min(line for _, line in places) > 1
            assert verdicts[0].column


def test_the_line_of_an_include_that_is_not_there_is_told():
    for version in ("5.4.4", "6.1.5"):
        (verdict,) = kamailio.parse_check(said(version)["include"])
        assert verdict.line > 1


def test_the_line_that_kamailio_counts_twice_is_counted_once():
    text = "0(1) CRITICAL: x: parse error in config file %s, line 42, column 9-10: syntax error\n"
    path = "/var/lib/sipdeploy/candidate/tree/etc/kamailio/kamailio.cfg"
    (verdict,) = kamailio.parse_check(text % path)
    assert (verdict.path, verdict.line, verdict.column) == (path, 41, 9)
    (other,) = kamailio.parse_check(text % "/etc/kamailio/dialog-key.cfg")
    assert other.line == 42


def test_a_warning_alone_is_no_verdict():
    assert kamailio.parse_check("") == []
    assert kamailio.parse_check(" 0(1) WARNING: <core> [core/cfg.y:1]: warn_at(): x\nok") == []


def test_what_a_trial_start_asked_for_is_placed_where_it_can_be():
    placed, bare = kamailio.parse_check(
        "trial: /etc/kamailio/kamailio.cfg:7:3: there is no table x\ntrial: it does not listen\n"
    )
    assert (placed.line, placed.column, placed.text) == (7, 3, "there is no table x")
    assert (bare.line, bare.text) == (0, "it does not listen")


def test_a_daemon_is_started_on_trial_unless_only_users_change():
    code = {"/etc/kamailio/kamailio.cfg", "/etc/asterisk/rtp.conf"}
    sites = (inventory(), of_size(MANY))
    data = {file.path for site in sites for file in tree(site).files if file.is_data}
    own = {f"/etc/asterisk/{name}" for name in asterisk.DATA}
    assert data == {kamailio.DATABASE, kamailio.SUMS, *own}
    for module, script in ((kamailio, "trial_kamailio"), (asterisk, "trial_asterisk")):
        assert module.checks(data) == ()
        assert script in [check.script for check in module.checks(code | data)]


def test_complaints_of_asterisk_are_placed_where_they_name_a_line():
    said = """\
[Nov 23 01:22:27] ERROR[2300] config_options.c: Could not find option suitable for category \
'trunk' named 'wrong' at line 61 of pjsip.conf
[Nov 23 01:22:27] WARNING[2325] pbx_config.c: users.conf is deprecated
[Nov 23 01:22:27] WARNING[2325] pbx_config.c: No such label at line 7 of extensions.conf
[Nov 23 01:22:27] ERROR[2300][C-00000001] res_x.c: it is broken
"""
    placed, warned, bare = asterisk.parse_check(said)
    assert (placed.path, placed.line) == ("/etc/asterisk/pjsip.conf", 61)
    assert (warned.path, warned.line) == ("/etc/asterisk/extensions.conf", 7)
    assert (bare.path, bare.line, bare.text) == ("", 0, "it is broken")
    (local,) = asterisk.parse_check(
        "[x] ERROR[0]: trial.c: no such thing, at line 2 of '/tmp/trial.a/etc/local/x.conf'"
    )
    assert local.path == "/etc/asterisk/local/x.conf"
