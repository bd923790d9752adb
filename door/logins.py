"""Logins at a door: machine tokens and ID tokens (DR10, DR11, DR20, DR21)."""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from aiohttp import web

from capabilities.cache import Recent
from capabilities.capability_errors import InvalidJson
from capabilities.clock_and_entropy import Clock
from capabilities.frozen import frozen
from capabilities.principals import same_principal
from capabilities.strict_base64 import decode_url
from capabilities.strict_json import JsonObject, parse_json
from sealspace.client import Client
from sealspace.errors import InvalidSession, NodeMismatch, NotFound, SealspaceError
from sealspace.session import Session
from sealspace.wire.id_tokens import MAX_ID_TOKEN_BYTES
from sealspace.wire.token_line import read_token, token_of
from tee_backend.backend.grant_shares import SharedPlaces

from .api_answers import ApiAnswer
from .api_requests import ApiRequest
from .door_errors import TOO_MANY, DoorRefusal, refusal_of
from .door_grants import DoorGrant, DoorGrants
from .limits import MAX_LOGIN_BYTES, MAX_LOGINS
from .login_limits import ArrivingBodies, LoginAttempt, LoginRates
from .named_callers import NamedCallers

APPROLE = "auth/approle/login"
JWT = "auth/jwt/login"
KUBERNETES = "auth/kubernetes/login"

_TRUST = re.compile(r"ba[a-z2-7]{20,100}")
_COMPACT = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+){2}", re.ASCII)
_MAX_TEXT_CHARS = 128
_MOST_ISSUERS = 4096


@frozen
class _Login:
    """A login whose form is valid.

    Attributes:
        path: the path of the login.
        role: the caller's name for the grant.
        attempt: for whom the login counts.
        credential: the digest of what the caller logs in with.
        begin: asks the node for the session of a new grant.
    """

    path: str
    role: str
    attempt: LoginAttempt
    credential: bytes
    begin: Callable[[], Awaitable[Session]]


