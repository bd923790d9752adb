"""Checks of single rows.

A row is right if it decodes, is stored under its own key, and matches its digests. A value books
the size of its row, and one reference to its body. A row that is charged to a counter books the
charged bytes. A counter books its own value, negated. The counters of new owners by hour and
address are not compared, because the rows that they counted are gone.

Networks, evidence, receipts and collateral belong to a layer above and are opaque here.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping

from blake3 import blake3

from capabilities.capability_errors import InvalidIdentifier
from capabilities.resources import parse_space_id

from ..audit.pruning import pruning_of
from ..documents.collateral_rows import state_of
from ..documents.fetch_rows import fetch_of, fetch_row_key
from ..documents.receipt_rows import evidence_inputs_of
from ..grants.admissions import admission_key, admission_of
from ..grants.hosting import space_of
from ..grants.successions import succession_key, succession_of
from ..identity import identity_of
from ..keyspace import (
    ALIASES_PREFIX,
    AUDIT_CHAIN_KEY,
    AUDIT_PRUNING_KEY,
    BODIES_COUNTER,
    BODIES_PLACE_KEY,
    CANARY_KEY,
    DATABASES_PREFIX,
    DELETED_PREFIX,
    FEED_START_PREFIX,
    FETCHES_PREFIX,
    HOSTING_MODE_KEY,
    IDENTITY_KEY,
    KEY_PLACES_PREFIX,
    LEASE_KEY,
    LONG_DELETED_PREFIX,
    OBJECTS_PREFIX,
    ORPHAN_SWEEP_KEY,
    RELEASE_RECORD_KEY,
    REPLAY_FLOOR_KEY,
    RESTORED_KEY,
    ROOT_SECRET_KEY,
    SCHEMA_KEY,
    SCHEMA_VERSION,
    SEQUENCES_PREFIX,
    SPACE16_IN_KEY,
    SPACES_PREFIX,
    SUCCESSIONS_PREFIX,
    TOTAL_SPACES_COUNTER,
    UPGRADABLE_SCHEMAS,
    VALUE_PREFIX_BYTES,
    VERSIONS_PREFIX,
    WITHDRAWALS_KEY,
    deleted_key,
    is_index_row,
    object_key,
    owned_space_key,
    owner_counter,
    rows_counter,
    space_id16,
    space_key,
    value_key,
    versions_prefix,
    walk_key,
    x16,
)
from ..lease import check_lease
from ..root_secret_row import check_root_secret_row
from ..space_errors import RecordDamaged
from ..sql.database_rows import DATABASE_ROWS
from ..store.contract import Record, counter_of, has_value
from ..store.lmdb.snapshots import ParsedRow
from ..store.sequences import NUMBER_BYTES, number_of, sequence_of
from ..values.deleted_paths import deleted_path_of
from ..values.key_places import key_places_of
from ..values.metadata import row_bytes
from ..values.object_records import ObjectName, ObjectRecord, object_record_of, object_work_of
from ..values.quota import override_of
from ..values.tickets import ticket_of
from ..values.value_heads import VERSION_SUFFIX_BYTES, Head, head_of
from .accounting import AccountingEntry, GetRow, RowCheck, require
from .audit_checks import check_chain, check_entry, check_head, check_queued
from .delegation_checks import INDEXES, check_marker, delegation_entries, index_entries

_PRESENT_SCHEMA = SCHEMA_VERSION.to_bytes(4, "big")
_SETTINGS_PREFIX = b"m"
_NEWCOMERS_PREFIX = b"ch"
_NETWORK_KEY_BYTES = 1 + 16
_KEY_PLACES_KEY_BYTES = 1 + 16 + 32
_VALUE_PREFIXES = (b"K", b"k")


def accounting_entries(key: bytes, row: ParsedRow, get_row: GetRow) -> Iterator[AccountingEntry]:
    """Check one row, and yield the amounts that it adds to counters.

    Raises RecordDamaged if the row is damaged. The bytes that the row is charged for are yielded
    before that, so that the balance of its account does not differ as well.
    """
    if row.record.value is None:  # a tombstone
        return
    if row.account:
        yield row.account, row.weight_bytes
    check_row = _check_for(key)
    if check_row is None:
        raise RecordDamaged("the row type is unknown")
    entries = check_row(key, row.record, get_row)
    if entries is not None:
        yield from entries
    if key[:1] == OBJECTS_PREFIX:
        # An object without references is charged 0 bytes. The row of its pending deletion books its
        # size (`_check_pending_deletion`).
        yield BODIES_COUNTER, row.weight_bytes


def _check_for(key: bytes) -> RowCheck | None:
    """Return the check for a row, or None if its type is unknown."""
    if key.startswith(walk_key("")):  # the position of a scan, under the prefix of settings
        return _accept_any
    if key[:1] == _SETTINGS_PREFIX:  # the rows of settings are known by their whole key
        return _CHECKS.get(key)
    return _CHECKS.get(key[:1])


def _check_value(key: bytes, record: Record, get_row: GetRow) -> Iterator[AccountingEntry]:
    """Check the row of a value, or an index row of long paths."""
    if is_index_row(key):
        require(record.value == b"", "an index row of long paths has a value")
        return
    head = head_of(record, key=key)
    if head is None:
        return
    space16 = key[SPACE16_IN_KEY]
    require(value_key(space16, head.path) == key, "a value is stored under the wrong path")
    yield rows_counter(space16), row_bytes(head.path, head.metadata)
    if head.object_name is not None:
        yield _references_account(head.object_name), 1
    _check_inline_body(head)
    _check_position(key, record, get_row)


def _check_position(key: bytes, record: Record, get_row: GetRow) -> None:
    """Check that the position of a row has a used number of its space's sequence (CF3).

    A store that an earlier version wrote has no numbers before its upgrade (ST25).
    """
    schema = get_row(SCHEMA_KEY)
    if schema is None or schema.value != _PRESENT_SCHEMA:
        return
    sequence = SEQUENCES_PREFIX + key[SPACE16_IN_KEY]
    error_text = "a row has no number of the changes in its space"
    require(record.position[:-NUMBER_BYTES] == sequence, error_text)
    last_number = sequence_of(get_row(sequence)).number
    require(1 <= number_of(record.position) <= last_number, error_text)


def _check_deleted_path(key: bytes, record: Record, get_row: GetRow) -> None:
    """Check the row of a deleted path."""
    path = deleted_path_of(record).path
    former_key = value_key(key[SPACE16_IN_KEY], path)
    require(deleted_key(former_key) == key, "a deleted path is stored under the wrong key")
    require(not has_value(get_row(former_key)), "a deleted path has a value")
    _check_position(key, record, get_row)


def _check_version(key: bytes, record: Record, get_row: GetRow) -> Iterator[AccountingEntry]:
    """Check the row of a former value.

    Unlike `_check_value`, this does not look for index rows: the key ends with a time, whose last
    byte can be the one that marks index rows.
    """
    head = head_of(record, key=key)
    if head is None:
        return
    require(
        versions_prefix(key[SPACE16_IN_KEY], head.path) == key[:-VERSION_SUFFIX_BYTES],
        "a version is stored under the wrong path",
    )
    if head.object_name is not None:
        account = _references_account(head.object_name)
        yield account, 1
        yield account + VERSIONS_PREFIX, 1
    _check_inline_body(head)


def _references_account(name: ObjectName) -> bytes:
    """Return the account for the references to a large value."""
    return object_key(name.space16, name.digest) + name.generation


def _check_inline_body(head: Head) -> None:
    """Check a value that its row contains."""
    if head.body is not None:
        require(blake3(head.body).hexdigest() == head.etag, "a value does not match its digest")
        require(len(head.body) == head.size_bytes, "a value does not have the recorded size")


def _check_object(key: bytes, record: Record, get_row: GetRow) -> Iterator[AccountingEntry]:
    """Check the row of a large value, and yield the references that it counts, negated.

    Each value and version that refers to it books one.
    """
    object_record = object_record_of(record)
    if object_record is not None:
        yield key + object_record.generation, -object_record.references
        yield key + object_record.generation + VERSIONS_PREFIX, -object_record.kept


def _check_pending_deletion(
    key: bytes, record: Record, get_row: GetRow
) -> Iterator[AccountingEntry]:
    """Check the row of a pending deletion, and yield the size that it adds to a counter.

    A file counts towards the total size of large values until it is deleted. A deletion in two
    steps first deletes the record of the file. It counts only while that record exists without
    references. Afterwards there is another row, for the deletion of the file.
    """
    work = object_work_of(record)
    if work.unlink:
        yield BODIES_COUNTER, work.size_bytes
        return
    object_record = object_record_of(get_row(object_key(work.space16, work.digest)))
    if object_record == ObjectRecord(work.generation, references=0):
        yield BODIES_COUNTER, work.size_bytes


def _check_space(key: bytes, record: Record, get_row: GetRow) -> Iterator[AccountingEntry]:
    """Check one of the two rows of a hosted space: its own, or the one in its owner's list."""
    if key[:1] == SPACES_PREFIX:
        yield TOTAL_SPACES_COUNTER, 1
    else:
        owner16 = key[1:17]
        yield owner_counter(owner16), 1
    hosted = space_of(record)
    possible_keys: tuple[bytes, ...] = ()
    if hosted is not None:
        space16 = space_id16(hosted.space)
        possible_keys = (space_key(space16), owned_space_key(x16(hosted.space.owner), space16))
    require(key in possible_keys, "a space is stored under the wrong key")


