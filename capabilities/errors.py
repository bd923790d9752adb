"""Everything that can be wrong with an identifier, a token or a chain, one class each.

The tree (a name in brackets is its stable `code`)::

    CapabilityError
    ├── InvalidJson                  [json-invalid]            not strict JSON, or not an object
    ├── MalformedToken               [token-malformed]         undecodable or structurally invalid (E5)
    ├── InvalidIdentifier            [identifier-invalid]      DID, space, resource, network id, ability, CID
    ├── BadSignature                 [signature-invalid]       K9, C5
    ├── WrongKind                    [token-kind]              T8 to T12
    ├── CaveatRefused                [caveat-refused]          3.5; carried on by CaveatsNotContained
    └── ChainError
        ├── PolicyProfileRefused     [policy-profile-refused]  3.8
        ├── ChainTooLarge            [chain-too-large]         D30, I13
        ├── DelegationOutsideWindow  [delegation-outside-window]   D6
        ├── InvocationOutsideWindow  [invocation-outside-window]   I2
        ├── RevocationOutsideWindow  [revocation-outside-window]   5.5
        ├── LifetimeTooLong          [lifetime-too-long]       I4
        ├── ParentNotFound           [parent-not-found]        D21, D22, I31, W20
        ├── UnauthorizedDelegator    [delegator-unauthorized]  D22
        ├── UnauthorizedInvoker      [invoker-unauthorized]    I32
        ├── UnauthorizedRevoker      [revoker-unauthorized]    W21, W22
        ├── ParentRevoked            [parent-revoked]          D23
        ├── AncestorRevoked          [ancestor-revoked]        D23, I32
        ├── DelegationRevoked        [delegation-revoked]      I32
        ├── TerminalParent           [parent-terminal]         D24
        ├── ExpiryExceedsParent      [expiry-exceeds-parent]   D25
        ├── NotBeforePrecedesParent  [not-before-precedes-parent]  D25
        ├── UnauthorizedCapability   [capability-unauthorized] D27
        ├── UnauthorizedAction       [action-unauthorized]     I33, I34
        └── CaveatsNotContained      [caveats-not-contained]   D27, I35

`text` is the exact wording that TinyCloud's clients read where the wire has one. No text contains a byte of a token
except the resource, ability, DID or CID that the sender named.
"""

from typing import ClassVar, Literal


class CapabilityError(Exception):
    """Something in the data is wrong; the only family this package raises for it."""

    code: ClassVar[str] = "capability-error"
    rule: ClassVar[str] = ""
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
    rule = "E5"


class InvalidIdentifier(_Reasoned):
    """The text is no DID, space id, resource, network id, ability or CID; the reason is the wire's wording."""

    code = "identifier-invalid"


class BadSignature(CapabilityError):
    """The signature, its key or its algorithm do not fit; one text for every cause (K9)."""

    code = "signature-invalid"
    rule = "K9"
    wording = "Failed to verify signature"


class WrongKind(CapabilityError):
    """The token was signed for another purpose than that of its route; one text for every combination (T8 to T12)."""

    code = "token-kind"
    rule = "T8"
    wording = "Token of another kind"


class CaveatRefused(_Reasoned):
    """A caveat of the parent is not kept by the child (3.5); `reason` is the rule's short name."""

    code = "caveat-refused"
    rule = "3.5"


class ChainError(CapabilityError):
    """A well-formed, well-signed token that its chain does not support."""


class PolicyProfileRefused(_Reasoned, ChainError):
    """The delegation is a policy root or policy session, which are not taken as ordinary grants (3.8)."""

    code = "policy-profile-refused"
    rule = "3.8"


class ChainTooLarge(ChainError):
    """More delegations in the closure than a chain may hold."""

    code = "chain-too-large"
    rule = "D30"
    wording = "delegation-chain-traversal-limit-exceeded"


class DelegationOutsideWindow(ChainError):
    """The delegation is expired or not valid yet."""

    code = "delegation-outside-window"
    rule = "D6"
    wording = "Delegation expired or not yet valid"


class InvocationOutsideWindow(ChainError):
    """The invocation is expired or not valid yet."""

    code = "invocation-outside-window"
    rule = "I2"
    wording = "Invocation expired or not yet valid"


class RevocationOutsideWindow(ChainError):
    """The revocation is expired or not valid yet."""

    code = "revocation-outside-window"
    rule = "W26"
    wording = "Revocation expired or not yet valid"


