"""Asterisk from source and Kamailio from a repository: plans, releases and messages."""

import dataclasses
import io
import re
import tarfile
from pathlib import Path

import hosts_facts
import pytest
from fakes import FakeHost
from hosts_facts import recorded

from sipdeploy import facts, lint
from sipdeploy import host as hosts
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.facts import Managed, parse
from sipdeploy.host import Result, script_text, sections
from sipdeploy.host.local import LocalHost
from sipdeploy.inventory import Inventory
from sipdeploy.inventory.models import ASTERISK
from sipdeploy.inventory.site import load_site
from sipdeploy.plan import make_plan, preflight, saved, sources
from sipdeploy.plan.desired import desired, make_query, ports, versions
from sipdeploy.plan.goal import SiteGoal
from sipdeploy.plan.preview import Present
from sipdeploy.plan.text import as_data, as_text
from sipdeploy.services import asterisk, kamailio, tree
from sipdeploy.services import install as repository
from sipdeploy.services import install as source
from sipdeploy.services.certificates import Material
from sipdeploy.services.service import HostProfile
from sipdeploy.transaction import release
from sipdeploy.transaction.packages import AddRepository, BuildAsterisk

OTHER = "{version: 22.9.0, url: 'https://a.example/a.tgz', sha256: %s}" % ("a" * 64)
RELEASED = "https://downloads.asterisk.org/pub/telephony/asterisk/releases/asterisk-22.11.0.tar.gz"


def site(install):
    text = (
        "domain: sip.example.test\nemail: a@b.example\nhosts: {sip1: {address: 10.0.0.1}}\n"
        f"users: {{}}\ntls: {{provider: self-signed}}\ninstall: {install}\n"
    )
    found, problems, _ = load_site(text, "inventory.yaml")
    assert found, problems
    return found


def wanted(install, found):
    return desired(site(install), "sip1", found, {}, Material(pair=None))


def bare(codename="trixie", **changes):
    nothing = {"installed": {}, "candidates": {"kamailio": "6.0.1-1"}, "codename": codename}
    return dataclasses.replace(recorded("bookworm-bare"), **{**nothing, **changes})


def problems(install, found):
    fine = {"addresses": ("10.0.0.1",), "domain_addresses": None, "memory_bytes": 2**31}
    site_ = site(install)
    listens = ports(site_, site_.hosts["sip1"])
    found = dataclasses.replace(found, **fine)
    return preflight.problems(
        site_, "sip1", found, listens, given=kamailio.sizes(site_, HostProfile())
    )


TWO = """\
domain: sip.example.test
email: a@b.example
hosts:
  sip1: {address: 10.0.0.1}
  sip2:
    address: 10.0.0.2
    install: {asterisk: source}
    versions: {kamailio: "5.6"}
users: {}
tls: {provider: self-signed}
install: {kamailio: repository, asterisk: package}
versions: {asterisk: "20"}
"""


def test_a_host_may_have_other_sources_and_versions_than_the_site():
    """Key by key, in everything that a goal asks for, and in `render` and `lint`."""
    two, found, document = load_site(TWO, "inventory.yaml")
    assert (two.of("sip1"), found) == (two, [])
    own = two.of("sip2")
    assert (own.install.asterisk, own.install.kamailio) == ("source", "repository")
    assert (own.versions.kamailio, own.versions.asterisk) == ("5.6", "20")
    goal = SiteGoal(site=two, credentials={}, material=Material(pair=None))
    facts_ = dataclasses.replace(bare(), addresses=("10.0.0.1", "10.0.0.2"))
    assert goal.query(FakeHost("sip1")) != goal.query(FakeHost("sip2"))
    assert "build-essential" not in goal.packages("sip1", facts_)
    assert "build-essential" in goal.packages("sip2", facts_)
    assert goal.desired("sip1", facts_).build is None
    assert goal.desired("sip2", facts_).build.version == ASTERISK.version
    codes = [[p.code for p in goal.problems(name, facts_)] for name in ("sip1", "sip2")]
    assert ["SD511" in each for each in codes] == [True, False], "trixie has no package"
    rendered = tree.render_hosts(two, ["sip1", "sip2"], credentials={})
    unit = "/etc/systemd/system/asterisk.service"
    assert [unit in {f.path for f in each.files} for each in rendered.values()] == [False, True]
    linted = lint.lint_inventory(
        Inventory(path=Path("inventory.yaml"), site=two, document=document)
    )
    (line,) = [p.span.line for p in linted if p.code == "SD312"]
    assert TWO.splitlines()[line - 1] == '    versions: {kamailio: "5.6"}'


