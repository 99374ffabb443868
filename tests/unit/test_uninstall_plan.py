"""What an uninstall does to a host: rows for the script, lines for people."""

import subprocess

import pytest
from fakes import FakeHost

from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.host import Result, script_text
from sipdeploy.keeping import uninstall

ANSWER = {
    "release": "3",
    "serial": "1.5",
    "managed": "/etc/kamailio/kamailio.cfg\n/etc/kamailio/tls.cfg\n/etc/sipdeploy/firewall.nft\n",
    "originals": "/etc/kamailio/kamailio.cfg\n/etc/asterisk/http.conf\n",
    "directories": "/etc/kamailio\t750\troot:kamailio\n/etc/sipdeploy\tabsent\t-\n"
    "/etc/kamailio/tls\tabsent\t-\n/etc/kamailio/tls/deep\tabsent\t-\n",
    "units": "kamailio.service\tactive\tenabled\nasterisk.service\tinactive\tdisabled\n"
    "sipdeploy-firewall.service\tinactive\tdisabled\ncertbot.timer\tinactive\tdisabled\n",
    "loaded": "Id=kamailio.service\nActiveState=active\nUnitFileState=enabled\n\n"
    "Id=sipdeploy-firewall.service\nActiveState=active\nUnitFileState=enabled\n\n"
    "Id=certbot.timer\nActiveState=active\nUnitFileState=enabled\n",
    "present": "/etc/kamailio/dialog-key.cfg\n/opt/sipdeploy\n/var/log/sipdeploy.log\n",
    "packages": "kamailio\nasterisk\n",
    "renewals": "sipdeploy-sip.example.test.conf\n",
    "accounts": "account = " + "0a" * 16 + "\n",
    "messages": "12\n",
    "local": "/etc/kamailio/local.cfg\n",
    "tables": "name: calls\n all: 2\nname: ringing\n all: 0\n",
    "contacts": "usrloc:location-contacts = 14\n",
    "channels": "1 active channel\n",
    "lock": "",
    "abandoned": "",
}


def planned(*, purges=False, with_voicemail=False, **changes):
    remains = uninstall.parse({**ANSWER, **changes})
    return uninstall.removal(remains, purges=purges, with_voicemail=with_voicemail)


def test_the_plan_of_a_host():
    plan = planned()
    assert plan.as_text("sip1").splitlines() == [
        "sip1",
        "  ! stop and disable kamailio.service",
        "  ! stop and disable sipdeploy-firewall.service",
        "  ! stop and disable certbot.timer",
        "  ~ /etc/kamailio/kamailio.cfg (as before the first apply)",
        "  - /etc/kamailio/tls.cfg",
        "  - /etc/sipdeploy/firewall.nft",
        "  - /etc/kamailio/dialog-key.cfg",
        "  - /var/log/sipdeploy.log",
        "  ~ /etc/asterisk/http.conf (as before the first apply)",
        "  - renewal of sipdeploy-sip.example.test by certbot",
        "  - /opt/sipdeploy",
        "  ! enable kamailio.service",
        "  ! start kamailio.service, with its previous configuration",
        "  = 14 registrations end",
        "  = 2 calls between phones can no longer be ended or transferred by their phones",
        "  = 1 call with services ends",
        "  = kept: packages kamailio, asterisk (--purge purges them)",
        "  = kept: certificate sipdeploy-sip.example.test of certbot (--purge deletes it)",
        "  = kept: 12 messages of voicemail (--delete-voicemail deletes them)",
        "  = kept: your files /etc/kamailio/local.cfg",
    ]


def test_a_file_in_sipdeploy_s_own_directory_was_not_there_before():
    """A request for a certificate writes it before the first swap, which finds and keeps it."""
    script = "/etc/sipdeploy/certificate.sh"
    plan = planned(managed=f"{ANSWER['managed']}{script}\n", originals=f"{script}\n")
    assert f"- {script}" in plan.lines
    assert not [line for line in plan.lines if "as before" in line]


def rows(plan, kind):
    return [row[1:] for row in plan.rows if row[0] == kind]


