"""Offline verification of key-release receipts (RC16 to RC19).

    step  what is checked
    1     the receipt is canonical, and signed by the node
    2     every policy in force is present, unaltered and readable
    3     the ground fits mode, policies and parties
    4     evidence, quote, event log and collateral are present, unaltered, and belong together
    5     the quote is bound to challenge, node, invoker and receiver key
    6     the quote verifies under the trust root with that collateral at the receipt's time, and
          states the same facts as the evidence
    7     the evidence satisfies every policy at the receipt's time

Example:
    find = documents_in(folder)
    released = verify_release(path.read_bytes(), find, root=intel_root(), node_did=did)
    refusals = judge_with(released, collateral, root=intel_root(), now=clock.now())
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple, TypeVar

from capabilities.capability_errors import InvalidJson
from capabilities.principals import same_principal
from capabilities.strict_base64 import encode_standard
from capabilities.strict_json import parse_json
from encryption_network.canonical_json import canonical_hash
from encryption_network.judgement import judge
from encryption_network.key_providers import NAMES
from encryption_network.network_errors import EncryptionError
from encryption_network.policy import (
    MAX_POLICY_BYTES,
    Evidence,
    Policy,
    decode_evidence,
    parse_policy,
)
from encryption_network.receipt import QuoteVerdict, Receipt, parse_receipt, verify_receipt
from sealspace.errors import ReceiptInvalid

from .attestation_errors import AttestationError, QuoteRefused
from .collateral import parse_collateral
from .examine import BoundQuote, bind_quote, examine
from .report_data import session_binding
from .trust_root import TrustRoot

MAX_DOCUMENT_BYTES = 512 * 1024
Documents = Callable[[bytes], bytes | None]
"""Returns the document with a SHA-256, or None."""
Read = TypeVar("Read")


class VerifiedRelease(NamedTuple):
    """A key release proven by a verified receipt."""

    receipt: Receipt
    policies: tuple[Policy, ...]
    evidence: Evidence | None
    bound: BoundQuote | None


def documents_in(folder: Path) -> Documents:
    """Return a function that finds a receipt's documents in a folder.

    File names are the SHA-256 hashes in hex.
    """

    def find(sha256: bytes) -> bytes | None:
        try:
            with (folder / sha256.hex()).open("rb") as stream:
                return stream.read(MAX_DOCUMENT_BYTES + 1)
        except OSError:
            return None

    return find


def verify_release(
    data: bytes, documents: Documents, *, root: TrustRoot, node_did: str
) -> VerifiedRelease:
    """Verify a key-release receipt and the documents named in it.

    Everything must be valid at the time in the receipt.

    Args:
        data: the receipt, untrusted.
        documents: untrusted; each is compared with its digest.
        root: the trust root that you accept.
        node_did: the node that must have signed. A receipt alone proves nothing: any key can sign
            one (RC16).
    Returns:
        The release. It passed every step of this module.
    Raises:
        ReceiptInvalid: the first check that failed, by name.
    Does not check:
        That the delegations of the chain existed and were live: the receipt names them by cid only.
    """
    # The numbers are those of the steps in the table above.
    with _convert_errors("receipt"):
        receipt = verify_receipt(parse_receipt(data))  # 1
    if receipt.node != node_did:
        raise _receipt_invalid("receipt", "another node signed it")
    policies = tuple(  # 2
        [_read_document(documents, "policy", digest, _policy_in) for digest in receipt.policies]
    )
    _check_ground(receipt, policies)  # 3
    if receipt.evidence is None:
        return VerifiedRelease(receipt=receipt, policies=policies, evidence=None, bound=None)
    evidence, bound = _verify_evidence(receipt, receipt.evidence, documents, root)  # 4 to 6
    for digest, policy in zip(receipt.policies, policies, strict=True):  # 7
        refusal = judge(evidence, policy, receipt.at)
        if refusal is not None:
            raise _receipt_invalid(
                f"policy {digest.hex()}", f"the evidence does not satisfy the policy: {refusal}"
            )
    return VerifiedRelease(receipt=receipt, policies=policies, evidence=evidence, bound=bound)


def judge_with(
    release: VerifiedRelease, collateral: bytes, *, root: TrustRoot, now: float
) -> dict[str, str | None]:
    """Re-evaluate a past key release with new collateral (RC19).

    The policies are those that allowed the release.

    Args:
        release: the result of `verify_release`, with evidence.
        collateral: collateral of the quote's platform family; untrusted except for its signatures.
        root: the trust anchor; see `verify_release`.
        now: epoch seconds.
    Returns:
        For each policy, by its SHA-256 in hex: None if the code would satisfy it, else the name of
        the failed check.
    Raises:
        ReceiptInvalid: no code was judged for the release, or quote or collateral do not verify
            now.
    """
    if release.bound is None:
        raise _receipt_invalid(
            "receipt", "the key was released without evidence, so there is no code to judge"
        )
    with _convert_errors("the current collateral"):
        evidence = examine(release.bound, parse_collateral(collateral), root=root, now=now)
    policies = zip(release.receipt.policies, release.policies, strict=True)
    return {digest.hex(): judge(evidence, policy, now) for digest, policy in policies}


# --- steps 2 and 3 --------------------------------------------------------------------------------


def _policy_in(document: bytes) -> Policy:
    return parse_policy(parse_json(document, max_bytes=MAX_POLICY_BYTES))


def _check_ground(receipt: Receipt, policies: tuple[Policy, ...]) -> None:
    """Check that the reason for a release fits its mode, policies and parties (step 3)."""
    # Exactly a release to attested code has evidence.
    if (receipt.evidence is None) == (receipt.ground == "attested"):
        raise _receipt_invalid(
            "receipt", "the stated reason for the release does not match the evidence"
        )
    match receipt.ground:
        case "attested":
            if not policies:
                # a node may not release a key to code that no policy approves (RC32)
                raise _receipt_invalid(
                    "receipt", "the receipt says that code was attested, but names no policy"
                )
            if receipt.mode != "off" and not any(policy.is_allow_list for policy in policies):
                raise _receipt_invalid(
                    "receipt", "none of the policies in force approves specific code"
                )
        case "off":
            if receipt.mode != "off" or policies:
                raise _receipt_invalid(
                    "receipt",
                    "the attestation mode or a policy required evidence, but there is none",
                )
        case _:  # the owner, a session of the owner, or a machine token
            if receipt.mode == "everyone" or not all(policy.in_person for policy in policies):
                raise _receipt_invalid(
                    "receipt",
                    "the attestation mode or a policy required evidence, but there is none",
                )
            if same_principal(receipt.invoker, receipt.owner) != (receipt.ground == "owner"):
                raise _receipt_invalid(
                    "receipt",
                    "the receipt states another reason for the release than its caller allows",
                )


# --- steps 4 to 6 ---------------------------------------------------------------------------------


def _verify_evidence(
    receipt: Receipt, verdict: QuoteVerdict, documents: Documents, root: TrustRoot
) -> tuple[Evidence, BoundQuote]:
    """Return the evidence of a release and its quote, after checking that they belong together."""
    evidence = _read_document(documents, "evidence", verdict.record, decode_evidence)
    if (
        not same_principal(evidence.invoker, receipt.invoker)
        or evidence.collateral_sha256 != verdict.collateral
    ):
        raise _receipt_invalid(
            "evidence", "the evidence names another backend or other collateral than the receipt"
        )
    bound = _bind_quote(receipt, verdict, evidence, documents)
    collateral = _read_document(documents, "collateral", verdict.collateral, parse_collateral)
    # 6: The quote must be valid at the time in the receipt, and agree with the stored evidence.
    with _convert_errors("quote"):
        # The lifetime is unlimited, so that the result expires with its collateral. The end of the
        # stored evidence is compared with that below.
        examined = examine(bound, collateral, root=root, now=receipt.at, ttl_s=math.inf)
    # The stored evidence has the times of its session, and `examined` that of the receipt.
    names = {field.name for field in fields(Evidence)} - {"attested_at", "expires_at"}
    differing = {name for name in names if getattr(examined, name) != getattr(evidence, name)}
    if differing & {"compose_hash", "app_id"}:
        raise _receipt_invalid(
            "event log", "the log is missing, or is for a different application than the evidence"
        )
    # Evidence that an earlier version stored may name no key provider: nothing to compare then.
    if "key_provider" in differing and evidence.key_provider is not None:
        raise _receipt_invalid("event log", "the log and the evidence name different key providers")
    if differing - {"key_provider"}:
        raise _receipt_invalid(
            "evidence", f"the quote and the evidence differ in {', '.join(sorted(differing))}"
        )
    if evidence.expires_at > examined.expires_at:
        raise _receipt_invalid("evidence", "the evidence expires later than its collateral")
    return evidence, bound


def _bind_quote(
    receipt: Receipt, verdict: QuoteVerdict, evidence: Evidence, documents: Documents
) -> BoundQuote:
    """Check that a receipt's quote matches the receipt and the request.

    This is step 5.
    """
    if verdict.quote is None or verdict.nonce is None:
        raise _receipt_invalid("quote", "the node had deleted the quote before it made the receipt")
    key_hash = canonical_hash(encode_standard(evidence.receiver_public_key))
    if evidence.receiver_mode == "attested" and key_hash != receipt.receiver_public_key_hash:
        raise _receipt_invalid(
            "evidence", "the evidence and the request name different receiver keys"
        )
    quote = _read_document(documents, "quote", verdict.quote, bytes)
    log = None
    log_name = "event log"
    if verdict.event_log is not None:
        log = _read_document(documents, "event log", verdict.event_log, bytes)
        log_name = f"event log {verdict.event_log.hex()}"
    binding = session_binding(
        verdict.nonce,
        receipt.node,
        evidence.invoker,
        evidence.receiver_mode,
        evidence.receiver_public_key,
    )
    with _convert_errors(f"quote {verdict.quote.hex()}", log=log_name):
        try:
            # A receipt does not contain the node's accepted providers, so all of them pass here.
            # "none" is never accepted.
            return bind_quote(quote, binding, event_log=log, accepted=NAMES)
        except QuoteRefused as error:
            if error.code != "key-provider":
                raise
            # whatever a node accepts, the host alone vouches for such an application (RC32)
            raise _receipt_invalid(
                "event log", "an application without a key provider is never accepted"
            ) from None


# --- documents and errors -------------------------------------------------------------------------


def _read_document(
    documents: Documents, what: str, digest: bytes, parse: Callable[[bytes], Read]
) -> Read:
    """Find the document with a digest, and parse it; `what` names it in errors."""
    name = f"{what} {digest.hex()}"
    document = documents(digest)
    if document is None:
        raise _receipt_invalid(name, "the document is missing")
    if hashlib.sha256(document).digest() != digest:
        raise _receipt_invalid(name, "the document does not match the digest in the receipt")
    with _convert_errors(name):
        return parse(document)


@contextmanager
def _convert_errors(what: str, *, log: str = "event log") -> Iterator[None]:
    """Convert verification errors to ReceiptInvalid errors.

    The new error names the document at fault.
    """
    try:
        yield
    except AttestationError as error:
        is_log = error.code in ("event-log", "event-log-malformed")
        raise _receipt_invalid(log if is_log else what, f"{error.code}: {error.detail}") from error
    except (EncryptionError, InvalidJson) as error:
        raise _receipt_invalid(what, str(error)) from error


def _receipt_invalid(what: str, why: str) -> ReceiptInvalid:
    return ReceiptInvalid(
        f"{what}: {why}",
        hint="fetch the receipt and its documents again from the node, or use a backup of them",
    )
