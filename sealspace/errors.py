"""What can go wrong when a program uses a node, one class for each thing that can be wrong.

    SealspaceError
    ├── InvalidInput                    the caller's own argument breaks a rule; nothing was sent
    │   ├── InvalidSecretName
    │   ├── InvalidSecretScope
    │   ├── InvalidNetworkId
    │   ├── InvalidPolicy
    │   ├── InvalidPortableDelegation
    │   ├── InvalidSession
    │   └── ManifestInvalid
    ├── NotGranted                      no grant of the session covers the request; nothing was sent
    ├── SessionExpired
    ├── NodeEvidenceRefused             the node's own evidence is not good enough (reason); no token was sent
    ├── SpacesNotHosted                 the node does not host a space that was signed in to (spaces)
    ├── TransportError                  no usable answer came
    │   ├── NodeUnreachable
    │   ├── NodeTimeout
    │   ├── ResponseTooLarge
    │   ├── MalformedAnswer
    │   └── NodeMismatch                the node is not the one that was pinned, or speaks another protocol
    ├── NodeRefused                     the node answered with an error (status, text)
    │   ├── Unauthorized                401 or 403
    │   │   ├── ActionNotAuthorized     the grant does not cover it (resource, action)
    │   │   ├── DelegationRevoked       a delegation in the chain was revoked
    │   │   ├── TokenOutsideWindow      the token or the delegation is not valid at this time
    │   │   └── ReleaseRefused          the release gate requires evidence that is missing or does not fit (reason)
    │   ├── AttestationRefused          the node did not accept a quote, a nonce or what came with them (problem)
    │   ├── NotFound                    404
    │   │   └── SpaceNotFound           the space is not hosted
    │   ├── DuplicateRequest            409, this token was used before
    │   ├── PreconditionFailed          412, or a lost race under a condition
    │   ├── QuotaExceeded               402
    │   ├── ValueTooLarge               413
    │   ├── RateLimited                 429
    │   └── NodeFailure                 5xx
    ├── BackendError                    a backend, or what it says of itself, is not to be granted to
    │   ├── BackendUnreachable
    │   ├── BackendAnswerInvalid        its answer is cut off, too long, or of another shape
    │   ├── BackendNotProven            its evidence does not hold (problem)
    │   ├── CollateralNeeded            no collateral, or a stale one, to judge its quote by (problem)
    │   ├── BackendNotExpected          it runs other code than was expected
    │   ├── BackendNotAcceptable        the node would refuse it under the strict terms (problem)
    │   ├── GrantNotTaken               it did not take up a grant
    │   └── GrantsFull                  it holds as many grants as it can
    ├── ReceiptInvalid                  a receipt, or a document it names, is not what it says
    └── EncryptionError
        ├── NetworkNotFound
        ├── NetworkNotActive            (state)
        ├── NetworkKeyChanged           another key than this session used before (pinned, offered)
        ├── DescriptorUnsigned          the node did not sign what would be sealed to
        ├── InvalidEnvelope
        ├── LabelMismatch               the envelope was written for another place
        ├── DecryptDenied               wraps the refusal that came
        ├── InvalidResponse
        ├── ResponseBindingMismatch     (field)
        ├── ResponseSignatureInvalid
        └── InvalidSecretPayload

Every class has a stable `code`; every error has a `hint`, which says what to do next. No text holds a token, a key or
a secret value.
"""

from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:  # a program that only maps errors loads nothing of encryption for them
    from .network_pins import NetworkPin


class SealspaceError(Exception):
    """Base of everything this package raises on purpose.

    Attributes:
        code: stable name of the kind of error.
        hint: one sentence that says what to do next; may be empty.
    """

    code: ClassVar[str] = "sealspace"
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = self.default_hint if hint is None else hint


class InvalidInput(SealspaceError):
    """An argument breaks a rule; nothing was sent."""

    code = "invalid-input"


class InvalidSecretName(InvalidInput):
    """A secret's name does not match `^[A-Z][A-Z0-9_]*$`."""

    code = "invalid-secret-name"
    default_hint = "capitals, digits and underscores, a capital first: API_KEY"


class InvalidSecretScope(InvalidInput):
    """A secret's scope is empty, reserved, or nothing is left of it."""

    code = "invalid-secret-scope"


class InvalidNetworkId(InvalidInput):
    """A text is not the id of an encryption network."""

    code = "invalid-network-id"


class InvalidPolicy(InvalidInput):
    """An attestation policy says something the node could not judge by."""

    code = "invalid-policy"


