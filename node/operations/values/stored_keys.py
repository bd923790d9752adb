"""The content keys of encrypted values that are stored at paths (RL21).

Only envelopes in a space of the network's owner count. A release examines no other space, and only
this node has the private key of the network.
"""

import asyncio
from collections.abc import Mapping, Sequence

from capabilities.capability_errors import InvalidIdentifier
from capabilities.principals import principal_of
from capabilities.resources import NetworkId, SpaceId, parse_network_id
from capabilities.strict_base64 import decode_standard
from encryption_network.content_keys import content_key_digest
from encryption_network.keyring import Keyring
from encryption_network.networks import NetworkRecord, decode_network
from spaces.documents.network_rows import network_row_key
from spaces.keyspace import key_places_key, x16
from spaces.store.contract import Store
from spaces.values.key_places import StoredKey
from spaces.values.value_heads import head_key

from .sealed_values import SealedKey

_KEYS_AT_ONCE = 16
"""Keys that are opened before other tasks run; each takes some 60 microseconds."""


def places_row_key(network: NetworkId, digest: bytes) -> bytes:
    """Return the database key of the row with the paths of a content key.

    `digest` is `content_key_digest` of the key.
    """
    return key_places_key(x16(network.text), digest)


async def stored_keys_of(
    store: Store,
    keyring: Keyring,
    space: SpaceId,
    sealed: Sequence[tuple[str, SealedKey]],
) -> list[StoredKey]:
    """Open the wrapped keys that are stored at paths of a space.

    Left out are the keys of networks that are not of the space's owner or not on this node, and
    wrapped keys that cannot be opened. They own nothing.

    Args:
        store: contains the networks.
        keyring: opens their private keys.
        space: the space of the paths.
        sealed: the wrapped keys, each with its path.
    Raises:
        RecordError: the row of a network does not decode.
        StoreUnavailable: the store does not answer.
    """
    if not sealed:
        return []
    names = {key.network: network_sealed_to(key, space) for _, key in sealed}
    records = await _read_networks(store, [name for name in names.values() if name is not None])
    stored: list[StoredKey] = []
    for number, (path, key) in enumerate(sealed):
        if number % _KEYS_AT_ONCE == _KEYS_AT_ONCE - 1:
            await asyncio.sleep(0)
        network = names[key.network]
        wrapped_key = decode_standard(key.wrapped_key)
        if network is None or network not in records or wrapped_key is None:
            continue
        digest = content_key_digest(
            records[network], wrapped_key, keyring, key_version=key.key_version
        )
        if digest is not None:
            row_key = places_row_key(network, digest)
            stored.append(StoredKey(row_key=row_key, place=head_key(space, path)))
    return stored


def network_sealed_to(key: SealedKey, space: SpaceId) -> NetworkId | None:
    """Return the network of an envelope; None if it is not one of the space's owner."""
    try:
        network = parse_network_id(key.network)
    except InvalidIdentifier:
        return None
    return network if principal_of(network.owner) == space.owner else None


async def _read_networks(
    store: Store, networks: Sequence[NetworkId]
) -> Mapping[NetworkId, NetworkRecord]:
    """Return the records of the networks that exist on this node."""
    unique = [*dict.fromkeys(networks)]
    if not unique:
        return {}
    rows = (await store.read([network_row_key(network) for network in unique])).records
    found: dict[NetworkId, NetworkRecord] = {}
    for network, row in zip(unique, rows, strict=True):
        if row is not None and row.value is not None:
            found[network] = decode_network(row.value)
    return found
