"""Local configuration for a lab host that shows how both daemons parse a message.

While a Probe is open, it owns /etc/kamailio/local.cfg and /etc/asterisk/local on the host. It does
not change rendered files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from lab.hosts import Host

_LOG = "/var/log/asterisk/messages.log"
# The header goes before all headers of the sender, so neither parser can miss it.
_KAMAILIO = """\
route[LOCAL_REQUEST] {
	$var(stamped) = "";
	if ($sht(names=>$fU) != $null) $var(stamped) = $sht(names=>$fU);
	insert_hf("X-Kamailio-Believes: $rm/$fU/$rU/$(ci{s.encode.hexa})/$var(stamped)\\r\\n");
}
"""
_PJSIP = """\
[trunk](+)
context=differential
"""
# Logs the caller (from the request-URI and from P-Asserted-Identity) and the callee. 6002 answers,
# so that other phones can attack an active call.
_DIALPLAN = """\
[differential]
exten => _[0-9a-zA-Z%].,1,Log(NOTICE,differential [${PJSIP_HEADER(read,X-Kamailio-Believes)}] \
num=[${CUT(EXTEN,~,2)}] asserted=[${CALLERID(num)}] name=[${CALLERID(name)}] \
exten=[${CUT(EXTEN,~,1)}] id=[${CHANNEL(pjsip,call-id)}] reason=[${CUT(EXTEN,~,3)}])
 same => n,GotoIf($["${CUT(EXTEN,~,1)}" = "6002"]?stay)
 same => n,Hangup(21)
 same => n(stay),Answer()
 same => n,Echo()
"""
# A file, because the journal drops lines that come too fast.
_LOGGER = "messages.log => notice\n"
_CALLER = 7  # index of the field in `core show channels concise`
_FILES = {
    "/etc/kamailio/local.cfg": _KAMAILIO,
    "/etc/asterisk/local/pjsip.conf": _PJSIP,
    "/etc/asterisk/local/extensions.conf": _DIALPLAN,
    "/etc/asterisk/local/logger.conf": _LOGGER,
}
# Clears the counters of failures and floods, which would block the phones.
_FORGET = (
    "while sleep 0.2; do for table in failures rate waiting added; do"
    " kamcmd htable.flush $table; done; done >/dev/null 2>&1"
)
_READING = re.compile(
    r"differential \[(?P<stamp>.*?)\] num=\[(?P<number>.*?)\] asserted=\[(?P<asserted>.*?)\] "
    r"name=\[(?P<name>.*?)\] "
    r"exten=\[(?P<exten>.*?)\] id=\[(?P<call_id>.*?)\] reason=\[(?P<reason>.*?)\]"
)


@dataclass(frozen=True, slots=True)
class Reading:
    """An INVITE as both daemons parsed it; Kamailio's fields are empty without its header."""

    method: str
    caller: str
    callee: str
    kamailio_call_id: str
    kamailio_name: str
    number: str
    asserted: str
    name: str
    exten: str
    call_id: str
    reason: str

    @property
    def differences(self) -> list[str]:
        """Descriptions of the fields that the daemons parsed differently."""
        if not self.caller:
            return ["the header that Kamailio adds did not arrive"]
        name = self.kamailio_name.strip('"').replace('\\"', '"').replace("\\\\", "\\")
        pairs = (
            ("caller", self.caller, self.number),
            ("asserted caller", self.caller, self.asserted),
            ("callee", self.callee, self.exten),
            ("Call-ID", self.kamailio_call_id, self.call_id),
            ("name", name, self.name),
            ("reason", "service", self.reason),
        )
        return [
            f"{what}: Kamailio {left!r}, Asterisk {right!r}"
            for what, left, right in pairs
            if left != right
        ]


class Probe:
    """The local configuration of a host, from the begin of a `with` block to its end."""

    def __init__(self, host: Host) -> None:
        """Prepare; the host is unchanged until the `with` block begins."""
        self.host = host

    def __enter__(self) -> Self:
        """Write the local configuration, and restart both daemons."""
        for path, text in _FILES.items():
            self.host.write(path, text.encode())
        self._reload()
        self.host.run(
            ["systemd-run", "--quiet", "--unit=differential-forget", "sh", "-c", _FORGET],
            check=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the local configuration, and restart both daemons."""
        self.host.run("systemctl stop differential-forget; rm -f " + " ".join(_FILES))
        self._reload()

    def _reload(self) -> None:
        self.host.run("chgrp -R asterisk /etc/asterisk/local; chmod -R g+rX /etc/asterisk/local")
        self.host.run("systemctl restart asterisk kamailio", check=True)

    def readings(self) -> list[Reading]:
        """Return the INVITEs that have reached the dialplan since the last call."""
        text = self.host.run(f"cat {_LOG} && : > {_LOG}").stdout
        return [_reading(found) for found in _READING.finditer(text)]

    def numbers(self, table: str) -> dict[int, str]:
        """Return a table of Kamailio that maps connections (by client port) to numbers."""
        text = self.host.run(f"kamcmd htable.dump {table}").stdout
        return {
            int(port): number
            for port, number in re.findall(r"name: \S+:(\d+)\s+value: (\S*)", text)
        }

    def subscriptions(self) -> list[tuple[str, ...]]:
        """Return endpoint, resource, event and Call-ID of each subscription in Asterisk."""
        text = self.host.run(["asterisk", "-rx", "pjsip show subscriptions inbound"]).stdout
        pattern = r"Endpoint: ([^/<\s]+)\S*.*\s+Resource: ([^/\s]*)/(\S+).*\s+Expiry: +\d+ +(\S+)"
        return re.findall(pattern, text)

    def hang_up(self) -> None:
        """End all calls."""
        self.host.run(["asterisk", "-rx", "channel request hangup all"])

    def callers(self) -> list[str]:
        """Return the numbers of all callers who are in a call with Asterisk."""
        text = self.host.run(["asterisk", "-rx", "core show channels concise"]).stdout
        fields = [line.split("!") for line in text.splitlines()]
        return [line[_CALLER] for line in fields if len(line) > _CALLER]


def _reading(found: re.Match[str]) -> Reading:
    method, caller, callee, call_id, name = (found["stamp"].split("/", 4) + [""] * 5)[:5]
    try:
        known = bytes.fromhex(call_id).decode(errors="replace")
    except ValueError:
        known = call_id
    return Reading(
        method=method,
        caller=caller,
        callee=callee,
        kamailio_call_id=known,
        kamailio_name=name,
        number=found["number"],
        asserted=found["asserted"],
        name=found["name"],
        exten=found["exten"],
        call_id=found["call_id"],
        reason=found["reason"],
    )