# --- the key `install` ---------------------------------------------------------------------------


def test_where_the_daemons_come_from():
    plain = site("{}").install
    assert (plain.source, plain.repository) == (None, None)
    assert site("{asterisk: source}").install.source == ASTERISK
    assert site(f"{{asterisk: {OTHER}}}").install.source.version == "22.9.0"
    assert site("{kamailio: repository}").install.repository.place.endswith("kamailio61")
    older = site("{kamailio: {version: '6.0'}}").install.repository
    assert older.place == "https://deb.kamailio.org/kamailio60"
    assert older.fingerprint == "E79ACECB87D8DCD23A20AD2FFB40D3E6508EA4C8"
    spaced = site(
        "{kamailio: {fingerprint: 'e79a cecb 87d8 dcd2 3a20  ad2f fb40 d3e6 508e a4c8'}}"
    )
    assert spaced.install.repository.fingerprint == older.fingerprint


def test_the_name_of_a_build_stands_for_what_it_is_made_of(monkeypatch):
    first = source.build(ASTERISK, ("res_srtp",))
    assert first == source.build(ASTERISK, ("res_srtp",))
    assert first.name.startswith("asterisk-22.11.0-")
    assert first.tarballs[0].url == RELEASED
    other_sum = ASTERISK.model_copy(update={"sha256": "b" * 64})
    moved = ASTERISK.model_copy(update={"url": "https://mirror.example/a.tgz"})
    names = {first.name, source.build(other_sum, ("res_srtp",)).name}
    assert len(names | {source.build(ASTERISK, ("res_srtp", "app_dial")).name}) == 3
    assert source.build(moved, ("res_srtp",)).name == first.name
    monkeypatch.setattr(source, "RECIPE", source.RECIPE + 1)
    assert source.build(ASTERISK, ("res_srtp",)).name not in names


# --- the plan ------------------------------------------------------------------------------------


def test_a_bare_host_builds_once():
    found = bare()
    first = make_plan(wanted("{asterisk: source}", found), found, 0)
    assert first.build == asterisk.build(site("{asterisk: source}"))
    assert "+ build asterisk 22.11.0 from source" in first.lines()
    assert "1 build, " in as_text("sip1", first, Present(), diffs=False)
    assert as_data("sip1", first, Present())["build"] == first.build.name
    assert "asterisk" not in first.packages
    assert {"build-essential", "asterisk-core-sounds-en", "kamailio"} <= first.packages.keys()
    built = dataclasses.replace(found, builds=(first.build.name, "asterisk-22.9.0-0"))
    second = make_plan(wanted("{asterisk: source}", built), built, 0)
    assert second.build is None
    assert first.fingerprint() != second.fingerprint()
    assert saved.differences(
        {"sip1": {"fingerprint": first.fingerprint(), "changes": list(first.lines())}},
        "sip1",
        second,
    )


def test_another_release_is_built_beside_and_costs_a_restart():
    site_ = site("{asterisk: source}")
    found = bare(builds=(asterisk.build(site_).name,))
    files = {file.path: file for file in wanted("{asterisk: source}", found).files}
    others = {file.path: file for file in wanted(f"{{asterisk: {OTHER}}}", found).files}
    changed = {path for path, file in files.items() if others[path].content != file.content}
    assert changed == {source.WRAPPER}
    assert others[source.WRAPPER].reload is None
    assert asterisk.checks([source.WRAPPER]) != ()
    assert make_plan(wanted(f"{{asterisk: {OTHER}}}", found), found, 0).build.version == "22.9.0"


def test_a_build_is_what_is_written_for_whatever_a_package_has():
    found = bare(installed={"asterisk": "1:16.28.0~dfsg-0+deb11u4"})
    assert versions(site("{asterisk: source}"), found)["asterisk"] == "22.11.0"
    assert versions(site("{}"), found)["asterisk"] == "1:16.28.0~dfsg-0+deb11u4"
    text = {f.path: f.content for f in wanted("{asterisk: source}", found).files}
    assert b"codec_opus" not in text["/etc/asterisk/modules.conf"]


def test_kamailio_of_a_series_is_installed_and_replaces_another():
    found = bare("bookworm", installed={"kamailio": "5.6.3-2", "netbase": "6.4"})
    plan = make_plan(wanted("{asterisk: source, kamailio: repository}", found), found, 0)
    assert plan.repository.series == "6.1"
    assert plan.packages["kamailio"] == "6.1 from https://deb.kamailio.org/kamailio61"
    assert plan.packages["kamailio-tls-modules"] == plan.packages["kamailio"]
    assert "netbase" not in plan.packages
    assert plan.lines()[0] == "+ repository https://deb.kamailio.org/kamailio61"
    text = next(f for f in plan.desired.files if f.path == repository.SOURCE).content.decode()
    assert "\nSuites: bookworm\n" in text
    assert f"\nSigned-By: {repository.KEYRING} E79ACECB87D8DCD2" in text


