"""Many callers at once, over several connections and workers."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from durability.load import (
    GET,
    KEYS,
    PUT,
    Granter,
    Writer,
    ask_any_node,
    new_session,
    number_of,
    side_by_side,
)
from running_node import (
    Reply,
    RunningNode,
    exchange,
    key_token,
    new_key,
    running_node,
    wallet_token,
)

pytestmark = pytest.mark.slow

WORKERS = 2
WRITERS = READERS = 16
REQUESTS = 25
"""For each writer and each reader."""
MOST_CONNECTIONS = 400


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A node with two workers."""
    with running_node(tmp_path_factory.mktemp("loaded"), workers=WORKERS) as node:
        yield node


async def write(writer: Writer, session: aiohttp.ClientSession, url: str) -> None:
    for _ in range(REQUESTS):
        reply = await writer.write(session, url)
        assert reply.status in (200, 404), reply.said


async def read(writer: Writer, session: aiohttp.ClientSession, url: str) -> None:
    for at in range(REQUESTS):
        before = list(writer.acknowledged)
        reply = await writer.invoke(session, url, at % KEYS, GET, None)
        assert reply.status in (200, 404), reply.said
        if reply.status == 200:
            # Whatever was acknowledged before the read was asked for is seen by whichever worker
            # answers (ST1).
            assert number_of(reply.body) >= before[at % KEYS]


async def test_writers_and_readers_side_by_side(node: RunningNode) -> None:
    """Sixteen writers and sixteen readers run without a failed request, and reads see acknowledged
    writes (ST1)."""
    writers = [Writer(at) for at in range(WRITERS)]
    before = _cpu_ticks(node)
    async with new_session() as session, new_session(keeps=False) as reading:
        await side_by_side(
            [
                *(write(writer, session, node.url) for writer in writers),
                *(read(writer, reading, node.url) for writer in writers),
            ]
        )
        for writer in writers:
            await writer.check(session, node.url)
    after = _cpu_ticks(node)
    # each of them took part
    assert [pid for pid in after if after[pid] > before[pid]] == list(before)


def _cpu_ticks(node: RunningNode) -> dict[int, int]:
    """Return the user CPU time of each worker."""
    workers = node.children("worker")
    assert len(workers) == WORKERS
    return {
        pid: int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])
        for pid in workers
    }


async def test_rivals_for_one_key(node: RunningNode) -> None:
    """Sixteen writers replace one key conditionally. Every write happens once, and none is
    overwritten."""
    key = new_key()
    resource = f"tinycloud:{key.did.removeprefix('did:')}:default/kv/counter"

    async def call(session: aiohttp.ClientSession, ability: str, **more: Any) -> Reply:
        token = key_token(key, key.did, {resource: [ability]})
        return await exchange(session, node.url, "POST", "/invoke", token=token, **more)

    async def add(session: aiohttp.ClientSession) -> None:
        written = 0
        while written < 3:
            current = await call(session, GET)
            condition = {"If-Match": current.headers["etag"]}
            reply = await call(
                session, PUT, body=b"%d" % (int(current.body) + 1), headers=condition
            )
            assert reply.status in (200, 412), reply.said
            written += reply.status == 200

    async with new_session(connections=32) as session:
        assert (await call(session, PUT, body=b"0", headers={"If-None-Match": "*"})).status == 200
        await side_by_side([add(session) for _ in range(WRITERS)])
        assert (await call(session, GET)).body == b"%d" % (3 * WRITERS)


async def test_a_revocation_holds_everywhere_at_once(node: RunningNode) -> None:
    """Under load, every worker refuses the next request after a revocation was acknowledged (ST1,
    ST2)."""
    granter, ended = Granter(), asyncio.Event()
    writers = [Writer(at) for at in range(4)]
    async with new_session(connections=8) as session:
        load = [
            asyncio.create_task(writer.run_until(session, node.url, ended, lambda: None))
            for writer in writers
        ]
        try:
            for _ in range(5):
                await _revoke_and_ask_all(node, granter, session)
        finally:
            ended.set()
            await asyncio.gather(*load)


async def _revoke_and_ask_all(
    node: RunningNode, granter: Granter, session: aiohttp.ClientSession
) -> None:
    key = new_key()
    grant = wallet_token(granter.wallet, key.did, {granter.resource: [GET]})
    assert (await exchange(session, node.url, "POST", "/delegate", token=grant)).status == 200
    granter.standing[grant] = key
    assert await _ask_all(node, granter, grant) == {404}  # it stands, and nothing is there
    await granter.revoke(session, node.url, grant)
    assert grant in granter.revoked
    assert await _ask_all(node, granter, grant) == {401}


async def _ask_all(node: RunningNode, granter: Granter, grant: str) -> set[int]:
    """Use a grant over new connections until every worker has answered, and return the answers."""
    key = granter.standing.get(grant) or granter.revoked[grant]
    answers: list[tuple[int, int]] = []
    while len({worker for _, worker in answers}) < WORKERS:
        assert len(answers) < MOST_CONNECTIONS
        tokens = [
            key_token(key, key.did, {granter.resource: [GET]}, proofs=[grant]) for _ in range(8)
        ]
        answers += await asyncio.gather(*(ask_any_node(node, token) for token in tokens))
    return {status for status, _ in answers}


async def test_a_revocation_and_a_write_at_one_moment(node: RunningNode) -> None:
    """A write that is sent after the revocation of its grant was acknowledged never succeeds
    (ST2)."""
    granter = Granter()
    async with new_session(connections=32) as session:
        for _ in range(4):
            key = new_key()
            grants = {granter.resource: [PUT]}
            grant = wallet_token(granter.wallet, key.did, grants)
            assert (
                await exchange(session, node.url, "POST", "/delegate", token=grant)
            ).status == 200
            granter.standing[grant] = key
            acknowledged = asyncio.Event()

            async def write(
                key=key, grant=grant, grants=grants, acknowledged=acknowledged
            ) -> tuple[bool, Reply]:
                late = acknowledged.is_set()
                token = key_token(key, key.did, grants, proofs=[grant])
                return late, await exchange(
                    session, node.url, "POST", "/invoke", token=token, body=b"x"
                )

            async def revoke(grant=grant, acknowledged=acknowledged) -> None:
                await granter.revoke(session, node.url, grant)
                acknowledged.set()

            early = [asyncio.create_task(write()) for _ in range(12)]
            await revoke()
            outcomes = [await task for task in early] + [await write() for _ in range(4)]
            assert {reply.status for late, reply in outcomes if late} == {401}
            assert {reply.status for _, reply in outcomes} <= {200, 401}
