"""Whether an ACME server will be able to do what a host is about to ask of it. Pure.

Judged before it is asked: a server counts failures, and after a few wants nobody for an hour.
"""

import re
from collections.abc import Iterator, Mapping

from sipdeploy.diagnostics import Diagnostic, listed
from sipdeploy.facts import Facts
from sipdeploy.inventory.site import HostEntry, Site
from sipdeploy.services import acme
from sipdeploy.services.acme import Order


def problems(site: Site, name: str, facts: Facts) -> Iterator[Diagnostic]:
    """Every reason why no certificate would come, while there is none or it is about to expire."""
    order = acme.order(site)
    if order is None or (facts.lineage is not None and not facts.records):
        return
    yield from _caa(order, facts.records)
    if order.challenge == "http-01":
        yield from _addresses(order, name, site.hosts[name], facts)
        yield from _port(order, name, facts)
        yield from _others(site, name, facts)


def _addresses(order: Order, name: str, host: HostEntry, facts: Facts) -> Iterator[Diagnostic]:
    """All that the domain points at is this host: the server takes any of them, IPv6 first."""
    asked = [facts.records.get(f"{kind} {order.domain}") for kind in ("A", "AAAA")]
    if None in asked:
        return  # no name server, or no answer: the ACME server will tell
    there = [address for found in asked for address in found or ()]
    own = {host.media_address, host.private_address, *facts.addresses}
    wrong = [address for address in there if address not in own]
    if not there:
        yield Diagnostic(
            "SD612",
            f"`{order.domain}` has no address in the DNS, as `{name}` sees it",
            help=f"make an A record for `{order.domain}` with `{host.media_address}`, "
            "or take `challenge: dns-01`",
        )
    elif wrong:
        kinds = " and ".join(sorted({"AAAA" if ":" in address else "A" for address in wrong}))
        yield Diagnostic(
            "SD612",
            f"`{order.domain}` points at {listed(wrong)}, which is not `{name}`",
            help=f"correct the {kinds} record of `{order.domain}` to `{host.media_address}` "
            "alone, or take `challenge: dns-01`",
        )


def _port(order: Order, name: str, facts: Facts) -> Iterator[Diagnostic]:
    """Port 80 is free for certbot, or served by who gives out the folder."""
    takers = [s for s in facts.sockets if (s.proto, s.port) == ("tcp", 80)]
    if order.is_standalone and takers:
        taker = takers[0]
        who = f"`{taker.program}` (pid {taker.pid})" if taker.program else "a program"
        yield Diagnostic(
            "SD613",
            f"{who} on `{name}` listens on port 80, where certbot is to answer",
            help="let it serve the challenge with `tls.webroot`, which names the folder that it "
            "gives out, or stop it",
        )
    elif order.webroot and not takers:
        yield Diagnostic(
            "SD613",
            f"nothing on `{name}` listens on port 80 to give out `{order.webroot}`",
            help="start the web server, or delete `tls.webroot`: then certbot itself answers",
        )


def _others(site: Site, name: str, facts: Facts) -> Iterator[Diagnostic]:
    """A table of somebody else may drop what ours lets in."""
    if site.firewall != "none" and not facts.is_ufw_active and facts.closing_chains:
        yield Diagnostic(
            "SD614",
            (
                f"the firewall of `{name}` drops what it does not know, in "
                f"{listed(facts.closing_chains)}: TCP port 80 must be let in there"
            ),
            severity="warning",
            help=(
                "let it in there (our own table opens it for the challenge only), "
                "or take `challenge: dns-01`"
            ),
        )


def _caa(order: Order, records: Mapping[str, tuple[str, ...]]) -> Iterator[Diagnostic]:
    """The nearest CAA records above the domain name the authority (RFC 8659, section 3)."""
    if not order.server.endswith(acme.LETSENCRYPT_HOSTS):
        return  # what another server calls itself, it alone knows
    name = order.domain
    while name and not records.get(f"CAA {name}"):
        name = name.partition(".")[2]
    found = [
        re.match(r"\d+ issue ([^;\s]*)", r, re.IGNORECASE) for r in records.get(f"CAA {name}", ())
    ]
    allowed = [match[1].lower() for match in found if match]
    if allowed and acme.CAA_NAME not in allowed:
        said = listed(word or ";" for word in allowed)
        yield Diagnostic(
            "SD615",
            f"the CAA records of `{name}` allow {said} to issue for `{order.domain}`, and not "
            f"`{acme.CAA_NAME}`",
            help=f'add `{name}. CAA 0 issue "{acme.CAA_NAME}"` to the DNS',
        )
