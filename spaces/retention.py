"""How many delegations of one signer are kept, and when one leaves.

Each registration counts in its signer's counter, inside the commit. A delegation that expired leaves 30 days later with
every row that its registration wrote, its mark included: what it says itself forbids it to be registered again, revoked
or not, so nothing comes back. One that never expires stays.

The index `E` is in the order of the closure's expiry. Where the delegation itself would end later than its closure, it
is filed again under its own end: until then it could be posted again, and its mark has to be there.

Example:
    commit = Commit(puts=tuple(registration_puts(...)), adds=(kept_add(kept_key(signer), limit=100_000),))
    removal = plan_removal(key, stored, record, now=now)
"""

from typing import Final

from capabilities.principals import Principal

from .delegations import StoredDelegation, registration_puts
from .keyspace import EXPIRY_PREFIX, delegation_key, expiry_key, kept_counter, micros8, newest8, x16
from .sessions import session_row_key
from .store.contract import Add, Commit, Put, Record

KEPT_AFTER_EXPIRY_S: Final = 30 * 86_400


def kept_key(signer: Principal) -> bytes:
    """Key of the counter of a signer's delegations."""
    return kept_counter(x16(signer))


def kept_add(key: bytes, *, limit: int | None) -> Add:
    """Count one delegation more; the commit is refused where the signer has `limit` of them already.

    Args:
        key: the signer's counter, from `kept_key`.
        limit: most delegations of one signer; None: any number.
    """
    return Add(key, 1, at_most=limit)


def plan_removal(due: bytes, stored: StoredDelegation | None, record: Record | None, *, now: float) -> Commit:
    """Return what to do with a delegation that the index says has expired.

    Args:
        due: key of its row in the index `E`.
        stored: the delegation; None when it is gone.
        record: its record, as it was read.
        now: epoch seconds; `due` was found up to `swept_until(now)`.

    Returns:
        A commit that removes every row of its registration and counts one less; that files it under its own end; or
        that only clears the row of the index. It is refused when somebody else has removed it.
    """
    if stored is None or record is None:
        return Commit(puts=(Put(due, None),))
    delegation = stored.registered.delegation
    own_end = delegation.expires_at
    if own_end is None:
        return Commit(puts=(Put(due, None),))
    if micros8(own_end) > swept_until(now):
        later = expiry_key(micros8(own_end), newest8(stored.registered_at), delegation.content_key)
        return Commit(puts=(Put(due, None), Put(later, delegation.content_key)))
    return _removal(due, stored, record)


def _removal(due: bytes, stored: StoredDelegation, record: Record) -> Commit:
    delegation = stored.registered.delegation
    whole = delegation_key(delegation.content_key)
    written = registration_puts(stored.registered, now=stored.registered_at, accounts=stored.accounts)
    keys = {put.key for put in written} - {whole}
    if delegation.form == "cacao":
        keys.add(session_row_key(delegation))  # filed by an earlier version, it may be no session by the rules of today
    puts = [Put(whole, None, expect=record.stamp), *(Put(key, None) for key in sorted(keys | {due}))]
    return Commit(puts=tuple(puts), adds=(Add(kept_key(delegation.delegator), -1),))


def swept_until(now: float) -> bytes:
    """The latest expiry whose delegations may leave now, as it stands in the index."""
    return micros8(now - KEPT_AFTER_EXPIRY_S)


INDEX: Final = EXPIRY_PREFIX
