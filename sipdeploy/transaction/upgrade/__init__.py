"""An upgrade: newer packages of the daemons, in the transaction of an apply."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.facts import Facts, Query
from sipdeploy.host import Host, host_failed, run_script, sections
from sipdeploy.inventory.site import Site
from sipdeploy.plan.desired import DAEMONS, Desired
from sipdeploy.plan.goal import SiteGoal
from sipdeploy.transaction.release import PACKAGE, VERSION

LISTS_FRESH_SECONDS = 3600
ASK_SECONDS = 120
# `Inst kamailio [6.0.1-1] (6.0.2-1 Debian:13.2/stable [amd64])` of apt-get --simulate
INSTALL = re.compile(r"^Inst (\S+?)(?::\S+)?(?: \[([^]]+)\])? \((\S+) ", re.MULTILINE)
REMOVE = re.compile(r"^Remv (\S+)", re.MULTILINE)
KEPT_BACK = "SD546"


@dataclass(frozen=True, slots=True, kw_only=True)
class Newer:
    """What apt would install: package -> version; and packages that somebody holds back."""

    versions: Mapping[str, str]
    held: tuple[str, ...] = ()


def newer(name: str, answer: Mapping[str, str]) -> Newer:
    """Read the script `upgrades`; HostFailed (SD546) if apt refuses, or would remove a package."""
    text = answer.get("simulated", "")
    if answer.get("status", "0").strip() != "0":
        lines = [line for line in text.splitlines() if line.strip()]
        raise host_failed(
            KEPT_BACK,
            f"apt cannot upgrade the packages on `{name}`",
            notes=tuple([line for line in lines if line.startswith("E:")] or lines[-5:])[:8],
            help_=f"on `{name}`: `apt-get -s upgrade` must succeed",
        )
    if removed := REMOVE.findall(text):
        raise host_failed(
            KEPT_BACK,
            f"the upgrade would remove {', '.join(removed)} from `{name}`",
            notes=("sipdeploy removes no packages; nothing was changed",),
            help_=f"on `{name}`: `apt-get -s dist-upgrade` shows why; remove them yourself, or "
            "wait for newer packages",
        )
    rows = INSTALL.findall(text)
    return Newer(
        versions={
            package: version
            for package, _, version in rows
            if PACKAGE.fullmatch(package) and VERSION.fullmatch(version)
        },
        held=tuple(answer.get("held-back", "").split()),
    )


class UpgradeGoal:
    """The goal of an upgrade of one host: the inventory, with the newest packages of apt."""

    def __init__(self, site_goal: SiteGoal) -> None:
        self._goal = site_goal
        self._newer = Newer(versions={})

    def query(self, host: Host) -> Query:
        """As Goal.query; asks apt first."""
        result = run_script(host, ("upgrades", *DAEMONS), timeout_seconds=ASK_SECONDS)
        self._newer = newer(host.name, sections(result.text))
        query = self._goal.query(host)
        names = tuple(self._newer.versions)
        packages = {key: (*own, *names) for key, own in query.packages.items()}
        built = {key: (*own, *names) for key, own in query.with_build.items()}
        return replace(query, packages=packages, with_build=built)

    def packages(self, name: str, facts: Facts) -> tuple[str, ...]:
        """As Goal.packages."""
        return self._goal.packages(name, facts)

    def needs_lists(self, facts: Facts) -> bool:
        """As Goal.needs_lists: newer packages are known only from fresh lists."""
        age = facts.lists_age_seconds
        return age is None or age > LISTS_FRESH_SECONDS

    def problems(self, name: str, facts: Facts) -> list[Diagnostic]:
        """As Goal.problems, for the versions to come."""
        return self._goal.problems(name, self._with_newer(facts))

    def desired(self, name: str, facts: Facts) -> Desired:
        """As Goal.desired, rendered for the versions to come."""
        wanted = self._goal.desired(name, self._with_newer(facts))
        notes = (*wanted.notes, *self._notes(wanted))
        return replace(wanted, versions=self._newer.versions, notes=notes)

    def expected(self, facts: Facts) -> Facts:
        """As Goal.expected: the packages come in the swap, so the facts are those of now."""
        return facts

    def proven(self, desired: Desired) -> Site:
        """As Goal.proven."""
        return self._goal.proven(desired)

    def _with_newer(self, facts: Facts) -> Facts:
        return replace(facts, installed={**facts.installed, **self._newer.versions})

    def _notes(self, wanted: Desired) -> Iterator[str]:
        if self._newer.held:
            yield f"held back on the host (apt-mark): {', '.join(self._newer.held)}"
        if wanted.build:
            yield "asterisk is built from source: a newer release needs `install.asterisk`"
        if self._newer.versions:
            yield "the host keeps the present packages, and goes back to them if anything fails"
