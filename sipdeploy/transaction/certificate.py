"""A certificate from an ACME server: fetched by certbot on the host, which keeps the key there."""

from dataclasses import dataclass
from typing import ClassVar

from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.facts import STATE
from sipdeploy.host import Host, ask, host_failed
from sipdeploy.host.incoming import OnLine
from sipdeploy.plan import Plan
from sipdeploy.services import acme
from sipdeploy.services.acme import Order
from sipdeploy.transaction import candidate
from sipdeploy.transaction.lock import Owner

ISSUE_SECONDS = 900
# What certbot needs in its final place while it asks; all else comes with the swap.
NEEDED = (acme.SCRIPT, acme.ROOT, acme.CREDENTIALS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """Has certbot fetch a certificate, before anything is staged; nothing that is live changes.

    A refusal leaves all as it was. A certificate that was had is kept by `undo` where there was
    none before, so that the next run has it: ACME servers count how many they issue.
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
        """Show what certbot says; HostFailed tells what a refusal means."""
        files = tuple(file for file in self.plan.desired.files if file.path in NEEDED)
        lineage = acme.lineage(self.order.domain)
        root = "root" if self.order.has_root else ""
        found = ask(
            host,
            ("issue", self.state, self.owner.name, lineage, root, *self.order.arguments()),
            ("SD611", "the certificate cannot be asked for"),
            data=candidate.tree(files),
            on_line=on_line,
            timeout_seconds=ISSUE_SECONDS,
        )
        if "issued" not in found:
            raise refused(host.name, self.order, found.get("refused", ""))

    def undo(self, host: Host) -> None:
        """Put back what the issue has replaced."""
        ask(host, ("unissue", self.state), ("SD525", "the issue cannot be taken back"))


def refused(name: str, order: Order, said: str) -> HostFailed:
    """Why there is no certificate, in words of ours and in certbot's."""
    told, mend = acme.meaning(said)
    message = f"no certificate for `{order.domain}` from {order.server} on `{name}`"
    return host_failed(
        "SD610",
        f"{message}: {told}" if told else message,
        notes=(*acme.last_words(said), "nothing was changed; what was served is served on"),
        help_=mend or f"on `{name}`: /var/log/letsencrypt/letsencrypt.log tells more",
    )
