"""The goal of a rollback: a release that the host keeps, with the users of today or its own."""

from collections.abc import Sequence
from dataclasses import replace

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.diagnostics.errors import HostFailed
from sipdeploy.diagnostics.escapes import shown_line
from sipdeploy.facts import Facts, Query
from sipdeploy.host import Host, host_failed
from sipdeploy.inventory.site import Site
from sipdeploy.plan import preflight
from sipdeploy.plan.desired import Desired, query_of
from sipdeploy.plan.kept_users import keep_users
from sipdeploy.transaction.release import Header, fetch_release, history


class ReleaseGoal:
    """A release by its number; None is the one before the current.

    Of the site only the entry of the host counts, because the inventory may be what is wrong.
    """

    def __init__(self, site: Site, number: int | None, *, with_users: bool) -> None:
        self._site = site
        self._asked = number
        self._with_users = with_users
        self._host: Host | None = None
        self._number = 0
        self._release: Desired | None = None

    def query(self, host: Host) -> Query:
        """Fetch the release; HostFailed (SD530) if the host does not keep it."""
        self._host = host
        number = self._asked if self._asked is not None else _previous(host.name, history(host))
        if self._release is None or number != self._number:
            self._number, self._release = number, fetch_release(host, number)
        return query_of(self._release)

    def packages(self, facts: Facts) -> tuple[str, ...]:
        """The packages of the release."""
        del facts
        return self._fetched[1].packages

    def problems(self, name: str, facts: Facts) -> list[Diagnostic]:
        """Only whether the system is supported: the release ran on this host before."""
        return list(preflight.system(name, facts))

    def desired(self, name: str, facts: Facts) -> Desired:
        """The release; HostFailed (SD532) if it cannot get the users that the host has now."""
        host, release = self._fetched
        number = self._number
        if self._with_users:
            note = f"users and passwords become those of release {number}"
            return replace(release, notes=(note,))
        try:
            kept = keep_users(release, fetch_release(host, facts.release), self._site, name, facts)
        except (ValueError, HostFailed) as reason:
            raise host_failed(
                "SD532",
                f"release {number} of `{name}` cannot get the users of today",
                notes=(shown_line(str(reason)),),
                help_=f"`sipdeploy rollback {name} {number} --with-users` also restores its users "
                "and passwords",
            ) from reason
        return replace(kept, notes=("users and passwords stay as they are",))

    @property
    def _fetched(self) -> tuple[Host, Desired]:
        assert self._host is not None  # noqa: S101 - `query` comes first
        assert self._release is not None  # noqa: S101
        return self._host, self._release


def _previous(name: str, kept: Sequence[Header]) -> int:
    earlier = [header.number for header in kept if not header.is_current]
    current = [header.number for header in kept if header.is_current]
    if not earlier or not current or min(earlier) > current[0]:
        raise host_failed("SD530", f"`{name}` keeps no release before the current one")
    return max(number for number in earlier if number < current[0])
