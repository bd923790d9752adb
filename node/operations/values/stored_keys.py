"""The content keys of encrypted values that are stored at paths (RL21).

Only envelopes in a space of the network's owner count. A release examines no other space, and only
this node has the private key of the network.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from capabilities.capability_errors import InvalidIdentifier
from capabilities.principals import principal_of
from capabilities.resources import NetworkId, SpaceId, parse_network_id
from capabilities.strict_base64 import decode_standard
from encryption_network.content_keys import content_key_digest, versions_to_try
from encryption_network.keyring import Keyring
from encryption_network.networks import NetworkRecord, decode_network
from spaces.documents.network_rows import network_row_key
from spaces.keyspace import key_places_key, x16
from spaces.space_errors import CommitTooLarge
from spaces.store.contract import Store
from spaces.values.key_places import StoredKey
from spaces.values.value_heads import head_key

from .sealed_values import SealedKey

_TRIES_AT_ONCE = 16
"""Tries to open a key before other tasks run; each takes some 60 microseconds."""
MAX_TRIES = 1024
"""Tries to open keys of one request. A key that states its version takes one, and so does a key
that is sealed to the present version."""
_TOO_MANY_TRIES = (
    f"these envelopes would need more than {MAX_TRIES} tries to open their keys, the most for one"
    " request; next: state `keyVersion` in each envelope, or send them in parts"
)


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
    *,
    most_tries: int | None = MAX_TRIES,
) -> list[StoredKey]:
    """Open the wrapped keys that are stored at paths of a space.

    Left out are the keys of networks that are not of the space's owner or not on this node, and
    wrapped keys that cannot be opened. They own nothing.

    Args:
        store: contains the networks.
        keyring: opens their private keys.
        space: the space of the paths.
        sealed: the wrapped keys, each with its path.
        most_tries: how often a key of a network may be tried; None: as often as needed.
    Raises:
        CommitTooLarge: the keys need more tries, because they state no version, and the network has
            many.
        RecordError: the row of a network does not decode.
        StoreUnavailable: the store does not answer.
    """
    if not sealed:
        return []
    own_networks: dict[str, NetworkId] = {}
    for _, key in sealed:
        network = network_sealed_to(key, space)
        if network is not None:  # otherwise of another owner
            own_networks[key.network] = network
    records = await _read_networks(store, [*own_networks.values()])
    opener = _Opener(keyring, most_tries)
    stored: list[StoredKey] = []
    for path, key in sealed:
        if key.network not in own_networks:
            continue
        network = own_networks[key.network]
        wrapped_key = decode_standard(key.wrapped_key)
        if network not in records or wrapped_key is None:  # at another node, or malformed
            continue
        digest = await opener.digest_of(records[network], wrapped_key, key.key_version)
        if digest is not None:
            row_key = places_row_key(network, digest)
            stored.append(StoredKey(row_key=row_key, place=head_key(space, path)))
    return stored


@dataclass(slots=True)
class _Opener:
    """Opens wrapped keys, and counts the tries."""

    keyring: Keyring
    most_tries: int | None
    tries: int = 0

    async def digest_of(
        self, record: NetworkRecord, wrapped_key: bytes, key_version: int | None
    ) -> bytes | None:
        """Return the hash of a wrapped key, or None if no version of the network's key opens it.

        Raises CommitTooLarge after `most_tries` tries.
        """
        for version in versions_to_try(record, key_version):
            self.tries += 1
            if self.most_tries is not None and self.tries > self.most_tries:
                raise CommitTooLarge(_TOO_MANY_TRIES)
            if self.tries % _TRIES_AT_ONCE == 0:
                await asyncio.sleep(0)  # lets other tasks run
            digest = content_key_digest(record, wrapped_key, self.keyring, key_version=version)
            if digest is not None:
                return digest
        return None


def network_sealed_to(key: SealedKey, space: SpaceId) -> NetworkId | None:
    """Return the network of an envelope.

    Returns None if its id is malformed, or if the network is not one of the space's owner.
    """
    try:
        network = parse_network_id(key.network)
    except InvalidIdentifier:
        return None
    is_of_space_owner = principal_of(network.owner) == space.owner
    return network if is_of_space_owner else None


async def _read_networks(
    store: Store, networks: Sequence[NetworkId]
) -> Mapping[NetworkId, NetworkRecord]:
    """Return the records of the networks that exist on this node."""
    unique = [*dict.fromkeys(networks)]
    if not unique:
        return {}
    rows = (await store.read([network_row_key(network) for network in unique])).records
    records: dict[NetworkId, NetworkRecord] = {}
    for network, row in zip(unique, rows, strict=True):
        if row is not None and row.value is not None:
            records[network] = decode_network(row.value)
    return records
