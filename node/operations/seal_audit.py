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
"""How far back the frequent round looks: behind it lie mostly rows that were taken away and are not swept yet."""


async def seal_recent(services: Services) -> bool:
    """Seal records of the last minutes; True when there is more to do at once.

    Raises:
        SpaceError: the store does not answer, or a row does not decode.
    """
    return await _seal(services, since=max(services.clock.now() - RECENT_S, 0.0))


async def seal_audit(services: Services) -> bool:
    """Seal records of whatever time; True when there is more to do at once.

    Raises:
        SpaceError: the store does not answer, or a row does not decode.
    """
    return await _seal(services, since=0.0)


async def _seal(services: Services, *, since: float) -> bool:
    return (await seal_batch(services.store, chain_of(services), since=since, now=services.clock.now())).more


def chain_of(services: Services) -> Chain:
    """Return whose chain it is."""
    keyring = services.keyring
    return Chain(node_did=keyring.node_did, store_id=services.store_id, sign=keyring.node_signer.sign)