class InvalidPortableDelegation(InvalidInput):
    """A portable delegation cannot be read, is for another key, or has expired."""

    code = "invalid-portable-delegation"


class InvalidSession(InvalidInput):
    """A stored session cannot be read."""

    code = "invalid-session"


class ManifestInvalid(InvalidInput):
    """An app manifest breaks a rule; the message names the member."""

    code = "manifest-invalid"


class NotGranted(SealspaceError):
    """No grant of the session covers what was asked for; nothing was sent."""

    code = "not-granted"
    default_hint = "sign in with it (own spaces: `SignIn(spaces=…)`), or take up a delegation that holds it"


class SessionExpired(SealspaceError):
    """The session's own delegation has ended, or ends within the minute."""

    code = "session-expired"
    default_hint = "sign in again"


_NODE_HINTS: Final = {
    "no-tee": "use a node that runs in a trust domain, or do not insist on evidence",
    "node-did": "do not go on: the evidence is another node's",
    "store": "do not go on: the evidence is of another store than expected",
    "secret-origin": "the operator has the root secret: ask for a node whose platform keeps it, or accept `operator`",
    "mode": "the node releases keys on other terms than the policy accepts",
    "trust-roots": "the node believes quotes under another root: ask its operator, or accept that root",
    "node-policy": "the node's operator may approve code in place of an owner: ask for a node where only owners do",
    "key-providers": "the node's operator accepts key providers that the policy does not: read which, then accept them",
    "measurement": "the node runs other code than was approved: read its source, then approve the new measurements",
    "report-data": "do not go on: the quote was made for another request or another node",
    "platform-unknown": "get the collateral of the node's platform family from Intel, and pass it to the verifier",
    "collateral-window": "get fresh collateral for the node's platform family",
    "untrusted-root": "the quote ends at another root: is this a simulated platform? then name its root",
}


class NodeEvidenceRefused(SealspaceError):
    """The node does not prove what this program demands of it; no token was sent to it.

    Attributes:
        reason: stable name of what does not hold: "no-tee", "malformed", "node-did", "store", "secret-origin", "mode",
            "trust-roots", "node-policy", "key-providers", a code of `tee_backend.attestation.errors`, or what a policy
            refuses evidence for.
        detail: what was found, for a person.
    """

    code = "node-evidence-refused"

    def __init__(self, reason: str, detail: str, *, hint: str | None = None) -> None:
        super().__init__(f"the node's evidence is refused ({reason}): {detail}", hint=hint or _NODE_HINTS.get(reason))
        self.reason = reason
        self.detail = detail


class SpacesNotHosted(SealspaceError):
    """The node hosts a space of a sign-in neither by itself nor on the owner's word.

    Attributes:
        spaces: ids of those spaces.
    """

    code = "spaces-not-hosted"
    default_hint = "the node's operator bounds how many spaces an owner has, or lists the owners; ask for room"

    def __init__(self, spaces: tuple[str, ...]) -> None:
        super().__init__(f"the node does not host {', '.join(spaces)}")
        self.spaces = spaces


class TransportError(SealspaceError):
    """No usable answer came from the node."""

    code = "transport"


class NodeUnreachable(TransportError):
    """The connection failed or broke off."""

    code = "node-unreachable"
    default_hint = "check the address, whether it is http:// or https://, and that the node is running"


class NodeTimeout(TransportError):
    """The node did not answer in time; whether it acted is not known."""

    code = "node-timeout"
    default_hint = "read back what was written before repeating it"


class ResponseTooLarge(TransportError):
    """The answer is longer than this client accepts for it."""

    code = "response-too-large"


class MalformedAnswer(TransportError):
    """The answer has not the shape that the protocol gives it."""

    code = "malformed-answer"
    default_hint = "is this the address of a sealspace or TinyCloud node?"


class NodeMismatch(TransportError):
    """The node's identity or protocol is not the expected one."""

    code = "node-mismatch"
    default_hint = "do not go on: find out why the node's identity differs, then pin the right one"


class NodeRefused(SealspaceError):
    """The node answered with an error.

    Attributes:
        status: HTTP status.
        text: the node's own text, at most 2,000 characters; empty for a framework page.
        problem: stable `code` of the node's problem document; empty where the route answers plain text.
        retry_after_s: seconds after which another try may succeed, according to the node; None: it did not say.
    """

    code = "node-refused"

    def __init__(self, status: int, text: str, *, hint: str | None = None, problem: str = "") -> None:
        super().__init__(f"node answered {status}: {text}" if text else f"node answered {status}", hint=hint)
        self.status = status
        self.text = text
        self.problem = problem
        self.retry_after_s: float | None = None


