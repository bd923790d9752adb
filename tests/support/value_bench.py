"""A store with values for tests of operations, and bodies that arrive in pieces."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3
from space_grants import NOW, OWNER
from tests_support import CountingEntropy

from capabilities.principals import Principal
from capabilities.resources import SpaceId
from spaces.keyspace import object_key, space_keys, x16
from spaces.store.contract import Add, Commit, Committed, Refused, Store, counter_of
from spaces.values.collector import collect
from spaces.values.drafts import Draft
from spaces.values.object_folder import ObjectFolder
from spaces.values.object_records import object_record_of
from spaces.values.value_bodies import Body, Staging
from spaces.values.value_heads import Head, head_key, head_of
from spaces.values.value_storage import Values
from spaces.values.value_writes import Write as ValueWrite
from spaces.values.value_writes import WritePlan

SPACE = SpaceId(Principal(OWNER.did), "default")
OTHER = SpaceId(Principal(OWNER.did), "other")
LARGE = bytes(range(256)) * 300
SMALL = b"small"


@dataclass(frozen=True)
class Write:
    """A write with its whole body; None deletes."""

    path: str
    body: bytes | None
    metadata: Mapping[str, str] = field(default_factory=dict)


async def in_pieces(body: bytes, size_bytes: int = 50_000) -> AsyncIterator[bytes]:
    for first in range(0, len(body), size_bytes):
        yield body[first : first + size_bytes]


@dataclass(frozen=True)
class DraftedPlan:
    """A plan and its inputs."""

    plan: WritePlan
    draft: Draft
    bodies: tuple[Body | None, ...]


class Bench:
    """A store with values for tests of operations."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self.entropy = CountingEntropy(b"values")
        self.files = ObjectFolder(folder)
        self.values = Values(store, self.files, self.entropy)

    async def plan(
        self, *writes: Write, space: SpaceId = SPACE, staging: Staging | None = None
    ) -> DraftedPlan:
        """Plan writes. Their staged bodies are kept unless a staging area is given."""
        staging = staging or self.values.staging()
        bodies = [
            None if write.body is None else await staging.receive(in_pieces(write.body))
            for write in writes
        ]
        made = [
            ValueWrite(write.path, body, write.metadata)
            for write, body in zip(writes, bodies, strict=True)
        ]
        records = (await self.store.read([head_key(space, write.path) for write in writes])).records
        draft = await self.values.draft(space, made, records)
        return DraftedPlan(await draft.finalize(now=NOW), draft, tuple(bodies))

    async def commit(self, planned: DraftedPlan, *adds: Add) -> Committed | Refused:
        return await self.store.commit(
            Commit(
                puts=planned.plan.puts, checks=planned.plan.checks, adds=(*planned.plan.adds, *adds)
            )
        )

    async def write(self, *writes: Write, space: SpaceId = SPACE) -> DraftedPlan:
        before, rows_before = await self.usage(space), await self.rows(space)
        async with self.values.staging() as staging:
            planned = await self.plan(*writes, space=space, staging=staging)
            assert isinstance(await self.commit(planned), Committed)
        assert before + planned.draft.growth_bytes == await self.usage(space)
        assert rows_before + planned.draft.row_growth_bytes == await self.rows(space)
        return planned

    async def head(self, path: str, space: SpaceId = SPACE) -> Head | None:
        key = head_key(space, path)
        return head_of((await self.store.read((key,))).records[0], key=key)

    async def body(self, path: str, space: SpaceId = SPACE) -> bytes | None:
        head = await self.head(path, space)
        return None if head is None else await self.values.read_body(head)

    async def usage(self, space: SpaceId = SPACE) -> int:
        return counter_of((await self.store.read((space_keys(space).usage,))).records[0])

    async def rows(self, space: SpaceId = SPACE) -> int:
        return counter_of((await self.store.read((space_keys(space).rows,))).records[0])

    async def references(self, body: bytes, space: SpaceId = SPACE) -> int | None:
        record = (
            await self.store.read((object_key(x16(space.text), blake3(body).digest()),))
        ).records[0]
        found = object_record_of(record)
        return None if found is None else found.references

    def names(self) -> list[Path]:
        return [place for place in self.folder.glob("*/*") if place.is_file()]

    async def collect(self, now: float) -> None:
        while await collect(self.store, self.files, now=now, entropy=self.entropy):
            pass
