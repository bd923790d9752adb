"""Everything that can be wrong with an identifier, a token or a chain, one class each.

`text` is the exact wording that TinyCloud's clients read where the wire has one. No text contains a byte of a token
except the resource, ability, DID or CID that the sender named.
"""

from typing import ClassVar, Literal


class CapabilityError(Exception):
    """Something in the data is wrong; the only family this package raises for it."""

    code: ClassVar[str] = "capability-error"
    wording: ClassVar[str] = ""

    @property
    def text(self) -> str:
        """The message; for errors that the wire shows, its exact wording."""
        return self._wording()

    def _wording(self) -> str:
        return self.wording

    def __str__(self) -> str:
        return self.text


class _Reasoned(CapabilityError):
    """An error whose text is the reason it was made with."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def _wording(self) -> str:
        return self.reason


class InvalidJson(_Reasoned):
    """The bytes are not strict JSON, or not an object where one is required."""

    code = "json-invalid"


class MalformedToken(_Reasoned):
    """The token cannot be decoded or has a shape no rule allows; the wire states no reason (E5)."""

    code = "token-malformed"


class InvalidIdentifier(_Reasoned):
    """The text is no DID, space id, resource, network id, ability or CID; the reason is the wire's wording."""

    code = "identifier-invalid"


class BadSignature(CapabilityError):
    """The signature, its key or its algorithm do not fit; one text for every cause (K9, C5)."""

    code = "signature-invalid"
    wording = "Failed to verify signature"


class WrongKind(CapabilityError):
    """The token was signed for another purpose than that of its route; one text for every combination (T8 to T12)."""

    code = "token-kind"
    wording = "Token of another kind"


class CaveatRefused(_Reasoned):
    """A caveat of the parent is not kept by the child (3.5); `reason` is the rule's short name."""

    code = "caveat-refused"


class ChainError(CapabilityError):
    """A well-formed, well-signed token that its chain does not support."""


class PolicyProfileRefused(_Reasoned, ChainError):
    """The delegation is a policy root or policy session, which are not taken as ordinary grants (3.8)."""

    code = "policy-profile-refused"


class ChainTooLarge(ChainError):
    """More delegations in the closure than a chain may hold (D30, I13)."""

    code = "chain-too-large"
    wording = "delegation-chain-traversal-limit-exceeded"


class DelegationOutsideWindow(ChainError):
    """The delegation is expired or not valid yet (D6)."""

    code = "delegation-outside-window"
    wording = "Delegation expired or not yet valid"


class InvocationOutsideWindow(ChainError):
    """The invocation is expired or not valid yet (I2)."""

    code = "invocation-outside-window"
    wording = "Invocation expired or not yet valid"


class RevocationOutsideWindow(ChainError):
    """The revocation is expired or not valid yet (W26)."""

    code = "revocation-outside-window"
    wording = "Revocation expired or not yet valid"


class LifetimeTooLong(ChainError):
    """The invocation's expiry lies further ahead than the server allows (I4)."""

    code = "lifetime-too-long"
    wording = "Invocation lifetime exceeds server maximum"


class ParentNotFound(ChainError):
    """A proof is needed and none is cited, or a cited one is unknown or cited twice (D21, D22, I31, W20)."""

    code = "parent-not-found"
    wording = "Cannot find parent delegation"


class UnauthorizedDelegator(ChainError):
    """A cited parent was granted to a principal other than the delegator (D22)."""

    code = "delegator-unauthorized"

    def __init__(self, did: str) -> None:
        super().__init__(did)
        self.did = did

    def _wording(self) -> str:
        return f"Unauthorized Delegator: {self.did}"


class UnauthorizedInvoker(ChainError):
    """A cited delegation was granted to a principal other than the invoker (I32)."""

    code = "invoker-unauthorized"
    wording = "Unauthorized Invoker"


class UnauthorizedRevoker(ChainError):
    """The revoker has no say over the target, or the cited proof gives none (W21, W22)."""

    code = "revoker-unauthorized"
    wording = "Unauthorized Revoker"


class _OfCid(ChainError):
    """An error about one delegation, named by the text of its CID."""

    def __init__(self, cid: str) -> None:
        super().__init__(cid)
        self.cid = cid


class ParentRevoked(_OfCid):
    """A cited parent of a new delegation is revoked (D23)."""

    code = "parent-revoked"

    def _wording(self) -> str:
        return f"delegation-parent-revoked: {self.cid}"


class DelegationRevoked(_OfCid):
    """A delegation that is invoked, or posted again, is revoked (I32)."""

    code = "delegation-revoked"

    def _wording(self) -> str:
        return f"delegation-revoked: {self.cid}"


class AncestorRevoked(ChainError):
    """An ancestor of a cited delegation is revoked (D23, I32)."""

    code = "ancestor-revoked"

    def __init__(self, ancestor: str, *, parent: str | None = None, invoked: str | None = None) -> None:
        super().__init__(ancestor, parent, invoked)
        self.ancestor = ancestor
        self.parent = parent
        self.invoked = invoked

    def _wording(self) -> str:
        cited = f"invoked={self.invoked}" if self.parent is None else f"parent={self.parent}"
        return f"delegation-ancestor-revoked: ancestor={self.ancestor} {cited}"


class TerminalParent(ChainError):
    """A cited parent may be used but not passed on (D24)."""

    code = "parent-terminal"
    wording = "terminal-parent-cannot-redelegate"


class ExpiryExceedsParent(ChainError):
    """The delegation would outlive every parent (D25)."""

    code = "expiry-exceeds-parent"
    wording = "Child delegation expiry exceeds parent expiry"


class NotBeforePrecedesParent(ChainError):
    """The delegation would begin before every parent (D25)."""

    code = "not-before-precedes-parent"
    wording = "Child delegation not_before precedes parent not_before"


class _OfCapability(ChainError):
    """An error about one capability, by the canonical text of its resource and its ability."""

    def __init__(self, resource: str, ability: str) -> None:
        super().__init__(resource, ability)
        self.resource = resource
        self.ability = ability


class UnauthorizedCapability(_OfCapability):
    """No cited parent holds what the delegation grants (D27)."""

    code = "capability-unauthorized"

    def _wording(self) -> str:
        return f"Unauthorized Capability: {self.resource}, {self.ability}"


class UnauthorizedAction(_OfCapability):
    """No cited delegation holds, now, what the invocation requests; clients parse this text (I36, I33, I34)."""

    code = "action-unauthorized"

    def _wording(self) -> str:
        return f"Unauthorized Action: {self.resource} / {self.ability}"


class CaveatsNotContained(ChainError):
    """Resource and ability are held, under caveats that are not kept (D27, I35)."""

    code = "caveats-not-contained"

    def __init__(self, reason: str, *, boundary: Literal["delegation", "invocation"]) -> None:
        super().__init__(reason, boundary)
        self.reason = reason
        self.boundary = boundary

    def _wording(self) -> str:
        if self.boundary == "delegation":
            return f"child-caveats-not-subset-of-parent: {self.reason}"
        return f"invocation-caveats-not-subset-of-chain: {self.reason}"


class AuditChainBroken(CapabilityError):
    """An exported audit chain is not what it says.

    Attributes:
        line: number of the first line at fault, from 1; 0 for a fault in the request.
        reason: what is wrong with it.
    """

    code = "audit-chain-broken"

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(line, reason)
        self.line = line
        self.reason = reason

    def _wording(self) -> str:
        return f"line {self.line}: {self.reason}"
