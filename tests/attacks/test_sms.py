"""Attacks on the service for iExec's clients, against running processes (SM3, SM7, SM10, SM12).

Each test runs on two workers of one node over LMDB, and on two servers on one PostgreSQL database.
"""

import asyncio
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest
from postgres_server import needs_postgres, postgres_server
from running_node import Reply, RunningNode, running_node, send, wallet_token
from sms_owner import SmsOwner, challenge, new_owner, signed

from capabilities.abilities import KV_GET, KV_METADATA, KV_PUT
from sealspace.delegations import allow
from sealspace.documents.iexec_names import GRANT_KEY

pytestmark = pytest.mark.slow

_SMS = r"push secrets to (http://127\.0\.0\.1:\d+)$"
_NOT_ENABLED = (401, "sms-not-enabled")
_RACERS = 12
_COUNT = count()


@dataclass
class Ends:
    """Two processes on one store, with their addresses and outputs."""

    nodes: tuple[RunningNode, ...]
    folder: Path

    def urls(self, end: int) -> tuple[str, str]:
        """Return the addresses of an end: of the node, and of the service."""
        node = self.nodes[end % len(self.nodes)]
        return node.url, node.wait_for(_SMS).group(1)


@pytest.fixture(scope="module", params=["workers", pytest.param("servers", marks=needs_postgres())])
def ends(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ends]:
    """Two workers of one node, or two nodes of one secret on one database."""
    folder = tmp_path_factory.mktemp("sms")
    options = ("--sms", "127.0.0.1:0", "--log-requests", "plain")
    with ExitStack() as stack:
        if request.param == "workers":
            nodes = [stack.enter_context(running_node(folder / "one", *options))]
        else:
            secret, url = folder / "secret", postgres_server().new_database()
            secret.write_bytes(os.urandom(32))
            secret.chmod(0o600)
            shared = (*options, "--store", url, "--secret-file", str(secret))
            nodes = [
                stack.enter_context(running_node(folder / name, *shared, workers=1))
                for name in ("one", "two")
            ]
        yield Ends(tuple(nodes), folder)


async def _owner(ends: Ends, tmp_path: Path, *, key: bytes | None = None) -> SmsOwner:
    home = tmp_path / f"home{next(_COUNT)}"
    return await new_owner(home, *ends.urls(0), key=key or secrets.token_bytes(31) + b"\1")


def _code(reply: Reply) -> tuple[int, object]:
    return reply.status, reply.value["code"] if reply.body else None


async def test_one_of_many_creates_wins(ends: Ends, tmp_path: Path) -> None:
    """iexec-S14, SM7: of concurrent creates of one secret, one gets 204 and all others get 409."""
    owner = await _owner(ends, tmp_path)
    await owner.enable()
    racers = [replace(owner, sms=ends.urls(end)[1]) for end in range(_RACERS)]
    values = [f"value-{number}" for number in range(_RACERS)]
    replies = await asyncio.gather(
        *[
            racer.push_requester("raced", value.encode())
            for racer, value in zip(racers, values, strict=True)
        ]
    )
    (winner,) = [value for value, reply in zip(values, replies, strict=True) if reply.status == 204]
    assert sorted(_code(reply) for reply in replies if reply.status != 204) == (
        [(409, "sms-exists")] * (_RACERS - 1)
    )
    assert await owner.value("NAME_RACED", "iexec-requester") == winner


async def test_one_of_many_copies_of_a_replacement_wins(ends: Ends, tmp_path: Path) -> None:
    """SM12: a signature that is sent many times concurrently is accepted once by all processes
    together."""
    owner = await _owner(ends, tmp_path)
    await owner.enable()
    assert (await owner.push_result("token", b"one")).status == 204
    racers = [replace(owner, sms=ends.urls(end)[1]) for end in range(_RACERS)]
    replies = await asyncio.gather(*[racer.push_result("token", b"two", "PUT") for racer in racers])
    assert sorted(reply.status for reply in replies) == [204] + [401] * (_RACERS - 1)
    # What a witness of the first push sends rolls nothing back, at either end.
    for racer in racers[:2]:
        assert _code(await racer.push_result("token", b"one", "PUT")) == (401, "sms-challenge-used")
    assert await owner.value("NAME_TOKEN", "iexec-result") == "two"


