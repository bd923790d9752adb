"""Everything this package can raise.

The texts of `RequestError` are the wire's on the dedicated `/encryption` routes. The node defines which status a
condition has and how `/invoke` reports it (enc 2.5, 2.7): its table of refusals has a row for each code.
"""

from typing import ClassVar


class EncryptionError(Exception):
    """Base of all errors of this package.

    Attributes:
        code: stable name of the condition, for logs, metrics and problem documents.
    """

    code: ClassVar[str] = "encryption"

    @property
    def text(self) -> str:
        """The wire text on the `/encryption` routes; never contains a key, a token or a plaintext."""
        return str(self)


class RootSecretTooShort(EncryptionError):
    """The root secret has fewer than 32 bytes."""

    code = "root-secret-too-short"

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        super().__init__(f"root secret has {size_bytes} bytes, at least 32 are needed")


class InvalidCanonicalJson(EncryptionError):
    """A value cannot be written as canonical JSON (not finite, or text that is not Unicode)."""

    code = "invalid-canonical-json"


class EnvelopeError(EncryptionError):
    """An inline envelope is malformed, or its ciphertext does not open."""

    code = "invalid-envelope"


class DescriptorError(EncryptionError):
    """A network descriptor is malformed, or the node's signature over it is not valid."""

    code = "invalid-descriptor"


class RecordError(EncryptionError):
    """A stored row of this package cannot be read; nothing is decided on it."""

    code = "invalid-record"


class PolicyError(EncryptionError):
    """An attestation policy is malformed or states what may never be stated.

    Attributes:
        member: the member of the policy that is at fault; empty for the policy as a whole.
        reason: what is wrong with it.
    """

    code = "invalid-policy"

    def __init__(self, member: str, reason: str) -> None:
        self.member = member
        self.reason = reason
        super().__init__(
            f"invalid attestation policy: {member}: {reason}" if member else f"invalid attestation policy: {reason}"
        )


class WithdrawalError(EncryptionError):
    """A withdrawal is malformed, or the list is full."""

    code = "invalid-withdrawal"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"invalid withdrawal: {reason}")


class ReceiptError(EncryptionError):
    """A receipt is malformed, or its signature is not valid."""

    code = "invalid-receipt"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"invalid receipt: {reason}")


class ReleaseRefused(EncryptionError):
    """The gate refuses to release a key.

    Attributes:
        reason: the coarse cause, one of `gate.REASONS`; nothing more is reported to the caller.
        detail: the full cause, for the audit record and the log.
    """

    code = "release-refused"

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"release refused: {reason}")


class RequestError(EncryptionError):
    """One row of the request ladders failed.

    Attributes:
        audit_outcome: what the audit record calls it (enc 2.10); None: the row is not audited.
    """

    code = "encryption-request"
    audit_outcome: str | None = None


class BodyNotJson(RequestError):
    """The body is no JSON text; the message is the parser's."""

    code = "body-not-json"


class RequestTooLarge(RequestError):
    """The body is longer than the limit; on `/invoke` it is cut there and so is no JSON."""

    code = "request-too-large"

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        super().__init__(f"EOF while parsing a body of more than {limit_bytes} bytes")


class BodyMalformed(RequestError):
    """A body, a fact or a query has the wrong shape."""

    code = "body-malformed"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"decrypt request body is malformed: {reason}")


class CreateBodyMalformed(RequestError):
    """The body of a create request has the wrong shape; the text is the bare reason (enc 2.5 row 5)."""

    code = "create-body-malformed"


class InvalidNetworkId(RequestError):
    """A network id, or the owner and name of one, is malformed; the text says how (enc 1.1)."""

    code = "invalid-network-id"


class NetworkNotFound(RequestError):
    """No such network here."""

    code = "network-not-found"

    def __init__(self) -> None:
        super().__init__("network not found")


class NetworkExists(RequestError):
    """The id is taken, whether the network is active or revoked."""

    code = "network-exists"

    def __init__(self) -> None:
        super().__init__("network already exists")


class NetworkRevoked(RequestError):
    """The network has been revoked; its keys stay closed."""

    code = "network-revoked"
    audit_outcome = "denied:revoked"

    def __init__(self) -> None:
        super().__init__("network has been revoked")


class NetworkNotActive(RequestError):
    """The network is in another state than active or revoked."""

    code = "network-not-active"
    audit_outcome = "denied:state"

    def __init__(self, state: str) -> None:
        self.state = state
        super().__init__(f"network is not active (state: {state})")


class MultipleNetworks(RequestError):
    """The decrypt capabilities of one token name several networks."""

    code = "multiple-networks"

    def __init__(self) -> None:
        super().__init__("decrypt invocation contains multiple networks")


class TypeMismatch(RequestError):
    """Body or fact is of another type than the request needs."""

    code = "type-mismatch"

    def __init__(self) -> None:
        super().__init__("invocation type is not a decrypt invocation")


class AudienceMismatch(RequestError):
    """The token is addressed to another audience than this node."""

    code = "audience-mismatch"
    audit_outcome = "denied:audience"

    def __init__(self) -> None:
        super().__init__("invocation audience does not match this node")


class TargetNodeMismatch(RequestError):
    """Body or fact names another node."""

    code = "target-node-mismatch"
    audit_outcome = "denied:target-node"

    def __init__(self) -> None:
        super().__init__("invocation target node does not match this node")


class NetworkMismatch(RequestError):
    """Path, body, fact and capability do not name one network."""

    code = "network-mismatch"

    def __init__(self) -> None:
        super().__init__("invocation references a different network")


class ActionNotPermitted(RequestError):
    """The token holds no capability for the action, or its fact names another one."""

    code = "action-not-permitted"

    def __init__(self) -> None:
        super().__init__("decrypt action not permitted")


class VersionMismatch(RequestError):
    """Algorithm or key version differ from the network's."""

    code = "version-mismatch"

    def __init__(self) -> None:
        super().__init__("invocation alg / key version does not match network")


class NotYetValid(RequestError):
    """The token's `nbf` is in the future."""

    code = "not-yet-valid"

    def __init__(self) -> None:
        super().__init__("invocation not yet valid")


class Expired(RequestError):
    """The token's `exp` is in the past, or further ahead than the longest lifetime of a decrypt token."""

    code = "expired"

    def __init__(self) -> None:
        super().__init__("invocation expired")


class InvalidBase64(RequestError):
    """A key field is not canonical standard base64 with padding."""

    code = "invalid-base64"

    def __init__(self) -> None:
        super().__init__("hex decode error: invalid base64")


class HashMismatch(RequestError):
    """A stated hash differs from the recomputed one.

    Attributes:
        field: `bodyHash`, `encryptedSymmetricKeyHash` or `receiverPublicKeyHash`.
    """

    code = "hash-mismatch"
    _OUTCOMES: ClassVar[dict[str, str]] = {
        "bodyHash": "denied:body-hash",
        "encryptedSymmetricKeyHash": "denied:key-hash",
        "receiverPublicKeyHash": "denied:receiver-hash",
    }

    def __init__(self, field: str) -> None:
        self.field = field
        self.audit_outcome = self._OUTCOMES.get(field)
        super().__init__(f"invocation hash mismatch: {field}")


class NonceUsed(RequestError):
    """A create or revoke token carries a nonce that its issuer has used."""

    code = "nonce-used"

    def __init__(self) -> None:
        super().__init__("nonce already used")


class KeyBackendError(RequestError):
    """A wrapped key, a receiver key or a sealed key cannot be used.

    Attributes:
        reason: why; says nothing about any key's value.
    """

    code = "key-backend"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"key backend error: {reason}")
