"""Tests over HTTP of rules about values and about abilities without effect."""

from pathlib import Path

import pytest
from embedded_node import embedded_node
from engines import needs_folder, store_at
from running_node import key_token, new_key, running_node, send, wallet_token

from node.config.tree import Config, Hosting, Http
from sealspace.client import Client
from sealspace.wallets import new_wallet


async def test_a_put_makes_a_deleted_key_live_again(tmp_path: Path) -> None:
    """A put after a delete makes the key live again, with nothing of the deleted value (M30,
    M2)."""
    config = Config(http=Http(port=0, drain_s=0), store=store_at(tmp_path))
    async with embedded_node(config) as node, Client(node.url) as client:
        await client.sign_in(new_wallet())
        notes = client.kv()
        await notes.put("a", b"first", content_type="text/plain", metadata={"mood": "good"})
        await notes.delete("a")
        assert [key async for key in notes.list()] == []
        await notes.put("a", b"second")
        value = await notes.get("a")
        assert value.body == b"second"
        assert value.content_type is None
        assert value.metadata == {}
        assert [key async for key in notes.list()] == ["a"]


async def test_delegation_abilities_do_nothing_on_invoke(tmp_path: Path) -> None:
    """The route `/invoke` accepts `tinycloud.delegation/*` without any effect (wire 4.6)."""
    config = Config(http=Http(port=0, drain_s=0), store=store_at(tmp_path))
    async with embedded_node(config) as node, Client(node.url) as client:
        session = await client.sign_in(new_wallet())
        resource = f"{client.kv().space.text}/delegation"
        proofs = [grant.cid for grant in session.grants]
        for ability in ("list", "revoke", "status"):
            grants = {resource: [f"tinycloud.delegation/{ability}"]}
            token = key_token(session.signer, session.did, grants, proofs=proofs)
            assert (await send(node.url, "POST", "/invoke", token=token)).said == (200, "")
        token = key_token(
            session.signer, session.did, {resource: ["tinycloud.delegation/other"]}, proofs=proofs
        )
        assert (await send(node.url, "POST", "/invoke", token=token)).status == 401


async def test_each_space_is_hosted_for_itself(tmp_path: Path) -> None:
    """A grant over two spaces works in a space from the time when that space is hosted (M60,
    M4)."""
    config = Config(
        http=Http(port=0, drain_s=0), store=store_at(tmp_path), hosting=Hosting(mode="explicit")
    )
    wallet, key = new_wallet(), new_key()
    spaces = [f"tinycloud:{wallet.did.removeprefix('did:')}:{name}" for name in ("here", "there")]
    grant = wallet_token(
        wallet,
        key.did_url,
        {f"{space}/kv": ["tinycloud.kv/get", "tinycloud.kv/put"] for space in spaces},
    )
    async with embedded_node(config) as node:

        async def put(space: str) -> tuple[int, str]:
            token = key_token(key, key.did, {f"{space}/kv/a": ["tinycloud.kv/put"]}, proofs=[grant])
            return (await send(node.url, "POST", "/invoke", token=token, body=b"1")).said

        async def host(space: str) -> None:
            word = wallet_token(wallet, key.did, {f"{space}/space": ["tinycloud.space/host"]})
            assert (await send(node.url, "POST", "/delegate", token=word)).value["activated"] == [
                space
            ]

        assert (await send(node.url, "POST", "/delegate", token=grant)).value["skipped"] == spaces
        await host(spaces[0])
        assert [await put(space) for space in spaces] == [(200, ""), (404, "Space not found")]
        await host(spaces[1])
        assert await put(spaces[1]) == (200, "")


@pytest.mark.slow
@needs_folder()
def test_the_data_folder_is_its_owners(tmp_path: Path) -> None:
    """Only the node's user can reach the commit socket, the secret and the stored data (store
    §5)."""
    with running_node(tmp_path) as node:
        assert node.url
        data = tmp_path / "data"
        sockets = [path for path in data.rglob("*") if path.is_socket()]
        assert sockets
        for path in (data, data / "secret", *sockets):
            assert path.stat().st_mode & 0o077 == 0, path
