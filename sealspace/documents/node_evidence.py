"""The attestation evidence of a node.

A client's requirements for that evidence are here too. `GET /attestation?nonce=` returns a quote.
Its report data bind the nonce to the node's DID, its store, the origin of its root secret, and its
terms for releasing keys. A program that requires evidence names the code that it approves. Until
the evidence is verified, and after it has become too old, no token is sent.

Verifying a quote needs a library that the SDK does not depend on, so the program supplies a
verifier; `tee_backend.attestation.node_verifier` is the one for TDX.

Example:
    policy = NodePolicy(code=Policy(measurements=(approved,)))
    required = NodeRequirement(TdxNodeVerifier(root, documents), policy)
    async with Client("https://node.example", require_node_evidence=required) as client:
        # The wallet signs only if the node runs the approved code.
        await client.sign_in(wallet)

Source: spec/attestation.md AT40 to AT45.
"""

from dataclasses import field
from typing import Annotated, Literal, NamedTuple, Protocol

import msgspec
from msgspec import Meta

from capabilities.capability_errors import CapabilityError
from capabilities.frozen import frozen
from capabilities.principals import ed25519_public_key
from capabilities.strict_json import Json, Sha256Hex, parse_json, shaped
from encryption_network.key_providers import (
    DEFAULT_KEY_PROVIDERS,
    MAX_KEY_PROVIDERS,
    parse_key_provider,
)
from encryption_network.network_errors import PolicyError
from encryption_network.policy import Evidence, Policy
from encryption_network.release_record import Mode

from ..errors import InvalidPolicy, NodeEvidenceRefused

SecretOrigin = Literal["platform", "operator"]
"""Origin of a node's root secret: the trust domain's key service, or an operator who may know
it."""

LABEL = "sealspace/node-report-data/1"
"""Version of the report data's formula; part of the report data and of the answer."""

MAX_ATTESTATION_BYTES = 1024 * 1024
"""Longest answer, bytes: the quote in hex, the event log as escaped text, and the other members."""
MAX_NONCE_BYTES = 256
STORE_ID_BYTES = 16
RENEW_AFTER_S = 600.0

_MAX_ROOTS = 16
_MAX_QUOTE_BYTES = 16 * 1024
_MAX_LOG_CHARS = 512 * 1024
_WRAPPED = "log"


@frozen(kw_only=True)
class NodeStatement:
    """A node's statement about its identity and settings.

    The quote contains a hash of the statement and the nonce.
    """

    node_did: str
    store_id: bytes
    secret_origin: SecretOrigin
    attestation: Mode
    trust_roots: tuple[bytes, ...]
    node_policy_suffices: bool
    key_providers: tuple[str, ...]


@frozen(kw_only=True)
class NodeAttestation:
    """The parsed but unverified attestation evidence of a node."""

    nonce: str
    statement: NodeStatement
    quote: bytes = field(repr=False)
    event_log: tuple[Json, ...] | None = field(repr=False)


@frozen(kw_only=True)
class NodePolicy:
    """A client's requirements for a node's code and settings.

    Attributes:
        code: policy with the approved measurements.
        secret_origins: accepted origins of the root secret.
        modes: accepted release modes.
        release_roots: SHA-256 of further root certificates that the node may trust.
        accepts_node_policy: whether the node's operator may approve code in place of owners.
        release_key_providers: key providers that the node may accept.
        store_id: id of the node's store, 16 bytes; None: any.
    """

    code: Policy
    secret_origins: frozenset[SecretOrigin] = frozenset({"platform"})
    modes: frozenset[Mode] = frozenset({"delegates", "everyone"})
    release_roots: frozenset[bytes] = frozenset()
    accepts_node_policy: bool = False
    release_key_providers: tuple[str, ...] = DEFAULT_KEY_PROVIDERS
    store_id: bytes | None = None

    def __post_init__(self) -> None:
        """Reject a policy without approved measurements.

        Restrictions that are meant for backends are rejected too.
        """
        if not self.code.is_allow_list:
            raise InvalidPolicy(
                "the policy must have measurements: without them, any code would be accepted",
                hint="add measurements to the policy; `sealspace verify URL` prints the"
                " measurements of a node",
            )
        if self.code.paths or self.code.receiver != "attested" or not self.code.in_person:
            raise InvalidPolicy(
                "a policy for a node cannot have paths, receiver or inPerson: they are for backends"
            )
        try:
            for entry in self.release_key_providers:
                parse_key_provider(entry)  # raises for a malformed entry
        except PolicyError as exc:
            raise InvalidPolicy(f"release_key_providers: {exc.reason}") from exc


