import dataclasses
import hashlib

from hosts_facts import recorded

from sipdeploy import certificates
from sipdeploy.candidate import archive, table
from sipdeploy.facts import PathFact
from sipdeploy.plan import NO_UNIT, make_plan
from sipdeploy.plan.desired import Desired, made_files
from sipdeploy.render import ManagedFile
from sipdeploy.service import Directory
from sipdeploy.site import load_site

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
        "made": made_files(site(), files),
        "directories": (Directory(path="/etc/kamailio", mode=0o755, owner="root:root"),),
        "packages": ("kamailio", "asterisk"),
        "units": {"asterisk": "asterisk.service", "kamailio": "kamailio.service"},
    }
    return Desired(**{**values, **changes})


def as_is(wanted, **changes):
    """Facts of a host that is just what is wanted."""
    base = recorded("sid-applied")
    made = {made.path: base.files[made.path] for made in wanted.made}
    files = {
        f.path: PathFact(mode=f.mode, owner=f.owner, digest=hashlib.sha256(f.content).hexdigest())
        for f in wanted.files
    }
    managed = {f.path: f.service for f in wanted.files}
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
    assert plan(wanted, as_is(desired())).lines() == ("~ /etc/kamailio/tls.cfg (mode and owner)",)


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
    managed = {**facts.managed, old: "kamailio", "/etc/kamailio/gone.cfg": "kamailio"}
    found = plan(desired(), dataclasses.replace(facts, files=files, managed=managed))
    assert found.lines() == (f"- {old} (restart kamailio)", "! restart kamailio.service")


def test_a_certificate_is_renewed_in_its_last_month():
    facts = as_is(desired())
    end = facts.certificate.not_after.timestamp()
    assert plan(desired(), facts, at=end - 31 * 86400).is_empty
    found = plan(desired(), facts, at=end - 29 * 86400)
    assert found.to_make == {certificates.PATH, certificates.KEY_PATH}
    assert found.reloads == (RELOAD,)


def test_a_certificate_for_another_domain_or_key_is_made_anew():
    facts = as_is(desired())
    assert plan(desired(domain="other.test"), facts).to_make
    foreign = dataclasses.replace(facts.certificate, key_matches=False)
    assert plan(desired(), dataclasses.replace(facts, certificate=foreign)).to_make


def test_the_dialog_key_is_made_once():
    facts = as_is(desired())
    files = {p: f for p, f in facts.files.items() if "dialog" not in p}
    found = plan(desired(), dataclasses.replace(facts, files=files))
    assert found.to_make == {"/etc/kamailio/dialog-key.cfg"}
    assert found.units[1].action == "restart"


def test_packages_that_are_missing_are_named_with_their_version():
    facts = as_is(desired(), installed={"kamailio": "6"}, candidates={"asterisk": "22"})
    assert plan(desired(), facts).lines() == ("+ package asterisk 22",)


def test_own_certificates_are_not_made_by_the_host():
    assert [made.recipe for made in made_files(site("files"), FILES)] == ["dialog-key"]


def test_the_archive_is_the_same_for_the_same_plan():
    found = plan(desired(), as_is(desired()))
    checks = {"kamailio": ("kamailio", "-c")}
    assert archive(found, checks) == archive(found, checks)


def test_a_table_refuses_what_would_not_come_back():
    assert table([("a", "b c"), ("d",)]) == b"a\tb c\nd\n"
    for word in ("", "a\tb", "a\nb"):
        try:
            table([(word,)])
        except ValueError:
            continue
        raise AssertionError(word)
