"""Audit records: written in the commit of what they record, so that one is never durable without the other (ST8).

A record lies under its time and 16 random bytes, unchained: a chain head in the commit would make any two commits
conflict. Later it is moved into the chain, see `audit_chain`.

Example:
    commit = Commit(puts=(head, audit_put(record, entropy=entropy)))
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from capabilities.ambient import Entropy

from .._codec import Codec
from ..errors import CommitTooLarge, RecordDamaged
from ..keyspace import AUDIT_PREFIX, SEALED_PREFIX, audit_key, micros8
from ..store.contract import ABSENT, Page, Put, Range, Record, Store

MAX_DETAIL_BYTES: Final = 16 * 1024


class AuditRecord(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What happened, who asked for it and by which authority.

    Attributes:
        at: epoch seconds by the node's clock.
        action: what was done, a short stable word such as `kv.put` or `release.authorised`.
        actor: canonical principal of who asked.
        subject: what it was done to: a resource, a delegation's cid, a network.
        token: digest of the token that asked, 32 bytes; empty when there was none.
        authority: content keys relied on, 32 bytes each.
        request_id: under which the log knows it.
        detail: further bytes that the writer understands, at most 16 KiB; never a key, token or value.
    """

    at: float
    action: str
    actor: str
    subject: str
    token: bytes = b""
    authority: tuple[bytes, ...] = ()
    request_id: str = ""
    detail: bytes = b""


_CODEC: Final = Codec(AuditRecord)


def audit_put(record: AuditRecord, *, entropy: Entropy) -> Put:
    """Return the put that writes a record.

    Raises:
        CommitTooLarge: the detail is too long.
    """
    if len(record.detail) > MAX_DETAIL_BYTES:
        raise CommitTooLarge(bound="audit detail bytes", limit=MAX_DETAIL_BYTES, got=len(record.detail))
    return Put(audit_key(record.at, entropy.token(16)), _CODEC.encode(record), expect=ABSENT)


def parse_audit_row(value: bytes) -> AuditRecord:
    """Read the row of a record that is not sealed yet.

    Raises:
        RecordDamaged: it does not decode.
    """
    return _CODEC.decode(value)


async def audit_page(
    store: Store, *, since: float = 0.0, after: bytes | None = None, limit: int = 1000
) -> tuple[tuple[AuditRecord, ...], bytes | None]:
    """Return records, sealed ones first and then the others, and the key to go on after; None when nothing follows.

    Sealed records come in the order of the chain, the others in the order of time. A record that is sealed between two
    pages may be missing from them; whoever needs every record exports the chain.

    Raises:
        RecordDamaged: a record does not decode.
    """
    if after is not None and after[:1] == AUDIT_PREFIX:
        page: Page = (await store.read(ranges=(Range(AUDIT_PREFIX, after=after, limit=limit),))).pages[0]
        return _unsealed(page.rows), page.last_key if page.more else None
    queue = Range(AUDIT_PREFIX, after=AUDIT_PREFIX + micros8(since), limit=limit)
    chain = Range(SEALED_PREFIX, after=after, limit=limit)
    chained, waiting = (await store.read(ranges=(chain, queue))).pages
    sealed = tuple(record for record in map(_sealed, chained.rows) if record.at >= since)
    if chained.more:
        return sealed, chained.last_key
    rows = waiting.rows[: limit - len(sealed)]
    if len(rows) < len(waiting.rows):
        return sealed + _unsealed(rows), rows[-1][0] if rows else AUDIT_PREFIX + micros8(since)
    return sealed + _unsealed(rows), waiting.last_key if waiting.more else None


def _unsealed(rows: Sequence[tuple[bytes, Record]]) -> tuple[AuditRecord, ...]:
    return tuple([_CODEC.decode(row.value or b"") for _, row in rows])


class _Entry(msgspec.Struct, frozen=True, rename="camel"):
    """What a record needs of an entry of the chain; `audit_chain` has the whole."""

    at_micros: int
    action: str
    actor: str
    subject: str
    token: str
    authority: tuple[str, ...]
    request_id: str
    detail: str


def _sealed(row: tuple[bytes, Record]) -> AuditRecord:
    try:
        entry = msgspec.json.decode(row[1].value or b"", type=_Entry)
        return AuditRecord(
            at=entry.at_micros / 1_000_000,
            action=entry.action,
            actor=entry.actor,
            subject=entry.subject,
            token=bytes.fromhex(entry.token),
            authority=tuple(bytes.fromhex(key) for key in entry.authority),
            request_id=entry.request_id,
            detail=bytes.fromhex(entry.detail),
        )
    except (ValueError, RecursionError) as exc:
        raise RecordDamaged("an entry of the audit chain does not decode") from exc
