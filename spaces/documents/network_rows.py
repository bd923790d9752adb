"""Rows of encryption networks: an opaque value with record and policy, sealed by the writer."""

from capabilities.resources import NetworkId

from ..keyspace import network_key, x16
from ..store.contract import ABSENT, Expect, Put


def network_row_key(network: NetworkId) -> bytes:
    """Return the key of a network's row."""
    return network_key(x16(network.text))


def network_put(network: NetworkId, value: bytes, *, expect: Expect = ABSENT) -> Put:
    """Return the put of a network's row; by default it expects no row."""
    return Put(network_row_key(network), value, expect=expect)
