"""What can go wrong in a use case beyond what the rooms below raise themselves.

    OperationError
    ├── BadOption               400  a header or a combination that the call cannot have
    ├── DuplicateInvocation     409  the token was used before (I20)
    │   └── FirstUseUnknown     409  whether it was cannot be said any more (ST4)
    ├── SpaceNotFound           404  a mentioned space is not hosted
    ├── KeyNotFound             404  no live value (error page)
    ├── NoSuchKey               404  delete of a key that was never written
    ├── NoValue                 404  no live value, where the answer is a text
    ├── TicketRefused           401  a signed URL that is unknown, void or would be
    ├── ScopeRefused            403  a token is good, but not for what its bearer asks
    ├── NotPublic               403  a space that is not everybody's
    ├── ValueChanged            412  the value is not the one that a signed URL was made for
    ├── PreconditionFailed      412  the value is not the one the caller named
    ├── QuotaExceeded           402  the space is full, or would be (413)
    ├── ResponseTooLarge        413  the value exceeds the bound the caller set
    ├── BatchTooLarge           413  the values of a batch read exceed what one answer holds
    ├── BodyTooLarge            413  the body exceeds what the node takes
    ├── StatusRefused           400  a question about a delegation that is not answered (401, 403)
    ├── QueryRefused            403  who asks may not list an account's delegations
    ├── BadNonce                400  the nonce of a question for what the node states is none
    ├── BadQuery                400  a filter of such a listing that is none
    ├── BadDelegationCid        401  a chain is asked for by a text that is no cid
    ├── BadSpaceName            400  a space is to be made under a name that is none
    ├── SpaceExists             409  a space that is to be made is there
    ├── SpaceNotMade            403  a space that this node does not host
    └── NotEnabled              501  a service this node does not offer

`text` is the exact body on the wire; `status` is what the wire protocol fixes for it.
"""


class OperationError(Exception):
    """Base of what a use case refuses; `text` is the answer's body, `code` a stable name.

    Attributes:
        code: stable name of the refusal.
        status: HTTP status that the wire protocol fixes for it.
        text: the exact body; None where the answer is an error page.
    """

    code = "operation"
    status = 400

    def __init__(self, text: str | None) -> None:
        super().__init__(text or self.code)
        self.text = text


class BadOption(OperationError):
    """A header is malformed, or asks for a condition or combination this call cannot have."""

    code = "bad-option"


class BadNonce(OperationError):
    """A nonce is not of the size or spelling that is signed or quoted, or there are two (AT40, EN28)."""

    code = "bad-nonce"


class DuplicateInvocation(OperationError):
    """The token was used before, in this spelling or another (I20, Q25)."""

    code = "duplicate-invocation"
    status = 409

    def __init__(self, text: str = "duplicate invocation") -> None:
        super().__init__(text)


class FirstUseUnknown(DuplicateInvocation):
    """The store has forgotten what was used under the token's last minute: by its clock that was over (ST4, ST9)."""

    code = "first-use-unknown"

    def __init__(self) -> None:
        super().__init__(
            "duplicate invocation cannot be ruled out: by the clock of the node's store this token ended minutes ago;"
            " set the clocks of client and node, then sign a new one"
        )


class SpaceNotFound(OperationError):
    """A space that the token mentions is not hosted here."""

    code = "space-not-found"
    status = 404

    def __init__(self) -> None:
        super().__init__("Space not found")


class KeyNotFound(OperationError):
    """There is no live value under the key."""

    code = "key-not-found"
    status = 404

    def __init__(self) -> None:
        super().__init__(None)


class NoSuchKey(OperationError):
    """A delete names a key that was never written (M31)."""

    code = "no-such-key"
    status = 404

    def __init__(self, path: str) -> None:
        super().__init__(f"No Such Key: {path}")


class NoValue(OperationError):
    """There is no live value; said as a text, on routes whose callers know what they may read."""

    code = "no-value"
    status = 404

    def __init__(self) -> None:
        super().__init__("Key not found")


