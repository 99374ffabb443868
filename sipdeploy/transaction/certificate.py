"""A certificate from an ACME server; certbot on the host requests it and keeps the key there."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.facts import STATE
from sipdeploy.host import Host, ask, host_failed
from sipdeploy.host.incoming import OnLine
from sipdeploy.plan import Plan
from sipdeploy.services import acme
from sipdeploy.services.acme import Order
from sipdeploy.services.certificates import refusals
from sipdeploy.transaction import candidate
from sipdeploy.transaction.lock import Owner

ISSUE_SECONDS = 900
# certbot needs these files in their final place during the request; the swap brings the others.
NEEDED = (acme.SCRIPT, acme.ROOT, acme.CREDENTIALS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """Makes certbot request a certificate, before the files are staged; no live file changes.

    A refusal changes nothing. `undo` keeps a first certificate for the next run, because ACME
    servers limit how many certificates they issue.
    """

    has_undo: ClassVar[bool] = True
    owner: Owner
    plan: Plan
    order: Order
    state: str = STATE

    @property
    def title(self) -> str:
        """`get a certificate for sip.example.com`."""
        return f"get a certificate for {self.order.domain}"

    def run(self, host: Host, on_line: OnLine) -> None:
        """Show the output of certbot; HostFailed (SD610) explains a refusal."""
        files = tuple(file for file in self.plan.desired.files if file.path in NEEDED)
        lineage = acme.lineage(self.order.domain)
        root = "root" if self.order.has_root else ""
        sections = ask(
            host,
            (
                *("issue", self.state, self.owner.name, lineage, root),
                *(self.order.accounts, self.order.email, *self.order.arguments()),
            ),
            ("SD611", "the certificate cannot be requested"),
            data=candidate.tree(files),
            on_line=on_line,
            timeout_seconds=ISSUE_SECONDS,
        )
        if "issued" not in sections:
            raise refused(host.name, self.order, sections)
        self._judge(host.name, sections["issued"])

    def _judge(self, name: str, chain: str) -> None:
        """Raise HostFailed if browsers refuse what the server has issued."""
        now = dt.datetime.now(dt.UTC)
        what = f"the certificate that certbot got on `{name}`"
        problems = list(refusals(what, chain.encode(), self.order.domain, now)) if chain else []
        if problems:
            raise HostFailed(problems)

    def undo(self, host: Host) -> None:
        """Restore the certificate that `run` replaced."""
        ask(
            host, ("unissue", self.state), ("SD525", "the previous certificate cannot be restored")
        )


def refused(name: str, order: Order, sections: Mapping[str, str]) -> HostFailed:
    """The error (SD610) for a certificate that certbot did not get on the host `name`.

    `sections` are those of the script: the kinds of the errors become the message, the last lines
    of certbot's output become notes.
    """
    output, account = sections.get("refused", ""), sections.get("account", "").strip()
    if "\n" in account:
        account = ""  # it is not known which of them certbot has used
    elif account and "/" not in account:
        account = f"{order.accounts}/{account}"  # of a renewal
    meaning, fix = acme.meaning(f"{output}\n{sections.get('kinds', '')}", order, account)
    message = f"no certificate for `{order.domain}` from {order.server} on `{name}`"
    return host_failed(
        "SD610",
        f"{message}: {meaning}" if meaning else message,
        notes=(*acme.last_lines(output), "nothing was changed; a certificate in use stays in use"),
        help_=fix or f"on `{name}`: `tail -n 50 /var/log/letsencrypt/sipdeploy/letsencrypt.log`",
    )
