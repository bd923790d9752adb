"""The hash chain of the audit log.

Each entry has a number and the hash of the previous entry. Signed heads vouch for the entries.

An audit record is first written to a queue, in the commit of what it records (ST8). One commit then
moves rows from the queue to the chain: it removes them, writes them under their numbers and
advances the head, all or nothing. The commit requires that the head and every row of the queue are
unchanged. So of several concurrent processes one succeeds, and the others have written nothing
(RC4).

An entry is canonical JSON of texts, whole numbers and lists of texts: sorted names, no spaces,
UTF-8. Its hash is SHA-256(label ‖ entry). The hash before the first entry is that of the store's id
(RC3), so that no chain continues that of another store. The rules are RC1 to RC6.
"""

import hashlib
from asyncio import sleep
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

import msgspec

from capabilities.audit_export import (
    ENTRY_TYPE,
    EXPORT_TYPE,
    HEAD_TYPE,
    canonical,
    entry_hash,
    genesis_hash,
)
from capabilities.strict_json import JsonObject

from .._codec import Codec
from ..keyspace import (
    AUDIT_CHAIN_KEY,
    AUDIT_HEADS_PREFIX,
    AUDIT_PREFIX,
    SEALED_PREFIX,
    audit_head_key,
    micros8,
    sealed_key,
)
from ..space_errors import RecordDamaged
from ..store.contract import (
    ABSENT,
    Check,
    Commit,
    Committed,
    Packed,
    Page,
    Put,
    Range,
    Record,
    Store,
    commit_puts,
    pages_of,
    read_page,
    read_row,
    stamp_of,
)
from .audit_records import AuditRecord, audit_record_of
from .pruning import read_pruning

Sign = Callable[[bytes], bytes]
"""A function that signs bytes with the node's identity key; the signature has 64 bytes."""

MAX_BATCH = 100
"""The most records in one commit.

Each record takes two of the 256 rows that a commit may write: one is deleted, one added (ST6).
"""
HEAD_EVERY_S = 60.0
"""How long entries may be in the chain without a signed head over them (RC5)."""
MAX_TEXT_BYTES = 8 * 1024
"""A longer text of a record is replaced in its entry by `sha256:` and its hash (RC2)."""
_MAX_BATCH_BYTES = 4 * 1024 * 1024
_PAGE = 200


class Chain(NamedTuple):
    """The parameters of an audit chain."""

    node_did: str
    store_id: bytes
    sign: Sign


class Chained(NamedTuple):
    """The result of appending records to the audit chain."""

    appended: int
    more: bool
    last_key: bytes | None = None


class ChainHead(Packed):
    """The current end of the audit chain.

    Attributes:
        number: of the last entry.
        hash: of the last entry.
        signed_number: the last entry that a signed head covers.
        signed_at: when that head was signed, in epoch seconds.
        emptied_at: when the queue was last found empty, in epoch seconds.
    """

    number: int
    hash: bytes
    signed_number: int
    signed_at: float
    emptied_at: float


_HEAD_CODEC = Codec(ChainHead)
chain_head = _HEAD_CODEC.of


def encode_entry(record: AuditRecord, *, number: int, previous: bytes) -> bytes:
    """Encode an audit record as an entry of the audit chain."""
    # The names are sorted, so the result is that of `canonical`, which is slower.
    return msgspec.json.encode(
        {
            "action": _bounded(record.action),
            "actor": _bounded(record.actor),
            "atMicros": int(record.at * 1_000_000),
            "authority": [key.hex() for key in record.authority],
            "detail": record.detail.hex(),
            "number": number,
            "previous": previous.hex(),
            "requestId": _bounded(record.request_id),
            "subject": _bounded(record.subject),
            "token": record.token.hex(),
            "type": ENTRY_TYPE,
        }
    )


def _bounded(text: str) -> str:
    """Replace an overlong string with its SHA-256 hash.

    A record with a longer string would stop the chain.
    """
    if len(text) <= MAX_TEXT_BYTES and text.isascii():
        return text
    raw = text.encode()
    return text if len(raw) <= MAX_TEXT_BYTES else f"sha256:{hashlib.sha256(raw).hexdigest()}"


