"""Which addresses a guest's request may be sent to: public ones (RN106).

IPv4 by a list of what is not public, IPv6 by what is: addresses that contain or lead to others (mapped, compatible,
NAT64, 6to4, Teredo) are outside of it.

Example:
    assert is_public("93.184.215.14") and not is_public("::ffff:169.254.169.254")
"""

import ipaddress
from typing import Final

_IPV4_SPECIAL: Final = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # shared by customers of a provider
            "127.0.0.0/8",
            "168.63.129.16/32",  # a cloud's service for its machines, in public space
            "169.254.0.0/16",  # link-local: metadata of clouds
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",  # multicast, reserved, broadcast
        ),
    )
)
_IPV6_PUBLIC: Final = ipaddress.IPv6Network("2000::/3")
_IPV6_SPECIAL: Final = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # protocols, among them Teredo
            "2001:db8::/32",
            "2002::/16",  # 6to4
            "2620:4f:8000::/48",
            "3fff::/20",
        ),
    )
)


def is_public(text: str) -> bool:
    """Tell whether an address is one of the public internet; a text that is no address is none.

    Args:
        text: an IPv4 address of four decimal numbers, or an IPv6 address without a zone.
    """
    address = _address(text)
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in special for special in _IPV4_SPECIAL)
    return address is not None and address in _IPV6_PUBLIC and not any(address in special for special in _IPV6_SPECIAL)


def is_loopback(text: str) -> bool:
    """Tell whether an address is this machine's own in its plain form: 127.0.0.0/8, or ::1."""
    address = _address(text)
    return address is not None and address.is_loopback and getattr(address, "ipv4_mapped", None) is None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        return None
