"""Rate limits for clients and payers, and the names under which clients are counted.

Example:
    rates = Rates[str](most=1000)
    if rates.spent(client, per_s=0.2, now=now) + 1 <= 12:
        rates.add(client, 1, per_s=0.2, now=now)
"""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeVar

from .cache import Recent

_Key = TypeVar("_Key")


class Rates(Recent[_Key, tuple[float, float]]):
    """Amounts that were spent recently; they are refunded at a constant rate.

    `now` may come from any clock, as long as it is always the same one.
    """

    def spent(self, key: _Key, *, per_s: float, now: float) -> float:
        """Return the amount that is spent and not refunded yet."""
        spent, at = self.get(key, (0.0, now))
        return max(spent - max(now - at, 0.0) * per_s, 0.0)

    def add(self, key: _Key, amount: float, *, per_s: float, now: float) -> None:
        """Spend an amount."""
        self.put(key, (self.spent(key, per_s=per_s, now=now) + amount, now))


def parsed_address(address: str | None) -> IPv4Address | IPv6Address | None:
    """Parse an IP address, or return None if the text is not one.

    An IPv4 address in IPv6 form (`::ffff:`), as dual-stack sockets report it, becomes IPv4.
    """
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


def counted_as(address: IPv4Address | IPv6Address) -> str:
    """Return the name under which an address is counted: the address, or the /64 network of IPv6.

    One client usually has a whole /64 network and could change its address at will.
    """
    return str(
        ip_network((address, 64), strict=False) if isinstance(address, IPv6Address) else address
    )


def counted_address(address: str | None) -> str | None:
    """Return the name under which the client at an address is counted, or None if it is not
    counted.

    Clients without an address and on the loopback interface are not counted: all clients of a local
    proxy would share one name.
    """
    parsed = parsed_address(address)
    return None if parsed is None or parsed.is_loopback else counted_as(parsed)


def counted_client(address: str | None) -> str | None:
    """Return the name under which a client is counted, or None for local and unknown clients.

    A text that is not an address is returned as it is.
    """
    return address if parsed_address(address) is None else counted_address(address)
