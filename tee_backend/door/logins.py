"""Logins at a door: machine tokens and ID tokens (DR10, DR11)."""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from aiohttp import web

from capabilities.capability_errors import InvalidJson
from capabilities.clock_and_entropy import Clock
from capabilities.strict_base64 import decode_url
from capabilities.strict_json import JsonObject, parse_json
from sealspace.client import Client
from sealspace.errors import InvalidSession, NodeMismatch, NotFound, SealspaceError
from sealspace.session import Session
from sealspace.wire.id_tokens import MAX_ID_TOKEN_BYTES
from sealspace.wire.token_line import read_token, token_of

from .api_answers import ApiAnswer
from .api_requests import ApiRequest
from .door_errors import DoorRefusal, refusal_of
from .door_grants import DoorGrant, DoorGrants
from .limits import LOGINS_PER_MINUTE, MAX_LOGIN_BYTES, Allowance

APPROLE = "auth/approle/login"
JWT = "auth/jwt/login"
KUBERNETES = "auth/kubernetes/login"

_TRUST = re.compile(r"ba[a-z2-7]{20,100}")
_MAX_TEXT_CHARS = 128


class Logins:
    """The logins of a door.

    Args:
        client: a client of the node; its session is not used.
        grants: where the grants go.
        roles: name to the id of a trust.
        clock: source of the time.
    """

    def __init__(
        self, client: Client, grants: DoorGrants, *, roles: Mapping[str, str], clock: Clock
    ) -> None:
        self._client = client
        self._grants = grants
        self._roles = roles
        self._clock = clock
        self._allowance = Allowance(LOGINS_PER_MINUTE, "logins at this door", clock)
        self._running_logins: dict[bytes, asyncio.Task[DoorGrant]] = {}

    async def approle(self, request: ApiRequest) -> web.Response:
        """Answer a login with the line of a machine token.

        Raises:
            DoorRefusal: the body has another form, the line is not a machine token of this name,
                the node does not accept it, or a limit on logins is reached.
        """
        body = await self._read_body(request)
        line = _require_text(body, "secret_id", most_chars=MAX_LOGIN_BYTES).strip()
        name = _require_text(body, "role_id")
        try:
            session = _machine_session(line, name)
        except SealspaceError as error:
            raise _login_refusal(error) from error
        return await self._log_in(
            path=APPROLE,
            role=name,
            credential=_credential_digest("machine token", name, line),
            begin=partial(self._require_accepted, session),
        )

    async def identity(self, request: ApiRequest) -> web.Response:
        """Answer a login with an ID token.

        Raises:
            DoorRefusal: the body has another form, the role names no trust, the ID token is for
                another audience or has ended, the node does not exchange it, or a limit on logins
                is reached.
        """
        body = await self._read_body(request)
        role = _require_text(body, "role")
        token = _require_text(body, "jwt", most_chars=MAX_ID_TOKEN_BYTES).strip()
        # A role without an option --role is itself the id of a trust.
        trust = self._roles.get(role, role)
        if _TRUST.fullmatch(trust) is None:
            raise DoorRefusal(
                400,
                f"the role {role} names no trust; next: use the id that `sealspace ci trust`"
                " printed, or start the door with --role NAME=ID",
            )
        await self._require_for_node(token)
        return await self._log_in(
            path=request.path,
            role=role,
            credential=_credential_digest("ID token", trust, token),
            begin=partial(self._client.exchange_id_token, token, trust=trust),
        )

    async def _read_body(self, request: ApiRequest) -> JsonObject:
        request.require_parameters(())
        return await request.body(most_bytes=MAX_LOGIN_BYTES)

    async def _log_in(
        self, *, path: str, role: str, credential: bytes, begin: Callable[[], Awaitable[Session]]
    ) -> web.Response:
        """Answer with the live grant of a credential, or with a new one (DR11).

        Args:
            path: the path of the login.
            role: the caller's name for the grant.
            credential: the digest of what the caller logs in with.
            begin: asks the node for the session of a new grant.
        """
        grant = self._grants.of_credential(credential)
        if grant is None:
            login = self._running_logins.get(credential)
            if login is None:
                # An ID token serves once, so two logins at the same time share one exchange.
                login = asyncio.create_task(
                    self._add_grant(path=path, role=role, credential=credential, begin=begin)
                )
                self._running_logins[credential] = login
                login.add_done_callback(lambda _: self._running_logins.pop(credential, None))
            # A caller who leaves must not cancel the login of the other.
            grant = await asyncio.shield(login)
        return ApiAnswer(auth=grant.auth(self._clock.now())).response()

    async def _add_grant(
        self, *, path: str, role: str, credential: bytes, begin: Callable[[], Awaitable[Session]]
    ) -> DoorGrant:
        """Begin a session, and add a grant for it; the arguments are those of `_log_in`."""
        with self._grants.room():
            self._allowance.take()
            try:
                session = await begin()
                client = self._client.acting(session)
            except SealspaceError as error:
                raise _login_refusal(error) from error
            return self._grants.add(
                client, path=path, role=role, ends_at=session.expires_at, credential=credential
            )

    async def _require_accepted(self, session: Session) -> Session:
        """Ask the node whether it accepts a machine token, and return the token's session.

        Without this request, a revoked token would log in, and only its first read would fail.
        """
        token = token_of(session)
        assert token is not None  # `_machine_session` has checked it
        secrets = self._client.acting(session).secrets()
        first_secret = token.secrets[0]
        with suppress(NotFound):  # the token is valid, even if the secret was deleted
            await secrets.envelope(first_secret.name, scope=first_secret.scope)
        return session

    async def _require_for_node(self, token: str) -> None:
        """Refuse an ID token for another audience, or one that has ended (DR11).

        The exchange at the node uses the token up, so this comes before it.
        """
        claims = _unverified_claims(token)
        node_id = (await self._client.info()).node_id
        audience = claims.get("aud")
        if audience not in (node_id, [node_id]):
            raise DoorRefusal(
                403,
                f"permission denied: the ID token is for another audience; next: request one with"
                f" the audience {node_id}",
            )
        ends_at = claims.get("exp")
        # The node checks this at the exchange only. Later logins with the same token get the grant
        # of that exchange, but not beyond the token's own end.
        if not isinstance(ends_at, int | float) or self._clock.now() >= ends_at:
            raise DoorRefusal(
                403, "permission denied: the ID token has ended; next: request a new one"
            )


