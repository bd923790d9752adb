"""Sealing the audit records into the chain: the housekeeping's part (RC4, RC5).

A record is sealed about a second after it was written. Its time is that of its writer's clock when
it planned the commit; one that came late is found by the rounds that look further back. They are
rarer, because before the last record that was sealed lie mostly rows that were taken away and are
not swept yet.
"""

from functools import partial
from typing import Final

from spaces.audit.audit_chain import Chain, seal_batch

from ..services import Services

RECENT_S: Final = 2.0
"""How far before the last time it found nothing more the frequent round looks: what nearly every
commit keeps to."""
DELAYED_S: Final = 120.0
"""How far the round of each minute looks: beyond any commit's way to the store."""
_BATCHES: Final = 8
"""Batches of one round: less than a second of the disk's time."""


async def seal_audit(services: Services, *, window_s: float | None = None) -> bool:
    """Seal records, of the last seconds or of any time; True when there is more to do at once."""
    chain, after, more = chain_of(services), None, True
    for _ in range(_BATCHES):
        now = services.clock.now()
        sealed = await seal_batch(services.store, chain, now=now, window_s=window_s, after=after)
        after, more = sealed.last_key, sealed.more
        if not more:
            break
    return more


seal_recent: Final = partial(seal_audit, window_s=RECENT_S)
"""Seal records that came since the last round, or shortly before it."""
seal_delayed: Final = partial(seal_audit, window_s=DELAYED_S)
"""Seal records that were long on their way too."""


def chain_of(services: Services) -> Chain:
    """Return whose chain it is."""
    keyring = services.keyring
    return Chain(
        node_did=keyring.node_did, store_id=services.store_id, sign=keyring.node_signer.sign
    )
