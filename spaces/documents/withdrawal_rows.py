"""The operator's list of withdrawn code, DIDs and evidence, stored in one row.

Its contents are opaque here. The row exists from the first start on, so that a commit can check its
stamp (RC21). A network's own withdrawals are stored in the network's row.
"""

from ..keyspace import WITHDRAWALS_KEY
from ..store.contract import ABSENT, Commit, Put, Store, read_row


async def ensure_withdrawals(store: Store, empty: bytes) -> None:
    """Write an empty list of the operator's withdrawals if there is no list yet.

    Another process may write it at the same time.
    """
    if await read_row(store, WITHDRAWALS_KEY) is None:
        await store.commit(Commit(puts=(Put(WITHDRAWALS_KEY, empty, expect=ABSENT),)))
