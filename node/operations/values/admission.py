"""Admitting owners to a node in mode `permit`, and removing them (ST14).

In force everywhere at once: every operation that hosts a space reads the owner's row and has its commit check it.
"""

from collections.abc import Callable
from typing import Final, Literal

from capabilities.ambient import Entropy
from capabilities.principals import Principal
from spaces.audit.records import AuditRecord, audit_put
from spaces.errors import StoreBusy
from spaces.grants.admissions import admission_check, admission_key, admission_put, is_admitted, removal_put
from spaces.store.contract import Check, Commit, Put, Record, Refused, Store, read_row

_TRIES: Final = 8


async def admit_owner(store: Store, owner: Principal, *, now: float, entropy: Entropy) -> bool:
    """Let an owner have spaces here; durable, with its audit record, when this returns."""

    def change(record: Record | None) -> Put | Check:
        return admission_check(owner, record) if is_admitted(record) else admission_put(owner, now=now)

    return await _commit(store, change, "owner.admitted", owner, now=now, entropy=entropy)


async def remove_owner(store: Store, owner: Principal, *, now: float, entropy: Entropy) -> bool:
    """Prevent an owner from having new spaces here; durable, with its audit record, when this returns.

    What is hosted remains hosted, and still serves those to whom its owner granted access.
    """

    def change(record: Record | None) -> Put | Check | None:
        if record is None:
            return None
        return removal_put(owner, record) if is_admitted(record) else Check(admission_key(owner), record.stamp)

    return await _commit(store, change, "owner.removed", owner, now=now, entropy=entropy)


async def _commit(
    store: Store,
    change_of: Callable[[Record | None], Put | Check | None],
    action: Literal["owner.admitted", "owner.removed"],
    owner: Principal,
    *,
    now: float,
    entropy: Entropy,
) -> bool:
    """Write a row and its audit record, or confirm a row that is as wanted; return whether it was written."""
    for _ in range(_TRIES):
        change = change_of(await read_row(store, admission_key(owner)))
        if change is None:
            return False
        if isinstance(change, Check):  # ST16
            commit = Commit(checks=(change,))
        else:
            audit = AuditRecord(at=now, action=action, actor="operator", subject=owner)
            commit = Commit(puts=(change, audit_put(audit, entropy=entropy)))
        if not isinstance(await store.commit(commit), Refused):
            return isinstance(change, Put)
    raise StoreBusy("others admit and remove the same owner at the same time")
