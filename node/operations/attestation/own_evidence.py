"""The node's own evidence: a fresh quote that binds the caller's nonce to the node's statement
(AT40 to AT43).

A quote binds a hash of the whole statement: the text that other nodes of the protocol put into
report data is longer than the 64 bytes available (Q10). That text remains a member of the answer,
for clients that show it.
"""

from contextlib import suppress
from typing import Final

import msgspec

from encryption_network.networks import timestamp
from sealspace.documents.node_evidence import LABEL, MAX_NONCE_BYTES, NodeStatement, SecretOrigin
from tee_backend.attestation.attestation_errors import AttestationError
from tee_backend.attestation.event_log_claims import verify_event_log
from tee_backend.attestation.quote import parse_quote
from tee_backend.attestation.report_data import node_report_data

from ...config.tree import AttestationMode, PlatformSource
from ...platform.own_quotes import OwnQuotes
from ...platform.root_secret import secret_origin
from ...refusal import Refusal
from ...release_terms import current_release
from ...services import Services

# The mode of every guest agent, of either generation: clients compare it.
_MODES: Final[dict[PlatformSource, str]] = {"dstack": "dstack", "tappd": "dstack", "tsm": "tsm"}
# A backslash and a zero, not a NUL: other nodes write the same.
_KEY_BINDING: Final = r"xyz.tinycloud.share/tee-key/v1\0"


class OwnEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """The answer; bytes are lower-case hex.

    Attributes:
        mode: `dstack` or `tsm`.
        quote: over `report_data`.
        event_log: JSON text of the run-time entries; None where the platform keeps no log.
        compose_hash: of the application, out of that log; None without one, or where it does not
            fit the quote.
        app_id: likewise.
        enforcer_did: the node's DID.
        key_binding: label, DID and nonce in one text, as other nodes of the protocol write it;
            nothing is bound by it.
        timestamp: when the quote was made, UTC.
        nonce: as requested.
        report_data: 64 bytes, computed as `report_data_label` names it (AT41).
        report_data_label: the formula.
        store_id: of the store, 16 bytes.
        secret_origin: who may have the root secret.
        attestation: the mode of attestation in the release record: no process on the store has a
            looser one.
        trust_roots: SHA-256 of each root under which backends are accepted.
        node_policy_suffices: whether the operator's list of code may replace an owner's.
        key_providers: evidence is accepted from applications of these.
    """

    mode: str
    quote: str
    event_log: str | None
    compose_hash: str | None
    app_id: str | None
    enforcer_did: str
    key_binding: str
    timestamp: str
    nonce: str
    report_data: str
    report_data_label: str
    store_id: str
    secret_origin: SecretOrigin
    attestation: AttestationMode
    trust_roots: tuple[str, ...]
    node_policy_suffices: bool
    key_providers: tuple[str, ...]


def checked_nonce(given: list[str]) -> str:
    """Return the nonce of a request; a missing one is the empty nonce, which binds no moment."""
    if len(given) > 1:
        raise Refusal("bad-nonce", "name one nonce")
    nonce = given[0] if given else ""
    try:
        size_bytes = len(nonce.encode())
    except UnicodeEncodeError:
        raise Refusal("bad-nonce", "the nonce is no text") from None
    if size_bytes > MAX_NONCE_BYTES:
        raise Refusal("bad-nonce", f"the nonce is longer than {MAX_NONCE_BYTES} bytes")
    return nonce


async def own_evidence(services: Services, quotes: OwnQuotes, nonce: str) -> OwnEvidence:
    """Make a quote over the nonce and the node's statement about itself."""
    record = await current_release(services.store)
    statement = NodeStatement(
        node_did=services.keyring.node_did,
        store_id=services.store_id,
        secret_origin=secret_origin(services.config),
        # a stricter setting of this process does not bind the others of the store (RL16)
        attestation=record.mode,
        trust_roots=tuple(sorted(record.trust_roots)),
        node_policy_suffices=record.node_policy_suffices,
        key_providers=tuple(sorted(record.key_providers)),
    )
    report_data = node_report_data(nonce, statement)
    quoted = await quotes.quote(report_data)
    claims = None
    if quoted.event_log is not None:
        # a log that does not fit the quote: every verifier of the quote notices
        with suppress(AttestationError):
            claims = verify_event_log(quoted.event_log, parse_quote(quoted.quote).report)
    return OwnEvidence(
        mode=_MODES[quotes.source],
        quote=quoted.quote.hex(),
        event_log=None
        if quoted.event_log is None
        else msgspec.json.encode(quoted.event_log.to_json()).decode(),
        compose_hash=None if claims is None else claims.compose_hash.hex(),
        app_id=None if claims is None else claims.app_id.hex(),
        enforcer_did=statement.node_did,
        key_binding=f"{_KEY_BINDING}:{statement.node_did}:{nonce}",
        timestamp=timestamp(int(services.clock.now())),
        nonce=nonce,
        report_data=report_data.hex(),
        report_data_label=LABEL,
        store_id=statement.store_id.hex(),
        secret_origin=statement.secret_origin,
        attestation=statement.attestation,
        trust_roots=tuple(root.hex() for root in statement.trust_roots),
        node_policy_suffices=statement.node_policy_suffices,
        key_providers=statement.key_providers,
    )