async def seal_batch(
    store: Store,
    chain: Chain,
    *,
    now: float,
    window_s: float | None = None,
    is_last: bool = False,
    limit: int = MAX_BATCH,
    after: bytes | None = None,
) -> Chained:
    """Append queued audit records to the audit chain.

    The oldest records come first. The chain is signed once a minute. Everything is written in one
    commit. No head is signed if a head covers all entries (RC5).

    Args:
        store: contains the queue and the chain.
        chain: the node DID, store id and signing function.
        now: epoch seconds.
        window_s: begin reading this long before the last batch that found the queue empty; None to
            read from the beginning. Earlier rows are mostly tombstones.
        is_last: sign a head over all entries, even if the last head is recent.
        limit: most records of this batch, at most MAX_BATCH.
        after: the `last_key` of the batch just before, so that the rows it removed are not read
            again.

    Returns:
        The number of appended entries, and whether to call again. If another process changed the
        chain first, nothing is written and `more` is True.

    Raises:
        RecordDamaged: a row does not decode.
        SpaceError: the store does not answer.
    """
    if after is None:
        after = await _queue_start(store, chain, window_s, now)
    while True:
        range_ = Range(AUDIT_PREFIX, after=after, limit=min(limit, MAX_BATCH))
        snapshot = await store.read((AUDIT_CHAIN_KEY,), ranges=(range_,))
        (head_row,) = snapshot.records
        (page,) = snapshot.pages
        if page.rows or not page.more or page.last_key is None:
            return await _commit(store, chain, head_row, page, now=now, is_last=is_last)
        after = page.last_key  # a page of tombstones only (ST5)
        await sleep(0)  # a page without a live row can take milliseconds


async def oldest_unsealed_at(
    store: Store, chain: Chain, *, now: float, window_s: float
) -> float | None:
    """Return the time of the oldest queued audit record.

    The time is in epoch seconds. None means that all records are in the chain already.
    """
    after = await _queue_start(store, chain, window_s, now)
    async for page in pages_of(store, Range(AUDIT_PREFIX, after=after, limit=1, keys_only=True)):
        if page.rows:
            oldest, _ = page.rows[0]
            return int.from_bytes(oldest[1:9], "big") / 1_000_000
    return None


async def _queue_start(store: Store, chain: Chain, window_s: float | None, now: float) -> bytes:
    """Return the key after which the queue is read (`seal_batch`)."""
    if window_s is None:
        return AUDIT_PREFIX
    head = _head_of(await read_row(store, AUDIT_CHAIN_KEY), chain)
    # The time in the head can be later than `now`, if another process has a faster clock.
    return AUDIT_PREFIX + micros8(min(head.emptied_at, now) - window_s)


async def _commit(
    store: Store, chain: Chain, head_row: Record | None, page: Page, *, now: float, is_last: bool
) -> Chained:
    """Append a batch of entries to the audit chain (RC4).

    Nothing is written if the chain or a queued record was changed.
    """
    head = _head_of(head_row, chain)
    entries = _next_entries(head, page.rows)
    number, hash_ = head.number, head.hash
    puts: list[Put] = []
    for entry in entries:
        number, hash_ = entry.number, entry.hash
        puts.append(Put(entry.queue_key, None, expect=entry.queue_stamp))
        puts.append(Put(sealed_key(number), entry.encoded, expect=ABSENT))
    # RC5. A head that was signed after `now`, by a faster clock, does not count as recent.
    is_recent = head.signed_at <= now < head.signed_at + HEAD_EVERY_S
    signs_head = number > head.signed_number and (is_last or not is_recent)
    if signs_head:
        puts.append(_signed_head_put(chain, number, hash_, now=now))
    if not puts:
        # Nothing is queued, and a head covers all entries. An export relies on that (ST16).
        is_outdated = is_last and await _is_replaced(store, head_row)
        return Chained(0, more=is_outdated)
    more = page.more or len(entries) < len(page.rows)
    moved = ChainHead(
        number=number,
        hash=hash_,
        signed_number=number if signs_head else head.signed_number,
        signed_at=now if signs_head else head.signed_at,
        emptied_at=head.emptied_at if more else now,
    )
    puts.append(Put(AUDIT_CHAIN_KEY, _HEAD_CODEC.encode(moved), expect=stamp_of(head_row)))
    if not await commit_puts(store, *puts):
        return Chained(0, more=True)
    last_key = entries[-1].queue_key if entries else None
    return Chained(len(entries), more=more, last_key=last_key)


class _Entry(NamedTuple):
    """An entry to append, and the row of the queue that it takes the place of."""

    number: int
    encoded: bytes
    hash: bytes
    queue_key: bytes
    queue_stamp: bytes


