"""A store as schema 1 had it: long paths by their digests, rows and delegations charged to nobody.

Run as a program it brings such a store up and kills itself after some commits:

    python former_store.py URL-OR-FOLDER COMMITS
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from blake3 import blake3
from msgspec.structs import replace
from value_bench import Bench, Write

from capabilities.chain import Registered
from capabilities.resources import SpaceId
from spaces.grants.delegations import accounts_above, registration_puts
from spaces.grants.retention import kept_add, kept_key
from spaces.keyspace import SCHEMA_KEY, space_keys
from spaces.migrations import bring_up
from spaces.store.contract import Claim, Commit, Committed, Follow, Put, Range, Refused, Snapshot, Store


def former_key(space: SpaceId, path: str) -> bytes:
    """Where schema 1 had the head of a value."""
    raw = path.encode()
    key = b"K" + space_keys(space).space16 + raw[:400]
    return key if len(raw) <= 400 else key + b"\xff" + blake3(raw).digest()


async def write_formerly(bench: Bench, space: SpaceId, write: Write) -> None:
    """Put a value that was not there, as schema 1 did: beyond 1024 bytes its name was weighed with the body."""
    planned = await bench.plan(Write("stand-in", write.body, write.metadata), space=space)
    head, *others = planned.plan.puts
    row = msgspec.msgpack.decode(head.value or b"")
    row[row.index("stand-in")] = write.path
    name_bytes = len(write.path.encode()) + sum(len(name) + len(value) for name, value in write.metadata.items())
    former = replace(
        head,
        key=former_key(space, write.path),
        value=msgspec.msgpack.encode(row),
        weight_bytes=head.weight_bytes + max(name_bytes - 1024, 0),
    )
    await bench.store.commit(Commit(puts=(former, *others), checks=planned.plan.checks))


async def register_formerly(store: Store, granted: Registered, *, now: float) -> None:
    """Register a delegation as schema 1 did."""
    signer = granted.delegation.delegator
    puts = registration_puts(granted, now=now, accounts=accounts_above(granted.delegation, ()))
    bare = tuple(replace(put, weight_bytes=0, account=None) for put in puts)
    await store.commit(Commit(puts=bare, adds=(kept_add(kept_key(signer), limit=None),)))


async def say_schema_1(store: Store) -> None:
    """Record the schema of before."""
    await store.commit(Commit(puts=(Put(SCHEMA_KEY, (1).to_bytes(4, "big")),)))


class Interrupted(Exception):
    """What a store raises that does not answer any more."""


class FailingStore:
    """A store that stops with a commit: before it, or after it has happened."""

    def __init__(self, store: Store, *, commits: int, after: bool = False) -> None:
        self._store = store
        self._left = commits
        self._after = after
        self.committed = 0

    async def read(
        self,
        keys: Sequence[bytes] = (),
        *,
        claim: Claim | None = None,
        ranges: Sequence[Range] = (),
        follow: Follow | None = None,
    ) -> Snapshot:
        return await self._store.read(keys, claim=claim, ranges=ranges, follow=follow)

    async def commit(self, commit: Commit) -> Committed | Refused:
        if not self._left and not self._after:
            self.stop()
        outcome = await self._store.commit(commit)
        self.committed += 1
        if not self._left:
            self.stop()
        self._left -= 1
        return outcome

    def stop(self) -> None:
        """End here."""
        raise Interrupted

    async def close(self) -> None:
        await self._store.close()


class _KillingStore(FailingStore):
    def stop(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


async def _bring_up_and_die(place: str, commits: int) -> None:
    if "://" in place:
        from spaces.store.postgres.engine import open_postgres

        store = open_postgres(place)
    else:
        from spaces.store.lmdb.engine import open_lmdb

        store = open_lmdb(Path(place))
    await bring_up(_KillingStore(store, commits=commits))


if __name__ == "__main__":
    asyncio.run(_bring_up_and_die(sys.argv[1], int(sys.argv[2])))