def test_a_repository_that_apt_knows_is_not_added_again():
    names = dict.fromkeys(asterisk.packages(site("{}"), "debian", "bookworm"), "6.1.4+bpo12")
    names |= dict.fromkeys(("kamailio", "kamailio-tls-modules"), "6.1.4+bpo12")
    found = bare("bookworm", installed=names)
    first = wanted("{kamailio: repository}", found)
    assert versions(site("{kamailio: repository}"), found)["kamailio"] == "6.1.4+bpo12"
    file = next(f for f in first.files if f.path == repository.SOURCE)
    plan = make_plan(first, found, 0)
    change = next(change for change in plan.changes if change.path == file.path)
    assert str(change) == f"+ {repository.SOURCE}"
    fact = next(iter(recorded("sid-applied").files.values()))
    fact = dataclasses.replace(fact, mode=0o644, owner="root:root", digest=change.after)
    known = dataclasses.replace(found, files={file.path: fact, repository.KEYRING: fact})
    again = make_plan(wanted("{kamailio: repository}", known), known, 0)
    assert again.repository is None
    assert not {"kamailio", "kamailio-tls-modules"} & again.packages.keys()
    half = dataclasses.replace(known, files={file.path: fact})
    assert make_plan(first, half, 0).repository == plan.repository


def test_a_release_brings_back_the_build_that_it_had():
    before = wanted("{asterisk: source, kamailio: repository}", bare())
    signature = release.Signature(who="me", when="now", purpose="apply", what=())
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        parts = {"release.json": release.dump(before, signature)}
        parts |= {f"tree{file.path}": file.content for file in before.files}
        for name, content in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    assert release.load(buffer.getvalue()) == dataclasses.replace(before, notes=())
    # from this the host knows which builds it still needs
    assert f'"{before.build.name}"'.encode() in parts["release.json"]


def test_builds_are_read_where_they_were_made_for_this_system():
    found = sections(recorded_text("bookworm-bare") + "\x1ebuilds\nasterisk-22.9.0-1\nb\n")
    assert parse(found, 0).builds == ("asterisk-22.9.0-1", "b")
    assert {source.WRAPPER, source.UNIT_FILE} <= set(make_query(site("{}")).trees)


def recorded_text(name):
    return (hosts_facts.FOLDER / f"{name}.txt").read_text()


# --- auto ----------------------------------------------------------------------------------------

# What the archive of each system has, and what the smallest inventory takes there.
SUPPORTED = [
    ("debian", "bullseye", "5.4.4-1", "1:16.28.0~dfsg-0+deb11u4", "package", "package"),
    ("debian", "bookworm", "5.6.3-2", None, "repository", "source"),
    ("debian", "trixie", "6.0.1-1", None, "package", "source"),
    ("debian", "sid", "6.1.5-1", "1:22.10.1~dfsg-1", "package", "package"),
    ("ubuntu", "jammy", "5.5.4-1", "1:18.10.0~dfsg-1", "repository", "package"),
    ("ubuntu", "noble", "5.7.4-1build3", "1:20.6.0~dfsg-1", "repository", "package"),
    ("ubuntu", "plucky", "5.8.4-1", "1:23.1.0-1", "package", "source"),
]


def offered(os_id, codename, kamailio, asterisk, **changes):
    candidates = {"kamailio": kamailio} | ({"asterisk": asterisk} if asterisk else {})
    more = {"os_id": os_id, "os_version": "24.04" if os_id == "ubuntu" else "13"}
    return bare(codename, candidates=candidates, **more, **changes)


@pytest.mark.parametrize("row", SUPPORTED, ids=lambda row: row[1])
def test_the_smallest_inventory_works_on_every_supported_system(row):
    *archive, kamailio, asterisk = row
    found = offered(*archive)
    room = {"/": 2**33, "/var": 2**33, "/etc": 2**33}
    told = problems("{}", dataclasses.replace(found, free_bytes=room))
    assert [p for p in told if p.code in ("SD510", "SD511", "SD519")] == []
    plan = make_plan(wanted("{}", found), found, 0)
    explicit = f"{{asterisk: {asterisk}, kamailio: {kamailio}}}"
    assert plan.lines() == make_plan(wanted(explicit, found), found, 0).lines()
    assert bool(plan.build) == (asterisk == "source")
    assert bool(plan.repository) == (kamailio == "repository")


