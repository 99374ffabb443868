import dataclasses
import hashlib

import pytest
from fakes import FakeHost
from hosts_facts import recorded

from sipdeploy.facts import Managed, PathFact
from sipdeploy.host import Result
from sipdeploy.inventory.site import load_site
from sipdeploy.plan import NO_UNIT, make_plan, text
from sipdeploy.plan.desired import DIALOG_KEY, Desired, certificate_files, generated_files
from sipdeploy.plan.preview import Present, preview
from sipdeploy.services import acme, certificates, user_database
from sipdeploy.services.acme import Order
from sipdeploy.services.render import ManagedFile
from sipdeploy.services.service import Check, Directory
from sipdeploy.transaction import files
from sipdeploy.transaction.candidate import archive, table

RELOAD = ("kamcmd", "tls.reload")


def file(path, content=b"x", *, service="kamailio", reload=None, mode=0o640):
    return ManagedFile(
        path=path,
        content=content,
        mode=mode,
        owner="root:kamailio",
        service=service,
        reload=reload,
        template="t",
    )


CFG = file("/etc/kamailio/kamailio.cfg")
TLS = file("/etc/kamailio/tls.cfg", reload=RELOAD)
PJSIP = file("/etc/asterisk/pjsip.conf", service="asterisk", reload=("asterisk", "-rx", "r"))
UNIT = file("/etc/systemd/system/kamailio.service.d/sipdeploy.conf")
FILES = (PJSIP, CFG, TLS, UNIT)


def site(provider="self-signed"):
    text = (
        "domain: sip.example.test\nemail: a@b.example\nhosts: {sip1: {address: 10.0.0.1}}\n"
        f"users: {{}}\ntls: {{provider: {provider}, certificate: a, private_key: b}}\n"
    ).replace(
        ", certificate: a, private_key: b",
        "" if provider == "self-signed" else ", certificate: a, private_key: b",
    )
    found, problems, _ = load_site(text, "inventory.yaml")
    assert found, problems
    return found


def desired(files=FILES, **changes):
    values = {
        "domain": "sip.example.test",
        "files": files,
        "generated": generated_files(site(), files),
        "directories": (Directory(path="/etc/kamailio", mode=0o755, owner="root:root"),),
        "packages": ("kamailio", "asterisk"),
        "units": {"asterisk": "asterisk.service", "kamailio": "kamailio.service"},
    }
    return Desired(**{**values, **changes})


def as_is(wanted, **changes):
    """Facts of a host that is in the desired state."""
    base = recorded("sid-applied")
    made = {made.path: base.files[made.path] for made in wanted.generated}
    files = {
        f.path: PathFact(mode=f.mode, owner=f.owner, digest=hashlib.sha256(f.content).hexdigest())
        for f in wanted.files
    }
    managed = {
        f.path: Managed(service=f.service, digest=hashlib.sha256(f.content).hexdigest())
        for f in wanted.files
    }
    return dataclasses.replace(base, **{"files": {**made, **files}, "managed": managed, **changes})


def now():
    return as_is(desired()).certificate.not_before.timestamp() + 1


def plan(wanted, facts, at=None):
    return make_plan(wanted, facts, now() if at is None else at)


def test_a_host_that_is_right_needs_nothing():
    found = plan(desired(), as_is(desired()))
    assert found.is_empty
    assert found.lines() == ()


def test_a_changed_file_costs_what_its_reader_needs():
    wanted = desired((PJSIP, CFG, dataclasses.replace(TLS, content=b"y"), UNIT))
    found = plan(wanted, as_is(desired()))
    assert found.lines() == (
        "~ /etc/kamailio/tls.cfg (reload kamailio)",
        "! reload kamailio.service",
    )
    assert found.reloads == (RELOAD,)
    assert not found.needs_daemon_reload


def test_a_restart_makes_reloads_of_the_same_service_needless():
    changed = tuple(dataclasses.replace(f, content=b"y") for f in FILES)
    found = plan(desired(changed), as_is(desired()))
    assert [unit.action for unit in found.units] == ["reload", "restart"]
    assert found.reloads == (PJSIP.reload,)
    assert found.needs_daemon_reload


