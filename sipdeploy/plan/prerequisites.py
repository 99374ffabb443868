"""What comes before the files: a repository, packages, a build, a certificate."""

from collections.abc import Collection

from sipdeploy.facts import Facts, upstream
from sipdeploy.plan.desired import Desired
from sipdeploy.services import certificates
from sipdeploy.services import install as apt
from sipdeploy.services.acme import Order
from sipdeploy.services.install import Build, Repository


def packages(desired: Desired, facts: Facts) -> dict[str, str]:
    """What is missing, and what has to be of the repository's series and is of another."""
    extra = desired.repository
    found = {}
    for name in desired.packages:
        have = facts.installed.get(name)
        if extra and extra.has(name):
            if not have or not upstream(have).startswith(f"{extra.series}."):
                found[name] = f"{extra.series} from {extra.url}"
        elif not have:
            found[name] = facts.candidates.get(name, "")
    return found


def repository(desired: Desired, facts: Facts, changed: Collection[str]) -> Repository | None:
    """What apt has to be told; None where it knows it."""
    is_known = apt.KEYRING in facts.files and apt.SOURCE not in changed
    return None if is_known else desired.repository


def build(desired: Desired, facts: Facts) -> Build | None:
    """What has to be built; None where it is, or nothing is to be."""
    wanted = desired.build
    return wanted if wanted and wanted.name not in facts.builds else None


def order(desired: Desired, facts: Facts, now: float) -> Order | None:
    """What is to be asked of the ACME server; None where certbot holds what will do."""
    held, wanted = facts.lineage, desired.order
    return None if wanted is None or (held and held.answers(wanted, now)) else wanted


def to_make(desired: Desired, facts: Facts, ordered: Order | None, now: float) -> frozenset[str]:
    """What the host must make: what is missing, and a certificate that will not do any more."""
    missing = {made.path for made in desired.made if made.path not in facts.files}
    pair = {made.path for made in desired.made if made.recipe != "dialog-key"}
    if desired.order:
        return frozenset(missing if ordered is None and _is_held(facts) else missing | pair)
    found = facts.certificate
    left = certificates.RENEW_BEFORE.total_seconds()
    is_good = (
        found is not None
        and found.is_self_signed
        and found.key_matches
        and found.covers(desired.domain)
        and found.not_after.timestamp() - now > left
    )
    return frozenset(missing if is_good else missing | pair)


def _is_held(facts: Facts) -> bool:
    """Whether Kamailio's files are those that certbot holds."""
    live, held = facts.certificate, facts.lineage
    fact = facts.files.get(certificates.PATH)
    is_pair = live is not None and live.key_matches
    return is_pair and held is not None and fact is not None and fact.digest == held.digest
