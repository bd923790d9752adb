"""What a use case refuses beyond what the packages below raise themselves; statuses are in the table of refusals.

The message is the exact body on the wire where the table shows it.
"""

from ..refusal import Refusal


class BadOption(Refusal):
    """A header is malformed, or asks for a condition or combination this call cannot have."""

    code = "bad-option"


class BadNonce(Refusal):
    """A nonce is not of the size or spelling that is signed or quoted, or there are two (AT40, EN28)."""

    code = "bad-nonce"


class DuplicateInvocation(Refusal):
    """The token was used before, in this spelling or another (I20, Q25)."""

    code = "duplicate-invocation"

    def __init__(self, message: str = "duplicate invocation") -> None:
        super().__init__(message)


class ReplayUnknown(DuplicateInvocation):
    """What was used under the token's last minute is not known: it was over (ST4, ST9), or is older than a restore."""

    code = "replay-unknown"

    def __init__(self) -> None:
        super().__init__(
            "duplicate invocation cannot be ruled out: by the clock of the node's store this token ended minutes ago,"
            " or the store was restored from a backup minutes ago; set the clocks of client and node, or wait, then"
            " sign a new one"
        )


class SpaceNotFound(Refusal):
    """A space that the token mentions is not hosted here."""

    code = "space-not-found"

    def __init__(self) -> None:
        super().__init__("Space not found")


class KeyNotFound(Refusal):
    """There is no live value under the key."""

    code = "key-not-found"


class NoSuchKey(Refusal):
    """A delete names a key that was never written (M31)."""

    code = "no-such-key"

    def __init__(self, path: str) -> None:
        super().__init__(f"No Such Key: {path}")


class NoValue(Refusal):
    """There is no live value; answered as a text, on routes whose callers know what they may read."""

    code = "no-value"

    def __init__(self) -> None:
        super().__init__("Key not found")


class TicketRefused(Refusal):
    """The ticket of a signed URL is unknown, expired, or what it rests on was revoked; the message says which."""

    code = "ticket-refused"


class ScopeRefused(Refusal):
    """The token is authorised, but holds nothing that covers the value its bearer asks a signed URL for."""

    code = "scope-refused"

    def __init__(self) -> None:
        super().__init__("signed URL scope is not authorized")


class NotPublic(Refusal):
    """The space is not named `public` (U8)."""

    code = "not-public"

    def __init__(self) -> None:
        super().__init__("Not a public space")


class ValueChanged(Refusal):
    """A signed URL was made for another version of the value."""

    code = "value-changed"

    def __init__(self) -> None:
        super().__init__("signed URL content hash does not match")


class PreconditionFailed(Refusal):
    """The current value is not the one that the caller's condition names."""

    code = "precondition-failed"

    def __init__(self) -> None:
        super().__init__("KV precondition failed")


class QuotaExceeded(Refusal):
    """The space is full; clients read both numbers from the text (J8)."""

    code = "quota-exceeded"

    def __init__(self, used_bytes: int, limit_bytes: int, what: str = "Storage quota exceeded") -> None:
        super().__init__(f"{what}. Used: {used_bytes} bytes, Limit: {limit_bytes} bytes")


class ValueExceedsQuota(QuotaExceeded):
    """The space would be full with this value, but takes a smaller one."""

    code = "value-exceeds-quota"

    def __init__(self, used_bytes: int, limit_bytes: int) -> None:
        super().__init__(used_bytes, limit_bytes, "Write exceeds remaining storage")


def quota_exceeded(used_bytes: int, limit_bytes: int) -> QuotaExceeded:
    """Return the refusal of a value for which a space has no free space, full or not."""
    kind = QuotaExceeded if used_bytes >= limit_bytes else ValueExceedsQuota
    return kind(used_bytes, limit_bytes)


