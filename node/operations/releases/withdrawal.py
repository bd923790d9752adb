"""Withdrawal of trust in code, backends or evidence (RC20 to RC24).

A withdrawal stops key releases. An owner withdraws trust for one network, the operator for all
networks. Withdrawals are stored in rows that every release reads and whose stamps its commit
checks. So a withdrawal that was acknowledged before a release is durable takes precedence.
"""

from capabilities.clock_and_entropy import Entropy
from capabilities.facts import WITHDRAWAL_FACT
from capabilities.principals import principal_of
from capabilities.strict_json import JsonObject
from encryption_network.canonical_json import canonical_bytes
from encryption_network.network_errors import WithdrawalError
from encryption_network.networks import NetworkRecord, with_withdrawals
from encryption_network.requests import read_body
from encryption_network.withdrawals import (
    MAX_NODE_ENTRIES,
    MAX_REQUEST_BYTES,
    Withdrawals,
    decode_withdrawals,
    encode_withdrawals,
    parse_withdrawal,
)
from spaces.audit.audit_records import AuditRecord
from spaces.keyspace import WITHDRAWALS_KEY
from spaces.space_errors import RecordDamaged, StoreBusy
from spaces.store.contract import REVOCATION_RESERVE, Commit, Put, Refused, Store, read_row

from ...services import Services
from .owner_policy import change_in_person

WITHDRAWN = "release.withdrawn"
_TRIES = 8


async def withdraw_for_network(
    services: Services, header: str, *, path_id: str, body: bytes
) -> None:
    """Withdraw trust in code, backends or evidence for one network (RC22).

    From the next release on, no keys of the network are released to this code, to these backends,
    or on this evidence. Only the network's owner may do this, not a delegate.

    Args:
        header: untrusted, see `change_in_person`.
        path_id: network id of the path, percent-decoded once.
        body: untrusted JSON, see `encryption_network.withdrawals`.

    Raises:
        EncryptionError: the body is invalid.
        Errors of `change_in_person`.
    """
    value = read_body(body, max_bytes=MAX_REQUEST_BYTES)
    entry = parse_withdrawal(value)

    def make(record: NetworkRecord) -> NetworkRecord:
        if principal_of(record.owner) in entry.dids:
            raise WithdrawalError(
                "trust in the network's owner cannot be withdrawn; to stop all key releases, revoke"
                " the network"
            )
        return with_withdrawals(record, entry, services.now())

    await change_in_person(
        services,
        header,
        path_id=path_id,
        fact_type=WITHDRAWAL_FACT,
        value=value,
        make=make,
        action=WITHDRAWN,
        detail=canonical_bytes(value),
        in_person="sign in with the owner's wallet and withdraw from that session",
    )


async def withdraw_everywhere(
    store: Store, entry: Withdrawals, *, now: float, entropy: Entropy
) -> Withdrawals:
    """Withdraw trust in code, backends or evidence on the whole node (RC21).

    From the next release on, no keys are released to this code, to these backends, or on this
    evidence.

    Returns:
        The node's complete list of withdrawals, with `entry` added.

    Raises:
        WithdrawalError: the list is full (RC23).
        RecordDamaged: the store has no list, so no node of this version was started on it.
        RecordError, SpaceError: the list does not decode, or the store does not accept the commit.
    """
    for _ in range(_TRIES):
        row = await read_row(store, WITHDRAWALS_KEY)
        if row is None or row.value is None:
            raise RecordDamaged("the store has no list of withdrawals of trust")
        listed = decode_withdrawals(row.value).joined(entry)
        if len(listed) > MAX_NODE_ENTRIES:
            raise WithdrawalError(
                "the node's list of withdrawals of trust is full: the list may have at most"
                f" {MAX_NODE_ENTRIES} entries"
            )
        audit = AuditRecord(
            at=now,
            action=WITHDRAWN,
            actor="operator",
            subject="every network",
            detail=canonical_bytes(withdrawals_json(entry)),
        )
        puts = (
            Put(WITHDRAWALS_KEY, encode_withdrawals(listed), expect=row.stamp),
            audit.put(entropy),
        )
        # A full store still accepts withdrawals (ST17).
        commit = Commit(puts=puts, reserve=REVOCATION_RESERVE)
        if not isinstance(await store.commit(commit), Refused):
            return listed
    raise StoreBusy("other processes are changing the list of withdrawals of trust")


def withdrawals_json(listed: Withdrawals) -> JsonObject:
    """List in JSON the code, DIDs and evidence that are no longer trusted.

    The entries are sorted.
    """
    return {
        "measurements": [entry.hex() for entry in sorted(listed.measurements)],
        "dids": [*sorted(listed.dids)],
        "evidence": [entry.hex() for entry in sorted(listed.evidence)],
    }
