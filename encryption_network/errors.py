"""Everything this package can raise.

    EncryptionError
    ├── RootSecretTooShort          the root secret has fewer than 32 bytes
    ├── InvalidCanonicalJson        a value has no canonical form
    ├── EnvelopeError               an inline envelope is malformed or does not open
    ├── DescriptorError             a network descriptor is malformed, or the node's signature does not hold
    ├── RecordError                 a stored row of this package cannot be read
    ├── PolicyError                 an attestation policy is malformed
    ├── WithdrawalError             what somebody wants withdrawn is malformed, or the list is full
    ├── ReceiptError                a receipt is malformed, or its signature does not hold
    ├── ReleaseRefused              the gate refuses a release; `reason` is the coarse cause
    └── RequestError                one row of the request ladders
        ├── BodyNotJson             BodyTooLarge            BodyMalformed           CreateBodyMalformed
        ├── InvalidNetworkId        NetworkNotFound         NetworkExists
        ├── NetworkRevoked          NetworkNotActive        MultipleNetworks
        ├── AudienceMismatch        TargetNodeMismatch      TypeMismatch
        ├── NetworkMismatch         ActionNotPermitted      VersionMismatch
        ├── NotYetValid             Expired                 InvalidBase64
        ├── HashMismatch            NonceUsed               DuplicateInvocation
        └── KeyBackendError         unwrapping or wrapping failed

The texts and statuses of `RequestError` are the wire's: an error carries one text and status for the dedicated
`/encryption` routes and one for `/invoke`, because the same condition is answered differently there
(enc 2.5, 2.7).
"""

from typing import ClassVar


class EncryptionError(Exception):
    """Base of all errors of this package.

    Attributes:
        code: stable name of the condition, for logs, metrics and problem documents.
        status_dedicated: HTTP status on the `/encryption` routes.
        status_invoke: HTTP status on `/invoke`.
    """

    code: ClassVar[str] = "encryption"
    status_dedicated: ClassVar[int] = 500
    status_invoke: ClassVar[int] = 403

    @property
    def text(self) -> str:
        """The wire text on the `/encryption` routes; never holds a key, a token or a plaintext."""
        return str(self)

    @property
    def invoke_text(self) -> str:
        """The wire text on `/invoke`."""
        return self.text


class RootSecretTooShort(EncryptionError):
    """The root secret has fewer than 32 bytes."""

    code = "root-secret-too-short"

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        super().__init__(f"root secret has {size_bytes} bytes, at least 32 are needed")


class InvalidCanonicalJson(EncryptionError):
    """A value cannot be written as canonical JSON (not finite, or text that is not Unicode)."""

    code = "invalid-canonical-json"
    status_dedicated = 400


class EnvelopeError(EncryptionError):
    """An inline envelope is malformed, or its ciphertext does not open."""

    code = "invalid-envelope"
    status_dedicated = 400


class DescriptorError(EncryptionError):
    """A network descriptor is malformed, or the node's signature over it does not hold."""

    code = "invalid-descriptor"
    status_dedicated = 400


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
    status_dedicated = 400

    def __init__(self, member: str, reason: str) -> None:
        self.member = member
        self.reason = reason
        super().__init__(
            f"invalid attestation policy: {member}: {reason}" if member else f"invalid attestation policy: {reason}"
        )


class WithdrawalError(EncryptionError):
    """What somebody wants withdrawn is malformed, or the list has no room for it."""

    code = "invalid-withdrawal"
    status_dedicated = 400

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"invalid withdrawal: {reason}")


class ReceiptError(EncryptionError):
    """A receipt is malformed, or its signature does not hold."""

    code = "invalid-receipt"
    status_dedicated = 400

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"invalid receipt: {reason}")


class ReleaseRefused(EncryptionError):
    """The gate refuses to release a key.

    Attributes:
        reason: the coarse cause, one of `gate.REASONS`; all that the caller learns.
        detail: the full cause, for the audit record and the log.
    """

    code = "release-refused"
    status_dedicated = 401
    status_invoke = 403

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
    status_dedicated = 401
    audit_outcome: str | None = None


