"""Upgrades: what apt would do, the plan of it, its steps, and the way back."""

import dataclasses
import io
import tarfile

import pytest
from fakes import FakeHost
from hosts_facts import recorded
from test_apply import facts, hosts, scripts, site

from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import Result
from sipdeploy.plan import make_plan
from sipdeploy.plan.desired import desired
from sipdeploy.plan.prerequisites import Replacement
from sipdeploy.plan.preview import Load, Present
from sipdeploy.plan.text import as_data, as_text
from sipdeploy.services.certificates import Material
from sipdeploy.transaction import Options, bring, release, rollback, site_goal, survey
from sipdeploy.transaction.candidate import table
from sipdeploy.transaction.files import checks_after, checks_of
from sipdeploy.transaction.lock import Owner
from sipdeploy.transaction.upgrade import UpgradeGoal, newer
from sipdeploy.transaction.upgrade.steps import KeepPackages

__all__ = ["hosts"]  # the fixture
# As apt 2.6 and 3.0 print it.
SIMULATED = """\
Reading package lists...
Inst asterisk-config [1:22.10.1-1] (1:22.10.2-1 Debian:testing [all]) []
Inst asterisk [1:22.10.1-1] (1:22.10.2-1 Debian:testing [amd64])
Inst kamailio [6.1.5-1] (6.1.6-1 local:1/stable, Debian:testing [amd64])
Inst libnew2:amd64 (2.0-1 Debian:testing [amd64])
Conf libnew2 (2.0-1 Debian:testing [amd64])
"""
NEWER = {
    "asterisk-config": "1:22.10.2-1",
    "asterisk": "1:22.10.2-1",
    "kamailio": "6.1.6-1",
    "libnew2": "2.0-1",
}


def said(text):
    return Result(status=0, stdout=text.encode())


def upgrades(text=SIMULATED, status=0, more=""):
    return said(f"\x1esimulated\n{text}\n\x1estatus\n{status}\n{more}\x1eend\n")


def test_what_apt_would_install_is_read():
    answer = {"simulated": SIMULATED, "status": "0\n", "held-back": "coturn\n"}
    found = newer("sip1", answer)
    assert (found.versions, found.held) == (NEWER, ("coturn",))
    hostile = {"simulated": "Inst ../x [1] (1.0 a)\nInst x [1] (-rf a)\n", "status": "0"}
    assert newer("sip1", hostile).versions == {}
    assert newer("sip1", {"simulated": ""}).versions == {}


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        ("Remv mine [1]\nInst kamailio [1] (2 x)\n", 0, "would remove mine from `sip1`"),
        ("Reading...\nE: Unable to correct problems\n", 100, "apt cannot upgrade the packages"),
    ],
)
def test_an_upgrade_that_costs_other_packages_is_refused(text, status, message):
    with pytest.raises(HostFailed, match=message) as failed:
        newer("sip1", {"simulated": text, "status": f"{status}\n"})
    assert failed.value.diagnostics[0].code == "SD546"


def goal():
    return UpgradeGoal(site_goal(site(), {"1001": "0" * 32}, Options().folder))


def fresh(**more):
    return facts("sid-applied", lists="5\n9999999999", **more)


def test_the_plan_of_an_upgrade_says_what_it_costs(hosts):
    host = hosts["sip1"]
    host.answers |= {"facts": fresh(), "upgrades": upgrades(more="\x1eheld-back\ncoturn\n")}
    (planned,) = survey(site(), "sip1", goal(), say=[].append)
    assert planned.exit_code == 0, planned.diagnostics
    plan = planned.plan
    lines = plan.lines()
    assert lines[:4] == (
        "~ package asterisk 1:22.10.1-1 -> 1:22.10.2-1",
        "+ package asterisk-config 1:22.10.2-1",
        "~ package kamailio 6.1.5-1 -> 6.1.6-1",
        "+ package libnew2 2.0-1",
    )
    assert {"! restart asterisk.service", "! restart kamailio.service"} <= set(lines)
    assert not plan.is_empty
    assert not plan.is_only_data
    present = Present(load=Load(registrations=42, calls=3, ringing=0, channels=1))
    text = as_text("sip1", plan, present, diffs=False)
    for line in (
        "= held back on the host (apt-mark): coturn",
        "= the host keeps the present packages, and goes back to them if anything fails",
        "= restart asterisk: 1 call with services is cut; calls between phones continue",
        "= restart kamailio: 42 registrations reconnect, 3 calls continue, 0 calls being set up",
        "4 packages, ",
    ):
        assert line in text, text
    data = as_data("sip1", plan, present)["replacements"]
    assert data[3] == {"name": "libnew2", "before": "", "after": "2.0-1"}
    assert scripts(host)[0] == "upgrades"
    assert "stage" not in scripts(host)


