"""Rate limits, client addresses behind proxies, and the keys that identify clients.

Example:
    rates = Rates[str](most=1000)
    if rates.spent(client, per_s=0.2, now=now) + 1 <= 12:
        rates.add(client, 1, per_s=0.2, now=now)
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import TypeVar

from .cache import Recent, memoize

_Key = TypeVar("_Key")
# Most requests need the key of their client, and a client sends many. Parsing an IPv4 address takes
# 3 µs, and the network of an IPv6 address 22 µs.
_KEPT_ADDRESSES = 4096
_LONGEST_ADDRESS = 64  # longer texts come from a header and are no addresses


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
    return _parsed_text(address or "")


@memoize(_KEPT_ADDRESSES, longest=_LONGEST_ADDRESS)
def _parsed_text(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


def counted_as(address: IPv4Address | IPv6Address) -> str:
    """Return the rate-limit key of an IP address.

    This is the IPv4 address or the IPv6 /64 network. One client usually has a whole /64 network and
    could change its address at will.
    """
    if isinstance(address, IPv6Address):
        return str(ip_network((address, 64), strict=False))
    return str(address)


def counted_address(address: str | None) -> str | None:
    """Return the rate-limit key of a client's address, or None.

    Clients on the loopback interface are not counted, because all clients of a local proxy would
    share one key. A text that is not an address is not counted either.
    """
    if parsed_address(address) is None:
        return None
    return counted_client(address)


def counted_client(address: str | None) -> str | None:
    """Return the rate-limit key of a client, or None for local clients.

    None is also returned for a client without an address. A text that is not an address is returned
    as it is.
    """
    return None if address is None else _counted_text(address)


@memoize(_KEPT_ADDRESSES, longest=_LONGEST_ADDRESS)
def _counted_text(address: str) -> str | None:
    parsed = parsed_address(address)
    if parsed is None:
        return address
    return None if parsed.is_loopback else counted_as(parsed)


def is_in_networks(address: str | None, networks: Sequence[str]) -> bool:
    """Return whether an address is one of the given addresses, or in one of the networks."""
    if not networks:  # nearly every request asks, and few nodes have a proxy
        return False
    parsed = parsed_address(address)
    return parsed is not None and any(parsed in _network(network) for network in networks)


@lru_cache(maxsize=256)
def _network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text, strict=False)


def forwarded_client(
    peer: str | None, forwarded: Sequence[str], real: str, *, proxies: Sequence[str]
) -> str | None:
    """Return the address of a client that may be behind trusted proxies (Q12).

    The client is the last forwarded address that is not a trusted proxy. Forwarded addresses of
    other peers are ignored, because any client can send such headers.

    Args:
        peer: address of the connection; None: it has none.
        forwarded: the values of all headers `X-Forwarded-For`.
        real: the header `X-Real-IP`, for a proxy that sends no other; "" if there is none.
        proxies: addresses or networks of the trusted proxies.
    Does not check:
        That the client has this address: a trusted proxy can send any address.
    """
    if not is_in_networks(peer, proxies):
        return peer
    hops = ",".join(forwarded)
    for part in reversed(hops.split(",")):
        hop = part.strip()
        if not hop:
            continue
        # Some proxies append a port, as in `192.0.2.1:443` or `[2001:db8::1]:443`.
        if hop.startswith("["):
            hop = hop[1:].partition("]")[0]
        elif hop.count(":") == 1:
            hop = hop.partition(":")[0]
        if not is_in_networks(hop, proxies):
            return hop
    if not hops.strip():
        return real.strip() or peer
    return peer  # every forwarded address is a trusted proxy, so no client is known
