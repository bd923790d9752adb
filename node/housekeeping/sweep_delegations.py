"""Remove delegations that expired 30 days ago or earlier, marks included; a job of housekeeping.

Run by one process at a time. Two that run at once do no harm: each removal is committed over the very record that was
read, so a delegation is removed, and counted less, once.
"""

from typing import Final

from capabilities.cids import ContentKey
from spaces.errors import RecordDamaged
from spaces.expiry import rows_until
from spaces.grants.delegations import decode_delegation
from spaces.grants.retention import INDEX, plan_removal, swept_until
from spaces.keyspace import delegation_key

from ..logs import log_warning
from ..services import Services

BATCH: Final = 64


async def sweep_delegations(services: Services, *, limit: int = BATCH) -> int:
    """Remove some delegations that expired long ago; return how many rows of the index were dealt with.

    A record that does not decode is left where it is, and logged.

    Args:
        limit: at most that many; each costs a read and a commit.

    Raises:
        StoreError: from reading or writing.
    """
    now = services.clock.now()
    done = 0
    for due, row in await rows_until(services.store, INDEX, swept_until(now), limit=limit):
        key = delegation_key(ContentKey(row.value or b""))
        record = (await services.store.read((key,))).records[0]
        try:
            stored = decode_delegation(record)
        except RecordDamaged:
            log_warning("sweep-record-damaged", row=due.hex())
            continue
        await services.store.commit(plan_removal(due, stored, record, now=now))
        done += 1
    return done
