"""An index of the sessions that owners signed (IP2).

`capabilities.sign_ins` defines a session. Its index row, under key prefix `t`, is written at
registration, and says only that the owner registered a session with a key. The reader decides
whether the session is in force now, by time, window and revocation marker.
"""

from capabilities.principals import Principal
from capabilities.sign_ins import is_session
from capabilities.tokens import Delegation

from ..keyspace import session_key, x16
from ..store.contract import Put, Range


def session_puts(delegation: Delegation, *, now: float) -> list[Put]:
    """Return the index rows to write for a session.

    The list is empty if the delegation is not a session.
    """
    if not is_session(delegation, registered_at=now):
        return []
    return [Put(session_row_key(delegation), delegation.content_key)]


def session_row_key(delegation: Delegation) -> bytes:
    """Return the key of a delegation's row in the session index.

    The row exists only if the delegation is a session.
    """
    return session_key(x16(delegation.delegator), x16(delegation.delegate), delegation.content_key)


def sessions_range(owner: Principal, did: Principal, *, limit: int = 64) -> Range:
    """Return the range of index rows for an owner's sessions.

    Only sessions of the DID `did` are included.
    """
    return Range(session_key(x16(owner), x16(did)), limit=limit)
