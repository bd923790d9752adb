"""The part of POST /invoke that answers for services beside KV: delegations of a space, spaces of an owner."""

from aiohttp import web

from capabilities.tokens import Invocation

from ...operations.delegations.read_capabilities import read_capabilities
from ...operations.delegations.service_plan import ServiceStep, ServiceVerb
from ...operations.delegations.space_service import list_spaces, make_space, read_space
from ...services import Services
from ..messages.answers import json_answer
from ..messages.clients import client_address


async def answer_service(
    services: Services, invocation: Invocation, step: ServiceStep, request: web.Request
) -> web.Response:
    """Answer the one call that a token asks for (wire 4.5, 4.7)."""
    match step.verb:
        case ServiceVerb.READ_CAPABILITIES:
            told = await read_capabilities(services, invocation, step.space)
            return json_answer(told.grants, headers=_truncated(told.truncated))
        case ServiceVerb.LIST_SPACES:
            listed = await list_spaces(services, invocation, step)
            return json_answer(listed.spaces, headers=_truncated(listed.truncated))
        case ServiceVerb.MAKE_SPACE:
            client = client_address(request, services.config.http)
            return json_answer(await make_space(services, invocation, step, client=client))
        case ServiceVerb.READ_SPACE:
            return json_answer(await read_space(services, invocation, step))


def _truncated(truncated: bool) -> dict[str, str]:
    """Say whether a list is whole, as a listing of keys does; only where it is not, since none is expected here."""
    return {"x-tinycloud-truncated": "true"} if truncated else {}
