"""The node's own evidence: what it says about itself in a quote, and what a program demands of it
beforehand.

`GET /attestation?nonce=` is answered with a quote whose report data bind the nonce to the node's
DID, its store, where its root secret comes from, and on what terms it releases keys. A program that
requires that evidence names the code that it approves; it sends no token before the evidence is
accepted, or after the evidence has become too old.

Judging a quote needs a library that the SDK does not depend on, so a program that requires evidence
supplies a verifier. The one for TDX is `tee_backend.attestation.node_verifier`.

Example:
    required = NodeRequirement(TdxNodeVerifier(root, documents), NodePolicy(code=Policy(measurements=(approved,))))
    async with Client("https://node.example", require_node_evidence=required) as client:
        await client.sign_in(wallet)  # refused before the wallet is asked, unless the node runs the approved code

Source: spec/attestation.md AT40 to AT45.
"""

from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, Protocol

import msgspec
from msgspec import Meta

from capabilities.capability_errors import CapabilityError
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
"""platform: the trust domain's key service gave the root secret. operator: another party has or had
it too."""

LABEL: Final = "sealspace/node-report-data/1"
"""Names the formula of the report data, in it and in the answer."""

MAX_ATTESTATION_BYTES: Final = 1024 * 1024
"""Quote in hex, an event log of run-time entries as escaped text, and the rest."""
MAX_NONCE_BYTES: Final = 256
STORE_ID_BYTES: Final = 16
RENEW_AFTER_S: Final = 600.0

_MAX_ROOTS: Final = 16
_MAX_QUOTE_BYTES: Final = 16 * 1024
_MAX_LOG_CHARS: Final = 512 * 1024
_WRAPPED: Final = "log"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatement:
    """What a node says about itself, beside the nonce, under the report data of its quote."""

    node_did: str
    store_id: bytes
    secret_origin: SecretOrigin
    attestation: Mode
    trust_roots: tuple[bytes, ...]
    node_policy_suffices: bool
    key_providers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAttestation:
    """A node's answer, read; nothing of it is verified."""

    nonce: str
    statement: NodeStatement
    quote: bytes = field(repr=False)
    event_log: tuple[Json, ...] | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePolicy:
    """What a program demands of a node."""

    code: Policy
    secret_origins: frozenset[SecretOrigin] = frozenset({"platform"})
    modes: frozenset[Mode] = frozenset({"delegates", "everyone"})
    release_roots: frozenset[bytes] = frozenset()
    accepts_node_policy: bool = False
    release_key_providers: tuple[str, ...] = DEFAULT_KEY_PROVIDERS
    store_id: bytes | None = None

    def __post_init__(self) -> None:
        """Refuse what would approve any code, and demands about receivers and paths, which a node
        does not have."""
        if not self.code.is_allow_list:
            raise InvalidPolicy(
                "the policy approves no code: a genuine quote alone says nothing",
                hint="list measurements; `sealspace verify URL` prints those of a node",
            )
        if self.code.paths or self.code.receiver != "attested" or not self.code.in_person:
            raise InvalidPolicy("paths, receiver and inPerson are about backends, not about a node")
        try:
            for entry in self.release_key_providers:
                parse_key_provider(entry)
        except PolicyError as exc:
            raise InvalidPolicy(f"release_key_providers: {exc.reason}") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEvidence:
    """Evidence of a node that was found good."""

    statement: NodeStatement
    facts: Evidence


class NodeVerifier(Protocol):
    """Judges a node's answer."""

    async def verify(
        self, attestation: NodeAttestation, policy: NodePolicy, *, now: float
    ) -> NodeEvidence:
        """Return the evidence if the quote is genuine, names nonce and statement, and satisfies the
        policy at `now`."""
        ...


@dataclass(frozen=True, slots=True)
class NodeRequirement:
    """The requirement of a client for the node's evidence."""

    verifier: NodeVerifier
    policy: NodePolicy
    renew_after_s: float = RENEW_AFTER_S


def parse_node_attestation(body: bytes, *, nonce: str) -> NodeAttestation:
    """Read what a node answers.

    Args:
        body: JSON, untrusted; at most MAX_ATTESTATION_BYTES.
        nonce: the nonce of the request; the one that the answer states does not count.
    Raises:
        NodeEvidenceRefused: the node runs in no trust domain ("no-tee"), or the answer has another
            shape ("malformed").
    Does not check:
        Quote and event log: see NodeVerifier.
    """
    try:
        value = parse_json(body, max_bytes=MAX_ATTESTATION_BYTES)
    except CapabilityError as exc:
        raise NodeEvidenceRefused("malformed", "the answer is no JSON object") from exc
    if value.get("mode") == "classic":
        raise NodeEvidenceRefused("no-tee", "the node says that it has no quote to show")
    if value.get("report_data_label") != LABEL:
        raise NodeEvidenceRefused(
            "malformed", "the answer's report data follow no formula that is known here"
        )
    try:
        answer = shaped(value, _Answer)
    except CapabilityError as exc:
        raise NodeEvidenceRefused("malformed", f"the node's answer: {exc}") from exc
    return NodeAttestation(
        nonce=nonce,
        statement=_statement(answer),
        quote=bytes.fromhex(answer.quote),
        event_log=None if answer.event_log is None else _log(answer.event_log),
    )


class _Answer(msgspec.Struct):
    """The members that are read; a node may answer more."""

    enforcer_did: str
    store_id: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
    secret_origin: SecretOrigin
    attestation: Mode
    trust_roots: Annotated[list[Sha256Hex], Meta(max_length=_MAX_ROOTS)]
    node_policy_suffices: bool
    key_providers: Annotated[list[str], Meta(max_length=MAX_KEY_PROVIDERS)]
    quote: Annotated[str, Meta(max_length=2 * _MAX_QUOTE_BYTES, pattern=r"^(?:[0-9a-f]{2})+\Z")]
    event_log: Annotated[str, Meta(max_length=_MAX_LOG_CHARS)] | None = None


def _statement(answer: _Answer) -> NodeStatement:
    if ed25519_public_key(answer.enforcer_did) is None:
        raise _malformed("enforcer_did")
    try:
        providers = tuple(map(parse_key_provider, answer.key_providers))
    except PolicyError as exc:
        raise _malformed("key_providers") from exc
    return NodeStatement(
        node_did=answer.enforcer_did,
        store_id=bytes.fromhex(answer.store_id),
        secret_origin=answer.secret_origin,
        attestation=answer.attestation,
        trust_roots=tuple(map(bytes.fromhex, answer.trust_roots)),
        node_policy_suffices=answer.node_policy_suffices,
        key_providers=providers,
    )


def _log(text: str) -> tuple[Json, ...]:
    """Read the event log, which is JSON text in the answer."""
    try:
        # The strict reader takes objects only; text that tries to leave the array makes no object
        # of one member.
        wrapped = parse_json(f'{{"{_WRAPPED}":{text}}}'.encode(), max_bytes=MAX_ATTESTATION_BYTES)
    except (CapabilityError, UnicodeEncodeError) as exc:
        raise _malformed("event_log") from exc
    entries = wrapped[_WRAPPED]
    if wrapped.keys() != {_WRAPPED} or not isinstance(entries, list):
        raise _malformed("event_log")
    return tuple(entries)


def _malformed(member: str) -> NodeEvidenceRefused:
    return NodeEvidenceRefused("malformed", f"the answer's `{member}` is not what it has to be")
