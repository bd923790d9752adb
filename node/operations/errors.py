"""What can go wrong in a use case beyond what the rooms below raise themselves.

    OperationError
    ├── BadOption               400  a header or a combination that the call cannot have
    ├── DuplicateInvocation     409  the token was used before (I20)
    ├── SpaceNotFound           404  a mentioned space is not hosted
    ├── KeyNotFound             404  no live value (error page)
    ├── NoSuchKey               404  delete of a key that was never written
    ├── PreconditionFailed      412  the value is not the one the caller named
    ├── QuotaExceeded           402  the space is full, or would be (413)
    ├── ResponseTooLarge        413  the value exceeds the bound the caller set
    ├── BodyTooLarge            413  the body exceeds what the node takes
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


class DuplicateInvocation(OperationError):
    """The token was used before, in this spelling or another (I20, Q25)."""

    code = "duplicate-invocation"
    status = 409

    def __init__(self) -> None:
        super().__init__("duplicate invocation")


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


class BodyTooLarge(OperationError):
    """The request's body is larger than this node takes (Q2)."""

    code = "body-too-large"
    status = 413

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"KV value exceeds this node's limit of {limit_bytes} bytes")


class NotEnabled(OperationError):
    """The token is authorised, but this node does not offer the service it asks for."""

    code = "not-enabled"
    status = 501

    def __init__(self, service: str) -> None:
        super().__init__(f"{service} support is not enabled on this node")
