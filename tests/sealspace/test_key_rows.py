"""Tests of who is charged for the rows of content keys, and of the limits of writers (ST22)."""

import json

import aiohttp
import pytest

from capabilities.principals import Principal
from capabilities.signatures import Ed25519Signer
from node.operations.values.admin_quota import set_quota
from sealspace.client import Client
from sealspace.errors import QuotaExceeded
from sealspace.kv import Kv
from sealspace.session import capability, key_session, mint, read_grant
from sealspace.wire.sign_in import pass_on
from spaces.keyspace import key_rows_counter, x16
from spaces.store.contract import counter_of, read_row

from .conftest import Bench, CountingWallet

LIMIT_BYTES = 64 * 1024
PART_BYTES = LIMIT_BYTES // 2 // 4
"""Bytes of rows that one writer may add to a space with this limit."""
OF_A_WRITER = 29
"""Rows that fit into them: each has 256 bytes, and the key of a value with a short path."""


async def limit(bench: Bench, space: str) -> None:
    """Set the quota of a space."""
    services = bench.node.services
    await set_quota(
        services.store,
        services.config,
        space,
        LIMIT_BYTES,
        now=bench.clock.now(),
        entropy=services.entropy,
    )


async def envelopes(client: Client, folder: str, count: int) -> dict[str, bytes]:
    """Return values with new content keys, with the members that the node reads."""
    values = {}
    for number in range(count):
        envelope = await client.encryption.encrypt(b"", network=client.encryption.network())
        values[f"{folder}/{number:03}"] = json.dumps(
            {
                "v": 1,
                "networkId": envelope.network.text,
                "encryptedSymmetricKey": envelope.encrypted_symmetric_key,
                "encryptedSymmetricKeyHash": envelope.encrypted_symmetric_key_hash,
            }
        ).encode()
    return values


class Delegate:
    """A key that may write in the owner's space `default`."""

    def __init__(self, bench: Bench, owner: Client) -> None:
        self._bench, self._owner = bench, owner
        self.seed = bench.entropy.token(32)
        self.did = Ed25519Signer(self.seed).did
        self.kv: Kv

    async def admitted_by(self, client: Client) -> Client:
        """Take a grant of the right to write, and return the delegate's client."""
        space = self._owner.kv("default").space.text
        rights = [capability(f"{space}/kv", f"tinycloud.kv/{one}") for one in ("put", "get")]
        made = await client.delegations.delegate(self.did, rights)
        grants = [read_grant(made.header)]
        own = await self._bench.client(key_session(self.seed, grants=grants))
        self.kv = own.kv(space)
        return own


async def charged(bench: Bench, space: str, writer: Principal | None = None) -> int:
    """Return the bytes of rows that are charged to a space, or to one of its writers."""
    space16 = x16(space)
    key = b"cN" + space16 if writer is None else key_rows_counter(space16, x16(writer))
    return counter_of(await read_row(bench.node.services.store, key))


async def test_ST22_a_delegate_takes_nothing_of_the_owner_s_limit(bench: Bench) -> None:
    """ST22: a delegate with many new content keys is told the limit, and the owner still writes."""
    owner, _ = await bench.owner()
    space = owner.kv("default").space.text
    eve = Delegate(bench, owner)
    eves_client = await eve.admitted_by(owner)
    await limit(bench, space)
    values = await envelopes(owner, "e", OF_A_WRITER + 1)
    *fitting, last = values
    await eve.kv.put_many({path: values[path] for path in fitting})
    with pytest.raises(QuotaExceeded, match="one writer may add 8192 bytes") as refused:
        await eve.kv.put(last, values[last])
    assert "content keys" in str(refused.value)
    assert 0 < await charged(bench, space, Principal(eve.did)) <= PART_BYTES
    # A key to which the right was passed on is the same writer.
    mallory = Delegate(bench, owner)
    await mallory.admitted_by(eves_client)
    with pytest.raises(QuotaExceeded, match="one writer"):
        await mallory.kv.put(last, values[last])
    await eve.kv.put("e/other", b"not encrypted")
    # The owner and another delegate have limits of their own.
    bob = Delegate(bench, owner)
    await bob.admitted_by(owner)
    await bob.kv.put("bob", values[last])
    before = await charged(bench, space)
    own = await envelopes(owner, "o", 1)
    await owner.kv("default").put_many(own)
    assert await charged(bench, space) - before > 2 * 256, "the row of the value, and of its key"


