"""The identity of a node's store.

It consists of the schema version, the node DID and the store id, and is written at the first start.

The node DID names the store, not the machine: every worker and machine on one store shares one root
secret. A node must not start on a copy of a store with another secret, or on another node's store.
"""

from capabilities.clock_and_entropy import Entropy

from ._codec import Codec, value_or_empty
from .keyspace import IDENTITY_KEY, SCHEMA_KEY, SCHEMA_VERSION, UPGRADABLE_SCHEMAS
from .space_errors import RecordDamaged, SchemaMismatch, StoreBusy, WrongSecret
from .store.contract import (
    ABSENT,
    Expect,
    Packed,
    Put,
    Record,
    Store,
    commit_puts,
    read_row,
)

STORE_ID_BYTES = 16


class Identity(Packed):
    """A store's random id, and the DID of its node."""

    node_did: str
    store_id: bytes


_CODEC = Codec(Identity)
identity_of = _CODEC.of
identity_row = _CODEC.encode


async def recorded_identity(store: Store) -> Identity | None:
    """Return a store's identity, or None if the store is new.

    A caller that gets None may generate a root secret. The store may have an earlier schema that an
    upgrade moves forward (ST23): it can be read and backed up, but not served.

    Raises:
        SchemaMismatch: another version wrote the store, and this one cannot upgrade it.
        RecordDamaged: the store has a schema but no identity.
        StoreUnavailable: the store does not answer.
    """
    schema_row, stored_row = (await store.read((SCHEMA_KEY, IDENTITY_KEY))).records
    if schema_row is None and stored_row is None:
        return None
    schema = _schema_of(schema_row)
    if schema != SCHEMA_VERSION and schema not in UPGRADABLE_SCHEMAS:
        raise SchemaMismatch(expected=SCHEMA_VERSION, got=schema)
    identity = _CODEC.read(stored_row)
    if identity is None:
        raise RecordDamaged("the store has a schema but no identity")
    return identity


async def require_present_schema(store: Store) -> None:
    """Check that a node of this version may serve a store.

    A new store has no schema yet, and passes.

    Raises:
        SchemaMismatch: another version wrote the store; it says whether an upgrade is possible.
        StoreUnavailable: the store does not answer.
    """
    schema_row = await read_row(store, SCHEMA_KEY)
    if schema_row is None:
        return
    schema = _schema_of(schema_row)
    if schema != SCHEMA_VERSION:
        can_upgrade = schema in UPGRADABLE_SCHEMAS
        raise SchemaMismatch(expected=SCHEMA_VERSION, got=schema, can_upgrade=can_upgrade)


def _schema_of(record: Record | None) -> int:
    return int.from_bytes(value_or_empty(record), "big")


def schema_put(*, expect: Expect) -> Put:
    """Return the write operation that states this version's schema."""
    return Put(SCHEMA_KEY, SCHEMA_VERSION.to_bytes(4, "big"), expect=expect)


async def ensure_identity(store: Store, *, node_did: str, entropy: Entropy) -> Identity:
    """Read or create the identity of this node's store.

    It is created if the store is new.

    Args:
        store: new, or written by this version.
        node_did: the DID that the node derives from its root secret.
        entropy: for the id of a new store.
    Raises:
        WrongSecret: the store belongs to another node.
        SchemaMismatch: another version wrote the store.
        StoreBusy: another process creates the identity, and it cannot be read yet.
        RecordDamaged, StoreUnavailable: the identity cannot be read.
    """
    await require_present_schema(store)
    identity = await recorded_identity(store)
    if identity is None:
        fresh = Identity(node_did=node_did, store_id=entropy.token(STORE_ID_BYTES))
        is_written = await commit_puts(
            store,
            schema_put(expect=ABSENT),
            Put(IDENTITY_KEY, identity_row(fresh), expect=ABSENT),
        )
        if is_written:
            identity = fresh
        else:
            # Another worker wrote the identity first. It is checked like any other.
            identity = await recorded_identity(store)
    if identity is None:
        raise StoreBusy("the store's identity could not be recorded")
    if identity.node_did != node_did:
        raise WrongSecret(recorded=identity.node_did, offered=node_did)
    return identity
