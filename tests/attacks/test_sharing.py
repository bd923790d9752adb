"""Attempts to read values that are not or no longer shared, at a node with workers."""

import asyncio
import time
from contextlib import AsyncExitStack

import aiohttp
import pytest
from running_node import RunningNode

from capabilities.abilities import KV_DELETE, KV_GET, KV_LIST, KV_METADATA, KV_PUT
from capabilities.clock_and_entropy import SystemEntropy
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import DelegationRevoked, InvalidEnvelope, SealspaceError
from sealspace.session import Session, mint
from sealspace.wallets import new_wallet

TRIES = 24
"""Connections of their own, which the system spreads over the workers."""


async def _results(url: str, session: Session, *paths: str) -> list[SealspaceError | None]:
    """Read values over many new connections, and return how each read ended."""

    async def read(path: str) -> SealspaceError | None:
        async with Client(url, session=session) as client:
            try:
                await client.kv(paths[0]).get(path)
            except SealspaceError as error:
                return error
        return None

    return await asyncio.gather(*(read(path) for path in paths[1:] for _ in range(TRIES)))


async def test_SH5_an_ended_share_is_over_in_every_worker(attacked_node: RunningNode) -> None:
    """After `unshare` or leaving a team, no worker returns a shared copy, even if it is written
    again."""
    url, wallets = attacked_node.url, (new_wallet(), new_wallet())
    async with AsyncExitStack() as stack:
        alice, bob = [await stack.enter_async_context(Client(url)) for _ in wallets]
        for client, wallet in zip((alice, bob), wallets, strict=True):
            await client.sign_in(wallet)
        await alice.secrets().put("API_KEY", "open sesame")
        space = alice.kv("secrets").space.text
        for team in (None, "ops"):
            share = await alice.sharing.share(
                ["API_KEY"], bob.session.owner, team=team, wallet=lambda: wallets[0]
            )
            path = f"{share.folder.path}API_KEY"
            source = await bob.sharing.received(
                alice.session.owner, team=team, wallet=lambda: wallets[1]
            )
            assert await source.get("API_KEY") == "open sesame"
            assert not any(await _results(url, bob.session, space, path))
            copy = (await alice.kv("secrets").get(path)).body
            await alice.sharing.unshare(None, did=bob.session.owner, team=team)
            assert {type(one) for one in await _results(url, bob.session, space, path)} == {
                DelegationRevoked
            }
            await alice.kv("secrets").put(path, copy)
            assert {type(one) for one in await _results(url, bob.session, space, path)} == {
                DelegationRevoked
            }


async def test_SH5_a_reader_who_tries_other_paths(attacked_node: RunningNode) -> None:
    """A recipient with a live right to one folder cannot read any other path."""
    url, wallets = attacked_node.url, (new_wallet(), new_wallet())
    async with AsyncExitStack() as stack:
        alice, bob = [await stack.enter_async_context(Client(url)) for _ in wallets]
        for client, wallet in zip((alice, bob), wallets, strict=True):
            await client.sign_in(wallet)
        await alice.secrets().put("API_KEY", "open sesame")
        share = await alice.sharing.share(["API_KEY"], bob.session.owner, wallet=lambda: wallets[0])
        await bob.sharing.received(alice.session.owner, wallet=lambda: wallets[1])
        (used,), folder = bob.session.grants[1:], share.folder.path
        place, node_id = alice.kv("secrets").space.text, (await bob.info()).node_id
        visitor = await stack.enter_async_context(aiohttp.ClientSession())

        async def status(path: str, ability: str) -> int:
            token = mint(
                bob.session.signer,
                SystemEntropy(),
                audience=node_id,
                capabilities=[allow(f"{place}/kv/{path}", ability)],
                proofs=[used.cid],
                expires_at=time.time() + 60,
            )
            async with visitor.post(f"{url}/invoke", headers={"Authorization": token}) as answer:
                return answer.status

        assert await status(f"{folder}API_KEY", KV_GET) == 200
        assert await status(folder, KV_LIST) == 200
        for ability in (KV_PUT, KV_DELETE, KV_METADATA):
            assert await status(f"{folder}API_KEY", ability) in (401, 403)
        for path in (
            "vault/secrets/API_KEY",
            "vault/secrets/",
            "vault/secrets/shared/",
            folder.rstrip("/"),
            f"{folder.rstrip('/')}x/API_KEY",
            f"vault/secrets/shared/ops/{folder.removeprefix('vault/secrets/shared/')}API_KEY",
            folder.replace(bob.session.owner, alice.session.owner) + "API_KEY",
        ):
            for ability in (KV_GET, KV_LIST):
                assert await status(path, ability) in (401, 403), path
        for path in ("../API_KEY", "%2e%2e/API_KEY", "../" * 4 + "API_KEY"):
            assert await status(folder + path, KV_GET) in (400, 401, 403, 404)


async def test_SH6_names_that_a_writer_plants_are_not_copied(attacked_node: RunningNode) -> None:
    """Secrets that a recipient moved into its own folder are not copied, because the owner never
    shared them."""
    url, wallets = attacked_node.url, (new_wallet(), new_wallet())
    async with AsyncExitStack() as stack:
        alice, eve = [await stack.enter_async_context(Client(url)) for _ in wallets]
        for client, wallet in zip((alice, eve), wallets, strict=True):
            await client.sign_in(wallet)
        await alice.secrets().put_many({"API_KEY": "open sesame", "CARD": "1", "BANK": "1"})
        await alice.sharing.share(["API_KEY"], eve.session.owner, wallet=lambda: wallets[0])
        space = alice.kv("secrets").space.text
        right = [allow(f"{space}/kv/vault/secrets/", KV_PUT)]
        await eve.delegations.accept(await alice.delegations.delegate(eve.session.did, right))
        source = await eve.sharing.received(alice.session.owner, wallet=lambda: wallets[1])
        (path,) = [one async for one in alice.kv("secrets").list("vault/secrets/shared/")]
        folder = path.removesuffix("API_KEY")
        await eve.kv(space).put(f"{folder}CARD", "planted")
        await alice.kv("secrets").put(f"{folder}BANK", "planted")  # as the node could
        await alice.sharing.put_many({"API_KEY": "new", "CARD": "4111", "BANK": "DE89"})
        assert await source.get("API_KEY") == "new"
        for name in ("CARD", "BANK"):
            with pytest.raises(InvalidEnvelope):
                await source.get(name)
