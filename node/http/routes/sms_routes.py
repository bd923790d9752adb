"""Routes for iExec's clients, on an address of their own (spec/sms.md, X1.6)."""

from collections.abc import Callable
from functools import partial

from aiohttp import web
from msgspec import Struct

from capabilities.abilities import KV_METADATA
from capabilities.signatures import keccak256
from sealspace.documents.iexec_names import (
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
    push_secret,
    require_ownership,
    signer_of,
)
from ...refusal import Refusal
from ...services import SERVICES
from ..messages.http_answers import empty_answer
from ..messages.http_requests import check_rate_limit, limited_body, token_of
from ..messages.route import Route
from .invoke import message_of
from .route_table import no_route, wrong_method_routes

MAX_VALUE_BYTES = 4096
_MAX_READ_BYTES = 65_536
"""Longest body that is read: a wrong signature is reported before a value that is too large."""


class Kind(Struct, frozen=True):
    """A kind of secret.

    Attributes:
        path: of its route.
        address: the parameter with the address of an owner, an application or a data set.
        name: the parameter with the name; None for a kind without names.
        secret: returns the secret's name by address and name.
        published: set if the address is that of something published.
    """

    path: str
    address: str
    name: str | None
    secret: Callable[[str, str], SecretName]
    published: AddressKind | None = None


def hex_bytes(text: str) -> bytes:
    """Decode hex digits as iExec does: the first of an odd number is a byte of its own (SM4)."""
    digits = text.removeprefix("0x")
    try:
        return bytes.fromhex("0" * (len(digits) % 2) + digits)
    except ValueError:
        raise Refusal("sms-unauthorized") from None


def _named(kind: Kind, request: web.Request) -> tuple[str, str]:
    """Return the address and the name in a request."""
    given = {**request.query, **request.match_info}
    try:
        # The name of an application's secret is that of its only index (X1.2).
        return given[kind.address], "1" if kind.name is None else given[kind.name]
    except KeyError:
        raise Refusal("request-malformed") from None


def _secret(kind: Kind, address: str, name: str) -> SecretName:
    try:
        return kind.secret(address, name)
    except InvalidInput:
        raise Refusal("sms-bad-name") from None


async def push(kind: Kind, request: web.Request) -> web.Response:
    """POST, PUT: store a secret. The checks have the order of X1.6."""
    services, (address, name) = request.app[SERVICES], _named(kind, request)
    authorization = token_of(request)
    body = await limited_body(request, max_bytes=_MAX_READ_BYTES, too_large="sms-too-large")
    texts = () if kind.published == "dataset" else (name.encode("utf-8", "surrogatepass"),)
    challenge = challenge_of(hex_bytes(address), *map(keccak256, (*texts, body)))
    owner = signer_of(authorization, challenge)
    if kind.published is None and owner != did_of(hex_bytes(address)):  # SM8
        raise Refusal("sms-unauthorized")
    # Before what follows is refused: only refusals with 401 are charged to the client (SM5).
    grant = await find_grant(services, owner)
    if kind.published is not None:
        await require_ownership(grant, kind.published, address)
    secret = _secret(kind, address, name)
    if len(body) > MAX_VALUE_BYTES:  # SM6
        raise Refusal("sms-too-large")
    try:
        value = body.decode()
    except UnicodeDecodeError:
        raise Refusal("sms-not-text") from None
    if not value.strip():
        raise Refusal("sms-blank")
    message = message_of(request, services.config.http)
    await push_secret(grant, message, secret, challenge, value, replaces=request.method == "PUT")
    return empty_answer(204)


async def check(kind: Kind, request: web.Request) -> web.Response:
    """HEAD: report whether an owner has a secret (SM10)."""
    services, (address, name) = request.app[SERVICES], _named(kind, request)
    check_rate_limit(request, services, services.public_rates)
    secret = _secret(kind, address, name)
    try:
        grant = await find_grant(services, did_of(hex_bytes(address)))
        is_found = await grant.read(KV_METADATA, secret.path) is not None
    except Refusal:
        is_found = False
    return empty_answer(204 if is_found else 404)


_REQUESTER = Kind(
    "/requesters/{address}/secrets/{name}",
    "address",
    "name",
    lambda _, name: requester_secret(name),
)
_RESULT = Kind("/secrets/web2", "ownerAddress", "secretName", lambda _, name: wallet_secret(name))
_APP = Kind("/apps/{address}/secrets", "address", None, lambda at, _: app_secret(at), "app")
_DATASET = Kind("/secrets/web3", "secretAddress", None, lambda at, _: dataset_secret(at), "dataset")
_ROUTES = tuple(
    Route(
        method,
        kind.path,
        partial(check if method == "HEAD" else push, kind),
        surface="sms",
        place="sms-requester" if kind is _REQUESTER else None,
    )
    for kind in (_APP, _REQUESTER, _DATASET, _RESULT)
    for method in ("HEAD", "POST", "PUT")
    if method != "PUT" or kind is _RESULT
)
SMS_SERVED = (
    *_ROUTES,
    *wrong_method_routes(_ROUTES, "sms"),
    Route("*", "/{path:.*}", no_route, surface="sms"),
)
"""Every row that is served on the service's address."""
