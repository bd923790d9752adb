"""The identity of a store, and other single rows."""

import asyncio

import pytest
from audit_records import audit_records
from space_grants import NOW, OWNER
from tests_support import CountingEntropy

from capabilities.principals import Principal
from capabilities.resources import parse_network_id
from spaces.audit.audit_records import MAX_DETAIL_BYTES, AuditRecord
from spaces.documents.evidence import (
    evidence_range,
    evidence_row_key,
)
from spaces.documents.network_rows import network_put, network_row_key
from spaces.grants.replay_records import replay_record_of
from spaces.identity import (
    Identity,
    ensure_identity,
    recorded_identity,
    require_present_schema,
)
from spaces.keyspace import (
    IDENTITY_KEY,
    RELEASE_RECORD_KEY,
    SCHEMA_KEY,
    SCHEMA_VERSION,
    UPGRADABLE_SCHEMAS,
    collateral_key,
)
from spaces.space_errors import CommitTooLarge, RecordDamaged, SchemaMismatch, WrongSecret
from spaces.store.contract import Commit, Committed, Put, Refused, Store


async def test_first_start_records_the_identity(one_store: Store) -> None:
    """A new store has no identity; the first start gives it one, later ones find it."""
    assert await recorded_identity(one_store) is None
    first = await ensure_identity(one_store, node_did="did:key:one", entropy=CountingEntropy(b"a"))
    again = await ensure_identity(one_store, node_did="did:key:one", entropy=CountingEntropy(b"b"))
    assert len(first.store_id) == 16
    assert first == again == await recorded_identity(one_store)


async def test_racing_starts_agree(one_store: Store) -> None:
    """Workers that start concurrently agree on one store id."""
    identities = await asyncio.gather(
        *[
            ensure_identity(
                one_store, node_did="did:key:one", entropy=CountingEntropy(bytes([worker]))
            )
            for worker in range(5)
        ]
    )
    assert len(set(identities)) == 1


async def test_another_secret_is_refused(one_store: Store) -> None:
    """A store that belongs to another node DID does not start, and the error names its owner."""
    await ensure_identity(one_store, node_did="did:key:one", entropy=CountingEntropy())
    with pytest.raises(WrongSecret, match=r"belongs to did:key:two$") as raised:
        await ensure_identity(one_store, node_did="did:key:two", entropy=CountingEntropy())
    assert raised.value.recorded == "did:key:one"


@pytest.mark.parametrize("schema", [1, 9])
async def test_another_schema_is_refused(one_store: Store, schema: int) -> None:
    """A store written by another version, earlier or later, does not start."""
    await ensure_identity(one_store, node_did="did:key:one", entropy=CountingEntropy())
    await one_store.commit(Commit(puts=(Put(SCHEMA_KEY, schema.to_bytes(4, "big")),)))
    with pytest.raises(
        SchemaMismatch, match=f"schema version {schema}; .* needs {SCHEMA_VERSION}$"
    ):
        await recorded_identity(one_store)


async def test_ST23_an_earlier_schema_is_read_and_not_served(one_store: Store) -> None:
    """A store of a schema that can be upgraded has an identity, but a node does not start on it
    (ST23)."""
    await require_present_schema(one_store)  # a new store has no schema
    first = await ensure_identity(one_store, node_did="did:key:one", entropy=CountingEntropy())
    await require_present_schema(one_store)
    for schema in UPGRADABLE_SCHEMAS:
        await one_store.commit(Commit(puts=(Put(SCHEMA_KEY, schema.to_bytes(4, "big")),)))
        assert await recorded_identity(one_store) == first
        with pytest.raises(SchemaMismatch) as refused:
            await ensure_identity(one_store, node_did="did:key:one", entropy=CountingEntropy())
        assert refused.value.can_upgrade


