"""Consistency check of a store.

The rows and counters of one snapshot are checked first, then all large values. Nothing is written
(BK9). The store may be in use; the collector waits, as it does for a backup. A file of LMDB that is
cut short or overwritten can end the process by a signal, so run the check in a process of its own.

A row is right if it decodes, is stored under its own key, and matches its digests.

Amounts are checked like double-entry bookkeeping. Each row books amounts to accounts, which are
keys of counters or objects. A value books the size of its row, and one reference to its body. A row
that is charged to a counter books the charged bytes. A counter books its own value, negated. The
entries of each account have to add up to zero.

Networks, evidence, receipts and collateral belong to a layer above and are opaque here;
`check_store` takes readers of them. The signatures of delegations and of the audit chain are not
verified again. The counters of new owners by hour and address are not compared, because the rows
that they counted are gone.

A delegation needs each row that its registration wrote. It books one for each of them to an account
for that kind of index. Each index row subtracts one, so an orphaned index row leaves a negative
balance. Four deviations are accepted, because the node accepts them: aliases (`I`) of a delegation
that was removed, until they are swept; the revocation marker of a delegation that was revoked while
it was removed; a session (`t`) that today's rules would not index; and a delegation without an
expiry of its own whose row in `E` was swept.
"""

import hashlib
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec
from blake3 import blake3
from msgspec import Struct

from capabilities.audit_export import entry_hash, genesis_hash
from capabilities.frozen_struct import FrozenStruct
from capabilities.machine_tokens import issuing_owner

from ..audit.audit_chain import chain_head
from ..audit.audit_records import audit_record_of
from ..audit.pruning import pruning_of
from ..documents.collateral_rows import state_of
from ..documents.receipt_rows import evidence_inputs_of
from ..grants.admissions import admission_key, admission_of
from ..grants.delegations import decode_delegation, registration_puts
from ..grants.hosting import space_of
from ..grants.revocations import revocation_of
from ..grants.sessions import session_row_key
from ..identity import identity_of
from ..keyspace import (
    ALIASES_PREFIX,
    AUDIT_CHAIN_KEY,
    AUDIT_PRUNING_KEY,
    BODIES_COUNTER,
    BODIES_PLACE_KEY,
    CANARY_KEY,
    DATABASES_PREFIX,
    EXPIRY_PREFIX,
    HOSTING_MODE_KEY,
    IDENTITY_KEY,
    LEASE_KEY,
    LONG_VALUES_PREFIX,
    OBJECTS_PREFIX,
    ORPHAN_SWEEP_KEY,
    RELEASE_RECORD_KEY,
    REPLAY_FLOOR_KEY,
    RESTORED_KEY,
    ROWS_PREFIX,
    SCHEMA_KEY,
    SCHEMA_VERSION,
    TOTAL_SPACES_COUNTER,
    USAGE_PREFIX,
    VALUES_PREFIX,
    VERSIONS_PREFIX,
    WITHDRAWALS_KEY,
    audit_head_key,
    delegation_key,
    delegations_counter,
    expiry_key,
    is_index_row,
    micros8,
    newest8,
    object_key,
    owned_space_key,
    owner_counter,
    rows_counter,
    sealed_key,
    space_id16,
    space_key,
    value_key,
    versions_prefix,
    walk_key,
    x16,
)
from ..lease import check_lease
from ..space_errors import RecordDamaged, TooManySpaces
from ..sql.database_files import check_database
from ..sql.database_rows import DATABASE_ROWS, DATABASES_FOLDER, file_of
from ..store.contract import LIVE_MARK, Record, counter_of
from ..store.lmdb.snapshots import ParsedRow, RowSource, StoreSnapshot, parse_row
from ..values.metadata import row_bytes
from ..values.object_records import ObjectRecord, object_record_of, object_work_of
from ..values.object_store import ObjectStore
from ..values.quota import override_of
from ..values.tickets import ticket_of
from ..values.value_heads import head_of
from .bodies import note_bodies, noted_bodies