@pytest.mark.parametrize("row", SUPPORTED, ids=lambda row: row[1])
def test_a_plan_says_which_source_why_and_how_to_choose_another(row):
    *archive, kamailio, asterisk = row
    found = dataclasses.replace(offered(*archive), os_name="This OS")
    said = as_text("sip1", make_plan(wanted("{}", found), found, 0), Present(), diffs=False)
    (about,) = re.findall(r"= (asterisk: .*)", said)
    (other,) = re.findall(r"= (kamailio: .*)", said)
    if asterisk == "source":
        assert "the host builds 22.11.0" in about
        assert "takes 2 to 5 minutes" in about
        reason = "no asterisk" if row[3] is None else "asterisk 23.1.0 is not supported"
        assert reason in about
    else:
        assert "the package of This OS" in about
        assert "`install: {asterisk: source}`" in about
    if kamailio == "repository":
        assert other.startswith("kamailio: 6.1 from https://deb.kamailio.org/kamailio61, because")
        assert row[2].partition("-")[0] in other
        assert "`install: {kamailio: package}`" in other
    else:
        assert "`install: {kamailio: repository}`" in other


def managed(*paths):
    return {path: Managed(service="s") for path in paths}


def test_a_host_keeps_the_sources_that_it_has():
    """An upgrade of sipdeploy, or a package that appears in the archive, changes no daemon."""
    both = {"asterisk": "1:20.6.0-1", "kamailio": "5.7.4-1"}
    old = bare("noble", installed=both, managed=managed(kamailio.CONFIGURATION, asterisk.OVERRIDE))
    kept = sources.resolved(site("{}"), old).install
    assert (kept.asterisk, kept.kamailio) == ("package", "package")
    fact = next(iter(recorded("sid-applied").files.values()))
    built = bare(
        "trixie",
        candidates={"asterisk": "1:22.1-1", "kamailio": "6.1.0-1"},
        managed=managed(source.WRAPPER, asterisk.OVERRIDE, kamailio.CONFIGURATION),
        files={repository.SOURCE: fact},
    )
    kept = sources.resolved(site("{}"), built).install
    assert (kept.asterisk, kept.kamailio) == ("source", "repository")


def test_what_is_written_holds_against_every_fact():
    found = offered(*SUPPORTED[1][:4])
    for install in ("{asterisk: package, kamailio: package}", f"{{asterisk: {OTHER}}}"):
        wanted_ = site(install).install
        if wanted_.kamailio == "auto":
            wanted_ = wanted_.model_copy(update={"kamailio": "repository"})
        assert sources.resolved(site(install), found).install == wanted_


def test_no_note_repeats_what_the_host_has():
    found = bare(installed={"asterisk": "1:22.1-1", "kamailio": "6.1.0-1"})
    assert wanted("{}", found).notes == ()


# Programs of a host with the packages $INSTALLED; `grep` finds its own build if BUILT is set.
PROGRAMS = {
    "dpkg-query": """\
        for name; do
            case $name in -*) continue ;; esac
            case " $INSTALLED " in *" $name "*) printf '%s\\t1\\tinstalled\\n' "$name" ;; esac
        done""",
    "apt-cache": 'echo "$@"',
    "grep": '[ -n "$BUILT" ]',
}


@pytest.mark.parametrize(
    ("installed", "is_built", "is_asked"),
    [
        ("kamailio asterisk", False, False),
        ("kamailio build-essential", False, True),
        ("kamailio build-essential", True, False),
        ("kamailio asterisk", True, True),
        ("", False, True),
    ],
)
def test_candidates_are_asked_only_where_a_package_is_missing(
    monkeypatch, tmp_path, installed, is_built, is_asked
):
    """A host that runs a build needs no package of Asterisk, and the other way round."""
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    own = (
        f"PATH={tmp_path}:$PATH; export INSTALLED='{installed}' BUILT={'yes' if is_built else ''}"
    )
    original = hosts.script_text
    begin = b"exec </dev/null"
    monkeypatch.setattr(
        hosts,
        "script_text",
        lambda name: original(name).replace(begin, own.encode() + b"\n" + begin),
    )
    query = dataclasses.replace(
        make_query(site("{}")),
        packages={"other": ("kamailio", "asterisk")},
        with_build={"other": ("kamailio", "build-essential")},
    )
    seen = []
    monkeypatch.setattr(facts, "parse", lambda answer, _: seen.append(answer))
    local = LocalHost("sip1")
    local._prefix = ()  # noqa: SLF001 - it runs as the account of the tests
    facts.read(local, query)
    assert ("candidates" in seen[0]) == is_asked
    if is_asked:
        assert {"kamailio", "asterisk", "build-essential"} <= set(seen[0]["candidates"].split())