async def test_ST22_a_further_wallet_is_the_same_writer(bench: Bench) -> None:
    """ST22: a wallet to which a delegate passes the right on, and its keys, are that delegate."""
    owner, _ = await bench.owner()
    space = owner.kv("default").space.text
    eve = Delegate(bench, owner)
    eves_client = await eve.admitted_by(owner)
    wallet = CountingWallet(bench.entropy)
    rights = [capability(f"{space}/kv", f"tinycloud.kv/{one}") for one in ("put", "get")]
    made = await eves_client.delegations.delegate(wallet.did, rights)
    seed = bench.entropy.token(32)
    passed_on = await pass_on(
        eves_client._caller,
        wallet,
        read_grant(made.header),
        Ed25519Signer(seed),
        ttl_s=3600,
        domain="localhost",
    )
    of_wallet = await bench.client(key_session(seed, grants=[passed_on]))
    await of_wallet.kv(space).put_many(await envelopes(owner, "w", 1))
    assert await charged(bench, space, Principal(wallet.did)) == 0
    assert await charged(bench, space, Principal(eve.did)) > 256


async def test_ST22_a_key_with_two_rights_is_no_further_writer(bench: Bench) -> None:
    """ST22: a key that cites the rights of two delegates is charged to one of them."""
    owner, _ = await bench.owner()
    space = owner.kv("default").space.text
    delegates = [Delegate(bench, owner), Delegate(bench, owner)]
    key = Delegate(bench, owner)
    rights = [capability(f"{space}/kv", "tinycloud.kv/put")]
    grants = []
    for delegate in delegates:
        client = await delegate.admitted_by(owner)
        made = await client.delegations.delegate(key.did, rights)
        grants.append(read_grant(made.header))
    ((_, value),) = (await envelopes(owner, "k", 1)).items()
    token = mint(
        Ed25519Signer(key.seed),
        bench.entropy,
        audience=key.did,
        capabilities=[capability(f"{space}/kv/k", "tinycloud.kv/put")],
        proofs=[grant.cid for grant in grants],
        expires_at=bench.clock.now() + 60,
    )
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            f"{bench.node.url}/invoke", headers={"Authorization": token}, data=value
        ) as answer,
    ):
        assert answer.status == 200
    assert await charged(bench, space, Principal(key.did)) == 0
    of_delegates = [await charged(bench, space, Principal(one.did)) for one in delegates]
    assert sorted(amount > 256 for amount in of_delegates) == [False, True]


async def test_ST22_all_delegates_leave_one_half_to_the_owner(bench: Bench) -> None:
    """ST22: many delegates together take one half, and the owner still writes."""
    owner, _ = await bench.owner()
    space = owner.kv("default").space.text
    await limit(bench, space)
    values = await envelopes(owner, "v", OF_A_WRITER)
    store, space16 = bench.node.services.store, x16(space)
    for number in range(4):
        delegate = Delegate(bench, owner)
        await delegate.admitted_by(owner)
        # The same paths with new keys: the values themselves take little of the limit.
        new = await envelopes(owner, "v", OF_A_WRITER)
        await delegate.kv.put_many(new)
        counter = await read_row(store, key_rows_counter(space16, x16(delegate.did)))
        assert counter_of(counter) > PART_BYTES - 300, number
    fifth = Delegate(bench, owner)
    await fifth.admitted_by(owner)
    with pytest.raises(QuotaExceeded, match="all writers but the owner may add 32768 bytes"):
        await fifth.kv.put_many(values)
    await owner.kv("default").put_many(values)


async def test_ST22_a_member_is_named_not_the_key(bench: Bench) -> None:
    """ST22: rows that a member of a team wrote are charged to the member's wallet."""
    client, wallet = await bench.owner()
    created = await client.teams.create()
    mine = await client.teams.membership(created.team)
    admin = client.acting(await client.teams.sign_in(wallet, mine))
    bobs_client, bobs_wallet = await bench.owner()
    await admin.teams.admit(bobs_wallet.did, "writer", wallet=wallet)
    membership = await bobs_client.teams.membership(created.team)
    bob = bobs_client.acting(await bobs_client.teams.sign_in(bobs_wallet, membership))
    space = admin.kv("secrets").space.text
    await bob.secrets().put("BOB", "a")
    assert 256 < await charged(bench, space, Principal(bobs_wallet.did)) < 600
