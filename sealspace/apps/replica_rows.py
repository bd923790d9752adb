"""The rows of a local copy, and the checks when they are read (replica RP11).

There is a row for the state, one for each key, and one for each value. A row of the first two kinds
has a checksum, and the state has the number and the size of all keys. The checksums have no key:
they find damage, not a user who rewrites the file.

Example:
    import sqlite3
    connection = sqlite3.connect(":memory:", isolation_level=None)
    state = verified_state(connection, State(space=space, prefix="notes", seen_at=now))
    assert state.entries == 0 and list(entries_of(connection)) == []
    connection.close()
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Annotated, TypeVar

import msgspec
from blake3 import blake3

from capabilities.frozen import frozen
from capabilities.frozen_struct import FrozenStruct

from ..errors import ClientClosed, InvalidInput, ReplicaCorrupt, ReplicaUnusable
from ..wire.changes import is_below

ENTRY_BYTES = 256
"""Bytes of a row that count beside its key, its metadata and its value."""
_APPLICATION_ID = 0x7365616C
_VERSION = 1
_SCHEMA = (
    "CREATE TABLE state (id INTEGER PRIMARY KEY, content BLOB NOT NULL, checksum BLOB NOT NULL)",
    "CREATE TABLE entries (key TEXT PRIMARY KEY, content BLOB NOT NULL, checksum BLOB NOT NULL)"
    " WITHOUT ROWID",
    "CREATE TABLE bodies (key TEXT PRIMARY KEY, body BLOB NOT NULL)",
)
_Time = float | None


@frozen
class Window:
    """When a copy may be read, in epoch seconds (CF9, CF10).

    Attributes:
        not_before: the begin; None: always.
        expires_at: the end; None: never.
        retain_until: a later end, until which the copy is read as retained; None: none.
    """

    not_before: float | None = None
    expires_at: float | None = None
    retain_until: float | None = None

    def is_live(self, now: float) -> bool:
        """Return whether the right to read is valid at a time."""
        has_begun = self.not_before is None or self.not_before <= now
        return has_begun and not self._has_expired(now)

    def is_retained(self, now: float) -> bool:
        """Return whether the right has ended, and the copy may still be read."""
        may_be_retained = self.retain_until is not None and now < self.retain_until
        return self._has_expired(now) and may_be_retained

    def has_ended(self, now: float) -> bool:
        """Return whether the copy may not be read any more."""
        return self._has_expired(now) and not self.is_retained(now)

    def _has_expired(self, now: float) -> bool:
        """Return whether the right to read has ended, whether or not the copy is retained."""
        return self.expires_at is not None and self.expires_at <= now


class State(FrozenStruct, forbid_unknown_fields=True):
    """The state of a copy, as the file contains it.

    Attributes:
        space, prefix: the source.
        node_did: DID of the node that sent the first page; None before.
        cursor: where the next page begins; None: at the beginning.
        generation: number of times that the feed has begun.
        is_complete: whether the present generation was read to its end.
        synced_at: when the last page came, epoch seconds.
        seen_at: the latest time that was seen, epoch seconds.
        not_before, expires_at, retain_until: as in `Window`, of the last page.
        revoked: the text of the revocation that ended the copy; None: it was not revoked.
        entries: number of keys.
        missing: number of keys whose value is not stored.
        used_bytes: number of bytes that count towards the limit.
    """

    space: str
    prefix: str
    seen_at: float
    node_did: str | None = None
    cursor: str | None = None
    generation: int = 1
    is_complete: bool = False
    synced_at: _Time = None
    not_before: _Time = None
    expires_at: _Time = None
    retain_until: _Time = None
    revoked: str | None = None
    entries: int = 0
    missing: int = 0
    used_bytes: int = 0

    @property
    def window(self) -> Window:
        """When the copy may be read."""
        return Window(
            not_before=self.not_before,
            expires_at=self.expires_at,
            retain_until=self.retain_until,
        )


_Size = Annotated[int, msgspec.Meta(ge=0)]


class Entry(FrozenStruct, forbid_unknown_fields=True):
    """A key of a copy, with its version and metadata.

    Attributes:
        key: the full key.
        etag: the version of the value.
        metadata: the names and texts stored with the value, as in the feed.
        size_bytes: size of the value; None: it is missing.
        generation: the generation of the feed that last had the key.
    """

    key: str
    etag: str
    metadata: dict[str, str]
    size_bytes: _Size | None
    generation: int

    @property
    def used_bytes(self) -> int:
        """The size of the entry, as it counts towards the limit of the copy."""
        used_bytes = ENTRY_BYTES + len(self.key.encode()) + (self.size_bytes or 0)
        for name, text in self.metadata.items():
            used_bytes += len(name.encode()) + len(text.encode())
        return used_bytes


_STATES = msgspec.json.Decoder(State)
_ENTRIES = msgspec.json.Decoder(Entry)


def etag_of_body(body: bytes) -> str:
    """Return the ETag that a node gives to a value (M1)."""
    return f'"blake3-{blake3(body).hexdigest()}"'


def verified_state(connection: sqlite3.Connection, fresh: State) -> State:
    """Check the rows of a file, and return its state.

    A new file gets the tables and the state `fresh`. The values are not read; each of them is
    compared with its version when it is read.

    Raises:
        ReplicaCorrupt: the file is damaged, or of another version.
    """
    schema = _read_schema(connection)
    application_id = _read_pragma(connection, "application_id")
    is_new_file = not schema and application_id == 0
    if is_new_file:
        _create_tables(connection, fresh)
        return fresh
    if application_id != _APPLICATION_ID:
        raise ReplicaCorrupt("the file is not a local copy")
    if _read_pragma(connection, "user_version") != _VERSION:
        raise ReplicaCorrupt("the copy was made by another version of this program")
    if schema != _SCHEMA:
        raise ReplicaCorrupt("the tables of the copy were changed")
    if connection.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
        raise ReplicaCorrupt("the file of the copy is damaged")
    state = _read_state(connection)
    _check_totals(connection, state)
    return state


def _check_totals(connection: sqlite3.Connection, state: State) -> None:
    """Check every entry, and compare their number and size with the totals of the state.

    Raises:
        ReplicaCorrupt: an entry is damaged, is of another prefix, or is lost.
    """
    entries = 0
    missing = 0
    used_bytes = 0
    for entry in entries_of(connection):
        if not is_below(entry.key, state.prefix):
            raise ReplicaCorrupt("the copy contains a key of another prefix")
        entries += 1
        missing += int(entry.size_bytes is None)
        used_bytes += entry.used_bytes
    if (entries, missing, used_bytes) != (state.entries, state.missing, state.used_bytes):
        raise ReplicaCorrupt("rows of the copy are lost")


def _create_tables(connection: sqlite3.Connection, fresh: State) -> None:
    """Make a new file a copy without keys, in one commit."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {_VERSION}")
    write_state(connection, fresh)
    connection.execute("COMMIT")