# --- messages ------------------------------------------------------------------------------------


def test_a_system_without_asterisk_is_told_how_it_gets_one():
    (problem,) = (
        p for p in problems("{asterisk: package}", bare("bookworm")) if p.severity == "error"
    )
    assert problem.code == "SD511"
    assert "`install: {asterisk: source}`" in problem.help
    assert not [p for p in problems("{asterisk: source}", bare()) if p.severity == "error"]


@pytest.mark.parametrize(
    ("codename", "kamailio", "is_told"),
    [
        ("bookworm", "5.6.3-2", True),
        ("jammy", "5.5.4-1", True),
        ("noble", "5.7.4-1build3", True),
        ("noble", "5.7.5-1", False),
        ("bullseye", "5.4.4-1", False),
        ("trixie", "6.0.1-1", False),
    ],
)
def test_a_kamailio_that_crashes_with_openssl_3_is_told(codename, kamailio, is_told):
    found = bare(codename, candidates={"kamailio": kamailio})
    package = "{asterisk: source, kamailio: package}"
    told = [p for p in problems(package, found) if p.code == "SD519"]
    assert bool(told) is is_told
    for problem in told:
        severity = "error" if "5.7.4" in kamailio else "warning"
        assert (problem.severity, kamailio in problem.message) == (severity, True)
        assert "install: {kamailio: repository}" in problem.help
    running = bare(codename, candidates={}, installed={"kamailio": kamailio})
    told = {p.severity for p in problems(package, running) if p.code == "SD519"}
    assert told == ({"error"} if "5.7.4" in kamailio else set())
    both = "{asterisk: source, kamailio: repository}"
    assert not [p for p in problems(both, found) if p.code == "SD519"]


def test_a_build_needs_room_until_it_is_there():
    few = {"/": 2**30 + 2**28, "/var": 2**30 + 2**28, "/etc": 2**30}
    found = bare(installed={"kamailio": "6.0.1-1"}, free_bytes=few)
    (problem,) = (p for p in problems("{asterisk: source}", found) if p.severity == "error")
    assert (problem.code, "1536 MiB are needed" in problem.message) == ("SD512", True)
    built = dataclasses.replace(found, builds=(asterisk.build(site("{asterisk: source}")).name,))
    assert problems("{asterisk: source}", built) == []


def test_a_build_that_fails_says_why_and_where_the_rest_is():
    step = BuildAsterisk(build=asterisk.build(site("{asterisk: source}")))
    assert step.title == "build asterisk 22.11.0"
    said = b"configure: error: no SSL\nthe build failed; its log on the host: /x.log\n"
    host = FakeHost(answers={"build": Result(status=1, stdout=b"[CC] a.c\n", stderr=said)})
    lines = []
    with pytest.raises(HostFailed) as failed:
        step.run(host, lines.append)
    (problem,) = failed.value.diagnostics
    assert (problem.code, problem.notes) == ("SD540", tuple(said.decode().splitlines()))
    assert lines == ["[CC] a.c"]
    name, modules, tarballs = host.asked[0][1:]
    assert name == step.build.name
    loaded = {*asterisk.MODULES, *asterisk.REGISTRAR_MODULES, *asterisk.DATABASE_MODULES}
    assert set(modules.split()) == loaded | {*asterisk.SPARE_MODULES}
    assert tarballs == f"asterisk {ASTERISK.sha256} {RELEASED}"
    assert host.inputs == [script_text("build_asterisk")]


def test_a_repository_that_apt_refuses_is_told_with_the_key_it_needs():
    wanted_ = repository.repository(site("{kamailio: repository}"))
    step = AddRepository(repository=wanted_, source=b"Types: deb\n")
    assert step.title == "add the repository https://deb.kamailio.org/kamailio61"
    said = b"E: The repository is not signed.\n"
    host = FakeHost(answers={"repository": Result(status=1, stderr=said)})
    with pytest.raises(HostFailed) as failed:
        step.run(host, print)
    (problem,) = failed.value.diagnostics
    assert (problem.code, problem.notes) == ("SD541", ("E: The repository is not signed.",))
    assert wanted_.fingerprint in problem.help
    assert host.inputs == [b"Types: deb\n"]
