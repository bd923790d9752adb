"""A client of a node's attestation routes.

A client requests a nonce, submits evidence and reads the node's terms. `tee_backend` makes quotes
and defines their report data; this module calls the node's routes.

Example:
    challenge, receiver = await client.attestation.challenge(), new_receiver_key(entropy)
    key, did = receiver.public_key, client.session.did
    binding = session_binding(challenge.nonce, challenge.audience, did, "attested", key)
    attested = Attested(quote=domain.quote(binding.report_data).quote, receiver_public_key=key)
    session = await client.attestation.open_session(network, challenge, attested)

`domain` and `session_binding` are in `tee_backend`, whose `Backend` does all of this.
"""

from collections.abc import Sequence
from dataclasses import field
from typing import Literal

import msgspec

from capabilities.abilities import DECRYPT
from capabilities.facts import SESSION_FACT
from capabilities.frozen import frozen
from capabilities.resources import NetworkId
from capabilities.strict_base64 import decode_url, encode_standard, encode_url
from capabilities.strict_json import Json, JsonObject
from encryption_network.canonical_json import canonical_bytes, canonical_hash
from encryption_network.key_providers import is_accepted
from encryption_network.policy import Evidence
from encryption_network.release_record import CollateralUse as CollateralUse
from encryption_network.release_record import ReleaseTerms as ReleaseTerms

from ..errors import AttestationRefused, BackendNotAcceptable, MalformedAnswer, NodeRefused
from ..session import capability
from ..wire.caller import Caller
from ..wire.node_answers import decoded, json_object, required_expiry, required_text
from ..wire.transport import Answer, Request, Transport, json_request

NONCE_BYTES = 32

ReceiverMode = Literal["attested", "signed"]

_ABOUT_THE_EVIDENCE = frozenset({400, 403, 409, 422})
"""Statuses of refusals of the evidence; a 401 is about the token, and a 503 about the node."""


@frozen
class Challenge:
    """A nonce from the node for one attestation.

    The nonce is valid only for the DID that requested it.

    Attributes:
        nonce: 32 bytes.
        audience: the node's DID, part of the report data.
        expires_at: epoch seconds.
    """

    nonce: bytes
    audience: str
    expires_at: float


@frozen
class Attested:
    """The attestation evidence that a backend submits to a node.

    Attributes:
        quote: TDX quote, as the platform returned it.
        receiver_public_key: X25519 public key in the quote's report data, 32 bytes.
        receiver_mode: "attested": keys are wrapped only to this key; "signed": to any key that the
            backend's DID signs.
        event_log: entries of the run-time event log, JSON objects; None: no log.
    """

    quote: bytes = field(repr=False)
    receiver_public_key: bytes
    receiver_mode: ReceiverMode = "attested"
    event_log: Sequence[Json] | None = field(default=None, repr=False)


@frozen
class AttestationSession:
    """A session for which the node has accepted attestation evidence.

    Attributes:
        expires_at: epoch seconds.
        evidence: digest of the evidence, as in the node's audit records.
    """

    expires_at: float
    evidence: str


