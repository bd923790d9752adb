"""The exchange of a job's ID token for a machine token (OX3 to OX6).

A CI system gives each job an ID token that states which repository, branch and workflow the job
belongs to. The owner signed a trust that says which of them may read which secrets. So the job
stores no secret: it draws a key, and the node signs a machine token of a few minutes for it.
"""

import hashlib

import jwt

from capabilities.abilities import DECRYPT
from capabilities.capability_errors import CapabilityError, MalformedToken
from capabilities.chain import Registered
from capabilities.cids import cid_text, parse_cid
from capabilities.facts import MACHINE_FACT
from capabilities.frozen_struct import FrozenStruct
from capabilities.machine_tokens import (
    MAX_EXCHANGED_S,
    OidcTrust,
    check_claims,
    machine_grant,
    require_signing_key,
)
from capabilities.strict_json import JsonObject, StrictRecord, parse_json, shaped
from encryption_network.canonical_json import canonical_members
from sealspace.session import mint
from spaces.audit.audit_records import AuditRecord
from spaces.grants.exchanged import require_room
from spaces.grants.replay_records import replay_record_of
from spaces.keyspace import exchanged_counter
from spaces.store.contract import commit_puts, counter_of

from ...logs import log_event
from ...refusal import Refusal
from ...services import Services
from .delegate import register

MAX_EXCHANGE_BODY_BYTES = 16 * 1024
MAX_TOKEN_LIFE_S = 86_400
"""Longest life of an ID token; its replay record is kept for so long."""
MAX_AHEAD_S = 60
"""How far ahead an issuer's clock may be."""
ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
"""Signatures that are accepted. None of them uses a shared secret (OX3)."""

_NOTED = ("iss", "sub", "event_name")
"""Claims that a machine token states beside those that its trust restricts."""
_MOST_NOTED_CHARS = 512
"""How much of each claim is in the audit record of a refusal."""


class ExchangeRequest(StrictRecord):
    """A request of a job.

    Attributes:
        token: the job's ID token.
        key: did:key that the job drew.
        trust: CID of the owner's trust.
        paths: resources of the secrets that the job needs; none for all of the trust.
    """

    token: str
    key: str
    trust: str
    paths: tuple[str, ...] = ()


class Exchanged(FrozenStruct):
    """The machine token that the node made, as for an `Authorization` header."""

    delegation: str


class _IdToken(FrozenStruct):
    """The claims that every ID token must have (OX3)."""

    iss: str
    sub: str
    aud: str | tuple[str, ...]
    iat: float
    exp: float
    nbf: float = 0


async def exchange(services: Services, request: ExchangeRequest) -> Exchanged:
    """Check an ID token, and make the machine token that its claims allow.

    Args:
        request: untrusted.
    Raises:
        Refusal: `oidc-refused`, for whatever reason; the reason is logged and, at the first use of
            a token that the issuer signed for this node, in the audit log.
        TooManyExchanged: too many tokens of the trust are live (OX9).
        SpaceError: the store does not answer, or another one of its limits is reached.
    """
    claims: JsonObject = {}
    try:
        return await _exchange(services, request, claims)
    except (CapabilityError, Refusal, jwt.PyJWTError, ValueError, RecursionError) as exc:
        # The text of a library's error may quote the token.
        reason = str(exc) if isinstance(exc, CapabilityError | Refusal) else type(exc).__name__
    log_event("id-token-refused", reason=reason)
    # `_exchange` adds the claims at the first use of a token. Other refusals could fill the audit
    # log, because the same request can be repeated (OX5).
    if claims:
        noted: JsonObject = {name: str(claims.get(name))[:_MOST_NOTED_CHARS] for name in _NOTED}
        record = AuditRecord(
            at=services.now(),
            action="oidc.refused",
            actor=services.keyring.node_did,
            subject=request.trust,
            detail=canonical_members({"reason": reason, "claims": noted}),
        )
        await commit_puts(services.store, record.put(services.entropy))
    raise Refusal("oidc-refused")