def test_the_lists_are_updated_before_apt_is_asked(hosts):
    host = hosts["sip1"]
    host.answers |= {"facts": facts("sid-applied", lists="5\n1"), "upgrades": upgrades("")}
    survey(site(), "sip1", goal(), say=[].append)
    names = scripts(host)
    assert names[:5] == ["upgrades", "facts", "packages", "upgrades", "facts"]


def test_an_upgrade_is_a_transaction_that_fetches_first(hosts):
    host = hosts["sip1"]
    host.answers |= {"facts": fresh(), "upgrades": upgrades(), "fetch_debs": said("\x1efetched\n")}
    (report,) = bring(site(), "sip1", goal(), say=[].append)
    assert (report.state, report.diagnostics) == ("applied", ())
    wanted = ["upgrades", "facts", "lock", "fetch_debs", "stage", "swap", "confirm", "close"]
    assert scripts(host) == wanted
    assert host.inputs[3].decode().splitlines()[2:] == [
        "kamailio\t6.1.5-1\t6.1.6-1",
        "libnew2\t-\t2.0-1",
    ]
    assert host.asked[5][3] == "420"  # the host waits longer for its confirmation
    with tarfile.open(fileobj=io.BytesIO(host.inputs[4])) as tar:
        names = ("packages", "daemons", "checks-after")
        packages, daemons, after = (tar.extractfile(name).read().decode() for name in names)
    assert packages == host.inputs[3].decode()
    assert daemons == "kamailio\nasterisk\n"
    assert {line.split("\t")[0] for line in after.splitlines()} == {"kamailio", "asterisk"}


def test_nothing_newer_is_nothing_to_do(hosts):
    host = hosts["sip1"]
    (report,) = bring(site(), "sip1", goal(), say=[].append)
    host.answers |= {"facts": fresh(), "upgrades": upgrades("0 upgraded, 0 newly installed\n")}
    (report,) = bring(site(), "sip1", goal(), say=[].append)
    assert not [line for line in report.changes if "package" in line]


def test_a_package_that_cannot_be_had_changes_nothing(hosts):
    host = hosts["sip1"]
    missing = "\x1emissing\nkamailio 6.1.6-1\nE: 404 Not Found\n"
    host.answers |= {"facts": fresh(), "upgrades": upgrades(), "fetch_debs": said(missing)}
    (report,) = bring(site(), "sip1", goal(), say=[].append)
    (problem,) = report.diagnostics
    assert (report.state, problem.code) == ("unchanged", "SD546")
    assert "the package kamailio 6.1.6-1 cannot be had" in problem.message
    assert problem.notes == ("E: 404 Not Found", "nothing was changed")
    assert scripts(host)[-2:] == ["unlock", "close"]


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        (
            "\x1eunpacked\nUnpacking\ndpkg: error processing kamailio\n",
            "SD547",
            "error processing",
        ),
        ("\x1echeck 0\n1\n 0(1) CRITICAL: oops\n\x1erejected\n", "SD401", "nothing live"),
    ],
)
def test_new_packages_that_do_not_work_go_back(hosts, answer, code, text):
    host = hosts["sip1"]
    host.answers |= {"facts": fresh(), "upgrades": upgrades(), "fetch_debs": said("\x1efetched\n")}
    host.answers["swap"] = said(answer)
    (report,) = bring(site(), "sip1", goal(), say=[].append)
    assert report.state == "rolled back"
    problem = report.diagnostics[0]
    assert problem.code == code
    assert any(text in note for note in problem.notes)
    assert "restore" in scripts(host)


def wanted(**versions):
    found = desired(site(), "sip1", recorded("sid-applied"), {}, Material(pair=None))
    return dataclasses.replace(found, versions=versions)


def planned(installed, **versions):
    known = recorded("sid-applied")
    known = dataclasses.replace(known, installed={**known.installed, **installed})
    return make_plan(wanted(**versions), known, 0)