AccountingEntry = tuple[bytes, int]
Get = Callable[[bytes], Record | None]
_INDEXES = (b"P", b"M", b"X", b"E", b"t")
_CONTENT_BYTES = 32
_Kind = Callable[[bytes, Record, Get], Iterable[AccountingEntry] | None]


def require(holds: bool, text: str) -> None:
    """Raise RecordDamaged unless a condition is true."""
    if not holds:
        raise RecordDamaged(text)


def delegation_accounting_entries(
    key: bytes, record: Record, get: Get
) -> Iterator[AccountingEntry]:
    """Check a delegation's rows, and yield their share of each counter.

    An entry is a pair of account key and amount.
    """
    found = decode_delegation(record)
    if found is None:
        return
    delegation = found.delegation
    yield delegations_counter(x16(issuing_owner(delegation))), 1
    require(
        key == delegation_key(delegation.content_key), "a delegation is stored under the wrong key"
    )
    try:
        puts = registration_puts(found)[1:]  # the row of the delegation itself was just decoded
    except TooManySpaces as exc:
        raise RecordDamaged("a delegation names more spaces than are allowed") from exc
    # The value of a revocation marker changes; rows of the expiry index are examined below.
    rows = {
        put.key: None if put.key[:1] == b"L" else put.value
        for put in puts
        if put.key[:1] != EXPIRY_PREFIX
    }
    missing = set()
    for name, value in rows.items():
        row = get(name)
        if row is None or row.value is None or (value is not None and row.value != value):
            missing.add(name[:1])
        elif name[:1] in _INDEXES:
            yield name[:1], 1
    session = session_row_key(delegation)
    if session not in rows and get(session) is not None:
        yield session[:1], 1
    # The delegation is indexed by the expiry of its closure, or by its own (`grants.retention`).
    names = {
        expiry_key(micros8(at), newest8(found.registered_at), delegation.content_key)
        for at in {found.expires_at, delegation.expires_at} - {None}
    }
    ends = [
        row for row in map(get, names) if row is not None and row.value == delegation.content_key
    ]
    yield EXPIRY_PREFIX, len(ends)
    if not ends and delegation.expires_at is not None:
        missing.add(EXPIRY_PREFIX)
    kinds = ", ".join(sorted(kind.decode() for kind in missing))
    require(not missing, f"rows of a delegation are missing or wrong: {kinds}")


def index_accounting_entries(key: bytes, record: Record, get: Get) -> Iterator[AccountingEntry]:
    """Check a delegation's index row, and yield the amount that it adds to a counter.

    The row must refer to a stored delegation. Its entry is -1. The delegation adds 1 for each
    of its index rows, so the total of an index is 0 if no row is orphaned. An alias is only checked
    for its length.
    """
    content, kind = (record.value or b"")[:_CONTENT_BYTES], key[:1]
    is_whole = len(record.value or b"") == (_CONTENT_BYTES + 8 if kind == b"X" else _CONTENT_BYTES)
    require(is_whole, "a row has the wrong length for its type")
    if kind == ALIASES_PREFIX:
        require(len(key) == 1 + _CONTENT_BYTES, "a key has the wrong length for its type")
        return
    require(get(delegation_key(content)) is not None, "an index row refers to a missing delegation")
    yield kind, -1


def check_marker(key: bytes, record: Record, get: Get) -> None:
    """Check the revocation marker of a delegation.

    A `live` marker requires a stored delegation.
    """
    revocation_of(record)
    require(
        record.value != LIVE_MARK or get(delegation_key(key[1:])) is not None,
        "a delegation is marked as live, but the delegation is missing",
    )


class _Numbered(Struct):
    """The number and hashes of an audit log entry.

    Signed heads of the audit chain have the same fields.
    """

    number: int
    previous: str = ""
    hash: str = ""