async def _exchange(services: Services, request: ExchangeRequest, claims: JsonObject) -> Exchanged:
    """Check an ID token, and make the machine token that its claims allow.

    Args:
        request: untrusted.
        claims: empty. At the first use of the ID token, its claims are added, so that the caller
            can record a refusal that follows.
    """
    now = services.now()
    token = request.token
    # These checks come before the ID token counts as used, so that the job can repeat the request
    # with another key or CID (OX3).
    require_signing_key(request.key)
    trust_delegation, trust = await _find_trust(services, request.trust)
    kid = jwt.get_unverified_header(token).get("kid")
    key = await services.issuer_keys.find(trust, kid, now=now)
    # The key says which signature it makes; the token's header does not choose (OX3). The list is
    # empty if the key's algorithm is not among those that are accepted.
    algorithms = [*ALGORITHMS & {key.algorithm_name}]
    payload = jwt.PyJWS(options={"enforce_minimum_key_length": True}).decode(
        token, key, algorithms=algorithms
    )
    presented = parse_json(payload, max_bytes=MAX_EXCHANGE_BODY_BYTES)
    id_token = shaped(presented, _IdToken)
    node = services.keyring.node_did
    # A proxy that reads a token for `request.key` cannot use it for another key (OX8).
    if id_token.aud not in (node, (node,), f"{node}#{request.key}"):
        raise MalformedToken("the ID token is for another audience than this node")
    _check_times(id_token, now)
    await _require_room(services, trust_delegation)
    # The record is for the token without its signature, which a holder may be able to change (OX5).
    header_and_payload, _, _ = token.rpartition(".")
    replay_record = replay_record_of(
        hashlib.sha256(header_and_payload.encode()).digest(), expires_at=id_token.exp
    )
    if not (await services.store.read(replay_record=replay_record)).is_first_use:
        raise MalformedToken("the ID token was used before")
    claims |= presented
    check_claims(claims, trust)
    paths = sorted(request.paths or trust.paths)
    end = min(int(now) + MAX_EXCHANGED_S, trust.end)
    stated_names = {*_NOTED, *trust.claims} & claims.keys()
    machine: JsonObject = {
        "key": request.key,
        "paths": [*paths],
        "end": end,
        "name": trust.name,
        "claims": {name: claims[name] for name in stated_names},
    }
    if trust.unbound:
        machine["unbound"] = True
    machine_token = mint(
        services.keyring.exchange_signer,
        services.entropy,
        audience=request.key,
        capabilities=[
            capability
            for capability in trust_delegation.delegation.capabilities
            if capability.ability == DECRYPT or capability.resource.text in paths
        ],
        proofs=[request.trust],
        expires_at=end,
        facts=[{MACHINE_FACT: machine}],
    )
    # The registration judges the token by the rules for machine tokens. It refuses the token if the
    # trust was revoked or has ended (OX4).
    await register(services, machine_token, client=None, replay_record=replay_record)
    return Exchanged(machine_token)


async def _find_trust(services: Services, text: str) -> tuple[Registered, OidcTrust]:
    """Return the trust with a CID, and the registered delegation that contains it.

    The machine token will cite the CID as it is written in the request, so only the one text under
    which the trust is registered is accepted.

    Raises:
        InvalidIdentifier: it is not a CID.
        MalformedToken: the CID is written in another way, or there is no such trust.
    """
    (stored,) = await services.delegations.by_cid([parse_cid(text).digest32])
    if stored is None:
        raise MalformedToken("there is no such trust")
    trust = machine_grant(stored.delegation, registered_at=stored.registered_at)
    if not isinstance(trust, OidcTrust):
        raise MalformedToken("there is no such trust")
    # In other letters, or with another codec, a CID has the same digest, so the trust was found.
    if text != cid_text(stored.delegation.cid):
        raise MalformedToken(f"the trust's CID is written as {cid_text(stored.delegation.cid)}")
    return stored, trust


async def _require_room(services: Services, trust: Registered) -> None:
    """Check that one more machine token may be made under a trust.

    A refusal does not use up the ID token, so the job can repeat the request. The registration
    checks the limit again.

    Raises:
        TooManyExchanged: as many as allowed have not ended (OX9).
    """
    limit = services.config.limits.exchanged_per_trust
    if limit:
        counter = exchanged_counter(trust.delegation.content_key)
        (record,) = (await services.store.read([counter])).records
        require_room(counter_of(record), limit=limit)


def _check_times(id_token: _IdToken, now: float) -> None:
    """Check that an ID token is valid now, and for a day at most (OX3).

    The issuer's clock may be ahead by MAX_AHEAD_S.
    """
    begins_at = max(id_token.iat, id_token.nbf) - MAX_AHEAD_S
    is_valid_now = begins_at <= now < id_token.exp
    is_short_lived = id_token.exp <= id_token.iat + MAX_TOKEN_LIFE_S
    if not is_valid_now or not is_short_lived:
        raise MalformedToken("the ID token is not valid now, or is valid for more than a day")
