"""Rows in a store for the machine tokens that a node signed for jobs."""

from pathlib import Path

from embedded_node import embedded_node
from oidc_issuer import SHOP, Issuer, github_claims
from running_node import new_key, send

from encryption_network.canonical_json import canonical_bytes
from node.config.tree import Config, Http, Store
from sealspace.client import Client
from sealspace.wallets import new_wallet
from spaces.archive.checking import check_store
from spaces.store.lmdb.engine import read_lmdb
from spaces.store.lmdb.snapshots import LmdbRows
from spaces.values.object_folder import ObjectFolder


async def test_OX6_counters_agree(tmp_path: Path) -> None:
    """A check of the store finds that tokens of jobs count as delegations of the owner."""
    config = Config(http=Http(port=0, drain_s=0), store=Store(data=str(tmp_path)))
    issuer, wallet = Issuer("https://ci.test"), new_wallet()
    async with embedded_node(config) as node, Client(node.url) as client:
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
    store = read_lmdb(tmp_path)
    try:
        checked = await check_store(
            LmdbRows(store, tmp_path), ObjectFolder(tmp_path / "blobs"), tmp_path
        )
    finally:
        await store.close()
    assert checked.findings == []
