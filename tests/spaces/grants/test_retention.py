"""Tests of when delegations are removed, with which rows, and how they are counted."""

from msgspec.structs import replace
from space_grants import DAY_S, NOW, OWNER, WALLET, registered, space_text, ucan
from space_grants import cacao as wallet_grant

from capabilities.chain import Registered
from capabilities.principals import Principal
from spaces.expiry import rows_until
from spaces.grants.delegations import (
    KEPT_AFTER_EXPIRY_S,
    decode_delegation,
    registration_puts,
)
from spaces.grants.retention import plan_removal, removal_cutoff
from spaces.grants.revocations import Revoked, marker_keys, revocation_put
from spaces.grants.sessions import session_row_key
from spaces.keyspace import EXPIRY_PREFIX, delegation_key, delegations_counter, x16
from spaces.store.contract import Add, Commit, Committed, Put, Range, Refused, Store, counter_of

KV = {f"{space_text(OWNER.did)}/kv": ["tinycloud.kv/get"]}
WALLETS = {f"{space_text(WALLET.did)}/kv": ["tinycloud.kv/get"]}


async def _register(store: Store, granted: Registered) -> None:
    delegation = granted.delegation
    puts = registration_puts(granted)
    commit = Commit(
        puts=tuple(puts),
        adds=(Add(delegations_counter(x16(delegation.delegator)), 1, at_most=None),),
    )
    assert isinstance(await store.commit(commit), Committed)


async def _kept(store: Store, signer: str) -> int:
    return counter_of((await store.read((delegations_counter(x16(Principal(signer))),))).records[0])


async def _sweep(store: Store, now: float) -> int:
    rows = await rows_until(store, EXPIRY_PREFIX, removal_cutoff(now), limit=10)
    for due, row in rows:
        record = (await store.read((delegation_key(row.value or b""),))).records[0]
        await store.commit(plan_removal(due, decode_delegation(record), record, now=now))
    return len(rows)


async def _all_keys(store: Store) -> set[bytes]:
    pages = (await store.read(ranges=[Range(bytes((first,))) for first in b"GILPMXEt"])).pages
    return {key for page in pages for key, _ in page.rows}


async def test_an_expired_delegation_leaves_whole(one_store: Store) -> None:
    """Thirty days after its end every row of a delegation is removed, also a revoked mark, and it
    is no longer counted."""
    for granted in (
        registered(ucan(KV, lifetime_s=60)),
        registered(wallet_grant(WALLETS, lifetime_s=60)),
    ):
        await _register(one_store, granted)
        delegation = granted.delegation
        revoked = Revoked(cid=delegation.cid, at=NOW, by=delegation.delegator)
        await one_store.commit(Commit(puts=(revocation_put(delegation.content_key, revoked),)))
    assert await _kept(one_store, OWNER.did) == 1
    assert await _sweep(one_store, NOW + KEPT_AFTER_EXPIRY_S + 59) == 0
    assert await _sweep(one_store, NOW + KEPT_AFTER_EXPIRY_S + 61) == 2
    assert await _all_keys(one_store) == set()
    assert await _kept(one_store, OWNER.did) == 0
    assert await _sweep(one_store, NOW + KEPT_AFTER_EXPIRY_S + DAY_S) == 0


async def test_a_delegation_that_an_earlier_version_filed_leaves_whole(one_store: Store) -> None:
    """A sweep finds and removes rows without a registration time, as earlier versions wrote
    them."""
    granted = registered(ucan(KV, lifetime_s=60))
    await _register(one_store, granted)
    content = granted.delegation.content_key
    ((due, row),) = (await one_store.read(ranges=(Range(EXPIRY_PREFIX),))).pages[0].rows
    former = due[: len(EXPIRY_PREFIX) + 8] + content[:16]
    await one_store.commit(Commit(puts=(Put(due, None), Put(former, row.value))))
    assert await _sweep(one_store, NOW + KEPT_AFTER_EXPIRY_S + 59) == 0
    assert await _sweep(one_store, NOW + KEPT_AFTER_EXPIRY_S + 61) == 1
    assert await _all_keys(one_store) == set()