async def test_one_signature_raced_on_two_routes(ends: Ends, tmp_path: Path) -> None:
    """SM12: a signature that is sent concurrently to two routes stores only one secret."""
    owner = await _owner(ends, tmp_path)
    await owner.enable()
    racers = [replace(owner, sms=ends.urls(end)[1]) for end in range(2)]
    replies = await asyncio.gather(
        racers[0].push_requester("both", b"one"), racers[1].push_result("both", b"one")
    )
    assert sorted(reply.status for reply in replies) == [204, 401]
    assert len(await owner.keys()) == 1


async def test_nothing_is_written_without_authority(ends: Ends, tmp_path: Path) -> None:
    """SM3: the service stores nothing before it is enabled or after its grant is revoked."""
    owner = await _owner(ends, tmp_path)
    racers = [replace(owner, sms=ends.urls(end)[1]) for end in range(2)]
    for racer in racers:
        assert _code(await racer.push_requester("early", b"1")) == _NOT_ENABLED
    await owner.enable()
    for number, racer in enumerate(racers):  # both ends have seen the grant in force
        assert (await racer.push_result(f"warm-{number}", b"1")).status == 204
    before = await owner.keys("vault/secrets/"), await owner.keys("iexec/")
    assert await owner.run("sms", "disable") == 0
    for racer in racers:
        assert _code(await racer.push_requester("late", b"1")) == _NOT_ENABLED
        assert _code(await racer.push_result("warm-0", b"2", "PUT")) == _NOT_ENABLED
    assert (await owner.keys("vault/secrets/"), await owner.keys("iexec/")) == before
    assert len(before[0]) == 3


async def test_a_forged_id_of_the_grant_revokes_nothing_else(ends: Ends, tmp_path: Path) -> None:
    """SM3: a forged grant id in the store cannot make the owner revoke another grant."""
    owner = await _owner(ends, tmp_path)
    await owner.enable()
    async with owner.client() as client:
        values = client.kv("secrets")
        right = allow(f"{values.space.text}/kv/other/", KV_GET)
        did = (await _owner(ends, tmp_path)).wallet.did
        other = await client.delegations.delegate(did, [right], ttl_s=600, wallet=owner.wallet)
        await values.put(GRANT_KEY, other.cid)
        assert await owner.run("sms", "status") != 0
        await owner.enable()
        await values.put(GRANT_KEY, other.cid)
        assert await owner.run("sms", "disable") == 0
        assert (await client.delegations.status(other)).is_active


async def test_only_the_wallet_enables_the_service(ends: Ends, tmp_path: Path) -> None:
    """SM2: neither a session nor a delegate can enable the service; only the wallet can.

    `sealspace sms disable` would not revoke such a grant.
    """
    owner, friend = await _owner(ends, tmp_path), await _owner(ends, tmp_path)
    await owner.enable("--public-checks")
    assert (await owner.push_requester("present", b"1")).status == 204
    assert await owner.run("sms", "disable") == 0
    async with owner.client() as client:
        service, values = (await client.info()).sms_did, client.kv("secrets")
        folders = ("vault/secrets/scoped/iexec-requester/", "iexec/used/")
        grants = {f"{values.space.text}/kv/{folder}": (KV_PUT, KV_METADATA) for folder in folders}
        rights = [allow(place, one) for place, abilities in grants.items() for one in abilities]
        await client.delegations.add_right(owner.wallet, rights)
        by_session = await client.delegations.delegate(service, rights, ttl_s=600)
        given = await _registered(owner, wallet_token(owner.wallet, friend.wallet.did, grants))
        by_friend = await _registered(
            owner, wallet_token(friend.wallet, service, grants, parents=[given])
        )
        for number, cid in enumerate((by_session.cid, by_friend)):
            await values.put(GRANT_KEY, cid)
            assert _code(await owner.push_requester(f"late-{number}", b"1")) == _NOT_ENABLED
            assert await owner.has_requester("present") == 404
        by_wallet = await _registered(owner, wallet_token(owner.wallet, service, grants))
        await values.put(GRANT_KEY, by_wallet)
    assert (await owner.push_requester("by-wallet", b"1")).status == 204
    assert await owner.has_requester("present") == 204


async def _registered(owner: SmsOwner, token: str) -> str:
    return str((await send(owner.node, "POST", "/delegate", token=token)).value["cid"])


