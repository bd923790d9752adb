"""The base of all errors, and those about a node and what is sealed; `sealspace.errors` has all of
them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:  # a program that only maps errors loads nothing of encryption for them
    from encryption_network.pins import NetworkPin

_NODE_HINTS: Final = {
    "no-tee": "use a node that runs in a trust domain, or do not insist on evidence",
    "node-did": "do not go on: the evidence is another node's",
    "store": "do not go on: the evidence is of another store than expected",
    "secret-origin": (
        "the operator has the root secret: ask for a node whose platform keeps it, or accept"
        " `operator`"
    ),
    "mode": "the node releases keys on other terms than the policy accepts",
    "trust-roots": (
        "the node believes quotes under another root: ask its operator, or accept that root"
    ),
    "node-policy": (
        "the node's operator may approve code in place of an owner: ask for a node where only"
        " owners do"
    ),
    "key-providers": (
        "the node's operator accepts key providers that the policy does not: read which, then"
        " accept them"
    ),
    "measurement": (
        "the node runs other code than was approved: read its source, then approve the new"
        " measurements"
    ),
    "report-data": "do not go on: the quote was made for another request or another node",
    "platform-unknown": (
        "get the collateral of the node's platform family from Intel, and pass it to the verifier"
    ),
    "collateral-window": "get fresh collateral for the node's platform family",
    "untrusted-root": (
        "the quote ends at another root: is this a simulated platform? then name its root"
    ),
}


class SealspaceError(Exception):
    """Base of everything this package raises on purpose.

    Attributes:
        code: the class's name in lower case, with dashes and without `Error`; `sealspace.errors`
            sets it.
        message: what was asked for, and why it was not done.
        hint: what a program does next.
        step: what a person at a command line does next; where nothing else is stated, the hint.
    """

    code: str = "sealspace"
    default_hint: ClassVar[str] = "the message says what is wrong; report it if it does not help"
    default_step: ClassVar[str | None] = None

    def __init__(self, message: str, *, hint: str | None = None, step: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if hint is None:
            hint, step = self.default_hint, step or self.default_step
        self.hint = hint
        self.step = step or hint

    def __str__(self) -> str:
        return f"{self.message}; next: {self.hint}" if self.hint else self.message


class NodeEvidenceRefused(SealspaceError):
    """The node does not prove what this program demands of it; no token was sent to it."""

    default_hint = (
        "do not use this node before its operator has said why; what was found stands in the"
        " message"
    )

    def __init__(self, reason: str, detail: str, *, hint: str | None = None) -> None:
        super().__init__(
            f"the node's evidence is refused ({reason}): {detail}",
            hint=hint or _NODE_HINTS.get(reason),
        )
        self.reason = reason
        self.detail = detail


class SpacesNotHosted(SealspaceError):
    """The node hosts a space of a sign-in neither by itself nor on the owner's word."""

    default_hint = (
        "the node's operator bounds how many spaces an owner has, or lists the owners; ask for room"
    )

    def __init__(self, spaces: tuple[str, ...]) -> None:
        super().__init__(f"the node does not host {', '.join(spaces)}")
        self.spaces = spaces


class TransportError(SealspaceError):
    """No usable answer came from the node."""

    default_hint = "try again; if it stays, ask the operator of the node"


class NodeUnreachable(TransportError):
    """The connection failed or broke off."""

    default_hint = (
        "check the address, whether it is http:// or https://, and that the node is running"
    )


class NodeTimeout(TransportError):
    """The node did not answer in time; whether it acted is not known."""

    default_hint = "read back what was written before repeating it"


class TransferBroken(TransportError):
    """A value's bytes broke off on their way, or are not those that the node announced; none is to
    be used."""

    default_hint = "start the transfer again; nothing was left half written"
    default_step = "start the command again; nothing was left half written"

    def __init__(self, message: str, *, moved_bytes: int) -> None:
        super().__init__(message)
        self.moved_bytes = moved_bytes


class ResponseTooLarge(TransportError):
    """The answer is longer than this client accepts for it."""

    default_hint = "allow more bytes (`max_bytes`), or read the value as a stream"
    default_step = "sealspace kv get KEY --out FILE"


class MalformedAnswer(TransportError):
    """The answer has not the shape that the protocol gives it."""

    default_hint = "is this the address of a sealspace or TinyCloud node?"


