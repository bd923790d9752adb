"""Who sent a request: the holder of an API key, or the signer of a token (RN88, RN89, RN178).

Example:
    key = await callers.key(request)
    owner = await callers.signer(request, "keys")
"""

from aiohttp import web

from capabilities.limits import parsed_address
from capabilities.principals import Principal
from sealspace.apps.api_keys import KEY_HEADER, ApiKey, parse_credential
from sealspace.apps.run_calls import SIGN_IN_HEADER
from sealspace.apps.run_calls import Call as SignedCall
from sealspace.errors import InvalidInput

from ..calls.calls import Calls
from ..reasons import RunRefused
from .request_bodies import ClientOf


class Callers:
    """Verifies the credentials of requests to a runner."""

    def __init__(self, calls: Calls, client_of: ClientOf) -> None:
        self._calls = calls
        self._runner = calls.runner
        self._client_of = client_of

    async def key(self, request: web.Request) -> ApiKey:
        """Verify and return the API key in a request's header (RN88, RN89).

        Raises:
            RunRefused: `key-in-clear` without TLS, `key-malformed`, or `key-refused` if the key is
                unknown, has ended or was revoked, or its secret is wrong.
        """
        if not _is_confidential(request):
            raise RunRefused("key-in-clear")
        shown = request.headers.get(KEY_HEADER)
        if shown is None:
            raise RunRefused("key-refused")
        try:
            credential = parse_credential(shown)
        except InvalidInput as invalid:
            raise RunRefused("key-malformed", invalid.message) from invalid
        key = await self._calls.keys.live_key(credential.owner, credential.nonce)
        if not key.is_of(credential):
            raise RunRefused("key-refused")
        return key

    async def verified(self, request: web.Request) -> SignedCall:
        """Verify the token of a request; it is not used yet."""
        authorization, sign_in = credentials(request)
        return await self._runner.verify_caller(authorization, sign_in, self._client_of(request))

    async def signer(self, request: web.Request, about: str) -> Principal:
        """Verify and use up the token of a request about something other than a program."""
        call = await self.verified(request)
        is_known = await self._calls.ledger.has_account(call.caller)
        return await self._runner.use_token(call, about, b"", is_known=is_known)


def credentials(request: web.Request) -> tuple[str | None, str | None]:
    """Return the credentials from the headers of a request.

    They are a token and a wallet sign-in.
    """
    return request.headers.get("Authorization"), request.headers.get(SIGN_IN_HEADER)


def _is_confidential(request: web.Request) -> bool:
    """Return whether a request's connection is safe from eavesdroppers (RN88).

    It is if it is local or encrypted. TLS counts only if this process terminates it.
    """
    transport = request.transport
    if transport is None:
        return False
    if transport.get_extra_info("sslcontext") is not None:
        return True
    peername = transport.get_extra_info("peername")
    if not peername:  # unknown, for example because the client has disconnected
        return False
    address, *_ = peername
    peer = parsed_address(address)
    return peer is not None and peer.is_loopback