def _next_entries(head: ChainHead, rows: Sequence[tuple[bytes, Record]]) -> list[_Entry]:
    """Return the entries that follow the end of the chain.

    These are the first of the queue's rows, until the entries have _MAX_BATCH_BYTES.
    """
    entries: list[_Entry] = []
    previous = head.hash
    size_bytes = 0
    for number, (key, record) in enumerate(rows, head.number + 1):
        if size_bytes > _MAX_BATCH_BYTES:
            break
        encoded = encode_entry(audit_record_of(record), number=number, previous=previous)
        previous = entry_hash(encoded)
        size_bytes += len(encoded)
        entries.append(
            _Entry(
                number=number,
                encoded=encoded,
                hash=previous,
                queue_key=key,
                queue_stamp=record.stamp,
            )
        )
    return entries


def _signed_head_put(chain: Chain, number: int, hash_: bytes, *, now: float) -> Put:
    """Sign a head over all entries up to `number`, and return its row (RC5)."""
    members: JsonObject = {
        "type": HEAD_TYPE,
        "node": chain.node_did,
        "store": chain.store_id.hex(),
        "number": number,
        "hash": hash_.hex(),
        "atMicros": int(now * 1_000_000),
    }
    members["signature"] = chain.sign(canonical(members)).hex()
    return Put(audit_head_key(number), canonical(members), expect=ABSENT)


async def _is_replaced(store: Store, head_row: Record | None) -> bool:
    """Return whether another process changed the end of the chain since it was read.

    Only a commit shows this reliably. A failover can lose a head that was read but was not durable
    yet (ST16). Then its number would be signed again, over other entries.
    """
    if head_row is None:  # the chain is still empty
        return False
    outcome = await store.commit(Commit(checks=(Check(AUDIT_CHAIN_KEY, head_row.stamp),)))
    return not isinstance(outcome, Committed)


def _head_of(record: Record | None, chain: Chain) -> ChainHead:
    """Decode the end of the audit chain, or return that of an empty chain."""
    if record is None:
        return ChainHead(
            number=0,
            hash=genesis_hash(chain.store_id),
            signed_number=0,
            signed_at=0.0,
            emptied_at=0.0,
        )
    if record.value is None:
        raise RecordDamaged("the head of the audit chain was deleted")
    return _HEAD_CODEC.decode(record.value)


async def exported_lines(store: Store, chain: Chain, *, after: int = 0) -> AsyncIterator[bytes]:
    """Yield the audit chain as JSON lines (RC6).

    A header comes first, then the entries and the signed heads. Each head follows the last entry
    that it covers. A pruned chain begins with the head that covers the last pruned entry (RC28).

    Args:
        store: read in pages; entries that are added meanwhile come last.
        chain: the node DID, store id and signing function.
        after: number of the entry to begin after; 0 to begin with the oldest entry.

    Raises:
        RecordDamaged: an entry or a head is missing.
        SpaceError: the store does not answer.
    """
    cut = (await read_pruning(store)).pruned
    after = max(after, cut)
    opening: JsonObject = {
        "type": EXPORT_TYPE,
        "node": chain.node_did,
        "store": chain.store_id.hex(),
        "after": after,
    }
    yield canonical(opening) + b"\n"
    if cut > 0 and after == cut:
        # The entry before the first one was pruned. This head has its hash (RC28).
        head = await read_row(store, audit_head_key(cut))
        if head is None or head.value is None:
            raise RecordDamaged(
                "the audit chain cannot be exported: the signed head for the last pruned entry"
                " is missing"
            )
        yield head.value + b"\n"
    key = sealed_key(after)
    async for page in pages_of(store, Range(SEALED_PREFIX, after=key, limit=_PAGE)):
        # A head is stored under the number of the last entry that it covers. So a page of as many
        # heads, from the same number on, has all heads for the entries of this page.
        signed = await read_page(
            store, Range(AUDIT_HEADS_PREFIX, after=AUDIT_HEADS_PREFIX + key[1:], limit=_PAGE)
        )
        heads = {head_key[1:]: head.value or b"" for head_key, head in signed.rows}
        for row_key, record in page.rows:
            yield (record.value or b"") + b"\n"
            number8 = row_key[1:]
            if number8 in heads:
                yield heads[number8] + b"\n"
        key = page.last_key or key