class BodyNotJson(RequestError):
    """The body is no JSON text.

    On the dedicated routes the answer is the framework's page for the status, on `/invoke` the parser's text.
    """

    code = "body-not-json"
    status_dedicated = 400
    status_invoke = 400


class BodyTooLarge(RequestError):
    """The body is longer than the limit; on `/invoke` it is cut there and so is no JSON."""

    code = "body-too-large"
    status_dedicated = 413
    status_invoke = 400

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        super().__init__(f"EOF while parsing a body of more than {limit_bytes} bytes")


class BodyMalformed(RequestError):
    """A body, a fact or a query has the wrong shape."""

    code = "body-malformed"
    status_dedicated = 400

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"decrypt request body is malformed: {reason}")


class CreateBodyMalformed(RequestError):
    """The body of a create request has the wrong shape; the text is the bare reason (enc 2.5 row 5)."""

    code = "create-body-malformed"
    status_dedicated = 400


class InvalidNetworkId(RequestError):
    """A network id, or the owner and name of one, is malformed; the text says how (enc 1.1)."""

    code = "invalid-network-id"
    status_dedicated = 400


class NetworkNotFound(RequestError):
    """No such network here."""

    code = "network-not-found"
    status_dedicated = 404

    def __init__(self) -> None:
        super().__init__("network not found")


class NetworkExists(RequestError):
    """The id is taken, be the network active or revoked."""

    code = "network-exists"
    status_dedicated = 409
    status_invoke = 409

    def __init__(self) -> None:
        super().__init__("network already exists")


class NetworkRevoked(RequestError):
    """The network has been revoked; its keys stay closed."""

    code = "network-revoked"
    audit_outcome = "denied:revoked"

    def __init__(self) -> None:
        super().__init__("network has been revoked")

    @property
    def invoke_text(self) -> str:
        """The wire text on `/invoke`, which knows only the state."""
        return "network is not active (state: revoked)"


class NetworkNotActive(RequestError):
    """The network is in another state than active or revoked."""

    code = "network-not-active"
    status_dedicated = 409
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

    @property
    def invoke_text(self) -> str:
        """The wire text on `/invoke`."""
        return "invocation type is not a decrypt invocation"


class TargetNodeMismatch(RequestError):
    """Body or fact names another node."""

    code = "target-node-mismatch"
    audit_outcome = "denied:target-node"

    def __init__(self) -> None:
        super().__init__("invocation target node does not match this node")

    @property
    def invoke_text(self) -> str:
        """The wire text on `/invoke`."""
        return "invocation type is not a decrypt invocation"


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
    """The token's `nbf` lies ahead."""

    code = "not-yet-valid"

    def __init__(self) -> None:
        super().__init__("invocation not yet valid")


class Expired(RequestError):
    """The token's `exp` lies behind, or further ahead than a decrypt token may live."""

    code = "expired"

    def __init__(self) -> None:
        super().__init__("invocation expired")


class InvalidBase64(RequestError):
    """A key field is not canonical standard base64 with padding."""

    code = "invalid-base64"
    status_dedicated = 400

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

    @property
    def invoke_text(self) -> str:
        """The wire text on `/invoke`, which names one field whatever differs."""
        return "invocation hash mismatch: bodyHash"


class NonceUsed(RequestError):
    """A create or revoke token carries a nonce that its issuer has used."""

    code = "nonce-used"

    def __init__(self) -> None:
        super().__init__("nonce already used")


class DuplicateInvocation(RequestError):
    """The token has been used before, on either route."""

    code = "duplicate-invocation"
    status_dedicated = 409
    status_invoke = 409

    def __init__(self) -> None:
        super().__init__("duplicate invocation")


class KeyBackendError(RequestError):
    """A wrapped key, a receiver key or a sealed key cannot be used.

    Attributes:
        reason: why; says nothing about any key's value.
    """

    code = "key-backend"
    status_dedicated = 500

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"key backend error: {reason}")
