"""A healthy host as the script `doctor` describes it, and cases that differ from it."""

import dataclasses
import json

from hosts_facts import recorded

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.inventory.site import load_site
from sipdeploy.proof.doctor import inside
from sipdeploy.proof.doctor.rung import Case
from sipdeploy.proof.outside.step import StepResult
from sipdeploy.proof.outside.subject import Account, Subject

ADDRESS = "10.77.139.11"  # of the host whose facts are recorded
TEXT = """\
domain: sip.example.test
email: ops@example.com
hosts: {{sip1: {{address: {address}{more}}}}}
authentication: {mode}
tls: {{provider: self-signed}}
users: {{1001: {{name: Alice}}, 1002: {{voicemail: true}}}}
services: {{6000: {{kind: ivr-test}}, 6001: {{kind: voicemail}}, 6002: {{kind: echo}}}}
{rest}
"""
UNIT = "Id={}.service\nActiveState={}\nSubState={}\nResult={}\nNRestarts={}\n"
HEALTHY = {
    "daemons": "\n".join(
        UNIT.format(name, "active", "running", "success", 0) for name in ("kamailio", "asterisk")
    ),
    "processes": "kamailio Sl\nkamailio S\nasterisk Ssl\n",
    "uptime": "now: Fri Nov 27 06:00:00 2026\nup_since: x\nuptime: 12\n",
    "asterisk": "System uptime: 3600 \nLast reload: 3600 \n",
    "connections": "{\n\treaders: 8\n\tmax_connections: 4096\n\topened_connections: 12\n}\n",
    "shared": "{\n\ttotal: 67108864\n\tfree: 60000000\n\tused: 1\n}\n",
    "running": "app_voicemail.so\nres_rtp_asterisk.so\nres_srtp.so\nres_crypto.so\n"
    "chan_pjsip.so\n",
    "wanted": "app_voicemail.so\nres_srtp.so\n",
    "identify": " Identify:  trunk/trunk\n      Match: 127.0.0.1:5062/32\n",
    "channels": "0 active channels\n0 active calls\n0 calls processed\n",
    "rtp": "  Port start:      10000\n  Port end:        20000\n",
    "sounds": "digits/1\nvm-intro\n",
    "spool": "Filesystem 1024-blocks Used Available Capacity Mounted on\n"
    "overlay 264212084 26470864 79920048 25% /\n"
    "Filesystem Inodes IUsed IFree IUse% Mounted on\noverlay 100000 100 99900 1% /\nwritable\n",
    "times": "100\n200\n150\n",
    "examined": "",
}


def nobody():
    """No unit test has a host."""
    raise AssertionError("a host was asked")


def case(
    mode="kamailio", *, facts=None, user="", said="", code="SD907", more="", rest="", **texts
):
    """A case with a healthy host, but for these sections and facts; `said`: the step failed."""
    text = TEXT.format(address=ADDRESS, mode=mode, more=more, rest=rest)
    site, problems, _ = load_site(text, "inventory.yaml")
    assert site, problems
    sections = HEALTHY | {name.replace("_", " "): text for name, text in texts.items()}
    subject = Subject(name="sip1", site=site, entry=site.hosts["sip1"], level="full")
    made = Case(
        subject=subject,
        connect=nobody,
        inside=inside.parse(
            dataclasses.replace(recorded("sid-applied"), **(facts or {})), sections
        ),
        account=Account(number=user, password="x", title=user) if user else None,
    )
    if said:
        problem = Diagnostic(code, said, help="look there")
        made.result = StepResult(name="x", status="failed", message=said, diagnostics=(problem,))
    return made


def daemons(**states):
    """The section about daemons, with other states: kamailio=("failed", "exit-code", 3)."""
    rows = []
    for name in ("kamailio", "asterisk"):
        state, result, restarts = states.get(name, ("running", "success", 0))
        active = "active" if state == "running" else "inactive"
        rows.append(UNIT.format(name, active, state, result, restarts))
    return "\n".join(rows)


def log(*rows, when=1_795_400_000, apart=2):
    """Lines of the call log, some seconds apart."""
    return "\n".join(
        json.dumps(
            {
                "__REALTIME_TIMESTAMP": str((when + apart * number) * 1_000_000),
                "_SYSTEMD_UNIT": "kamailio.service",
                "SYSLOG_IDENTIFIER": "sipdeploy-calls",
                "MESSAGE": json.dumps(row),
            }
        )
        for number, row in enumerate(rows)
    )
