"""The removal of expired delegations, which brings no revoked one back."""

from wire_replay import token_id

from node.config.tree import Limits
from node.housekeeping.schedule import sweep_delegations
from spaces.keyspace import EXPIRY_PREFIX, delegation_key, expiry_key, micros8, newest8
from spaces.store.contract import Commit, Put, Range

GET = "tinycloud.kv/get"
DAY_S = 86_400
NO_RATE = Limits(unauthenticated_per_minute=0, delegations_per_signer=3)


async def _sweep(node, **options: int) -> int:
    return await sweep_delegations(node.node.services, **options)


async def test_what_expired_long_ago_leaves(serve) -> None:
    """A delegation is removed thirty days after its expiry, and frees its signer's limit."""
    async with serve(limits=NO_RATE) as node:
        grants = [node.token({node.kv("a"): [GET]}, audience=node.friend.did) for _ in range(3)]
        assert [200] * 3 == [(await node.delegate(grant)).status for grant in grants]
        later = node.token({node.kv("a"): [GET]}, audience=node.friend.did, lifetime_s=40 * DAY_S)
        assert (await node.delegate(later)).status == 400
        node.clock.advance(30 * DAY_S + 59)
        assert await _sweep(node) == 0
        assert (await node.delegate(later)).status == 400
        node.clock.advance(2)
        assert [2, 1, 0] == [await _sweep(node, limit=2) for _ in range(3)]
        assert (await node.delegate(later)).status == 200
        assert [401] * 3 == [(await node.delegate(grant)).status for grant in grants]


async def test_a_revoked_delegation_does_not_come_back(serve) -> None:
    """A revoked, swept delegation is refused as expired, even by a process that has it cached."""
    async with serve() as node:
        grant = node.token({node.kv("a"): [GET]}, audience=node.friend.did)
        await node.delegate(grant)
        revocation = node.token({f"urn:cid:{token_id(grant)}": ["tinycloud.delegation/revoke"]})
        assert (await node.send("POST", "/revoke", token=revocation)).status == 200
        assert (await node.delegate(grant)).said == (401, f"delegation-revoked: {token_id(grant)}")
        node.clock.advance(30 * DAY_S + 61)
        assert await _sweep(node) == 1
        expired = (401, "Delegation expired or not yet valid")
        assert (await node.delegate(grant)).said == expired
        use = node.token({node.kv("a"): [GET]}, signer=node.friend, proofs=[grant])
        assert (await node.send("POST", "/invoke", token=use)).said == (
            401,
            "Cannot find parent delegation",
        )
    async with serve() as node:
        assert (await node.delegate(grant)).said == expired


async def test_a_damaged_record_does_not_stop_the_sweep(serve) -> None:
    """A damaged record is left in place, and the others are removed."""
    async with serve() as node:
        await node.delegate(node.token({node.kv("a"): [GET]}, audience=node.friend.did))
        store = node.node.services.store
        puts = (
            Put(expiry_key(micros8(1.0), newest8(1.0), bytes(32)), bytes(32)),
            Put(delegation_key(bytes(32)), b"damaged"),
        )
        await store.commit(Commit(puts=puts))
        node.clock.advance(30 * DAY_S + 61)
        assert await _sweep(node) == 1
        (page,) = (await store.read(ranges=(Range(EXPIRY_PREFIX),))).pages
        assert [record.value for _, record in page.rows] == [bytes(32)]
