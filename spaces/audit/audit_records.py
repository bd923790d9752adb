"""Audit records: written in the commit of what they record, so that one is never durable without
the other (ST8).

A record is stored under its time and 16 random bytes, unchained: a chain head in the commit would
make any two commits conflict. It is moved into the chain later, see `chain`.
"""

from typing import Final

import msgspec

from capabilities.clock_and_entropy import Entropy

from .._codec import Codec
from ..keyspace import audit_key
from ..store.contract import ABSENT, Put, require_bound

MAX_DETAIL_BYTES: Final = 16 * 1024


class AuditRecord(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What happened, who requested it and under which authority."""

    at: float
    action: str
    actor: str
    subject: str
    token: bytes = b""
    authority: tuple[bytes, ...] = ()
    request_id: str = ""
    detail: bytes = b""


_CODEC: Final = Codec(AuditRecord)
audit_record_of: Final = _CODEC.of
"""Reads the row of a record that is not sealed yet."""


def audit_put(record: AuditRecord, *, entropy: Entropy) -> Put:
    """Return the put that writes a record."""
    require_bound("audit detail bytes", len(record.detail), MAX_DETAIL_BYTES)
    return Put(audit_key(record.at, entropy.token(16)), _CODEC.encode(record), expect=ABSENT)
