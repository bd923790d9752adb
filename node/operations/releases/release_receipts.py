"""Creation, storage and retrieval of key-release receipts (RC7 to RC10, RC13 to RC15).

The receipt and the documents that it refers to are written in the release's own commit, so that
they are durable before the key leaves the node. Documents that are stored already are not written
again.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from msgspec import UNSET, Raw, Struct

from capabilities.abilities import READ_RECEIPTS
from capabilities.frozen_struct import AcyclicStruct
from capabilities.machine_tokens import MachineGrant
from capabilities.members import Member
from encryption_network.gate import ReleasePermit
from encryption_network.policy import Evidence, encode_evidence, encode_policy
from encryption_network.receipt import Digest, QuoteVerdict, Receipt, signed_text
from encryption_network.withdrawals import evidence_digest
from spaces.documents.evidence import evidence_row_key
from spaces.documents.network_rows import network_row_key
from spaces.documents.receipt_rows import (
    PLACE_BYTES,
    cited_document_puts,
    document_span,
    document_use_row_key,
    evidence_inputs_of,
    receipt_put,
    receipts_of,
    receipts_range,
)
from spaces.keyspace import document_key, evidence_inputs_key
from spaces.store.contract import Put, read_row

from ...refusal import Refusal
from ...services import Services
from ..authorise import read_call
from .network_reading import admitted_reader, known_network

PAGE_RECEIPTS = 100
_SHA256_BYTES = 32


async def missing_documents(
    services: Services, documents: Sequence[bytes], *, stored_digests: Sequence[bytes] = ()
) -> tuple[Put, ...]:
    """Return the writes that store a receipt's supporting documents (RC26).

    Documents that are stored already are retained for longer. Documents whose use is already
    recorded for the current retention period need no row.

    Args:
        documents: whole documents.
        stored_digests: SHA-256 of documents that are stored, which are read only if their use is
            not recorded.
    """
    now = services.now()
    whole = {hashlib.sha256(document).digest(): document for document in documents}
    digests = tuple(dict.fromkeys((*whole, *stored_digests)))
    uses = await _stored_values(
        services, {digest: document_use_row_key(digest, now=now) for digest in digests}
    )
    unrecorded = [digest for digest in digests if digest not in uses]
    stored = await _stored_values(
        services, {digest: document_key(digest) for digest in unrecorded if digest not in whole}
    )
    available = stored | whole
    puts: list[Put] = []
    for digest in unrecorded:
        document = available.get(digest)
        if document is not None:  # None if a document of `stored_digests` is no longer stored
            puts += cited_document_puts(document, now=now)
    return tuple(puts)


async def _stored_values(services: Services, keys: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return the stored documents, keyed by digest.

    Args:
        keys: maps each digest to a row key.
    """
    rows = (await services.store.read([*keys.values()])).records if keys else ()
    return {
        digest: row.value
        for digest, row in zip(keys, rows, strict=True)
        if row is not None and row.value is not None
    }


class NewReceipt(AcyclicStruct):
    """A signed key-release receipt that is not stored yet.

    Attributes:
        puts: the rows that the release's commit has to write.
        sha256: the digest of the receipt in hexadecimal.
        note: to be called as soon as the receipt is stored.
    """

    puts: tuple[Put, ...]
    sha256: str
    note: Callable[[], None]


async def new_receipt(services: Services, permit: ReleasePermit) -> NewReceipt:
    """Create and sign a receipt for a key release.

    The commit of the release writes the result's `puts`; after the commit, call its `note`.
    """
    # The cache has the documents whose use is recorded for this retention period (RC26). They are
    # not written again.
    span = document_span(services.now())
    services.kept.enter(span)
    documents: list[bytes] = []
    policies: list[str] = []
    for policy, digest in zip(permit.policies, permit.policy_sha256, strict=True):
        if not services.kept.has_policy(digest):
            documents.append(encode_policy(policy))
            policies.append(digest)
    holder = permit.holder
    evidence = permit.evidence
    judged = None
    newly_judged = None
    stored_digests: tuple[bytes, ...] = ()
    if evidence is not None:
        record = evidence_digest(evidence)
        judged = services.kept.judged(record)
        if judged is None:
            judged, supporting = await _verdict_and_documents(services, evidence, record)
            documents += supporting
            # A verdict without the quote is not cached, so the next release looks for the quote
            # again.
            if judged.quote is not None:
                newly_judged = judged
            # The collateral was stored when the backend attested.
            stored_digests = (judged.collateral,)
    decrypt = permit.decrypt
    receipt = Receipt(
        node=services.keyring.node_did,
        network=decrypt.network.network_id.text,
        owner=decrypt.network.owner,
        invoker=decrypt.bound.invocation.invoker,
        invocation=decrypt.invocation_cid,
        request_hash=decrypt.request_hash,
        receiver_public_key_hash=decrypt.bound.body.stated.receiver_public_key_hash,
        chain=permit.chain,
        policies=tuple([Digest.fromhex(digest) for digest in permit.policy_sha256]),
        ground=permit.ground,
        machine=holder.name if isinstance(holder, MachineGrant) else UNSET,
        member=holder.statement.member if isinstance(holder, Member) else UNSET,
        mode=permit.mode,
        at_micros=int(permit.decided_at * 1_000_000),
        evidence=judged,
    )
    text = signed_text(receipt, services.keyring.node_signer)
    put = receipt_put(
        decrypt.network.network_id,
        text,
        at=permit.decided_at,
        entropy=services.entropy,
        # `check_decrypt` has compared this digest with the key (enc 2.7, row 20)
        wrapped_key=bytes.fromhex(decrypt.bound.body.stated.encrypted_symmetric_key_hash),
    )
    puts: tuple[Put, ...] = (put,)
    if documents:
        puts = (put, *await missing_documents(services, documents, stored_digests=stored_digests))
    return NewReceipt(
        puts=puts,
        sha256=hashlib.sha256(text).hexdigest(),
        note=partial(services.kept.note, span, policies=policies, judged=newly_judged),
    )