class NodeMismatch(TransportError):
    """The node's identity or protocol is not the expected one."""

    default_hint = "do not go on: find out why the node's identity differs, then pin the right one"
    default_step = (
        "do not go on: find out why the node's identity differs; if it was restored as a new one,"
        " sealspace login"
    )


class NodeRefused(SealspaceError):
    """The node answered with an error."""

    default_hint = (
        "the status and the text of the node say why; ask its operator if they do not help"
    )
    reason_in_words: ClassVar[str] = ""

    def __init__(
        self, status: int, text: str, *, hint: str | None = None, problem: str = "", asked: str = ""
    ) -> None:
        answer = (asked, f"node answered {status}", text or self.reason_in_words)
        super().__init__(": ".join(filter(None, answer)), hint=hint)
        self.status = status
        self.text = text
        self.problem = problem
        self.asked = asked
        self.retry_after_s: float | None = None


class Unauthorized(NodeRefused):
    """The node does not accept the authority of the request."""

    default_hint = (
        "check for whom this session acts and what it was granted; sign in again, or ask the owner"
        " for a delegation"
    )
    default_step = (
        "sealspace status says whether the session holds; sealspace login makes a new one"
    )
    reason_in_words = "the authority of the request is not accepted"


class ActionNotAuthorized(Unauthorized):
    """The cited grants do not cover one capability of the request (J8)."""

    default_hint = "ask the owner for a delegation that covers this resource and action"
    default_step = (
        "ask the owner for a grant that covers it, or log in as the owner: sealspace login"
    )

    def __init__(
        self, status: int, text: str, *, resource: str, action: str, asked: str = ""
    ) -> None:
        super().__init__(status, text, asked=asked)
        self.resource = resource
        self.action = action


class DelegationRevoked(Unauthorized):
    """A delegation that the request rests on has been revoked."""

    default_hint = "revocation is final: ask the owner for a new delegation"
    default_step = "it was revoked for good: ask its owner for a new grant"

    def __init__(self, status: int, text: str, *, cid: str, asked: str = "") -> None:
        super().__init__(status, text, asked=asked)
        self.cid = cid


class TokenOutsideWindow(Unauthorized):
    """The token or the delegation is expired, not yet valid, or lives longer than the node
    allows."""

    default_hint = default_step = (
        "check this machine's clock; if the delegation has ended, ask for a new one"
    )


class ReleaseRefused(Unauthorized):
    """The release gate withholds the key: evidence is missing, stale, or not what the owner
    approved."""

    default_hint = "attest first; if the reason stays, the owner has not approved this measurement"
    default_step = (
        "grant it to a backend that proves its code: sealspace backend grant URL; people read each"
        " other's secrets only where the node's operator allows it: sealspace admin release set"
        " --attestation off"
    )

    def __init__(self, status: int, text: str, *, reason: str, asked: str = "") -> None:
        super().__init__(status, text, asked=asked)
        self.reason = reason


class AttestationRefused(NodeRefused):
    """The node did not accept an attestation; `problem` says why."""

    default_hint = (
        "ask for a new challenge and a new quote; a challenge serves once and for minutes"
    )


class NotFound(NodeRefused):
    """Nothing exists under that name."""

    default_hint = "nothing is stored under this name here; a list of the space shows what is"
    reason_in_words = "nothing is there"

    def restate(self, missing: str, *, hint: str) -> None:
        """Say what is missing in the words of the call, in place of those of the request."""
        self.message, self.hint = f"there is no {missing}", hint
        self.args = (self.message,)


class SpaceNotFound(NotFound):
    """The space is not hosted on this node."""

    default_hint = "the owner hosts a space by signing in to it"
    default_step = "sealspace space list; sealspace space create NAME makes one"


class DuplicateRequest(NodeRefused):
    """The token of this request was used before, or what should be created exists."""

    default_hint = "make the request anew; a token serves once"
    reason_in_words = "it was done or used before"


class PreconditionFailed(NodeRefused):
    """The stored value is not the one the condition names, or a rival write won."""

    default_hint = "read the value again and decide anew"
    default_step = "somebody else wrote it meanwhile: look at it, then start the command again"
    reason_in_words = "the stored value is not the one that the condition names"


