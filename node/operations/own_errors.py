"""What attestation, releases and receipts refuse beyond what tokens, chains and quotes raise themselves.

AttestationRequestError     (our own surface: problem+json)
├── MalformedRequest        request-malformed     400  a member is missing, of another type or too long
├── SessionNotBound         session-not-bound     403  the token does not say what it is for
├── ChallengeUsed           challenge-used        409  the nonce was used before
├── NetworkUnknown          network-unknown       404  no such network on this node
├── DocumentUnknown         document-unknown      404  no receipt of this node refers to such a document
├── PolicyNotInPerson       policy-not-in-person  403  a policy is written by the owner in person
└── CollateralMissing       collateral-missing    503  the operator has no collateral for this platform
"""

from typing import ClassVar


class AttestationRequestError(Exception):
    """Base: `code` is stable, `hint` is the caller's next step."""

    code: ClassVar[str] = "attestation-request"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The request cannot be served"

    def __init__(self, hint: str) -> None:
        super().__init__(self.code)
        self.hint = hint


class MalformedRequest(AttestationRequestError):
    """A member is missing, of another type, too long or not canonical."""

    code = "request-malformed"
    title = "The request is malformed"


class SessionNotBound(AttestationRequestError):
    """The token holds something else than one capability and one fact that bind it to this request."""

    code = "session-not-bound"
    status = 403
    title = "The token is not bound to this request"


class ChallengeUsed(AttestationRequestError):
    """The nonce was used before."""

    code = "challenge-used"
    status = 409
    title = "The challenge was used before"


class NetworkUnknown(AttestationRequestError):
    """There is no such network on this node."""

    code = "network-unknown"
    status = 404
    title = "There is no such network on this node"


class DocumentUnknown(AttestationRequestError):
    """There is no document with this digest."""

    code = "document-unknown"
    status = 404
    title = "There is no such document on this node"


class PolicyNotInPerson(AttestationRequestError):
    """Somebody else than the owner in person tries to write the owner's policy."""

    code = "policy-not-in-person"
    status = 403
    title = "The owner's policy is written by the owner in person"


class CollateralMissing(AttestationRequestError):
    """Nothing is known here about the platform that made the quote."""

    code = "collateral-missing"
    status = 503
    title = "The node has no collateral for this platform"

    def __init__(self, hint: str, retry_after_s: int | None = None) -> None:
        super().__init__(hint)
        self.retry_after_s = retry_after_s
