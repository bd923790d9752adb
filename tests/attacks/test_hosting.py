"""Spaces of outsiders on a closed node, and more spaces than a node allows (store §6)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import pytest
from attacks.held_store import HeldStage, held_node
from attacks.parties import GET, PUT, Delegate, stage_on
from deviating_platform import SimulatedPlatform
from engines import store_at
from running_node import Reply, key_token, new_key, send, wallet_token
from tests_support import FixedClock

from capabilities.clock_and_entropy import SystemClock
from capabilities.signatures import WalletSigner
from node.config.tree import Config, Hosting, Http, Limits
from sealspace.wallets import new_wallet
from spaces.keyspace import TOTAL_SPACES_COUNTER
from spaces.store.contract import counter_of

HOST, CREATE = "tinycloud.space/host", "tinycloud.space/create"
CREATE_NETWORK = "tinycloud.encryption/network.create"
# Whom a host grant addresses is not asked (D42), but no grant of a key addresses the node (T10).
PEER = new_key().did
BEHIND_A_PROXY = Http(port=0, drain_s=1, trusted_proxies=("127.0.0.1",))


@asynccontextmanager
async def hosting_stage(
    folder: Path, platform: SimulatedPlatform, hosting: Hosting, *, limits: Limits | None = None
) -> AsyncIterator[HeldStage]:
    """Run a node with some rules of hosting, behind a proxy that says where requests come from."""
    clock = FixedClock(SystemClock().now())
    store_config, limits = store_at(folder / "data"), limits or Limits()
    config = Config(http=BEHIND_A_PROXY, store=store_config, hosting=hosting, limits=limits)
    async with held_node(config, clock=clock) as (node, store), AsyncExitStack() as clients:
        stage = await stage_on(node.url, platform, clients)
        parts = (stage.url, platform, clients, stage.node_did)
        yield HeldStage(*parts, store=store, clock=clock, services=node.services)


def reported(reply: Reply, member: Literal["activated", "skipped"]) -> list[str]:
    """Return the spaces that an answer lists."""
    spaces = reply.value[member]
    assert isinstance(spaces, list)
    return [str(space) for space in spaces]


def own_space(did: str, name: str = "default") -> str:
    """Return the id of a space of a DID."""
    return f"tinycloud:{did.removeprefix('did:')}:{name}"


async def hosted_in_all(stage: HeldStage) -> int:
    """Return the number of spaces that the node hosts."""
    return counter_of((await stage.services.store.read((TOTAL_SPACES_COUNTER,))).records[0])


async def post_from(stage: HeldStage, client: str, token: str, *, path: str = "/delegate") -> Reply:
    """Send a token from a client address."""
    return await send(stage.url, "POST", path, token=token, headers={"X-Forwarded-For": client})


async def host_grant_of_a_key(stage: HeldStage, who: Delegate, wallet: WalletSigner) -> Reply:
    """Return a key's own host grant."""
    return await stage.post("/delegate", who.grant(PEER, {f"{own_space(who.did)}/space": [HOST]}))


async def host_grant_of_a_wallet(stage: HeldStage, who: Delegate, wallet: WalletSigner) -> Reply:
    """Return a wallet's own host grant."""
    return await stage.post(
        "/delegate",
        wallet_token(wallet, stage.node_did, {f"{own_space(wallet.did)}/space": [HOST]}),
    )


async def host_grant_handed_on(stage: HeldStage, who: Delegate, wallet: WalletSigner) -> Reply:
    """Return a host grant by a key that a wallet delegated to."""
    right = {f"{own_space(wallet.did)}/space": [HOST]}
    parent = wallet_token(wallet, who.did, right)
    assert (await stage.post("/delegate", parent)).status == 200
    return await stage.post("/delegate", who.grant(PEER, right, proofs=[parent], ttl_s=600))


def default_network(wallet: WalletSigner) -> str:
    """Return the id of a wallet's default network."""
    return f"urn:tinycloud:encryption:{wallet.did}:default"


def sign_in_token(wallet: WalletSigner, who: Delegate) -> str:
    """Return a sign-in that asks for a space and for the default network."""
    grants = {f"{own_space(wallet.did)}/kv": [GET, PUT], default_network(wallet): [CREATE_NETWORK]}
    return wallet_token(wallet, who.did, grants)


async def has_network(stage: HeldStage, wallet: WalletSigner) -> bool:
    """Return whether a wallet's default network exists."""
    path = f"/encryption/networks/{quote(default_network(wallet), safe='')}"
    return (await send(stage.url, "GET", path)).status == 200


async def sign_in_of_a_wallet(stage: HeldStage, who: Delegate, wallet: WalletSigner) -> Reply:
    """A sign-in by a wallet."""
    return await stage.post("/delegate", sign_in_token(wallet, who))


