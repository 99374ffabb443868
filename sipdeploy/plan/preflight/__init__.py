"""Checks whether a host can run its site, from its facts and before any change. Pure.

Reports all problems at once. Knows which systems and versions this release supports.
"""

import math
import re
from collections.abc import Iterable, Iterator

from sipdeploy.diagnostics import Diagnostic
from sipdeploy.facts import Facts, Socket, upstream
from sipdeploy.inventory.site import BAD_PORTS, HostEntry, Site
from sipdeploy.plan import desired, sources
from sipdeploy.plan.preflight import acme, firewall
from sipdeploy.services import asterisk, nginx
from sipdeploy.services.kamailio import MIB_PER_CONNECTION, Sizes
from sipdeploy.services.service import Port

# The oldest release of each system that is supported.
SYSTEMS = {"debian": 11, "ubuntu": 22}
MIB = 1024 * 1024
PACKAGES_BYTES = 1024 * MIB
FILES_BYTES = 50 * MIB
BUILD_BYTES = 512 * MIB
SKEW_WARNING_SECONDS = 60
SKEW_ERROR_SECONDS = 3600
SAFE_TLS = [5, 7, 5]  # has `tls_threads_mode`
REFUSED_TLS = [5, 7]  # measured with 5.7.4: "no suitable signature algorithm"
ELSEWHERE = {"kamailio": "repository", "asterisk": "source"}
DAEMONS_MIB = 256  # memory of the system and both daemons, without Kamailio's shared memory


def problems(
    site: Site, name: str, facts: Facts, ports: Iterable[Port], *, given: Sizes
) -> list[Diagnostic]:
    """Every error and warning; `given` are the sizes that Kamailio's files were rendered with."""
    site = sources.resolved(site, facts)
    host = site.hosts[name]
    return [
        *system(name, facts),
        *versions(site, name, facts),
        *room(site, name, facts),
        *memory(name, facts, given),
        *clock(name, facts),
        *masked(name, facts, desired.units(site)),
        *denied(site, name, facts),
        *taken_ports(name, facts, ports),
        *addresses(name, host, facts),
        *(() if facts.records else resolution(name, host, facts, site.domain)),
        *acme.problems(site, name, facts),
        *firewall.problems(site, name, facts),
    ]


def system(name: str, facts: Facts) -> Iterator[Diagnostic]:
    """SD510 unless the host runs Debian 11, Ubuntu 22.04 or later, with systemd."""
    oldest = SYSTEMS.get(facts.os_id)
    # Debian testing and sid have no VERSION_ID: they are newer than every release.
    number = re.match(r"\d+", facts.os_version)
    is_old = oldest is not None and number is not None and int(number[0]) < oldest
    if oldest is None or is_old:
        yield Diagnostic(
            "SD510",
            f"`{name}` runs {facts.os_name}, which is not supported",
            help="use a host with Debian 11, Ubuntu 22.04, or a later release of either",
        )
    elif not facts.has_systemd:
        yield Diagnostic(
            "SD510",
            f"`{name}` does not run systemd as init",
            help="use a host (or a container) that boots with systemd",
        )


def versions(site: Site, name: str, facts: Facts) -> Iterator[Diagnostic]:
    """SD511 unless both daemons are installed or available in a supported version."""
    if facts.os_id not in SYSTEMS:
        return
    wanted = desired.versions(site, facts)
    for package, known in sources.RANGES.items():
        version = wanted[package]
        if version is None:
            yield _absent(name, package, facts)
        elif not sources.is_supported(package, version):
            yield Diagnostic(
                "SD511",
                f"`{name}` has {package} {version}; supported are {known[0]} to {known[1]}",
                help=f"write `install: {{{package}: {ELSEWHERE[package]}}}`, or delete "
                f"`install.{package}`: then sipdeploy chooses",
            )
    yield from openssl(name, facts, wanted["kamailio"] or "")


def openssl(name: str, facts: Facts, kamailio: str) -> Iterator[Diagnostic]:
    """SD519 for a Kamailio that fails with OpenSSL 3 (kamailio#3791); Debian 11 has 1.1."""
    numbers = [int(part) for part in upstream(kamailio).split(".")] if kamailio else SAFE_TLS
    if numbers >= SAFE_TLS or facts.codename == "bullseye":
        return
    cause = "kamailio#3791: processes share OpenSSL state that belongs to one thread"
    fix = "write `install: {kamailio: repository}` for a newer one from kamailio.org"
    if numbers >= REFUSED_TLS:
        message = f"kamailio {kamailio} on `{name}` refuses the first TLS connection after a start"
        yield Diagnostic("SD519", message, notes=(cause,), help=fix)
    elif "kamailio" not in facts.installed:
        message = f"`{name}` gets kamailio {kamailio}, which is known to crash with OpenSSL 3"
        yield Diagnostic("SD519", message, severity="warning", notes=(cause,), help=fix)


