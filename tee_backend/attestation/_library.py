"""A wrapper around the quote verification library dcap-qvl.

No other module calls the library. Its errors are mapped to codes. The library reports every failure
as a ValueError with a text. A text that is not in the table is also a refusal, with a code that
notifies the operator. So if a later version changes a text, the reason becomes less precise, but no
quote passes that should not.
"""

from collections.abc import Mapping

import dcap_qvl

from .attestation_errors import AttestationError, CollateralUnusable, QuoteRefused
from .collateral import Collateral

# The first stem found in the text decides. Causes come before the steps in which they occur,
# because a text names both.
_STEMS: Mapping[str, tuple[str, ...]] = {
    "revoked": (
        "CertRevoked",
        "TCB status is invalid: Revoked",
    ),
    "collateral-window": (
        "CrlExpired",
        "TCBInfo expired",
        "TCBInfo issue date is in the future",
        "QE Identity expired",
        "QE Identity issue date is in the future",
    ),
    "collateral-mismatch": (
        "UnknownRevocationStatus",
        "InvalidCrlSignatureForPublicKey",
        "Fmspc mismatch",
        "Unsupported QE Identity id",
        "TDX quote with non-TDX TCB info",
    ),
    "collateral-signature": (
        "Signature is invalid for tcb_info",
        "Signature is invalid for qe_identity",
    ),
    "collateral-malformed": (
        "Failed to parse root CA CRL",
        "Failed to parse PCK CRL",
        "Failed to parse CRL",
        "Failed to decode TcbInfo",
        "Failed to decode QeIdentity",
        "Failed to parse TCB Info",
        "Failed to parse QE Identity",
        "No TCB levels found in QE Identity",
    ),
    "malformed": (
        "Failed to decode quote",
        "Failed to parse quote",
    ),
    "unsupported": (
        "Unsupported DCAP",
        "Unsupported TEE type",
        "Unknown QE vendor ID",
    ),
    "quote-signature": ("ISV enclave report signature is invalid",),
    "qe-binding": (
        "Signature is invalid for qe_report",
        "QE report hash mismatch",
        "Invalid QE auth data length",
        "Failed to decode QE report",
        "QE report validation failed",
        "QE MRSIGNER mismatch",
        "QE ISVPRODID mismatch",
        "QE MISCSELECT mismatch",
        "QE ATTRIBUTES mismatch",
        "QE ISVSVN",
    ),
    "tcb-too-old": ("No matching TCB level found",),
    "td-attributes": (
        "TDX module",
        "Debug mode is enabled",
        "TD profiling is enabled",
        "SERVTD_EXT is enabled",
        "SEPT_VE_DISABLE is not enabled",
        "TD migration is enabled",
        "Reserved bits in TD attributes are set",
        "Invalid MR service TD",
    ),
    "certificate-chain": (
        "CertNotValidYet",
        "CertExpired",
        "Failed to verify certificate chain",
        "Certificate chain is too short",
        "Failed to parse PCK certificate",
        "Failed to extract PCK certificates",
    ),
}

# Texts that name only the failed step. Another call of the library reports the cause.
_STEPS_WITH_A_CAUSE = (
    "Failed to verify certificate chain",
    "Failed to parse root CA CRL",
    "Failed to parse PCK CRL",
)


def claims_json(raw_quote: bytes, collateral: Collateral, *, root_der: bytes, now_s: int) -> bytes:
    """Verify a quote with dcap-qvl and return the result as JSON.

    The collateral is passed member by member. A document may carry another quote's certificates,
    and the library would prefer them to those in the quote, so they are not passed.
    """
    try:
        documents = dcap_qvl.QuoteCollateralV3(
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
        try:
            claims = dcap_qvl.QuoteVerifier(root_der).verify_with_policy(
                raw_quote, documents, now_s, dcap_qvl.QuotePolicy.claims_only(now_s)
            )
            text: str = claims.to_json()
        except ValueError as exc:
            cause = _find_cause(str(exc), raw_quote, documents, root_der=root_der, now_s=now_s)
            raise error_of_text(cause) from exc
        return text.encode()
    except (AttestationError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as exc:
        # A panic in the library is a BaseException, but not an Exception. A crafted quote must not
        # end the worker.
        raise QuoteRefused(
            "evidence-invalid", f"the verifier failed: {type(exc).__name__}"
        ) from exc


def _find_cause(
    text: str,
    raw_quote: bytes,
    documents: dcap_qvl.QuoteCollateralV3,
    *,
    root_der: bytes,
    now_s: int,
) -> str:
    """Find a more specific message for a failed verification.

    Returns `text` if there is none. For some steps, only the library's other entry point reports
    the cause of the failure.
    """
    if not any(step in text for step in _STEPS_WITH_A_CAUSE):
        return text
    try:
        dcap_qvl.verify_with_root_ca(raw_quote, documents, root_der, now_s)
    except ValueError as exc:
        return str(exc)
    return text


def error_of_text(text: str) -> AttestationError:
    """Convert an error message of dcap-qvl to an exception.

    The code for an unknown message is `verdict-unknown`.
    """
    flat = " ".join(text.split())
    for code, stems in _STEMS.items():
        if any(stem in flat for stem in stems):
            unusable: type[AttestationError] = (
                CollateralUnusable if code.startswith("collateral-") else QuoteRefused
            )
            return unusable(code, flat)
    return QuoteRefused("verdict-unknown", flat)
