"""What a node answers on every route to an owner who has moved to another wallet (TM18).

Here the row of a move is written directly, for an owner of any kind. How admins write it is in
`test_team_moves.py`.
"""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from attacks.held_store import HeldStage, held_node
from attacks.parties import DELETE, GET, LIST, PUT, SECRET, Delegate, Owner, opens, stage_on
from attacks.test_id_tokens import exchange, is_refused, trust_of
from attacks.test_races import meanwhile
from attacks.test_token_kinds import KINDS, PLACES, TABLE, scene_on
from deviating_platform import SimulatedPlatform
from embedded_node import embedded_node
from engines import store_at
from moving_teams import write_move
from oidc_issuer import Issuer, github_claims
from running_node import Grants, send, wallet_token
from sms_owner import new_owner
from tests_support import FixedClock
from trust_settings import MANY_CHALLENGES, trusting_config

from capabilities.abilities import KV_SYNC
from node.config.tree import Config, Http, Sms
from node.services import Services
from sealspace.client import SignIn
from sealspace.errors import OwnerMoved
from sealspace.wallets import new_wallet
from spaces.keyspace import SUCCESSIONS_PREFIX
from spaces.store.contract import Commit

pytestmark = pytest.mark.slow

ISSUER = "https://ci.test"
SUCCESSOR = new_wallet().did


def moved_text(owner: Owner) -> str:
    """Return how the node refuses what depends on an owner who has moved."""
    return f"Owner moved: {owner.wallet.did} is now {SUCCESSOR}"


async def move(services: Services, owner: Owner) -> None:
    """Write that an owner has moved."""
    await write_move(services.store, owner.wallet.did, SUCCESSOR)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "yes" in TABLE[kind].values()])
async def test_TM18_every_token_on_every_route(held: HeldStage, kind: str) -> None:
    """No kind of token of a moved owner serves on any route that accepts the kind (TM18)."""
    scene = await scene_on(held, kind)
    tokens = {
        place: await KINDS[kind](scene)
        for place in PLACES
        if TABLE[kind][place] in ("yes", "idle", "shape")
    }
    await move(held.services, scene.owner)
    for place, sent in tokens.items():
        where = PLACES[place]
        body = sent.body if sent.body else await where.body(scene)
        path = where.path_on(scene)
        reply = await send(held.url, where.method, path, token=sent.token, body=body)
        if kind == "revocation" and place == "/revoke":
            continue  # it ends what the session's key granted, and the key has not moved
        if place == "/delegation/status":
            assert reply.value["status"] == "not_found", reply.said
            continue
        is_named = "Owner moved" in reply.text or "problem:owner-moved" in reply.text
        assert (reply.status, is_named) == (403, True), (place, reply.said)


_RACES = {
    "delegation": "/delegate",
    "wallet's revocation": "/revoke",
    "call": "/signed/kv",
    "network creation": "/encryption/networks",
    "network revocation": "…/revoke",
    "decrypt request": "…/decrypt",
    "session request": "/attestation/sessions",
    "policy": "…/policy",
    "withdrawal": "…/withdraw",
    "key change": "…/keys",
}
"""A route that commits something for each kind of token."""


@pytest.mark.parametrize("kind", _RACES)
async def test_TM18_a_commit_after_the_move(held: HeldStage, kind: str) -> None:
    """A request that was judged before the move, and commits after it, is refused (TM18)."""
    scene = await scene_on(held, kind)
    where = PLACES[_RACES[kind]]
    if kind == "delegation":
        token = scene.session.grant(Delegate().did, scene.gets, ttl_s=200)
        body = None
    else:
        sent = await KINDS[kind](scene)
        token, body = sent.token, sent.body or await where.body(scene)
    waiting = held.store.hold(writes_something)
    asking = send(held.url, where.method, where.path_on(scene), token=token, body=body)
    reply = await meanwhile(asking, waiting, partial(move, held.services, scene.owner))
    is_named = "Owner moved" in reply.text or "problem:owner-moved" in reply.text
    assert (reply.status, is_named) == (403, True), reply.said


