"""The operator's withdrawals of trust, in one database row.

The row lists code, DIDs and evidence.

Its contents are opaque here. The row exists from the first start on, so that a commit can check its
stamp (RC21). A network's own withdrawals are stored in the network's row.
"""

from ..keyspace import WITHDRAWALS_KEY
from ..store.contract import ABSENT, Put, Store, commit_puts, read_row


async def ensure_withdrawals(store: Store, empty: bytes) -> None:
    """Ensure that the node's list of withdrawals of trust exists.

    Another process may create the list at the same time.
    """
    if await read_row(store, WITHDRAWALS_KEY) is None:
        await commit_puts(store, Put(WITHDRAWALS_KEY, empty, expect=ABSENT))
