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
    """Check that no value is sealed to a key of the space's owner that is being retired.

    Args:
        services: the node's.
        space: the space of the writes.
        sealed: the wrapped keys in them, each with its path.
    Returns:
        Conditions that fail the commit if one of the networks has changed.
    Raises:
        Refusal: `key-retiring`.
    """
    stated: dict[NetworkId, set[int | None]] = {}
    for _, sealed_key in sealed:
        network = network_sealed_to(sealed_key, space)
        if network is not None:
            stated.setdefault(network, set()).add(sealed_key.key_version)
    if not stated:
        return ()
    keys = [network_row_key(network) for network in stated]
    rows = (await services.store.read(keys)).records
    checks: list[Check] = []
    for key, row, versions in zip(keys, rows, stated.values(), strict=True):
        # There may be no such network at this node.
        if row is not None and row.value is not None:
            _check_versions(decode_network(row.value), versions)
            checks.append(Check(key, row.stamp))
    return tuple(checks)


def _check_versions(record: NetworkRecord, versions: set[int | None]) -> None:
    for former in record.former_keys:
        if former.key_version in versions and former.state in _REFUSED_STATES:
            raise Refusal("key-retiring", former.key_version, record.key_version)
