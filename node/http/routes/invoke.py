"""POST /invoke: everything that a token's capabilities ask for (wire §4)."""

from aiohttp import web

from ...operations.authorise import admit_token
from ...operations.table import OPEN_KEY, plan_call
from ...services import SERVICES
from ..messages.invocation_answers import invocation_answer
from ..messages.invocation_messages import InvocationMessage
from ..messages.problems import PLACE
from ..messages.route import OPERATION
from ..messages.token_header import token_of


async def post_invocation(request: web.Request) -> web.StreamResponse:
    """Answer what the token's capabilities ask for; they alone choose the operation."""
    services = request.app[SERVICES]
    config = services.config
    invocation = admit_token(
        token_of(request), now=services.clock.now(), max_lifetime_s=config.invocation.max_lifetime_s
    )
    plan = plan_call(services, invocation, InvocationMessage(request, config.http))
    if (
        services.counter is not None or config.log.requests != "off"
    ):  # one without notes is answered faster, see `last_id`
        request[OPERATION] = plan.operation
    if plan.row is OPEN_KEY:
        request[PLACE] = "invoked-decrypt"  # refused after its admission, which the chain does with 403 too (4.8)
    return await invocation_answer(request, services, await plan.run(plan.request))
