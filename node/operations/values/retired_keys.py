"""Refusal of new values that are sealed to a key which is being retired (EN38).

Only envelopes in a space of the network's owner are examined.
"""

from collections.abc import Sequence

from capabilities.resources import NetworkId, SpaceId
from encryption_network.networks import NetworkRecord, decode_network
from spaces.documents.network_rows import network_row_key
from spaces.store.contract import Check

from ...refusal import Refusal
from ...services import Services
from .sealed_values import SealedKey
from .stored_keys import network_sealed_to

_REFUSED_STATES = ("retiring", "retired")


async def check_keys(
    services: Services, space: SpaceId, sealed: Sequence[tuple[str, SealedKey]]
) -> tuple[Check, ...]:
    """Check that no value is sealed to a key of the space's owner that is retiring or retired.

    Args:
        services: the node's.
        space: the space of the writes.
        sealed: the wrapped keys in them, each with its path.
    Returns:
        Conditions that fail the commit if one of the networks has changed.
    Raises:
        Refusal: `key-retiring`, a value is sealed to such a key.
    """
    versions_by_network: dict[NetworkId, set[int | None]] = {}
    for _, sealed_key in sealed:
        network = network_sealed_to(sealed_key, space)
        if network is not None:
            versions_by_network.setdefault(network, set()).add(sealed_key.key_version)
    if not versions_by_network:
        return ()
    row_keys = [network_row_key(network) for network in versions_by_network]
    rows = (await services.store.read(row_keys)).records
    checks: list[Check] = []
    for row_key, row, versions in zip(row_keys, rows, versions_by_network.values(), strict=True):
        # There may be no such network at this node.
        if row is not None and row.value is not None:
            _check_versions(decode_network(row.value), versions)
            checks.append(Check(row_key, row.stamp))
    return tuple(checks)


def _check_versions(record: NetworkRecord, versions: set[int | None]) -> None:
    """Refuse versions of a network's key that are retiring or retired."""
    for former in record.former_keys:
        if former.key_version in versions and former.state in _REFUSED_STATES:
            raise Refusal("key-retiring", former.key_version, record.key_version)
