"""Writes of values, and the parts of a commit that carries them out."""

from collections.abc import Mapping, Sequence

from capabilities.frozen_struct import AcyclicStruct, FrozenStruct

from ..keyspace import value_key
from ..space_errors import CommitInvalid
from ..store.contract import MAX_COMMIT_BYTES, Add, Check, Put, Record
from .value_bodies import Body
from .value_heads import Head, head_of

NO_LIMIT = 1 << 62


class Write(FrozenStruct):
    """A value to be written or deleted.

    The value is deleted if `body` is None.
    """

    path: str
    body: Body | None
    metadata: Mapping[str, str] = {}  # msgspec copies the default for each instance
    sealed_key: bytes | None = None


class Replacement(FrozenStruct):
    """A write, and the row that it replaces.

    Attributes:
        write: the value to be written or deleted.
        key: the key of its row.
        record: the stored row; None if the path was never written.
        old: the live value in that row, or None.
    """

    write: Write
    key: bytes
    record: Record | None
    old: Head | None


def replacements_of(
    space16: bytes,
    writes: Sequence[Write],
    current: Sequence[Record | None],
    replaced: Sequence[Head | None] | None,
) -> list[Replacement]:
    """Match writes with the rows that they replace.

    Args:
        space16: the hash of the space of the values.
        writes: each path once.
        current: the stored rows of these paths.
        replaced: the decoded heads in these rows, if the caller has already decoded them.
    Raises:
        CommitInvalid: a path appears twice.
        RecordDamaged: a row does not decode.
    """
    keys = [value_key(space16, write.path) for write in writes]
    if len(set(keys)) != len(writes):
        raise CommitInvalid("a path is written twice in one commit")
    if replaced is None:
        replaced = [head_of(record, key=key) for record, key in zip(current, keys, strict=True)]
    return [
        Replacement(write=write, key=key, record=record, old=old)
        for write, key, record, old in zip(writes, keys, current, replaced, strict=True)
    ]


class WritePlan(AcyclicStruct):
    """The writes and conditions that make up a commit."""

    puts: tuple[Put, ...] = ()
    checks: tuple[Check, ...] = ()
    adds: tuple[Add, ...] = ()


class VersionRoom(AcyclicStruct):
    """The limits on the versions that a commit keeps (ST20).

    Attributes:
        limit_bytes: the limit of the space.
        used_bytes: total size of the values in the space.
        kept_bytes: total size of the versions in the space.
        commit_bytes: the bytes of the commit that the draft may use.
    """

    limit_bytes: int = NO_LIMIT
    used_bytes: int = 0
    kept_bytes: int = 0
    commit_bytes: int = MAX_COMMIT_BYTES
