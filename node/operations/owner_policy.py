"""The policy that an owner states for a network, written in person (RL17).

"In person" is the gate's own word: the owner's own key, or a session that the owner's wallet signed and that stands. A
delegate may never write it, whatever it was granted: it would approve itself.
"""

from typing import Final

from capabilities.resources import NetworkId, network_of
from capabilities.tokens import Invocation, parse_invocation
from encryption_network.canonical_json import canonical_hash
from encryption_network.gate import in_person_marks
from encryption_network.networks import NetworkRecord, decode_network, encode_network, parse_path_id, with_policy
from encryption_network.policy import MAX_POLICY_BYTES, parse_policy, policy_json
from encryption_network.requests import MAX_LIFETIME_S, check_audience, read_body
from spaces.audit import AuditRecord, audit_put
from spaces.networks import network_put, network_row_key
from spaces.revocations import mark_keys
from spaces.store.contract import Commit

from ..services import Services
from .attempts import Planned, until_committed
from .attestation_errors import NetworkUnknown, PolicyNotInPerson, SessionNotBound
from .authorise import Call, admit_token, read_call
from .in_person import read_presence

SET_POLICY: Final = "sealspace.encryption/policy"
POLICY_FACT: Final = "sealspace.encryption.policy/v1"


async def set_policy(services: Services, header: str, *, path_id: str, body: bytes) -> None:
    """Replace the owner's policy of a network; `null` takes it away. In force for the next release.

    Args:
        services: the node.
        header: untrusted: a UCAN to this node with `sealspace.encryption/policy` on the network, and the fact
            `{"type", "targetNode", "networkId", "bodyHash"}`.
        path_id: network id of the path, percent-decoded once.
        body: untrusted JSON of a policy, or `null`.

    Raises:
        MalformedToken, CapabilityError, EncryptionError, PolicyError: what is wrong with token, chain, id or policy.
        AttestationRequestError: not bound to this request, no such network, or not the owner in person.
        SpaceError: the store does not answer.
    """
    value = read_body(body, max_bytes=MAX_POLICY_BYTES)
    policy = None if value is None else parse_policy(value)
    node_did = services.keyring.node_did
    check_audience(parse_invocation(header).audience, node_did)
    invocation = admit_token(header, now=services.clock.now(), max_lifetime_s=MAX_LIFETIME_S)
    network = parse_path_id(path_id)
    check_bound(invocation, network, canonical_hash(value), node_did, fact_type=POLICY_FACT)

    async def attempt(is_first: bool) -> Planned[None]:
        call = await read_call(services, invocation, keys=(network_row_key(network),), claiming=is_first)
        row = call.records[0]
        if row is None or row.value is None:
            raise NetworkUnknown("create the network first: it appears with its owner's sign-in")
        record = decode_network(row.value)
        marks = in_person_marks(await read_presence(services, call, record.owner))
        if marks is None:
            raise PolicyNotInPerson("sign in with the owner's wallet and write the policy from that session")
        changed = with_policy(record, policy, services.clock.now())
        puts = (
            network_put(network, encode_network(changed), expect=row.stamp),
            audit_put(_audit(services, call, changed), entropy=services.entropy),
        )
        live = tuple(dict.fromkeys((*call.live, *mark_keys(marks))))
        return Planned(Commit(puts=puts, live=live, claim=call.claim), None)

    await until_committed(services, attempt)


def check_bound(invocation: Invocation, network: NetworkId, body_hash: str, node_did: str, *, fact_type: str) -> None:
    """Check that a token of the owner's is for this network, this body and this kind of request, and nothing else.

    Raises:
        SessionNotBound: another capability than `sealspace.encryption/policy`, or not exactly that one fact.
    """
    only = invocation.capabilities[0] if len(invocation.capabilities) == 1 else None
    if only is None or only.ability != SET_POLICY or network_of(only.resource) != network:
        raise SessionNotBound(f"sign the one capability {SET_POLICY} on the network of the path")
    expected = {"type": fact_type, "targetNode": node_did, "networkId": network.text, "bodyHash": body_hash}
    facts = [fact for fact in invocation.facts if isinstance(fact, dict) and fact.get("type") == fact_type]
    if facts != [expected]:
        raise SessionNotBound("sign one fact with type, targetNode, networkId and this body's hash")


def _audit(services: Services, call: Call, record: NetworkRecord) -> AuditRecord:
    digest = "none" if record.policy is None else canonical_hash(policy_json(record.policy))
    return AuditRecord(
        at=services.clock.now(),
        action="network.policy",
        actor=call.invocation.invoker,
        subject=record.network_id.text,
        token=call.invocation.cid,
        authority=call.authority.live,
        detail=digest.encode(),
    )
