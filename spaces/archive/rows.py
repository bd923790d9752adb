"""Whether a row is one of its kind (it decodes, lies under its own key, has its digests), and what it counts.

A row books amounts to accounts, which are keys of counters or objects: a value what its row takes, a weighed row its
weight, a head one reference to its body; a counter books its own value, negative. An account is right when all bookings
of a store add up to zero.

Opaque here are networks, evidence, receipts and collateral, which belong to a layer above; `check_store` takes readers
of them. The signatures of delegations and of the audit chain are not verified again. The counters of new owners by hour
and address are not compared: the rows they counted are gone.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from blake3 import blake3

from capabilities.resources import SpaceId

from ..audit.records import parse_audit_row
from ..documents.collateral import state_of
from ..documents.receipts import decode_basis
from ..errors import RecordDamaged
from ..grants.admissions import admission_key, admission_of
from ..grants.hosting import space_of
from ..keyspace import (
    BODIES_COUNTER,
    TOTAL_SPACES_COUNTER,
    WITHDRAWALS_KEY,
    micros8,
    object_key,
    owned_space_key,
    owner_counter,
    rows_counter,
    says_that_paths_go_on,
    space_id16,
    space_key,
    value_key,
    x16,
)
from ..store.contract import Record, counter_of
from ..store.lmdb.snapshots import ParsedRow
from ..values.object_records import ObjectRecord, object_record_of, parse_object_work
from ..values.quota import override_of
from ..values.tickets import ticket_of
from ..values.value_heads import head_of, row_bytes
from .pairs import (
    Booking,
    Get,
    check_entry,
    check_head,
    check_mark,
    check_named,
    delegation_bookings,
    index_bookings,
    require,
)

_Kind = Callable[[bytes, Record, int, Get], Iterable[Booking] | None]


def bookings(key: bytes, row: ParsedRow, get: Get) -> Iterator[Booking]:
    """Check a row, and yield what it books; what it is charged with comes before anything that may be damaged.

    Args:
        key: of the row.
        row: a tombstone is one of any kind.
        get: reads another row of the same moment.

    Raises:
        RecordDamaged: it is not one of its kind.
    """
    record, account, weight_bytes = row
    if record.value is None:
        return
    if account:
        yield account, weight_bytes
    kind = _KINDS.get(key[:1])
    if kind is None:
        raise RecordDamaged("there is no such kind of row")
    yield from kind(key, record, weight_bytes, get) or ()


def _value(key: bytes, record: Record, weight_bytes: int, get: Get) -> Iterator[Booking]:
    head = None if says_that_paths_go_on(key) else head_of(record, key=key)
    if head is None:
        require(record.value == b"", "a row that says that paths go on has a value")
        return
    require(value_key(key[1:17], head.path) == key, "a value lies under another path than its own")
    yield rows_counter(key[1:17]), row_bytes(head.path, head.metadata)
    if head.object_name is not None:
        yield object_key(head.object_name.space16, head.object_name.digest) + head.object_name.generation, 1
    if head.body is not None:
        require(blake3(head.body).hexdigest() == head.etag, "a value does not have its digest")
        require(len(head.body) == head.size_bytes, "a value does not have its size")


def _object(key: bytes, record: Record, weight_bytes: int, get: Get) -> Iterator[Booking]:
    found = object_record_of(record)
    if found is not None:
        yield key + found.generation, -found.references
        yield BODIES_COUNTER, weight_bytes  # none where nothing refers to it: then its due work has the size


def _due_work(key: bytes, record: Record, weight_bytes: int, get: Get) -> Iterator[Booking]:
    """Book a file that no head refers to until it is unlinked; one whose record is to be deleted only once."""
    work = parse_object_work(record.value or b"")
    if work.unlink or object_record_of(get(object_key(work.space16, work.digest))) == ObjectRecord(work.generation, 0):
        yield BODIES_COUNTER, work.size_bytes


def _space(key: bytes, record: Record, weight_bytes: int, get: Get) -> Iterator[Booking]:
    yield (TOTAL_SPACES_COUNTER if key[:1] == b"S" else owner_counter(key[1:17])), 1
    hosted = space_of(record)
    require(
        hosted is not None and key == _space_key(key[:1], hosted.space), "a space lies under another key than its own"
    )


def _space_key(kind: bytes, space: SpaceId) -> bytes:
    space16 = space_id16(space)
    return space_key(space16) if kind == b"S" else owned_space_key(x16(space.owner), space16)


def _counter(key: bytes, record: Record, weight_bytes: int, get: Get) -> Iterator[Booking]:
    value = counter_of(record)
    if key[:2] != b"ch":
        yield key, -value


def _document(key: bytes, record: Record, weight_bytes: int, get: Get) -> None:
    require(hashlib.sha256(record.value or b"").digest() == key[1:], "a document does not have its digest")


def _network(key: bytes, record: Record, weight_bytes: int, get: Get) -> None:
    """Check that what a node wrote at its first start, and asks before each release, is still there."""
    require(len(key) == 17 and get(WITHDRAWALS_KEY) is not None, "there are networks, and no row of withdrawals")


def _admission(key: bytes, record: Record, weight_bytes: int, get: Get) -> None:
    require(key == admission_key(admission_of(record).owner), "an admission lies under another key than its own")


def _audit_record(key: bytes, record: Record, weight_bytes: int, get: Get) -> None:
    is_own = key[1:9] == micros8(parse_audit_row(record.value or b"").at) and len(key) == 25
    require(is_own, "an audit record lies under another time than its own")


def _of_lengths(key_bytes: int, value_bytes: int) -> _Kind:
    """Make a kind of rows of which only the lengths are known."""
    text, lengths = "a row does not have the lengths of its kind", (key_bytes, value_bytes)
    return lambda key, record, *_: require((len(key), len(record.value or b"")) == lengths, text)


def _decoded(decode: Callable[[Record], object]) -> _Kind:
    """Make a kind of rows that only have to decode."""

    def kind(key: bytes, record: Record, weight_bytes: int, get: Get) -> None:
        decode(record)

    return kind


# By the first byte of the key, as `keyspace` has them.
_KINDS: Final[Mapping[bytes, _Kind]] = {
    b"K": _value,
    b"k": _value,
    b"B": _object,
    b"Q": _due_work,
    b"G": delegation_bookings,
    b"S": _space,
    b"s": _space,
    b"c": _counter,
    b"D": _document,
    b"j": check_entry,
    b"y": check_head,
    **dict.fromkeys((b"I", b"P", b"M", b"X", b"E", b"t"), index_bookings),
    b"L": check_mark,
    b"m": check_named,
    b"N": _network,
    b"o": _admission,
    b"C": _of_lengths(21, 0),
    b"d": _of_lengths(37, 0),
    b"J": _audit_record,
    b"a": _decoded(lambda record: decode_basis(record.value or b"")),
    b"v": _decoded(state_of),
    b"T": _decoded(ticket_of),
    b"O": _decoded(override_of),
    **dict.fromkeys((b"A", b"R", b"V"), lambda *_: None),
}
