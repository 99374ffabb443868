"""The releases that a host keeps: who made which, and what it was to be then."""

from sipdeploy.facts import STATE
from sipdeploy.host import Host, ask, host_failed, run_script
from sipdeploy.host.incoming import whole
from sipdeploy.plan.desired import Desired
from sipdeploy.transaction import release
from sipdeploy.transaction.release import Header

FETCH_SECONDS = 300


def history(host: Host, state: str = STATE) -> tuple[Header, ...]:
    """Every release that is kept, the oldest first; HostFailed when one is damaged."""
    found = ask(host, ("history", state), ("SD530", "the releases cannot be read"))
    current = whole(found.get("current", ""))
    try:
        return tuple(
            release.header(text, whole(name.removeprefix("release ")), current)
            for name, text in found.items()
            if name.startswith("release ")
        )
    except ValueError as wrong:
        raise host_failed(
            "SD530", f"a release on `{host.name}` cannot be read: {wrong}"
        ) from wrong


def fetch_release(host: Host, number: int, state: str = STATE) -> Desired:
    """What a host was to be in a release, with the contents of its files; one exchange."""
    words = ("release", state, str(number))
    result = run_script(host, words, timeout_seconds=FETCH_SECONDS)
    if result.status != 0:
        raise host_failed(
            "SD530",
            f"`{host.name}` keeps no release {number}",
            help_=f"`sipdeploy history {host.name}` lists those that it keeps",
        )
    try:
        return release.load(result.stdout)
    except ValueError as wrong:
        message = f"release {number} on `{host.name}` cannot be read: {wrong}"
        raise host_failed("SD530", message) from wrong
