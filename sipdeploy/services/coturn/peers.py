"""The networks that the relay never sends to. Pure.

coturn 4.6.1, of Debian 12 and 13, denies only loopback by itself. Who may send through a relay is
inside the host's network otherwise: its cloud's metadata at 169.254.169.254, its neighbours.
"""

import ipaddress
import re
from collections.abc import Iterator

# IANA's registries of special-purpose addresses (RFC 6890), and multicast.
IPV4 = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
    *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
    *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
)
# The first five contain IPv4 addresses, as do Teredo (2001::/32) and 6to4 (2002::/16). Each begins
# with a digit, as every token of a template.
IPV6 = (
    *("0::/96", "0::ffff:0:0/96", "0::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"),
    *("100::/64", "2001::/32", "2001:2::/48", "2001:10::/28", "2001:20::/28", "2001:db8::/32"),
    *("2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
)


def ranges() -> Iterator[tuple[str, str]]:
    """First and last address of each network, because coturn 4.6 reads no prefix lengths.

    A range that begins with `::` would deny every IPv4 address too (measured with 4.6.1), so it
    begins with `::1`; coturn always denies `::` itself.
    """
    for text in (*IPV4, *IPV6):
        network = ipaddress.ip_network(text)
        first = network[1] if network[0] == ipaddress.IPv6Address(0) else network[0]
        yield _token(first), _token(network[-1])


def _token(address: object) -> str:
    return re.sub(r"^::", "0::", str(address))