class TicketRefused(OperationError):
    """The ticket of a signed URL is unknown, expired, or what it rests on was revoked; `text` says which."""

    code = "ticket-refused"
    status = 401


class ScopeRefused(OperationError):
    """The token is authorised, but holds nothing that covers the value its bearer asks a signed URL for."""

    code = "scope-refused"
    status = 403

    def __init__(self) -> None:
        super().__init__("signed URL scope is not authorized")


class NotPublic(OperationError):
    """The space is not named `public` (U8)."""

    code = "not-public"
    status = 403

    def __init__(self) -> None:
        super().__init__("Not a public space")


class ValueChanged(OperationError):
    """A signed URL was made for another version of the value."""

    code = "value-changed"
    status = 412

    def __init__(self) -> None:
        super().__init__("signed URL content hash does not match")


class PreconditionFailed(OperationError):
    """The current value is not the one that the caller's condition names."""

    code = "precondition-failed"
    status = 412

    def __init__(self) -> None:
        super().__init__("KV precondition failed")


class QuotaExceeded(OperationError):
    """The space is full (402), or would be with this value (413); clients read both numbers from the text (J8)."""

    code = "quota-exceeded"

    def __init__(self, used_bytes: int, limit_bytes: int) -> None:
        is_full = used_bytes >= limit_bytes
        self.status = 402 if is_full else 413
        what = "Storage quota exceeded" if is_full else "Write exceeds remaining storage"
        super().__init__(f"{what}. Used: {used_bytes} bytes, Limit: {limit_bytes} bytes")


class ResponseTooLarge(OperationError):
    """The value is larger than the bound the caller set for the answer."""

    code = "response-too-large"
    status = 413

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"KV response is {size_bytes} bytes, exceeding the requested limit of {limit_bytes} bytes")


class BatchTooLarge(OperationError):
    """The values of a batch read are together larger than one answer may be."""

    code = "batch-too-large"
    status = 413

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"KV batch read holds {size_bytes} bytes, more than the {limit_bytes} bytes of one answer")


class BodyTooLarge(OperationError):
    """The request's body is larger than this node takes (Q2)."""

    code = "body-too-large"
    status = 413

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"KV value exceeds this node's limit of {limit_bytes} bytes")


class StatusRefused(OperationError):
    """The question how a delegation stands is not answered; says nothing of any delegation (wire 5.3)."""

    code = "status-refused"

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        super().__init__(text)


class QueryRefused(OperationError):
    """The token does not entitle its bearer to list an account's delegations, or the cursor is not one of them."""

    code = "query-refused"
    status = 403

    def __init__(self) -> None:
        super().__init__("Delegation query proof is not authorized")


class BadQuery(OperationError):
    """A member of the body of `/delegation/query` is not what it has to be."""

    code = "bad-query"

    def __init__(self, reason: str) -> None:
        super().__init__(f"Invalid delegation query: {reason}")


class BadDelegationCid(OperationError):
    """A delegation is named by a text that is no cid (wire 4.5)."""

    code = "bad-delegation-cid"
    status = 401

    def __init__(self, named: str) -> None:
        super().__init__(f"Invalid delegation CID: {named}")


class BadSpaceName(OperationError):
    """A space cannot have this name."""

    code = "bad-space-name"

    def __init__(self) -> None:
        super().__init__("Invalid space name")


class SpaceExists(OperationError):
    """A space of this name is hosted already."""

    code = "space-exists"
    status = 409

    def __init__(self) -> None:
        super().__init__("Space already exists")


class SpaceNotMade(OperationError):
    """The node's hosting mode, a bound of it or its rule on names keeps the space from being made."""

    code = "space-not-made"
    status = 403

    def __init__(self) -> None:
        super().__init__("Space cannot be hosted here")


class NotEnabled(OperationError):
    """The token is authorised, but this node does not offer the service it asks for."""

    code = "not-enabled"
    status = 501

    def __init__(self, service: str) -> None:
        super().__init__(f"{service} support is not enabled on this node")
