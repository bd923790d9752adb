"""What an owner changes of a network in person: the policy and the withdrawals (RL17, RC22).

Both are one write: a token for exactly this change, the owner in person, the network's record over the one that was
read, and an audit record with it. "In person" is the gate's own term: the owner's own key, or a session that the
owner's wallet signed and that is in force. A delegate may never write so, whatever it was granted: it would approve
itself. A DID that the owner or the operator withdrew may not write either (RC31).
"""

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from capabilities.abilities import SET_POLICY
from capabilities.principals import Principal
from capabilities.resources import NetworkId, network_of
from capabilities.strict_json import Json
from capabilities.tokens import Invocation
from encryption_network.networks import NetworkRecord, decode_network, encode_network, parse_path_id
from encryption_network.requests import MAX_LIFETIME_S, change_fact
from encryption_network.withdrawals import Withdrawals, decode_withdrawals
from spaces.audit.records import AuditRecord, audit_put
from spaces.documents.networks import network_put, network_row_key
from spaces.errors import RecordDamaged
from spaces.grants.revocations import mark_keys
from spaces.keyspace import WITHDRAWALS_KEY
from spaces.store.contract import Check, Commit

from ...refusal import Refusal
from ...services import Services
from ..attempts import CommitPlan, until_committed
from ..authorise import Call, admit_token, read_call
from ..reading import Reading
from .owner_authority import read_owner_authority

_WITHDRAWALS_KEY: Final = WITHDRAWALS_KEY


class Change(Struct, frozen=True):
    """A change of a network's record."""

    fact_type: str
    value: Json
    make: Callable[[NetworkRecord], NetworkRecord]
    action: str
    detail: bytes
    in_person: str


async def change_in_person(services: Services, header: str, *, path_id: str, change: Change) -> None:
    """Change a network's record for its owner in person; in force for the next release."""
    node_did = services.keyring.node_did
    invocation = admit_token(header, now=services.clock.now(), max_lifetime_s=MAX_LIFETIME_S, only_for=node_did)
    network = parse_path_id(path_id)
    _check_bound(invocation, network, change, node_did)

    async def attempt(is_first: bool) -> CommitPlan[None]:
        reading = Reading()
        of_network, of_operator = reading.row(network_row_key(network)), reading.row(_WITHDRAWALS_KEY)
        call = await read_call(services, invocation, reading, claiming=is_first)
        row, listed = of_network.found, of_operator.found
        if row is None or row.value is None:
            raise Refusal("network-unknown", hint="create the network first: it appears with its owner's sign-in")
        if listed is None or listed.value is None:
            raise RecordDamaged("the store has no list of withdrawals")
        record = decode_network(row.value)
        marks = (await read_owner_authority(services, call, record.owner)).in_person
        if marks is None or _is_withdrawn(invocation.invoker, record.withdrawals, decode_withdrawals(listed.value)):
            raise Refusal("policy-not-in-person", hint=change.in_person)
        puts = (
            network_put(network, encode_network(change.make(record)), expect=row.stamp),
            audit_put(_audit(services, call, network, change), entropy=services.entropy),
        )
        live = tuple(dict.fromkeys((*call.live, *mark_keys(marks))))
        unchanged = (Check(_WITHDRAWALS_KEY, listed.stamp),)
        return CommitPlan(Commit(puts=puts, live=live, checks=unchanged, claim=call.claim), None)

    await until_committed(services, attempt)


def _is_withdrawn(invoker: Principal, *lists: Withdrawals) -> bool:
    """Return whether the owner or the operator withdrew the caller (RC31)."""
    return any(listed.names_any((invoker,)) for listed in lists)


def _check_bound(invocation: Invocation, network: NetworkId, change: Change, node_did: str) -> None:
    """Check that a token is for this network, this body and this kind of change, and for nothing else."""
    only = invocation.capabilities[0] if len(invocation.capabilities) == 1 else None
    if only is None or only.ability != SET_POLICY or network_of(only.resource) != network:
        raise Refusal("session-not-bound", hint=f"sign the one capability {SET_POLICY} on the network of the path")
    expected = change_fact(change.fact_type, network.text, target_node=node_did, body=change.value)
    facts = [fact for fact in invocation.facts if isinstance(fact, dict) and fact.get("type") == change.fact_type]
    if facts != [expected]:
        raise Refusal("session-not-bound", hint="sign one fact with type, targetNode, networkId and this body's hash")


def _audit(services: Services, call: Call, network: NetworkId, change: Change) -> AuditRecord:
    return AuditRecord(
        at=services.clock.now(),
        action=change.action,
        actor=call.invocation.invoker,
        subject=network.text,
        token=call.invocation.cid,
        authority=call.authority.live,
        detail=change.detail,
    )
