"""Exceptions about encryption networks and key releases.

The texts of `RequestError` are those of the `/encryption` routes on the wire. The node's table of
refusals has a row for each code: it defines the status, and the report on `/invoke` (enc 2.5, 2.7).
"""


class EncryptionError(Exception):
    """Base class of all errors about encryption networks."""

    code = "encryption"

    @property
    def text(self) -> str:
        """The error message sent by the `/encryption` routes.

        It contains no key, token or plaintext.
        """
        return str(self)


class RootSecretTooShort(EncryptionError):
    """The root secret has fewer than 32 bytes."""

    code = "root-secret-too-short"


class InvalidCanonicalJson(EncryptionError):
    """The value cannot be encoded as canonical JSON.

    For example, a number must be finite.
    """

    code = "invalid-canonical-json"


class EnvelopeError(EncryptionError):
    """An envelope is malformed or cannot be decrypted."""

    code = "invalid-envelope"


class DescriptorError(EncryptionError):
    """A network descriptor or its signature is invalid."""

    code = "invalid-descriptor"


class RecordError(EncryptionError):
    """A stored row cannot be parsed."""

    code = "invalid-record"


class PolicyError(EncryptionError):
    """An attestation policy is malformed or too permissive."""

    code = "invalid-policy"

    def __init__(self, member: str, reason: str) -> None:
        self.reason = reason
        place = f"{member}: " if member else ""
        super().__init__(f"invalid attestation policy: {place}{reason}")


class WithdrawalError(EncryptionError):
    """A request to withdraw trust is invalid.

    The error is also raised when the list of withdrawals is full.
    """

    code = "invalid-withdrawal"

    def __init__(self, reason: str) -> None:
        super().__init__(f"invalid withdrawal: {reason}")


class ReceiptError(EncryptionError):
    """A receipt or its signature is invalid."""

    code = "invalid-receipt"

    def __init__(self, reason: str) -> None:
        super().__init__(f"invalid receipt: {reason}")


class ReleaseRefused(EncryptionError):
    """The node refuses to release a key."""

    code = "release-refused"

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"release refused: {reason}")


TEXTS = {
    # The body is not JSON; the message is the parser's.
    "body-not-json": "{}",
    # The body is longer than the limit. `/invoke` reads up to the limit, where the JSON is
    # incomplete.
    "request-too-large": "EOF while parsing a body of more than {} bytes",
    # A body, a fact or a query has the wrong shape.
    "body-malformed": "decrypt request body is malformed: {}",
    # The body of a create request has the wrong shape; the text is the bare reason (enc 2.5 row 5).
    "create-body-malformed": "{}",
    # A network id, or the owner and name of one, is malformed; the text says how (enc 1.1).
    "invalid-network-id": "{}",
    # This node has no such network.
    "network-not-found": "network not found",
    # The id is taken, whether the network is active or revoked.
    "network-exists": "network already exists",
    # The network has been revoked; its keys stay closed.
    "network-revoked": "network has been revoked",
    # The network is in another state than active or revoked.
    "network-not-active": "network is not active (state: {})",
    # The decrypt capabilities of one token name several networks.
    "multiple-networks": "decrypt invocation contains multiple networks",
    # Body or fact is of another type than the request needs.
    "type-mismatch": "invocation type is not a decrypt invocation",
    # The token is addressed to another audience than this node.
    "audience-mismatch": "invocation audience does not match this node",
    # Body or fact names another node.
    "target-node-mismatch": "invocation target node does not match this node",
    # Path, body, fact and capability do not name one network.
    "network-mismatch": "invocation references a different network",
    # The token holds no capability for the action, or its fact names another one.
    "action-not-permitted": "decrypt action not permitted",
    # Algorithm or key version differ from the network's.
    "version-mismatch": "invocation alg / key version does not match network",
    # The token's `nbf` is in the future.
    "not-yet-valid": "invocation not yet valid",
    # The token's `exp` is in the past, or further ahead than the longest lifetime of a decrypt
    # token.
    "expired": "invocation expired",
    # A key field is not canonical standard base64 with padding.
    "invalid-base64": "hex decode error: invalid base64",
    # A stated hash differs from the recomputed one.
    "hash-mismatch": "invocation hash mismatch: {}",
    # A create or revoke token has a nonce that its issuer used before.
    "nonce-used": "nonce already used",
    # A statement of the owner about the network's next key is not valid for this change.
    "key-statement-refused": "the statement about the network's key is refused: {}",
    # The network's key was replaced meanwhile, or there is no candidate for the next version.
    "key-version-changed": "the network's key cannot be replaced: {}",
    # The version of the network's key cannot be retired.
    "key-version-kept": "the version of the network's key cannot be retired: {}",
    # A wrapped key, a receiver key or a sealed key cannot be used.
    "key-backend": "key backend error: {}",
}
"""The error message for each error code, as the `/encryption` routes send it (enc 2.5, 2.7)."""

_OUTCOMES = {
    "network-revoked": "denied:revoked",
    "network-not-active": "denied:state",
    "audience-mismatch": "denied:audience",
    "target-node-mismatch": "denied:target-node",
    "bodyHash": "denied:body-hash",
    "encryptedSymmetricKeyHash": "denied:key-hash",
    "receiverPublicKeyHash": "denied:receiver-hash",
}


class RequestError(EncryptionError):
    """A request to an encryption network is invalid.

    The error is also raised when a key cannot be used.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        self.code = code
        self.detail = detail
        self.audit_outcome = _OUTCOMES.get(detail if code == "hash-mismatch" else code)
        super().__init__(TEXTS[code].format(detail))