@pytest.mark.parametrize("ability", [PUT, DELETE, "tinycloud.sql/write"])
async def test_TM18_a_write_after_the_move(held: HeldStage, ability: str) -> None:
    """A value, a deletion or a database that was sent before the move is not stored after it."""
    owner, key = await held.owner(), Delegate()
    resource, body = owner.secret, None if ability == DELETE else b"value"
    if ability == "tinycloud.sql/write":
        resource = f"{owner.space('secrets')}/sql/app"
        body = b'{"action":"execute","sql":"create table t (a)"}'
    sign_in = await held.register(wallet_token(owner.wallet, key.did_url, {resource: [ability]}))
    waiting = held.store.hold(writes_something)
    asking = held.invoke(key.signer, {resource: [ability]}, proofs=[sign_in], body=body)
    reply = await meanwhile(asking, waiting, partial(move, held.services, owner))
    assert reply.said == (403, moved_text(owner))


async def test_TM18_a_new_space_after_the_move(held: HeldStage) -> None:
    """A space that was asked for before the move is not made after it (TM18)."""
    owner, key = await held.owner(), Delegate()
    grants = {f"{owner.space('secrets')}/space/made": ["tinycloud.space/create"]}
    sign_in = await held.register(wallet_token(owner.wallet, key.did_url, grants))
    waiting = held.store.hold(writes_something)
    asking = held.invoke(key.signer, grants, proofs=[sign_in])
    reply = await meanwhile(asking, waiting, partial(move, held.services, owner))
    assert reply.said == (403, moved_text(owner))


async def test_TM18_a_repetition_after_the_move(held: HeldStage) -> None:
    """A delegation that is sent again before the move is not acknowledged after it (TM18)."""
    owner = await held.owner()
    token = await held.register(owner.sign_in(Delegate().did_url))
    waiting = held.store.hold(lambda commit: bool(commit.live))
    asking = held.post("/delegate", token)
    reply = await meanwhile(asking, waiting, partial(move, held.services, owner))
    assert reply.said == (403, moved_text(owner))


def writes_something(commit: Commit) -> bool:
    """Return whether a commit is that of a request, and not the one that writes a move."""
    return bool(commit.puts) and not commit.puts[0].key.startswith(SUCCESSIONS_PREFIX)


@pytest.fixture
async def with_issuer(
    tmp_path: Path, platform: SimulatedPlatform
) -> AsyncIterator[tuple[HeldStage, Issuer]]:
    """A node in this process and an issuer of ID tokens."""
    clock = FixedClock(time.time())
    config = trusting_config(tmp_path, platform, limits=MANY_CHALLENGES)
    async with held_node(config, clock=clock) as (node, store), AsyncExitStack() as clients:
        stage = await stage_on(node.url, platform, clients)
        parts = (stage.url, platform, clients, stage.node_did)
        yield HeldStage(*parts, store=store, clock=clock, services=node.services), Issuer(ISSUER)


async def test_TM18_trusts_and_machine_tokens(with_issuer: tuple[HeldStage, Issuer]) -> None:
    """A trust makes no machine token after the move, and one that it made opens nothing (TM18)."""
    held, issuer = with_issuer
    owner = await held.owner()
    trust = await trust_of(owner, issuer)
    job, own = Delegate(), Delegate()
    own.proofs = [await held.register(owner.machine(own))]

    def id_token() -> str:
        return issuer.token(github_claims(), audience=held.node_did)

    assert (await exchange(held, trust, id_token(), job)).status == 200
    for delegate in (job, own):
        assert opens(await held.ask(delegate, owner), delegate, owner)
    await move(held.services, owner)
    assert is_refused(await exchange(held, trust, id_token(), Delegate()))
    for delegate in (job, own):
        assert (await held.ask(delegate, owner)).said == (403, moved_text(owner))
        fetched = await held.invoke(delegate.signer, {owner.secret: [GET]}, proofs=delegate.proofs)
        assert fetched.said == (403, moved_text(owner))


