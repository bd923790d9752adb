"""POST /invoke: everything that a token's capabilities ask for (wire §4)."""

from aiohttp import web

from capabilities.errors import CapabilityError, WrongKind
from encryption_network.errors import EncryptionError

from ...operations.authorise import admit_token
from ...operations.table import OPEN_KEY, plan_call
from ...services import SERVICES
from ..messages.answers import WireText
from ..messages.invocation_answers import invocation_answer
from ..messages.invocation_messages import InvocationMessage
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
    if services.tally is not None:  # a request without notes is answered quicker, see `last_id`
        request[OPERATION] = plan.operation
    try:
        result = await plan.run(plan.request)
    except (EncryptionError, CapabilityError) as error:
        if plan.row is not OPEN_KEY or isinstance(error, WrongKind):  # T9
            raise
        raise _refused_key(error) from error
    return await invocation_answer(request, services, result)


def _refused_key(error: EncryptionError | CapabilityError) -> WireText:
    """Return how a request for a key is refused after its admission: by the chain with 403 too, not with 401 (4.8)."""
    if isinstance(error, EncryptionError):
        return WireText(error.status_invoke, error.invoke_text)
    return WireText(403, error.text)
