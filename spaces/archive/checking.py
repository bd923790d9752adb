"""The whole check of a store: rows and counters at one moment, then the bodies that those rows name.

Nothing is written (BK9). The store may be in use; the collector waits, as it does for a backup. Pages of a file of LMDB
that is cut short or overwritten can end the process by a signal: run it in one of its own.
"""

import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from types import MappingProxyType
from typing import BinaryIO, Final

from msgspec import Struct

from ..errors import RecordDamaged
from ..grants.hosting import space_of
from ..keyspace import (
    IDENTITY_KEY,
    LONG_VALUES_PREFIX,
    OBJECTS_PREFIX,
    ROWS_PREFIX,
    SCHEMA_KEY,
    USAGE_PREFIX,
    VALUES_PREFIX,
    space_key,
)
from ..store.lmdb.snapshots import RowSource, StoreSnapshot, parse_row
from ..values.object_store import ObjectStore
from .bodies import note_bodies, noted_bodies
from .rows import bookings, require

Readers = Mapping[bytes, Callable[[bytes], bytes]]
NO_READERS: Final[Readers] = MappingProxyType({})

_MOST: Final = (1 << 63) - 1
MOST_SHOWN: Final = 1000
"""Findings that are kept with their names; all are counted."""
_ADD: Final = "insert into sums values (?, ?) on conflict (account) do update set amount = amount + excluded.amount"


class Finding(Struct, frozen=True):
    """Something that is damaged."""

    what: str
    name: str
    text: str


class Checked(Struct, rename="camel"):
    """What was checked, and what is damaged."""

    rows: int = 0
    bodies: int = 0
    body_bytes: int = 0
    damages: int = 0
    findings: list[Finding] = []  # a copy of it for each

    def add(self, what: str, name: str, text: str) -> None:
        """Add a finding."""
        self.damages += 1
        if len(self.findings) < MOST_SHOWN:
            self.findings.append(Finding(what, name, text))


async def check_store(rows: RowSource, objects: ObjectStore, *, readers: Readers = NO_READERS) -> Checked:
    """Check every row, counter and body."""
    checked = Checked()
    try:
        with tempfile.TemporaryFile() as notes:
            async with rows.bodies_stay():
                async with rows.snapshot() as snapshot:
                    _check_rows(snapshot, checked, readers, notes)
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


def _check_rows(snapshot: StoreSnapshot, checked: Checked, readers: Readers, notes: BinaryIO) -> None:
    # "": a temporary file of SQLite, so that memory does not grow with the accounts.
    with closing(sqlite3.connect("", isolation_level=None)) as sums:
        sums.execute("create table sums (account blob primary key, amount integer not null) without rowid")
        sums.execute("begin")
        for part in snapshot.parts():
            note_bodies(part, notes)
            for key, row in part:
                checked.rows += 1
                try:
                    parsed = parse_row(row)
                    for account, amount in bookings(key, parsed, snapshot.get):
                        sums.execute(_ADD, (account, max(-_MOST, min(amount, _MOST))))
                    read = readers.get(key) or readers.get(key[:1])
                    if read is not None and parsed[0].value is not None:
                        require(read(parsed[0].value) == key, "a row lies under another key than its own")
                except RecordDamaged as exc:
                    checked.add("row", _name_of(key, snapshot), str(exc))
        if checked.rows and (snapshot.get(SCHEMA_KEY) is None or snapshot.get(IDENTITY_KEY) is None):
            checked.add("store", "data.mdb", "the rows that say whose store it is, and of which schema, are missing")
        for account, amount in sums.execute("select account, amount from sums where amount != 0"):
            if len(account) == 1:
                checked.add("row", f"{account.decode()!r}", f"{-amount:+d} rows of this index that no delegation has")
            else:
                checked.add("counter", _name_of(account, snapshot), f"what it counts is {amount:+d} against it")


def _name_of(key: bytes, snapshot: StoreSnapshot) -> str:
    """Return words for a row or an account: which kind, of which space where it is known, under which path."""
    if key[:1] in (VALUES_PREFIX, LONG_VALUES_PREFIX):
        return f"value {key[17:].decode('utf-8', 'replace')!r} of {_space_name(key[1:17], snapshot)}"
    if key[:2] in (USAGE_PREFIX, ROWS_PREFIX):
        return f"bytes of the {'bodies' if key[:2] == USAGE_PREFIX else 'rows'} of {_space_name(key[2:], snapshot)}"
    if key[:1] == OBJECTS_PREFIX:
        return f"references to the body {key[17:49].hex()} of {_space_name(key[1:17], snapshot)}"
    return f"{key[:1].decode('ascii', 'replace')!r} {key[1:].hex()}"


def _space_name(space16: bytes, snapshot: StoreSnapshot) -> str:
    try:
        hosted = space_of(snapshot.get(space_key(space16)))
    except RecordDamaged:
        hosted = None
    return f"the space {space16.hex()}" if hosted is None else hosted.space.text
