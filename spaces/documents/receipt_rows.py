"""Storage of key-release receipts (RC10, RC13).

Receipts are ordered by time. The documents that they refer to are stored too. Their contents are
opaque here. A document is stored under its SHA-256 and never changed. The inputs from which
evidence was verified are stored beside the evidence until a release refers to them. Usage rows
record in which periods of 30 days a document was referred to. A document can be removed when the
receipts of its last such period have been removed (RC25, RC26).
"""

import hashlib
from collections.abc import AsyncIterator

from capabilities.clock_and_entropy import Entropy
from capabilities.principals import Principal
from capabilities.resources import NetworkId

from .._codec import Codec
from ..expiry import rows_until
from ..keyspace import (
    DOCUMENT_USES_PREFIX,
    RECEIPTS_PREFIX,
    document_key,
    document_use_key,
    evidence_inputs_key,
    micros8,
    receipt_key,
    x16,
)
from ..scans import walk_position, walk_put
from ..store.contract import (
    ABSENT,
    Commit,
    Packed,
    Page,
    Put,
    Range,
    Record,
    Store,
    commit_puts,
    has_value,
    pages_of,
    read_page,
)
from .evidence import evidence_row_key

PLACE_BYTES = 24
_PAGE = 200


class StoredReceipt(Packed):
    """A row of a receipt.

    Attributes:
        text: the receipt.
        wrapped_key: SHA-256 of the wrapped key that was released, 32 bytes; empty in the rows of
            earlier versions (RC37).
    """

    text: bytes
    wrapped_key: bytes = b""


# A receipt is JSON in one line, so the first line break ends it.
_END_OF_RECEIPT = b"\n"


def receipt_put(
    network: NetworkId, value: bytes, *, at: float, entropy: Entropy, wrapped_key: bytes = b""
) -> Put:
    """Return the write operation that stores a receipt.

    The receipt is stored under the time `at`, in epoch seconds. `wrapped_key` is the SHA-256 of the
    wrapped key that is released.
    """
    if wrapped_key:
        value += _END_OF_RECEIPT + wrapped_key
    return Put(
        receipt_key(x16(network.text), micros8(at) + entropy.token(16)), value, expect=ABSENT
    )


def _receipt_of(record: Record) -> StoredReceipt:
    text, _, wrapped_key = (record.value or b"").partition(_END_OF_RECEIPT)
    return StoredReceipt(text, wrapped_key)


def receipts_range(network: NetworkId, *, after: bytes | None, limit: int) -> Range:
    """Return the key range of an encryption network's receipts.

    The oldest receipt comes first. The range begins after the receipt with the sort key `after`, of
    `PLACE_BYTES` bytes, or with the first receipt if `after` is None.
    """
    network16 = x16(network.text)
    start = None if after is None else receipt_key(network16, after)
    return Range(receipt_key(network16), after=start, limit=limit)


def receipts_of(page: Page) -> tuple[list[StoredReceipt], bytes | None]:
    """Return the receipts in a page of rows.

    The page is from `receipts_range`. The second result is the `after` argument for the next page,
    or None if no more receipts follow.
    """
    after = None if page.place is None else page.place[-PLACE_BYTES:]
    return [_receipt_of(record) for _, record in page.rows], after


async def stored_receipts(store: Store, network: NetworkId | None = None) -> AsyncIterator[bytes]:
    """Yield the receipts of an encryption network.

    The oldest receipt comes first. Without a network, the receipts of every network are yielded in
    turn.
    """
    prefix = RECEIPTS_PREFIX if network is None else receipt_key(x16(network.text))
    async for page in pages_of(store, Range(prefix, limit=_PAGE)):
        for _, record in page.rows:
            yield _receipt_of(record).text


class EvidenceInputs(Packed, kw_only=True):
    """The data needed to verify attestation evidence again."""

    evidence_sha256: bytes
    nonce: bytes
    quote: bytes
    event_log: bytes | None


_INPUTS_CODEC = Codec(EvidenceInputs)
evidence_inputs_of = _INPUTS_CODEC.read
"""Decode a row that `evidence_inputs_put` wrote."""


def evidence_inputs_put(
    holder: Principal, receiver_public_key: bytes, inputs: EvidenceInputs
) -> Put:
    """Return the write operation for the data needed to re-verify evidence.

    It belongs in the commit that writes the evidence.
    """
    return Put(
        evidence_inputs_key(evidence_row_key(holder, receiver_public_key)),
        _INPUTS_CODEC.encode(inputs),
    )


# --- retention of documents -----------------------------------------------------------------------

PERIOD_S = 30 * 86_400.0
"""The length of the periods in which the use of a document is recorded."""

