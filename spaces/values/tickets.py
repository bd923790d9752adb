"""Random tickets that authorize signed URLs.

Any client with the URL can read one value until the ticket expires. A ticket has 32 bytes. In a URL
it is encoded as 43 characters of base64url:

    offset  size  field
    ──────  ────  ─────────────────────────────────────────────
    0       4     minute of the expiry since the epoch, big-endian
    4       28    random

The row is stored under the minute and a hash of the ticket, so sweeps find it by time, and reading
the store does not disclose a ticket. The row names one version of one value, and the content keys
of the delegations that authorize the ticket. The validity periods of these delegations cannot
change and limit the expiry. Their revocation markers are read on each use of the URL (Q24).
"""

from blake3 import blake3

from capabilities.cids import ContentKey
from capabilities.clock_and_entropy import Entropy

from .._codec import Codec
from ..expiry import remove_until
from ..keyspace import TICKETS_PREFIX, replay_minute4, ticket_key
from ..store.contract import ABSENT, Packed, Put, Store

TICKET_BYTES = 32
_MINUTE_BYTES = 4
_ID_BYTES = 16
# For this long, an expired ticket can be distinguished from one that never existed.
KEPT_AFTER_EXPIRY_S = 3600


class Ticket(Packed):
    """The stored data of a signed URL."""

    value_key: bytes
    digest: bytes
    expires_at: float
    authority: tuple[ContentKey, ...]  # content keys of the delegations; none may be revoked
    successions: tuple[bytes, ...] = ()  # keys of rows by which a wallet above has moved (TM18)


_CODEC = Codec(Ticket)
ticket_of = _CODEC.read
"""Decode the row of a ticket; None if it does not exist."""


def new_ticket(expires_at: float, entropy: Entropy) -> bytes:
    """Return a new random ticket for a signed URL."""
    return replay_minute4(int(expires_at)) + entropy.token(TICKET_BYTES - _MINUTE_BYTES)


def ticket_row_key(ticket: bytes) -> bytes:
    """Return the database key of the ticket for a signed URL.

    `ticket` has 32 bytes and may be forged.
    """
    return ticket_key(ticket[:_MINUTE_BYTES], blake3(ticket).digest(length=_ID_BYTES))


def ticket_put(ticket: bytes, row: Ticket) -> Put:
    """Return a write operation that stores the ticket for a signed URL."""
    return Put(ticket_row_key(ticket), _CODEC.encode(row), expect=ABSENT)


async def sweep_tickets(store: Store, *, now: float, limit: int = 256) -> bool:
    """Delete signed-URL tickets that expired over an hour ago.

    Returns whether more may be left.
    """
    # The rows of the minute `end` are deleted too, so this whole minute has to be an hour ago.
    end = replay_minute4(max(int(now) - KEPT_AFTER_EXPIRY_S - 60, 0))
    return await remove_until(store, TICKETS_PREFIX, end, limit=limit) == limit