class QuotaExceeded(NodeRefused):
    """The space is full."""

    default_hint = "delete values of the space, or ask the operator of the node for more room"
    reason_in_words = "the space is full"


class ValueTooLarge(NodeRefused):
    """The value is larger than the node or the request allows."""

    default_hint = (
        "allow more bytes (`max_bytes`), read the value as a stream, or write a smaller one"
    )
    default_step = "sealspace kv get KEY --out FILE, or store less"
    reason_in_words = "the value is too large"


class RateLimited(NodeRefused):
    """Too many requests from this client."""

    default_hint = "wait a minute"
    reason_in_words = "too many requests"


class NodeFailure(NodeRefused):
    """The node failed; whether it acted is not known unless the status is 503."""

    default_hint = "try again in a minute; read back what was written before repeating it"
    reason_in_words = "the node failed"


class EncryptionError(SealspaceError):
    """Base of what goes wrong between envelope, network and plaintext."""

    default_hint = "do not use what was read; ask the owner to store it again"


class NetworkNotFound(EncryptionError):
    """The encryption network does not exist on this node."""

    default_hint = "the owner creates it: client.encryption.ensure_network()"
    default_step = "sealspace network create NAME"


@contextmanager
def about_network(network: str) -> Iterator[None]:
    """Turn a NotFound of the node's into NetworkNotFound."""
    try:
        yield
    except NotFound as exc:
        raise NetworkNotFound(f"no network {network} on this node") from exc


class NetworkNotActive(EncryptionError):
    """The encryption network exists, but is revoked or not usable."""

    default_hint = (
        "a revoked network stays revoked: the owner makes a new one and seals the values anew"
    )

    def __init__(self, state: str) -> None:
        super().__init__(f"the network is not active (state: {state})")
        self.state = state


class NetworkKeyChanged(EncryptionError):
    """A network has another key than the one that this session sealed to before; nothing was
    sealed."""

    default_hint = (
        "seal nothing until the node's operator has said why the key changed; if it is right, "
        "`client.encryption.accept(error.offered)`, or sign in anew (`sealspace login`)"
    )
    default_step = (
        "seal nothing until the node's operator has said why the key changed; if it is right:"
        " sealspace login"
    )

    def __init__(self, pinned: "NetworkPin", offered: "NetworkPin") -> None:
        super().__init__(
            f"the key of {pinned.network} changed from version {pinned.key_version}"
            f" ({pinned.fingerprint}) to version {offered.key_version} ({offered.fingerprint})"
        )
        self.pinned = pinned
        self.offered = offered


class DescriptorUnsigned(EncryptionError):
    """The node did not sign the network's key, so any party on the way could have inserted it;
    nothing was sealed."""

    default_hint = (
        "is this the node's own address, and its version current? for a node that cannot sign, on a"
        " way that you trust: Client(…, unsigned_descriptors=True)"
    )
    default_step = "is this the node's own address, and its version current? sealspace status"


class InvalidEnvelope(EncryptionError):
    """The stored value is not an inline envelope."""

    default_hint = (
        "the value is not a secret of this convention; the owner should store the secret again"
    )


class LabelMismatch(EncryptionError):
    """The envelope's label names another place than the one it was read from."""

    default_hint = "somebody moved the envelope; the owner should store the secret again"


class DecryptDenied(EncryptionError):
    """The node does not release the key."""

    def __init__(self, refusal: Unauthorized) -> None:
        super().__init__(
            f"the node does not release the key: {refusal.message}",
            hint=refusal.hint,
            step=refusal.step,
        )
        self.refusal = refusal


class InvalidResponse(EncryptionError):
    """The node's answer to a decrypt request is unusable, or local decryption failed."""

    default_hint = "do not use the answer; if it stays, the owner should store the secret again"


class ResponseBindingMismatch(EncryptionError):
    """The node's answer belongs to another request."""

    default_hint = "do not use the answer: it was made for another request or another node"

    def __init__(self, field: str) -> None:
        super().__init__(f"the answer does not belong to this request: {field} differs")
        self.field = field


class ResponseSignatureInvalid(EncryptionError):
    """The node's signature over its answer does not verify."""

    default_hint = "do not use the answer: it does not come from the node it names"


class InvalidSecretPayload(EncryptionError):
    """The opened plaintext is not the payload of a secret."""

    default_hint = "the owner should store the secret again, with a current client"