def _machine_session(line: str, name: str) -> Session:
    """Return the session of a machine token, checked without a request to the node.

    Raises:
        InvalidSession: the line is not a machine token, or one of another name.
    """
    session = read_token(line)
    token = token_of(session)
    if token is None:
        raise InvalidSession(
            "this token refreshes the grants of a runner; it reads no secrets",
            hint="use a line that `sealspace token create` printed",
        )
    if token.name != name:
        raise InvalidSession(
            "the role_id is not the name of the machine token in the secret_id",
            hint="use the name that was given to `sealspace token create`",
        )
    return session


def _credential_digest(*parts: str) -> bytes:
    """Return the digest by which a later login with the same credential finds its grant."""
    return hashlib.sha256("\n".join(parts).encode()).digest()


def _login_refusal(error: SealspaceError) -> DoorRefusal:
    """Return the answer for an error of a login."""
    refusal = refusal_of(error)
    # A line or a token that is not valid, or that another node made, is a wrong credential, not a
    # wrong request.
    is_wrong_credential = refusal.status in (400, 404, 409) or isinstance(error, NodeMismatch)
    if is_wrong_credential:
        return DoorRefusal(403, f"permission denied: {error.message}; next: {error.step}")
    return refusal


def _unverified_claims(token: str) -> Mapping[str, Any]:
    """Return the claims of an ID token, which the node verifies."""
    _, _, after_header = token.partition(".")
    payload_text, _, _ = after_header.partition(".")
    payload = decode_url(payload_text)
    try:
        return parse_json(payload or b"", max_bytes=MAX_ID_TOKEN_BYTES)
    except InvalidJson:
        raise DoorRefusal(
            403, "permission denied: jwt is not an ID token; next: send one in compact form"
        ) from None


def _require_text(body: JsonObject, name: str, *, most_chars: int = _MAX_TEXT_CHARS) -> str:
    """Return a text of 1 to `most_chars` characters from a body."""
    text = body.get(name)
    if not isinstance(text, str) or not 0 < len(text) <= most_chars:
        raise DoorRefusal(
            400, f"the body has no valid {name}; next: send a text of 1 to {most_chars} characters"
        )
    return text