def test_equal_reloads_are_done_once():
    more = file("/etc/asterisk/users.conf", service="asterisk", reload=PJSIP.reload)
    wanted = desired((dataclasses.replace(PJSIP, content=b"y"), CFG, TLS, UNIT, more))
    assert plan(wanted, as_is(desired())).reloads == (PJSIP.reload,)


def test_a_mode_is_changed_without_touching_the_service():
    wanted = desired((PJSIP, CFG, dataclasses.replace(TLS, mode=0o600), UNIT))
    assert plan(wanted, as_is(desired())).lines() == (
        "~ /etc/kamailio/tls.cfg (0640 root:kamailio -> 0600 root:kamailio)",
    )


@pytest.mark.parametrize(("mode", "owner"), [(0o777, "root:root"), (0o755, "kamailio:root")])
def test_a_directory_gets_its_mode_and_owner_back(mode, owner):
    fact = PathFact(mode=mode, owner=owner, digest="")
    found = plan(desired(), as_is(desired(), directories={"/etc/kamailio": fact}))
    assert found.lines() == (f"+ /etc/kamailio ({mode:04o} {owner} -> 0755 root:root)",)


def test_a_stopped_service_is_started_and_not_reloaded():
    facts = as_is(desired())
    units = {**facts.units, "kamailio.service": NO_UNIT}
    wanted = desired((PJSIP, CFG, dataclasses.replace(TLS, content=b"y"), UNIT))
    found = plan(wanted, dataclasses.replace(facts, units=units))
    assert (found.units[1].action, found.reloads) == ("start", ())


def test_a_service_that_is_not_enabled_is_a_change():
    facts = as_is(desired())
    unit = dataclasses.replace(facts.units["kamailio.service"], is_enabled=False)
    units = {**facts.units, "kamailio.service": unit}
    assert not plan(desired(), dataclasses.replace(facts, units=units)).is_empty


def test_only_files_that_were_managed_are_removed():
    old = "/etc/kamailio/old.cfg"
    facts = as_is(desired())
    files = {
        **facts.files,
        old: facts.files[CFG.path],
        "/etc/kamailio/own.cfg": facts.files[CFG.path],
    }
    written = Managed(service="kamailio")
    managed = {**facts.managed, old: written, "/etc/kamailio/gone.cfg": written}
    found = plan(desired(), dataclasses.replace(facts, files=files, managed=managed))
    assert found.lines() == (f"- {old} (restart kamailio)", "! restart kamailio.service")


ORDER = Order(
    domain="sip.example.test", email="a@b.example", server=acme.LETSENCRYPT, challenge="http-01"
)
RENEWAL = "/etc/letsencrypt/renewal/sipdeploy-sip.example.test.conf"
OTHER = "/etc/letsencrypt/renewal/sipdeploy-old.example.test.conf"


def held(facts):
    """Return the lineage that certbot has for the domain."""
    settings = {"server": acme.LETSENCRYPT, "authenticator": "standalone"}
    return acme.Lineage(certificate=facts.certificate, digest="", settings=settings)


@pytest.mark.parametrize(
    ("order", "renewals", "changed"),
    [
        (None, (), []),
        (None, (RENEWAL,), [("park", RENEWAL)]),
        (ORDER, (RENEWAL,), []),
        (ORDER, (RENEWAL, OTHER), [("park", OTHER)]),
        (ORDER, (), [("unpark", RENEWAL)]),
        (ORDER, (OTHER,), [("park", OTHER), ("unpark", RENEWAL)]),
    ],
)
def test_certbot_renews_what_the_site_has_from_it_and_nothing_else_of_ours(
    order, renewals, changed
):
    wanted = desired(order=order)
    facts = as_is(wanted, renewals=renewals)
    facts = dataclasses.replace(facts, lineage=held(facts))
    found = [(c.kind, c.path) for c in plan(wanted, facts).changes if c.service == "certbot"]
    assert found == changed


def test_what_is_asked_for_anew_is_not_parked_any_more():
    wanted = desired(order=ORDER)
    found = plan(wanted, as_is(wanted, lineage=None))
    assert found.order == ORDER
    assert not [change for change in found.changes if change.kind == "unpark"]


