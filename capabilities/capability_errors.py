"""Everything that can be wrong with an identifier, a token or a chain: a class for each reaction, a
code for each cause.

`text` is the exact wording that TinyCloud's clients read where the wire has one. No text contains a
byte of a token except the resource, ability, DID or CID that the sender named.
"""

from typing import Final


class CapabilityError(Exception):
    """Something in the data is wrong; the only family this package raises for it.

    Attributes:
        code: Stable name of the cause.
        text: The message; for errors that the wire shows, its exact wording.
    """

    code = "capability-error"
    wording = ""

    def __init__(self, text: str = "") -> None:
        self.text = text or self.wording
        super().__init__(self.text)


class InvalidJson(CapabilityError):
    """The bytes are not strict JSON, or not an object where one is required."""

    code = "json-invalid"


class MalformedToken(CapabilityError):
    """The token cannot be decoded or has a shape no rule allows; the wire states no reason (E5)."""

    code = "token-malformed"


class InvalidIdentifier(CapabilityError):
    """The text is no DID, space id, resource, network id, ability or CID; the message is the wire's
    wording."""

    code = "identifier-invalid"


class BadSignature(CapabilityError):
    """The signature, its key or its algorithm do not fit; one text for every cause (K9, C5)."""

    code = "signature-invalid"
    wording = "Failed to verify signature"


class WrongKind(CapabilityError):
    """The token was signed for another purpose than that of its route; one text for every
    combination (T8 to T12)."""

    code = "token-kind"
    wording = "Token of another kind"


class CaveatRefused(CapabilityError):
    """A caveat of the parent is not kept by the child (3.5); the message is the rule's short
    name."""

    code = "caveat-refused"


CHAIN_TEXTS: Final = {
    # The delegation is a policy root or policy session, which are not taken as ordinary grants
    # (3.8).
    "policy-profile-refused": "{}",
    # More delegations in the closure than a chain may hold (D30, I13).
    "chain-too-large": "delegation-chain-traversal-limit-exceeded",
    # The delegation is expired or not valid yet (D6).
    "delegation-outside-window": "Delegation expired or not yet valid",
    # The invocation is expired or not valid yet (I2).
    "invocation-outside-window": "Invocation expired or not yet valid",
    # The revocation is expired or not valid yet (W26).
    "revocation-outside-window": "Revocation expired or not yet valid",
    # The invocation's expiry lies further ahead than the server allows (I4).
    "lifetime-too-long": "Invocation lifetime exceeds server maximum",
    # A proof is needed and none is cited, or a cited one is unknown or cited twice (D21, D22, I31,
    # W20).
    "parent-not-found": "Cannot find parent delegation",
    # A cited parent was granted to a principal other than the delegator (D22).
    "delegator-unauthorized": "Unauthorized Delegator: {}",
    # A cited delegation was granted to a principal other than the invoker (I32).
    "invoker-unauthorized": "Unauthorized Invoker",
    # The revoker has no say over the target, or the cited proof gives none (W21, W22).
    "revoker-unauthorized": "Unauthorized Revoker",
    # A cited parent of a new delegation is revoked (D23).
    "parent-revoked": "delegation-parent-revoked: {}",
    # A delegation that is invoked, or posted again, is revoked (I32).
    "delegation-revoked": "delegation-revoked: {}",
    # An ancestor of a cited delegation is revoked (D23, I32).
    "ancestor-revoked": "delegation-ancestor-revoked: ancestor={} {}",
    # A cited parent may be used but not passed on (D24).
    "parent-terminal": "terminal-parent-cannot-redelegate",
    # The delegation would outlive every parent (D25).
    "expiry-exceeds-parent": "Child delegation expiry exceeds parent expiry",
    # The delegation would begin before every parent (D25).
    "not-before-precedes-parent": "Child delegation not_before precedes parent not_before",
    # No cited parent holds what the delegation grants (D27).
    "capability-unauthorized": "Unauthorized Capability: {}, {}",
    # No cited delegation holds, now, what the invocation requests; clients parse this text (I36,
    # I33, I34).
    "action-unauthorized": "Unauthorized Action: {} / {}",
    # Resource and ability are held, under caveats that are not kept (D27, I35).
    "caveats-not-contained": "{}: {}",
}
"""The wording of each reason why a chain does not support a token, by its code; clients parse some
of them."""


class ChainError(CapabilityError):
    """A well-formed, well-signed token that its chain does not support."""

    def __init__(self, code: str, *about: str) -> None:
        super().__init__(CHAIN_TEXTS[code].format(*about))
        self.code = code
        self.about = about


class AuditChainBroken(CapabilityError):
    """An exported audit chain is not what it says."""

    code = "audit-chain-broken"

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
