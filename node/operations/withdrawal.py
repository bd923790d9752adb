"""Withdrawing code, a backend or evidence: by the owner for a network, by the operator for all (RC20 to RC24).

What is withdrawn stands in rows that every release reads, and whose stamps its commit checks: a withdrawal that was
acknowledged before a release is durable wins against it.

Example:
    await withdraw_for_network(services, header, path_id="urn:…:default", body=body)
    await withdraw_everywhere(store, parse_withdrawal({"did": did}), now=clock.now(), entropy=entropy)
"""

from typing import Final

from capabilities.ambient import Entropy
from capabilities.principals import principal_of
from capabilities.resources import NetworkId
from capabilities.strict_json import Json
from capabilities.tokens import parse_invocation
from encryption_network.canonical_json import canonical_bytes, canonical_hash
from encryption_network.errors import WithdrawalError
from encryption_network.gate import in_person_marks
from encryption_network.networks import decode_network, encode_network, parse_path_id, with_withdrawals
from encryption_network.requests import MAX_LIFETIME_S, check_audience, read_body
from encryption_network.withdrawals import (
    MAX_NODE_ENTRIES,
    MAX_REQUEST_BYTES,
    Withdrawals,
    decode_withdrawals,
    encode_withdrawals,
    parse_withdrawal,
)
from spaces.audit import AuditRecord, audit_put
from spaces.errors import RecordDamaged, StoreBusy
from spaces.networks import network_put, network_row_key
from spaces.revocations import mark_keys
from spaces.store.contract import Commit, Refused, Store
from spaces.withdrawals import withdrawals_put, withdrawals_row_key

from ..services import Services
from .attempts import Planned, until_committed
from .attestation_errors import NetworkUnknown, PolicyNotInPerson
from .authorise import Call, admit_token, read_call
from .in_person import read_presence
from .owner_policy import check_bound

WITHDRAWAL_FACT: Final = "sealspace.encryption.withdrawal/v1"
WITHDRAWN: Final = "release.withdrawn"
_TRIES: Final = 8


async def withdraw_for_network(services: Services, header: str, *, path_id: str, body: bytes) -> None:
    """Withdraw code, a backend or evidence for one network, in person; in force for the next release (RC22).

    Args:
        services: the node.
        header: untrusted: a UCAN to this node with `sealspace.encryption/policy` on the network, and the fact
            `{"type", "targetNode", "networkId", "bodyHash"}` of the type above.
        path_id: network id of the path, percent-decoded once.
        body: untrusted JSON, see `encryption_network.withdrawals`.

    Raises:
        MalformedToken, CapabilityError, EncryptionError: what is wrong with token, chain, id or body.
        AttestationRequestError: not bound to this request, no such network, or not the owner in person.
        SpaceError: the store does not answer.
    """
    value = read_body(body, max_bytes=MAX_REQUEST_BYTES)
    entry = parse_withdrawal(value)
    node_did = services.keyring.node_did
    check_audience(parse_invocation(header).audience, node_did)
    invocation = admit_token(header, now=services.clock.now(), max_lifetime_s=MAX_LIFETIME_S)
    network = parse_path_id(path_id)
    check_bound(invocation, network, canonical_hash(value), node_did, fact_type=WITHDRAWAL_FACT)

    async def attempt(is_first: bool) -> Planned[None]:
        call = await read_call(services, invocation, keys=(network_row_key(network),), claiming=is_first)
        row = call.records[0]
        if row is None or row.value is None:
            raise NetworkUnknown("create the network first: it appears with its owner's sign-in")
        record = decode_network(row.value)
        marks = in_person_marks(await read_presence(services, call, record.owner))
        if marks is None:
            raise PolicyNotInPerson("sign in with the owner's wallet and withdraw from that session")
        if principal_of(record.owner) in entry.dids:
            raise WithdrawalError("the owner's own DID cannot be withdrawn; revoke the network instead")
        changed = with_withdrawals(record, entry, services.clock.now())
        puts = (
            network_put(network, encode_network(changed), expect=row.stamp),
            audit_put(_owner_audit(services, call, network, value), entropy=services.entropy),
        )
        live = tuple(dict.fromkeys((*call.live, *mark_keys(marks))))
        return Planned(Commit(puts=puts, live=live, claim=call.claim), None)

    await until_committed(services, attempt)


def _owner_audit(services: Services, call: Call, network: NetworkId, value: Json) -> AuditRecord:
    return AuditRecord(
        at=services.clock.now(),
        action=WITHDRAWN,
        actor=call.invocation.invoker,
        subject=network.text,
        token=call.invocation.cid,
        authority=call.authority.live,
        detail=canonical_bytes(value),
    )


async def withdraw_everywhere(store: Store, entry: Withdrawals, *, now: float, entropy: Entropy) -> Withdrawals:
    """Withdraw for every network on a store, and return all that is withdrawn so (RC21).

    Raises:
        WithdrawalError: the list is full (RC23).
        RecordDamaged: the store has no such list: no node of this version was started on it.
        RecordError, SpaceError: the list does not decode, or the store does not take the commit.
    """
    for _ in range(_TRIES):
        row = (await store.read((withdrawals_row_key(),))).records[0]
        if row is None or row.value is None:
            raise RecordDamaged("the store has no list of withdrawals")
        listed = decode_withdrawals(row.value).joined(entry)
        if len(listed) > MAX_NODE_ENTRIES:
            raise WithdrawalError(f"a node lists at most {MAX_NODE_ENTRIES} withdrawals")
        audit = AuditRecord(
            at=now,
            action=WITHDRAWN,
            actor="operator",
            subject="every network",
            detail=canonical_bytes(withdrawals_json(entry)),
        )
        puts = (withdrawals_put(encode_withdrawals(listed), expect=row.stamp), audit_put(audit, entropy=entropy))
        if not isinstance(await store.commit(Commit(puts=puts)), Refused):
            return listed
    raise StoreBusy("others withdraw at the same time")


def withdrawals_json(listed: Withdrawals) -> dict[str, Json]:
    """Show a list as JSON, entries in order."""
    return {
        "measurements": [entry.hex() for entry in sorted(listed.measurements)],
        "dids": [*sorted(listed.dids)],
        "evidence": [entry.hex() for entry in sorted(listed.evidence)],
    }
