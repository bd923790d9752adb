"""Verification and storage of backends' attestation evidence (AT1 to AT7).

A backend requests a nonce, and sends a quote that covers the nonce.

The order of the checks is part of the defence, from cheap to expensive: sizes, the client's rate,
signature, the challenge's MAC, the chain, the challenge's replay record, our own parser, report
data, collateral, and only then the elliptic-curve arithmetic of the quote, one at a time.

The evidence is stored without a verdict, under the backend's DID and receiver key. Each release
judges it again.
"""

import hashlib
from typing import Annotated, Any

from blake3 import blake3
from msgspec import Meta, Struct

from capabilities.abilities import DECRYPT
from capabilities.capability_errors import InvalidIdentifier, InvalidJson
from capabilities.facts import SESSION_FACT
from capabilities.frozen_struct import FrozenStruct
from capabilities.principals import Principal, parse_principal
from capabilities.resources import NetworkId, network_of
from capabilities.strict_base64 import decode_standard, decode_url, encode_url
from capabilities.strict_json import StrictStruct, shaped
from capabilities.tokens import Invocation
from encryption_network.canonical_json import canonical_bytes, canonical_hash
from encryption_network.keyring import ATTESTATION_CHALLENGE
from encryption_network.policy import Evidence, ReceiverMode, decode_evidence, encode_evidence
from encryption_network.release_record import decode_release_record
from encryption_network.requests import MAX_LIFETIME_S, read_body
from spaces.documents.collateral_rows import collateral_documents, state_of
from spaces.documents.evidence import evidence_range, evidence_row_key
from spaces.documents.network_rows import network_row_key
from spaces.documents.receipt_rows import EvidenceInputs, evidence_inputs_put
from spaces.grants.replay_records import replay_record_of
from spaces.keyspace import (
    RELEASE_RECORD_KEY,
    collateral_key,
    collateral_state_key,
    evidence_inputs_key,
)
from spaces.space_errors import RecordDamaged
from spaces.store.contract import (
    Check,
    Commit,
    Put,
    Record,
    ReplayRecord,
    commit_puts,
    read_page,
)
from tee_backend.attestation.attestation_errors import AttestationError
from tee_backend.attestation.challenge import (
    RANDOM_BYTES,
    ChallengeScope,
    check_challenge,
    issue_challenge,
)
from tee_backend.attestation.collateral import Collateral, parse_collateral
from tee_backend.attestation.collateral_trust import check_age, with_newest_lists
from tee_backend.attestation.examine import bind_quote
from tee_backend.attestation.quote import MAX_QUOTE_BYTES, Quote
from tee_backend.attestation.report_data import session_binding

from ...logs import log_warning
from ...refusal import Refusal
from ...release_terms import in_force
from ...services import Services
from ..attempts import until_committed
from ..authorise import Call, admit_token, read_call, refuse_after_restore
from ..releases.network_reading import known_network
from ..releases.release_receipts import missing_documents
from .refresh_collateral import request_collateral

MAX_SESSION_BODY_BYTES = 256 * 1024
MAX_CHALLENGE_BODY_BYTES = 4096
_NONCE_LABEL = b"sealspace/first-use/challenge/v1\0"
_RECEIVER_KEY_BYTES = 32
_MOST_EXAMINED = 64
"""How many rows of a backend's evidence are examined for expired ones, at each attestation."""


class ChallengeRequest(Struct):
    """A backend's request for an attestation nonce.

    It contains the DID of the backend that will attest.
    """

    did: Annotated[str, Meta(max_length=512)]


class ChallengeMade(Struct, rename="camel"):
    """The response to a backend's request for an attestation nonce.

    It contains the nonce and the nonce's expiry time, in epoch seconds. The node stores neither.
    """

    nonce: str
    expires_at: float


def challenge(services: Services, body: bytes) -> ChallengeMade:
    """Create an attestation nonce for the DID in a request."""
    try:
        holder = parse_principal(
            shaped(read_body(body, max_bytes=MAX_CHALLENGE_BODY_BYTES), ChallengeRequest).did
        )
    except (InvalidIdentifier, InvalidJson):
        raise Refusal("request-malformed", hint='send {"did": "<your DID>"}') from None
    now = services.now()
    ttl_s = services.config.release.challenge_s
    nonce = issue_challenge(
        services.keyring.derive(ATTESTATION_CHALLENGE),
        _scope(services, holder),
        random=services.entropy.token(RANDOM_BYTES),
        now=now,
        ttl_s=ttl_s,
    )
    return ChallengeMade(encode_url(nonce), int(now) + ttl_s)


