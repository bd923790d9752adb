"""Background jobs that append audit records to a signed hash chain (RC4, RC5).

A record is sealed about a second after it was written. Its timestamp is the writer's time when the
commit was planned, so records may arrive out of order. The rarer jobs look further back for
late records. They run less often because most rows before the last sealed record are deleted rows
that are not swept yet, and scanning them is slow.
"""

from functools import partial

from spaces.audit.audit_chain import Chain, seal_batch

from ..services import Services

RECENT_S = 2.0
"""How far the frequent job looks back from its last empty result; covers nearly every commit."""
DELAYED_S = 120.0
"""How far the job of each minute looks back; no commit takes longer to reach the store."""
_BATCHES = 8
"""Batches in one round; together they take less than a second of disk time."""


async def seal_audit(services: Services, *, window_s: float | None = None) -> bool:
    """Append queued audit records to the signed hash chain.

    Args:
        window_s: How far to look back for late records, from the last time the queue was empty, in
            seconds. None means without limit.

    Returns:
        Whether more records remain.
    """
    chain = chain_of(services)
    last_key = None
    for _ in range(_BATCHES):
        sealed = await seal_batch(
            services.store, chain, now=services.now(), window_s=window_s, after=last_key
        )
        if not sealed.more:
            return False
        last_key = sealed.last_key
    return True


seal_recent = partial(seal_audit, window_s=RECENT_S)
"""Seal records that arrived since the last round or shortly before it."""
seal_delayed = partial(seal_audit, window_s=DELAYED_S)
"""Seal records whose commits were delayed by up to two minutes."""


def chain_of(services: Services) -> Chain:
    """Return the parameters for signing the node's audit log.

    They are the DID of the node, the id of its store, and a function that signs.
    """
    keyring = services.keyring
    return Chain(
        node_did=keyring.node_did, store_id=services.store_id, sign=keyring.node_signer.sign
    )