class Attestation:
    """A client for a node's attestation routes.

    Use `Client.attestation` to get an instance.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def challenge(self) -> Challenge:
        """Request a nonce for an attestation.

        The nonce is for this session's DID. The node stores nothing for it.

        Raises:
            RateLimited: too many requests.
            MalformedAnswer, NodeRefused, TransportError: the request failed.
        """
        audience = await self._caller.node_id()
        body = canonical_bytes({"did": self._caller.session.did})
        request = json_request("POST", "/attestation/challenge", body)
        value = json_object(_require_accepted(await self._caller.transport.exchange(request)))
        nonce = decode_url(required_text(value, "nonce"))
        if nonce is None or len(nonce) != NONCE_BYTES:
            raise MalformedAnswer(f"the node's nonce is not {NONCE_BYTES} bytes in base64url")
        return Challenge(nonce=nonce, audience=audience, expires_at=required_expiry(value))

    async def open_session(
        self, network: NetworkId, challenge: Challenge, attested: Attested
    ) -> AttestationSession:
        """Submit attestation evidence for this session's DID.

        Args:
            network: a network on which the session has decrypt, which shows a need for evidence
                here.
            challenge: a fresh challenge; any answer uses it up.
            attested: quote and receiver key.
        Raises:
            NotGranted: the session does not have decrypt on the network.
            AttestationRefused: the node rejected the quote, or the challenge has expired; `problem`
                names the reason.
            NodeFailure: the node lacks collateral or is busy; try again after `retry_after_s` with
                a new challenge.
        Does not check:
            Whether an owner approves this code: the node decides that at each release.
        """
        body: JsonObject = {
            "quote": encode_standard(attested.quote),
            "eventLog": None if attested.event_log is None else list(attested.event_log),
            "receiverPublicKey": encode_standard(attested.receiver_public_key),
            "receiverMode": attested.receiver_mode,
        }
        fact: JsonObject = {
            "type": SESSION_FACT,
            "nonce": encode_url(challenge.nonce),
            "bodyHash": canonical_hash(body),
        }
        request = await self._caller.authorized(
            json_request("POST", "/attestation/sessions", canonical_bytes(body), serves_once=True),
            [capability(network.text, DECRYPT)],
            facts=[fact],
        )
        value = json_object(_require_accepted(await self._caller.transport.exchange(request)))
        return AttestationSession(required_expiry(value), required_text(value, "evidence"))


def _require_accepted(answer: Answer) -> Answer:
    """Raise AttestationRefused unless the node accepted the evidence."""
    try:
        return answer.require()
    except NodeRefused as exc:
        if not exc.problem or exc.status not in _ABOUT_THE_EVIDENCE:
            raise
        raise AttestationRefused(
            exc.status, exc.text, problem=exc.problem, asked=exc.asked
        ) from exc


# --- a node's terms, checked before a grant is signed that would open nothing (AT59) --------------

PlatformCa = Literal["platform", "processor"]
"""The one of Intel's two authorities that issued a platform's certificate."""

_MAX_TERMS_BYTES = 64 * 1024


@frozen
class Family:
    """Intel platforms with the same attestation collateral."""

    fmspc: bytes
    ca: PlatformCa


_DECODER = msgspec.json.Decoder(ReleaseTerms)


async def fetch_terms(transport: Transport, family: Family | None) -> ReleaseTerms:
    """Fetch a node's requirements for attestation evidence.

    No token is needed.
    """
    query = "" if family is None else f"?fmspc={family.fmspc.hex()}&ca={family.ca}"
    request = Request(
        "GET", f"/attestation/terms{query}", repeatable=True, max_answer_bytes=_MAX_TERMS_BYTES
    )
    terms = decoded(_DECODER, await transport.require(request), "release terms")
    # The node states the status of the collateral if it was asked about a family, and only then.
    has_status = terms.collateral is not None
    wants_status = family is not None
    if has_status != wants_status:
        raise MalformedAnswer("the node's response does not contain the status of the collateral")
    return terms


def require_judgeable(terms: ReleaseTerms, evidence: Evidence) -> None:
    """Check that a node can verify a backend's evidence.

    This compares the evidence with the node's trust roots, key providers and collateral.
    """
    root = evidence.root_ca_sha256.hex()
    provider = evidence.key_provider
    if root not in terms.trust_roots:
        trusted = " or ".join(trusted_root[:16] + "…" for trusted_root in terms.trust_roots)
        raise BackendNotAcceptable(
            "the node does not trust the backend's platform: the root certificate of the backend's"
            f" quote is {root[:16]}…, but the node trusts {trusted or 'none'}",
            problem="trust_root",
            hint="ask the node's operator whether the node should trust this root certificate; the"
            " operator then runs: sealspace serve --trust-root FILE",
        )
    if provider is not None and not is_accepted(provider, terms.key_providers):
        accepted = ", ".join(accepted_provider[:80] for accepted_provider in terms.key_providers)
        raise BackendNotAcceptable(
            f"the node does not accept the backend's key provider {provider[:80]}",
            problem="key_provider",
            hint=f"use a key provider that the node accepts: {accepted or 'none'}",
        )
    if terms.collateral in ("missing", "unusable"):
        raise BackendNotAcceptable(
            f"the node cannot verify the backend's quotes: its collateral for platform family"
            f" {evidence.fmspc.hex()} is {terms.collateral}",
            problem="collateral",
            hint="ask the node's operator to run: sealspace admin collateral import FILE",
        )