def _scope(services: Services, holder: Principal) -> ChallengeScope:
    return ChallengeScope(
        holder=holder, audience=services.keyring.node_did, store_id=services.store_id
    )


class SessionOpened(Struct, rename="camel"):
    """The response after a backend's attestation evidence was stored.

    It contains the digest and the expiry time of the evidence. The time is in epoch seconds.
    Receipts state the same digest.
    """

    expires_at: float
    evidence: str


_Base64 = Annotated[str, Meta(pattern="^[A-Za-z0-9+/]*={0,2}$")]


class SessionRequest(StrictStruct, rename="camel"):
    """A request with an attestation quote of a backend.

    The quote proves the code that the backend runs.
    """

    quote: _Base64
    receiver_public_key: _Base64
    receiver_mode: ReceiverMode
    event_log: list[Any] | None = None


class _DecodedRequest(FrozenStruct):
    """A decoded request with an attestation quote.

    The sizes of its members are checked, but nothing is verified yet.
    """

    request: SessionRequest
    quote: bytes
    receiver_public_key: bytes
    body_hash: str


async def open_session(services: Services, header: str, body: bytes) -> SessionOpened:
    """Verify a backend's attestation quote, and store the evidence.

    Args:
        header: untrusted text of the `Authorization` header: a UCAN to this node with decrypt on
            one network here, and the fact `{"type", "nonce", "bodyHash"}`.
        body: untrusted; `{"quote", "eventLog", "receiverPublicKey", "receiverMode"}`.

    Raises:
        MalformedToken, CapabilityError: the token or its chain is invalid.
        Refusal: the request or its binding is invalid, the challenge was used before, collateral is
            missing, or the queue is full.
        AttestationError: the challenge or the quote is invalid; `code` is coarse, the audit record
            has the detail.
        SpaceError, RecordError: the store does not answer, or a row does not decode.
    """
    decoded = _read(body)  # the sizes are checked first
    node_did = services.keyring.node_did
    invocation = admit_token(
        header, now=services.now(), max_lifetime_s=MAX_LIFETIME_S, only_for=node_did
    )
    network, nonce = _check_binding(invocation, decoded)
    # The MAC of the challenge shows without a read that this store issued it to the caller.
    nonce_ends_at = check_challenge(
        services.keyring.derive(ATTESTATION_CHALLENGE),
        _scope(services, invocation.invoker),
        nonce,
        now=services.now(),
        ttl_s=services.config.release.challenge_s,
    )
    replay_record = replay_record_of(
        blake3(_NONCE_LABEL + nonce).digest(), expires_at=nonce_ends_at
    )

    async def attempt(is_first: bool) -> tuple[Commit, SessionOpened]:
        # The use of the token is not recorded, because that of its challenge is (I23).
        call = await read_call(
            services, invocation, (network_row_key(network), RELEASE_RECORD_KEY), records_use=False
        )
        network_row, policy_row = call.records
        known_network(network_row)  # refuses an unknown network
        # The chain was judged before the challenge counts as used. Only the first attempt records
        # its use: a later one would find the challenge used.
        if is_first:
            await _use_challenge(services, replay_record)
        try:
            verified = await _verified(services, call, policy_row, decoded, nonce)
        except AttestationError as error:
            await _record_refusal(services, call, network, error)
            raise
        value = encode_evidence(verified.evidence)
        digest = hashlib.sha256(value)
        events = decoded.request.event_log
        log = None if events is None else canonical_bytes(events)
        inputs = EvidenceInputs(
            evidence_sha256=digest.digest(), nonce=nonce, quote=verified.quote.raw, event_log=log
        )
        puts = (
            Put(evidence_row_key(invocation.invoker, decoded.receiver_public_key), value),
            evidence_inputs_put(invocation.invoker, decoded.receiver_public_key, inputs),
            # The collateral is stored as a document too, because it may be replaced before a
            # receipt refers to it (RC13).
            *await missing_documents(services, (verified.collateral.raw,)),
            *await _expired_evidence_puts(services, verified.evidence),
            call.audit(services, "evidence.accepted", network.text, digest.hexdigest().encode()),
        )
        commit = call.commit(puts, checks=(verified.unchanged,), use=replay_record)
        return commit, SessionOpened(verified.evidence.expires_at, digest.hexdigest())

    return await until_committed(services, attempt)


