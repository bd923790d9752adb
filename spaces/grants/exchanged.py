"""The number of machine tokens that the node made under a trust and that have not ended (OX9).

Each of them has a row under its expiry, which adds one to the counter of its trust. The sweep
removes the rows of tokens that have ended, and with each row its share of the counter. The token
itself is kept longer (`retention`).

Example:
    counter = exchanged_counter_of(delegation, registered.parents)
    adds = exchanged_bound(counter, counter_of(record), limit=1000)
"""

from collections.abc import Sequence

from capabilities.chain import Registered
from capabilities.cids import ContentKey
from capabilities.machine_tokens import is_machine_token
from capabilities.tokens import Delegation

from ..expiry import remove_until
from ..keyspace import EXCHANGED_PREFIX, exchanged_counter, exchanged_key, micros8
from ..space_errors import TooManyExchanged
from ..store.contract import Add, Put, Store

_BATCH = 64


def is_exchanged(delegation: Delegation) -> bool:
    """Return whether a delegation is a machine token that the node made under a trust."""
    # Machine tokens by owners cite nothing. Those by an admin's wallet cite the admin's membership
    # (TM6), and are not UCANs.
    is_by_node = bool(delegation.parents) and delegation.form == "ucan"
    return is_by_node and is_machine_token(delegation)


def exchanged_puts(registered: Registered) -> list[Put]:
    """Return the row that counts a machine token under its trust; empty for other delegations."""
    delegation = registered.delegation
    key = exchanged_key(micros8(delegation.expires_at), delegation.content_key)
    return [
        Put(key, delegation.content_key, weight_bytes=1, account=counter)
        for counter in exchanged_counter_of(delegation, registered.parents)
    ]


def exchanged_counter_of(
    delegation: Delegation, parents: Sequence[ContentKey]
) -> tuple[bytes, ...]:
    """Return the key of the counter that a machine token counts in.

    Args:
        delegation: any delegation.
        parents: content keys of the delegations that it cites, as far as they are registered.
    Returns:
        One key. Empty if the node did not make the delegation under a trust, or if the trust is not
        registered.
    """
    if not is_exchanged(delegation) or not parents:
        return ()
    trust = parents[0]  # the only delegation that such a token cites
    return (exchanged_counter(trust),)


def exchanged_bound(counter: bytes, value: int, *, limit: int) -> tuple[Add, ...]:
    """Return the commit condition for one more machine token under a trust.

    Args:
        counter: key of the trust's counter.
        value: its value when it was read.
        limit: most tokens that have not ended; 0 means unlimited.
    Raises:
        TooManyExchanged: the limit is reached.
    """
    if not limit:
        return ()
    require_room(value, limit=limit)
    # Adds nothing: the token's row does. The counter may have grown since it was read.
    return (Add(counter, 0, at_most=limit),)


def require_room(value: int, *, limit: int) -> None:
    """Check that one more machine token may be made under a trust.

    Args:
        value: how many tokens have not ended.
        limit: most of them; 0 means unlimited.
    Raises:
        TooManyExchanged: the limit is reached.
    """
    if limit and value >= limit:
        raise TooManyExchanged(
            f"the limit of {limit} live machine tokens under this trust is reached"
        )


async def sweep_exchanged(store: Store, *, now: float) -> bool:
    """Stop counting machine tokens that have ended, and return whether work remains.

    Raises:
        SpaceError: the store does not answer.
    """
    return await remove_until(store, EXCHANGED_PREFIX, micros8(now), limit=_BATCH) == _BATCH
