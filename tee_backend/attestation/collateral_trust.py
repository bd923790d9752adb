"""What makes collateral trustworthy: its windows, the roles of its signers, and its signatures.

`check_windows` and `check_roles` are part of every quote's verification; they close what the
verifier library leaves open (revocation lists from the future; TCB info signed by any key below the
root). `verify_collateral` adds the signatures, with a reader and a crypto library of its own: it is
for importing a document without a quote at hand.

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
    RevocationList,
    SignedDocument,
    check_not_older,
    parse_collateral,
)
from .quote import Quote
from .trust_root import TrustRoot

_CRYPTO_ERRORS = (InvalidSignature, MalformedCertificate, *READER_ERRORS)


def check_windows(collateral: Collateral, *, now: float) -> None:
    """Check that every part is valid at `now`: from the first second of its window until before the
    end it names.

    The end is outside, as it is for revocation lists in the library and for the evidence that is
    made.
    """
    for name, window in collateral.windows:
        if not window.starts_at <= now < window.ends_at:  # also refuses a `now` that is no number
            side = "is over" if now >= window.ends_at else "comes from the future"
            raise CollateralUnusable("collateral-window", f"{name} {side}")


def check_roles(collateral: Collateral, *, root: TrustRoot) -> None:
    """Check that each part names the signer whose role it is, under `root`.

    Args:
        collateral: parsed; untrusted.
        root: the configured anchor.
    Raises:
        CollateralUnusable: `collateral-root`, a chain ends at another root.
        CollateralUnusable: `collateral-signature`, a signer has another role.
        CollateralUnusable: `collateral-mismatch`, a revocation list is by another authority than it
            has to be.
    Does not check:
        Signatures: the names are claims until `verify_collateral` or the verifier has checked them.
    """
    signers = (collateral.tcb_info.issuer_chain, collateral.qe_identity.issuer_chain)
    for chain in (*signers, collateral.pck_crl_issuer_chain):
        if chain.root.der != root.certificate.der:
            raise CollateralUnusable("collateral-root", "a collateral chain ends at another root")
    for chain in signers:
        _check_tcb_signer(chain.signer, root=root)
    if collateral.root_crl.issuer != root.certificate.subject:
        raise CollateralUnusable("collateral-mismatch", "root CRL is not the root's")
    if collateral.pck_crl.issuer_name != root.pck_authority_name(collateral.ca):
        raise CollateralUnusable(
            "collateral-mismatch", "PCK CRL is not by a PCK authority of this root"
        )


def _check_tcb_signer(signer: Certificate, *, root: TrustRoot) -> None:
    name = f"{root.prefix}TCB Signing"
    # A platform's key is certified under the same root: without this it could sign its own TCB
    # info.
    if signer.common_name != name or signer.is_authority:
        raise CollateralUnusable(
            "collateral-signature", f"signer {signer.common_name[:80]!r} where {name!r} is due"
        )
    if signer.issuer != root.certificate.subject:
        raise CollateralUnusable("collateral-signature", f"{name!r} was not issued by the root")


def verify_collateral(collateral: Collateral, *, root: TrustRoot, now: float) -> None:
    """Verify a document on its own, before it is stored.

    Args:
        collateral: parsed; untrusted.
        root: the configured anchor.
        now: epoch seconds.
    Raises:
        CollateralUnusable: `collateral-` and `window`, `root`, `signature` or `mismatch`, as the
            checks above.
        CollateralUnusable: `collateral-signature`, also a signature that is not valid.
        QuoteRefused: `revoked`, the root revoked a signer.
    Does not check:
        The contents of the levels; the verifier judges them together with a quote. The PCK CRL's
        signature when the document does not carry its authority's certificate; the verifier has
        that one from the quote.
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


def check_replaces(offered: Collateral, held: Collateral) -> None:
    """Check that a document may replace the one that is held.

    Where a document leaves out the authority of its PCK list, the list is unverified: the authority
    of the other one verifies it.

    Args:
        offered: verified with `verify_collateral`.
        held: the same, when it was kept.
    Raises:
        CollateralUnusable: `collateral-signature`, the authority that the held document carries did
            not sign the offered list.
        CollateralUnusable: `collateral-rollback`, as `check_not_older`; a held list that the
            offered document's authority did not sign does not count.
    """
    # AT55
    is_forged = False
    # a name has more than one encoding
    is_same_name = offered.pck_crl.issuer_name == held.pck_crl.issuer_name
    if is_same_name and offered.carries_authority != held.carries_authority:
        if held.carries_authority:
            _check_crl_signature(offered.pck_crl, issuer=held.pck_crl_issuer_chain.signer)
        else:
            is_forged = not _is_signed(held.pck_crl, offered.pck_crl_issuer_chain.signer)
    check_not_older(offered, held, with_pck_crl=not is_forged)


