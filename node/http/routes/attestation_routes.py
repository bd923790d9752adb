"""Routes for node quotes, backend evidence and owner policies (wire 5.9; RL17)."""

from collections.abc import Mapping
from typing import Literal

import msgspec
from aiohttp import web

from encryption_network.policy import MAX_POLICY_BYTES, policy_json
from encryption_network.release_record import ReleaseTerms

from ...operations.attestation.attest import (
    MAX_CHALLENGE_BODY_BYTES,
    MAX_SESSION_BODY_BYTES,
    ChallengeMade,
    SessionOpened,
    challenge,
    open_session,
)
from ...operations.attestation.own_evidence import OwnEvidence, checked_nonce, own_evidence
from ...operations.attestation.terms import asked_family, terms_of
from ...operations.releases.owner_policy import read_policy, set_policy
from ...services import SERVICES
from ..messages.http_answers import empty_answer
from ..messages.http_requests import limited_body, take_rate, token_of


class StatedPolicy(msgspec.Struct):
    """The policy that the owner has set for a network, or null if there is none."""

    policy: Mapping[str, object] | None


async def get_terms(request: web.Request) -> ReleaseTerms:
    """GET /attestation/terms?fmspc=&ca=: describe how the node checks quotes of a platform
    family."""
    services = request.app[SERVICES]
    take_rate(request, services, services.challenge_rates)
    family = asked_family(request.query.getall("fmspc", []), request.query.getall("ca", []))
    return await terms_of(services, family)


async def post_challenge(request: web.Request) -> ChallengeMade:
    """POST /attestation/challenge `{"did"}`: return a nonce for a quote, and its expiry."""
    services = request.app[SERVICES]
    take_rate(request, services, services.challenge_rates)
    return challenge(services, await limited_body(request, max_bytes=MAX_CHALLENGE_BODY_BYTES))


async def post_session(request: web.Request) -> SessionOpened:
    """POST /attestation/sessions: verify and store a backend's evidence, and return its expiry."""
    services = request.app[SERVICES]
    header = token_of(request)
    # Check the size first: a refused body takes nothing from the client's rate.
    body = await limited_body(request, max_bytes=MAX_SESSION_BODY_BYTES)
    take_rate(request, services, services.challenge_rates)
    return await open_session(services, header, body)


async def get_policy(request: web.Request) -> StatedPolicy:
    """GET /encryption/networks/<id>/policy: return the owner's policy, or null if there is none."""
    services = request.app[SERVICES]
    policy = await read_policy(services, token_of(request), path_id=request.match_info["network"])
    return StatedPolicy(None if policy is None else policy_json(policy))


async def put_policy(request: web.Request) -> web.Response:
    """PUT /encryption/networks/<id>/policy: set the owner's policy, or remove it with `null`."""
    header = token_of(request)
    body = await limited_body(request, max_bytes=MAX_POLICY_BYTES)
    await set_policy(
        request.app[SERVICES], header, path_id=request.match_info["network"], body=body
    )
    return empty_answer(204)


class NoEvidence(msgspec.Struct):
    """The response of a node that does not run in a trust domain."""

    mode: Literal["classic"] = "classic"
    message: str = "This instance is not running in a TEE"


async def get_attestation(request: web.Request) -> OwnEvidence | NoEvidence:
    """GET /attestation?nonce=: return a new quote from the node's TEE, bound to the nonce."""
    services = request.app[SERVICES]
    if services.own_quotes is None:
        return NoEvidence()
    take_rate(request, services, services.own_quote_rates)
    nonce = checked_nonce(request.query.getall("nonce", []))
    return await own_evidence(services, services.own_quotes, nonce)
