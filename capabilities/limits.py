"""Rate limits, and the keys that identify clients.

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
    """Leaky buckets for rate limiting, one per key.

    They drain at a constant rate. `now` may come from any clock, as long as it is always the same
    one.
    """

    def spent(self, key: _Key, *, per_s: float, now: float) -> float:
        """Return the current usage of a key."""
        spent, at = self.get(key, (0.0, now))
        return max(spent - max(now - at, 0.0) * per_s, 0.0)

    def add(self, key: _Key, amount: float, *, per_s: float, now: float) -> None:
        """Add an amount to the usage of a key."""
        self.put(key, (self.spent(key, per_s=per_s, now=now) + amount, now))


def parsed_address(address: str | None) -> IPv4Address | IPv6Address | None:
    """Parse an IP address, or return None if it is invalid.

    An IPv4 address in IPv6 form (`::ffff:`), as dual-stack sockets report it, becomes IPv4.
    """
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


def counted_as(address: IPv4Address | IPv6Address) -> str:
    """Return the rate-limit key of an IP address.

    This is the IPv4 address or the IPv6 /64 network. One client usually has a whole /64 network and
    could change its address at will.
    """
    return str(
        ip_network((address, 64), strict=False) if isinstance(address, IPv6Address) else address
    )


def counted_address(address: str | None) -> str | None:
    """Return the rate-limit key of a client's address, or None.

    Clients without an address and on the loopback interface are not counted: all clients of a local
    proxy would share one name.
    """
    return None if parsed_address(address) is None else counted_client(address)


def counted_client(address: str | None) -> str | None:
    """Return the rate-limit key of a client, or None for local clients.

    None is also returned for a client without an address. A text that is not an address is returned
    as it is.
    """
    parsed = parsed_address(address)
    if parsed is None:
        return address
    return None if parsed.is_loopback else counted_as(parsed)
