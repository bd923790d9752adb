"""Records of the audit log (ST8).

An audit record is written in the same commit as the change that it records. So neither is durable
without the other. A record is stored under its time and 16 random bytes, outside the chain: a chain
head in the commit would make any two commits conflict. It is moved into the chain later
(`audit_chain`).
"""

from capabilities.clock_and_entropy import Entropy

from .._codec import Codec
from ..keyspace import audit_key
from ..store.contract import ABSENT, Packed, Put, too_large

MAX_DETAIL_BYTES = 16 * 1024


class AuditRecord(Packed, kw_only=True):
    """An event in the audit log.

    The record names the actor who caused the event, and the authority of the actor.
    """

    at: float
    action: str
    actor: str
    subject: str
    token: bytes = b""
    authority: tuple[bytes, ...] = ()
    request_id: str = ""
    detail: bytes = b""

    def put(self, entropy: Entropy) -> Put:
        """Return the write operation that stores the record."""
        if len(self.detail) > MAX_DETAIL_BYTES:
            raise too_large("audit detail bytes", len(self.detail), MAX_DETAIL_BYTES)
        return Put(audit_key(self.at, entropy.token(16)), _CODEC.encode(self), expect=ABSENT)


_CODEC = Codec(AuditRecord)
audit_record_of = _CODEC.of
"""Decode the row of a record that is not in the chain yet."""
