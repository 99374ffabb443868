"""Recorded states of a host: the sections of the script `status`, and what each state is.

tests/status/fine.txt is a whole answer; a file of another state has only the sections that differ,
and `-NAME` for one that is missing.
"""

from pathlib import Path

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.host import sections
from sipdeploy.operation.status import judging, state, values

FOLDER = Path(__file__).parent.parent / "status"
GONE = "gone"
# What is the matter, in the words of docs/status.md.
STATES = {
    "fine": "all fine",
    "kamailio-down": "Kamailio is stopped",
    "kamailio-stuck": "Kamailio is stuck: all its processes have got SIGSTOP",
    "port-stuck": "only the process of Kamailio that accepts connections is stuck",
    "kamailio-restarting": "Kamailio ends at each start",
    "asterisk-down": "Asterisk is stopped",
    "asterisk-stuck": "Asterisk is stuck (SIGSTOP)",
    "asterisk-crashed": "Asterisk has crashed once, and systemd has restarted it",
    "unit-disabled": "Asterisk would not start with the host",
    "rules-gone": "somebody has flushed the rules of the firewall",
    "relay-down": "the relay (coturn) is stopped",
    "certificate-soon": "the certificate ends in 5 days",
    "certificate-expired": "the certificate has expired",
    "certificate-other": "the port serves another certificate than the file",
    "renewal-failed": "the last renewal failed",
    "disk-full": "the disk of voicemail is full",
    "disk-nearly-full": "the disk is filling up",
    "memory-full": "the shared memory of Kamailio is used up",
    "connections-nearly-full": "nine in ten connections of Kamailio are in use",
    "calls-fail": "Asterisk has refused calls in the last hour",
    "flood": "flood control has shut out the phone of a user",
    "no-call-log": "an older sipdeploy configured the host, without a call log",
    "file-edited": "a managed file was edited on the host",
    "reload-missing": "systemd has not read a changed unit file",
    "proof-failed": "the last proof failed",
    "proof-old": "nobody has proved this release",
    "security-update": "the archive has a security update of Kamailio",
    "old-version-runs": "Kamailio was upgraded, and not restarted",
    "lists-old": "the package lists of the host are 40 days old",
    "undone-by-itself": "the host undid the last apply by itself",
    "apply-at-work": "an apply is at work",
    "lock-left": "an apply died two hours ago, and left its lock",
    "apply-unfinished": "an apply is unfinished, and no timer will undo it",
    "release-damaged": "the record of the release is damaged",
    "no-release": "sipdeploy has never configured the host",
    "proof-at-work": "a proof is at work: its phones and calls do not count",
    GONE: "the host does not answer",
}
UNREACHED = Diagnostic("SD501", "cannot connect to `sip1` (203.0.113.10:22): no route to host")


def changes(name):
    """The sections of a state that differ from a fine host."""
    return sections((FOLDER / f"{name}.txt").read_text("utf-8"))


def answer(name):
    """What a host in a state prints, by section."""
    differences = changes(name)
    removed = {section[1:] for section in differences if section.startswith("-")}
    merged = {**changes("fine"), **differences}
    return {
        section: text
        for section, text in merged.items()
        if section not in removed and not section.startswith("-")
    }


def status_of(name):
    """The judged status of a host in a state."""
    if name == GONE:
        return values.unreached("sip1", [UNREACHED])
    return judging.judge(state.parse("sip1", answer(name)))
