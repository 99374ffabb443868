"""Checks whether an ACME server can issue the certificate that a host needs. Pure.

These checks run before the request: Let's Encrypt refuses further attempts for an hour after five
failed validations (letsencrypt.org/docs/rate-limits).
"""

import re
from collections.abc import Iterator, Mapping

from sipdeploy.diagnostics import Diagnostic, listed
from sipdeploy.facts import Facts
from sipdeploy.inventory.site import HostEntry, Site
from sipdeploy.services import acme
from sipdeploy.services.acme import Order


def problems(site: Site, name: str, facts: Facts) -> Iterator[Diagnostic]:
    """Every reason why a request would fail.

    While no certificate needs to be requested, only what would spoil a renewal.
    """
    order = acme.order(site)
    if order is None:
        return
    is_near = facts.lineage is None or bool(facts.records)
    yield from _defaults(name, facts, is_near=is_near)
    if not is_near:
        return
    yield from _caa(order, facts.records)
    if order.challenge == "http-01":
        yield from _addresses(order, name, site.hosts[name], facts)
        yield from _port(order, name, facts)


def _defaults(name: str, facts: Facts, *, is_near: bool) -> Iterator[Diagnostic]:
    """SD616 and SD609 for options in cli.ini, which arguments cannot overrule in a renewal."""
    for code, option, path, line in facts.certbot_defaults:
        is_error = is_near and code == "SD616"
        yield Diagnostic(
            code,
            f"`{option}` in line {line} of {path} on `{name}` makes certbot get certificates that "
            "browsers refuse",
            severity="error" if is_error else "warning",
            help=f"on `{name}`: `sed -i '/^[ -]*{option.split()[0]}/d' {path}`",
        )


def _addresses(order: Order, name: str, host: HostEntry, facts: Facts) -> Iterator[Diagnostic]:
    """SD612 unless every address of the domain is this host: the server may connect to any."""
    answers = [facts.records.get(f"{kind} {order.domain}") for kind in ("A", "AAAA")]
    if None in answers:
        return  # no name server, or no answer: the ACME server reports the error
    found = [address for answer in answers for address in answer or ()]
    resolved = [
        address for address in found if not address.startswith("127.") and address != "::1"
    ]
    if found and not resolved:
        return  # a name server on the host answers from /etc/hosts
    own = {host.media_address, host.private_address, *facts.addresses}
    wrong = [address for address in resolved if address not in own]
    if not resolved:
        yield Diagnostic(
            "SD612",
            f"`{order.domain}` has no address in the DNS, as `{name}` sees it",
            help=f"create an A record for `{order.domain}` with `{host.media_address}`, "
            "or use `challenge: dns-01`",
        )
    elif wrong:
        kinds = " and ".join(sorted({"AAAA" if ":" in address else "A" for address in wrong}))
        yield Diagnostic(
            "SD612",
            f"`{order.domain}` points at {listed(wrong)}, which is not `{name}`",
            help=f"correct the {kinds} record of `{order.domain}` to `{host.media_address}` "
            "alone, or use `challenge: dns-01`",
        )


def _port(order: Order, name: str, facts: Facts) -> Iterator[Diagnostic]:
    """SD613 unless port 80 is free for certbot, or a web server serves `tls.webroot` there."""
    takers = [s for s in facts.sockets if (s.proto, s.port) == ("tcp", 80)]
    if order.is_standalone and takers:
        taker = takers[0]
        owner = f"`{taker.program}` (pid {taker.pid})" if taker.program else "a program"
        yield Diagnostic(
            "SD613",
            f"{owner} on `{name}` listens on port 80, which certbot needs",
            help="stop it, or set `tls.webroot` to the directory that it serves: "
            "then it answers the challenge",
        )
    elif order.webroot and not takers:
        yield Diagnostic(
            "SD613",
            f"nothing on `{name}` listens on port 80 to serve `{order.webroot}`",
            help="start the web server, or delete `tls.webroot`: then certbot answers itself",
        )


def _caa(order: Order, records: Mapping[str, tuple[str, ...]]) -> Iterator[Diagnostic]:
    """SD615 if the CAA records of the domain, or of its nearest parent with records, forbid it.

    RFC 8659, section 3.
    """
    if not order.server.endswith(acme.LETSENCRYPT_HOSTS):
        return  # the CAA name of another server is unknown here
    name = order.domain
    while name and not records.get(f"CAA {name}"):
        name = name.partition(".")[2]
    matches = [
        re.match(r"\d+ issue ([^;\s]*)", r, re.IGNORECASE) for r in records.get(f"CAA {name}", ())
    ]
    allowed = [match[1].lower() for match in matches if match]
    if allowed and acme.CAA_NAME not in allowed:
        authorities = listed(text or ";" for text in allowed)
        yield Diagnostic(
            "SD615",
            f"the CAA records of `{name}` allow {authorities} to issue for `{order.domain}`, "
            f"and not `{acme.CAA_NAME}`",
            help=f'add `{name}. CAA 0 issue "{acme.CAA_NAME}"` to the DNS',
        )