def _absent(name: str, package: str, facts: Facts) -> Diagnostic:
    if package == "asterisk" and facts.codename in ("bookworm", "trixie"):
        return Diagnostic(
            "SD511",
            f"`{name}` runs {facts.os_name}, and its archive has no asterisk",
            help="write `install: {asterisk: source}`: the host builds it in a few minutes",
            notes=("Debian 12 and 13 were released without Asterisk",),
        )
    return Diagnostic(
        "SD511",
        f"the package archive of `{name}` has no {package}",
        help="add a mirror of the distribution (Ubuntu: with `universe`) to /etc/apt/sources.list",
    )


def room(site: Site, name: str, facts: Facts) -> Iterator[Diagnostic]:
    """SD512 unless the disk has space for the files, and for packages or a build if missing."""
    build = asterisk.build(site)
    is_bare = not facts.installed.keys() >= {"kamailio"} | ({"asterisk"} if not build else set())
    needed = PACKAGES_BYTES if is_bare else FILES_BYTES
    if build and build.name not in facts.builds:
        needed = PACKAGES_BYTES + BUILD_BYTES
    needs = {"/": needed, "/var": needed, "/etc": FILES_BYTES}
    reported: set[int] = set()
    for path, need in needs.items():
        free = facts.free_bytes.get(path, need)
        if free < need and free not in reported:
            reported.add(free)
            yield Diagnostic(
                "SD512",
                f"`{name}` has {free // MIB} MiB free in {path}, and {need // MIB} MiB are needed",
                help=f"free disk space: `du -xh {path} | sort -h | tail` shows the largest "
                "directories; `apt-get clean` often helps",
            )


def memory(name: str, facts: Facts, given: Sizes) -> Iterator[Diagnostic]:
    """SD513 unless the host has memory for Kamailio's shared memory and both daemons."""
    has, need = facts.memory_bytes // MIB, given.shared_mib + DAEMONS_MIB
    if not facts.memory_bytes or has >= need:
        return
    fit = given.connections - math.ceil((need - has) / MIB_PER_CONNECTION)
    fewer = f"write `limits: {{connections: {fit // 256 * 256}}}`, which fits; or "
    yield Diagnostic(
        "SD513",
        f"`{name}` has {has} MiB of memory, and this site needs {need} MiB "
        f"({given.shared_mib} MiB of it shared, for {given.connections} connections)",
        help=f"{fewer if fit >= 256 else ''}use a host with more memory",  # noqa: PLR2004
    )


def clock(name: str, facts: Facts) -> Iterator[Diagnostic]:
    """SD515 if the clock is wrong: certificates have dates, and nonces expire."""
    skew = abs(facts.skew_seconds)
    if skew <= SKEW_WARNING_SECONDS:
        return
    direction = "ahead of" if facts.skew_seconds > 0 else "behind"
    message = f"the clock of `{name}` is {skew:.0f} s {direction} the clock of this machine"
    fix = f"on `{name}`: `timedatectl set-ntp true`"
    if skew > SKEW_ERROR_SECONDS:
        yield Diagnostic("SD515", message, help=fix)
    else:
        yield Diagnostic("SD515", message, severity="warning", help=fix)


def masked(name: str, facts: Facts, units: Iterable[str]) -> Iterator[Diagnostic]:
    """SD536 for each masked unit: systemd would refuse to start it."""
    found = [unit for unit in units if unit in facts.units and facts.units[unit].is_masked]
    if found:
        names = " and ".join(f"`{unit}`" for unit in found)
        yield Diagnostic(
            "SD536",
            f"{names} {'is' if len(found) == 1 else 'are'} masked on `{name}`: "
            "systemd does not start masked units",
            help=f"on `{name}`: `systemctl unmask {' '.join(found)}`",
        )