class Unauthorized(NodeRefused):
    """The node does not accept the authority of the request."""

    code = "unauthorized"


class ActionNotAuthorized(Unauthorized):
    """The cited grants do not cover one capability of the request (J8).

    Attributes:
        resource: the resource that is not covered, as the node printed it.
        action: the ability that is not covered.
    """

    code = "action-not-authorized"
    default_hint = "ask the owner for a delegation that covers this resource and action"

    def __init__(self, status: int, text: str, *, resource: str, action: str) -> None:
        super().__init__(status, text)
        self.resource = resource
        self.action = action


class DelegationRevoked(Unauthorized):
    """A delegation that the request rests on has been revoked.

    Attributes:
        cid: id of the revoked delegation, as the node printed it.
    """

    code = "delegation-revoked"
    default_hint = "revocation is final: ask the owner for a new delegation"

    def __init__(self, status: int, text: str, *, cid: str) -> None:
        super().__init__(status, text)
        self.cid = cid


class TokenOutsideWindow(Unauthorized):
    """The token or the delegation is expired, not yet valid, or lives longer than the node allows."""

    code = "token-outside-window"
    default_hint = "check this machine's clock; if the delegation has ended, ask for a new one"


class ReleaseRefused(Unauthorized):
    """The release gate withholds the key: evidence is missing, stale, or not what the owner approved.

    Attributes:
        reason: the gate's coarse reason, for example `no_policy`.
    """

    code = "release-refused"
    default_hint = "attest first; if the reason stays, the owner has not approved this measurement"

    def __init__(self, status: int, text: str, *, reason: str) -> None:
        super().__init__(status, text)
        self.reason = reason


class AttestationRefused(NodeRefused):
    """The node did not accept an attestation; `problem` says why."""

    code = "attestation-refused"
    default_hint = "ask for a new challenge and a new quote; a challenge serves once and for minutes"


class NotFound(NodeRefused):
    """Nothing exists under that name."""

    code = "not-found"
    default_hint = "nothing is stored under this name here; a list of the space shows what is"


class SpaceNotFound(NotFound):
    """The space is not hosted on this node."""

    code = "space-not-found"
    default_hint = "the owner hosts a space by signing in to it"


class DuplicateRequest(NodeRefused):
    """The token of this request was used before, or what should be created exists."""

    code = "duplicate-request"
    default_hint = "make the request anew; a token serves once"


class PreconditionFailed(NodeRefused):
    """The stored value is not the one the condition names, or a rival write won."""

    code = "precondition-failed"
    default_hint = "read the value again and decide anew"


class QuotaExceeded(NodeRefused):
    """The space is full."""

    code = "quota-exceeded"


class ValueTooLarge(NodeRefused):
    """The value is larger than the node or the request allows."""

    code = "value-too-large"


class RateLimited(NodeRefused):
    """Too many requests from this client."""

    code = "rate-limited"
    default_hint = "wait a minute"


class NodeFailure(NodeRefused):
    """The node failed; whether it acted is not known unless the status is 503."""

    code = "node-failure"


class BackendError(SealspaceError):
    """A backend must not be granted to, as far as this client can judge."""

    code = "backend"


class BackendUnreachable(BackendError):
    """The connection to a backend failed, broke off or took too long."""

    code = "backend-unreachable"
    default_hint = "check the address and that the backend is running, then ask again"


class BackendAnswerInvalid(BackendError):
    """The server is not a backend, or its answer is cut off, too long, or of another shape."""

    code = "backend-answer-invalid"
    default_hint = "ask again; if it stays, ask the backend's operator whether this is its address"