_MOST_ROWS = 250
_END_OF_NETWORK = b"\xff" * PLACE_BYTES
_SORT_KEY_OFFSET = len(RECEIPTS_PREFIX) + 16
_TIME_IN_KEY = slice(_SORT_KEY_OFFSET, _SORT_KEY_OFFSET + 8)
_PERIOD_IN_KEY = slice(1, 5)
_SHA256_IN_KEY = slice(5, None)
_WALK = "receipts"


def document_use_row_key(sha256: bytes, *, now: float) -> bytes:
    """Return the key of the row that records a receipt's reference to a document.

    The row is that of the current period.
    """
    return document_use_key(document_span(now), sha256)


def cited_document_puts(document: bytes, *, now: float) -> tuple[Put, Put]:
    """Return the write operations that store a document cited by receipts.

    They also record the use of the document in the current period. They belong in the commit that
    refers to the document, once in each period. While the row of `document_use_row_key` exists, the
    document exists too (RC26).
    """
    sha256 = hashlib.sha256(document).digest()
    return Put(document_key(sha256), document), Put(document_use_row_key(sha256, now=now), b"")


async def sweep_receipts(store: Store, *, until: float, pages: int = 256) -> bool:
    """Delete receipts that are older than a given time.

    The time `until` is in epoch seconds. Returns True if more old receipts may remain.
    """
    return await sweep_networks(store, RECEIPTS_PREFIX, _WALK, until=until, pages=pages)


async def sweep_networks(
    store: Store, prefix: bytes, walk: str, *, until: float, pages: int = 256
) -> bool:
    """Delete rows that are older than a given time, from the lists of all networks.

    The networks are scanned, and only the oldest rows of each network are read.

    Args:
        store: where the rows are.
        prefix: one byte; the hash of the network and the sort key follow it in each row's key.
        walk: the name of the scan, which continues where the previous one stopped.
        until: epoch seconds.
        pages: the most pages that are read.
    Returns:
        True if more old rows may remain.
    """
    until8 = micros8(until)
    former_position = await walk_position(store, walk)
    position = former_position
    for _ in range(pages):
        page = await read_page(
            store, Range(prefix, after=position, limit=_MOST_ROWS, keys_only=True)
        )
        position = _next_position(page, until8)
        removals = [Put(key, None) for key, _ in page.rows if key[_TIME_IN_KEY] < until8]
        if removals:
            await commit_puts(store, *removals, walk_put(walk, position))
            return True
        if position is None:
            break
    if position != former_position:
        await commit_puts(store, walk_put(walk, position))
    return False


def _next_position(page: Page, until8: bytes) -> bytes | None:
    """Return where a scan goes on after a page.

    None means that all networks were scanned: the next scan begins with the first one.
    """
    if page.place is None or not page.rows:
        return page.place
    last_key, _ = page.rows[-1]
    if last_key[_TIME_IN_KEY] < until8:
        return page.place
    # The further rows of this network are even more recent, so the next network follows.
    return last_key[:_SORT_KEY_OFFSET] + _END_OF_NETWORK


async def sweep_documents(store: Store, *, until: float, now: float) -> int:
    """Delete documents that were last used before a given time.

    The time `until` is in epoch seconds. Returns the number of usage rows that were processed.
    """
    last = document_span(until) - 1  # the last period that ended before `until`
    if last < 0:
        return 0
    due_rows = await rows_until(store, DOCUMENT_USES_PREFIX, last.to_bytes(4, "big"), limit=64)
    for key, record in due_rows:
        await store.commit(await _document_removal(store, key, record, now=now))
    return len(due_rows)


async def _document_removal(store: Store, key: bytes, record: Record, *, now: float) -> Commit:
    """Return a commit that deletes an old usage row and, if it is unused, its document.

    The document is unused if it has no usage row of a later period.
    """
    period = int.from_bytes(key[_PERIOD_IN_KEY], "big")
    sha256 = key[_SHA256_IN_KEY]
    next_period = document_span(now) + 1
    later_keys = [document_use_key(number, sha256) for number in range(period + 1, next_period + 1)]
    later_rows = (await store.read(later_keys)).records
    usage_put = Put(key, None, expect=record.stamp)
    is_used = any(has_value(row) for row in later_rows)
    if is_used:
        return Commit(puts=(usage_put,))
    # RC26: a concurrent commit that refers to the document writes one of these rows, and the
    # document with it. So this commit is refused, or the other one comes later and writes the
    # document again. The rows of the former, the current and the next period have to be absent,
    # because clocks may differ by less than a period.
    absent_rows = [Put(later_key, None, expect=ABSENT) for later_key in later_keys[-3:]]
    return Commit(puts=(usage_put, Put(document_key(sha256), None), *absent_rows))


def document_span(at: float) -> int:
    """Return the index of the 30-day period that contains a timestamp.

    The timestamp is in epoch seconds. Periods are counted from the epoch.
    """
    return max(int(at // PERIOD_S), 0)