def _numbered(record: Record | None, what: str) -> _Numbered:
    try:
        return msgspec.json.decode((record and record.value) or b"", type=_Numbered)
    except (ValueError, RecursionError) as exc:
        raise RecordDamaged(f"{what} of the audit chain is missing or cannot be decoded") from exc


def _last_pruned(get: Get) -> int:
    return pruning_of(get(AUDIT_PRUNING_KEY)).pruned


def _hash_of_entry(number: int, get: Get) -> str:
    """Return the hash of an entry in the audit chain.

    The next entry has to contain this hash. For number 0 it is the hash that the chain begins with.
    The last pruned entry is gone, so its hash is read from the signed head.
    """
    if number == 0:
        identity = get(IDENTITY_KEY)
        require(identity is not None, "the store has no identity")
        return genesis_hash(identity_of(identity).store_id).hex() if identity else ""
    if number == _last_pruned(get):
        return _numbered(
            get(audit_head_key(number)), "the signed head for the last pruned entry"
        ).hash
    row = get(sealed_key(number))
    if row is None or row.value is None:
        raise RecordDamaged(f"entry {number} of the audit chain is missing")
    return entry_hash(row.value).hex()


def check_entry(key: bytes, record: Record, get: Get) -> None:
    """Check that an audit log entry follows the previous entry.

    The entry must contain the hash of the previous entry. Entries that are about to be pruned are
    not compared.
    """
    entry, number = _numbered(record, "an entry"), int.from_bytes(key[1:], "big")
    require(
        key == sealed_key(number) and entry.number == number,
        "an entry of the audit chain is stored under the wrong number",
    )
    head = get(AUDIT_CHAIN_KEY)
    require(
        head is not None and number <= chain_head(head).number,
        "an entry is after the end of the audit chain",
    )
    if number > _last_pruned(get):
        require(
            entry.previous == _hash_of_entry(number - 1, get),
            f"entry {number} of the audit chain does not follow from the one before",
        )


def check_head(key: bytes, record: Record, get: Get) -> None:
    """Check a signed hash of the audit chain.

    The number and the hash must be those of an entry. Heads up to the last pruned entry are not
    compared.
    """
    head, number = _numbered(record, "a signed head"), int.from_bytes(key[1:], "big")
    require(
        key == audit_head_key(number) and head.number == number,
        "a signed head of the audit chain is stored under the wrong number",
    )
    if number > _last_pruned(get):
        require(
            head.hash == _hash_of_entry(number, get),
            "a signed head of the audit chain does not match its entry",
        )


def _chain(key: bytes, record: Record, get: Get) -> None:
    head = chain_head(record)
    require(
        head.hash.hex() == _hash_of_entry(head.number, get),
        "the end of the audit chain does not match its last entry",
    )
    if head.signed_number:
        _numbered(get(audit_head_key(head.signed_number)), "the last signed head")


def _expired_minutes(key: bytes, record: Record, get: Get) -> None:
    value = record.value or b""
    edges = [value[at : at + 4] for at in range(0, len(value), 4)]
    is_sorted = len(value) % 8 == 4 and edges == sorted(edges)
    require(is_sorted, "the closed minutes of replay records are not in order")


def _text(key: bytes, record: Record, get: Get) -> None:
    try:
        require(bool((record.value or b"").decode()), "a row is empty")
    except UnicodeDecodeError as exc:
        raise RecordDamaged("a row is not valid text") from exc


