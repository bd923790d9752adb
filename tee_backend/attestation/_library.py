"""The one place that calls the verifier library, and the map from its texts to our errors.

The library reports every failure as a ValueError with text. A stem that is not in the table refuses as well, with an
error that alarms: a text that a later version changes makes the reason coarser, never the answer weaker.
"""

from typing import Final

import dcap_qvl

from .collateral import Collateral
from .errors import (
    AttestationError,
    CertificateChainRefused,
    CollateralMismatch,
    CollateralOutsideWindow,
    CollateralSignatureInvalid,
    EvidenceInvalid,
    MalformedCollateral,
    MalformedQuote,
    QuoteSignatureInvalid,
    QuotingEnclaveRefused,
    Revoked,
    TcbTooOld,
    TrustDomainRefused,
    UnsupportedQuote,
    VerdictUnknown,
)

# The first stem that occurs in the text decides; causes are listed before the steps they occur in.
_STEMS: Final[tuple[tuple[str, type[AttestationError]], ...]] = (
    ("CertRevoked", Revoked),
    ("TCB status is invalid: Revoked", Revoked),
    ("CrlExpired", CollateralOutsideWindow),
    ("TCBInfo expired", CollateralOutsideWindow),
    ("TCBInfo issue date is in the future", CollateralOutsideWindow),
    ("QE Identity expired", CollateralOutsideWindow),
    ("QE Identity issue date is in the future", CollateralOutsideWindow),
    ("UnknownRevocationStatus", CollateralMismatch),
    ("InvalidCrlSignatureForPublicKey", CollateralMismatch),
    ("Fmspc mismatch", CollateralMismatch),
    ("Unsupported QE Identity id", CollateralMismatch),
    ("TDX quote with non-TDX TCB info", CollateralMismatch),
    ("Signature is invalid for tcb_info", CollateralSignatureInvalid),
    ("Signature is invalid for qe_identity", CollateralSignatureInvalid),
    ("Failed to parse root CA CRL", MalformedCollateral),
    ("Failed to parse PCK CRL", MalformedCollateral),
    ("Failed to parse CRL", MalformedCollateral),
    ("Failed to decode TcbInfo", MalformedCollateral),
    ("Failed to decode QeIdentity", MalformedCollateral),
    ("Failed to parse TCB Info", MalformedCollateral),
    ("Failed to parse QE Identity", MalformedCollateral),
    ("No TCB levels found in QE Identity", MalformedCollateral),
    ("Failed to decode quote", MalformedQuote),
    ("Failed to parse quote", MalformedQuote),
    ("Unsupported DCAP", UnsupportedQuote),
    ("Unsupported TEE type", UnsupportedQuote),
    ("Unknown QE vendor ID", UnsupportedQuote),
    ("ISV enclave report signature is invalid", QuoteSignatureInvalid),
    ("Signature is invalid for qe_report", QuotingEnclaveRefused),
    ("QE report hash mismatch", QuotingEnclaveRefused),
    ("Invalid QE auth data length", QuotingEnclaveRefused),
    ("Failed to decode QE report", QuotingEnclaveRefused),
    ("QE report validation failed", QuotingEnclaveRefused),
    ("QE MRSIGNER mismatch", QuotingEnclaveRefused),
    ("QE ISVPRODID mismatch", QuotingEnclaveRefused),
    ("QE MISCSELECT mismatch", QuotingEnclaveRefused),
    ("QE ATTRIBUTES mismatch", QuotingEnclaveRefused),
    ("QE ISVSVN", QuotingEnclaveRefused),
    ("No matching TCB level found", TcbTooOld),
    ("TDX module", TrustDomainRefused),
    ("Debug mode is enabled", TrustDomainRefused),
    ("TD profiling is enabled", TrustDomainRefused),
    ("SERVTD_EXT is enabled", TrustDomainRefused),
    ("SEPT_VE_DISABLE is not enabled", TrustDomainRefused),
    ("TD migration is enabled", TrustDomainRefused),
    ("Reserved bits in TD attributes are set", TrustDomainRefused),
    ("Invalid MR service TD", TrustDomainRefused),
    ("CertNotValidYet", CertificateChainRefused),
    ("CertExpired", CertificateChainRefused),
    ("Failed to verify certificate chain", CertificateChainRefused),
    ("Certificate chain is too short", CertificateChainRefused),
    ("Failed to parse PCK certificate", CertificateChainRefused),
    ("Failed to extract PCK certificates", CertificateChainRefused),
)

_STEPS_WITH_A_CAUSE: Final = (
    "Failed to verify certificate chain",
    "Failed to parse root CA CRL",
    "Failed to parse PCK CRL",
)


def claims_json(raw_quote: bytes, collateral: Collateral, *, root_der: bytes, now_s: int) -> bytes:
    """Let the library verify, and return its claims as JSON.

    The collateral is passed member by member: the certificates of some quote, which a document may carry besides, never
    reach the library, which would prefer them to the quote's own.

    Args:
        raw_quote: as parsed by our own parser, without padding.
        collateral: parsed, windows and roles checked.
        root_der: the configured root.
        now_s: whole epoch seconds.
    Raises:
        AttestationError: one of its subclasses for every failure.
    """
    try:
        documents = _documents(collateral)
        try:
            policy = dcap_qvl.QuotePolicy.claims_only(now_s)
            claims = dcap_qvl.QuoteVerifier(root_der).verify_with_policy(raw_quote, documents, now_s, policy)
            text: str = claims.to_json()
        except ValueError as exc:
            cause = _cause_of(str(exc), raw_quote, documents, root_der=root_der, now_s=now_s)
            raise error_of_text(cause) from exc
        return text.encode()
    except (AttestationError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as exc:
        # A panic of the library arrives as a BaseException; it must end this verification, not the worker.
        raise EvidenceInvalid(f"the verifier failed: {type(exc).__name__}") from exc


def _documents(collateral: Collateral) -> dcap_qvl.QuoteCollateralV3:
    return dcap_qvl.QuoteCollateralV3(
        pck_crl_issuer_chain=collateral.pck_crl_issuer_chain.pem,
        root_ca_crl=collateral.root_crl.der,
        pck_crl=collateral.pck_crl.der,
        tcb_info_issuer_chain=collateral.tcb_info.issuer_chain.pem,
        tcb_info=collateral.tcb_info.text,
        tcb_info_signature=collateral.tcb_info.signature,
        qe_identity_issuer_chain=collateral.qe_identity.issuer_chain.pem,
        qe_identity=collateral.qe_identity.text,
        qe_identity_signature=collateral.qe_identity.signature,
    )


def _cause_of(
    text: str, raw_quote: bytes, documents: dcap_qvl.QuoteCollateralV3, *, root_der: bytes, now_s: int
) -> str:
    """Ask the library's other entry point why: it reports the cause of a failed chain, which the claims' does not."""
    if not any(step in text for step in _STEPS_WITH_A_CAUSE):
        return text
    try:
        dcap_qvl.verify_with_root_ca(raw_quote, documents, root_der, now_s)
    except ValueError as exc:
        return str(exc)
    return text


def error_of_text(text: str) -> AttestationError:
    """Return our error for a failure text of the library; an unknown text is VerdictUnknown."""
    flat = " ".join(text.split())
    for stem, kind in _STEMS:
        if stem in flat:
            return kind(flat)
    return VerdictUnknown(flat)
