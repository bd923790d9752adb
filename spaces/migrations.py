"""Migrating a store that an earlier version wrote to this one, at the start, before anything is served.

    schema 1    paths of more than 400 bytes are among the others, in the order of their digests; the rows of values and
                the bytes of delegations are charged to no account
    schema 2    the layout of `keyspace`; the rows of values and the delegations are charged

The first commit writes 2, so that a version which knows only 1 leaves the store alone from then on. Every further
commit migrates some rows and advances the place of the walk, and expects the place as it was read: an interrupted
migration continues there, and when several processes work at once each row is migrated, and counted, by one of them.
The last commit removes the place; while it exists, no process serves.

A row that does not decode stays as it is, and is logged.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from .errors import RecordDamaged
from .grants.delegations import decode_delegation, kept_put
from .keyspace import (
    DELEGATIONS_PREFIX,
    MAX_PLAIN_PATH_BYTES,
    SCHEMA_KEY,
    SCHEMA_VERSION,
    TICKETS_PREFIX,
    VALUE_PREFIX_BYTES,
    VALUES_PREFIX,
    goes_on_keys,
    rows_counter,
    says_that_paths_go_on,
    usage_counter,
    value_key,
    walk_key,
)
from .store.contract import ABSENT, Add, Check, Commit, Put, Range, Record, Refused, Store
from .values.tickets import moved_ticket, ticket_of
from .values.value_heads import ROW_BYTES, Head, head_of, row_bytes

OLDEST_SCHEMA: Final = 1
_PLACE_KEY: Final = walk_key("schema-2")
# What is walked through, in this order: tickets name values by the keys they had.
_KINDS: Final = (TICKETS_PREFIX, DELEGATIONS_PREFIX, VALUES_PREFIX)
_ROWS_AT_ONCE: Final = 100
_MOST_PUTS: Final = 250  # ST6, less a margin for the place
_MOST_BYTES: Final = 4 * 1024 * 1024
_FORMER_LONG_KEY_BYTES: Final = VALUE_PREFIX_BYTES + MAX_PLAIN_PATH_BYTES + 1 + 32
_LOG: Final = logging.getLogger(__name__)


async def bring_up(store: Store) -> None:
    """Migrate every row of an older store to this version. A store of this version costs one read.

    Args:
        store: with a schema recorded; no process of an earlier version may have it open.

    Raises:
        StoreError: from reading or writing; a repeated call continues where this one stopped.
    """
    while True:
        schema, place = (await store.read((SCHEMA_KEY, _PLACE_KEY))).records
        if schema is None:
            return
        if schema.value == OLDEST_SCHEMA.to_bytes(4, "big"):
            # With arguments: the log drops a message without any, because it may quote anyone's data.
            former, own = OLDEST_SCHEMA, SCHEMA_VERSION
            _LOG.warning("the rows of schema %d are brought up to schema %d; this takes a while, once", former, own)
            said = Put(SCHEMA_KEY, SCHEMA_VERSION.to_bytes(4, "big"), expect=schema.stamp)
            await store.commit(Commit(puts=(said, Put(_PLACE_KEY, _KINDS[0]))))
        elif place is None or place.value is None:
            return
        else:
            await _bring_up_some(store, place, place.value)


@dataclass(slots=True)
class _Change:
    """What migrates some rows.

    Attributes:
        ways: rows that may be put beforehand: they do no harm alone.
        puts: rows that replace others, over the exact rows that were read.
        checks: rows that stay, and are counted as they are.
        charges: counters and what is added to them.
    """

    ways: dict[bytes, Put] = field(default_factory=dict)
    puts: list[Put] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    charges: dict[bytes, int] = field(default_factory=dict)

    def add(self, other: "_Change") -> None:
        """Merge another change into this one."""
        self.ways |= other.ways
        self.puts += other.puts
        self.checks += other.checks
        for counter, size_bytes in other.charges.items():
            self.charges[counter] = self.charges.get(counter, 0) + size_bytes

    @property
    def count(self) -> int:
        """How many puts it needs."""
        return len(self.ways) + len(self.puts)

    @property
    def size_bytes(self) -> int:
        """The size of the puts."""
        return _size_bytes(self.puts) + _size_bytes(self.ways.values())


def _size_bytes(puts: Iterable[Put]) -> int:
    return sum(len(put.key) + len(put.value or b"") for put in puts)


async def _bring_up_some(store: Store, place: Record, reached: bytes) -> None:
    """Migrate the next rows, in one commit with the place after them; nothing where another process was faster."""
    kind = reached[:1]
    after = reached if len(reached) > 1 else None
    page = (await store.read(ranges=(Range(kind, after=after, limit=_ROWS_AT_ONCE),))).pages[0]
    change, place_after = _Change(), page.last_key if page.more else _kind_after(kind)
    for key, record in page.rows:
        one = await _change(store, key, record)
        if change.count and (change.count + one.count > _MOST_PUTS or change.size_bytes + one.size_bytes > _MOST_BYTES):
            break
        change.add(one)
        reached = key
    else:
        reached = place_after or b""
    ways = [*change.ways.values()]
    while len(ways) + len(change.puts) > _MOST_PUTS:  # one path, longer than any that can be put now
        await store.commit(Commit(puts=tuple(ways[:_MOST_PUTS])))
        ways = ways[_MOST_PUTS:]
    moved_on = Put(_PLACE_KEY, reached or None, expect=place.stamp)
    adds = tuple([Add(counter, size_bytes) for counter, size_bytes in change.charges.items()])
    outcome = await store.commit(Commit(puts=(*change.puts, *ways, moved_on), checks=tuple(change.checks), adds=adds))
    if not isinstance(outcome, Refused) and not reached:
        _LOG.warning("all rows are brought up to schema %d", SCHEMA_VERSION)


def _kind_after(kind: bytes) -> bytes | None:
    at = _KINDS.index(kind) + 1
    return _KINDS[at] if at < len(_KINDS) else None


async def _change(store: Store, key: bytes, record: Record) -> _Change:
    try:
        if key.startswith(TICKETS_PREFIX):
            return await _ticket_change(store, key, record)
        return _delegation_change(key, record) if key.startswith(DELEGATIONS_PREFIX) else _value_change(key, record)
    except RecordDamaged:
        _LOG.warning("a row of an earlier version does not decode and stays as it is: %s", key[:17].hex())
        return _Change()


async def _ticket_change(store: Store, key: bytes, record: Record) -> _Change:
    """Let a ticket name its value by the value's new key."""
    ticket = ticket_of(record)
    if ticket is None or len(ticket.value_key) != _FORMER_LONG_KEY_BYTES:
        return _Change()
    head = head_of((await store.read((ticket.value_key,))).records[0], key=ticket.value_key)
    if head is None:
        return _Change()
    moved = replace(ticket, value_key=value_key(_space16(ticket.value_key), head.path))
    return _Change(puts=[moved_ticket(key, moved, record)])


