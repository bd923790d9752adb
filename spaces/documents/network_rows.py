"""Rows of encryption networks: record and policy in one value, opaque here; sealed by the
writer."""

from capabilities.resources import NetworkId

from ..keyspace import network_key, x16
from ..store.contract import ABSENT, Expect, Put


def network_row_key(network: NetworkId) -> bytes:
    """Key of a network's row."""
    return network_key(x16(network.text))


def network_put(network: NetworkId, value: bytes, *, expect: Expect = ABSENT) -> Put:
    """Write a network's row; by default only when there is none."""
    return Put(network_row_key(network), value, expect=expect)
