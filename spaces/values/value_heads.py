"""Rows of values.

Each value has a row, which is called its head. The contents of a value are called its body. A small
body is part of the row, a large one is stored in a separate file. The ETag is
`"blake3-<64 lower hex>"` of the body alone (M1). A delete leaves a tombstone: a second delete finds
it, and a path that was never written has no row at all (M31).

A former value that is kept is called a version (ST19). Its row is the head that was replaced, under
the path, a number and the time of the replacement.
"""

from collections.abc import Mapping
from email.utils import formatdate

from msgspec.structs import replace

from capabilities.frozen_struct import AcyclicStruct
from capabilities.resources import SpaceId

from .._codec import Codec
from ..keyspace import SPACE16_IN_KEY, space_id16, space_keys, value_key, versions_prefix
from ..store.contract import Packed, Page, Range, Record
from .metadata import HEADER_TEXT, row_bytes
from .object_records import ObjectName

MOST_VERSIONS = 128
"""Versions of one path in one read; the setting allows 100."""
VERSION_SUFFIX_BYTES = 12
"""The number and the time of replacement at the end of a version's key, after `versions_prefix`."""
_NUMBER_IN_KEY = slice(-12, -8)
REPLACED_IN_KEY = slice(-8, None)
"""The time of replacement in the key of a version, as `micros8` encoded it."""


class Head(AcyclicStruct):
    """The decoded database row of a value."""

    stamp: bytes
    etag: str
    metadata: Mapping[str, str]
    size_bytes: int
    body: bytes | None
    path: str
    object_name: ObjectName | None
    sealed_key: bytes | None
    stored_at: int | None  # epoch seconds; None: stored by an earlier version
    version: int
    stored_by: str | None = None  # DID; None: stored by an earlier version
    replaced_at: int = 0  # microseconds since the epoch; 0: the current value

    @property
    def etag_header(self) -> str:
        """The value's ETag, formatted for the HTTP header."""
        return f'"blake3-{self.etag}"'

    @property
    def last_modified(self) -> dict[str, str]:
        """The HTTP header with the time when the value was stored, or no header."""
        if self.stored_at is None:
            return {}
        return {"last-modified": formatdate(self.stored_at, usegmt=True)}

    @property
    def version_bytes(self) -> int:
        """The size of the value as a version (ST20)."""
        return self.size_bytes + row_bytes(self.path, self.metadata)


class _HeadRow(Packed):
    digest: bytes
    size_bytes: int
    metadata: dict[str, bytes]
    path: str
    body: bytes | None
    generation: bytes | None
    sealed_key: bytes | None = None
    stored_at: int | None = None
    version: int = 1
    stored_by: str | None = None


_CODEC = Codec(_HeadRow)


def head_key(space: SpaceId, path: str) -> bytes:
    """Return the key of the row that describes a value."""
    return value_key(space_keys(space).space16, path)


def head_of(record: Record | None, *, key: bytes) -> Head | None:
    """Decode a value's row, or return None if the value was deleted (M31).

    None is also returned for a path that was never written.

    Args:
        record: the row of the value.
        key: the key of the row.
    Raises:
        RecordDamaged: the row does not decode.
    """
    row = _CODEC.read(record)
    if row is None or record is None:
        return None
    object_name = None
    if row.generation is not None:
        object_name = ObjectName(
            space16=key[SPACE16_IN_KEY], digest=row.digest, generation=row.generation
        )
    return Head(
        stamp=record.stamp,
        etag=row.digest.hex(),
        metadata={name: value.decode(*HEADER_TEXT) for name, value in row.metadata.items()},
        size_bytes=row.size_bytes,
        body=row.body,
        path=row.path,
        object_name=object_name,
        sealed_key=row.sealed_key,
        stored_at=row.stored_at,
        version=row.version,
        stored_by=row.stored_by,
    )


def encode_head(
    *,
    path: str,
    digest: bytes,
    size_bytes: int,
    metadata: Mapping[str, str],
    body: bytes | None,
    generation: bytes | None,
    sealed_key: bytes | None,
    stored_at: int,
    version: int,
    stored_by: str | None,
) -> bytes:
    """Encode the row of a value.

    A value has either a small `body` or the `generation` of the file with its large body.
    `stored_by` is the DID of who stored it (M62).
    """
    row = _HeadRow(
        digest=digest,
        size_bytes=size_bytes,
        metadata={name: value.encode(*HEADER_TEXT) for name, value in metadata.items()},
        path=path,
        body=body,
        generation=generation,
        sealed_key=sealed_key,
        stored_at=stored_at,
        version=version,
        stored_by=stored_by,
    )
    return _CODEC.encode(row)


def versions_range(space: SpaceId, path: str) -> Range:
    """Return the range of the versions of a path."""
    return Range(versions_prefix(space_id16(space), path), limit=MOST_VERSIONS)


def versions_in(page: Page) -> dict[bytes, Head]:
    """Decode the versions of a path by their keys, the oldest first."""
    versions = {}
    for key, record in page.rows:
        head = head_of(record, key=key)
        if head is not None:
            replaced_at = int.from_bytes(key[REPLACED_IN_KEY], "big")
            versions[key] = replace(head, version=version_number(key), replaced_at=replaced_at)
    return versions


def version_number(key: bytes) -> int:
    """Return the number of a version by the key of its row."""
    return int.from_bytes(key[_NUMBER_IN_KEY], "big")


def version_key(prefix: bytes, number: int, replaced8: bytes) -> bytes:
    """Return the key of the row of a version.

    `prefix` is `versions_prefix` of the path, and `replaced8` is `micros8` of the replacement.
    """
    return prefix + number.to_bytes(4, "big") + replaced8