async def test_a_session_that_an_earlier_version_filed_leaves_whole(one_store: Store) -> None:
    """A row in the index of sessions is removed with its delegation, even if it would not be
    indexed today."""
    granted = registered(wallet_grant(WALLETS, lifetime_s=60))
    await _register(one_store, granted)
    former = Put(session_row_key(granted.delegation), granted.delegation.content_key)
    await one_store.commit(Commit(puts=(former,)))
    assert former.key in await _all_keys(one_store)
    assert await _sweep(one_store, NOW + KEPT_AFTER_EXPIRY_S + 61) == 1
    assert await _all_keys(one_store) == set()


async def test_what_is_valid_stays(one_store: Store) -> None:
    """A delegation that has not expired, or never will, is not touched."""
    await _register(one_store, registered(ucan(KV, lifetime_s=40 * DAY_S)))
    await _register(one_store, registered(wallet_grant(WALLETS, lifetime_s=None)))
    before = await _all_keys(one_store)
    assert await _sweep(one_store, NOW + KEPT_AFTER_EXPIRY_S + DAY_S) == 0
    assert await _all_keys(one_store) == before


async def test_a_mark_stays_as_long_as_its_delegation_could_return(one_store: Store) -> None:
    """The mark of a delegation that expires after its parents is kept until thirty days after its
    own end."""
    short = registered(ucan(KV, lifetime_s=60))
    longer = registered(
        ucan(KV, lifetime_s=10 * DAY_S, parents=(short.delegation,), nonce="m"), short
    )
    assert longer.expires_at == short.expires_at
    await _register(one_store, longer)
    mark = marker_keys((longer.delegation.content_key,))
    assert await _sweep(one_store, NOW + KEPT_AFTER_EXPIRY_S + 61) == 1
    assert (await one_store.read(mark)).records[0] is not None
    assert await _sweep(one_store, NOW + KEPT_AFTER_EXPIRY_S + 10 * DAY_S - 1) == 0
    assert await _sweep(one_store, NOW + KEPT_AFTER_EXPIRY_S + 10 * DAY_S + 1) == 1
    assert await _all_keys(one_store) == set()


async def test_an_endless_grant_on_an_ending_one_is_only_taken_from_the_index(
    one_store: Store,
) -> None:
    """A delegation without an expiry is kept after its parent has expired; only its index row is
    removed."""
    short = registered(wallet_grant(WALLETS, lifetime_s=60, nonce="nonce0001"))
    parents_window = registered(wallet_grant(WALLETS, lifetime_s=None))
    endless = replace(parents_window, not_before=None, expires_at=short.expires_at)
    await _register(one_store, endless)
    assert await _sweep(one_store, NOW + KEPT_AFTER_EXPIRY_S + 61) == 1
    assert (await one_store.read(marker_keys((endless.delegation.content_key,)))).records[
        0
    ] is not None
    assert await _sweep(one_store, NOW + KEPT_AFTER_EXPIRY_S + 10 * DAY_S) == 0


async def test_two_sweeps_count_once(one_store: Store) -> None:
    """A removal is refused if it was planned before another sweep changed the rows."""
    granted = registered(ucan(KV, lifetime_s=60))
    await _register(one_store, granted)
    now = NOW + KEPT_AFTER_EXPIRY_S + 61
    ((due, row),) = await rows_until(one_store, EXPIRY_PREFIX, removal_cutoff(now), limit=10)
    record = (await one_store.read((delegation_key(row.value or b""),))).records[0]
    plan = plan_removal(due, decode_delegation(record), record, now=now)
    assert isinstance(await one_store.commit(plan), Committed)
    assert isinstance(await one_store.commit(plan), Refused)
    assert await _kept(one_store, OWNER.did) == 0
    gone = (await one_store.read((delegation_key(row.value or b""),))).records[0]
    assert isinstance(
        await one_store.commit(plan_removal(due, decode_delegation(gone), gone, now=now)), Committed
    )


async def test_a_bound_on_one_signer_is_exact(one_store: Store) -> None:
    """A commit that would exceed a signer's limit of delegations is refused."""
    for nonce, expected in (("a", Committed), ("b", Committed), ("c", Refused)):
        granted = registered(ucan(KV, nonce=nonce))
        puts = registration_puts(granted)
        outcome = await one_store.commit(
            Commit(
                puts=tuple(puts),
                adds=(Add(delegations_counter(x16(Principal(OWNER.did))), 1, at_most=2),),
            )
        )
        assert isinstance(outcome, expected)
