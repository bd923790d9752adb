"""The table of all HTTP routes.

Each row states the handler, the input, the responses and the error codes of a route.

The first match wins; `/invoke` is first because it is the busiest. A trailing `/` is ignored (H4).
The last two rows answer what no other row matches. The operator's routes are closed to pages of
other origins.

`refuses` contains the codes of a route's own operation. The generated description adds those
implied by `authority` and `takes`, and `internal` and `too-many-requests` everywhere.
"""

from collections.abc import Iterable
from functools import partial

import msgspec
from aiohttp import web

from capabilities.frozen_struct import FrozenStruct
from capabilities.resources import parse_space_id
from capabilities.tokens import parse_invocation
from encryption_network.policy import MAX_POLICY_BYTES
from encryption_network.requests import MAX_BODY_BYTES as MAX_NETWORK_BODY_BYTES
from encryption_network.requests import DecryptRequest
from encryption_network.withdrawals import MAX_REQUEST_BYTES

from ...operations.attestation.attest import (
    MAX_CHALLENGE_BODY_BYTES,
    MAX_SESSION_BODY_BYTES,
    ChallengeRequest,
    SessionRequest,
)
from ...operations.attestation.own_evidence import OwnEvidence
from ...operations.delegations.delegate import Registration, register
from ...operations.delegations.delegation_query import DelegationPage, query_delegations
from ...operations.delegations.delegation_status import StatusReport, delegation_status
from ...operations.delegations.exchange import (
    MAX_EXCHANGE_BODY_BYTES,
    Exchanged,
    ExchangeRequest,
    exchange,
)
from ...operations.delegations.query_filters import MAX_QUERY_BYTES, QueryRequest
from ...operations.delegations.revoke import revoke
from ...operations.delegations.succession_proof import SuccessionProof, read_succession_proof
from ...operations.readiness import Readiness
from ...operations.releases.key_versions import MAX_KEYS_BODY_BYTES, KeysRequest
from ...operations.values.conditions import OPTION_HEADERS
from ...operations.values.signed_urls import SignedUrlRequest
from ...refusal import Refusal
from ...services import SERVICES
from ..messages.http_answers import empty_answer, json_answer, text_answer
from ..messages.http_requests import (
    check_rate_limit,
    client_address,
    json_body,
    limited_body,
    token_of,
)
from ..messages.refusals import DESCRIPTION, GROUPS
from ..messages.route import Handler, RequestBody, ResponseShape, Route, Surface
from . import (
    admin,
    attestation_routes,
    console,
    encryption_routes,
    info,
    invoke,
    route_shapes,
    value_routes,
)


async def get_host_did(request: web.Request) -> web.Response:
    """Return the did:key that this node uses as the host of a space.

    The key is derived from the root secret.
    """
    space = parse_space_id(request.match_info["space"])
    return text_answer(request.app[SERVICES].keyring.space_did(space))  # without a newline (J3)


async def post_exchange(request: web.Request) -> Exchanged:
    """POST /oidc/exchange: make a machine token for a job that presents an ID token (OX3)."""
    services = request.app[SERVICES]
    check_rate_limit(request, services.unauthenticated_rates)
    asked = await json_body(request, ExchangeRequest, max_bytes=MAX_EXCHANGE_BODY_BYTES)
    return await exchange(services, asked)


async def get_succession(request: web.Request) -> SuccessionProof:
    """GET /owners/<did>/succession: return how an owner moved to another wallet (TM22)."""
    services = request.app[SERVICES]
    check_rate_limit(request, services.public_rates)
    return await read_succession_proof(services, request.match_info["did"])


class Revoked(msgspec.Struct, omit_defaults=True):
    """The CIDs of revoked delegations.

    `cids` is set only for a request with several delegations.
    """

    revoked: bool
    cid: str
    cids: tuple[str, ...] = ()


