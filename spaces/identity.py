"""The identity of a store: schema version, node DID and store id, written at the first start.

The node DID names the store, not the machine: every worker and machine on one store shares one root
secret. A node must not start on a copy of a store with another secret, or on another node's store.
"""

import msgspec

from capabilities.clock_and_entropy import Entropy

from ._codec import Codec
from .keyspace import IDENTITY_KEY, SCHEMA_KEY, SCHEMA_VERSION
from .space_errors import RecordDamaged, SchemaMismatch, StoreBusy, WrongSecret
from .store.contract import ABSENT, Commit, Put, Refused, Store

STORE_ID_BYTES = 16


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """The identity of a store: the node DID and a random store id."""

    node_did: str
    store_id: bytes


_CODEC = Codec(Identity)
identity_of = _CODEC.of
identity_row = _CODEC.encode


async def recorded_identity(store: Store) -> Identity | None:
    """Return the identity that a store records, or None for a new store.

    A caller that gets None may generate a root secret.
    """
    schema, identity = (await store.read((SCHEMA_KEY, IDENTITY_KEY))).records
    if schema is None and identity is None:
        return None
    found = (
        int.from_bytes(schema.value, "big")
        if schema is not None and schema.value is not None
        else 0
    )
    if found != SCHEMA_VERSION:
        raise SchemaMismatch(expected=SCHEMA_VERSION, got=found)
    if identity is None or identity.value is None:
        raise RecordDamaged("the store has a schema but no identity")
    return identity_of(identity)


async def open_identity(store: Store, *, node_did: str, entropy: Entropy) -> Identity:
    """Write the identity of a new store, or compare the recorded node DID with this node's."""
    identity = await recorded_identity(store)
    if identity is None:
        fresh = Identity(node_did=node_did, store_id=entropy.token(STORE_ID_BYTES))
        puts = (
            Put(SCHEMA_KEY, SCHEMA_VERSION.to_bytes(4, "big"), expect=ABSENT),
            Put(IDENTITY_KEY, identity_row(fresh), expect=ABSENT),
        )
        outcome = await store.commit(Commit(puts=puts))
        # Refused: another worker wrote the identity first. Its row is checked like any other.
        identity = await recorded_identity(store) if isinstance(outcome, Refused) else fresh
    if identity is None:
        raise StoreBusy("the store's identity could not be recorded")
    if identity.node_did != node_did:
        raise WrongSecret(recorded=identity.node_did, offered=node_did)
    return identity
