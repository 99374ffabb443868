"""The step of an upgrade before the swap: all packages are on the host, old and new ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sipdeploy.diagnostics import count
from sipdeploy.facts import STATE
from sipdeploy.host import Host, ask, host_failed
from sipdeploy.host.incoming import OnLine
from sipdeploy.plan.desired import DAEMONS
from sipdeploy.plan.prerequisites import Replacement
from sipdeploy.transaction.candidate import package_rows, table
from sipdeploy.transaction.lock import Owner

FETCH_SECONDS = 1800


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepPackages:
    """Keeps the packages to come and those installed now, so that no way needs the network.

    There is no undo: files of packages alone have no effect, and a confirmation deletes those that
    no release uses.
    """

    has_undo: ClassVar[bool] = False
    owner: Owner
    replacements: Sequence[Replacement]
    state: str = STATE

    @property
    def title(self) -> str:
        """`fetch 12 packages, and keep the present ones`."""
        return f"fetch {count(len(self.replacements), 'package')}, and keep the present ones"

    def run(self, host: Host, on_line: OnLine) -> None:
        """Fetch; HostFailed (SD546) names a package that cannot be had."""
        answer = ask(
            host,
            ("fetch_debs", self.state, self.owner.name, " ".join(DAEMONS)),
            ("SD546", "the packages cannot be fetched"),
            data=table(package_rows(self.replacements)),
            on_line=on_line,
            timeout_seconds=FETCH_SECONDS,
        )
        if "missing" in answer:
            which, *errors = answer["missing"].splitlines()
            raise host_failed(
                "SD546",
                f"the package {which} cannot be had on `{host.name}`",
                notes=(*errors[:5], "nothing was changed"),
                help_=f"on `{host.name}`: `apt-get update` must succeed; then try again",
            )

    def undo(self, host: Host) -> None:
        """Do nothing; the class says why."""
