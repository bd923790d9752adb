"""Creation of the node's own attestation evidence (AT40 to AT43).

The evidence is a quote over the caller's nonce and the node's statement.

The quote covers a hash of the whole statement. Other nodes of the protocol put a text into the
report data, but it is longer than the 64 bytes available (Q10). That text remains a member of the
answer for clients that display it.
"""

from contextlib import suppress

import msgspec

from capabilities.frozen_struct import FrozenStruct
from encryption_network.networks import timestamp
from sealspace.documents.node_evidence import LABEL, MAX_NONCE_BYTES, NodeStatement, SecretOrigin
from tee_backend.attestation.attestation_errors import AttestationError
from tee_backend.attestation.event_log_claims import verify_event_log
from tee_backend.attestation.quote import parse_quote
from tee_backend.attestation.report_data import node_report_data

from ...config.tree import AttestationMode
from ...platform.own_quotes import QuoteQueue
from ...platform.root_secret import secret_origin
from ...refusal import Refusal
from ...release_terms import current_release
from ...services import Services

# Both generations of guest agent report one mode, which clients compare.
_MODES = {"dstack": "dstack", "tappd": "dstack", "tsm": "tsm"}
# Other nodes write this text with a backslash and a zero at its end, not with a NUL.
_KEY_BINDING = r"xyz.tinycloud.share/tee-key/v1\0"


class OwnEvidence(FrozenStruct, kw_only=True):
    """The node's own attestation evidence, as sent to clients.

    Bytes are in lower-case hexadecimal.

    Attributes:
        mode: `dstack` or `tsm`.
        quote: the quote over `report_data`.
        event_log: JSON text of the run-time entries; None if the platform keeps no log.
        compose_hash: the application's compose hash from that log; None without a log, or if the
            log does not match the quote.
        app_id: the application's id from that log, likewise.
        enforcer_did: the node's DID.
        key_binding: label, DID and nonce in one text, as other nodes of the protocol write it; it
            binds nothing.
        timestamp: when the quote was made, UTC.
        nonce: the requested nonce.
        report_data: 64 bytes, computed by the formula that `report_data_label` names (AT41).
        report_data_label: the name of the formula.
        store_id: id of the store, 16 bytes.
        secret_origin: who may have the root secret.
        attestation: the attestation mode in the release record; no process on the store has a
            looser one.
        trust_roots: SHA-256 of each root that backends are accepted under.
        node_policy_suffices: whether the operator's list of code may replace an owner's.
        key_providers: the key providers whose applications' evidence is accepted.
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


def checked_nonce(nonces: list[str]) -> str:
    """Return the nonce of a request, or an empty string if it has none.

    The empty nonce proves no freshness. `nonces` are the untrusted values of the query parameter.

    Raises:
        Refusal: `bad-nonce`, there are several, or it is too long or not text.
    """
    if not nonces:
        return ""
    if len(nonces) > 1:
        raise Refusal("bad-nonce", "send one nonce")
    (nonce,) = nonces
    try:
        size_bytes = len(nonce.encode())
    except UnicodeEncodeError:
        raise Refusal("bad-nonce", "the nonce is not text") from None
    if size_bytes > MAX_NONCE_BYTES:
        raise Refusal("bad-nonce", f"the nonce is longer than {MAX_NONCE_BYTES} bytes")
    return nonce


async def own_evidence(services: Services, quotes: QuoteQueue, nonce: str) -> OwnEvidence:
    """Create the node's own attestation evidence for a client's nonce.

    The quote covers the nonce and the node's statement about itself.
    """
    record = await current_release(services.store)
    statement = NodeStatement(
        node_did=services.keyring.node_did,
        store_id=services.store_id,
        secret_origin=secret_origin(services.config),
        # The mode is that of the release record, because a stricter setting of this process does
        # not bind other processes (RL16).
        attestation=record.mode,
        trust_roots=tuple(sorted(record.trust_roots)),
        node_policy_suffices=record.node_policy_suffices,
        key_providers=tuple(sorted(record.key_providers)),
    )
    report_data = node_report_data(nonce, statement)
    quoted = await quotes.quote(report_data)
    log = None
    claims = None
    if quoted.event_log is not None:
        log = msgspec.json.encode(quoted.event_log.to_json()).decode()
        # A log that does not match is left to verifiers of the quote, who detect it.
        with suppress(AttestationError):
            claims = verify_event_log(quoted.event_log, parse_quote(quoted.quote).report)
    return OwnEvidence(
        mode=_MODES[quotes.source],
        quote=quoted.quote.hex(),
        event_log=log,
        compose_hash=None if claims is None else claims.compose_hash.hex(),
        app_id=None if claims is None else claims.app_id.hex(),
        enforcer_did=statement.node_did,
        key_binding=f"{_KEY_BINDING}:{statement.node_did}:{nonce}",
        timestamp=timestamp(int(services.now())),
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
