"""Storage of encryption networks.

There is one row for each network, with a sealed record and a policy.
"""

from capabilities.resources import NetworkId

from ..keyspace import network_key, x16
from ..store.contract import ABSENT, Expect, Put


def network_row_key(network: NetworkId) -> bytes:
    """Return the database key of an encryption network's row."""
    return network_key(x16(network.text))


def network_put(network: NetworkId, value: bytes, *, expect: Expect = ABSENT) -> Put:
    """Return the write operation that stores an encryption network.

    By default, the commit is refused if the row exists.
    """
    return Put(network_row_key(network), value, expect=expect)