def _delegation_change(key: bytes, record: Record) -> _Change:
    """Charge a delegation to its signer; the address it came from is not known."""
    stored = decode_delegation(record)
    if stored is None:
        return _Change()
    return _Change(puts=[kept_put(key, stored, record)])


def _value_change(key: bytes, record: Record) -> _Change:
    """Charge the row of a value, and move it where its path is long; its body is charged as it is."""
    if says_that_paths_go_on(key) and len(key) != _FORMER_LONG_KEY_BYTES:  # put beforehand
        return _Change()
    head = head_of(record, key=key)
    if head is None:
        return _Change()
    space16 = _space16(key)
    charges = {rows_counter(space16): row_bytes(head.path, head.metadata)}
    if len(key) != _FORMER_LONG_KEY_BYTES and _was_named_for_free(head):
        return _Change(checks=[Check(key, record.stamp)], charges=charges)
    body_bytes = len(head.body or b"")
    moved = value_key(space16, head.path)
    put = Put(moved, record.value, record.stamp, weight_bytes=body_bytes, account=usage_counter(space16))
    if moved == key:
        return _Change(puts=[put], charges=charges)
    raw = head.path.encode("utf-8", "surrogatepass")
    return _Change(
        ways={way: Put(way, b"") for way in goes_on_keys(space16, raw)},
        puts=[replace(put, expect=ABSENT), Put(key, None, record.stamp)],
        charges=charges,
    )


def _was_named_for_free(head: Head) -> bool:
    """Whether a former version charged only the body: path and metadata together had at most 1024 bytes."""
    return row_bytes(head.path, head.metadata) - ROW_BYTES <= 1024


def _space16(key: bytes) -> bytes:
    return key[1:VALUE_PREFIX_BYTES]
