"""Exceptions for invalid attestation evidence and collateral.

`code` is coarse and stable, and may be shown to the sender of the quote. `detail` is for the audit
record only. `str()` of an error is its code, so that no detail reaches a caller by accident.
"""

from typing import Literal

MAX_DETAIL_CHARS = 400
"""A detail may contain a library's text, so it is cut to keep audit records small."""

QuoteCode = Literal[
    # The bytes are not a quote of the expected shape.
    "malformed",
    # The quote is well-formed but of another kind: SGX, or another version, key type, vendor or
    # certification data.
    "unsupported",
    # The trust domain is in a state that can never be trusted: debug, migratable, or with an
    # impossible register.
    "td-attributes",
    # The platform's certificates do not form a valid chain at this time.
    "certificate-chain",
    # The attestation key did not sign these bytes.
    "quote-signature",
    # The quoting enclave's report does not bind the attestation key, is not signed, or belongs to
    # another enclave.
    "qe-binding",
    # A certificate of the chain or the platform's TCB level is revoked.
    "revoked",
    # The platform is older than every level that is listed for it.
    "tcb-too-old",
    # The verifier library failed, or two readings of one quote differ.
    "evidence-invalid",
    # The verifier library gave an unknown reason: it is not the pinned version.
    "verdict-unknown",
    # The bytes are not an event log of the expected shape.
    "event-log-malformed",
    # The event log does not match the quote's registers, or a required entry is missing.
    "event-log",
    # The provider of the application's keys is not accepted here.
    "key-provider",
    # The quote does not name this nonce, audience, holder, receiver mode and key.
    "report-data",
    # The nonce was not made here, or not for this holder.
    "challenge-invalid",
    # The nonce was made here for this holder, and has expired.
    "challenge-expired",
    # The quote's chain ends at another root than the configured one, or the latter is not a root.
    "untrusted-root",
]
"""Codes of refused evidence (AT7)."""

CollateralCode = Literal[
    # The document is not collateral of the expected shape.
    "collateral-malformed",
    # A part of the collateral is expired or comes from the future.
    "collateral-window",
    # A part of the collateral is not signed by the certificate whose role that is.
    "collateral-signature",
    # The collateral is of another technology, platform family or certificate authority.
    "collateral-mismatch",
    # A chain of the collateral ends at another root than the configured one.
    "collateral-root",
    # The document is older than the stored one of its platform family.
    "collateral-rollback",
    # The service knows no such platform family: 404.
    "platform-unknown",
    # The service no longer publishes the evaluation number that was asked for: 410.
    "evaluation-withdrawn",
    # The service cannot be reached, is too slow, too busy or broken; try again later.
    "service-unavailable",
    # The service's answer is too large, of another shape, or about something else.
    "service-answer",
]
"""Codes of unusable collateral (AT7); from `platform-unknown` on, of the service that provides it.
"""


class AttestationError(Exception):
    """The attestation evidence or its collateral is not valid."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail[:MAX_DETAIL_CHARS]
        super().__init__(code)

    @property
    def alarms(self) -> bool:
        """Whether the operator should be alerted.

        These errors may mean that the installation is faulty.
        """
        return self.code in ("evidence-invalid", "verdict-unknown", "service-answer")


class QuoteRefused(AttestationError):
    """The attestation evidence was refused.

    Raised for quotes, event logs, challenges and root certificates.
    """

    def __init__(self, code: QuoteCode, detail: str) -> None:
        super().__init__(code, detail)


class CollateralUnusable(AttestationError):
    """The collateral is invalid, outdated or not available.

    Also raised for collateral of another platform.
    """

    def __init__(
        self, code: CollateralCode, detail: str, *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(code, detail)
        self.retry_after_s = retry_after_s


class MalformedCertificate(AttestationError):
    """A certificate or revocation list is malformed.

    It cannot be parsed, or lacks a required field. The reader of a quote or of collateral turns
    this into an error of its own, which names where the certificate was. So this error never
    reaches a client of the node (AT7).
    """

    def __init__(self, detail: str) -> None:
        super().__init__("certificate-malformed", detail)