async def _verdict_and_documents(
    services: Services, evidence: Evidence, evidence_sha256: bytes
) -> tuple[QuoteVerdict, list[bytes]]:
    """Return the verdict on attestation evidence, with the supporting documents.

    The documents are the evidence and, if they are still stored, its quote and event log.
    `evidence_sha256` is the digest of the evidence.
    """
    key = evidence_inputs_key(evidence_row_key(evidence.invoker, evidence.receiver_public_key))
    inputs = evidence_inputs_of(await read_row(services.store, key))
    documents = [encode_evidence(evidence)]
    quote = event_log = nonce = None
    # If the supporting documents belong to newer evidence, the row of the evidence has changed too,
    # and the release's commit will fail.
    if inputs is not None and inputs.evidence_sha256 == evidence_sha256:
        documents.append(inputs.quote)
        quote = Digest(hashlib.sha256(inputs.quote).digest())
        nonce = Digest(inputs.nonce)
        if inputs.event_log is not None:
            documents.append(inputs.event_log)
            event_log = Digest(hashlib.sha256(inputs.event_log).digest())
    verdict = QuoteVerdict(
        record=Digest(evidence_sha256),
        quote=quote,
        event_log=event_log,
        collateral=Digest(evidence.collateral_sha256),
        nonce=nonce,
    )
    return verdict, documents


# --- reading --------------------------------------------------------------------------------------


class ReceiptPage(Struct):
    """A page of key-release receipts, oldest first.

    `keys` has for each receipt the SHA-256 of the wrapped key that was released, or null (RC37).
    `after` is null on the last page.
    """

    receipts: tuple[Raw, ...]
    keys: tuple[str | None, ...]
    after: str | None


async def read_receipts(
    services: Services, header: str, *, path_id: str, after: str
) -> ReceiptPage:
    """Return one page of an encryption network's key-release receipts (RC14).

    The caller must be the network's owner or an authorised delegate of the owner.

    Args:
        header: untrusted text of the `Authorization` header: a UCAN to this node whose only
            capability is `sealspace.encryption/receipts` on the network.
        path_id: network id of the path, percent-decoded once.
        after: untrusted `after` of the previous page; empty for the first page.

    Raises:
        Errors of `admitted_reader` and `read_call`.
        Refusal: `network-unknown`; `request-malformed`, `after` is invalid.
    """
    invocation, network = admitted_reader(services, header, path_id, READ_RECEIPTS)
    place = requested_place(after)
    call = await read_call(
        services,
        invocation,
        (network_row_key(network),),
        (receipts_range(network, after=place, limit=PAGE_RECEIPTS),),
    )
    known_network(call.records[0])
    receipts, next_place = receipts_of(call.pages[0])
    return ReceiptPage(
        receipts=tuple([Raw(receipt.text) for receipt in receipts]),
        keys=tuple([receipt.wrapped_key.hex() or None for receipt in receipts]),
        after=None if next_place is None else next_place.hex(),
    )


def requested_place(after: str) -> bytes | None:
    """Parse the untrusted `after` of a request for a page; None: the first page.

    Raises:
        Refusal: `request-malformed`, the text is invalid.
    """
    if not after:
        return None
    place = lower_hex(after, PLACE_BYTES)
    if place is None:
        raise Refusal("request-malformed", hint="send the value of `after` from the previous page")
    return place


async def read_document(services: Services, header: str, *, path_id: str, digest: str) -> bytes:
    """Return a document cited in key-release receipts (RC15).

    The document is a policy or a quote, for example. Digests cannot be guessed, so asking for one
    proves access to a receipt.

    Args:
        header: untrusted text of the `Authorization` header, whose token has the one capability
            that `read_receipts` requires.
        path_id: network id of the path, percent-decoded once.
        digest: untrusted: 64 lower-case hex digits.

    Raises:
        Errors of `read_receipts`.
        Refusal: `document-unknown`, no such document is stored.
    """
    invocation, network = admitted_reader(services, header, path_id, READ_RECEIPTS)
    sha256 = lower_hex(digest, _SHA256_BYTES)
    if sha256 is None:
        raise Refusal("request-malformed", hint="the digest must be 64 lower-case hex digits")
    call = await read_call(services, invocation, (network_row_key(network), document_key(sha256)))
    of_network, row = call.records
    known_network(of_network)
    if row is None or row.value is None:
        raise Refusal("document-unknown", hint="use a digest from a receipt of this node")
    return row.value


def lower_hex(text: str, size_bytes: int) -> bytes | None:
    """Decode a string of lower-case hexadecimal digits.

    Return None for any other string.
    """
    if len(text) != 2 * size_bytes or set(text) - set("0123456789abcdef"):
        return None
    return bytes.fromhex(text)
