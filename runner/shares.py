"""A runner's shares of stored answers and receipts, and its refusals of those who used up theirs.

How children, the compiler and call slots are shared is in `serving.shares`. Stored answers and
receipts are counted in the journal (RN168).

Example:
    bounds = Bounds(256, 1 << 28, refusal=call_refusal)
    count_stored(connection, "receipt", job, payer, cost=1, most=MOST_RECEIPTS)
"""

import sqlite3
from typing import Literal

from serving.shares import Payer, ShareFull

from .reasons import RunRefused


def call_refusal(full: ShareFull) -> RunRefused:
    """Return the refusal of a call whose share is used up.

    It is `too-many-calls` for the share of its own payer or API key, and `runner-busy` for that of
    a group.
    """
    return RunRefused("too-many-calls" if full.is_own else "runner-busy")


_SHARE_OF = "SELECT cost FROM held WHERE kind = ? AND is_known = ? AND payer = ''"
_DISPLACE = """
DELETE FROM kept WHERE number = (
    SELECT min(number) FROM kept WHERE kind = ?1 AND is_known = ?2 AND payer = (
        SELECT payer FROM held WHERE kind = ?1 AND is_known = ?2 AND payer != ''
        ORDER BY cost DESC, rowid LIMIT 1
    )
)
"""


def count_stored(
    connection: sqlite3.Connection,
    kind: Literal["answer", "receipt"],
    job: str,
    payer: Payer,
    *,
    cost: int,
    most: int,
) -> None:
    """Count a stored response or receipt towards the quota.

    If the quota is exceeded, old entries are deleted. Known payers share one half of the quota,
    unknown payers the other half. Within a half, the payer that uses the most loses its oldest
    entries first. Database triggers delete the response or receipt that belongs to an entry.

    Args:
        connection: the journal's, within a transaction.
        kind: the kind of the entry.
        job: the job that the answer or receipt belongs to.
        payer: the payer of the job.
        cost: amount of the limit that the entry uses.
        most: the quota.
    """
    share = (kind, payer.is_known)
    connection.execute(
        "INSERT INTO kept (kind, is_known, payer, job, cost) VALUES (?, ?, ?, ?, ?)",
        (*share, payer.did, job, cost),
    )
    # each share has half of the quota (RN168)
    while connection.execute(_SHARE_OF, share).fetchone()[0] > most // 2:
        # Nothing left to delete means that the sums were edited; the loop would never end.
        if not connection.execute(_DISPLACE, share).rowcount:
            raise sqlite3.DatabaseError(
                "the stored totals of responses or receipts are wrong: the journal was edited"
            )