async def test_damaged_identity_is_refused(one_store: Store) -> None:
    """A truncated identity does not count as a new store."""
    await one_store.commit(Commit(puts=(Put(SCHEMA_KEY, SCHEMA_VERSION.to_bytes(4, "big")),)))
    with pytest.raises(RecordDamaged):
        await recorded_identity(one_store)
    await one_store.commit(Commit(puts=(Put(IDENTITY_KEY, b"\xc1"),)))
    with pytest.raises(RecordDamaged):
        await recorded_identity(one_store)


def test_identity_is_a_value() -> None:
    """Two identities with equal fields are equal."""
    assert Identity("did:key:one", b"." * 16) == Identity("did:key:one", b"." * 16)


async def test_audit_comes_back_in_the_order_of_time(one_store: Store) -> None:
    """Records of one moment do not overwrite each other (ST8)."""
    entropy = CountingEntropy()
    records = [
        AuditRecord(
            at=NOW + at, action="kv.put", actor="did:key:a", subject=f"s{at}{twin}", token=b"t" * 32
        )
        for at in range(3)
        for twin in "ab"
    ]
    await one_store.commit(Commit(puts=tuple(record.put(entropy) for record in reversed(records))))
    found = await audit_records(one_store)
    assert {record.subject for record in records} == {record.subject for record in found}
    assert [record.at for record in records] == [record.at for record in found]


def test_audit_detail_is_bounded() -> None:
    """An audit record's detail is limited in size."""
    record = AuditRecord(
        at=NOW, action="a", actor="b", subject="c", detail=b"." * (MAX_DETAIL_BYTES + 1)
    )
    with pytest.raises(CommitTooLarge):
        record.put(CountingEntropy())


async def test_network_is_created_once(one_store: Store) -> None:
    """A network's row is written only if it is absent or unchanged since it was read."""
    network = parse_network_id(f"urn:tinycloud:encryption:{OWNER.did}:default")
    assert isinstance(await one_store.commit(Commit(puts=(network_put(network, b"1"),))), Committed)
    assert isinstance(await one_store.commit(Commit(puts=(network_put(network, b"2"),))), Refused)
    record = (await one_store.read((network_row_key(network),))).records[0]
    assert record is not None
    outcome = await one_store.commit(
        Commit(puts=(network_put(network, b"2", expect=record.stamp),))
    )
    assert isinstance(outcome, Committed)


async def test_evidence_lies_under_holder_and_receiver(one_store: Store) -> None:
    """Evidence is found by holder and receiver key, and by the holder alone."""
    holder, one, two = Principal(OWNER.did), b"1" * 32, b"2" * 32
    await one_store.commit(
        Commit(
            puts=tuple(
                Put(evidence_row_key(holder, key), value)
                for key, value in ((one, b"a"), (two, b"b"))
            )
        )
    )
    snapshot = await one_store.read(
        (evidence_row_key(holder, two),), ranges=(evidence_range(holder),)
    )
    assert [record.value for record in snapshot.records if record] == [b"b"]
    assert [record.value for _, record in snapshot.pages[0].rows] == [b"a", b"b"]


async def test_collateral_and_release_record(one_store: Store) -> None:
    """Collateral is stored by platform and kind, the release record under one key."""
    await one_store.commit(
        Commit(puts=(Put(collateral_key(b"\0" * 6, "tcb"), b"c"), Put(RELEASE_RECORD_KEY, b"r")))
    )
    records = (await one_store.read((collateral_key(b"\0" * 6, "tcb"), RELEASE_RECORD_KEY))).records
    assert [record.value for record in records if record] == [b"c", b"r"]


async def test_claims_lie_under_the_tokens_own_expiry(one_store: Store) -> None:
    """A token can be used once, and a nonce once for each issuer, also with a fractional expiry
    (ST4)."""
    replay_record = replay_record_of(b"k" * 32, expires_at=4_000_000_000.25)
    assert replay_record.expires_at == 4_000_000_001
    assert (await one_store.read(replay_record=replay_record)).is_first_use is True
    assert (await one_store.read(replay_record=replay_record)).is_first_use is False
