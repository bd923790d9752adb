"""Changes that only an encryption network's owner may make (RL17, RL20, RC22).

These are changes to the policy and withdrawals of trust. Both work in the same way: the caller
sends a token for exactly this change, and the node replaces the network's record and writes an
audit record. The caller must be the owner "in person": it uses the owner's own key, or a live
session that the owner's wallet signed. A delegate may never write a policy, whatever was granted to
it, because it could approve itself. Neither may a DID in which the owner or the operator has
withdrawn trust (RC31).
"""

from collections.abc import Callable

from capabilities.abilities import SET_POLICY
from capabilities.facts import POLICY_FACT
from capabilities.resources import NetworkId
from capabilities.strict_json import Json
from capabilities.tokens import Invocation
from encryption_network.canonical_json import canonical_hash
from encryption_network.networks import NetworkRecord, encode_network, with_policy
from encryption_network.policy import MAX_POLICY_BYTES, Policy, parse_policy, policy_json
from encryption_network.requests import change_fact, read_body
from encryption_network.withdrawals import decode_withdrawals
from spaces.documents.network_rows import network_put, network_row_key
from spaces.keyspace import WITHDRAWALS_KEY
from spaces.space_errors import RecordDamaged
from spaces.store.contract import Check, Commit

from ...refusal import Refusal
from ...services import Services
from ..attempts import until_committed
from ..authorise import read_call
from ..owner_authority import decide_owner_authority
from .network_reading import (
    admitted_for_network,
    admitted_reader,
    known_network,
    require_present_secret,
)


async def change_in_person(
    services: Services,
    header: str,
    *,
    path_id: str,
    fact_type: str,
    value: Json,
    make: Callable[[NetworkRecord], NetworkRecord],
    action: str,
    detail: bytes,
    in_person: str,
    seals: bool = False,
) -> NetworkRecord:
    """Change an encryption network's record at the owner's own request.

    Requests from delegates are refused. The change is effective for the next release.

    Args:
        header: untrusted text of the `Authorization` header: a UCAN to this node.
        path_id: network id of the path, percent-decoded once.
        fact_type: type of the fact that binds the token to this kind of change.
        value: the parsed body, whose hash the fact contains.
        make: returns the changed record.
        action, detail: of the audit record.
        in_person: the hint for a caller that is not the owner.
        seals: whether `make` seals a private key with the root secret.
    Returns:
        The record as it was stored.
    Raises:
        MalformedToken, CapabilityError, EncryptionError: the token or the id is invalid.
        Refusal: `session-not-bound`, `network-unknown`, `policy-not-in-person`, or
            `root-secret-replaced` if a key would be sealed with a former root secret (RK4).
        SpaceError: the store does not answer.
    """
    invocation, network = admitted_for_network(services, header, path_id, SET_POLICY)
    _check_fact(services, invocation, network, fact_type=fact_type, value=value)

    async def attempt(is_first: bool) -> tuple[Commit, NetworkRecord]:
        call = await read_call(
            services, invocation, (network_row_key(network), WITHDRAWALS_KEY), records_use=is_first
        )
        network_row, withdrawals_row = call.records
        record = known_network(network_row)
        if withdrawals_row is None or withdrawals_row.value is None:
            raise RecordDamaged("the store has no list of withdrawals of trust")
        authority = await decide_owner_authority(services, call, record.owner)
        # The delegations that make the caller the owner in person; they have to stay live.
        relied_on = authority.in_person
        if relied_on is None or _is_withdrawn(record, withdrawals_row.value, invocation):
            raise Refusal("policy-not-in-person", hint=in_person)
        assert network_row is not None  # known_network raises otherwise
        checks: tuple[Check, ...] = (Check(WITHDRAWALS_KEY, withdrawals_row.stamp),)
        if seals:
            await require_present_secret(services)
            checks += services.sealing_checks
        changed = make(record)
        commit = call.commit(
            (
                network_put(network, encode_network(changed), expect=network_row.stamp),
                call.audit(services, action, network.text, detail),
            ),
            checks=checks,
            relied_on=relied_on,
            reserve=record.owner,  # a full store still accepts policies and withdrawals (ST17)
        )
        return commit, changed

    return await until_committed(services, attempt)


def _is_withdrawn(record: NetworkRecord, node_withdrawals: bytes, invocation: Invocation) -> bool:
    """Return whether the owner or the operator has withdrawn trust in the caller (RC31)."""
    withdrawals = (record.withdrawals, decode_withdrawals(node_withdrawals))
    return any(part.names_any((invocation.invoker,)) for part in withdrawals)


def _check_fact(
    services: Services, invocation: Invocation, network: NetworkId, *, fact_type: str, value: Json
) -> None:
    """Check that a token has exactly one fact of a type, which is about this change.

    The signed fact names network, body hash and kind of change, so that the token of fact change
    cannot be used for another.
    """
    expected = change_fact(
        fact_type, network.text, target_node=services.keyring.node_did, body=value
    )
    facts = [
        fact
        for fact in invocation.facts
        if isinstance(fact, dict) and fact.get("type") == fact_type
    ]
    if facts != [expected]:
        raise Refusal(
            "session-not-bound",
            hint="the token must have one fact with the members type, targetNode, networkId and"
            " bodyHash",
        )


async def set_policy(services: Services, header: str, *, path_id: str, body: bytes) -> None:
    """Replace the owner's policy for an encryption network.

    A body of `null` removes the policy. The change is effective for the next release.
    """
    value = read_body(body, max_bytes=MAX_POLICY_BYTES)
    policy = None if value is None else parse_policy(value)
    await change_in_person(
        services,
        header,
        path_id=path_id,
        fact_type=POLICY_FACT,
        value=value,
        make=lambda record: with_policy(record, policy, services.now()),
        action="network.policy",
        detail=b"none" if policy is None else canonical_hash(policy_json(policy)).encode(),
        in_person="sign in with the owner's wallet and write the policy from that session",
    )


async def read_policy(services: Services, header: str, *, path_id: str) -> Policy | None:
    """Return the owner's policy for an encryption network, or None (RL20).

    The caller needs the ability `SET_POLICY`.
    """
    invocation, network = admitted_reader(services, header, path_id, SET_POLICY)
    call = await read_call(services, invocation, (network_row_key(network),))
    return known_network(call.records[0]).policy
