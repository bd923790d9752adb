"""Requests that administer an encryption network."""

from capabilities.abilities import SET_POLICY
from capabilities.resources import NetworkId
from capabilities.strict_json import Json, JsonObject
from encryption_network.requests import change_fact

from ..errors import about_network
from ..session import capability
from .caller import Caller
from .transport import Answer, Request, path_segment


async def administer(
    caller: Caller, network: NetworkId, ability: str, request: Request, *facts: JsonObject
) -> Answer:
    """Send a request that requires a given ability on an encryption network.

    Raises NetworkNotFound if the network does not exist.
    """
    signed_request = await caller.authorized(
        request, [capability(network.text, ability)], facts=facts
    )
    with about_network(network.text):
        return await caller.transport.require(signed_request)


async def request_change(
    caller: Caller, network: NetworkId, request: Request, fact_type: str, body: Json
) -> Answer:
    """Send a request that changes an encryption network.

    The token is bound to the request body.
    """
    fact = change_fact(fact_type, network.text, target_node=await caller.node_id(), body=body)
    return await administer(caller, network, SET_POLICY, request, fact)


def network_path(network: NetworkId) -> str:
    """Return the path of an encryption network's routes at its node."""
    return f"/encryption/networks/{path_segment(network.text)}"