def test_a_certificate_is_renewed_in_its_last_month():
    facts = as_is(desired())
    end = facts.certificate.not_after.timestamp()
    assert plan(desired(), facts, at=end - 31 * 86400).is_empty
    found = plan(desired(), facts, at=end - 29 * 86400)
    assert found.to_generate == {certificates.PATH, certificates.KEY_PATH}
    assert found.reloads == (RELOAD,)


def test_a_certificate_for_another_domain_or_key_is_made_anew():
    facts = as_is(desired())
    assert plan(desired(domain="other.test"), facts).to_generate
    foreign = dataclasses.replace(facts.certificate, key_matches=False)
    assert plan(desired(), dataclasses.replace(facts, certificate=foreign)).to_generate


def test_the_dialog_key_is_made_once():
    facts = as_is(desired())
    files = {p: f for p, f in facts.files.items() if "dialog" not in p}
    found = plan(desired(), dataclasses.replace(facts, files=files))
    assert found.to_generate == {"/etc/kamailio/dialog-key.cfg"}
    assert found.units[1].action == "restart"


def test_packages_that_are_missing_are_named_with_their_version():
    facts = as_is(desired(), installed={"kamailio": "6"}, candidates={"asterisk": "22"})
    assert plan(desired(), facts).lines() == ("+ package asterisk 22",)


def test_own_certificates_are_not_made_by_the_host():
    assert [made.recipe for made in generated_files(site("files"), FILES)] == ["dialog-key"]


def test_the_archive_is_the_same_for_the_same_plan(monkeypatch):
    found = plan(desired(), as_is(desired()))
    checks = (Check(service="kamailio", title="t", script="check_kamailio"),)
    made = []
    for seconds in (1e9, 2e9):
        monkeypatch.setattr("time.time", lambda at=seconds: at)
        made.append(archive(found, checks, b"{}"))
    assert made[0] == made[1]


def test_a_table_refuses_what_would_not_come_back():
    assert table([("a", "b c"), ("d",)]) == b"a\tb c\nd\n"
    for word in ("", "a\tb", "a\nb"):
        try:
            table([(word,)])
        except ValueError:
            continue
        raise AssertionError(word)


def edited(path, **changes):
    """Facts of a host with a file that was edited after the last apply."""
    facts = as_is(desired())
    files = {**facts.files, path: dataclasses.replace(facts.files[path], digest="e" * 64)}
    return dataclasses.replace(facts, files=files, **changes)


def test_an_edit_on_the_host_is_drift():
    found = plan(desired(), edited(TLS.path))
    assert [change.path for change in found.drift] == [TLS.path]
    assert "~ /etc/kamailio/tls.cfg (edited on the host) (reload kamailio)" in found.lines()


def test_an_edited_file_that_the_site_has_no_more_is_drift():
    """Otherwise sipdeploy would delete an edit without a message."""
    found = plan(desired((PJSIP, CFG, UNIT)), edited(TLS.path))
    assert [(change.kind, change.path) for change in found.drift] == [("delete", TLS.path)]
    assert plan(desired((PJSIP, CFG, UNIT)), as_is(desired())).drift == ()


def test_what_an_older_apply_wrote_without_noting_it_is_no_drift():
    managed = {path: Managed(service="kamailio") for path in as_is(desired()).managed}
    assert plan(desired(), edited(TLS.path, managed=managed)).drift == ()


def test_an_edit_that_the_inventory_has_taken_up_is_no_drift():
    taken = (PJSIP, CFG, dataclasses.replace(TLS, content=b"edited"), UNIT)
    facts = edited(TLS.path)
    digest = hashlib.sha256(b"edited").hexdigest()
    files = {**facts.files, TLS.path: dataclasses.replace(facts.files[TLS.path], digest=digest)}
    assert plan(desired(taken), dataclasses.replace(facts, files=files)).is_empty


def test_a_file_deleted_by_hand_comes_back_and_stops_nothing():
    facts = as_is(desired())
    files = {path: fact for path, fact in facts.files.items() if path != TLS.path}
    found = plan(desired(), dataclasses.replace(facts, files=files))
    assert (found.drift, found.changes[0].kind) == ((), "create")


