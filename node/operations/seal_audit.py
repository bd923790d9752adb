"""Sealing the audit records into the chain: the housekeeping's part (RC4, RC5).

A record is sealed about a second after it was written. Its time is that of its writer's clock when it planned the
commit; one that came later than the window below is found by the round that looks through everything.

Example:
    while await seal_recent(services): ...
"""

from typing import Final

from spaces.audit_chain import Chain, seal_batch

from ..services import Services

RECENT_S: Final = 120.0
"""How far before the last time it found nothing more the frequent round looks: beyond any commit's way to the store."""


async def seal_recent(services: Services) -> bool:
    """Seal records that came since the last round, or shortly before it; True when there is more to do at once.

    Raises:
        SpaceError: the store does not answer, or a row does not decode.
    """
    return await _seal(services, window_s=RECENT_S)


async def seal_audit(services: Services) -> bool:
    """Seal records of whatever time; True when there is more to do at once.

    Raises:
        SpaceError: the store does not answer, or a row does not decode.
    """
    return await _seal(services, window_s=None)


async def _seal(services: Services, *, window_s: float | None) -> bool:
    return (await seal_batch(services.store, chain_of(services), now=services.clock.now(), window_s=window_s)).more


def chain_of(services: Services) -> Chain:
    """Return whose chain it is."""
    keyring = services.keyring
    return Chain(node_did=keyring.node_did, store_id=services.store_id, sign=keyring.node_signer.sign)
