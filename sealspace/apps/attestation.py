"""The client's half of attestation: ask for a challenge, submit a quote, ask by what a node judges
backends.

`tee_backend` makes the quote and defines its report data; this module calls the routes.

Example:
    challenge, receiver = await client.attestation.challenge(), new_receiver_key(entropy)
    key = receiver.public_key
    binding = session_binding(challenge.nonce, challenge.audience, client.session.did, "attested", key)
    attested = Attested(quote=domain.quote(binding.report_data).quote, receiver_public_key=key)
    session = await client.attestation.open_session(network, challenge, attested)

The trust domain's side, `domain` and `session_binding`, is in `tee_backend`, whose `Backend` does
all of this.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from capabilities.abilities import DECRYPT
from capabilities.facts import SESSION_FACT
from capabilities.resources import NetworkId
from capabilities.strict_base64 import decode_url, encode_standard, encode_url
from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_bytes, canonical_hash
from encryption_network.key_providers import is_accepted
from encryption_network.policy import Evidence
from encryption_network.release_record import CollateralUse as CollateralUse
from encryption_network.release_record import ReleaseTerms as ReleaseTerms

from ..errors import AttestationRefused, BackendNotAcceptable, MalformedAnswer, NodeRefused
from ..session import capability
from ..wire.caller import Caller
from ..wire.node_answers import decoded, json_object, required_number, required_text
from ..wire.transport import Answer, Request, Transport, json_request

NONCE_BYTES: Final = 32

ReceiverMode = Literal["attested", "signed"]

_ABOUT_THE_EVIDENCE = frozenset({400, 403, 409, 422})
"""A 401 is about the token and its chain, a 503 about the node."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """A nonce of the node; valid once, for the DID that asked for it.

    Attributes:
        nonce: 32 bytes.
        audience: the node's DID; part of the report data.
        expires_at: epoch seconds.
    """

    nonce: bytes
    audience: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class Attested:
    """What a backend submits.

    Attributes:
        quote: TDX quote, as the platform gave it.
        receiver_public_key: X25519 key, 32 bytes, that the quote's report data name.
        receiver_mode: "attested": keys are wrapped to exactly this key; "signed": to any the
            backend's DID signs for.
        event_log: entries of the run-time event log, JSON objects; None: none.
    """

    quote: bytes = field(repr=False)
    receiver_public_key: bytes
    receiver_mode: ReceiverMode = "attested"
    event_log: Sequence[Json] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class AttestationSession:
    """Evidence that is in force at the node.

    Attributes:
        expires_at: epoch seconds.
        evidence: digest of it, as the node names it in its audit.
    """

    expires_at: float
    evidence: str


class Attestation:
    """The attestation routes of a node, with the session's authority; made by
    `Client.attestation`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def challenge(self) -> Challenge:
        """Ask for a nonce for this session's DID; nothing is stored for it.

        Raises:
            RateLimited: too many.
            MalformedAnswer, NodeRefused, TransportError: as each says.
        """
        audience = await self._caller.node_id()
        body = canonical_bytes({"did": self._caller.session.did})
        request = json_request("POST", "/attestation/challenge", body)
        value = json_object(_accepted(await self._caller.transport.exchange(request)))
        nonce = decode_url(required_text(value, "nonce"))
        if nonce is None or len(nonce) != NONCE_BYTES:
            raise MalformedAnswer(f"the node's nonce is not {NONCE_BYTES} bytes in base64url")
        return Challenge(nonce, audience, required_number(value, "expiresAt"))

    async def open_session(
        self, network: NetworkId, challenge: Challenge, attested: Attested
    ) -> AttestationSession:
        """Submit a quote; from then on, until the evidence ends, it counts for this session's DID.

        Args:
            network: a network on which the session holds decrypt; proves that it has a use for
                evidence here.
            challenge: a fresh one; it is used up, whatever the answer.
            attested: quote and receiver key.
        Raises:
            NotGranted: the session does not hold decrypt on the network.
            AttestationRefused: the node does not accept the quote, or the challenge has expired;
                `problem` says why.
            NodeFailure: the node has no collateral, or its queue is full; `retry_after_s` says when
                to try again, with a new challenge.
        Does not check:
            Whether any owner approves this code: that is judged at each release.
        """
        body: dict[str, Json] = {
            "quote": encode_standard(attested.quote),
            "eventLog": None if attested.event_log is None else list(attested.event_log),
            "receiverPublicKey": encode_standard(attested.receiver_public_key),
            "receiverMode": attested.receiver_mode,
        }
        fact: dict[str, Json] = {
            "type": SESSION_FACT,
            "nonce": encode_url(challenge.nonce),
            "bodyHash": canonical_hash(body),
        }
        request = json_request(
            "POST", "/attestation/sessions", canonical_bytes(body), serves_once=True
        )
        asked = await self._caller.authorized(
            request, [capability(network.text, DECRYPT)], facts=[fact]
        )
        value = json_object(_accepted(await self._caller.transport.exchange(asked)))
        return AttestationSession(
            required_number(value, "expiresAt"), required_text(value, "evidence")
        )


