"""Backups of a node under load, and their comparison with the acknowledged writes.

Example:
    await back_up_many_times(tmp_path, rounds=20)
"""

import asyncio
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from durability.load import KEYS, Writer, new_session, side_by_side, state_of
from forked_programs import forked_program
from postgres_server import postgres_server
from running_node import RunningNode, running_node
from tests_support import CountingEntropy

from capabilities.resources import parse_space_id
from spaces.store.lmdb.engine import read_lmdb
from spaces.values.object_folder import ObjectFolder
from spaces.values.value_heads import head_key, head_of
from spaces.values.value_storage import Values

WRITERS = 16
Engine = Callable[[], tuple[str, ...]]
_WAIT_S = 120


def no_database() -> tuple[str, ...]:
    """Return the arguments for a store on LMDB."""
    return ()


def new_database() -> tuple[str, ...]:
    """Return the arguments for an empty database."""
    return ("--store", postgres_server().new_database())


def said(*arguments: str) -> dict[str, Any]:
    """Run a command that must succeed, and return its JSON document."""
    ended = subprocess.run(
        [forked_program("sealspace"), *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=_WAIT_S,
    )
    assert ended.returncode == 0, ended.stderr
    document: dict[str, Any] = json.loads(ended.stdout)
    return document


async def back_up_many_times(
    folder: Path, *, rounds: int, store: Engine = no_database, via: Engine | None = None
) -> int:
    """Back up a node under the load of 16 writers repeatedly, compare each backup, and return rows.

    Args:
        folder: for everything.
        rounds: how many backups.
        store: makes the arguments that name the node's database; none on LMDB.
        via: makes those of an engine that each backup is restored into, and backed up from, before
            it is compared.
    """
    rows, stored = 0, store()
    with running_node(folder / "node", *stored) as node:
        writers = [Writer(at) for at in range(WRITERS)]
        async with new_session() as session:
            ended, count = asyncio.Event(), Counting()
            load = asyncio.create_task(
                side_by_side(
                    [writer.run_until(session, node.url, ended, count.add) for writer in writers]
                )
            )
            try:
                taken = [
                    await _back_up_once(folder, node, stored, writers, count, at, load)
                    for at in range(rounds)
                ]
            finally:
                ended.set()
                await load
        for one in taken:
            rows += await _restored_rows(one, writers, via)
    assert said("admin", "check", "--data", str(folder / "node" / "data"), *stored)["damages"] == 0
    return rows


class Counting:
    """A counter of acknowledged writes, with a way to wait for more."""

    def __init__(self) -> None:
        self.count = 0
        self._more = asyncio.Event()

    def add(self) -> None:
        self.count += 1
        self._more.set()

    async def more(self, number: int) -> None:
        """Wait until the given number of further writes was acknowledged."""
        until = self.count + number
        while self.count < until:
            self._more.clear()
            await asyncio.wait_for(self._more.wait(), _WAIT_S)


@dataclass(frozen=True)
class Taken:
    """A backup.

    Attributes:
        file: of the backup.
        bodies: how many large values it has.
        least: numbers of the writes acknowledged before it, by writer and key.
        most: those of the writes sent until it was complete.
    """

    file: Path
    bodies: int
    least: list[list[int]]
    most: list[list[int]]


async def _back_up_once(
    folder: Path,
    node: RunningNode,
    stored: tuple[str, ...],
    writers: list[Writer],
    count: Counting,
    at: int,
    load: "asyncio.Task[None]",
) -> Taken:
    file = folder / f"{at}.backup"
    await count.more(4 * WRITERS)
    acknowledged = [list(writer.acknowledged) for writer in writers]
    before = count.count
    taken = await asyncio.to_thread(
        said, "admin", "backup", str(file), "--data", str(node.folder / "data"), *stored
    )
    asked = [list(writer.asked) for writer in writers]
    assert not load.done()
    assert count.count > before  # the node went on
    assert taken["leftOut"] == []
    return Taken(file, taken["bodies"], acknowledged, asked)


async def _restored_rows(taken: Taken, writers: list[Writer], via: Engine | None) -> int:
    file, restored = taken.file, taken.file.with_suffix(".restored")
    if via is not None:
        there = ("--data", str(file.with_suffix(".there")), *via())
        await asyncio.to_thread(said, "admin", "restore", str(file), *there)
        checked = await asyncio.to_thread(said, "admin", "check", *there)
        assert checked["damages"] == 0, checked
        assert checked["bodies"] == taken.bodies
        file = file.with_suffix(".again")
        await asyncio.to_thread(said, "admin", "backup", str(file), *there)
    await asyncio.to_thread(said, "admin", "restore", str(file), "--data", str(restored))
    checked = await asyncio.to_thread(said, "admin", "check", "--data", str(restored))
    assert checked["damages"] == 0, checked
    assert checked["bodies"] == taken.bodies
    for writer, least, most in zip(writers, taken.least, taken.most, strict=True):
        await compare(restored, writer, least, most)
    return int(checked["rows"])


async def compare(folder: Path, writer: Writer, least: list[int], most: list[int]) -> None:
    """Compare a writer's keys in a restored store with the writes between two numbers."""
    store = read_lmdb(folder)
    try:
        values = Values(store, ObjectFolder(folder / "blobs"), CountingEntropy())
        space = parse_space_id(writer.space)
        for at in range(KEYS):
            key = head_key(space, f"key-{at}")
            head = head_of((await store.read((key,))).records[0], key=key)
            found = None if head is None else await values.read_body(head)
            allowed = [
                state_of(writer.resource(at), number) for number in range(least[at], most[at] + 1)
            ]
            assert found in allowed, (
                writer.resource(at),
                found and found[:100],
                least[at],
                most[at],
            )
    finally:
        await store.close()
