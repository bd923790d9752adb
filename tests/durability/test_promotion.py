"""A primary that restarts while its synchronous standby is away, and the standby that takes over
(ST16).

A commit waits for the standby. A restart of the primary ends that wait: the commit is visible there
and not at the standby. What was acknowledged has to be at the standby all the same.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from attacks.held_store import held_node
from embedded_node import EmbeddedNode
from patience import PATIENCE_S
from postgres_server import PostgresServer, needs_postgres, new_server
from running_node import Grants, Reply, id_of, key_token, new_key, send

from capabilities.clock_and_entropy import SystemClock, SystemEntropy
from capabilities.principals import Principal
from capabilities.signatures import Ed25519Signer
from node.config.tree import Config, Http, Limits, Store
from node.operations.values.admission import change_admission
from spaces.audit.audit_chain import Chain, chain_head, seal_batch
from spaces.grants.admissions import admission_key, is_admitted
from spaces.keyspace import AUDIT_CHAIN_KEY
from spaces.space_errors import SpaceError, StoreUnavailable
from spaces.store.contract import Commit, Committed, Put, read_row
from spaces.store.contract import Store as AnyStore
from spaces.store.postgres import _pool
from spaces.store.postgres.engine import open_postgres
from spaces.store.sequences import SequenceState, sequence_of

pytestmark = [needs_postgres(), pytest.mark.slow]

GET, PUT, REVOKE = "tinycloud.kv/get", "tinycloud.kv/put", "tinycloud.delegation/revoke"
ADMITTED, REMOVED = Principal("did:example:admitted"), Principal("did:example:removed")
# The statement of a commit, not what a server or the housekeeping does of its own accord.
_WAITING = "from pg_stat_activity where wait_event = 'SyncRep' and query like '%held as (%'"


_SEQUENCE = b"H" + b"1" * 16


@dataclass
class Pair:
    """A primary whose commits wait for a standby, with one database."""

    primary: PostgresServer
    standby: PostgresServer
    name: str

    def hold_back(self) -> None:
        """Stop replication to the standby."""
        self._follows = (
            self.standby.run("postgres", "show primary_conninfo").strip().replace("'", "''")
        )
        self._follow("")
        _until(
            lambda: (
                self.standby.run("postgres", "select count(*) from pg_stat_wal_receiver").strip()
                == "0"
            )
        )

    def resume(self) -> None:
        """Continue replication to the standby."""
        self._follow(self._follows)

    def _follow(self, where: str) -> None:
        self.standby.run("postgres", f"alter system set primary_conninfo = '{where}'")
        self.standby.run("postgres", "select pg_reload_conf()")

    def waiting(self) -> int:
        """Return how many commits wait for the standby."""
        return int(self.primary.run("postgres", f"select count(*) {_WAITING}"))

    def end_waiting(self) -> None:
        """End the sessions of the commits that wait."""
        self.primary.run("postgres", f"select pg_terminate_backend(pid) {_WAITING}")

    def promote(self) -> str:
        """Lose the primary, have the standby take over, and return the address of the database
        there."""
        self.primary.kill()
        assert self.standby.run("postgres", "select pg_promote()").strip() == "t"
        return self.standby.url(self.name)


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """A primary and its synchronous standby."""
    # the standby needs seconds to follow again, and longer on a busy machine
    monkeypatch.setattr(_pool, "ANSWER_WITHIN_S", PATIENCE_S)
    primary = new_server()
    primary.start()
    standby = new_server(standby_of=primary)
    standby.start()
    url = primary.new_database()
    primary.run("postgres", "alter system set synchronous_standby_names = 'standby'")
    primary.run("postgres", "select pg_reload_conf()")
    _until(
        lambda: (
            primary.run("postgres", "select sync_state from pg_stat_replication").strip() == "sync"
        )
    )
    yield Pair(primary, standby, url.partition("@/")[2].partition("?")[0])
    primary.kill()
    standby.kill()


@asynccontextmanager
async def node_on(folder: Path, url: str) -> AsyncIterator[EmbeddedNode]:
    """Run a node without background work."""
    config = Config(
        store=Store(data=str(folder), url=url),
        http=Http(port=0, drain_s=0),
        limits=Limits(unauthenticated_per_minute=0),
    )
    async with held_node(config, clock=SystemClock()) as (node, _):
        yield node


class People:
    """An owner with a value, and two keys to which the owner may grant it."""

    def __init__(self) -> None:
        self.owner, self.former, self.new = new_key(), new_key(), new_key()
        value = f"tinycloud:{self.owner.did.removeprefix('did:')}:default/kv/a"
        self.reading: Grants = {value: [GET]}
        self.put = self._token(self.owner, self.owner.did, {value: [PUT]})
        self.grants = [
            self._token(self.owner, one.did, self.reading, ttl_s=3600)
            for one in (self.former, self.new)
        ]

    def _token(self, signer: Ed25519Signer, audience: str, grants: Grants, **more: object) -> str:
        return key_token(signer, audience, grants, **more)  # type: ignore[arg-type]  # by name

    def revocation(self) -> str:
        """Return a token by which the owner ends the first grant."""
        return self._token(
            self.owner, self.owner.did, {f"urn:cid:{id_of(self.grants[0])}": [REVOKE]}, ttl_s=3600
        )

    async def read(self, url: str, at: int) -> int:
        """Read the value under one of the grants."""
        signer = (self.former, self.new)[at]
        token = key_token(signer, signer.did, self.reading, proofs=[self.grants[at]])
        return (await send(url, "POST", "/invoke", token=token)).status


Act = Callable[[], Awaitable[object]]


def acts_on(node: EmbeddedNode, people: People, beside: AnyStore) -> dict[str, Act]:
    """Return the actions that a test repeats after a 503.

    Each raises StoreUnavailable where a node answers 503.
    """
    clock, entropy, revocation = SystemClock(), SystemEntropy(), people.revocation()
    keyring, store_id = node.services.keyring, node.services.store_id
    chain = Chain(node_did=keyring.node_did, store_id=store_id, sign=keyring.node_signer.sign)

    async def post(path: str, token: str) -> Reply:
        reply = await send(node.url, "POST", path, token=token)
        if reply.status == 503:
            raise StoreUnavailable(reply.text)
        assert reply.status == 200, reply.said
        return reply

    async def seal() -> None:
        while (await seal_batch(beside, chain, now=clock.now(), is_last=True)).more:
            pass

    return {
        "revoke": lambda: post("/revoke", revocation),
        "register": lambda: post("/delegate", people.grants[1]),
        "admit": lambda: change_admission(
            beside, ADMITTED, admits=True, now=clock.now(), entropy=entropy
        ),
        "remove": lambda: change_admission(
            beside, REMOVED, admits=False, now=clock.now(), entropy=entropy
        ),
        "seal": seal,
    }


async def started(
    pair: Pair, acts: dict[str, Act]
) -> tuple[dict[str, "asyncio.Task[object]"], set[str]]:
    """Start all actions, and return the running and the finished ones."""

    async def run(act: Act) -> object:
        return await act()

    tasks = {name: asyncio.create_task(run(act)) for name, act in acts.items()}
    async with asyncio.timeout(PATIENCE_S):
        while await asyncio.to_thread(pair.waiting) < sum(
            not task.done() for task in tasks.values()
        ):
            pass
    return tasks, {name for name, task in tasks.items() if task.done()}


async def survived(people: People, url: str, store: AnyStore, signed: int) -> set[str]:
    """Return which actions are in force at a node and in its store."""
    keys = (admission_key(ADMITTED), admission_key(REMOVED), AUDIT_CHAIN_KEY)
    admitted, removed, head = (await store.read(keys)).records
    return {
        *(["revoke"] if await people.read(url, 0) == 401 else []),
        *(["register"] if await people.read(url, 1) == 200 else []),
        *(["admit"] if is_admitted(admitted) else []),
        *([] if is_admitted(removed) else ["remove"]),
        *(["seal"] if head is not None and chain_head(head).signed_number == signed else []),
    }


@pytest.mark.parametrize(
    "names", [("revoke", "register", "admit", "remove"), ("seal",)], ids=["grants", "audit"]
)
async def test_ST16_a_repeat_is_acknowledged_when_the_standby_has_it(
    pair: Pair, tmp_path: Path, names: tuple[str, ...]
) -> None:
    """Every acknowledged change survives a 503, a restart, a repetition and a promotion (ST16)."""
    people, url = People(), pair.primary.url(pair.name)
    async with AsyncExitStack() as opened:
        node = await opened.enter_async_context(node_on(tmp_path, url))
        # with connections of its own, so that each act has one to wait with
        beside = open_postgres(url)
        opened.push_async_callback(beside.close)
        assert (await send(node.url, "POST", "/invoke", token=people.put, body=b"a")).status == 200
        assert (await send(node.url, "POST", "/delegate", token=people.grants[0])).status == 200
        assert await change_admission(
            beside, REMOVED, admits=True, now=time.time(), entropy=SystemEntropy()
        )
        acts = {name: act for name, act in acts_on(node, people, beside).items() if name in names}

        await asyncio.to_thread(pair.hold_back)
        tasks, ended = await started(pair, acts)
        assert not ended
        await asyncio.to_thread(pair.primary.kill)
        for outcome in await asyncio.gather(*tasks.values(), return_exceptions=True):
            assert isinstance(outcome, SpaceError), outcome  # 503
        await asyncio.to_thread(pair.primary.start)
        (head,) = (await beside.read((AUDIT_CHAIN_KEY,))).records
        signed = 0 if head is None else chain_head(head).signed_number
        # visible at the primary
        assert set(acts) <= await survived(people, node.url, beside, signed)

        tasks, acknowledged = await started(pair, acts)
        if not acknowledged:  # as it should be; else it is shown what is lost
            await asyncio.to_thread(pair.resume)
            await asyncio.gather(*tasks.values())
            acknowledged = set(acts)
        promoted = await asyncio.to_thread(pair.promote)
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        other = await opened.enter_async_context(node_on(tmp_path, promoted))
        assert acknowledged <= await survived(people, other.url, other.services.store, signed)


async def test_ST16_a_commit_that_is_sent_again_waits_too(pair: Pair, tmp_path: Path) -> None:
    """A commit whose session was ended is sent again, and acknowledged only after the standby has
    it (ST16)."""
    people = People()
    async with node_on(tmp_path, pair.primary.url(pair.name)) as node:
        await asyncio.to_thread(pair.hold_back)
        register = asyncio.create_task(send(node.url, "POST", "/delegate", token=people.grants[0]))
        async with asyncio.timeout(PATIENCE_S):
            while not await asyncio.to_thread(pair.waiting):
                assert not register.done()
        await asyncio.to_thread(pair.end_waiting)
        async with asyncio.timeout(PATIENCE_S):
            while not register.done() and not await asyncio.to_thread(pair.waiting):
                pass
        assert not register.done()
        await asyncio.to_thread(pair.resume)
        assert (await register).status == 200


async def take_number(store: AnyStore, key: bytes) -> None:
    """Write a row into the sequence."""
    put = Put(key, b"v", sequence=_SEQUENCE)
    assert isinstance(await store.commit(Commit(puts=(put,))), Committed)


async def state_of(store: AnyStore) -> SequenceState:
    """Return the state of the sequence."""
    return sequence_of(await read_row(store, _SEQUENCE))


async def test_CF8_a_standby_that_takes_over(pair: Pair) -> None:
    """A number that a reader saw before a failover, and that is used again after it, does not count
    as the same."""
    primary = open_postgres(pair.primary.url(pair.name))
    await take_number(primary, b"Ka")
    await take_number(primary, b"Kb")
    pair.hold_back()
    lost = asyncio.create_task(take_number(primary, b"Kc"))
    async with asyncio.timeout(PATIENCE_S):
        while not await asyncio.to_thread(pair.waiting):
            await asyncio.sleep(0.02)
    # Its wait for the standby ends, so readers of the primary see it.
    pair.primary.run("postgres", "alter system set synchronous_standby_names = ''")
    pair.primary.run("postgres", "select pg_reload_conf()")
    await lost
    seen = await state_of(primary)
    assert seen.number == 3
    await primary.close()
    standby = open_postgres(await asyncio.to_thread(pair.promote))
    assert not (await state_of(standby)).contains(3, seen.history)
    await take_number(standby, b"Kd")
    state = await state_of(standby)
    assert state.number == 3
    assert [state.contains(at, seen.history) for at in (2, 3)] == [True, False]
    assert state.contains(3, state.history)
    await standby.close()