def test_the_fingerprint_tells_every_other_plan():
    first = plan(desired(), edited(TLS.path))
    assert first.fingerprint() == plan(desired(), edited(TLS.path)).fingerprint()
    others = [
        plan(desired(), as_is(desired())),
        plan(desired(), edited(CFG.path)),
        plan(desired(), edited(TLS.path, release=7)),
        plan(
            desired((PJSIP, CFG, dataclasses.replace(TLS, content=b"other"), UNIT)),
            edited(TLS.path),
        ),
    ]
    assert len({first.fingerprint(), *(other.fingerprint() for other in others)}) == 5


def test_the_fingerprint_tells_what_becomes_of_each_unit():
    """A saved plan that starts a daemon must not be accepted as one that restarts it."""
    facts = as_is(desired())
    stopped = {**facts.units, "kamailio.service": NO_UNIT}
    disabled = dataclasses.replace(facts.units["asterisk.service"], is_enabled=False)
    plans = [
        plan(desired(), facts),
        plan(desired(), dataclasses.replace(facts, units=stopped)),
        plan(
            desired(),
            dataclasses.replace(facts, units={**facts.units, "asterisk.service": disabled}),
        ),
    ]
    assert len({found.fingerprint() for found in plans}) == 3


NFT = file("/etc/sipdeploy/firewall.nft", service="firewall", reload=("nft", "-f", "x"))
WITH_FIREWALL = {"firewall": "sipdeploy-firewall.service", **desired().units}


def test_a_firewall_that_somebody_flushed_is_loaded_again():
    wanted = desired((*FILES, NFT), units=WITH_FIREWALL)
    assert plan(wanted, as_is(wanted)).is_empty
    found = plan(wanted, as_is(wanted, has_firewall_table=False))
    assert found.lines() == ("! restart sipdeploy-firewall.service",)


def test_a_service_that_the_site_has_no_more_is_stopped():
    before = desired((*FILES, NFT), units=WITH_FIREWALL)
    found = plan(desired(), as_is(before))
    assert [unit.action for unit in found.units] == ["none", "none", "stop"]
    assert "! stop sipdeploy-firewall.service" in found.lines()


def test_a_plan_tells_what_changes_in_size():
    wanted = desired((PJSIP, CFG, dataclasses.replace(TLS, content=b"y"), UNIT))
    wanted = dataclasses.replace(wanted, notes=("kamailio restarts for its size",))
    found = plan(wanted, as_is(desired()))
    said = text.as_text("sip1", found, Present(), diffs=False)
    assert "\n  = kamailio restarts for its size\n" in said
    assert text.as_data("sip1", found, Present())["notes"] == ["kamailio restarts for its size"]


def users_database(**names):
    users = [
        {"number": number, "caller_name": name, "voicemail": True, "digest": "MD5:" + "c" * 32}
        for number, name in names.items()
    ]
    values = {
        "authentication": "asterisk",
        "domain": "sip.example.test",
        "trunk": {"address": "127.0.0.1", "port": 5062},
        "voicemail_number": "6001",
        "digest": {"key": "password_digest"},
    }
    return user_database.content("[user](!)\ntype=endpoint\nwebrtc=yes\n", users, values)


def test_a_difference_shows_users_of_a_database_and_no_digest():
    before, after = users_database(n1001="Alice"), users_database(n1001="Alice", n1002="Bob")
    path = "/etc/asterisk/users.db"
    old = file(path, before, service="asterisk", reload=RELOAD)
    wanted = desired((*FILES, dataclasses.replace(old, content=after)))
    found = plan(wanted, as_is(desired((*FILES, old))))
    (change,) = found.changes
    rows = text.difference(change, found, Present(current={path: before}))
    assert [row for row in rows if row.startswith("+")] == ["+users n1002 Bob 1 MD5:[hidden]"]


def test_a_private_key_is_for_its_daemon_alone():
    made = {m.path: (m.mode, m.owner) for m in generated_files(site(), FILES)}
    assert made[certificates.KEY_PATH] == made[DIALOG_KEY] == (0o640, "root:kamailio")
    own = {f.path: f for f in certificate_files((b"certificate", b"key"), FILES)}
    key = own[certificates.KEY_PATH]
    assert (key.mode, key.owner) == (0o640, "root:kamailio")


PEM = b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"


