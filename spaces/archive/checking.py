"""Consistency check of a store.

The rows and counters of one snapshot are checked first, then all large values. Nothing is written
(BK9). The store may be in use; the collector waits, as it does for a backup. A file of LMDB that is
cut short or overwritten can end the process by a signal, so run the check in a process of its own.

`row_checks` checks a row, and books amounts to accounts (`accounting`). The entries of each account
have to add up to zero.

Networks, evidence, receipts and collateral belong to a layer above; `check_store` takes readers of
them.
"""

import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from capabilities.frozen_struct import FrozenStruct

from ..grants.hosting import space_of
from ..keyspace import (
    DATABASES_PREFIX,
    IDENTITY_KEY,
    LONG_VALUES_PREFIX,
    OBJECTS_PREFIX,
    ROWS_PREFIX,
    SCHEMA_KEY,
    SPACE16_IN_KEY,
    USAGE_PREFIX,
    VALUE_PREFIX_BYTES,
    VALUES_PREFIX,
    space_key,
)
from ..space_errors import RecordDamaged, StoreBusy
from ..sql.database_files import check_database
from ..sql.database_rows import DATABASE_ROWS, DATABASES_FOLDER, file_of
from ..store.lmdb.snapshots import ParsedRow, RowSource, StoreSnapshot, parse_row
from ..values.object_store import ObjectStore
from .accounting import require
from .bodies import ListedBody, append_bodies, listed_bodies
from .row_checks import accounting_entries

Readers = Mapping[bytes, Callable[[bytes], bytes]]
"""Functions that decode the value of a row, and return the key that the row must have.

They are found by the first byte of the row's key, or by the whole key.
"""

# The largest integer that SQLite stores.
_MOST_AMOUNT = (1 << 63) - 1
MOST_SHOWN = 1000
"""The largest number of findings that are listed; all of them are counted."""
_CREATE = "create table sums (account blob primary key, amount integer not null) without rowid"
_ADD = (
    "insert into sums values (?, ?) on conflict (account) do update set amount = amount +"
    " excluded.amount"
)


class Damage(FrozenStruct):
    """A problem found by the consistency check.

    Attributes:
        what: "row", "counter", "body" or "store".
        name: a readable name of the damaged row, counter or body.
        text: what is wrong.
    """

    what: str
    name: str
    text: str


