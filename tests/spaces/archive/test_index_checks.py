"""Tests that the check finds missing and misplaced index rows (BK9)."""

from collections.abc import Sequence

import pytest
from engines import needs_folder
from space_grants import DAY_S, FRIEND, NOW, OWNER, WALLET, cacao, registered, space_text, ucan
from value_bench import Bench

from capabilities.chain import Registered
from capabilities.principals import parse_principal
from capabilities.signatures import Ed25519Signer
from spaces.archive.checking import CheckResult, check_store
from spaces.audit.audit_chain import Chain, seal_batch
from spaces.audit.audit_records import AuditRecord
from spaces.audit.pruning import prune_batch
from spaces.grants.delegations import (
    KEPT_AFTER_EXPIRY_S,
    alias_put,
    decode_delegation,
    registration_puts,
    sort_key_of,
)
from spaces.grants.retention import plan_removal
from spaces.grants.revocations import Revoked, revocation_put
from spaces.identity import ensure_identity
from spaces.keyspace import (
    IDENTITY_KEY,
    REPLAY_FLOOR_KEY,
    ROLE_FROM,
    SCHEMA_KEY,
    WITHDRAWALS_KEY,
    delegation_key,
    delegations_counter,
    party_key,
    x16,
)
from spaces.store.contract import Add, Commit, Committed, Put, Range, Record, Store
from spaces.store.lmdb.snapshots import LmdbRows

pytestmark = needs_folder()

NODE = Ed25519Signer(b"\x71" * 32)
OWN, ACCOUNT = f"{space_text(OWNER.did)}/kv", f"{space_text(OWNER.did)}/delegation"
SELECT = "tinycloud.sql/read"
GET, LIST = "tinycloud.kv/get", "tinycloud.delegation/list"


async def register(store: Store, granted: Registered) -> None:
    puts = registration_puts(granted)
    add = Add(delegations_counter(x16(granted.delegation.delegator)), 1, at_most=None)
    assert isinstance(await store.commit(Commit(puts=tuple(puts), adds=(add,))), Committed)


async def fill(bench: Bench) -> tuple[Registered, ...]:
    """Write delegations of both forms with each kind of index, a pruned audit chain, and rows under
    names."""
    store = bench.store
    identity = await ensure_identity(store, node_did=NODE.did, entropy=bench.entropy)
    grants = (
        registered(ucan({OWN: [GET], ACCOUNT: [LIST]})),
        registered(ucan({OWN: [GET]}, nonce="later", lifetime_s=DAY_S)),
        registered(
            cacao(
                {f"{space_text(WALLET.did)}/capabilities": ["tinycloud.capabilities/read"]},
                delegate=FRIEND.did_url,
            )
        ),
        registered(cacao({f"{space_text(WALLET.did)}/kv": [GET]}, lifetime_s=None)),
    )
    for granted in grants:
        await register(store, granted)
    chain = Chain(node_did=NODE.did, store_id=identity.store_id, sign=NODE.sign)
    for day in range(3):
        for second in range(3):
            record = AuditRecord(
                at=NOW + day * DAY_S + second, action="kv.put", actor="a", subject=f"{day} {second}"
            )
            await store.commit(Commit(puts=(record.put(bench.entropy),)))
        await seal_batch(store, chain, now=NOW + day * DAY_S + 9, is_last=True)
    while await prune_batch(
        store, until=NOW + 10, needs_export=False, now=NOW, entropy=bench.entropy
    ):
        assert (await check(bench)).damages == 0
    await store.commit(
        Commit(puts=(Put(REPLAY_FLOOR_KEY, bytes(3) + b"\1"), Put(WITHDRAWALS_KEY, b"{}")))
    )
    return grants


async def check(bench: Bench) -> CheckResult:
    return await check_store(
        LmdbRows(bench.store, bench.folder.parent), bench.files, bench.folder.parent
    )


async def rows_of(store: Store, kinds: bytes) -> Sequence[tuple[bytes, Record]]:
    pages = (await store.read(ranges=[Range(bytes((kind,))) for kind in kinds])).pages
    return [row for page in pages for row in page.rows]


def flipped(data: bytes, at: int = -1) -> bytes:
    return bytes(data[:at]) + bytes((data[at] ^ 1,)) + (data[at + 1 :] if at != -1 else b"")


async def test_each_row_is_missed(bench: Bench) -> None:
    """A row that is deleted, or differs in one bit of its key or of its last byte, is found."""
    await fill(bench)
    assert (await check(bench)).findings == []
    rows = await rows_of(bench.store, b"PIXEtMLj")
    assert {key[:1] for key, _ in rows} == {bytes((kind,)) for kind in b"PIXEtMLj"}
    heads = await rows_of(bench.store, b"y")
    for key, record in (*rows, heads[0], heads[-1]):  # where the chain was cut, and the last
        moved = (Put(key, None), Put(flipped(key, 1), record.value))
        for puts in ((Put(key, None),), moved, (Put(key, flipped(record.value or b"")),)):
            await bench.store.commit(Commit(puts=puts))
            assert (await check(bench)).damages, (puts, key)
            undone = tuple(Put(put.key, None) for put in puts if put.key != key)
            await bench.store.commit(Commit(puts=(*undone, Put(key, record.value))))
    assert (await check(bench)).findings == []


