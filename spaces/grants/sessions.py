"""Sessions that an owner granted in person: the index `t` (IP2).

The row is written at registration and says only that a session of the owner with a key was
registered, as `capabilities.sign_ins` defines it; the reader decides whether it is in force now, by
time, window and mark.
"""

from capabilities.principals import Principal
from capabilities.sign_ins import is_session
from capabilities.tokens import Delegation

from ..keyspace import session_key, x16
from ..store.contract import Put, Range


def session_puts(delegation: Delegation, *, now: float) -> list[Put]:
    """Return the row of the index, when the delegation being registered is a session."""
    if not is_session(delegation, registered_at=now):
        return []
    return [Put(session_row_key(delegation), delegation.content_key)]


def session_row_key(delegation: Delegation) -> bytes:
    """Key of the row that a delegation has where it is a session."""
    return session_key(x16(delegation.delegator), x16(delegation.delegate), delegation.content_key)


def sessions_range(owner: Principal, did: Principal, *, limit: int = 64) -> Range:
    """Rows of the sessions that an owner granted one DID."""
    return Range(session_key(x16(owner), x16(did)), limit=limit)