def _check_counter(key: bytes, record: Record, get_row: GetRow) -> Iterator[AccountingEntry]:
    """Check the row of a counter, and yield its value, negated."""
    value = counter_of(record)
    if key[:2] != _NEWCOMERS_PREFIX:  # what those counted is gone
        yield key, -value


def _check_refused_minutes(key: bytes, record: Record, get_row: GetRow) -> None:
    """Check the list of the expiry minutes whose tokens are refused.

    It has one minute of 4 bytes, and then two for each further span. The list is described in
    `store.lmdb._refused_minutes`.
    """
    value = record.value or b""
    minutes = [value[offset : offset + 4] for offset in range(0, len(value), 4)]
    has_whole_spans = len(value) % 8 == 4
    require(
        has_whole_spans and minutes == sorted(minutes),
        "the closed minutes of replay records are not in order",
    )


def _check_text(key: bytes, record: Record, get_row: GetRow) -> None:
    try:
        text = (record.value or b"").decode()
    except UnicodeDecodeError as exc:
        raise RecordDamaged("a row is not valid text") from exc
    require(text != "", "a row is empty")


def _check_schema(key: bytes, record: Record, get_row: GetRow) -> None:
    earlier = [version.to_bytes(4, "big") for version in UPGRADABLE_SCHEMAS]
    require(record.value in (_PRESENT_SCHEMA, *earlier), "the schema version is unknown")