def denied(site: Site, name: str, facts: Facts) -> Iterator[Diagnostic]:
    """SD537 for what the host, usually a container, is not permitted to do."""
    if "namespaces" in facts.denied:
        yield Diagnostic(
            "SD537",
            f"`{name}` cannot confine services in namespaces of their own (systemd's status 226)",
            notes=("the daemons check new files in such namespaces, and run in them",),
            help="allow nested containers and start it again: Proxmox `pct set ID --features "
            "nesting=1`, Incus or LXD `incus config set NAME security.nesting=true`; "
            "or use a virtual machine",
        )
    if "nft" in facts.denied and site.firewall != "none":
        yield Diagnostic(
            "SD537",
            f"`{name}` may not change its firewall: nft is refused",
            notes=("usually a container without CAP_NET_ADMIN",),
            help="start the container with CAP_NET_ADMIN (Docker `--cap-add NET_ADMIN`, nspawn "
            "`--capability=CAP_NET_ADMIN`); or use a virtual machine",
        )


def taken_ports(name: str, facts: Facts, ports: Iterable[Port]) -> Iterator[Diagnostic]:
    """SD514 for each port that another program has, SD560 for the port of the web phone."""
    wanted = tuple(ports)
    for port in wanted:
        for socket in facts.sockets:
            meets = "*" in (_wild(port.address), socket.address) or port.address == socket.address
            if (socket.proto, socket.port) != (port.protocol, port.number) or not meets:
                continue
            if socket.program == port.process and not _is_another_nginx(port, facts):
                continue
            if port.key == "phone.port":
                yield _another_web_server(name, facts, socket, wanted)
                continue
            yield Diagnostic(
                "SD514",
                f"{_owner(socket)} on `{name}` already listens on {port.protocol} port "
                f"{port.number}",
                help=f"set `{port.key}` to a free port, or stop the program",
            )


def _owner(socket: Socket) -> str:
    return f"`{socket.program}` (pid {socket.pid})" if socket.program else "a program"


def _is_another_nginx(port: Port, facts: Facts) -> bool:
    """Whether a program nginx is that of the administrator, because sipdeploy's does not run."""
    unit = facts.units.get(nginx.UNIT)
    return port.process == nginx.PROGRAM and not (unit and unit.is_active)


def _another_web_server(
    name: str, facts: Facts, socket: Socket, ports: Iterable[Port]
) -> Diagnostic:
    used = {each.port for each in facts.sockets} | {each.number for each in ports} | BAD_PORTS
    free = next(number for number in range(8444, 65536) if number not in used)
    return Diagnostic(
        "SD560",
        f"{_owner(socket)} on `{name}` already listens on port {socket.port}, where the web phone "
        "goes",
        notes=("a web server that stays there needs no change for another port",),
        help=f"write `phone: {{port: {free}}}`, or stop the program",
    )


def is_loopback(address: str) -> bool:
    """Whether an address of /etc/hosts or of the DNS means the machine that asks."""
    return address.startswith("127.") or address == "::1"


def _wild(address: str) -> str:
    return "*" if address in ("0.0.0.0", "::") else address  # noqa: S104 - read, not bound


def addresses(name: str, host: HostEntry, facts: Facts) -> Iterator[Diagnostic]:
    """SD516 unless the host has the address that the daemons bind to."""
    local = host.private_address or host.media_address
    if local in facts.addresses or not facts.addresses:
        return
    present = ", ".join(f"`{address}`" for address in facts.addresses)
    key = "private_address" if host.private_address else "public_address"
    fix = f"set `hosts.{name}.private_address` to one of {present}"
    if not host.private_address:
        fix += f" (if NAT maps `{local}` to it), or correct `hosts.{name}.{key}`"
    yield Diagnostic("SD516", f"`{name}` has no interface with the address `{local}`", help=fix)


def resolution(name: str, host: HostEntry, facts: Facts, domain: str) -> Iterator[Diagnostic]:
    """SD517 unless the domain resolves to the host; only a new host is asked for it."""
    answer = facts.domain_addresses
    wanted = host.media_address
    if answer is None or wanted in answer or host.private_address in answer:
        return
    resolved = [address for address in answer if not is_loopback(address)]
    if answer and not resolved:  # /etc/hosts has the name, and hides what phones are told
        return
    where = ", ".join(f"`{address}`" for address in resolved)
    message = f"`{domain}` resolves to {where} on `{name}`, not to `{wanted}`"
    if not resolved:
        message = f"`{domain}` does not resolve on `{name}`"
    yield Diagnostic(
        "SD517",
        message,
        severity="warning",
        help=f"point the DNS record of `{domain}` at `{wanted}`: phones connect to that name",
    )
