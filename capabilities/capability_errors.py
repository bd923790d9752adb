"""Errors for invalid identifiers, tokens and delegation chains.

Each class is one kind of reaction, each code one cause. `text` is the exact wire text where clients
parse it. Texts quote the resource, ability, DID or CID that the sender named, and nothing else of a
token.
"""


class CapabilityError(Exception):
    """Base class of all errors in this package.

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
    """The JSON text is invalid or has the wrong structure."""

    code = "json-invalid"


class MalformedToken(CapabilityError):
    """The token cannot be decoded or has an invalid form.

    Responses give no reason (E5).
    """

    code = "token-malformed"


class InvalidIdentifier(CapabilityError):
    """An identifier, such as a DID or a CID, is malformed."""

    code = "identifier-invalid"


class BadSignature(CapabilityError):
    """The signature, its key or its algorithm is invalid.

    The message is always the same (K9, C5).
    """

    code = "signature-invalid"
    wording = "Failed to verify signature"


class WrongKind(CapabilityError):
    """The token was signed for a different purpose (T8 to T12).

    The message is always the same.
    """

    code = "token-kind"
    wording = "Token of another kind"


class CaveatRefused(CapabilityError):
    """A caveat is missing, changed, unknown or not met (3.5).

    The message names the rule.
    """

    code = "caveat-refused"


class SqlRefused(CaveatRefused):
    """A caveat on a database does not permit the request, or is not understood (SQ20 to SQ27).

    The message is one of the codes that clients of databases know.
    """

    code = "sql-refused"


CHAIN_TEXTS = {
    # The delegation is a policy root or a policy session; neither is an ordinary grant (3.8).
    "policy-profile-refused": "{}",
    # More delegations in the closure than a chain may hold (D30, I13).
    "chain-too-large": "delegation-chain-traversal-limit-exceeded",
    # The delegation is expired or not valid yet (D6).
    "delegation-outside-window": "Delegation expired or not yet valid",
    # The invocation is expired or not valid yet (I2).
    "invocation-outside-window": "Invocation expired or not yet valid",
    # The revocation is expired or not valid yet (W26).
    "revocation-outside-window": "Revocation expired or not yet valid",
    # The invocation expires later than the server allows (I4).
    "lifetime-too-long": "Invocation lifetime exceeds server maximum",
    # A proof is required but missing, or a cited proof is unknown or cited twice (D21, D22, I31,
    # W20).
    "parent-not-found": "Cannot find parent delegation",
    # A cited parent was granted to a principal other than the delegator (D22).
    "delegator-unauthorized": "Unauthorized Delegator: {}",
    # A cited delegation was granted to a principal other than the invoker (I32).
    "invoker-unauthorized": "Unauthorized Invoker",
    # The revoker, or the delegator of its proof, may not revoke the target (W21, W22).
    "revoker-unauthorized": "Unauthorized Revoker",
    # A cited parent of a new delegation is revoked (D23).
    "parent-revoked": "delegation-parent-revoked: {}",
    # The delegation that is invoked or posted again is revoked (I32).
    "delegation-revoked": "delegation-revoked: {}",
    # An ancestor of a cited delegation is revoked (D23, I32).
    "ancestor-revoked": "delegation-ancestor-revoked: ancestor={} {}",
    # A cited parent may be used but not passed on (D24).
    "parent-terminal": "terminal-parent-cannot-redelegate",
    # The delegation would outlive every parent (D25).
    "expiry-exceeds-parent": "Child delegation expiry exceeds parent expiry",
    # The delegation would begin before every parent (D25).
    "not-before-precedes-parent": "Child delegation not_before precedes parent not_before",
    # No cited parent contains the capability that the delegation grants (D27).
    "capability-unauthorized": "Unauthorized Capability: {}, {}",
    # No cited delegation grants the requested capability now; clients parse this text (I36, I33,
    # I34).
    "action-unauthorized": "Unauthorized Action: {} / {}",
    # Resource and ability are granted, but under caveats that the token does not keep (D27, I35).
    "caveats-not-contained": "{}: {}",
}
"""Texts for the reasons why a chain does not support a token, by code; clients parse some."""


class ChainError(CapabilityError):
    """The token is not authorised by its delegation chain."""

    def __init__(self, code: str, *about: str) -> None:
        super().__init__(CHAIN_TEXTS[code].format(*about))
        self.code = code
        self.about = about


class AuditChainBroken(CapabilityError):
    """The exported audit log is invalid."""

    code = "audit-chain-broken"

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