async def test_rows_that_belong_to_nothing_are_found(bench: Bench) -> None:
    """A duplicate index row, an unknown name, replay and audit records under wrong keys, and
    networks without the row of withdrawals are found."""
    first, *_ = await fill(bench)
    content = first.delegation.content_key
    junk = [
        Put(kind + bytes(32) + content[:16], content + (bytes(8) if kind == b"X" else b""))
        for kind in (b"P", b"X", b"M", b"E")
    ]
    junk += [
        Put(b"L" + bytes(32), b"L"),
        Put(b"mclaim-flooo", bytes(4)),
        Put(REPLAY_FLOOR_KEY, b"\0\0\0\2" + bytes(8)),
    ]
    junk += [
        Put(b"C" + bytes(21), b""),
        Put(b"J" + bytes(24), b"\x90"),
        Put(b"d" + bytes(35), b""),
        Put(b"o" + bytes(16), b"\x90"),
    ]
    for put in junk:
        former = (await bench.store.read((put.key,))).records[0]
        await bench.store.commit(Commit(puts=(put,)))
        assert (await check(bench)).damages == 1, put
        await bench.store.commit(Commit(puts=(Put(put.key, former.value if former else None),)))
    await bench.store.commit(
        Commit(puts=(Put(WITHDRAWALS_KEY, None), Put(b"N" + bytes(16), b"sealed")))
    )
    assert [one.text for one in (await check(bench)).findings] == [
        "there are networks, but the row of withdrawals is missing"
    ]


async def test_what_a_node_leaves_is_no_damage(bench: Bench) -> None:
    """Rows that revocations, other spellings, races and unfinished removals leave are not
    damage."""
    endless, *_, wallets = reversed(await fill(bench))
    content = wallets.delegation.content_key
    revoked = Revoked(cid=wallets.delegation.cid, at=NOW, by=wallets.delegation.delegator)
    stray = type(content)(b"\7" * 32)
    puts = [revocation_put(content, revoked), revocation_put(stray, revoked)]
    puts += [alias_put(type(wallets.delegation.cid)(b"\5" * 32), stray)]
    await bench.store.commit(Commit(puts=tuple(puts)))
    assert (await check(bench)).findings == []
    later = NOW + 2 * DAY_S + KEPT_AFTER_EXPIRY_S
    for due, row in await rows_of(bench.store, b"E"):
        record = (await bench.store.read((delegation_key(row.value or b""),))).records[0]
        await bench.store.commit(plan_removal(due, decode_delegation(record), record, now=later))
        assert (await check(bench)).findings == []
    assert [key[1:] for key, _ in await rows_of(bench.store, b"G")] == [
        endless.delegation.content_key
    ]


@pytest.mark.parametrize("is_supporting", [True, False])
async def test_D33_rows_that_list_for_other_accounts(bench: Bench, is_supporting: bool) -> None:
    """The row for an owner whose right is passed on is required. One that an earlier version wrote
    for an owner who is only cited may be there or not."""
    await fill(bench)
    of_wallet = registered(cacao({f"{space_text(WALLET.did)}/sql": [SELECT]}, nonce="nonce0001"))
    granted = f"{space_text(WALLET.did)}/sql" if is_supporting else f"{space_text(FRIEND.did)}/sql"
    below = registered(
        ucan({granted: [SELECT]}, signer=FRIEND, parents=[of_wallet.delegation]), of_wallet
    )
    for each in (of_wallet, below):
        await register(bench.store, each)
    assert (await check(bench)).findings == []  # with a row for every account above
    wallet16 = x16(parse_principal(WALLET.did))
    listing_key = party_key(wallet16, ROLE_FROM, sort_key_of(below.delegation))
    await bench.store.commit(Commit(puts=(Put(listing_key, None),)))
    assert (await check(bench)).damages == int(is_supporting)


@pytest.mark.parametrize("key", [SCHEMA_KEY, IDENTITY_KEY])
async def test_whose_store_it_is(bench: Bench, key: bytes) -> None:
    """A store without a schema or identity is found, and so is one with an unknown schema."""
    await fill(bench)
    for value in (None, (1).to_bytes(4, "big"), (9).to_bytes(4, "big")):
        await bench.store.commit(Commit(puts=(Put(key, value),)))
        assert (await check(bench)).damages


async def test_readers_of_opaque_rows(bench: Bench) -> None:
    """Rows that only a higher layer can decode are checked by its readers, with their keys."""
    await fill(bench)
    key = b"N" + bytes(16)
    await bench.store.commit(Commit(puts=(Put(key, key),)))
    for named, count in ((key, 0), (flipped(key), 1)):
        readers = {b"N": {key: named}.__getitem__}
        found = await check_store(
            LmdbRows(bench.store, bench.folder.parent),
            bench.files,
            bench.folder.parent,
            readers=readers,
        )
        assert found.damages == count
