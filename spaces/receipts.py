"""Rows of receipts: the receipts of a network in the order of time, and the documents that they refer to (RC10, RC13).

All of it is opaque here. A document lies under its SHA-256 and is never changed; what evidence was judged from lies
beside the evidence until a release refers to it.

Example:
    commit = Commit(puts=(receipt_put(network, encoded, at=now, entropy=entropy), document_put(quote)))
"""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import msgspec

from capabilities.ambient import Entropy
from capabilities.principals import Principal
from capabilities.resources import NetworkId

from ._codec import Codec
from .keyspace import RECEIPTS_PREFIX, basis_key, document_key, micros8, receipt_key, receipts_prefix, x16
from .store.contract import ABSENT, Page, Put, Range, Store

PLACE_BYTES: Final = 24
_PAGE: Final = 200


def receipt_put(network: NetworkId, value: bytes, *, at: float, entropy: Entropy) -> Put:
    """Write the receipt of a release at a time, epoch seconds."""
    return Put(receipt_key(x16(network.text), micros8(at) + entropy.token(16)), value, expect=ABSENT)


def receipts_range(network: NetworkId, *, after: bytes | None, limit: int) -> Range:
    """Receipts of a network, oldest first, behind a place of `PLACE_BYTES` bytes; None: from the first on."""
    network16 = x16(network.text)
    start = None if after is None else receipt_key(network16, after)
    return Range(receipts_prefix(network16), after=start, limit=limit)


@dataclass(frozen=True, slots=True)
class ReceiptPage:
    """Some receipts of a network.

    Attributes:
        receipts: as they were written.
        next_place: where to go on; None when nothing follows now.
    """

    receipts: tuple[bytes, ...]
    next_place: bytes | None


def receipt_page(page: Page) -> ReceiptPage:
    """Read a page of `receipts_range`."""
    receipts = tuple(record.value or b"" for _, record in page.rows)
    return ReceiptPage(receipts, page.last_key[-PLACE_BYTES:] if page.more and page.last_key is not None else None)


async def stored_receipts(store: Store, network: NetworkId | None = None) -> AsyncIterator[bytes]:
    """Yield the receipts of a network, oldest first; of every network, one after the other, when none is named.

    Raises:
        SpaceError: the store does not answer.
    """
    prefix = RECEIPTS_PREFIX if network is None else receipts_prefix(x16(network.text))
    after: bytes | None = None
    while True:
        page = (await store.read(ranges=(Range(prefix, after=after, limit=_PAGE),))).pages[0]
        for _, record in page.rows:
            yield record.value or b""
        if not page.more or page.last_key is None:
            return
        after = page.last_key


def document_row_key(sha256: bytes) -> bytes:
    """Key of the document with this SHA-256, 32 bytes."""
    return document_key(sha256)


def document_put(document: bytes) -> Put:
    """Write a document under its SHA-256; writing it again changes nothing but the stamp."""
    return Put(document_key(hashlib.sha256(document).digest()), document)


class Basis(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What evidence was judged from.

    Attributes:
        evidence_sha256: of the evidence's row, 32 bytes.
        nonce: of the challenge that the quote answers, 32 bytes.
        quote: the quote without padding, at most 16 KiB.
        event_log: canonical JSON, at most 256 KiB; None without one.
    """

    evidence_sha256: bytes
    nonce: bytes
    quote: bytes
    event_log: bytes | None


_BASIS_CODEC: Final = Codec(Basis)


def basis_row_key(holder: Principal, receiver_public_key: bytes) -> bytes:
    """Key of what the evidence of one DID for one receiver key of 32 bytes was judged from."""
    return basis_key(x16(holder), receiver_public_key)


def basis_beside(evidence_row_key: bytes) -> bytes:
    """Key of what the evidence under a key was judged from."""
    return basis_key(evidence_row_key[1:17], evidence_row_key[17:])


def basis_put(holder: Principal, receiver_public_key: bytes, basis: Basis) -> Put:
    """Write what evidence was judged from, in the commit that writes the evidence."""
    return Put(basis_row_key(holder, receiver_public_key), _BASIS_CODEC.encode(basis))


def decode_basis(value: bytes) -> Basis:
    """Read such a row.

    Raises:
        RecordDamaged: it does not decode.
    """
    return _BASIS_CODEC.decode(value)
