"""Administration of the owners who may create spaces (ST14).

In mode `permit`, a node hosts only the spaces of admitted owners. A change is effective everywhere
at once: every operation that hosts a space reads the owner's row, and its commit requires the row
unchanged.
"""

from capabilities.clock_and_entropy import Entropy
from capabilities.principals import Principal
from spaces.audit.audit_records import AuditRecord
from spaces.grants.admissions import admission_key, admission_put, is_admitted
from spaces.space_errors import StoreBusy
from spaces.store.contract import Check, Commit, Put, Refused, Store, read_row

_TRIES = 8


async def change_admission(
    store: Store, owner: Principal, *, admits: bool, now: float, entropy: Entropy
) -> bool:
    """Allow or forbid an owner to create spaces on this node.

    Return whether anything changed. Hosted spaces stay hosted, and remain accessible to everyone
    whom their owner granted access. The change and its audit record are durable when this returns.
    """
    action = "owner.admitted" if admits else "owner.removed"
    audit = AuditRecord(at=now, action=action, actor="operator", subject=owner)
    for _ in range(_TRIES):
        record = await read_row(store, admission_key(owner))
        changes = True
        if record is not None and is_admitted(record) is admits:
            # Nothing changes, but the commit waits until the row that was read is durable (ST16).
            changes = False
            commit = Commit(checks=(Check(admission_key(owner), record.stamp),))
        elif admits:
            commit = Commit(puts=(admission_put(owner, now=now), audit.put(entropy)))
        elif record is not None:
            removal = Put(admission_key(owner), None, expect=record.stamp)
            commit = Commit(puts=(removal, audit.put(entropy)))
        else:
            return False  # the owner was never admitted, so there is nothing to remove
        if not isinstance(await store.commit(commit), Refused):
            return changes
    raise StoreBusy(f"other processes are also admitting or removing {owner} now")