def accounting_entries(key: bytes, row: ParsedRow, get: Get) -> Iterator[AccountingEntry]:
    """Check one row, and yield the amounts that it adds to counters.

    An entry is a pair of account key and amount. The bytes that the row is charged for come first,
    before anything that may be damaged.
    """
    record, account, weight_bytes = row
    if record.value is None:
        return
    if account:
        yield account, weight_bytes
    kind: _Kind | None
    if key.startswith(walk_key("")):
        kind = _opaque
    elif key[:1] == b"m":  # the rows of settings are known by their whole key
        kind = _KINDS.get(key)
    else:
        kind = _KINDS.get(key[:1])
    if kind is None:
        raise RecordDamaged("the row type is unknown")
    yield from kind(key, record, get) or ()
    if key[:1] == OBJECTS_PREFIX:
        # Without references the charge is 0, and the due work books the size.
        yield BODIES_COUNTER, weight_bytes


def _value(key: bytes, record: Record, get: Get) -> Iterator[AccountingEntry]:
    head = None if is_index_row(key) else head_of(record, key=key)
    if head is None:
        require(record.value == b"", "an index row of long paths has a value")
        return
    space16, place = key[1:17], head.object_name
    if is_version := key[:1] == VERSIONS_PREFIX:
        require(
            versions_prefix(space16, head.path) == key[:-12],
            "a version is stored under the wrong path",
        )
    else:
        require(value_key(space16, head.path) == key, "a value is stored under the wrong path")
        yield rows_counter(space16), row_bytes(head.path, head.metadata)
    if place is not None:
        account = object_key(place.space16, place.digest) + place.generation
        yield account, 1
        yield account + VERSIONS_PREFIX, is_version
    if head.body is not None:
        require(blake3(head.body).hexdigest() == head.etag, "a value does not match its digest")
        require(len(head.body) == head.size_bytes, "a value does not have the recorded size")


def _object(key: bytes, record: Record, get: Get) -> Iterator[AccountingEntry]:
    found = object_record_of(record)
    if found is not None:
        yield key + found.generation, -found.references
        yield key + found.generation + VERSIONS_PREFIX, -found.kept


def _pending_deletion(key: bytes, record: Record, get: Get) -> Iterator[AccountingEntry]:
    """Yield the size that a pending file deletion adds to a counter.

    The file counts towards the total size of large values until it is deleted. Work that deletes a
    record counts only while that record exists without references.
    """
    work = object_work_of(record)
    if work.unlink or object_record_of(get(object_key(work.space16, work.digest))) == ObjectRecord(
        work.generation, 0
    ):
        yield BODIES_COUNTER, work.size_bytes


def _space(key: bytes, record: Record, get: Get) -> Iterator[AccountingEntry]:
    yield (TOTAL_SPACES_COUNTER if key[:1] == b"S" else owner_counter(key[1:17])), 1
    hosted = space_of(record)
    own: tuple[bytes, ...] = ()
    if hosted is not None:
        space16 = space_id16(hosted.space)
        own = (space_key(space16), owned_space_key(x16(hosted.space.owner), space16))
    require(key in own, "a space is stored under the wrong key")


def _counter(key: bytes, record: Record, get: Get) -> Iterator[AccountingEntry]:
    value = counter_of(record)
    if key[:2] != b"ch":
        yield key, -value


def _of_lengths(key_bytes: int, value_bytes: int) -> _Kind:
    """Return a function that checks the key and value lengths of a row."""
    text, lengths = "a row has the wrong length for its type", (key_bytes, value_bytes)
    return lambda key, record, *_: require((len(key), len(record.value or b"")) == lengths, text)


def _decoded(decode: Callable[[Record], object]) -> _Kind:
    """Return a function that checks a row by decoding it.

    `decode` raises RecordDamaged if not.
    """

    def kind(key: bytes, record: Record, get: Get) -> None:
        decode(record)

    return kind


def _opaque(key: bytes, record: Record, get: Get) -> None:
    """Accept any row.

    The format of the row is defined in another package.
    """


