"""Checks of tokens for accessing an encryption network's policy and receipts (RC14, RL20)."""

from capabilities.resources import NetworkId, network_of
from capabilities.tokens import Invocation
from encryption_network.networks import NetworkRecord, decode_network, parse_path_id
from encryption_network.requests import MAX_LIFETIME_S
from spaces.keyspace import ROOT_SECRET_KEY
from spaces.store.contract import Record, read_row

from ...refusal import Refusal
from ...services import Services
from ..authorise import admit_token, check_unbound


def admitted_for_network(
    services: Services, header: str, path_id: str, ability: str
) -> tuple[Invocation, NetworkId]:
    """Verify a token for requests to an encryption network.

    Its only capability must be `ability` on the network in the URL.

    Args:
        header: untrusted text of the `Authorization` header: a UCAN to this node.
        path_id: network id of the path, percent-decoded once.
        ability: the ability that the token must have.
    Raises:
        MalformedToken, CapabilityError, EncryptionError: the token or the id is invalid.
        Refusal: `session-not-bound`, the token has other capabilities.
    Does not check:
        The chain, and replay; `read_call` does. The token's facts.
    """
    invocation = admit_token(
        header,
        now=services.now(),
        max_lifetime_s=MAX_LIFETIME_S,
        only_for=services.keyring.node_did,
    )
    network = parse_path_id(path_id)
    granted = [
        (capability.ability, network_of(capability.resource))
        for capability in invocation.capabilities
    ]
    if granted != [(ability, network)]:
        raise Refusal(
            "session-not-bound",
            hint=f"sign a token whose only capability is {ability} on the network in the URL",
        )
    return invocation, network


def admitted_reader(
    services: Services, header: str, path_id: str, ability: str
) -> tuple[Invocation, NetworkId]:
    """Verify a token for reading an encryption network's policy or receipts.

    A token that is bound to another route is rejected.
    """
    invocation, network = admitted_for_network(services, header, path_id, ability)
    check_unbound(invocation)  # a token signed to change a policy must not read one (T12)
    return invocation, network


def known_network(row: Record | None) -> NetworkRecord:
    """Decode the stored row of an encryption network.

    Raises:
        Refusal: `network-unknown`, the row is absent.
    """
    if row is None or row.value is None:
        raise Refusal(
            "network-unknown",
            hint="create the network first, for example by signing in as the network's owner",
        )
    return decode_network(row.value)


async def require_present_secret(services: Services) -> None:
    """Check that this process has the present root secret (RK4).

    A network that is sealed by a former root secret could never be opened. The commit also requires
    the secret to be unchanged; this check gives the reason.

    Raises:
        Refusal: `root-secret-replaced`.
    """
    if not services.has_present_secret(await read_row(services.store, ROOT_SECRET_KEY)):
        raise Refusal("root-secret-replaced")