async def _record_refusal(
    services: Services, call: Call, network: NetworkId, error: AttestationError
) -> None:
    """Write an audit record about refused evidence.

    The operator is warned if the library returned an unknown status, or if the collateral is
    unusable.
    """
    if error.alarms:
        log_warning("attestation-alarm", code=error.code)
    detail = f"{error.code}: {error.detail}".encode()
    refused = call.audit(services, "evidence.refused", network.text, detail)
    await commit_puts(services.store, refused)


def _read(body: bytes) -> _DecodedRequest:
    """Decode a request, and check the sizes of its members."""
    value = read_body(body, max_bytes=MAX_SESSION_BODY_BYTES)
    try:
        request = shaped(value, SessionRequest)
    except InvalidJson:
        raise Refusal(
            "request-malformed",
            hint="send only quote, eventLog (an array or null), receiverPublicKey and receiverMode"
            " (attested or signed)",
        ) from None
    quote = decode_standard(request.quote) or b""
    key = decode_standard(request.receiver_public_key) or b""
    if not 0 < len(quote) <= MAX_QUOTE_BYTES:
        raise Refusal(
            "request-malformed",
            hint=f"quote must be 1 to {MAX_QUOTE_BYTES} bytes in standard base64",
        )
    if len(key) != _RECEIVER_KEY_BYTES:
        raise Refusal(
            "request-malformed", hint="receiverPublicKey must be 32 bytes in standard base64"
        )
    return _DecodedRequest(
        request=request, quote=quote, receiver_public_key=key, body_hash=canonical_hash(value)
    )


def _check_binding(invocation: Invocation, decoded: _DecodedRequest) -> tuple[NetworkId, bytes]:
    """Check that a token is for decrypting and contains the hash of the request body.

    Returns:
        The network and the nonce that the token names.

    Raises:
        Refusal: `session-not-bound`, the token is for something else, or does not name this body
            and a nonce.
    """
    network = _only_network(invocation)
    facts = [
        fact
        for fact in invocation.facts
        if isinstance(fact, dict) and fact.get("type") == SESSION_FACT
    ]
    is_bound = len(facts) == 1 and facts[0].get("bodyHash") == decoded.body_hash
    if network is None or not is_bound:
        raise Refusal(
            "session-not-bound",
            hint="sign a token that has both a decrypt capability and a fact with the hash of the"
            " request body",
        )
    (fact,) = facts
    nonce = decode_url(fact.get("nonce"))
    if nonce is None:
        raise Refusal(
            "session-not-bound",
            hint="put the challenge's nonce, encoded as base64url, into the fact of the token",
        )
    return network, nonce


def _only_network(invocation: Invocation) -> NetworkId | None:
    """Return the network of a token's only capability, or None if that is not to decrypt."""
    if len(invocation.capabilities) != 1:
        return None
    (only,) = invocation.capabilities
    return network_of(only.resource) if only.ability == DECRYPT else None


async def _use_challenge(services: Services, replay_record: ReplayRecord) -> None:
    """Record that a challenge is used, and check that it was not used before.

    A challenge is good for one session, so that a captured quote cannot be sent again.
    """
    snapshot = await services.store.read(replay_record=replay_record)
    if snapshot.is_use_unknown:
        await refuse_after_restore(services, replay_record)
        raise Refusal(
            "challenge-used",
            hint="the node's store counts the challenge as expired: set the node's clock, then"
            " request a new challenge",
        )
    if snapshot.is_first_use is False:
        raise Refusal(
            "challenge-used", hint="request a new challenge, and make a new quote over its nonce"
        )


class _Verified(FrozenStruct):
    """A verified attestation quote, and the evidence to store for it."""

    evidence: Evidence
    quote: Quote
    collateral: Collateral
    # The commit fails if the stored collateral has changed, or a wallet above has moved.
    unchanged: Check