# By the first byte of the key as in `keyspace`, or by the whole key for rows under `m`.
_KINDS: Mapping[bytes, _Kind] = {
    b"K": _value,
    b"k": _value,
    b"w": _value,
    b"B": _object,
    b"Q": _pending_deletion,
    DATABASES_PREFIX: lambda key, record, _: require(
        key[17:] == x16(DATABASE_ROWS.of(record).path),
        "a database is stored under the wrong path",
    ),
    b"G": delegation_accounting_entries,
    b"S": _space,
    b"s": _space,
    b"c": _counter,
    b"D": lambda key, record, _: require(
        hashlib.sha256(record.value or b"").digest() == key[1:],
        "a document does not match its digest",
    ),
    b"j": check_entry,
    b"y": check_head,
    **dict.fromkeys((ALIASES_PREFIX, *_INDEXES), index_accounting_entries),
    b"L": check_marker,
    # A node writes the operator's list of withdrawals at its first start and reads it before each
    # release.
    b"N": lambda key, _, get: require(
        len(key) == 17 and get(WITHDRAWALS_KEY) is not None,
        "there are networks, but the row of withdrawals is missing",
    ),
    b"o": lambda key, record, _: require(
        key == admission_key(admission_of(record).owner),
        "an admission is stored under the wrong key",
    ),
    b"C": _of_lengths(21, 0),
    b"d": _of_lengths(37, 0),
    b"J": lambda key, record, _: require(
        key[1:9] == micros8(audit_record_of(record).at) and len(key) == 25,
        "an audit record is stored under the wrong time",
    ),
    b"a": _decoded(evidence_inputs_of),
    b"v": _decoded(state_of),
    b"T": _decoded(ticket_of),
    b"O": _decoded(override_of),
    SCHEMA_KEY: lambda _, record, __: require(
        record.value == SCHEMA_VERSION.to_bytes(4, "big"), "the schema version is unknown"
    ),
    IDENTITY_KEY: _decoded(identity_of),
    CANARY_KEY: _of_lengths(len(CANARY_KEY), 8),
    REPLAY_FLOOR_KEY: _expired_minutes,
    LEASE_KEY: _decoded(check_lease),
    RESTORED_KEY: _text,
    HOSTING_MODE_KEY: _text,
    ORPHAN_SWEEP_KEY: _of_lengths(len(ORPHAN_SWEEP_KEY), 0),
    BODIES_PLACE_KEY: _text,
    AUDIT_CHAIN_KEY: _chain,
    AUDIT_PRUNING_KEY: _decoded(pruning_of),
    **dict.fromkeys((b"A", b"R", b"V", b"u", RELEASE_RECORD_KEY, WITHDRAWALS_KEY), _opaque),
}


Readers = Mapping[bytes, Callable[[bytes], bytes]]

_MOST = (1 << 63) - 1
MOST_SHOWN = 1000
"""The largest number of findings that are listed; all of them are counted."""
_ADD = (
    "insert into sums values (?, ?) on conflict (account) do update set amount = amount +"
    " excluded.amount"
)


class Damage(FrozenStruct):
    """A problem found by the consistency check.

    `what` is "row", "counter", "body" or "store"; `name` is a readable name.
    """

    what: str
    name: str
    text: str


class Checked(Struct, rename="camel"):
    """The result of a consistency check.

    It has the problems found, and counts of rows and large values. `networks` counts the encryption
    networks whose private key was opened; None if none was to be opened.
    """

    rows: int = 0
    bodies: int = 0
    body_bytes: int = 0
    databases: int = 0
    damages: int = 0
    networks: int | None = None
    findings: list[Damage] = []  # msgspec copies the default for each instance

    def add(self, what: str, name: str, text: str) -> None:
        """Record a problem."""
        self.damages += 1
        if len(self.findings) < MOST_SHOWN:
            self.findings.append(Damage(what, name, text))