@pytest.mark.parametrize("forged", [b"\xff", b"no cid", b""])
async def test_a_forged_id_does_not_keep_a_grant_in_force(
    ends: Ends, tmp_path: Path, forged: bytes
) -> None:
    """SM3: `disable` revokes every grant of the service, whatever grant id is stored."""
    owner = await _owner(ends, tmp_path)
    await owner.enable()
    async with owner.client() as client:
        values = client.kv("secrets")
        real = (await values.get(GRANT_KEY)).body
        await values.put(GRANT_KEY, forged)
        assert await owner.run("sms", "status") != 0
        assert await owner.run("sms", "disable") == 0
        await values.put(GRANT_KEY, real)
        assert _code(await owner.push_requester("one", b"1")) == _NOT_ENABLED
        await values.put(GRANT_KEY, forged)
    await owner.enable()
    assert (await owner.push_requester("one", b"1")).status == 204


async def test_another_wallet_pushes_nothing_for_an_owner(ends: Ends, tmp_path: Path) -> None:
    """SM8, SM9: a wallet with its own grant cannot store another owner's secrets."""
    owner, thief = await _owner(ends, tmp_path), await _owner(ends, tmp_path)
    await owner.enable("--public-checks")
    await thief.enable("--public-checks")
    app = await owner.publish("app", "digest")
    path = f"/requesters/{owner.address}/secrets/mine"
    theirs = signed(thief.key, challenge(owner.address, b"mine", b"1"))
    replies = [
        await thief.send("POST", path, b"1", theirs),
        await thief.push_app(app, b"1"),
        await thief.push_dataset(app, b"1"),
        await owner.push_dataset(app, b"1"),
    ]
    assert [_code(reply) for reply in replies] == [(401, "sms-unauthorized")] * 4
    # The thief claims the address in their own space.
    await thief.write_record("app", app, '{"project":"digest"}')
    assert _code(await thief.push_app(app, b"1")) == (401, "sms-unauthorized")
    assert await owner.keys() == []
    assert await thief.keys() == []
    assert (await owner.push_app(app, b"1")).status == 204


async def test_probing_for_secrets(ends: Ends, tmp_path: Path) -> None:
    """SM10: the service answers alike for stored and missing secrets if public checks are off."""
    owner = await _owner(ends, tmp_path)
    await owner.enable()
    app = await owner.publish("app", "digest")
    assert (await owner.push_app(app, b"1")).status == 204
    assert (await owner.push_requester("one", b"1")).status == 204
    paths = [
        f"/requesters/{owner.address}/secrets/one",
        f"/requesters/{owner.address}/secrets/two",
        f"/requesters/0x{'44' * 20}/secrets/one",
        f"/apps/{app}/secrets",
        f"/apps/0x{'44' * 20}/secrets",
    ]
    for end in range(2):
        sms = ends.urls(end)[1]
        assert [(await send(sms, "HEAD", path)).status for path in paths] == [404] * len(paths)


async def test_a_pushed_value_is_nowhere_in_clear(ends: Ends, tmp_path: Path) -> None:
    """SM13: no file of the store, log or audit record contains a value, or its challenge."""
    owner = await _owner(ends, tmp_path)
    await owner.enable("--public-checks")
    canary = f"canary-{secrets.token_hex(16)}"
    name = f"place-{secrets.token_hex(8)}"
    assert (await owner.push_result(name, canary.encode())).status == 204
    assert (await owner.push_result(name, canary.encode(), "PUT")).status == 401
    assert (await owner.push_result(name, f"{canary}\n".encode(), "PUT")).status == 204
    assert (await owner.push_requester("a" * 65, canary.encode())).status == 400
    stored = f"NAME_{name.upper().replace('-', '_H')}"
    assert await owner.value(stored, "iexec-result") == f"{canary}\n"
    hashed = challenge(owner.address, name.encode(), canary.encode())
    hidden = [canary.encode(), hashed, hashed.hex().encode()]
    written = {
        str(path): path.read_bytes()
        for node in ends.nodes
        for path in sorted(node.folder.rglob("*"))
        if path.is_file()
    }
    for number, node in enumerate(ends.nodes):
        written[f"log {number}"] = "\n".join(node.lines).encode()
    if len(ends.nodes) > 1:
        server = postgres_server()
        server.run("postgres", "checkpoint")
        for path in sorted((server.folder / "data").rglob("*")):
            if path.is_file():
                written[str(path)] = path.read_bytes()
    # The search would have found it: the path of the secret is in the store and in no log line.
    assert any(stored.encode() in data for data in written.values())
    assert all(len(data) > 100 for place, data in written.items() if place.startswith("log"))
    assert [
        (place, needle) for place, data in written.items() for needle in hidden if needle in data
    ] == []