async def post_revocation(request: web.Request) -> Revoked:
    """Revoke the delegations named in a request (E8, V5, W27).

    The response contains their CIDs.
    """
    echoes = await revoke(request.app[SERVICES], token_of(request))
    if len(echoes) == 1:
        return Revoked(revoked=True, cid=echoes[0])
    return Revoked(revoked=True, cid=echoes[0], cids=echoes)


async def post_delegation(request: web.Request) -> Registration:
    """Register a delegation.

    The response contains its CID and the activated and skipped spaces.
    """
    services = request.app[SERVICES]
    client = client_address(request, services.config.http)
    return await register(services, token_of(request), client=client)


MAX_STATUS_BODY_BYTES = 1024 * 1024


class StatusRequest(FrozenStruct):
    """A request for the status of a delegation.

    It names the same delegation as the token.
    """

    cid: str


async def post_status(request: web.Request) -> web.Response:
    """POST /delegation/status: return the status of a delegation.

    A caller that may not see the delegation gets 404.
    """
    token = parse_invocation(token_of(request))
    question = await json_body(request, StatusRequest, max_bytes=MAX_STATUS_BODY_BYTES)
    report = await delegation_status(request.app[SERVICES], token, question.cid)
    return json_answer(report, status=200 if report.exists else 404)


async def post_query(request: web.Request) -> DelegationPage:
    """POST /delegation/query: list the delegations of an account."""
    token = parse_invocation(token_of(request))
    return await query_delegations(
        request.app[SERVICES], token, await limited_body(request, max_bytes=MAX_QUERY_BYTES)
    )


class NodeKeys(msgspec.Struct, rename="camel"):
    """A response with the node's public keys.

    These are the node's DID and the public key for share invitations.
    """

    node_did: str
    share_invitation_public_key: str


async def get_node_keys(request: web.Request) -> NodeKeys:
    """GET /.well-known/tinycloud/node-keys: return the node's public keys."""
    keyring = request.app[SERVICES].keyring
    return NodeKeys(keyring.node_did, keyring.invitation_public_key)


async def options_any(_request: web.Request) -> web.Response:
    """OPTIONS on any path: return the common CORS headers.

    The body is empty.
    """
    return empty_answer()


async def options_public(_request: web.Request) -> web.Response:
    """OPTIONS on a key of a public space: return an empty response."""
    return empty_answer(204)


async def no_route(_request: web.Request) -> web.Response:
    """Refuse a request that no route matches."""
    raise Refusal("not-found")


def refusing(code: str, *details: str) -> Handler:
    """Return a handler that refuses every request.

    OPTIONS gets an empty answer, because browsers send it as the preflight of a request.

    Args:
        code: The code of the refusal.
        details: The texts that its message contains. For `wrong-method`, the allowed methods.
    """

    async def refuse(request: web.Request) -> web.Response:
        if request.method == "OPTIONS":
            return empty_answer()
        raise Refusal(code, *details)

    return refuse


_NO_CONTENT = ResponseShape(None, status=204)
_UNCHANGED = ResponseShape(None, status=304, headers=("ETag",))
_VALUE = ResponseShape(bytes, headers=("ETag",))
_TAKEN_NETWORK = {"body-not-json", "request-too-large", "invalid-canonical-json"}
_READS = {"store-unavailable", "record-damaged", "too-much-decoded", "decoding-rate"}
_RECORDS = _READS | {"invalid-record"}
_WRITES = _READS | {"store-busy", "store-full", "commit-too-large"}
_USED_TOKEN = {"duplicate-invocation", "replay-unknown", "restored-recently"}
_OF_NETWORK = _RECORDS | {"invalid-network-id", "network-not-found"}
_ADMIN_OF_NETWORK = (
    _WRITES
    | _OF_NETWORK
    | {
        "audience-mismatch",
        "body-malformed",
        "type-mismatch",
        "target-node-mismatch",
        "network-mismatch",
        "action-not-permitted",
        "hash-mismatch",
        "not-yet-valid",
        "expired",
        "nonce-used",
        "restored-recently",
    }
)
_READ_OF_NETWORK = (
    _RECORDS
    | _USED_TOKEN
    | {
        "audience-mismatch",
        "invalid-network-id",
        "session-not-bound",
        "network-unknown",
        "request-malformed",
    }
)
_KEY_CHANGES = {"key-statement-refused", "key-version-changed", "key-version-kept"}
_DECRYPTS = (
    GROUPS["networks"]
    - _KEY_CHANGES
    - {
        "create-body-malformed",
        "network-exists",
        "nonce-used",
        "invalid-policy",
        "invalid-receipt",
        "invalid-withdrawal",
    }
)
_WRITE_OF_NETWORK = _WRITES | _READ_OF_NETWORK | _TAKEN_NETWORK | {"policy-not-in-person"}

