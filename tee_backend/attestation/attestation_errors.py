"""What can be wrong with a quote, its collateral, or the challenge it answers.

`code` is coarse and stable: it may be shown to the sender of the quote. `detail` is for the audit
record alone; `str()` of an error is its code, so that no detail reaches a caller by accident.
"""

from typing import Literal

MAX_DETAIL_CHARS = 400
"""A detail may contain text of a library; it is cut so that an audit record stays small."""

QuoteCode = Literal[
    # The bytes are not a quote of the expected shape.
    "malformed",
    # A well-formed beginning of something else: SGX, another version, key type, vendor or
    # certification data.
    "unsupported",
    # The trust domain is in a state that can never be trusted: debug, migratable, an impossible
    # register.
    "td-attributes",
    # The platform's certificates do not form a valid chain at this time.
    "certificate-chain",
    # The attestation key did not sign these bytes.
    "quote-signature",
    # The quoting enclave's report does not bind the attestation key, is not signed, or is of
    # another enclave.
    "qe-binding",
    # A certificate of the chain or the platform's TCB level is revoked.
    "revoked",
    # The platform is older than every level that is listed for it.
    "tcb-too-old",
    # The verifier library failed, or two readings of one quote differ.
    "evidence-invalid",
    # The verifier library gave a reason that our table does not know: another version than the
    # pinned one answers.
    "verdict-unknown",
    # The bytes are not an event log of the expected shape.
    "event-log-malformed",
    # The log does not match the quote's registers, or it lacks what a log has to state.
    "event-log",
    # The provider of the application's keys is not accepted here.
    "key-provider",
    # The quote does not name this nonce, audience, holder, receiver mode and key.
    "report-data",
    # The nonce was not made here, or not for this holder.
    "challenge-invalid",
    # The nonce was made here for this holder, and has expired.
    "challenge-expired",
    # A quote's chain does not end at the configured root, or what was configured is no root.
    "untrusted-root",
]
"""Codes of evidence that is refused (AT7)."""

CollateralCode = Literal[
    # The document is not a collateral of the expected shape.
    "collateral-malformed",
    # A part of the collateral is expired or comes from the future.
    "collateral-window",
    # A part of the collateral is not signed by the certificate whose role it is.
    "collateral-signature",
    # The collateral is of another technology, platform family or certificate authority.
    "collateral-mismatch",
    # A chain of the collateral ends at another root than the configured one.
    "collateral-root",
    # The document is older than the one already held for its platform family.
    "collateral-rollback",
    # The service knows no such platform family: 404.
    "platform-unknown",
    # The service no longer publishes the evaluation number that was asked for: 410.
    "evaluation-withdrawn",
    # The service cannot be reached, is too slow, too busy or broken; try again later.
    "service-unavailable",
    # The service's answer is too large, of another shape, or about something else than was asked.
    "service-answer",
]
"""Codes of collateral that cannot judge a quote (AT7), and, from `platform-unknown` on, of the
service it comes from."""


class AttestationError(Exception):
    """An attestation is not valid."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail[:MAX_DETAIL_CHARS]
        super().__init__(code)

    @property
    def alarms(self) -> bool:
        """Whether it concerns this installation, so that its operator has to be notified, whoever
        the caller is."""
        return self.code in ("evidence-invalid", "verdict-unknown", "service-answer")


class QuoteRefused(AttestationError):
    """A quote, its event log or its challenge is refused, or a root certificate is none."""

    def __init__(self, code: QuoteCode, detail: str) -> None:
        super().__init__(code, detail)


class CollateralUnusable(AttestationError):
    """The collateral at hand cannot judge a quote, or its service did not deliver any."""

    def __init__(
        self, code: CollateralCode, detail: str, *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(code, detail)
        self.retry_after_s = retry_after_s


class MalformedCertificate(AttestationError):
    """The bytes are not a certificate, or it lacks what its role needs.

    The reader of a quote or collateral names what the certificate was in: it never reaches a caller
    of the node (AT7).
    """

    def __init__(self, detail: str) -> None:
        super().__init__("certificate-malformed", detail)