async def test_TM18_each_ability_of_a_session(with_issuer: tuple[HeldStage, Issuer]) -> None:
    """A session of a moved owner lists nothing, follows no changes and queries no database."""
    held, _ = with_issuer
    owner = await held.owner()
    space = owner.space("secrets")
    folder = owner.secret.removesuffix(SECRET)
    wanted: dict[str, Grants] = {
        "list": {folder: [LIST]},
        "sync": {folder: [KV_SYNC]},
        "info": {f"{space}/space": ["tinycloud.space/info"]},
        "rights": {f"{space}/capabilities": ["tinycloud.capabilities/read"]},
        "sql": {f"{space}/sql/app": ["tinycloud.sql/read", "tinycloud.sql/write"]},
    }
    every: dict[str, list[str]] = {}
    for grants in wanted.values():
        for resource, abilities in grants.items():
            every.setdefault(resource, []).extend(abilities)
    key = Delegate()
    sign_in = wallet_token(owner.wallet, key.did_url, every)
    await held.register(sign_in)
    body = b'{"action":"query","sql":"select 1"}'
    before = {}
    for what, grants in wanted.items():
        given = body if what == "sql" else None
        reply = await held.invoke(key.signer, grants, proofs=[sign_in], body=given)
        before[what] = reply.said
        assert "Owner moved" not in reply.text
    await move(held.services, owner)
    for what, grants in wanted.items():
        given = body if what == "sql" else None
        reply = await held.invoke(key.signer, grants, proofs=[sign_in], body=given)
        assert reply.said == (403, moved_text(owner)), (what, before[what])


async def test_TM18_sign_in_and_recovery(held: HeldStage) -> None:
    """The wallet itself signs nobody in after the move, neither a new nor a known key (TM18)."""
    owner = await held.owner()
    await move(held.services, owner)
    key = Delegate()
    reply = await held.post("/delegate", owner.sign_in(key.did_url))
    assert reply.said == (403, moved_text(owner))
    other = await held.client()
    with pytest.raises(OwnerMoved):
        await other.sign_in(owner.wallet, SignIn())


async def test_TM18_keys_below_end_with_the_wallet(held: HeldStage) -> None:
    """Neither a session's grant to somebody else nor that recipient's onward grant serves."""
    owner = await held.owner()
    friend, stranger = Delegate(), Delegate()
    first = await held.register(owner.session.grant(friend.did, {owner.secret: [GET]}))
    friend.proofs = [first]
    second = await held.register(friend.grant(stranger.did, {owner.secret: [GET]}, ttl_s=300))
    stranger.proofs = [second]
    for one in (friend, stranger):
        reply = await held.invoke(one.signer, {owner.secret: [GET]}, proofs=one.proofs)
        assert reply.status == 200, reply.said
    await move(held.services, owner)
    for one in (friend, stranger):
        reply = await held.invoke(one.signer, {owner.secret: [GET]}, proofs=one.proofs)
        assert reply.said == (403, moved_text(owner))
    onward = friend.grant(Delegate().did, {owner.secret: [GET]}, ttl_s=200)
    assert (await held.post("/delegate", onward)).said == (403, moved_text(owner))


async def test_TM18_pushes_of_iexec(tmp_path: Path) -> None:
    """The service for iExec stores nothing for a moved owner, as if it were not enabled (TM18)."""
    config = Config(
        http=Http(port=0, drain_s=0),
        store=store_at(tmp_path / "data"),
        sms=Sms(listen="127.0.0.1:0"),
    )
    async with embedded_node(config) as node:
        owner = await new_owner(tmp_path / "home", node.url, node.sms_url)
        await owner.enable("--public-checks")
        assert (await owner.push_requester("one", b"1")).status == 204
        assert await owner.has_requester("one") == 204
        await write_move(node.services.store, owner.wallet.did, SUCCESSOR)
        refused = await owner.push_requester("two", b"2")
        assert (refused.status, refused.value["code"]) == (401, "sms-not-enabled")
        assert await owner.has_requester("one") not in (200, 204)