def with_newest_lists(
    collateral: Collateral, held: Sequence[Collateral], quote: Quote, root: TrustRoot
) -> Collateral:
    """Return collateral with the newest held revocation lists of the quote's PCK authority and of
    the root.

    Args:
        collateral: of the quote's platform family; untrusted.
        held: every document that is held, of all families; untrusted.
        quote: untrusted. Of the PCK lists only those count that the key of its PCK authority
            signed: not those of the other authority, and not an unsigned one, which a document
            without its authority can bring (AT55).
        root: the configured anchor.
    Returns:
        The collateral itself if its lists are the newest; else a copy that differs only in the
        lists.
    Raises:
        CollateralUnusable: `collateral-mismatch`, two lists of one issuer and one time differ: it
            is unknown which one is in force.
        CollateralUnusable: `collateral-malformed`, the copy would be too large.
    Does not check:
        Windows. `check_windows` has to check what is returned: the newest list may have ended.
    Source: RFC 5280, 5.1.2.4. The CRL number of all of Intel's lists is 1, so only thisUpdate
    orders them.
    """
    # AT19
    root_crl = _newest([one.root_crl for one in held], root.certificate, collateral.root_crl)
    pck_crl = _newest([one.pck_crl for one in held], quote.pck_chain[1], collateral.pck_crl)
    if (root_crl, pck_crl) == (collateral.root_crl, collateral.pck_crl):
        return collateral
    lists = {"root_ca_crl": root_crl.der.hex(), "pck_crl": pck_crl.der.hex()}
    return parse_collateral(json.dumps(json.loads(collateral.raw) | lists).encode())


def _newest(
    lists: Sequence[RevocationList], issuer: Certificate, own: RevocationList
) -> RevocationList:
    """Return the newest list that an issuer signed; a document's own list where it signed none."""
    signed = [one for one in lists if _is_signed(one, issuer)]
    newest = max(signed, key=lambda one: one.window.starts_at, default=own)
    # AT60: signatures are random, so lists are compared without them.
    if len({one.signed for one in signed if one.window.starts_at == newest.window.starts_at}) > 1:
        raise CollateralUnusable(
            "collateral-mismatch", "two revocation lists of one authority and one time differ"
        )
    return newest


def verify_signed_text(
    document: SignedDocument[Any], *, root: TrustRoot, root_crl: RevocationList, now: float
) -> None:
    """Verify that the TCB signer under a root signed a text.

    Args:
        document: unverified.
        root: the configured anchor.
        root_crl: the root's list; its own signature has been verified.
        now: epoch seconds.
    Raises:
        CollateralUnusable: `collateral-root`, its chain ends at another root.
        CollateralUnusable: `collateral-signature`, another signer, or a signature that is not
            valid.
        CollateralUnusable: `collateral-window`, the signer's certificate is not valid now.
        QuoteRefused: `revoked`, the root revoked the signer.
    Does not check:
        The contents of the text, its window included.
    """
    chain = document.issuer_chain
    if chain.root.der != root.certificate.der:
        raise CollateralUnusable("collateral-root", "a collateral chain ends at another root")
    _check_tcb_signer(chain.signer, root=root)
    if not chain.signer.not_before <= now < chain.signer.not_after:
        raise CollateralUnusable(
            "collateral-window", f"{chain.signer.common_name[:80]!r} does not hold at this time"
        )
    _check_certified(chain.signer, root=root, root_crl=root_crl)
    r, s = document.signature[:32], document.signature[32:]
    signature = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
    try:
        _public_key(chain.signer).verify(
            signature, document.text.encode(), ec.ECDSA(hashes.SHA256())
        )
    except _CRYPTO_ERRORS as exc:
        raise CollateralUnusable(
            "collateral-signature", "a document's signature does not hold"
        ) from exc


def check_age(collateral: Collateral, *, max_age_s: float, now: float) -> None:
    """Refuse collateral that was issued too long ago, though its windows still hold."""
    for name, window in (
        ("TCB info", collateral.tcb_info.window),
        ("QE identity", collateral.qe_identity.window),
    ):
        if not now - window.starts_at <= max_age_s:  # also refuses a `now` that is no number
            raise CollateralUnusable("collateral-window", f"{name} is older than {max_age_s:.0f} s")


def _check_certified(signer: Certificate, *, root: TrustRoot, root_crl: RevocationList) -> None:
    """Check that the root signed a certificate and has not revoked it."""
    name = signer.common_name[:80]
    try:
        loaded = load_certificate(signer.der)
        loaded.verify_directly_issued_by(load_certificate(root.certificate.der))
        revocations = load_crl(root_crl.der)
        entry = revocations.get_revoked_certificate_by_serial_number(loaded.serial_number)
    except _CRYPTO_ERRORS as exc:
        raise CollateralUnusable(
            "collateral-signature", f"certificate {name!r} is not signed by the root"
        ) from exc
    if entry is not None:
        raise QuoteRefused("revoked", f"the root revoked {name!r}")


def _check_crl_signature(crl: RevocationList, *, issuer: Certificate) -> None:
    if not _is_signed(crl, issuer):
        raise CollateralUnusable(
            "collateral-signature", f"revocation list is not signed by {issuer.common_name[:80]!r}"
        )


@lru_cache(256)  # two lists for each held document are compared for each quote
def _is_signed(crl: RevocationList, issuer: Certificate) -> bool:
    try:
        return load_crl(crl.der).is_signature_valid(_public_key(issuer))
    except _CRYPTO_ERRORS:
        return False


def _public_key(certificate: Certificate) -> ec.EllipticCurvePublicKey:
    key = load_certificate(certificate.der).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MalformedCertificate("certificate of another key type than P-256")
    return key