def _check_database(key: bytes, record: Record, get_row: GetRow) -> None:
    path = DATABASE_ROWS.of(record).path
    require(key[VALUE_PREFIX_BYTES:] == x16(path), "a database is stored under the wrong path")


def _check_document(key: bytes, record: Record, get_row: GetRow) -> None:
    digest = hashlib.sha256(record.value or b"").digest()
    require(digest == key[1:], "a document does not match its digest")


def _check_network(key: bytes, record: Record, get_row: GetRow) -> None:
    """Check the key of a network, and that the store has the operator's list of withdrawals.

    A node writes that list at its first start and reads it before each release.
    """
    require(
        len(key) == _NETWORK_KEY_BYTES and get_row(WITHDRAWALS_KEY) is not None,
        "there are networks, but the row of withdrawals is missing",
    )


def _check_key_places(key: bytes, record: Record, get_row: GetRow) -> None:
    """Check the paths of a content key, which are keys of rows of values."""
    error_text = "the paths of a content key are not keys of values"
    places = key_places_of(record)
    if places is None or len(key) != _KEY_PLACES_KEY_BYTES:
        raise RecordDamaged(error_text)
    for value_row_key in places.value_keys:
        require(value_row_key[:1] in _VALUE_PREFIXES, error_text)


def _check_fetch(key: bytes, record: Record, get_row: GetRow) -> None:
    fetch = fetch_of(record)
    try:
        space = parse_space_id(fetch.space)
    except InvalidIdentifier as exc:
        raise RecordDamaged("a fetch of a copy names an invalid space") from exc
    require(key == fetch_row_key(space, fetch), "a fetch of a copy is stored under the wrong key")


