"""Rate limits: what clients and payers have used lately comes back with time; and how a client is
counted.

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
    """Amounts that were spent lately, which come back evenly; `now` is of any clock."""

    def spent(self, key: _Key, *, per_s: float, now: float) -> float:
        """Return how much is spent and has not come back."""
        spent, at = self.get(key, (0.0, now))
        return max(spent - max(now - at, 0.0) * per_s, 0.0)

    def add(self, key: _Key, amount: float, *, per_s: float, now: float) -> None:
        """Spend an amount."""
        self.put(key, (self.spent(key, per_s=per_s, now=now) + amount, now))


def parsed_address(address: str | None) -> IPv4Address | IPv6Address | None:
    """Read an address; an IPv4 one as itself, even where a socket of both families has prefixed it
    with `::ffff:`.

    None: the text is no address.
    """
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


def counted_as(address: IPv4Address | IPv6Address) -> str:
    """Return the text that a client is counted under: of IPv6 the network, all of which one client
    may have."""
    return str(
        ip_network((address, 64), strict=False) if isinstance(address, IPv6Address) else address
    )


def counted_address(address: str | None) -> str | None:
    """Return the text that the client at an address is counted under.

    None: the client is not counted by itself. It has no address, or it is on this machine, where
    proxies are.
    """
    parsed = parsed_address(address)
    return None if parsed is None or parsed.is_loopback else counted_as(parsed)


def counted_client(address: str | None) -> str | None:
    """Return the text that a client is counted under, its own where it is no address; None for
    loopback and None."""
    return address if parsed_address(address) is None else counted_address(address)
