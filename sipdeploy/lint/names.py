"""Rules about domains, addresses and numbers: what they mean to the rest of the world. Pure."""

from collections.abc import Iterator, Mapping

from sipdeploy.diagnostics import listed
from sipdeploy.inventory import placeholders
from sipdeploy.inventory.fields import PRIVATE_NAME
from sipdeploy.lint.rules import Finding, Subject, rule

# The sources: ITU-T E.161.1 recommends 112 and 911; Directive (EU) 2018/1972, article 109, makes
# 112 that of the EU, and 47 U.S.C. 251(e)(3) 911 that of the USA. 3GPP TS 22.101, section 10.1.1:
# mobile phones treat 112 and 911 as emergency calls everywhere, and 000, 08, 110, 118, 119, 999
# without a SIM. The others are in the national numbering plans that ITU-T publishes (E.129).
# Short on purpose: numbers that are an emergency number in few countries and a common extension
# everywhere else, such as 100 and 101 in India, would be false alarms.
EMERGENCY: Mapping[str, str] = {
    "112": "the EU, and mobile phones everywhere",
    "911": "North America, and mobile phones everywhere",
    "000": "Australia",
    "08": "mobile phones without a SIM",
    "110": "Germany, China, Japan",
    "118": "Italy, Switzerland",
    "119": "Japan, Korea, Taiwan",
    "999": "the United Kingdom, Ireland, Hong Kong",
    "111": "New Zealand",
    "15": "France: ambulance",
    "17": "France: police",
    "18": "France: fire brigade",
    "190": "Brazil: police",
    "192": "Brazil: ambulance",
    "193": "Brazil: fire brigade",
}


@rule("SD320", "error")
def no_certificate(subject: Subject) -> Iterator[Finding]:
    """No certificate: Let's Encrypt issues none for a name that does not exist in public.

    These are the names of RFC 2606, RFC 6761, RFC 6762 and RFC 8375, those that ICANN reserves
    for private use (`internal`, `home`, `corp`, `mail`), and `lan`, `intranet` and the like, which
    are not delegated. An ACME server of your own can issue one.

    Bad:
        domain: sip.office.lan
    Good:
        domain: sip.office.lan
        tls: {server: "https://acme.office.lan/directory", ca_bundle: root.pem}
    """
    tls = subject.site.tls
    is_public = tls.provider == "letsencrypt" and tls.server is None
    if is_public and PRIVATE_NAME.fullmatch(subject.site.domain):
        yield Finding(
            message=f"`{subject.site.domain}` can get no certificate of Let's Encrypt",
            span=subject.value(("domain",)),
            label="not a public name",
            help="write a domain that you own, or use another `tls.provider` or `tls.server`",
        )


@rule("SD321", "note")
def placeholder(subject: Subject) -> Iterator[Finding]:
    """Placeholder: a name or an address of the documentation, which leads nowhere.

    RFC 2606 reserves example.com, example.net, example.org and `.example`; RFC 5737 and RFC 3849
    reserve 192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24 and 2001:db8::/32. `plan` and `apply`
    refuse such an address, and such a domain with Let's Encrypt: for them it is an error.

    Situation: `sipdeploy init` wrote the inventory, and `address: 203.0.113.10` was not changed
    Fix: write your own domain, e-mail address and host
    """
    found = placeholders(subject.site)
    if found:
        yield Finding(
            message=f"placeholders are left: {listed(dict.fromkeys(found.values()))}",
            span=subject.value(next(iter(found))),
            help="write your own; `sipdeploy apply` refuses a host that has such an address",
        )


@rule("SD324", "warning")
def several_hosts(subject: Subject) -> Iterator[Finding]:
    """Several hosts under one domain: phones on different hosts cannot call each other.

    All hosts of an inventory have its domain, users and services, and each has its own
    registrations. A phone connects to the host that the DNS names; if that is now one and now
    another, a call finds only the phones on its own host. Suppress the warning if only one of them
    is in the DNS at a time, such as a spare host.

    Bad:
        hosts: {sip1: {address: 203.0.113.10}, sip2: {address: 203.0.113.11}}
    Good:
        hosts: {sip1: {address: 203.0.113.10}}
    """
    hosts = list(subject.site.hosts)
    if len(hosts) > 1:
        yield Finding(
            message=f"{listed(hosts)} serve the same domain and do not know each other's phones",
            span=subject.key(("hosts", hosts[1])),
            label=f"`{subject.site.domain}` should lead to one of them only",
            help="keep one inventory, and one domain, for each host that serves phones",
        )


@rule("SD322", "warning")
def emergency_number(subject: Subject) -> Iterator[Finding]:
    """Emergency number: a person in need would reach a colleague, or a recording.

    sipdeploy connects to no telephone network, so nobody answers emergency calls. A number that
    people dial in an emergency must not lead to something else. The list is that of ITU-T E.161.1
    and 3GPP TS 22.101 (10.1.1), with some national numbers; suppress the warning where the number
    has no such meaning in your country.

    Bad:
        users: {112: {name: Alice}}
    Good:
        users: {1112: {name: Alice}}
    """
    for section, entries in (("users", subject.site.users), ("services", subject.site.services)):
        for number in entries.keys() & EMERGENCY.keys():
            yield Finding(
                message=f"`{number}` is an emergency number",
                span=subject.key((section, number)),
                label=EMERGENCY[number],
                help=f"give it another number, such as `1{number}`",
            )