async def put_of_a_key(stage: HeldStage, who: Delegate, wallet: WalletSigner) -> Reply:
    """Put a value into the key's own space."""
    return await stage.invoke(who.signer, {f"{own_space(who.did)}/kv/x": [PUT]}, body=b"x")


async def creation_by_a_key(stage: HeldStage, who: Delegate, wallet: WalletSigner) -> Reply:
    """Create a space through the space service, by its owner's key."""
    return await stage.invoke(who.signer, {f"{own_space(who.did)}/space/notes": [CREATE]})


Way = Callable[[HeldStage, Delegate, WalletSigner], Awaitable[Reply]]
WAYS: tuple[Way, ...] = (
    host_grant_of_a_key,
    host_grant_of_a_wallet,
    host_grant_handed_on,
    sign_in_of_a_wallet,
    put_of_a_key,
    creation_by_a_key,
)
CLOSED = {
    "listed": Hosting(mode="permit", listed=(new_key().did,)),
    "permit": Hosting(mode="permit"),
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("hosting", CLOSED.values(), ids=CLOSED)
async def test_an_outsider_on_a_closed_node(
    tmp_path: Path, platform: SimulatedPlatform, hosting: Hosting, way: Way
) -> None:
    """An outsider gets no space on a closed node, even by a host grant (ST13, ST14)."""
    async with hosting_stage(tmp_path, platform, hosting) as stage:
        wallet = new_wallet()
        reply = await way(stage, Delegate(), wallet)
        assert await hosted_in_all(stage) == 0
        assert not await has_network(stage, wallet)
        if way in (put_of_a_key, creation_by_a_key):
            assert reply.status >= 400
        else:
            assert reply.status == 200
            assert reported(reply, "activated") == []
            assert len(reported(reply, "skipped")) == 1


async def test_an_owner_on_the_list(tmp_path: Path, platform: SimulatedPlatform) -> None:
    """Of a grant for two owners' spaces, only the spaces of a listed owner are hosted."""
    who, outsider = Delegate(), new_wallet()
    async with hosting_stage(
        tmp_path, platform, Hosting(mode="permit", listed=(who.did,))
    ) as stage:
        right = {f"{own_space(outsider.did)}/space": [HOST]}
        parent = wallet_token(outsider, who.did, right)
        assert (await stage.post("/delegate", parent)).status == 200
        both = right | {f"{own_space(who.did)}/space": [HOST]}
        reply = await stage.post("/delegate", who.grant(PEER, both, proofs=[parent], ttl_s=600))
        assert reply.value["activated"] == [own_space(who.did)]
        assert reply.value["skipped"] == [own_space(outsider.did)]
        assert (await put_of_a_key(stage, who, outsider)).status == 200


BOUNDED = {
    "auto": Hosting(new_owners_per_hour=3),
    "explicit": Hosting(mode="explicit", new_owners_per_hour=3),
}


@pytest.mark.parametrize("hosting", BOUNDED.values(), ids=BOUNDED)
async def test_spaces_of_one_outsider(
    tmp_path: Path, platform: SimulatedPlatform, hosting: Hosting
) -> None:
    """One outsider gets at most 16 spaces in a grant and 32 in all (ST15)."""
    async with hosting_stage(tmp_path, platform, hosting) as stage:
        outsider, activated = Delegate(), []
        for at in range(8):
            names = {
                f"{own_space(outsider.did, f's{at}-{number}')}/space": [HOST]
                for number in range(64)
            }
            reply = await stage.post("/delegate", outsider.grant(PEER, names))
            assert reply.status == 200
            activated.append(len(reported(reply, "activated")))
        assert activated == [16, 16, 0, 0, 0, 0, 0, 0]
        assert await hosted_in_all(stage) == 32


@pytest.mark.parametrize("hosting", BOUNDED.values(), ids=BOUNDED)
async def test_new_owners_from_one_address(
    tmp_path: Path, platform: SimulatedPlatform, hosting: Hosting
) -> None:
    """The number of new owners from one address in an hour is limited."""
    async with hosting_stage(tmp_path, platform, hosting) as stage:
        for client, expected in (("203.0.113.7", 3), ("203.0.113.8", 6)):
            for _ in range(5):
                one = new_key()
                token = key_token(one, PEER, {f"{own_space(one.did)}/space": [HOST]}, ttl_s=600)
                assert (await post_from(stage, client, token)).status == 200
            assert await hosted_in_all(stage) == expected


async def test_the_total_in_explicit(tmp_path: Path, platform: SimulatedPlatform) -> None:
    """A node with its maximum number of spaces refuses every further space (ST15)."""
    async with hosting_stage(tmp_path, platform, Hosting(mode="explicit", spaces_total=2)) as stage:
        for _ in range(4):
            await host_grant_of_a_key(stage, Delegate(), new_wallet())
        assert await hosted_in_all(stage) == 2
