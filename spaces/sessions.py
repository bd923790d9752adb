"""Sessions that an owner granted in person: the index `t` (IP2).

A session is a wallet's own CACAO without parents, made out to one DID, expiring within 30 days of its registration
here, that holds `tinycloud.capabilities/read` on a space of the wallet. The row is written at registration and says
only that such a delegation was registered; that it stands now is for the reader to see, by window and mark.

Example:
    rows = (await store.read(ranges=(sessions_range(owner, invoker),))).pages[0]
    found = await delegations.by_content(contents_of(rows))
"""

from typing import Final

from capabilities.abilities import satisfies
from capabilities.principals import Principal, is_wallet, same_principal
from capabilities.resources import SpaceResource
from capabilities.tokens import Delegation

from .keyspace import session_key, sessions_prefix, x16
from .store.contract import Put, Range

MAX_SESSION_S: Final = 30 * 86_400
_READ: Final = "tinycloud.capabilities/read"


def is_in_person(delegation: Delegation, *, registered_at: float) -> bool:
    """Whether a wallet signed this itself, for a bounded time, citing nobody (IP2)."""
    return (
        delegation.form == "cacao"
        and is_wallet(delegation.delegator)
        and not delegation.parents
        and delegation.expires_at is not None
        and delegation.expires_at <= registered_at + MAX_SESSION_S
    )


def is_session(delegation: Delegation, *, registered_at: float) -> bool:
    """Whether this is a session granted in person (IP2)."""
    return is_in_person(delegation, registered_at=registered_at) and any(
        satisfies(capability.ability, _READ)
        and isinstance(capability.resource, SpaceResource)
        and same_principal(capability.resource.space.owner, delegation.delegator)
        for capability in delegation.capabilities
    )


def session_puts(delegation: Delegation, *, now: float) -> list[Put]:
    """Return the row of the index, when the delegation being registered is a session."""
    if delegation.parents or not is_session(delegation, registered_at=now):
        return []
    content = delegation.content_key
    return [Put(session_key(x16(delegation.delegator), x16(delegation.delegate), content), content)]


def sessions_range(owner: Principal, did: Principal, *, after: bytes | None = None, limit: int = 64) -> Range:
    """Rows of the sessions that an owner granted one DID."""
    return Range(sessions_prefix(x16(owner), x16(did)), after=after, limit=limit)