def test_a_daemon_of_another_series_judges_only_when_it_is_there():
    same = planned({"kamailio": "6.0.1-1"}, kamailio="6.0.2-1")
    other = planned({"kamailio": "6.0.1-1"}, kamailio="6.1.0-1")
    assert "kamailio" in {check.service for check in checks_of(same)}
    assert "kamailio" not in {check.service for check in checks_of(other)}
    assert {check.service for check in checks_after(other)} == {"kamailio"}
    assert "asterisk" in {check.service for check in checks_of(other)}
    assert same.fingerprint() != other.fingerprint()


def test_sounds_and_libraries_restart_nothing():
    names = ("asterisk-core-sounds-en", "asterisk-doc", "libssl3", "kamailiox", "coturn")
    services = [Replacement(name=name, before="1", after="2").service for name in names]
    assert services == ["", "", "", "", "coturn"]
    plan = planned({"asterisk-core-sounds-en": "1"}, **{"asterisk-core-sounds-en": "2"})
    before = make_plan(wanted(), recorded("sid-applied"), 0)
    assert plan.units == before.units
    assert checks_after(plan) == ()


# The way back


def archive(versions):
    text = release.dump(
        desired(site(), "sip1", recorded("sid-applied"), {"1001": "0" * 32}, Material(pair=None)),
        release.Signature(who="me", when="now", purpose="apply", what=()),
    )
    kept = desired(
        site(), "sip1", recorded("sid-applied"), {"1001": "0" * 32}, Material(pair=None)
    )
    parts = {"release.json": text, "versions": versions.encode()}
    parts |= {f"tree{file.path}": file.content for file in kept.files}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return Result(status=0, stdout=buffer.getvalue())


OLD = "asterisk\t1:22.9.1-1\nkamailio\t6.1.5-1\nforeign\t1\n"
DEB = "asterisk_1%3a22.9.1-1.deb"


@pytest.mark.parametrize("with_users", [False, True])
@pytest.mark.parametrize(
    ("debs", "options", "note"),
    [
        (f"{DEB}\nx_1.deb", {}, "packages return to those of release 3"),
        ("x_1.deb", {}, "packages stay as they are: the host does not keep asterisk 1:22"),
        (DEB, {"keeps_packages": True}, "packages stay as they are"),
    ],
)
def test_a_rollback_takes_back_an_upgrade(hosts, debs, options, note, with_users):
    back = "return" in note
    host = hosts["sip1"]
    host.answers |= {
        "facts": facts("sid-applied", debs=debs, release="4"),
        "release": archive(OLD),
        "fetch_debs": said("\x1efetched\n"),
    }
    seen = []

    def agree(plans):
        seen.extend(plans["sip1"][0].desired.notes)
        return True

    (report,) = rollback(
        site(),
        "sip1",
        3,
        with_users=with_users,
        say=[].append,
        options=Options(agree=agree),
        **options,
    )
    assert (report.state, report.diagnostics) == ("applied", ())
    line = "~ package asterisk 1:22.10.1-1 -> 1:22.9.1-1"
    assert (line in report.changes, "fetch_debs" in scripts(host)) == (back, back)
    assert any(each.startswith(note) for each in seen), seen


def test_a_release_without_versions_says_nothing_about_packages(hosts):
    hosts["sip1"].answers |= {"release": archive(""), "facts": facts("sid-applied", release="4")}
    (report,) = rollback(site(), "sip1", 3, say=[].append)
    assert not [line for line in report.changes if "package" in line]


def test_versions_that_are_none_are_left_out():
    found = release.load(archive("kamailio\t6.1\n../x\t1\nasterisk\t-rf\nx\t1\t2\n\xff\n").stdout)
    assert found.versions == {"kamailio": "6.1"}


def test_the_title_counts_packages():
    rows = [Replacement(name="a", before="1", after="2")]
    step = KeepPackages(owner=Owner(name="me", purpose=""), replacements=rows)
    assert step.title == "fetch 1 package, and keep the present ones"
    assert table([("a", "-", "1")]) == b"a\t-\t1\n"
    with pytest.raises(HostFailed, match="cannot be fetched"):
        step.run(FakeHost(answers={"fetch_debs": Result(status=1, stderr=b"no")}), print)
