"""What can be wrong with a quote, its collateral, or the challenge it answers.

    AttestationError                      attestation
    ├── EvidenceRefused                   evidence_refused       the prover's data is bad
    │   ├── MalformedQuote                malformed
    │   ├── UnsupportedQuote              unsupported
    │   ├── TrustDomainRefused            td_attributes
    │   ├── CertificateChainRefused       certificate_chain
    │   ├── QuoteSignatureInvalid         quote_signature
    │   ├── QuotingEnclaveRefused         qe_binding
    │   ├── Revoked                       revoked
    │   ├── TcbTooOld                     tcb_too_old
    │   ├── EvidenceInvalid               evidence_invalid
    │   ├── ReportDataMismatch            report_data
    │   ├── ChallengeInvalid              challenge_invalid
    │   └── ChallengeExpired              challenge_expired
    ├── CollateralUnusable                collateral             the operator's data is bad: refresh it
    │   ├── MalformedCollateral           collateral_malformed
    │   ├── CollateralOutsideWindow       collateral_window
    │   ├── CollateralSignatureInvalid    collateral_signature
    │   ├── CollateralMismatch            collateral_mismatch
    │   └── CollateralRollback            collateral_rollback
    ├── MalformedCertificate              certificate_malformed
    └── TrustRootRefused                  untrusted_root

`code` is coarse and stable: it may be shown to whoever sent the quote. `detail` is for the audit record alone; `str()`
of an error is its code, so that no detail reaches a caller by accident.
"""

from typing import ClassVar

MAX_DETAIL_CHARS = 400
"""A detail may hold text of a library; it is cut so that an audit record stays small."""


class AttestationError(Exception):
    """Something about an attestation does not hold.

    Attributes:
        code: stable name of the kind of refusal; safe to show.
        detail: what exactly was found; for the audit record, never for the caller. Holds no key and no secret.
    """

    code: ClassVar[str] = "attestation"

    def __init__(self, detail: str) -> None:
        self.detail = detail[:MAX_DETAIL_CHARS]
        super().__init__(self.detail)

    def __str__(self) -> str:
        return self.code


class EvidenceRefused(AttestationError):
    """The prover's evidence is bad."""

    code = "evidence_refused"


class MalformedQuote(EvidenceRefused):
    """The bytes are not a quote of the expected shape."""

    code = "malformed"


class UnsupportedQuote(EvidenceRefused):
    """A well-formed beginning of something else: SGX, another version, key type, vendor or certification data."""

    code = "unsupported"


class TrustDomainRefused(EvidenceRefused):
    """The trust domain is in a state that can never be trusted: debug, migratable, an impossible register."""

    code = "td_attributes"


class CertificateChainRefused(EvidenceRefused):
    """The platform's certificates do not form a valid chain at this time."""

    code = "certificate_chain"


class QuoteSignatureInvalid(EvidenceRefused):
    """The attestation key did not sign these bytes."""

    code = "quote_signature"


class QuotingEnclaveRefused(EvidenceRefused):
    """The quoting enclave's report does not bind the attestation key, is not signed, or is of another enclave."""

    code = "qe_binding"


class Revoked(EvidenceRefused):
    """A certificate of the chain or the platform's TCB level is revoked."""

    code = "revoked"


class TcbTooOld(EvidenceRefused):
    """The platform is older than every level that is listed for it."""

    code = "tcb_too_old"


class EvidenceInvalid(EvidenceRefused):
    """Refused for a reason outside the known ones; look into it."""

    code = "evidence_invalid"


class ReportDataMismatch(EvidenceRefused):
    """The quote does not name this nonce, audience, holder, receiver mode and key."""

    code = "report_data"


class ChallengeInvalid(EvidenceRefused):
    """The nonce was not made here, or not for this holder."""

    code = "challenge_invalid"


class ChallengeExpired(EvidenceRefused):
    """The nonce was made here for this holder, and its time is over."""

    code = "challenge_expired"


class CollateralUnusable(AttestationError):
    """The collateral that the operator supplied cannot judge this quote."""

    code = "collateral"


class MalformedCollateral(CollateralUnusable):
    """The document is not a collateral of the expected shape."""

    code = "collateral_malformed"


class CollateralOutsideWindow(CollateralUnusable):
    """A part of the collateral is expired or comes from the future."""

    code = "collateral_window"


class CollateralSignatureInvalid(CollateralUnusable):
    """A part of the collateral is not signed by the certificate whose role it is."""

    code = "collateral_signature"


class CollateralMismatch(CollateralUnusable):
    """The collateral is of another technology, platform family or certificate authority."""

    code = "collateral_mismatch"


class CollateralRollback(CollateralUnusable):
    """The document is older than the one already held for its platform family."""

    code = "collateral_rollback"


class MalformedCertificate(AttestationError):
    """The bytes are not a certificate, or it lacks what its role needs."""

    code = "certificate_malformed"


class TrustRootRefused(AttestationError):
    """A chain does not end at the configured root, or the root is none."""

    code = "untrusted_root"