def test_directories_come_back_and_new_ones_go_deepest_first():
    plan = planned()
    assert rows(plan, "directory") == [("/etc/kamailio", "750", "root:kamailio")]
    assert rows(plan, "rmdir") == [
        ("/etc/sipdeploy",),
        ("/etc/kamailio/tls/deep",),
        ("/etc/kamailio/tls",),
    ]
    assert ("/etc/kamailio/tls",) in rows(planned(directories=""), "rmdir")
    staged = planned(directories="/etc/sipdeploy\t700\troot:root\n")
    assert rows(staged, "rmdir") == [("/etc/sipdeploy",)]
    assert rows(staged, "directory") == []


def test_options_delete_more():
    plan = planned(purges=True, with_voicemail=True)
    assert rows(plan, "purge") == [("kamailio", "asterisk")]
    assert rows(plan, "lineage") == [("sipdeploy-sip.example.test",)]
    assert rows(plan, "account") == [("0a" * 16,)]
    assert rows(plan, "messages") == [()]
    assert not rows(plan, "start") + rows(plan, "enable"), "its package is gone"
    assert plan.kept == ("kept: your files /etc/kamailio/local.cfg",)
    assert not rows(planned(), "messages") + rows(planned(), "lineage") + rows(planned(), "purge")


def test_certificates_of_others_stay():
    others = ANSWER["renewals"] + "shop.example.com.conf\n"
    plan = planned(purges=True, renewals=others)
    assert rows(plan, "lineage") == [("sipdeploy-sip.example.test",)]
    assert not rows(plan, "account")
    assert ("certbot.timer",) not in rows(plan, "stop")


def surveyed(answer, **options):
    text = "".join(f"\x1e{name}\n{body}" for name, body in answer.items())
    host = FakeHost(answers={"remains": Result(status=0, stdout=text.encode())})
    return uninstall.survey(host, **options)


def test_a_host_that_cannot_be_uninstalled_now():
    whole = {**ANSWER, "since": "", "purpose": "", "end": ""}
    assert surveyed(whole).messages == 12
    for answer, reason in (
        ({"none": ""}, "nothing to uninstall"),
        ({**whole, "abandoned": "yes\n"}, "unfinished"),
        ({**whole, "lock": "bob@laptop\n", "since": "130\n"}, "locked by bob@laptop"),
        (ANSWER, "did not send"),
    ):
        with pytest.raises(HostFailed, match=reason):
            surveyed(answer)
    assert surveyed({**whole, "lock": "bob@laptop\n"}, breaks_lock=True).owner == "bob@laptop"


def test_the_script_carries_the_rows_out_and_goes_on_after_a_failure(tmp_path):
    state, root = tmp_path / "state", tmp_path / "root"
    (state / "lock").mkdir(parents=True)
    (state / "lock/holder").write_text("me\n")
    kept = state / f"original{root}/a.conf"
    kept.parent.mkdir(parents=True)
    kept.write_text("before")
    kept.chmod(0o640)
    (root / "new/deep").mkdir(parents=True)
    (root / "a.conf").write_text("ours")
    (root / "b.conf").write_text("ours")
    plan = [
        ("restore", f"{root}/a.conf"),
        ("restore", f"{root}/none.conf"),
        ("delete", f"{root}/b.conf"),
        ("rmdir", f"{root}/new/deep"),
        ("rmdir", f"{root}/new"),
    ]

    def run():
        data = "".join("\t".join(row) + "\n" for row in plan).encode()
        text = script_text("uninstall").replace(b"disarm\nput_back", b"put_back")
        argv = ["sh", "-c", text, "uninstall", str(state), "me"]
        return subprocess.run(argv, input=data, capture_output=True, check=False)

    done = run()
    assert done.returncode == 1
    assert f"cannot restore {root}/none.conf".encode() in done.stderr
    assert (root / "a.conf").read_text() == "before"
    assert (root / "a.conf").stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in root.iterdir()) == ["a.conf"]
    assert state.exists(), "the next run continues"
    del plan[1]
    assert run().returncode == 0
    assert not state.exists()
