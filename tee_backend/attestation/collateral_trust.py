"""Verification of signed collateral documents.

`check_windows` and `check_roles` are part of every quote's verification. They add checks that the
verifier library does not make: for revocation lists from the future, and for TCB info signed by
another key below the root. `verify_collateral` also verifies the signatures, with another reader
and another crypto library. It is for importing a document without a quote.

Source: Intel PCS API v4; RFC 5280.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from .attestation_errors import CollateralUnusable, MalformedCertificate, QuoteRefused
from .certificates import READER_ERRORS, Certificate, load_certificate, load_crl
from .collateral import (
    Collateral,
    IssuerChain,
    RevocationList,
    SignedDocument,
    Window,
    check_not_older,
    parse_collateral,
)
from .quote import Quote
from .trust_root import TrustRoot

_CRYPTO_ERRORS = (InvalidSignature, MalformedCertificate, *READER_ERRORS)


def check_windows(collateral: Collateral, *, now: float) -> None:
    """Check that every part of the collateral is valid at `now`.

    A period includes its start and excludes its end.

    The library treats the end of revocation lists in the same way, and so does evidence.
    """
    for part, window in collateral.windows:
        check_window(part, window, now=now)


def check_window(name: str, window: Window, *, now: float) -> None:
    """Check that one part of the collateral is valid at `now`."""
    if not window.starts_at <= now < window.ends_at:  # written so that NaN is refused too
        side = "has expired" if now >= window.ends_at else "is not valid yet"
        raise CollateralUnusable("collateral-window", f"{name} {side}")


def check_roles(collateral: Collateral, *, root: TrustRoot) -> None:
    """Check that the collateral's signers have the expected names.

    The certificate chains must also end at the configured root.

    Args:
        collateral: parsed; untrusted.
        root: the configured anchor.
    Raises:
        CollateralUnusable: `collateral-root`, a chain ends at another root.
        CollateralUnusable: `collateral-signature`, a signer has another role.
        CollateralUnusable: `collateral-mismatch`, a revocation list comes from the wrong authority.
    Does not check:
        Signatures: the names are claims until `verify_collateral` or the verifier has checked them.
    """
    signers = (collateral.tcb_info.issuer_chain, collateral.qe_identity.issuer_chain)
    for chain in (*signers, collateral.pck_crl_issuer_chain):
        _check_chain_root(chain, root=root)
    for chain in signers:
        _check_tcb_signer(chain.signer, root=root)
    if collateral.root_crl.issuer != root.certificate.subject:
        raise CollateralUnusable("collateral-mismatch", "the root CRL was issued by another CA")
    if collateral.pck_crl.issuer_name != root.pck_authority_name(collateral.ca):
        raise CollateralUnusable(
            "collateral-mismatch",
            "the PCK CRL was not issued by a PCK authority under the trusted root",
        )


def _check_chain_root(chain: IssuerChain, *, root: TrustRoot) -> None:
    if chain.root.der != root.certificate.der:
        raise CollateralUnusable(
            "collateral-root",
            "a certificate chain of the collateral does not end at the trusted root",
        )


def _check_tcb_signer(signer: Certificate, *, root: TrustRoot) -> None:
    """Check that a certificate has the role of the signer of TCB info."""
    name = f"{root.prefix}TCB Signing"
    # A platform's key is certified under the same root. Without this check, a platform could sign
    # its own TCB info and declare itself up to date.
    if signer.common_name != name or signer.is_authority:
        raise CollateralUnusable(
            "collateral-signature",
            f"the signer must be the end-entity certificate {name!r}, but is"
            f" {signer.common_name[:80]!r}",
        )
    if signer.issuer != root.certificate.subject:
        raise CollateralUnusable(
            "collateral-signature", f"certificate {name!r} was not issued by the root CA"
        )


def verify_collateral(collateral: Collateral, *, root: TrustRoot, now: float) -> None:
    """Verify a collateral document before it is stored.

    No quote is needed.

    Args:
        collateral: parsed; untrusted.
        root: the configured anchor.
        now: epoch seconds.
    Raises:
        CollateralUnusable: `collateral-window`, `-root`, `-signature` or `-mismatch`, as the two
            checks above; `collateral-signature` also for an invalid signature.
        QuoteRefused: `revoked`, the root revoked a signer.
    Does not check:
        The contents of the levels, which the verifier judges together with a quote. The signature
            of the PCK list if the document does not contain its authority's certificate; the
            verifier has that certificate from the quote.
    """
    check_windows(collateral, now=now)
    check_roles(collateral, root=root)
    _check_crl_signature(collateral.root_crl, issuer=root.certificate)
    for document in (collateral.tcb_info, collateral.qe_identity):
        verify_signed_text(document, root=root, root_crl=collateral.root_crl, now=now)
    authority = collateral.pck_crl_issuer_chain.signer
    _check_certified(authority, root=root, root_crl=collateral.root_crl)
    if collateral.carries_authority:
        _check_crl_signature(collateral.pck_crl, issuer=authority)


def check_replaces(offered: Collateral, stored: Collateral) -> None:
    """Check that a new collateral document may replace the stored one (AT55).

    The PCK list of a document that does not contain the list's authority is unverified. The
    authority in the other document then verifies that list.

    Args:
        offered: the new document, verified with `verify_collateral`.
        stored: the stored document, verified when it was stored.
    Raises:
        CollateralUnusable: `collateral-signature`, the authority in the stored document did not
            sign the new list.
        CollateralUnusable: `collateral-rollback`, as `check_not_older`. A stored list that the new
            document's authority did not sign is ignored.
    """
    is_stored_list_forged = False
    # Compared as text, because one name may have several encodings.
    is_same_issuer = offered.pck_crl.issuer_name == stored.pck_crl.issuer_name
    # If both documents contain the authority, both lists were verified with their documents. If
    # neither does, no key is here to verify a list.
    if is_same_issuer and offered.carries_authority != stored.carries_authority:
        if stored.carries_authority:
            _check_crl_signature(offered.pck_crl, issuer=stored.pck_crl_issuer_chain.signer)
        else:
            is_stored_list_forged = not _is_signed(
                stored.pck_crl, offered.pck_crl_issuer_chain.signer
            )
    check_not_older(offered, stored, with_pck_crl=not is_stored_list_forged)


def with_newest_lists(
    collateral: Collateral, held: Sequence[Collateral], quote: Quote, root: TrustRoot
) -> Collateral:
    """Return the collateral, updated with the newest stored revocation lists.

    Args:
        collateral: document of the quote's platform family; untrusted.
        held: all stored documents, of all families; untrusted.
        quote: untrusted. Only PCK lists that the key of its PCK authority signed count: neither
            lists of the other authority nor an unsigned list, which a document without its
            authority can contain (AT55).
        root: the configured anchor.
    Returns:
        The collateral itself if its lists are the newest; otherwise a copy with other lists.
    Raises:
        CollateralUnusable: `collateral-mismatch`, two lists of one issuer and one time differ, so
            it is unknown which one is in force.
        CollateralUnusable: `collateral-malformed`, the copy would be too large.
    Does not check:
        Validity periods. The caller checks the result with `check_windows`, as the newest list may
            have expired.

    Source: RFC 5280, 5.1.2.4. The CRL number of all of Intel's lists is 1, so only thisUpdate
    orders them.
    """
    # a revocation may have arrived with another family's document (AT19)
    root_crl = _newest([stored.root_crl for stored in held], root.certificate, collateral.root_crl)
    _, pck_authority, _ = quote.pck_chain
    pck_crl = _newest([stored.pck_crl for stored in held], pck_authority, collateral.pck_crl)
    if (root_crl, pck_crl) == (collateral.root_crl, collateral.pck_crl):
        return collateral
    lists = {"root_ca_crl": root_crl.der.hex(), "pck_crl": pck_crl.der.hex()}
    document = json.loads(collateral.raw) | lists
    return parse_collateral(json.dumps(document).encode())


def _newest(
    lists: Sequence[RevocationList], issuer: Certificate, own: RevocationList
) -> RevocationList:
    """Return the newest revocation list signed by the issuer.

    `own`, the list in the collateral itself, is returned if the issuer signed no list.
    """
    candidates = [candidate for candidate in lists if _is_signed(candidate, issuer)]
    newest = max(candidates, key=lambda candidate: candidate.window.starts_at, default=own)
    # AT60: compared without signatures, which differ each time the same list is signed.
    contents = set()
    for candidate in candidates:
        if candidate.window.starts_at == newest.window.starts_at:
            contents.add(candidate.signed)
    if len(contents) > 1:
        raise CollateralUnusable(
            "collateral-mismatch",
            "two revocation lists have the same issuer and date, but different contents",
        )
    return newest


def verify_signed_text(
    document: SignedDocument[Any], *, root: TrustRoot, root_crl: RevocationList, now: float
) -> None:
    """Verify the signature and the signer of a collateral document.

    Args:
        document: unverified.
        root: the configured anchor.
        root_crl: the root's list; its own signature has been verified.
        now: epoch seconds.
    Raises:
        CollateralUnusable: `collateral-root`, its chain ends at another root.
        CollateralUnusable: `collateral-signature`, another signer, or an invalid signature.
        CollateralUnusable: `collateral-window`, the signer's certificate is not valid now.
        QuoteRefused: `revoked`, the root revoked the signer.
    Does not check:
        The contents of the text, including its validity period.
    """
    chain = document.issuer_chain
    _check_chain_root(chain, root=root)
    _check_tcb_signer(chain.signer, root=root)
    window = Window(chain.signer.not_before, chain.signer.not_after)
    check_window(f"certificate {chain.signer.common_name[:80]!r}", window, now=now)
    _check_certified(chain.signer, root=root, root_crl=root_crl)
    r, s = document.signature[:32], document.signature[32:]
    signature = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
    try:
        _public_key(chain.signer).verify(
            signature, document.text.encode(), ec.ECDSA(hashes.SHA256())
        )
    except _CRYPTO_ERRORS as exc:
        raise CollateralUnusable(
            "collateral-signature", "the signature of a document is not valid"
        ) from exc


def check_age(collateral: Collateral, *, max_age_s: float, now: float) -> None:
    """Refuse collateral that was issued more than `max_age_s` ago.

    The collateral may still be within its validity period.
    """
    for name, window in (
        ("TCB info", collateral.tcb_info.window),
        ("QE identity", collateral.qe_identity.window),
    ):
        if not now - window.starts_at <= max_age_s:  # written so that NaN is refused too
            raise CollateralUnusable("collateral-window", f"{name} is older than {max_age_s:.0f} s")


def _check_certified(signer: Certificate, *, root: TrustRoot, root_crl: RevocationList) -> None:
    """Check that a certificate is signed by the root and not revoked."""
    name = signer.common_name[:80]
    try:
        loaded = load_certificate(signer.der)
        loaded.verify_directly_issued_by(load_certificate(root.certificate.der))
        entry = load_crl(root_crl.der).get_revoked_certificate_by_serial_number(
            loaded.serial_number
        )
    except _CRYPTO_ERRORS as exc:
        raise CollateralUnusable(
            "collateral-signature", f"the certificate {name!r} is not signed by the root CA"
        ) from exc
    if entry is not None:
        raise QuoteRefused("revoked", f"the certificate {name!r} was revoked by the root CA")


def _check_crl_signature(crl: RevocationList, *, issuer: Certificate) -> None:
    if not _is_signed(crl, issuer):
        raise CollateralUnusable(
            "collateral-signature",
            f"the revocation list is not signed by {issuer.common_name[:80]!r}",
        )


@lru_cache(256)  # each quote compares two lists of each stored document
def _is_signed(crl: RevocationList, issuer: Certificate) -> bool:
    try:
        return load_crl(crl.der).is_signature_valid(_public_key(issuer))
    except _CRYPTO_ERRORS:
        return False


def _public_key(certificate: Certificate) -> ec.EllipticCurvePublicKey:
    key = load_certificate(certificate.der).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MalformedCertificate("the certificate's key is not on P-256")
    return key