async def _verified(
    services: Services,
    call: Call,
    policy_row: Record | None,
    decoded: _DecodedRequest,
    nonce: bytes,
) -> _Verified:
    """Verify an attestation quote with the stored collateral."""
    binding = session_binding(
        nonce,
        services.keyring.node_did,
        call.invocation.invoker,
        decoded.request.receiver_mode,
        decoded.receiver_public_key,
    )
    if policy_row is None or policy_row.value is None:
        raise RecordDamaged("the store's key-release policy was deleted")
    # The operator's record names the key providers that are accepted (AT29).
    accepted = in_force(
        services.config.release, decode_release_record(policy_row.value)
    ).key_providers
    bound = bind_quote(
        decoded.quote, binding, event_log=decoded.request.event_log, accepted=accepted
    )
    usable = await _usable_collateral(services, bound.quote)
    now = services.now()
    # The evidence ends when its collateral becomes too old (AT31).
    ttl_s = min(services.config.release.evidence_s, usable.stale_at - now)
    evidence = await services.quotes.examine(
        bound,
        usable.collateral,
        root=services.trust_root,
        now=now,
        ttl_s=ttl_s,
    )
    return _Verified(
        evidence=evidence,
        quote=bound.quote,
        collateral=usable.collateral,
        unchanged=usable.unchanged,
    )


class _UsableCollateral(FrozenStruct):
    """Stored collateral that is not too old."""

    collateral: Collateral
    unchanged: Check  # fails the commit if the stored collateral has changed
    stale_at: float  # when the collateral becomes too old, in epoch seconds


async def _usable_collateral(services: Services, quote: Quote) -> _UsableCollateral:
    """Return the stored collateral for an attestation quote.

    Nothing is fetched while the caller waits.

    Raises:
        Refusal: `collateral-missing`, no collateral is stored for the platform; if the node fetches
            collateral, a fetch is now requested.
        CollateralUnusable: the collateral cannot be parsed, or (`collateral-window`) is older than
            the settings allow.
        QuoteRefused: no collateral is stored, and the platform is not certified.
        SpaceError: the store does not answer.
    """
    family = (quote.platform.fmspc, quote.platform.ca)
    key = collateral_key(*family)
    row, state_row = (await services.store.read((key, collateral_state_key(*family)))).records
    if row is None or row.value is None:
        retry_after_s = await request_collateral(services, quote, state_of(state_row))
        hint = (
            "the node is fetching the collateral: request a new challenge later, and attest again"
        )
        if retry_after_s is None:
            hint = "the operator has to run: sealspace admin collateral import FILE"
        raise Refusal("collateral-missing", hint=hint, retry_after_s=retry_after_s)
    collateral = parse_collateral(row.value)
    settings = services.config.collateral
    max_age_s = settings.stale_s + settings.grace_s
    check_age(collateral, max_age_s=max_age_s, now=services.now())
    # Revocation lists of all families are compared. An older list in this family's document would
    # hide a revocation that arrived with the document of another family (AT19).
    stored = [parse_collateral(raw) for _, raw in await collateral_documents(services.store)]
    collateral = with_newest_lists(collateral, stored, quote, services.trust_root)
    issued_at = min(collateral.tcb_info.window.starts_at, collateral.qe_identity.window.starts_at)
    return _UsableCollateral(
        collateral=collateral,
        unchanged=Check(key, row.stamp),
        stale_at=issued_at + max_age_s,
    )


async def _expired_evidence_puts(services: Services, fresh: Evidence) -> list[Put]:
    """Return the writes that delete a backend's expired attestation evidence.

    A backend attests every few minutes with a new key, and a release in mode `signed` searches all
    evidence of a backend, so old rows must not accumulate.
    """
    page = await read_page(services.store, evidence_range(fresh.invoker, limit=_MOST_EXAMINED))
    fresh_key = evidence_row_key(fresh.invoker, fresh.receiver_public_key)
    now = services.now()
    puts: list[Put] = []
    for key, record in page.rows:
        # The row of the new evidence is written by the same commit, which may write a row once.
        if key == fresh_key or record.value is None:
            continue
        if decode_evidence(record.value).expires_at <= now:
            puts.append(Put(key, None, expect=record.stamp))
            puts.append(Put(evidence_inputs_key(key), None))
    return puts