_own = partial(Route, surface="own")
_for_node = partial(Route, surface="own", authority="node invocation")
_for_operator = partial(Route, cors=False, authority="operator")

ROUTES = (
    Route(
        method="POST",
        path="/invoke",
        handler=invoke.post_invocation,
        operation=None,
        authority="invocation",
        headers=(*OPTION_HEADERS, "Prefer"),
        takes=RequestBody(None),
        gives=(_VALUE, _UNCHANGED),
        refuses=_WRITES
        | GROUPS["sql"]
        | GROUPS["values"]
        - {
            "ticket-refused",
            "scope-refused",
            "not-public",
            "value-changed",
            "bad-nonce",
            "no-value",
        }
        | _DECRYPTS
        | {"intake-full", "bad-space-name", "space-exists", "space-not-made", "space-not-found"}
        | {"bad-delegation-cid", "not-enabled", "path-too-long", "metadata-too-large"},
    ),
    Route(
        method="POST",
        path="/delegate",
        handler=post_delegation,
        operation="delegate",
        place="delegate",
        authority="delegation",
        refuses=_WRITES
        | {"too-many-delegations", "too-many-spaces", "invalid-record", "invalid-policy"}
        | {"delegation-too-large"}
        | {"machine-token-refused", "membership-refused", "too-many-exchanged"},
    ),
    _own(
        method="POST",
        path="/oidc/exchange",
        handler=post_exchange,
        takes=RequestBody(MAX_EXCHANGE_BODY_BYTES, ExchangeRequest),
        refuses=_WRITES
        | {"wrong-shape", "oidc-refused", "too-many-delegations", "too-many-exchanged"}
        | {"delegation-too-large"},
    ),
    Route(
        method="POST",
        path="/revoke",
        handler=post_revocation,
        operation="revoke",
        place="revoke",
        authority="revocation",
        refuses=_WRITES,
    ),
    _own(
        method="GET",
        path="/owners/{did}/succession",
        handler=get_succession,
        refuses=_READS | {"identifier-invalid"},
    ),
    Route(
        method="POST",
        path="/delegation/status",
        handler=post_status,
        place="delegation-status",
        authority="invocation",
        takes=RequestBody(MAX_STATUS_BODY_BYTES, StatusRequest),
        answer=StatusReport,
        gives=(ResponseShape(StatusReport, status=404),),
        refuses=_READS
        | {"wrong-shape", "status-token-refused", "status-not-bound", "status-cid-invalid"},
    ),
    Route(
        method="POST",
        path="/delegation/query",
        handler=post_query,
        place="delegation-query",
        authority="invocation",
        takes=RequestBody(MAX_QUERY_BYTES, QueryRequest),
        refuses=_READS | {"query-refused", "bad-query"},
    ),
    Route(
        method="POST",
        path="/encryption/networks",
        handler=encryption_routes.post_network,
        authority="node invocation",
        takes=RequestBody(MAX_NETWORK_BODY_BYTES, route_shapes.NetworkRequest),
        answer=route_shapes.Described,
        refuses=_ADMIN_OF_NETWORK | _TAKEN_NETWORK | {"create-body-malformed", "network-exists"},
    ),
    Route(
        method="GET",
        path="/encryption/networks/{network}",
        handler=encryption_routes.get_network,
        query=("nonce",),
        answer=route_shapes.DescribedOnRequest,
        refuses=_OF_NETWORK | {"bad-nonce"},
    ),
    Route(
        method="POST",
        path="/encryption/networks/{network}/decrypt",
        handler=encryption_routes.post_decrypt,
        operation="decrypt",
        authority="node invocation",
        takes=RequestBody(MAX_NETWORK_BODY_BYTES, DecryptRequest),
        answer=route_shapes.Released,
        refuses=_WRITES | _DECRYPTS | _USED_TOKEN,
    ),
    Route(
        method="POST",
        path="/encryption/networks/{network}/revoke",
        handler=encryption_routes.post_revocation,
        authority="node invocation",
        gives=(_NO_CONTENT,),
        refuses=_ADMIN_OF_NETWORK,
    ),
    Route(
        method="GET",
        path="/.well-known/encryption/network/{name}",
        handler=encryption_routes.get_well_known_network,
        query=("ownerDid",),
        answer=route_shapes.FlatNetwork,
        refuses=_OF_NETWORK | {"body-malformed"},
    ),
    _for_node(
        method="GET",
        path="/encryption/networks/{network}/policy",
        handler=attestation_routes.get_policy,
        refuses=_READ_OF_NETWORK,
    ),
    _for_node(
        method="GET",
        path="/encryption/networks/{network}/paths",
        handler=encryption_routes.get_key_paths,
        query=("key",),
        refuses=_READ_OF_NETWORK | {"policy-not-in-person", "request-malformed"},
    ),
    _for_node(
        method="PUT",
        path="/encryption/networks/{network}/policy",
        handler=attestation_routes.put_policy,
        takes=RequestBody(MAX_POLICY_BYTES, dict[str, object] | None),
        gives=(_NO_CONTENT,),
        refuses=_WRITE_OF_NETWORK | {"invalid-policy"},
    ),
    _for_node(
        method="POST",
        path="/encryption/networks/{network}/withdraw",
        handler=encryption_routes.post_withdrawal,
        takes=RequestBody(MAX_REQUEST_BYTES, route_shapes.Withdrawal),
        gives=(_NO_CONTENT,),
        refuses=_WRITE_OF_NETWORK | {"invalid-withdrawal"},
    ),
    _own(
        method="GET",
        path="/encryption/networks/{network}/keys",
        handler=encryption_routes.get_keys,
        answer=route_shapes.NetworkKeys,
        refuses=_OF_NETWORK,
    ),
    _for_node(
        method="POST",
        path="/encryption/networks/{network}/keys",
        handler=encryption_routes.post_keys,
        takes=RequestBody(MAX_KEYS_BODY_BYTES, KeysRequest),
        answer=route_shapes.ChangedKeys,
        refuses=_WRITE_OF_NETWORK
        | _KEY_CHANGES
        | {"network-revoked", "network-not-active", "request-malformed"},
    ),
    _for_node(
        method="GET",
        path="/encryption/networks/{network}/usage",
        handler=encryption_routes.get_usage,
        query=("keyVersion", "after"),
        refuses=_READ_OF_NETWORK | {"policy-not-in-person"},
    ),
    _for_node(
        method="GET",
        path="/encryption/networks/{network}/receipts",
        handler=encryption_routes.get_receipts,
        query=("after",),
        refuses=_READ_OF_NETWORK | {"invalid-receipt"},
    ),
    _for_node(
        method="GET",
        path="/encryption/networks/{network}/fetches",
        handler=encryption_routes.get_fetches,
        query=("after",),
        refuses=_READ_OF_NETWORK | {"request-malformed"},
    ),
    _for_node(
        method="GET",
        path="/encryption/networks/{network}/receipts/{digest}",
        handler=encryption_routes.get_document,
        answer=bytes,
        refuses=_READ_OF_NETWORK | {"document-unknown"},
    ),
    _own(
        method="GET",
        path="/attestation/terms",
        handler=attestation_routes.get_terms,
        query=("fmspc", "ca"),
        refuses=_RECORDS | {"request-malformed"},
    ),
    _own(
        method="POST",
        path="/attestation/challenge",
        handler=attestation_routes.post_challenge,
        operation="challenge",
        takes=RequestBody(MAX_CHALLENGE_BODY_BYTES, ChallengeRequest),
        refuses=_TAKEN_NETWORK | {"request-malformed"},
    ),
    _for_node(
        method="POST",
        path="/attestation/sessions",
        handler=attestation_routes.post_session,
        operation="session",
        takes=RequestBody(MAX_SESSION_BODY_BYTES, SessionRequest),
        refuses=_WRITES
        | _TAKEN_NETWORK
        | GROUPS["attestation"]
        - {"document-unknown", "policy-not-in-person", "own-quotes-busy", "own-quote-failed"}
        | {"audience-mismatch", "invalid-network-id", "invalid-record"},
    ),
    Route(
        method="POST",
        path="/signed/kv",
        handler=value_routes.post_signed_url,
        authority="invocation",
        takes=RequestBody(value_routes.MAX_SIGNED_URL_BODY_BYTES, SignedUrlRequest),
        refuses=_WRITES
        | {
            "wrong-shape",
            "space-not-found",
            "bad-option",
            "scope-refused",
            "no-value",
            "ticket-refused",
        }
        | _USED_TOKEN,
    ),
    Route(
        method="GET",
        path="/signed/kv/{ticket}",
        handler=value_routes.get_signed_value,
        operation="public",
        headers=("If-None-Match", "Range", "If-Range"),
        gives=(
            _VALUE,
            ResponseShape(bytes, status=206, headers=("ETag", "Content-Range")),
            _UNCHANGED,
            ResponseShape(None, status=416, headers=("Content-Range",)),
        ),
        refuses=_READS | {"ticket-refused", "no-value", "value-changed"},
        is_credential=True,
    ),
    Route(
        method="GET",
        path="/public/{space}/kv",
        handler=value_routes.list_public_keys,
        operation="public",
        query=("prefix", "after", "limit"),
        answer=list[str],
        refuses=_READS | {"bad-option", "not-public"},
    ),
    Route(
        method="GET",
        path="/public/{space}/kv/{key:.*}",
        handler=value_routes.get_public_value,
        operation="public",
        headers=("If-None-Match",),
        gives=(_VALUE, _UNCHANGED),
        refuses=_READS | {"bad-option", "not-public", "no-value"},
    ),
    Route(method="GET", path="/", handler=info.get_front, answer=str),
    *[
        Route(method="GET", path=path, handler=info.get_information, refuses=_RECORDS)
        for path in ("/info", "/version")
    ],
    Route(
        method="GET",
        path="/healthz",
        handler=info.get_health,
        gives=(ResponseShape(None), ResponseShape(None, status=500)),
    ),
    Route(
        method="GET",
        path="/readyz",
        handler=info.get_readiness,
        surface="own",
        answer=Readiness,
        gives=(ResponseShape(Readiness, status=503),),
    ),
    _own(
        method="GET",
        path=DESCRIPTION,
        handler=info.get_description,
        headers=("If-None-Match",),
        gives=(ResponseShape(dict[str, object], headers=("ETag",)), _UNCHANGED),
    ),
    *[
        _own(
            method="GET",
            path=path,
            handler=console.get_console,
            cors=False,
            headers=("If-None-Match",),
            gives=(ResponseShape(bytes, headers=("ETag",), media="text/html"), _UNCHANGED),
            refuses={"not-found"},
        )
        for path in ("/console", "/console/grant")
    ],
    _own(
        method="GET",
        path="/console/{path:.*}",
        handler=console.get_console_file,
        cors=False,
        gives=(
            ResponseShape(bytes, media="*/*"),
            ResponseShape(bytes, status=404, media="text/html"),
        ),
        refuses={"not-found"},
    ),
    Route(
        method="GET",
        path="/peer/generate/{space}",
        handler=get_host_did,
        place="peer",
        answer=str,
        refuses={"identifier-invalid"},
    ),
    Route(method="GET", path="/.well-known/tinycloud/node-keys", handler=get_node_keys),
    Route(
        method="GET",
        path="/attestation",
        handler=attestation_routes.get_attestation,
        query=("nonce",),
        answer=OwnEvidence,
        gives=(ResponseShape(attestation_routes.NoEvidence),),
        refuses=_RECORDS | {"bad-nonce", "own-quotes-busy", "own-quote-failed"},
    ),
    _for_operator(method="GET", path="/admin/quota", handler=admin.get_quotas, refuses=_READS),
    _for_operator(
        method="GET",
        path="/admin/quota/{space}",
        handler=admin.get_quota,
        refuses=_READS | {"bad-option"},
    ),
    _for_operator(
        method="PUT",
        path="/admin/quota/{space}",
        handler=admin.put_quota,
        takes=RequestBody(admin.MAX_BODY_BYTES, admin.QuotaRequest),
        refuses=_WRITES | {"bad-option", "wrong-shape"},
    ),
    _for_operator(
        method="DELETE",
        path="/admin/quota/{space}",
        handler=admin.delete_quota,
        refuses=_WRITES | {"bad-option"},
    ),
    _for_operator(
        method="GET", path="/admin/usage", handler=admin.get_usage, query=("limit",), refuses=_READS
    ),
    Route(method="OPTIONS", path="/admin", handler=options_any, cors=False),
    Route(method="OPTIONS", path="/admin/{path:.*}", handler=options_any, cors=False),
    Route(method="*", path="/admin", handler=admin.no_route, cors=False),
    Route(method="*", path="/admin/{path:.*}", handler=admin.no_route, cors=False),
    Route(method="OPTIONS", path="/public/{space}/kv/{key:.*}", handler=options_public),
    Route(method="OPTIONS", path="/{path:.*}", handler=options_any),
    Route(
        method="*",
        path="/hooks/{path:.*}",
        handler=refusing("not-enabled", "Hooks"),
        place="hooks",
    ),
    Route(method="*", path="/policy/v3/{path:.*}", handler=refusing("not-enabled", "Policy v3")),
    Route(method="*", path="/share/{path:.*}", handler=refusing("not-enabled", "Share")),
    Route(method="*", path="/{path:.*}", handler=no_route),
)
"""The rows that wire 7.1 lists."""


def wrong_method_routes(routes: Iterable[Route], surface: Surface) -> tuple[Route, ...]:
    """Return a route for each path of a surface that answers unsupported methods with 405.

    The surfaces `own` and `sms` need such routes (wire 7.1, SM5). The surface `wire` does not: an
    unsupported method is answered 404 there, like an unknown path.
    """
    methods_by_path: dict[str, list[str]] = {}
    for route in routes:
        if route.surface == surface:
            methods_by_path.setdefault(route.path, []).extend(route.methods)
    return tuple(
        Route(
            method="*",
            path=path,
            handler=refusing("wrong-method", *methods, "OPTIONS"),
            surface=surface,
        )
        for path, methods in methods_by_path.items()
    )


# The last row matches every path and method, so the routes that answer 405 come before it.
SERVED = (*ROUTES[:-1], *wrong_method_routes(ROUTES, "own"), ROUTES[-1])
"""Every row that is served."""