class CheckResult(Struct, rename="camel"):
    """The result of a consistency check.

    Attributes:
        rows, bodies, databases: how many were checked. Bodies are large values.
        body_bytes: the size of the large values together.
        damages: number of problems.
        networks: number of encryption networks whose private key was opened; None if no key was to
            be opened.
        findings: the first problems, at most MOST_SHOWN.
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
            self.findings.append(Damage(what=what, name=name, text=text))


class _Balances:
    """The sum of the entries of each account, in a database of SQLite."""

    def __init__(self, sums: sqlite3.Connection) -> None:
        self._sums = sums
        sums.execute(_CREATE)
        sums.execute("begin")

    def book(self, account: bytes, amount: int) -> None:
        """Add an amount to an account."""
        # A damaged row can contain any number.
        stored_amount = max(-_MOST_AMOUNT, min(amount, _MOST_AMOUNT))
        self._sums.execute(_ADD, (account, stored_amount))

    def unbalanced(self) -> Iterator[tuple[bytes, int]]:
        """Return the accounts whose entries do not add up to zero, with their sums."""
        return self._sums.execute("select account, amount from sums where amount != 0")


async def check_store(
    rows: RowSource, objects: ObjectStore, folder: Path, *, readers: Readers | None = None
) -> CheckResult:
    """Check the consistency of a store in a data folder.

    Every row, every counter, every large value and every database is checked.

    Args:
        rows: of the store.
        objects: the large values of the store.
        folder: the data folder, with the SQL databases.
        readers: functions for rows that belong to a layer above.
    """
    result = CheckResult()
    try:
        with tempfile.TemporaryFile() as body_list:
            async with rows.lock_bodies():
                async with rows.snapshot() as snapshot:
                    _check_rows(snapshot, result, readers or {}, body_list, folder)
                # The snapshot is closed first, because LMDB's file grows while one is open.
                for body in listed_bodies(body_list):
                    await _check_body(body, objects, result)
    except RecordDamaged as exc:
        result.add("store", "data.mdb", str(exc))
    return result


async def _check_body(body: ListedBody, objects: ObjectStore, result: CheckResult) -> None:
    """Read a large value in full, which compares its size and digest."""
    result.bodies += 1
    result.body_bytes += body.size_bytes
    try:
        async with await objects.open(body.name, size_bytes=body.size_bytes) as contents:
            async for _ in contents.pieces():
                pass
    except RecordDamaged as exc:
        result.add("body", body.name.file_name, str(exc))


def _check_rows(
    snapshot: StoreSnapshot,
    result: CheckResult,
    readers: Readers,
    body_list: BinaryIO,
    folder: Path,
) -> None:
    """Check all rows and databases, and then that the accounts are balanced.

    The large values that the rows refer to are appended to `body_list`.
    """
    # "" is a temporary file of SQLite, so that memory does not grow with the number of accounts.
    with closing(sqlite3.connect("", isolation_level=None)) as sums:
        balances = _Balances(sums)
        for part in snapshot.parts():
            append_bodies(part, body_list)
            for key, row in part:
                result.rows += 1
                try:
                    _check_row(key, parse_row(row), snapshot, balances, readers)
                    if key[:1] == DATABASES_PREFIX:
                        result.databases += 1
                        check_database(folder / DATABASES_FOLDER / file_of(key))
                # What cannot be read now was not checked, so it is reported too.
                except (RecordDamaged, StoreBusy) as exc:
                    result.add("row", _name_of(key, snapshot), str(exc))
        if result.rows and not _has_identity(snapshot):
            result.add(
                "store",
                "data.mdb",
                "the rows with the store's identity or schema version are missing",
            )
        try:
            snapshot.require_positions()
        except RecordDamaged as exc:
            result.add("store", "data.mdb", str(exc))
        for account, amount in balances.unbalanced():
            _report_imbalance(account, amount, snapshot, result)


def _check_row(
    key: bytes,
    parsed: ParsedRow,
    snapshot: StoreSnapshot,
    balances: _Balances,
    readers: Readers,
) -> None:
    """Check a row, and book its entries.

    A row that belongs to a layer above is decoded by one of `readers`.
    """
    for account, amount in accounting_entries(key, parsed, snapshot.get):
        balances.book(account, amount)
    read_key = readers.get(key) or readers.get(key[:1])
    value = parsed.record.value
    if read_key is not None and value is not None:
        require(read_key(value) == key, "a row is stored under the wrong key")


def _has_identity(snapshot: StoreSnapshot) -> bool:
    return snapshot.get(SCHEMA_KEY) is not None and snapshot.get(IDENTITY_KEY) is not None


def _report_imbalance(
    account: bytes, amount: int, snapshot: StoreSnapshot, result: CheckResult
) -> None:
    """Record that the entries of an account do not add up to zero."""
    if len(account) == 1:  # an index of delegations
        result.add(
            "row",
            f"{account.decode()!r}",
            f"{-amount:+d} rows of this index belong to no delegation",
        )
    else:
        result.add("counter", _name_of(account, snapshot), f"the counter is off by {-amount:+d}")


def _name_of(key: bytes, snapshot: StoreSnapshot) -> str:
    """Return a readable name for a row or counter."""
    space16 = key[SPACE16_IN_KEY]
    end_of_key = key[VALUE_PREFIX_BYTES:]
    if key[:1] in (VALUES_PREFIX, LONG_VALUES_PREFIX):
        # The key of a long path has a hash and a part of the path.
        path = end_of_key.decode("utf-8", "replace")
        return f"value {path!r} of {_space_name(space16, snapshot)}"
    if key[:2] == USAGE_PREFIX:
        return f"bytes of the bodies of {_space_name(key[2:], snapshot)}"
    if key[:2] == ROWS_PREFIX:
        return f"bytes of the rows of {_space_name(key[2:], snapshot)}"
    if key[:1] == OBJECTS_PREFIX:
        digest = end_of_key[:32]
        return f"references to the body {digest.hex()} of {_space_name(space16, snapshot)}"
    if key[:1] == DATABASES_PREFIX:
        return (
            f"database {_database_path(key, snapshot)!r} of {_space_name(space16, snapshot)},"
            f" file {file_of(key)}"
        )
    return f"{key[:1].decode('ascii', 'replace')!r} {key[1:].hex()}"


def _database_path(key: bytes, snapshot: StoreSnapshot) -> str | None:
    """Return the path of a database, or None if its row cannot be read."""
    try:
        row = DATABASE_ROWS.read(snapshot.get(key))
    except RecordDamaged:
        return None
    return None if row is None else row.path


def _space_name(space16: bytes, snapshot: StoreSnapshot) -> str:
    """Return the id of a space, or its hash if its row is missing or damaged."""
    try:
        hosted = space_of(snapshot.get(space_key(space16)))
    except RecordDamaged:
        hosted = None
    if hosted is None:
        return f"the space {space16.hex()}"
    return hosted.space.text
