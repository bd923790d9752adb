"""All audit records of a store, for tests that check them.

Example:
    records = await audit_records(store)
"""

from typing import Any

import msgspec

from spaces.audit.audit_records import AuditRecord, audit_record_of
from spaces.keyspace import AUDIT_PREFIX, SEALED_PREFIX
from spaces.store.contract import Range, Store, pages_of


async def audit_records(store: Store) -> tuple[AuditRecord, ...]:
    """Return the records of the chain in order, then the records outside it by time."""
    chain = [page async for page in pages_of(store, Range(SEALED_PREFIX))]
    queue = [page async for page in pages_of(store, Range(AUDIT_PREFIX))]
    sealed = [
        _sealed(msgspec.json.decode(record.value or b""))
        for page in chain
        for _, record in page.rows
    ]
    waiting = [audit_record_of(record) for page in queue for _, record in page.rows]
    return (*sealed, *waiting)


def _sealed(entry: dict[str, Any]) -> AuditRecord:
    return AuditRecord(
        at=entry["atMicros"] / 1_000_000,
        action=entry["action"],
        actor=entry["actor"],
        subject=entry["subject"],
        token=bytes.fromhex(entry["token"]),
        authority=tuple(bytes.fromhex(key) for key in entry["authority"]),
        request_id=entry["requestId"],
        detail=bytes.fromhex(entry["detail"]),
    )