class LifetimeTooLong(ChainError):
    """The invocation's expiry lies further ahead than the server allows."""

    code = "lifetime-too-long"
    rule = "I4"
    wording = "Invocation lifetime exceeds server maximum"


class ParentNotFound(ChainError):
    """A proof is needed and none is cited, or a cited one is unknown or cited twice."""

    code = "parent-not-found"
    rule = "D22"
    wording = "Cannot find parent delegation"


class UnauthorizedDelegator(ChainError):
    """A cited parent was granted to a principal other than the delegator."""

    code = "delegator-unauthorized"
    rule = "D22"

    def __init__(self, did: str) -> None:
        super().__init__(did)
        self.did = did

    def _wording(self) -> str:
        return f"Unauthorized Delegator: {self.did}"


class UnauthorizedInvoker(ChainError):
    """A cited delegation was granted to a principal other than the invoker."""

    code = "invoker-unauthorized"
    rule = "I32"
    wording = "Unauthorized Invoker"


class UnauthorizedRevoker(ChainError):
    """The revoker has no say over the target, or the cited proof gives none."""

    code = "revoker-unauthorized"
    rule = "W22"
    wording = "Unauthorized Revoker"


class _OfCid(ChainError):
    """An error about one delegation, named by the text of its CID."""

    def __init__(self, cid: str) -> None:
        super().__init__(cid)
        self.cid = cid


class ParentRevoked(_OfCid):
    """A cited parent of a new delegation is revoked."""

    code = "parent-revoked"
    rule = "D23"

    def _wording(self) -> str:
        return f"delegation-parent-revoked: {self.cid}"


class DelegationRevoked(_OfCid):
    """A delegation that is invoked, or posted again, is revoked."""

    code = "delegation-revoked"
    rule = "I32"

    def _wording(self) -> str:
        return f"delegation-revoked: {self.cid}"


class AncestorRevoked(ChainError):
    """An ancestor of a cited delegation is revoked."""

    code = "ancestor-revoked"
    rule = "D23"

    def __init__(self, ancestor: str, *, parent: str | None = None, invoked: str | None = None) -> None:
        super().__init__(ancestor, parent, invoked)
        self.ancestor = ancestor
        self.parent = parent
        self.invoked = invoked

    def _wording(self) -> str:
        cited = f"invoked={self.invoked}" if self.parent is None else f"parent={self.parent}"
        return f"delegation-ancestor-revoked: ancestor={self.ancestor} {cited}"


class TerminalParent(ChainError):
    """A cited parent may be used but not passed on."""

    code = "parent-terminal"
    rule = "D24"
    wording = "terminal-parent-cannot-redelegate"


class ExpiryExceedsParent(ChainError):
    """The delegation would outlive every parent."""

    code = "expiry-exceeds-parent"
    rule = "D25"
    wording = "Child delegation expiry exceeds parent expiry"


class NotBeforePrecedesParent(ChainError):
    """The delegation would begin before every parent."""

    code = "not-before-precedes-parent"
    rule = "D25"
    wording = "Child delegation not_before precedes parent not_before"


class _OfCapability(ChainError):
    """An error about one capability, by the canonical text of its resource and its ability."""

    def __init__(self, resource: str, ability: str) -> None:
        super().__init__(resource, ability)
        self.resource = resource
        self.ability = ability


class UnauthorizedCapability(_OfCapability):
    """No cited parent holds what the delegation grants."""

    code = "capability-unauthorized"
    rule = "D27"

    def _wording(self) -> str:
        return f"Unauthorized Capability: {self.resource}, {self.ability}"


class UnauthorizedAction(_OfCapability):
    """No cited delegation holds, now, what the invocation requests; clients parse this text (I36)."""

    code = "action-unauthorized"
    rule = "I34"

    def _wording(self) -> str:
        return f"Unauthorized Action: {self.resource} / {self.ability}"


class CaveatsNotContained(ChainError):
    """Resource and ability are held, under caveats that are not kept."""

    code = "caveats-not-contained"
    rule = "D27"

    def __init__(self, reason: str, *, boundary: Literal["delegation", "invocation"]) -> None:
        super().__init__(reason, boundary)
        self.reason = reason
        self.boundary = boundary

    def _wording(self) -> str:
        if self.boundary == "delegation":
            return f"child-caveats-not-subset-of-parent: {self.reason}"
        return f"invocation-caveats-not-subset-of-chain: {self.reason}"
