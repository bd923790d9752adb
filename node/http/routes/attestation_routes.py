"""HTTP routes for attestation (wire 5.9; RL17).

They return the node's quote and the owner's policy, and accept evidence from backends.
"""

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
from ..messages.http_requests import check_rate_limit, limited_body, token_of


class StatedPolicy(msgspec.Struct):
    """A response with the owner's policy for an encryption network.

    The policy is null if the owner has not set one.
    """

    policy: Mapping[str, object] | None


async def get_terms(request: web.Request) -> ReleaseTerms:
    """GET /attestation/terms: describe how the node checks attestation quotes.

    The query `fmspc` and `ca` names a platform family.
    """
    services = request.app[SERVICES]
    check_rate_limit(request, services.challenge_rates)
    # All values of a parameter are passed on, so that a parameter given twice is refused.
    family = asked_family(request.query.getall("fmspc", []), request.query.getall("ca", []))
    return await terms_of(services, family)


async def post_challenge(request: web.Request) -> ChallengeMade:
    """POST /attestation/challenge: return a nonce for an attestation quote.

    The request contains the DID of the backend, and the response the expiry of the nonce.
    """
    services = request.app[SERVICES]
    check_rate_limit(request, services.challenge_rates)
    return challenge(services, await limited_body(request, max_bytes=MAX_CHALLENGE_BODY_BYTES))


async def post_session(request: web.Request) -> SessionOpened:
    """POST /attestation/sessions: verify and store a backend's evidence.

    The response contains the expiry of the evidence.
    """
    services = request.app[SERVICES]
    header = token_of(request)
    # Check the size first: a refused body takes nothing from the client's rate.
    body = await limited_body(request, max_bytes=MAX_SESSION_BODY_BYTES)
    check_rate_limit(request, services.challenge_rates)
    return await open_session(services, header, body)


async def get_policy(request: web.Request) -> StatedPolicy:
    """GET /encryption/networks/<id>/policy: return the owner's policy for a network."""
    policy = await read_policy(
        request.app[SERVICES], token_of(request), path_id=request.match_info["network"]
    )
    return StatedPolicy(None if policy is None else policy_json(policy))


async def put_policy(request: web.Request) -> web.Response:
    """PUT /encryption/networks/<id>/policy: set or remove the owner's policy for a network.

    The body `null` removes the policy.
    """
    await set_policy(
        request.app[SERVICES],
        token_of(request),
        path_id=request.match_info["network"],
        body=await limited_body(request, max_bytes=MAX_POLICY_BYTES),
    )
    return empty_answer(204)


class NoEvidence(msgspec.Struct):
    """The response of a node without a trusted execution environment."""

    mode: Literal["classic"] = "classic"
    message: str = "This instance is not running in a TEE"


async def get_attestation(request: web.Request) -> OwnEvidence | NoEvidence:
    """GET /attestation: return a new quote from the node's TEE.

    The quote covers the nonce in the query.
    """
    services = request.app[SERVICES]
    if services.own_quotes is None:
        return NoEvidence()
    check_rate_limit(request, services.own_quote_rates)
    return await own_evidence(
        services, services.own_quotes, checked_nonce(request.query.getall("nonce", []))
    )