def _check_admission(key: bytes, record: Record, get_row: GetRow) -> None:
    owner = admission_of(record).owner
    require(key == admission_key(owner), "an admission is stored under the wrong key")


def _check_succession(key: bytes, record: Record, get_row: GetRow) -> None:
    owner = succession_of(record).owner
    require(key == succession_key(owner), "a succession is stored under the wrong key")


def _check_of_lengths(key_bytes: int, value_bytes: int) -> RowCheck:
    """Return a function that checks the key and value lengths of a row."""

    def check(key: bytes, record: Record, get_row: GetRow) -> None:
        lengths = (len(key), len(record.value or b""))
        require(lengths == (key_bytes, value_bytes), "a row has the wrong length for its type")

    return check


def _check_of_decoding(decode: Callable[[Record], object]) -> RowCheck:
    """Return a function that checks a row by decoding it.

    `decode` raises RecordDamaged if the row is damaged.
    """

    def check(key: bytes, record: Record, get_row: GetRow) -> None:
        decode(record)

    return check


def _accept_any(key: bytes, record: Record, get_row: GetRow) -> None:
    """Accept any row.

    The format of the row is defined in another package.
    """


# By the first byte of the key as in `keyspace`, or by the whole key for rows under `m`.
_CHECKS: Mapping[bytes, RowCheck] = {
    b"K": _check_value,
    b"k": _check_value,
    VERSIONS_PREFIX: _check_version,
    b"B": _check_object,
    b"Q": _check_pending_deletion,
    DATABASES_PREFIX: _check_database,
    b"G": delegation_entries,
    b"S": _check_space,
    b"s": _check_space,
    b"c": _check_counter,
    b"D": _check_document,
    b"j": check_entry,
    b"y": check_head,
    **dict.fromkeys((ALIASES_PREFIX, *INDEXES), index_entries),
    b"L": check_marker,
    b"N": _check_network,
    KEY_PLACES_PREFIX: _check_key_places,
    b"o": _check_admission,
    SUCCESSIONS_PREFIX: _check_succession,
    FETCHES_PREFIX: _check_fetch,
    b"C": _check_of_lengths(21, 0),
    b"d": _check_of_lengths(37, 0),
    b"J": check_queued,
    b"a": _check_of_decoding(evidence_inputs_of),
    b"v": _check_of_decoding(state_of),
    b"T": _check_of_decoding(ticket_of),
    b"O": _check_of_decoding(override_of),
    SEQUENCES_PREFIX: _check_of_decoding(sequence_of),
    DELETED_PREFIX: _check_deleted_path,
    LONG_DELETED_PREFIX: _check_deleted_path,
    FEED_START_PREFIX: _check_of_lengths(VALUE_PREFIX_BYTES, NUMBER_BYTES),
    SCHEMA_KEY: _check_schema,
    IDENTITY_KEY: _check_of_decoding(identity_of),
    ROOT_SECRET_KEY: _check_of_decoding(check_root_secret_row),
    CANARY_KEY: _check_of_lengths(len(CANARY_KEY), 8),
    REPLAY_FLOOR_KEY: _check_refused_minutes,
    LEASE_KEY: _check_of_decoding(check_lease),
    RESTORED_KEY: _check_text,
    HOSTING_MODE_KEY: _check_text,
    ORPHAN_SWEEP_KEY: _check_of_lengths(len(ORPHAN_SWEEP_KEY), 0),
    BODIES_PLACE_KEY: _check_text,
    AUDIT_CHAIN_KEY: check_chain,
    AUDIT_PRUNING_KEY: _check_of_decoding(pruning_of),
    **dict.fromkeys((b"A", b"R", b"V", b"u", RELEASE_RECORD_KEY, WITHDRAWALS_KEY), _accept_any),
}