class NodeEvidence(NamedTuple):
    """The verified attestation evidence of a node."""

    statement: NodeStatement
    facts: Evidence


class NodeVerifier(Protocol):
    """A verifier for the attestation evidence of nodes."""

    async def verify(
        self, attestation: NodeAttestation, policy: NodePolicy, *, now: float
    ) -> NodeEvidence:
        """Verify that a node's attestation evidence satisfies a policy.

        Raises NodeEvidenceRefused otherwise; `now` is epoch seconds.
        """


@frozen
class NodeRequirement:
    """Settings for the verification of a node."""

    verifier: NodeVerifier
    policy: NodePolicy
    renew_after_s: float = RENEW_AFTER_S


def parse_node_attestation(body: bytes, *, nonce: str) -> NodeAttestation:
    """Parse the attestation evidence of a node.

    Args:
        body: JSON, untrusted; at most MAX_ATTESTATION_BYTES.
        nonce: the nonce of the request; the answer's own statement of it is ignored.
    Raises:
        NodeEvidenceRefused: the node is not in a trust domain ("no-tee"), or the answer is
            malformed ("malformed").
    Does not check:
        Quote and event log: see NodeVerifier.
    """
    try:
        value = parse_json(body, max_bytes=MAX_ATTESTATION_BYTES)
    except CapabilityError as exc:
        raise NodeEvidenceRefused("malformed", "the response is not a JSON object") from exc
    if value.get("mode") == "classic":
        raise NodeEvidenceRefused("no-tee", "the node does not run in a trust domain")
    if value.get("report_data_label") != LABEL:
        raise NodeEvidenceRefused(
            "malformed", "the report data in the response has an unknown format"
        )
    try:
        answer = shaped(value, _Answer)
    except CapabilityError as exc:
        raise NodeEvidenceRefused("malformed", f"the response is not valid: {exc}") from exc
    if ed25519_public_key(answer.enforcer_did) is None:
        raise _malformed("enforcer_did")
    try:
        providers = tuple(map(parse_key_provider, answer.key_providers))
    except PolicyError as exc:
        raise _malformed("key_providers") from exc
    return NodeAttestation(
        nonce=nonce,
        statement=NodeStatement(
            node_did=answer.enforcer_did,
            store_id=bytes.fromhex(answer.store_id),
            secret_origin=answer.secret_origin,
            attestation=answer.attestation,
            trust_roots=tuple(map(bytes.fromhex, answer.trust_roots)),
            node_policy_suffices=answer.node_policy_suffices,
            key_providers=providers,
        ),
        quote=bytes.fromhex(answer.quote),
        event_log=None if answer.event_log is None else _parse_log(answer.event_log),
    )


class _Answer(msgspec.Struct):
    """The JSON form of a node's attestation evidence."""

    enforcer_did: str
    store_id: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
    secret_origin: SecretOrigin
    attestation: Mode
    trust_roots: Annotated[list[Sha256Hex], Meta(max_length=_MAX_ROOTS)]
    node_policy_suffices: bool
    key_providers: Annotated[list[str], Meta(max_length=MAX_KEY_PROVIDERS)]
    quote: Annotated[str, Meta(max_length=2 * _MAX_QUOTE_BYTES, pattern=r"^(?:[0-9a-f]{2})+\Z")]
    event_log: Annotated[str, Meta(max_length=_MAX_LOG_CHARS)] | None = None


def _parse_log(text: str) -> tuple[Json, ...]:
    """Parse the JSON text of an event log."""
    try:
        # The strict parser reads only objects, so the text is wrapped in one. A hostile text that
        # closes the wrapper early adds members, which the check below rejects.
        wrapped = parse_json(f'{{"{_WRAPPED}":{text}}}'.encode(), max_bytes=MAX_ATTESTATION_BYTES)
    except (CapabilityError, UnicodeEncodeError) as exc:
        raise _malformed("event_log") from exc
    entries = wrapped[_WRAPPED]
    if wrapped.keys() != {_WRAPPED} or not isinstance(entries, list):
        raise _malformed("event_log")
    return tuple(entries)


def _malformed(member: str) -> NodeEvidenceRefused:
    return NodeEvidenceRefused("malformed", f"the member `{member}` of the response is not valid")
