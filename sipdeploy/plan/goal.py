"""What a run brings a host to: the inventory, or a release that the host keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.facts import Facts, Query
from sipdeploy.host import Host
from sipdeploy.inventory.own.files import Attachments
from sipdeploy.inventory.site import Site
from sipdeploy.plan import desired, preflight
from sipdeploy.plan.desired import Desired
from sipdeploy.services import kamailio
from sipdeploy.services.certificates import Material
from sipdeploy.services.service import HostProfile


class Goal(Protocol):
    """What a run brings a host to."""

    def query(self, host: Host) -> Query:
        """The query for the facts; HostFailed if the host must be asked for it and fails."""
        ...

    def packages(self, name: str, facts: Facts) -> tuple[str, ...]:
        """The packages that the host needs."""
        ...

    def needs_lists(self, facts: Facts) -> bool:
        """Whether apt must update its lists first, even if no package is missing."""
        ...

    def problems(self, name: str, facts: Facts) -> list[Diagnostic]:
        """Every reason why the host cannot be brought there, and every warning."""
        ...

    def desired(self, name: str, facts: Facts) -> Desired:
        """The desired state of the host."""
        ...

    def expected(self, facts: Facts) -> Facts:
        """The facts at the time when files are staged; the goal may bring what is missing now."""
        ...

    def proven(self, desired: Desired) -> Site:
        """The site that phones meet on the host afterwards."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteGoal:
    """The goal of plan and apply: the inventory. `credentials` maps numbers to HA1."""

    site: Site
    credentials: Mapping[str, str]
    material: Material
    attachments: Attachments = field(default_factory=Attachments)

    def query(self, host: Host) -> Query:
        """As Goal.query."""
        return desired.make_query(self.site.of(host.name))

    def packages(self, name: str, facts: Facts) -> tuple[str, ...]:
        """As Goal.packages."""
        return desired.packages(self.site.of(name), facts)

    def needs_lists(self, facts: Facts) -> bool:
        """As Goal.needs_lists: an apply looks for no newer packages."""
        del facts
        return False

    def problems(self, name: str, facts: Facts) -> list[Diagnostic]:
        """As Goal.problems, before rendering."""
        site = self.site.of(name)
        given = kamailio.sizes(site, HostProfile(room=facts.room))
        listens = desired.ports(site, site.hosts[name])
        return preflight.problems(site, name, facts, listens, given=given)

    def desired(self, name: str, facts: Facts) -> Desired:
        """As Goal.desired."""
        return desired.desired(
            self.site.of(name),
            name,
            facts,
            self.credentials,
            self.material,
            attachments=self.attachments,
        )

    def expected(self, facts: Facts) -> Facts:
        """As Goal.expected: an apply brings nothing."""
        return facts

    def proven(self, desired: Desired) -> Site:
        """As Goal.proven: the inventory."""
        del desired
        return self.site
