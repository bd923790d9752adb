"""Routes for iExec's clients, on an address of their own (spec/sms.md, X1.6)."""

from collections.abc import Callable, Iterator
from functools import partial

from aiohttp import web

from capabilities.abilities import KV_METADATA, KV_PUT
from capabilities.capability_errors import CapabilityError
from capabilities.frozen_struct import FrozenStruct
from capabilities.signatures import keccak256
from sealspace.documents.iexec_names import (
    USED_PREFIX,
    AddressKind,
    app_secret,
    dataset_secret,
    requester_secret,
    wallet_secret,
)
from sealspace.documents.secret_names import SecretName
from sealspace.errors import InvalidInput

from ...operations.values.iexec_secrets import (
    challenge_of,
    did_of,
    find_grant,
    owner_at,
    push_secret,
    require_ownership,
    signer_of,
)
from ...refusal import Refusal
from ...services import SERVICES
from ..messages.error_answers import AnsweredRoute
from ..messages.http_answers import empty_answer
from ..messages.http_requests import check_rate_limit, limited_body, token_of
from ..messages.route import Route
from .invoke import message_of
from .route_table import no_route, wrong_method_routes

_MAX_SECRET_BYTES = 4096  # the limit of iExec's service (SM6)
_MAX_BODY_BYTES = 65_536


class Kind(FrozenStruct):
    """A kind of secret.

    Attributes:
        path: the path of its routes.
        address: the parameter with the address of an owner, an application or a data set.
        name: the parameter with the name; None for a kind without names.
        secret: returns the name under which the secret is stored. Its argument is the address if
            something is published there, otherwise the name.
        published: what is published at the address, an application or a data set; None if the
            address is that of a wallet.
    """

    path: str
    address: str
    name: str | None
    secret: Callable[[str], SecretName]
    published: AddressKind | None = None


def hex_bytes(text: str) -> bytes:
    """Decode hex digits as iExec does: the first of an odd number is a byte of its own (SM4)."""
    digits = text.removeprefix("0x")
    if len(digits) % 2 == 1:
        digits = f"0{digits}"
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise Refusal("sms-unauthorized") from None


def _named(kind: Kind, request: web.Request) -> tuple[str, str]:
    """Return the address and the name in a request."""
    given = {**request.query, **request.match_info}
    try:
        address = given[kind.address]
        # An application has one secret, and its index 1 is the name (X1.2).
        name = "1" if kind.name is None else given[kind.name]
    except KeyError:
        raise Refusal("request-malformed") from None
    return address, name


def _secret(kind: Kind, address: str, name: str) -> SecretName:
    """Return the name under which a secret is stored."""
    try:
        return kind.secret(address if kind.published else name)
    except InvalidInput:
        raise Refusal("sms-bad-name") from None


async def push(kind: Kind, request: web.Request) -> web.Response:
    """POST, PUT: store a secret. The checks have the order of X1.6."""
    services = request.app[SERVICES]
    address, name = _named(kind, request)
    authorization = token_of(request)
    # Longer than a value may be: a wrong signature is reported before a value that is too large.
    body = await limited_body(request, max_bytes=_MAX_BODY_BYTES)
    signed = [hex_bytes(address)]
    if kind.published != "dataset":  # the challenge of a data set contains no name (SM4)
        signed.append(keccak256(name.encode("utf-8", "surrogatepass")))
    signed.append(keccak256(body))
    challenge = challenge_of(*signed)
    owner = signer_of(authorization, challenge)
    # A wallet's secrets are pushed only by the wallet itself (SM8).
    if not kind.published and owner != did_of(hex_bytes(address)):
        raise Refusal("sms-unauthorized")
    message = message_of(request, services.config.http)
    grant = await find_grant(services, owner)
    try:
        await grant.read(KV_PUT, USED_PREFIX)  # before name and value are examined (SM5)
        secret = _secret(kind, address, name)
        if kind.published:
            await require_ownership(grant, kind.published, address, secret, message)
        if len(body) > _MAX_SECRET_BYTES:
            raise Refusal("sms-too-large")
        value = body.decode(errors="replace")
        is_utf8 = value.encode() == body  # otherwise characters were replaced
        if not is_utf8 or not value.strip():
            raise Refusal("sms-not-text")
        await push_secret(grant, message, secret, challenge, value, request.method == "PUT")
    except (CapabilityError, Refusal) as exc:
        if isinstance(exc, Refusal) and exc.code != "owner-moved":
            raise
        raise Refusal(
            "sms-not-enabled"
        ) from None  # every lack of authority is reported alike (SM3)
    return empty_answer(204)


async def check(kind: Kind, request: web.Request) -> web.Response:
    """HEAD: report whether an owner has a secret (SM10)."""
    services = request.app[SERVICES]
    address, name = _named(kind, request)
    check_rate_limit(request, services.public_rates)
    secret = _secret(kind, address, name)
    try:
        if kind.published:
            owner = await owner_at(services, address)
        else:
            owner = did_of(hex_bytes(address))
        grant = await find_grant(services, owner)
        head = await grant.read(KV_METADATA, secret.path)
    except (Refusal, CapabilityError, InvalidInput):
        # Without a grant or an owner the answer is that of an absent secret (SM10).
        head = None
    return empty_answer(404 if head is None else 204)


_REQUESTER = Kind(
    path="/requesters/{address}/secrets/{name}",
    address="address",
    name="name",
    secret=requester_secret,
)
_RESULT = Kind(
    path="/secrets/web2", address="ownerAddress", name="secretName", secret=wallet_secret
)
_APP = Kind(
    path="/apps/{address}/secrets",
    address="address",
    name=None,
    secret=app_secret,
    published="app",
)
_DATASET = Kind(
    path="/secrets/web3",
    address="secretAddress",
    name=None,
    secret=dataset_secret,
    published="dataset",
)


def _routes_of(kind: Kind) -> Iterator[Route]:
    """Yield the routes of a kind of secret; only results may be replaced."""
    place: AnsweredRoute | None = "sms-requester" if kind is _REQUESTER else None
    methods = ["HEAD", "POST"]
    if kind is _RESULT:
        methods.append("PUT")
    for method in methods:
        handler = partial(check if method == "HEAD" else push, kind)
        yield Route(method=method, path=kind.path, handler=handler, surface="sms", place=place)


_ROUTES = (
    *_routes_of(_APP),
    *_routes_of(_REQUESTER),
    *_routes_of(_DATASET),
    *_routes_of(_RESULT),
)
SMS_SERVED = (
    *_ROUTES,
    *wrong_method_routes(_ROUTES, "sms"),
    Route(method="*", path="/{path:.*}", handler=no_route, surface="sms"),
)
"""Every row that is served on the service's address."""
