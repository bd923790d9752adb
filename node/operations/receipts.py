"""Receipts: writing one with each release, and handing them to the owner of the network (RC7 to RC10, RC13 to RC15).

The receipt and whatever it refers to are written in the release's own commit, so that all of it is durable before the
key leaves. A document that is there already is not written again.

Example:
    puts, digest = await receipt_puts(services, admission)
    page = await read_receipts(services, header, path_id="urn:…:default", after="")
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from capabilities.resources import NetworkId, network_of
from capabilities.tokens import Invocation, parse_invocation
from encryption_network.evidence_record import encode_evidence
from encryption_network.gate import Admission
from encryption_network.networks import parse_path_id
from encryption_network.policy import Evidence, encode_policy
from encryption_network.receipt import Judged, Receipt, encode_receipt, sign_receipt
from encryption_network.requests import MAX_LIFETIME_S, check_audience
from encryption_network.withdrawals import evidence_digest
from spaces.networks import network_row_key
from spaces.receipts import (
    PLACE_BYTES,
    Basis,
    basis_row_key,
    decode_basis,
    document_put,
    document_row_key,
    receipt_page,
    receipt_put,
    receipts_range,
)
from spaces.store.contract import Put

from ..services import Services
from .attestation_errors import DocumentUnknown, MalformedRequest, NetworkUnknown, SessionNotBound
from .authorise import Call, admit_token, read_call

READ_RECEIPTS: Final = "sealspace.encryption/receipts"
PAGE_RECEIPTS: Final = 100
_SHA256_BYTES: Final = 32


async def missing_documents(services: Services, documents: Sequence[bytes]) -> tuple[Put, ...]:
    """Return the puts of those documents that are not kept yet, each once."""
    by_key = {document_row_key(hashlib.sha256(document).digest()): document for document in documents}
    records = (await services.store.read(tuple(by_key))).records if by_key else ()
    return tuple(
        document_put(document)
        for document, record in zip(by_key.values(), records, strict=True)
        if record is None or record.value is None
    )


async def receipt_puts(services: Services, admission: Admission) -> tuple[tuple[Put, ...], str]:
    """Return the rows of a release's receipt and of what it refers to, and the receipt's SHA-256 in hex.

    Raises:
        RecordDamaged, SpaceError: what the evidence was judged from does not decode, or the store does not answer.
    """
    evidence = admission.evidence
    documents = [encode_policy(policy) for policy in admission.policies]
    judged = None
    if evidence is not None:
        basis = await _basis(services, evidence)
        judged = _judged(evidence, basis)
        documents.append(encode_evidence(evidence))
        if basis is not None:
            documents += [basis.quote] if basis.event_log is None else [basis.quote, basis.event_log]
    text = encode_receipt(sign_receipt(_receipt(services, admission, judged), services.keyring.node_signer))
    network = admission.decrypt.network.network_id
    put = receipt_put(network, text, at=admission.audit.decided_at, entropy=services.entropy)
    return (put, *await missing_documents(services, documents)), hashlib.sha256(text).hexdigest()


def _receipt(services: Services, admission: Admission, judged: Judged | None) -> Receipt:
    audit = admission.audit
    return Receipt(
        node=services.keyring.node_did,
        network=audit.network_id,
        owner=audit.owner,
        invoker=audit.invoker,
        invocation=audit.invocation_cid,
        request_hash=audit.request_hash,
        receiver_public_key_hash=audit.receiver_public_key_hash,
        chain=audit.chain,
        policies=tuple(bytes.fromhex(digest) for digest in audit.policy_sha256),
        ground=audit.ground,
        mode=audit.mode,
        at_micros=int(audit.decided_at * 1_000_000),
        evidence=judged,
    )


async def _basis(services: Services, evidence: Evidence) -> Basis | None:
    """Return what evidence was judged from; None when it is not kept, or belongs to newer evidence already.

    Newer evidence means another stamp of the evidence's row, which the release's commit checks.
    """
    key = basis_row_key(evidence.invoker, evidence.receiver_public_key)
    row = (await services.store.read((key,))).records[0]
    basis = None if row is None or row.value is None else decode_basis(row.value)
    return basis if basis is not None and basis.evidence_sha256 == evidence_digest(evidence) else None


def _judged(evidence: Evidence, basis: Basis | None) -> Judged:
    log = None if basis is None else basis.event_log
    return Judged(
        record=evidence_digest(evidence),
        quote=None if basis is None else hashlib.sha256(basis.quote).digest(),
        event_log=None if log is None else hashlib.sha256(log).digest(),
        collateral=evidence.collateral_sha256,
        nonce=None if basis is None else basis.nonce,
    )


# --- reading -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReceiptsFound:
    """A page of a network's receipts.

    Attributes:
        receipts: signed texts, oldest first.
        after: what to ask with for the next page; None when nothing follows now.
    """

    receipts: tuple[bytes, ...]
    after: str | None


async def read_receipts(services: Services, header: str, *, path_id: str, after: str) -> ReceiptsFound:
    """Return receipts of a network, to its owner or to whom the owner granted them (RC14).

    Args:
        services: the node.
        header: untrusted: a UCAN to this node with `sealspace.encryption/receipts` on the network, and nothing else.
        path_id: network id of the path, percent-decoded once.
        after: untrusted: what the page before said; empty for the first one.

    Raises:
        MalformedToken, CapabilityError, EncryptionError: what is wrong with token, chain or id.
        AttestationRequestError: another capability, no such network, or a place that is none.
        SpaceError: the store does not answer.
    """
    invocation, network = _admitted(services, header, path_id)
    place = _place(after)
    wanted = receipts_range(network, after=place, limit=PAGE_RECEIPTS)
    call = await read_call(services, invocation, keys=(network_row_key(network),), ranges=(wanted,), claiming=True)
    _require_network(call)
    page = receipt_page(call.pages[0])
    return ReceiptsFound(page.receipts, None if page.next_place is None else page.next_place.hex())


async def read_document(services: Services, header: str, *, path_id: str, digest: str) -> bytes:
    """Return a document that receipts refer to (RC15).

    The digest itself says that its bearer has seen a receipt: it cannot be guessed.

    Args:
        services: the node.
        header: as for `read_receipts`.
        path_id: network id of the path, percent-decoded once.
        digest: untrusted: 64 lower-case hex digits.

    Raises:
        As `read_receipts`; DocumentUnknown: there is no such document.
    """
    invocation, network = _admitted(services, header, path_id)
    sha256 = _hex(digest, _SHA256_BYTES)
    if sha256 is None:
        raise MalformedRequest("name a document by 64 lower-case hex digits")
    keys = (network_row_key(network), document_row_key(sha256))
    call = await read_call(services, invocation, keys=keys, claiming=True)
    _require_network(call)
    row = call.records[1]
    if row is None or row.value is None:
        raise DocumentUnknown("take digests from receipts of this node")
    return row.value


def _admitted(services: Services, header: str, path_id: str) -> tuple[Invocation, NetworkId]:
    check_audience(parse_invocation(header).audience, services.keyring.node_did)
    invocation = admit_token(header, now=services.clock.now(), max_lifetime_s=MAX_LIFETIME_S)
    network = parse_path_id(path_id)
    only = invocation.capabilities[0] if len(invocation.capabilities) == 1 else None
    if only is None or only.ability != READ_RECEIPTS or network_of(only.resource) != network:
        raise SessionNotBound(f"sign the one capability {READ_RECEIPTS} on the network of the path")
    return invocation, network


def _require_network(call: Call) -> None:
    if call.records[0] is None:
        raise NetworkUnknown("create the network first: it appears with its owner's sign-in")


def _place(text: str) -> bytes | None:
    if not text:
        return None
    place = _hex(text, PLACE_BYTES)
    if place is None:
        raise MalformedRequest("after is what the page before said")
    return place


def _hex(text: str, size_bytes: int) -> bytes | None:
    if len(text) != 2 * size_bytes or set(text) - set("0123456789abcdef"):
        return None
    return bytes.fromhex(text)
