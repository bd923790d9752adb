"""The policy that an owner states for a network: written in person (RL17), read by whoever may (RL20)."""

from capabilities.abilities import SET_POLICY
from capabilities.facts import POLICY_FACT
from encryption_network.canonical_json import canonical_hash
from encryption_network.networks import with_policy
from encryption_network.policy import MAX_POLICY_BYTES, Policy, parse_policy, policy_json
from encryption_network.requests import read_body
from spaces.documents.networks import network_row_key

from ...services import Services
from ..authorise import read_call
from .in_person_write import change_in_person
from .network_reading import admitted_reader, known_network


async def set_policy(services: Services, header: str, *, path_id: str, body: bytes) -> None:
    """Replace the owner's policy of a network; `null` removes it. In force for the next release."""
    value = read_body(body, max_bytes=MAX_POLICY_BYTES)
    policy = None if value is None else parse_policy(value)
    await change_in_person(
        services,
        header,
        path_id=path_id,
        fact_type=POLICY_FACT,
        value=value,
        make=lambda record: with_policy(record, policy, services.clock.now()),
        action="network.policy",
        detail=b"none" if policy is None else canonical_hash(policy_json(policy)).encode(),
        in_person="sign in with the owner's wallet and write the policy from that session",
    )


async def read_policy(services: Services, header: str, *, path_id: str) -> Policy | None:
    """Return the owner's policy of a network, None where nothing is stated, to a holder of `SET_POLICY` (RL20)."""
    invocation, network = admitted_reader(services, header, path_id, SET_POLICY)
    call = await read_call(services, invocation, (network_row_key(network),))
    return known_network(call.records[0]).policy