class BackendNotProven(BackendError):
    """The evidence does not hold: quote, event log, or what they are bound to.

    Attributes:
        problem: stable name of what does not hold, as nodes name it: `report-data`, `td-attributes`, …
    """

    code = "backend-not-proven"
    default_hint = "do not grant: ask the backend's operator why its evidence does not hold"

    def __init__(self, message: str, *, problem: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.problem = problem


class CollateralNeeded(BackendError):
    """There is nothing current to judge the backend's platform by.

    Attributes:
        problem: stable name of what is wrong with it: `collateral-missing`, `collateral-window`, …
    """

    code = "collateral-needed"
    default_hint = "get current collateral for the platform family, then look again"

    def __init__(self, message: str, *, problem: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.problem = problem


class BackendNotExpected(BackendError):
    """The evidence holds, and is about other code than was expected."""

    code = "backend-not-expected"
    default_hint = "do not grant: this is not the code you meant; find out what changed, and expect that if it is right"


class BackendNotAcceptable(BackendError):
    """A grant on the strict terms would open nothing: the node would refuse this backend.

    Attributes:
        problem: what the node would refuse it for: `tcb_status`, `advisory`, `attributes`, …
    """

    code = "backend-not-acceptable"

    def __init__(self, message: str, *, problem: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.problem = problem


class GrantNotTaken(BackendError):
    """The backend did not take up a grant that is registered at the node."""

    code = "grant-not-taken"
    default_hint = "the grant stands: hand it to the backend another way, or revoke it"


class GrantsFull(BackendError):
    """The backend holds as many grants of this owner, or in all, as it can, and something was read from each."""

    code = "grants-full"
    default_hint = "revoke grants to it that are not needed any more, and wait until they have ended"


class ReceiptInvalid(SealspaceError):
    """A receipt or a document is not what it says: changed, of another node, or of another release."""

    code = "receipt-invalid"
    default_hint = "fetch it again; if it stays, keep both copies and ask the node's operator"


class EncryptionError(SealspaceError):
    """Base of what goes wrong between envelope, network and plaintext."""

    code = "encryption"


class NetworkNotFound(EncryptionError):
    """The encryption network does not exist on this node."""

    code = "network-not-found"
    default_hint = "the owner creates it: client.encryption.ensure_network()"


class NetworkNotActive(EncryptionError):
    """The encryption network exists, but is revoked or not usable.

    Attributes:
        state: the state in its descriptor.
    """

    code = "network-not-active"

    def __init__(self, state: str) -> None:
        super().__init__(f"the network is not active (state: {state})")
        self.state = state


class NetworkKeyChanged(EncryptionError):
    """A network has another key than the one that this session sealed to before; nothing was sealed.

    Attributes:
        pinned: the key that the session pinned for the network.
        offered: the key that the node states now.
    """

    code = "network-key-changed"
    default_hint = (
        "seal nothing until the node's operator has said why the key changed; if it is right, "
        "`client.encryption.accept(error.offered)`, or sign in anew (`sealspace login`)"
    )

    def __init__(self, pinned: "NetworkPin", offered: "NetworkPin") -> None:
        super().__init__(
            f"the key of {pinned.network} changed from version {pinned.key_version} ({pinned.fingerprint}) "
            f"to version {offered.key_version} ({offered.fingerprint})"
        )
        self.pinned = pinned
        self.offered = offered


class DescriptorUnsigned(EncryptionError):
    """The node did not sign the network's key, so any party on the way could have inserted it; nothing was sealed."""

    code = "descriptor-unsigned"
    default_hint = (
        "is this the node's own address, and its version current? for a node that cannot sign, on a way that you "
        "trust: Client(…, unsigned_descriptors=True)"
    )


class InvalidEnvelope(EncryptionError):
    """The stored value is not an inline envelope."""

    code = "invalid-envelope"


class LabelMismatch(EncryptionError):
    """The envelope's label names another place than the one it was read from."""

    code = "label-mismatch"
    default_hint = "somebody moved the envelope; the owner should store the secret again"


class DecryptDenied(EncryptionError):
    """The node does not release the key.

    Attributes:
        refusal: what the node answered; `ReleaseRefused` when the gate decided.
    """

    code = "decrypt-denied"

    def __init__(self, refusal: Unauthorized) -> None:
        super().__init__(f"the node does not release the key: {refusal}", hint=refusal.hint)
        self.refusal = refusal


class InvalidResponse(EncryptionError):
    """The node's answer to a decrypt request is unusable, or local decryption failed."""

    code = "invalid-response"


class ResponseBindingMismatch(EncryptionError):
    """The node's answer belongs to another request.

    Attributes:
        field: the first member that differs.
    """

    code = "response-binding-mismatch"
    default_hint = "do not use the answer: it was made for another request or another node"

    def __init__(self, field: str) -> None:
        super().__init__(f"the answer does not belong to this request: {field} differs")
        self.field = field


class ResponseSignatureInvalid(EncryptionError):
    """The node's signature over its answer does not verify."""

    code = "response-signature-invalid"
    default_hint = "do not use the answer: it does not come from the node it names"


class InvalidSecretPayload(EncryptionError):
    """The opened plaintext is not the payload of a secret."""

    code = "invalid-secret-payload"