class Logins:
    """The logins of a door.

    Args:
        client: a client of the node; its session is not used.
        grants: where the grants go.
        named: the callers that the operator named.
        clock: source of the time.
    """

    def __init__(
        self, client: Client, grants: DoorGrants, *, named: NamedCallers, clock: Clock
    ) -> None:
        self._client = client
        self._grants = grants
        self._named = named
        self._clock = clock
        self._bodies = ArrivingBodies()
        self._places = SharedPlaces(MAX_LOGINS)
        self._rates = LoginRates(clock)
        self._issuers = Recent[str, object](_MOST_ISSUERS)
        """Issuer of each trust, as the node verified it. A trust has one issuer."""
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
        attempt = LoginAttempt(
            client=request.client,
            holder=self._named.holder_of_machine_token(session.owner),
            is_signed=_is_signed_by_owner(session),
        )
        login = _Login(
            path=APPROLE,
            role=name,
            attempt=attempt,
            credential=_credential_digest("machine token", name, line),
            begin=partial(self._require_accepted, session),
        )
        return await self._log_in(login)

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
        holder = self._named.holder_of_id_token(role)
        # A role without an option --role is itself the id of a trust.
        trust = holder.did
        if _TRUST.fullmatch(trust) is None:
            raise DoorRefusal(
                400,
                f"the role {role} names no trust; next: use the id that `sealspace ci trust`"
                " printed, or start the door with --role NAME=ID",
            )
        key_id = _key_id(token)
        claims = await self._claims_for_node(token, trust)
        login = _Login(
            path=request.path,
            role=role,
            attempt=LoginAttempt(client=request.client, holder=holder, key_id=key_id),
            credential=_credential_digest("ID token", trust, token),
            begin=partial(self._exchange, token, trust, claims.get("iss")),
        )
        return await self._log_in(login)

    async def _read_body(self, request: ApiRequest) -> JsonObject:
        request.require_parameters(())
        async with self._bodies.arriving(request.client):
            return await request.body(most_bytes=MAX_LOGIN_BYTES)

    async def _log_in(self, login: _Login) -> web.Response:
        """Answer with the live grant of a credential, or with a new one (DR11)."""
        grant = self._grants.of_credential(login.credential)
        if grant is None:
            with self._place(login.attempt.client):
                grant = await self._new_grant(login)
        return ApiAnswer(auth=grant.auth(self._clock.now())).response()

    @contextmanager
    def _place(self, client: str | None) -> Iterator[None]:
        """Keep a place for a login until the `with` block ends.

        Raises:
            DoorRefusal: too many logins wait for the node.
        """
        with self._places.reserve(client) as has_place:
            # logins leave connections to requests that have a token (DR21)
            if not has_place:
                raise DoorRefusal(
                    TOO_MANY,
                    f"too many logins wait for the node: at most {MAX_LOGINS}, of which one client"
                    " leaves as many as it uses; next: log in again in a few seconds",
                )
            yield

    async def _new_grant(self, login: _Login) -> DoorGrant:
        """Return a new grant, which logins at the same time with the same credential share."""
        credential = login.credential
        running = self._running_logins.get(credential)
        if running is None:
            # An ID token serves once, so two logins at the same time share one exchange.
            running = asyncio.create_task(self._add_grant(login))
            self._running_logins[credential] = running
            running.add_done_callback(lambda _: self._running_logins.pop(credential, None))
        # A caller who leaves must not cancel the login of the other.
        return await asyncio.shield(running)

    async def _add_grant(self, login: _Login) -> DoorGrant:
        """Begin a session, and add a grant for it."""
        holder = login.attempt.holder
        with self._grants.room(holder) as leaving:
            self._rates.take(login.attempt)
            try:
                session = await login.begin()
                client = self._client.acting(session)
            except SealspaceError as error:
                raise _login_refusal(error) from error
            self._rates.accept(login.attempt)
            return self._grants.add(
                client,
                path=login.path,
                role=login.role,
                ends_at=session.expires_at,
                holder=holder,
                leaving=leaving,
                credential=login.credential,
            )

    async def _exchange(self, token: str, trust: str, issuer: object) -> Session:
        """Exchange an ID token at the node, and note the issuer of its trust."""
        session = await self._client.exchange_id_token(token, trust=trust)
        self._issuers.put(trust, issuer)
        return session

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

    async def _claims_for_node(self, token: str, trust: str) -> Mapping[str, Any]:
        """Return the claims of an ID token, which the node verifies.

        Raises:
            DoorRefusal: it is for another audience, of another issuer than its trust, or it has
                ended. The exchange at the node uses the token up, so this comes before it (DR11).
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
        if trust in self._issuers and claims.get("iss") != self._issuers[trust]:
            raise DoorRefusal(
                403,
                "permission denied: the ID token is of another issuer than the trust; next: use the"
                " role of a trust in this issuer",
            )
        ends_at = claims.get("exp")
        # The node checks this at the exchange only. Later logins with the same token get the grant
        # of that exchange, but not beyond the token's own end.
        if not isinstance(ends_at, int | float) or self._clock.now() >= ends_at:
            raise DoorRefusal(
                403, "permission denied: the ID token has ended; next: request a new one"
            )
        return claims


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


def _is_signed_by_owner(session: Session) -> bool:
    """Return whether the owner itself signed a machine token.

    Otherwise a node signed it for a job, or an admin for a team. Then only the node can tell
    whether it is of this owner.
    """
    token = token_of(session)
    assert token is not None  # `_machine_session` has checked it
    return same_principal(token.grant.delegator, token.owner)


def _key_id(token: str) -> str:
    """Return the key id of an ID token, "" if it has none.

    Raises:
        DoorRefusal: the token is not a signed one in compact form.
    """
    if _COMPACT.fullmatch(token) is None:
        raise _not_an_id_token()
    header = _json_part(token, 0)
    key_id = header.get("kid", "")
    if not isinstance(header.get("alg"), str) or not isinstance(key_id, str):
        raise _not_an_id_token()
    return key_id


def _unverified_claims(token: str) -> Mapping[str, Any]:
    """Return the claims of an ID token in compact form, which the node verifies."""
    return _json_part(token, 1)


def _json_part(token: str, number: int) -> JsonObject:
    """Return a part of an ID token: 0 for the header, 1 for the claims."""
    part = decode_url(token.split(".")[number])
    try:
        return parse_json(part or b"", max_bytes=MAX_ID_TOKEN_BYTES)
    except InvalidJson:
        raise _not_an_id_token() from None


def _not_an_id_token() -> DoorRefusal:
    return DoorRefusal(
        403, "permission denied: jwt is not an ID token; next: send one in compact form"
    )


def _require_text(body: JsonObject, name: str, *, most_chars: int = _MAX_TEXT_CHARS) -> str:
    """Return a text of 1 to `most_chars` characters from a body."""
    text = body.get(name)
    if not isinstance(text, str) or not 0 < len(text) <= most_chars:
        raise DoorRefusal(
            400, f"the body has no valid {name}; next: send a text of 1 to {most_chars} characters"
        )
    return text
