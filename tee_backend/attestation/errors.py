"""What can be wrong with a quote, its collateral, or the challenge it answers.

`code` is coarse and stable: it may be shown to the sender of the quote. `detail` is for the audit record alone; `str()`
of an error is its code, so that no detail reaches a caller by accident. Errors with `alarms` concern this installation
rather than the caller: an operator has to be notified of each.
"""

from typing import ClassVar

MAX_DETAIL_CHARS = 400
"""A detail may hold text of a library; it is cut so that an audit record stays small."""


class AttestationError(Exception):
    """An attestation is not valid.

    Attributes:
        code: stable name of the kind of refusal; safe to show.
        detail: what exactly was found; for the audit record, never for the caller. Contains no key and no secret.
        alarms: whether the operator has to look into it, regardless of the caller.
    """

    code: ClassVar[str] = "attestation"
    alarms: ClassVar[bool] = False

    def __init__(self, detail: str) -> None:
        self.detail = detail[:MAX_DETAIL_CHARS]
        super().__init__(self.detail)

    def __str__(self) -> str:
        return self.code


class EvidenceRefused(AttestationError):
    """The prover's evidence is bad."""

    code = "evidence-refused"


class MalformedQuote(EvidenceRefused):
    """The bytes are not a quote of the expected shape."""

    code = "malformed"


class UnsupportedQuote(EvidenceRefused):
    """A well-formed beginning of something else: SGX, another version, key type, vendor or certification data."""

    code = "unsupported"


class TrustDomainRefused(EvidenceRefused):
    """The trust domain is in a state that can never be trusted: debug, migratable, an impossible register."""

    code = "td-attributes"


class CertificateChainRefused(EvidenceRefused):
    """The platform's certificates do not form a valid chain at this time."""

    code = "certificate-chain"


class QuoteSignatureInvalid(EvidenceRefused):
    """The attestation key did not sign these bytes."""

    code = "quote-signature"


class QuotingEnclaveRefused(EvidenceRefused):
    """The quoting enclave's report does not bind the attestation key, is not signed, or is of another enclave."""

    code = "qe-binding"


class Revoked(EvidenceRefused):
    """A certificate of the chain or the platform's TCB level is revoked."""

    code = "revoked"


class TcbTooOld(EvidenceRefused):
    """The platform is older than every level that is listed for it."""

    code = "tcb-too-old"


class EvidenceInvalid(EvidenceRefused):
    """The verifier library failed, or two readings of one quote differ."""

    code = "evidence-invalid"
    alarms = True


class VerdictUnknown(EvidenceInvalid):
    """The verifier library gave a reason that our table does not know: another version than the pinned one answers."""

    code = "verdict-unknown"


class MalformedEventLog(EvidenceRefused):
    """The bytes are not an event log of the expected shape."""

    code = "event-log-malformed"


class EventLogRefused(EvidenceRefused):
    """The log does not match the quote's registers, or it lacks what a log has to state."""

    code = "event-log"


class KeyProviderRefused(EvidenceRefused):
    """The provider of the application's keys is not accepted here."""

    code = "key-provider"


class ReportDataMismatch(EvidenceRefused):
    """The quote does not name this nonce, audience, holder, receiver mode and key."""

    code = "report-data"


class ChallengeInvalid(EvidenceRefused):
    """The nonce was not made here, or not for this holder."""

    code = "challenge-invalid"


class ChallengeExpired(EvidenceRefused):
    """The nonce was made here for this holder, and has expired."""

    code = "challenge-expired"


class CollateralUnusable(AttestationError):
    """The collateral that the operator supplied cannot judge this quote."""

    code = "collateral"


class MalformedCollateral(CollateralUnusable):
    """The document is not a collateral of the expected shape."""

    code = "collateral-malformed"


class CollateralOutsideWindow(CollateralUnusable):
    """A part of the collateral is expired or comes from the future."""

    code = "collateral-window"


class CollateralSignatureInvalid(CollateralUnusable):
    """A part of the collateral is not signed by the certificate whose role it is."""

    code = "collateral-signature"


class CollateralMismatch(CollateralUnusable):
    """The collateral is of another technology, platform family or certificate authority."""

    code = "collateral-mismatch"


class CollateralRootRefused(CollateralUnusable):
    """A chain of the collateral ends at another root than the configured one."""

    code = "collateral-root"


class CollateralRollback(CollateralUnusable):
    """The document is older than the one already held for its platform family."""

    code = "collateral-rollback"


class CollateralServiceFailed(CollateralUnusable):
    """The service that collateral is fetched from returned none."""

    code = "collateral-service"


class PlatformUnknown(CollateralServiceFailed):
    """The service knows no such platform family: 404."""

    code = "platform-unknown"


class EvaluationWithdrawn(CollateralServiceFailed):
    """The service no longer publishes the evaluation number that was asked for: 410."""

    code = "evaluation-withdrawn"


class ServiceUnavailable(CollateralServiceFailed):
    """The service cannot be reached, is too slow, too busy or broken; try again later.

    Attributes:
        retry_after_s: what the service asked for; None when it did not say.
    """

    code = "service-unavailable"

    def __init__(self, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class ServiceAnswerRefused(CollateralServiceFailed):
    """The service's answer is too large, of another shape, or about something else than was asked."""

    code = "service-answer"
    alarms = True


class MalformedCertificate(AttestationError):
    """The bytes are not a certificate, or it lacks what its role needs.

    The reader of a quote or collateral names what the certificate was in: it never reaches a caller of the node (AT7).
    """

    code = "certificate-malformed"


class TrustRootRefused(AttestationError):
    """A quote's chain does not end at the configured root, or what was configured is no root."""

    code = "untrusted-root"
