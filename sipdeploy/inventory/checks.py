"""What is wrong between the keys of an inventory: clashes, missing partners, things named twice.

Pure. Single values are known to be right here.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Literal

from sipdeploy.inventory.document import Path
from sipdeploy.inventory.fields import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sipdeploy.inventory.models import HostEntry, Site

Found = tuple[Path, Literal["key", "value"], Invalid]


def _port_clashes(site: Site) -> Iterator[Found]:
    """Every socket needs a port of its own; 22 is for SSH, 80 for ACME challenges."""
    ports, seen = site.ports, {22: "SSH", 80: "ACME challenges"}
    for key in ("wss", "kamailio", "asterisk", "registrar"):
        number, fault = getattr(ports, key), None
        if number in seen:
            message = f"`ports.{key}` is {number}, which is taken by {seen[number]}"
            fault = Invalid("SD213", message, advice="give it another port")
        elif ports.rtp.start <= number <= ports.rtp.end:
            message = f"`ports.{key}` is {number}, which is inside `ports.rtp` {ports.rtp}"
            fault = Invalid("SD214", message, advice="move one of them")
        if fault:
            yield ("ports", key), "value", fault
        seen.setdefault(number, f"`ports.{key}`")


def _ssh_ports(site: Site) -> Iterator[Found]:
    """SSH of a host may not stand where a service of ours will listen."""
    for name, host in site.hosts.items():
        for key in ("wss", "kamailio", "asterisk", "registrar"):
            is_same = host.port == getattr(site.ports, key) != 22  # noqa: PLR2004  # told above
            if is_same and not host.is_local:
                message = f"SSH of `{name}` and `ports.{key}` have the same port {host.port}"
                fault = Invalid("SD213", message, advice=f"move `ports.{key}`")
                yield ("hosts", name, "port"), "value", fault


def _shared_numbers(site: Site) -> Iterator[Found]:
    for number in site.services.keys() & site.users.keys():
        message = f"`{number}` is a service and a user"
        fault = Invalid("SD216", message, advice="give one of them another number")
        yield ("services", number), "key", fault


def _shared_addresses(site: Site) -> Iterator[Found]:
    seen: dict[tuple[str, int], str] = {}
    for name, host in site.hosts.items():
        first = seen.setdefault((host.address, 0 if host.is_local else host.port), name)
        if first != name:
            message = f"hosts `{first}` and `{name}` are the same machine"
            fault = Invalid("SD224", message, advice="delete one of them")
            yield ("hosts", name, "address"), "value", fault


def _media_addresses(site: Site) -> Iterator[Found]:
    for name, host in site.hosts.items():
        key = "public_address" if host.public_address else "address"
        try:
            host.media_address  # noqa: B018  # its check is what is wanted
        except Invalid as fault:
            advice = (
                f"set `hosts.{name}.public_address` to the numeric address that browsers reach"
            )
            message = f"host `{name}` has no numeric address for media"
            is_name = fault.code == "SD211"
            yield (
                ("hosts", name, key),
                "value",
                Invalid(
                    "SD212", message if is_name else fault.message, fault.label, advice=advice
                ),
            )
        if host.private_address and not _same_family(host):
            message = "`private_address` and the public one are of different IP versions"
            yield ("hosts", name, "private_address"), "value", Invalid("SD212", message)


def _same_family(host: HostEntry) -> bool:
    try:
        public = ipaddress.ip_address(host.public_address or host.address)
    except ValueError:
        return True  # told elsewhere
    return public.version == ipaddress.ip_address(str(host.private_address)).version


_PROVIDER_KEYS: Mapping[str, str] = {
    "server": "letsencrypt",
    "ca_bundle": "letsencrypt",
    "challenge": "letsencrypt",
    "webroot": "letsencrypt",
    "dns_plugin": "letsencrypt",
    "dns_credentials": "letsencrypt",
    "dns_wait": "letsencrypt",
    "certificate": "files",
    "private_key": "files",
}


def _provider_keys(site: Site) -> Iterator[Found]:
    for key, provider in _PROVIDER_KEYS.items():
        is_set = key in site.tls.model_fields_set and getattr(site.tls, key) is not None
        mine = provider == site.tls.provider
        if not is_set and mine and provider == "files":
            message = f"`tls.{key}` is missing"
            advice = f"add `{key}: FILE` (PEM)"
            fault = Invalid("SD217", message, "`files` needs it", advice=advice)
            yield ("tls", "provider"), "value", fault
        elif is_set and not mine:
            message = f"`tls.{key}` belongs to the provider `{provider}`"
            advice = f"delete it, or write `provider: {provider}`"
            label = f"the provider here is `{site.tls.provider}`"
            yield ("tls", key), "key", Invalid("SD218", message, label, advice=advice)
    if site.tls.ca_bundle and site.tls.server is None and site.tls.provider == "letsencrypt":
        fault = Invalid("SD217", "`tls.server` is missing", "`ca_bundle` is the root of it")
        yield ("tls", "ca_bundle"), "key", fault


_CHALLENGE_KEYS: Mapping[str, str] = {
    "webroot": "http-01",
    "dns_plugin": "dns-01",
    "dns_credentials": "dns-01",
    "dns_wait": "dns-01",
}


def _challenge_keys(site: Site) -> Iterator[Found]:
    """What belongs to the one way to prove a domain means nothing to the other."""
    tls = site.tls
    if tls.provider != "letsencrypt":
        return
    for key, challenge in _CHALLENGE_KEYS.items():
        if key in tls.model_fields_set and challenge != tls.challenge:
            message = f"`tls.{key}` belongs to `challenge: {challenge}`"
            advice = f"delete it, or write `challenge: {challenge}`"
            label = f"the challenge here is `{tls.challenge}`"
            yield ("tls", key), "key", Invalid("SD218", message, label, advice=advice)
    if tls.challenge == "dns-01" and tls.dns_plugin is None:
        message = "`tls.dns_plugin` is missing"
        advice = "add the plugin of your DNS provider, such as `dns_plugin: rfc2136`"
        fault = Invalid("SD217", message, "`dns-01` needs it", advice=advice)
        yield ("tls", "challenge"), "value", fault


CHECKS: tuple[Callable[[Site], Iterator[Found]], ...] = (
    _port_clashes,
    _ssh_ports,
    _shared_numbers,
    _shared_addresses,
    _media_addresses,
    _provider_keys,
    _challenge_keys,
)
