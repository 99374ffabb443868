"""Prerequisites of the files: a repository, packages, a build, a certificate."""

from collections.abc import Collection
from dataclasses import dataclass

from sipdeploy.facts import Facts, upstream
from sipdeploy.plan.desired import DAEMONS, Desired
from sipdeploy.services import certificates
from sipdeploy.services import install as apt
from sipdeploy.services.acme import Order
from sipdeploy.services.install import Build, Repository


def packages(desired: Desired, facts: Facts) -> dict[str, str]:
    """Package -> version to install: missing ones, and those of another series than required."""
    extra = desired.repository
    missing = {}
    for name in desired.packages:
        current = facts.installed.get(name)
        if extra and extra.has(name):
            if not current or not upstream(current).startswith(f"{extra.series}."):
                missing[name] = f"{extra.series} from {extra.url}"
        elif not current:
            missing[name] = facts.candidates.get(name, "")
    return missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """Another version of a package; `before` is empty if it is not installed."""

    name: str
    before: str
    after: str

    def __str__(self) -> str:
        """`~ package kamailio 6.0.1-1 -> 6.0.2-1`."""
        if not self.before:
            return f"+ package {self.name} {self.after}"
        return f"~ package {self.name} {self.before} -> {self.after}"

    @property
    def is_same_series(self) -> bool:
        """Whether the first two numbers of the version stay, as in a new patch release."""
        before, after = (upstream(each).split(".")[:2] for each in (self.before, self.after))
        return before == after

    @property
    def service(self) -> str:
        """The daemon that must restart for it; empty for libraries and sounds."""
        is_data = any(part in self.name for part in ("-sounds-", "-moh-", "-doc"))
        names = (each for each in DAEMONS if self.name == each or self.name.startswith(f"{each}-"))
        return "" if is_data else next(names, "")


def replacements(desired: Desired, facts: Facts) -> tuple[Replacement, ...]:
    """The packages that get the version which the desired state names."""
    return tuple(
        Replacement(name=name, before=facts.installed.get(name, ""), after=version)
        for name, version in sorted(desired.versions.items())
        if facts.installed.get(name) != version
    )


def repository(desired: Desired, facts: Facts, changed: Collection[str]) -> Repository | None:
    """The repository to add to apt; None if apt has it, or none is needed."""
    is_known = apt.KEYRING in facts.files and apt.SOURCE not in changed
    return None if is_known else desired.repository


def build(desired: Desired, facts: Facts) -> Build | None:
    """The Asterisk to build; None if the host has built it, or uses a package."""
    wanted = desired.build
    return wanted if wanted and wanted.name not in facts.builds else None


def order(desired: Desired, facts: Facts, now: float) -> Order | None:
    """The certificate to request; None if certbot has a suitable one, or none is needed."""
    current, wanted = facts.lineage, desired.order
    return None if wanted is None or (current and current.answers(wanted, now)) else wanted


def to_generate(
    desired: Desired, facts: Facts, ordered: Order | None, now: float
) -> frozenset[str]:
    """Paths that the host must generate.

    These are missing ones, a certificate that is not suitable, and keys that others may know.
    """
    restored = {file.path: file.digest for file in desired.restored}
    generated = [file for file in desired.generated if file.path not in restored]
    missing = {file.path for file in generated if _lacks(facts, file.path, desired.refused)}
    for path, digest in restored.items():
        if path not in facts.files or facts.files[path].digest != digest:
            missing.add(path)
    pair = {file.path for file in generated if file.recipe != "dialog-key"}
    if desired.order:
        return frozenset(missing if ordered is None and _is_in_use(facts) else missing | pair)
    certificate = facts.certificate
    left = certificates.RENEW_BEFORE.total_seconds()
    is_good = (
        certificate is not None
        and certificate.is_self_signed
        and certificate.key_matches
        and certificate.covers(desired.domain)
        and certificate.not_after.timestamp() - now > left
        and not missing & pair
    )
    return frozenset(missing if is_good else missing | pair)


def _lacks(facts: Facts, path: str, refused: Collection[str]) -> bool:
    return path not in facts.files or facts.files[path].digest in refused


def _is_in_use(facts: Facts) -> bool:
    """Whether Kamailio uses the certificate and key that certbot has."""
    live, lineage = facts.certificate, facts.lineage
    fact = facts.files.get(certificates.PATH)
    is_pair = live is not None and live.key_matches
    return is_pair and lineage is not None and fact is not None and fact.digest == lineage.digest