class ResponseTooLarge(Refusal):
    """The value is larger than the bound the caller set for the answer."""

    code = "response-too-large"

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"KV response is {size_bytes} bytes, exceeding the requested limit of {limit_bytes} bytes")


class BatchTooLarge(Refusal):
    """The values of a batch read are together larger than one answer may be."""

    code = "batch-too-large"

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"KV batch read holds {size_bytes} bytes, more than the {limit_bytes} bytes of one answer")


class BodyTooLarge(Refusal):
    """The request's body is larger than this node takes (Q2)."""

    code = "body-too-large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"KV value exceeds this node's limit of {limit_bytes} bytes")


class StatusTokenRefused(Refusal):
    """The token of a status request for a delegation is not good; says nothing of any delegation (wire 5.3)."""

    code = "status-token-refused"

    def __init__(self) -> None:
        super().__init__("Invalid status invocation")


class StatusNotBound(Refusal):
    """The token asks about another delegation, or for more than a status (wire 5.3)."""

    code = "status-not-bound"

    def __init__(self) -> None:
        super().__init__("Status invocation is not bound to the requested CID")


class StatusCidInvalid(Refusal):
    """The delegation asked about is named by a text that is no cid (wire 5.3)."""

    code = "status-cid-invalid"

    def __init__(self) -> None:
        super().__init__("Invalid delegation CID")


class QueryRefused(Refusal):
    """The token does not entitle its bearer to list an account's delegations, or the cursor is not one of them."""

    code = "query-refused"

    def __init__(self) -> None:
        super().__init__("Delegation query proof is not authorized")


class BadQuery(Refusal):
    """A member of the body of `/delegation/query` is not what it has to be."""

    code = "bad-query"

    def __init__(self, reason: str) -> None:
        super().__init__(f"Invalid delegation query: {reason}")


class BadDelegationCid(Refusal):
    """A delegation is named by a text that is no cid (wire 4.5)."""

    code = "bad-delegation-cid"

    def __init__(self, named: str) -> None:
        super().__init__(f"Invalid delegation CID: {named}")


class BadSpaceName(Refusal):
    """A space cannot have this name."""

    code = "bad-space-name"

    def __init__(self) -> None:
        super().__init__("Invalid space name")


class SpaceExists(Refusal):
    """A space of this name is hosted already."""

    code = "space-exists"

    def __init__(self) -> None:
        super().__init__("Space already exists")


class SpaceNotMade(Refusal):
    """The node's hosting mode, a bound of it or its rule on names keeps the space from being made."""

    code = "space-not-made"

    def __init__(self) -> None:
        super().__init__("Space cannot be hosted here")


class NotEnabled(Refusal):
    """The token is authorised, but this node does not offer the service it asks for."""

    code = "not-enabled"

    def __init__(self, service: str) -> None:
        super().__init__(f"{service} support is not enabled on this node")


class HintedRefusal(Refusal):
    """Base of what our own surface alone refuses: the hint is the caller's next step."""

    def __init__(self, hint: str, retry_after_s: int | None = None) -> None:
        super().__init__(hint=hint, retry_after_s=retry_after_s)


class MalformedRequest(HintedRefusal):
    """A member is missing, of another type, too long or not canonical."""

    code = "request-malformed"


class SessionNotBound(HintedRefusal):
    """The token holds something other than one capability and one fact that bind it to this request."""

    code = "session-not-bound"


class ChallengeUsed(HintedRefusal):
    """The nonce was used before."""

    code = "challenge-used"


class NetworkUnknown(HintedRefusal):
    """There is no such network on this node."""

    code = "network-unknown"


class DocumentUnknown(HintedRefusal):
    """There is no document with this digest."""

    code = "document-unknown"


class PolicyNotInPerson(HintedRefusal):
    """Another caller than the owner in person tries to write the owner's policy."""

    code = "policy-not-in-person"


class CollateralMissing(HintedRefusal):
    """The node has no collateral for the platform that made the quote."""

    code = "collateral-missing"
