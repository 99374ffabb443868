"""Where the daemons of a host come from: decides `install: auto` by the facts, and says why. Pure.

A host keeps the source that sipdeploy has installed its daemons from: a new user must not bring
another Kamailio with it.
"""

from collections.abc import Iterator

from sipdeploy.facts import Facts, upstream
from sipdeploy.inventory.fields import ASTERISK_VERSIONS, KAMAILIO_VERSIONS
from sipdeploy.inventory.models import ASTERISK, KAMAILIO_SERIES
from sipdeploy.inventory.site import Site
from sipdeploy.services import asterisk, kamailio
from sipdeploy.services.install import SOURCE, WRAPPER, repository

# The supported versions. `match` of an identify section takes a port since Asterisk 16.8.0 (its
# CHANGES).
RANGES = {
    "kamailio": (KAMAILIO_VERSIONS[0], KAMAILIO_VERSIONS[-1]),
    "asterisk": ("16.8", ASTERISK_VERSIONS[-1]),
}
WITH_OPENSSL_1 = ("bullseye",)  # where every Kamailio is stable
BUILD_TIME = "2 to 5 minutes on two processors"  # measured: 1.5 to 4, and 5 with a busy disk


def is_supported(package: str, version: str) -> bool:
    """Whether a version is in the range; each limit has the precision that it is written with."""
    low, actual, high = (
        [int(part) for part in text.split(".")]
        for text in (RANGES[package][0], upstream(version), RANGES[package][1])
    )
    return low <= actual and actual[: len(high)] <= high


def is_stable(version: str, facts: Facts) -> bool:
    """Whether this Kamailio is supported, and its TLS stable with the OpenSSL of the system."""
    series = ".".join(upstream(version).split(".")[:2])
    is_safe = series in KAMAILIO_SERIES or facts.codename in WITH_OPENSSL_1
    return is_safe and is_supported("kamailio", version)


def resolved(site: Site, facts: Facts) -> Site:
    """The site with `package`, `source` or `repository` instead of `auto`."""
    asterisk = "package" if _has_package_of_asterisk(facts) else "source"
    kamailio = "package" if _has_package_of_kamailio(facts) else "repository"
    return choose(choose(site, "asterisk", asterisk), "kamailio", kamailio)


def choose(site: Site, daemon: str, source: str) -> Site:
    """The site with this source of a daemon instead of `auto`."""
    if getattr(site.install, daemon) != "auto":
        return site
    return site.model_copy(update={"install": site.install.model_copy(update={daemon: source})})


def _has_package_of_asterisk(facts: Facts) -> bool:
    if WRAPPER in facts.managed:
        return False
    if asterisk.OVERRIDE in facts.managed:
        return True
    version = facts.version("asterisk")
    return version is not None and is_supported("asterisk", version)


def _has_package_of_kamailio(facts: Facts) -> bool:
    if SOURCE in facts.files:
        return False
    if kamailio.CONFIGURATION in facts.managed:
        return True
    version = facts.version("kamailio")
    return version is not None and is_stable(version, facts)


def notes(site: Site, facts: Facts) -> Iterator[str]:
    """Which source each missing daemon comes from, why, and how to choose another one."""
    chosen = resolved(site, facts)
    build, extra = asterisk.build(chosen), repository(chosen)
    if build and build.name not in facts.builds:
        why = _why_not("asterisk", facts) if site.install.asterisk == "auto" else ""
        yield (
            f"asterisk: the host builds {build.version} from source{why}; this takes "
            f"{BUILD_TIME}; "
            "`install: {asterisk: {version: ..., url: ..., sha256: ...}}` builds another release"
        )
    elif not build and "asterisk" not in facts.installed and facts.version("asterisk"):
        yield (
            f"asterisk: {upstream(facts.version('asterisk') or '')}, the package of "
            f"{facts.os_name}; `install: {{asterisk: source}}` builds {ASTERISK.version} instead"
        )
    current = upstream(facts.installed.get("kamailio", ""))
    if extra and not current.startswith(f"{extra.series}."):
        why = _why_not("kamailio", facts) if site.install.kamailio == "auto" else ""
        other = "; `install: {kamailio: package}` takes the package" if why else ""
        yield f"kamailio: {extra.series} from {extra.url}{why}{other}"
    elif not extra and "kamailio" not in facts.installed and facts.version("kamailio"):
        yield (
            f"kamailio: {upstream(facts.version('kamailio') or '')}, the package of "
            f"{facts.os_name}; `install: {{kamailio: repository}}` takes {KAMAILIO_SERIES[-1]} "
            "from kamailio.org instead"
        )


def _why_not(package: str, facts: Facts) -> str:
    """The reason against the package of the distribution."""
    version = facts.version(package)
    if version is None:
        return f", because the archive of {facts.os_name} has no {package}"
    if not is_supported(package, version):
        low, high = RANGES[package]
        return f", because {package} {upstream(version)} is not supported ({low} to {high} are)"
    return (
        f", because the package of {facts.os_name}, {upstream(version)}, is not stable with "
        "OpenSSL 3 (kamailio#3791)"
    )