async def check_store(
    rows: RowSource, objects: ObjectStore, folder: Path, *, readers: Readers | None = None
) -> Checked:
    """Check the consistency of a store in a data folder.

    Every row, every counter, every large value and every database is checked.
    """
    checked = Checked()
    try:
        with tempfile.TemporaryFile() as notes:
            async with rows.lock_bodies():
                async with rows.snapshot() as snapshot:
                    _check_rows(snapshot, checked, readers or {}, notes, folder)
                for name, size_bytes in noted_bodies(notes):
                    checked.bodies += 1
                    checked.body_bytes += size_bytes
                    try:
                        async with await objects.open(name, size_bytes=size_bytes) as body:
                            async for _ in body.pieces():
                                pass
                    except RecordDamaged as exc:
                        checked.add("body", name.file_name, str(exc))
    except RecordDamaged as exc:
        checked.add("store", "data.mdb", str(exc))
    return checked


def _check_rows(
    snapshot: StoreSnapshot, checked: Checked, readers: Readers, notes: BinaryIO, folder: Path
) -> None:
    # "" is a temporary file of SQLite, so that memory does not grow with the number of accounts.
    with closing(sqlite3.connect("", isolation_level=None)) as sums:
        sums.execute(
            "create table sums (account blob primary key, amount integer not null) without rowid"
        )
        sums.execute("begin")
        for part in snapshot.parts():
            note_bodies(part, notes)
            for key, row in part:
                checked.rows += 1
                try:
                    parsed = parse_row(row)
                    for account, amount in accounting_entries(key, parsed, snapshot.get):
                        sums.execute(_ADD, (account, max(-_MOST, min(amount, _MOST))))
                    read = readers.get(key) or readers.get(key[:1])
                    if read is not None and parsed[0].value is not None:
                        require(read(parsed[0].value) == key, "a row is stored under the wrong key")
                    if key[:1] == DATABASES_PREFIX:
                        checked.databases += 1
                        check_database(folder / DATABASES_FOLDER / file_of(key))
                except RecordDamaged as exc:
                    checked.add("row", _name_of(key, snapshot), str(exc))
        if checked.rows and (
            snapshot.get(SCHEMA_KEY) is None or snapshot.get(IDENTITY_KEY) is None
        ):
            checked.add(
                "store",
                "data.mdb",
                "the rows with the store's identity or schema version are missing",
            )
        for account, amount in sums.execute("select account, amount from sums where amount != 0"):
            if len(account) == 1:
                checked.add(
                    "row",
                    f"{account.decode()!r}",
                    f"{-amount:+d} rows of this index belong to no delegation",
                )
            else:
                checked.add(
                    "counter", _name_of(account, snapshot), f"the counter is off by {-amount:+d}"
                )


def _name_of(key: bytes, snapshot: StoreSnapshot) -> str:
    """Return a readable name for a row or counter."""
    if key[:1] in (VALUES_PREFIX, LONG_VALUES_PREFIX):
        return (
            f"value {key[17:].decode('utf-8', 'replace')!r} of {_space_name(key[1:17], snapshot)}"
        )
    if key[:2] in (USAGE_PREFIX, ROWS_PREFIX):
        return (
            f"bytes of the {'bodies' if key[:2] == USAGE_PREFIX else 'rows'} of"
            f" {_space_name(key[2:], snapshot)}"
        )
    if key[:1] == OBJECTS_PREFIX:
        return f"references to the body {key[17:49].hex()} of {_space_name(key[1:17], snapshot)}"
    if key[:1] == DATABASES_PREFIX:
        row = None
        with suppress(RecordDamaged):
            row = DATABASE_ROWS.read(snapshot.get(key))
        path = row and row.path
        return f"database {path!r} of {_space_name(key[1:17], snapshot)}, file {file_of(key)}"
    return f"{key[:1].decode('ascii', 'replace')!r} {key[1:].hex()}"


def _space_name(space16: bytes, snapshot: StoreSnapshot) -> str:
    try:
        hosted = space_of(snapshot.get(space_key(space16)))
    except RecordDamaged:
        hosted = None
    return f"the space {space16.hex()}" if hosted is None else hosted.space.text