def _accepted(answer: Answer) -> Answer:
    """Return a success; raise an exception of its own class where the node refuses the evidence."""
    try:
        return answer.require()
    except NodeRefused as exc:
        if not exc.problem or exc.status not in _ABOUT_THE_EVIDENCE:
            raise
        raise AttestationRefused(
            exc.status, exc.text, problem=exc.problem, asked=exc.asked
        ) from exc


# --- what a node judges backends by, asked before a grant is signed that would open nothing (AT59)

PlatformCa = Literal["platform", "processor"]
"""Which of Intel's two authorities issued a platform's certificate."""

_MAX_TERMS_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Family:
    """A platform family, as collateral is kept for it."""

    fmspc: bytes
    ca: PlatformCa


_DECODER: Final = msgspec.json.Decoder(ReleaseTerms)


async def fetch_terms(transport: Transport, family: Family | None) -> ReleaseTerms:
    """Ask a node for its terms; no token is sent."""
    query = "" if family is None else f"?fmspc={family.fmspc.hex()}&ca={family.ca}"
    request = Request(
        "GET", f"/attestation/terms{query}", repeatable=True, max_answer_bytes=_MAX_TERMS_BYTES
    )
    terms = decoded(_DECODER, await transport.require(request), "release terms")
    if (terms.collateral is None) is (family is not None):
        raise MalformedAnswer(
            "the node's answer says nothing of the collateral that was asked about"
        )
    return terms


def require_judgeable(terms: ReleaseTerms, evidence: Evidence) -> None:
    """Refuse a backend whose evidence the node could not judge, or would not accept, whatever a
    grant says."""
    root, provider = evidence.root_ca_sha256.hex(), evidence.key_provider
    if root not in terms.trust_roots:
        named = " or ".join(one[:16] + "…" for one in terms.trust_roots) or "none"
        raise BackendNotAcceptable(
            f"the node trusts another root certificate: this quote ends at {root[:16]}…, the node"
            f" trusts {named}",
            problem="trust_root",
            hint=(
                "ask the node's operator whether it shall trust that platform: sealspace serve"
                " --trust-root FILE"
            ),
        )
    if provider is not None and not is_accepted(provider, terms.key_providers):
        raise BackendNotAcceptable(
            f"the node takes no evidence of applications with keys from {provider[:80]}",
            problem="key_provider",
            hint=(
                "its operator accepts"
                f" {', '.join(one[:80] for one in terms.key_providers) or 'none'}"
            ),
        )
    if terms.collateral in ("missing", "unusable"):
        lacks = "no collateral" if terms.collateral == "missing" else "no usable collateral"
        raise BackendNotAcceptable(
            f"the node has {lacks} for this platform, family {evidence.fmspc.hex()}: it can judge"
            " none of its quotes",
            problem="collateral",
            hint="ask the node's operator to run: sealspace admin collateral import FILE",
        )
