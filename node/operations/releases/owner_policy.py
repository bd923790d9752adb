"""The policy that an owner states for a network, written in person (RL17)."""

from capabilities.facts import POLICY_FACT
from encryption_network.canonical_json import canonical_hash
from encryption_network.networks import with_policy
from encryption_network.policy import MAX_POLICY_BYTES, parse_policy, policy_json
from encryption_network.requests import read_body

from ...services import Services
from .in_person_write import Change, change_in_person


async def set_policy(services: Services, header: str, *, path_id: str, body: bytes) -> None:
    """Replace the owner's policy of a network; `null` removes it. In force for the next release.

    Args:
        services: the node.
        header: untrusted, see `change_in_person`.
        path_id: network id of the path, percent-decoded once.
        body: untrusted JSON of a policy, or `null`.

    Raises:
        PolicyError: what is wrong with the policy; and as `change_in_person`.
    """
    value = read_body(body, max_bytes=MAX_POLICY_BYTES)
    policy = None if value is None else parse_policy(value)
    change = Change(
        fact_type=POLICY_FACT,
        value=value,
        make=lambda record: with_policy(record, policy, services.clock.now()),
        action="network.policy",
        detail=b"none" if policy is None else canonical_hash(policy_json(policy)).encode(),
        in_person="sign in with the owner's wallet and write the policy from that session",
    )
    await change_in_person(services, header, path_id=path_id, change=change)