def _read_schema(connection: sqlite3.Connection) -> tuple[str, ...]:
    """Return the statements that made the tables, without the indexes that SQLite makes itself."""
    rows = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")
    return tuple(str(sql) for (sql,) in rows.fetchall())


def _read_pragma(connection: sqlite3.Connection, name: str) -> object:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _read_state(connection: sqlite3.Connection) -> State:
    """Return the state in a file.

    Raises:
        ReplicaCorrupt: its row is damaged, or there is not exactly one.
    """
    rows = connection.execute("SELECT content, checksum FROM state").fetchall()
    if len(rows) != 1:
        raise ReplicaCorrupt("the copy has no state")
    content, checksum = rows[0]
    return decode_row(_STATES, content, checksum)


def write_state(connection: sqlite3.Connection, state: State) -> None:
    """Replace the row of the state."""
    content = msgspec.json.encode(state)
    connection.execute(
        "INSERT OR REPLACE INTO state (id, content, checksum) VALUES (1, ?, ?)",
        (content, blake3(content).digest()),
    )


def write_entry(connection: sqlite3.Connection, entry: Entry) -> None:
    """Insert or replace the row of a key."""
    content = msgspec.json.encode(entry)
    connection.execute(
        "INSERT OR REPLACE INTO entries (key, content, checksum) VALUES (?, ?, ?)",
        (entry.key, content, blake3(content).digest()),
    )


def entries_of(connection: sqlite3.Connection) -> Iterator[Entry]:
    """Yield all entries, in the order of their keys."""
    with closing(
        connection.execute("SELECT key, content, checksum FROM entries ORDER BY key")
    ) as rows:
        for row in rows:
            yield entry_of(row)


def entry_of(row: tuple[object, object, object]) -> Entry:
    """Return the entry of a row with its key, content and checksum.

    Raises:
        ReplicaCorrupt: the row is damaged.
    """
    key, content, checksum = row
    entry = decode_row(_ENTRIES, content, checksum)
    if entry.key != key:
        raise ReplicaCorrupt("a row of the copy has another key")
    return entry


_Row = TypeVar("_Row")


def decode_row(decoder: "msgspec.json.Decoder[_Row]", content: object, checksum: object) -> _Row:
    """Decode the content of a row, after its checksum was compared (RP11).

    Raises:
        ReplicaCorrupt: the row is damaged.
    """
    if not isinstance(content, bytes) or blake3(content).digest() != checksum:
        raise ReplicaCorrupt("a row of the copy does not match its checksum")
    try:
        return decoder.decode(content)
    except msgspec.MsgspecError:
        raise ReplicaCorrupt("a row of the copy has an unknown form") from None


_DISK_ERRORS = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    }
)


@contextmanager
def sqlite_errors() -> Iterator[None]:
    """Convert the errors of SQLite in a `with` block.

    Raises:
        ReplicaUnusable: the disk fails, or another program has locked the file.
        ReplicaCorrupt: any other error, so the file is damaged.
        ClientClosed: the connection is closed.
        InvalidInput: a key contains a lone surrogate, which UTF-8 cannot encode.
    """
    try:
        yield
    except UnicodeEncodeError:
        raise InvalidInput("a key of a copy must be valid Unicode text") from None
    except sqlite3.ProgrammingError:
        raise ClientClosed("the copy was closed") from None
    except sqlite3.Error as error:
        # The low byte is the kind of the error, the others are its details.
        error_kind = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if error_kind in _DISK_ERRORS:
            raise ReplicaUnusable(f"cannot read or write the copy: {error}") from None
        raise ReplicaCorrupt(f"cannot read the copy: {error}") from None
