"""Rows in a store for the machine tokens that a node signed for jobs."""

import time
from pathlib import Path

import pytest
from embedded_node import embedded_node
from oidc_issuer import SHOP, Issuer, github_claims
from running_node import new_key, send
from tests_support import FixedClock

from capabilities.machine_tokens import MAX_EXCHANGED_S
from encryption_network.canonical_json import canonical_bytes
from node.config.tree import Config, Http, Store
from node.housekeeping.schedule import sweep_delegations
from node.services import Services
from sealspace.client import Client
from sealspace.wallets import new_wallet
from spaces.archive.checking import check_store
from spaces.grants.delegations import EXCHANGED_KEPT_S
from spaces.grants.exchanged import sweep_exchanged
from spaces.keyspace import EXCHANGED_PREFIX, EXPIRY_PREFIX, expiry_key
from spaces.store.contract import Put, Range, commit_puts, read_page
from spaces.store.contract import Store as StoreEngine
from spaces.store.lmdb.engine import read_lmdb
from spaces.store.lmdb.snapshots import LmdbRows
from spaces.values.object_folder import ObjectFolder


@pytest.mark.parametrize("stored", ["live", "ended", "by an earlier version", "removed"])
async def test_OX6_OX9_counters_agree(tmp_path: Path, stored: str) -> None:
    """A check of the store finds that tokens of jobs count for their owner and, while they are
    live, for their trust. An earlier version did not count them for the trust."""
    config = Config(http=Http(port=0, drain_s=0), store=Store(data=str(tmp_path)))
    issuer, wallet = Issuer("https://ci.test"), new_wallet()
    clock = FixedClock(time.time())
    async with embedded_node(config, clock=clock) as node, Client(node.url) as client:
        await client.sign_in(wallet)
        trust = await client.delegations.trust_issuer(
            "shop",
            ["API_KEY"],
            issuer=issuer.address,
            claims={"repository_id": [SHOP["repository_id"]]},
            jwks=issuer.jwks,
            wallet=wallet,
        )
        for _ in range(2):
            token = issuer.token(github_claims(), audience=node.services.keyring.node_did)
            asked = canonical_bytes({"token": token, "key": new_key().did, "trust": trust})
            assert (await send(node.url, "POST", "/oidc/exchange", body=asked)).status == 200
        if stored != "live":
            await _change(node.services, stored, clock)
    store = read_lmdb(tmp_path)
    try:
        checked = await check_store(
            LmdbRows(store, tmp_path), ObjectFolder(tmp_path / "blobs"), tmp_path
        )
    finally:
        await store.close()
    assert checked.findings == []


async def _change(services: Services, stored: str, clock: FixedClock) -> None:
    """Change the rows of the machine tokens, which have 15 minutes to live."""
    store = services.store
    if stored == "by an earlier version":
        await _index_as_before(store)
        assert await sweep_delegations(services) == 0
        return
    await sweep_exchanged(store, now=clock.now() + MAX_EXCHANGED_S + 1)
    assert not (await read_page(store, Range(EXCHANGED_PREFIX))).rows
    if stored == "removed":
        clock.advance(MAX_EXCHANGED_S + EXCHANGED_KEPT_S + 60)
        assert await sweep_delegations(services) == 2


async def _index_as_before(store: StoreEngine) -> None:
    """Index machine tokens like other delegations, and do not count them for their trust."""
    counted = (await read_page(store, Range(EXCHANGED_PREFIX))).rows
    puts = [Put(key, None) for key, _ in counted]
    contents = [record.value for _, record in counted]
    for key, record in (await read_page(store, Range(EXPIRY_PREFIX))).rows:
        if record.value is None or record.value not in contents:
            continue
        (counted_key,) = [one for one, row in counted if row.value == record.value]
        end8 = counted_key[len(EXCHANGED_PREFIX) : len(EXCHANGED_PREFIX) + 8]
        registered8 = key[len(EXPIRY_PREFIX) + 8 : len(EXPIRY_PREFIX) + 16]
        puts += [Put(key, None), Put(expiry_key(end8, registered8, record.value), record.value)]
    await commit_puts(store, *puts)