def changed_key():
    """The plan that replaces the private key of a host, and the present files."""
    before = certificate_files((b"certificate", PEM), FILES)
    after = certificate_files((b"certificate", PEM.replace(b"c2", b"d2")), FILES)
    facts = as_is(desired((*FILES, *before)))
    return plan(desired((*FILES, *after), generated=()), facts)


def test_no_private_key_is_shown():
    found = changed_key()
    assert [change.path for change in found.changes] == [certificates.KEY_PATH]
    seen = Present(current={certificates.KEY_PATH: PEM})
    for shown in (
        text.as_text("sip1", found, seen, diffs=True),
        str(text.as_data("sip1", found, seen)),
    ):
        assert certificates.KEY_PATH in shown
        assert "2VjcmV0" not in shown


def test_no_private_key_is_fetched_to_be_shown():
    host = FakeHost("sip1", {"preview": Result(status=0, stdout=b"\x1eend\n")})
    preview(host, changed_key())
    other = dataclasses.replace(CFG, content=b"y")
    preview(host, plan(desired((PJSIP, other, TLS, UNIT)), as_is(desired())))
    assert host.inputs == [b"", b"/etc/kamailio/kamailio.cfg\n"]


def test_no_excerpt_of_a_rejected_candidate_is_from_a_private_key():
    shown = files.sources("sip1", changed_key())
    assert f"sip1:{certificates.PATH}" in shown
    assert "2VjcmV0" not in str(shown)
    (change,) = text.as_data("sip1", changed_key(), Present())["changes"]
    assert change["is_sensitive"]


def test_a_difference_shows_no_value_of_a_password():
    before = b"[1001]\npassword = first-Zq8Kd2\nmd5_cred=once\n"
    after = b"[1001]\npassword = second-Zq8Kd2\nmd5_cred=twice\n"
    wanted = desired((dataclasses.replace(PJSIP, content=after), CFG, TLS, UNIT))
    found = plan(wanted, as_is(desired()))
    rows = text.difference(found.changes[0], found, Present(current={PJSIP.path: before}))
    assert not [word for word in ("Zq8Kd2", "once", "twice") if word in str(rows)]


def test_a_verbose_plan_has_the_unchanged_files_and_whole_differences():
    before, after = (b"".join(b"%s%d\n" % (p, i) for i in range(100)) for p in (b"a", b"b"))
    wanted = desired((PJSIP, dataclasses.replace(CFG, content=after), TLS, UNIT))
    found = plan(wanted, as_is(desired((PJSIP, dataclasses.replace(CFG, content=before)))))
    present = Present(current={CFG.path: before})
    short = text.as_text("sip1", found, present, diffs=True)
    whole = text.as_text("sip1", found, present, diffs=True, is_whole=True)
    assert "+b99" not in short
    assert "... and 141 more lines" in short
    assert "+b99" in whole
    assert "more line" not in whole
    assert f"\n  . {PJSIP.path}\n" in whole
    assert f". {CFG.path}" not in whole
    nothing = plan(desired(), as_is(desired()))
    assert f"\n  . {CFG.path}\n" in text.as_text(
        "sip1", nothing, Present(), diffs=True, is_whole=True
    )


def test_one_cause_is_one_problem():
    """The parser and the trial start of a daemon reject the same line."""
    wanted = desired()
    found = plan(wanted, as_is(desired(())))
    checks = files.checks_of(found)
    kinds = [check.service for check in checks]
    assert kinds.count("kamailio") == 2
    bad = " 0(1) CRITICAL: <core> [core/cfg.y:1]: yyerror_at(): parse error in config file "
    bad += "/etc/kamailio/kamailio.cfg, line 7, column 1: syntax error\n"
    answers = {
        f"check {number}": "1\n" + bad if check.service == "kamailio" else "0\n"
        for number, check in enumerate(checks)
    }
    (problem,) = files.problems_of("sip1", found, checks, answers, state="/var/lib/sipdeploy")
    assert problem.code == "SD401"
    number = kinds.index("kamailio")
    trial = answers | {f"check {number}": "0\n"}
    (problem,) = files.problems_of("sip1", found, checks, trial, state="/var/lib/sipdeploy")
    assert "a trial start of Kamailio" in problem.notes[0]
