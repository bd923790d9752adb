"""Exceptions for failed requests, failed encryption and local copies.

`sealspace.errors` exports all of these classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:  # importing only the errors must not load the encryption library
    from encryption_network.pins import NetworkPin

_NODE_HINTS = {
    "no-tee": "use a node that runs in a trust domain, or do not require evidence",
    "node-did": "do not use this node: the evidence belongs to another one",
    "store": "do not use this node: the evidence names a different store than expected",
    "secret-origin": (
        "use a node whose platform provides the root secret, or accept `operator` if its operator"
        " may know the secret"
    ),
    "mode": "use a node in an accepted release mode, or accept this mode in the policy",
    "trust-roots": (
        "ask the node's operator why the node trusts another root certificate, or accept that root"
    ),
    "node-policy": (
        "use a node where only owners approve code, or accept that this node's operator may do so"
        " too"
    ),
    "key-providers": (
        "check the key providers that the node accepts, then accept them in the policy too"
    ),
    "measurement": (
        "read the source of the code that the node runs, then approve its measurements"
    ),
    "report-data": "do not use this node: the quote answers another request or is another node's",
    "platform-unknown": (
        "get the collateral of the node's platform family from Intel, and pass it to the verifier"
    ),
    "collateral-window": "get current collateral for the node's platform family",
    "untrusted-root": "if this is a simulated platform, pass its root certificate to the verifier",
}


class SealspaceError(Exception):
    """The base class of all SDK exceptions.

    Attributes:
        code: the stable name of the error, such as `not-found`; each class has its own.
        message: what failed, and why.
        hint: what a program or its developer can do next.
        step: what a person at a command line can do next; the hint, unless the error has its own
            step.
    """

    code: str = "sealspace"
    default_hint: ClassVar[str] = "read the message; if it does not help, report the error"
    default_step: ClassVar[str | None] = None

    def __init__(self, message: str, *, hint: str | None = None, step: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        # The step of the class fits only the hint of the class. Beside a hint of the error's own,
        # that hint is the step, unless the error has a step of its own too.
        if hint is None:
            hint = self.default_hint
            step = step or self.default_step
        self.hint = hint
        self.step = step or hint

    def __str__(self) -> str:
        return f"{self.message}; next: {self.hint}" if self.hint else self.message


class NodeEvidenceRefused(SealspaceError):
    """The node's attestation evidence does not meet the client's requirements.

    No token was sent.
    """

    code = "node-evidence-refused"
    default_hint = (
        "do not use this node until its operator has explained the finding in the message"
    )

    def __init__(self, reason: str, detail: str, *, hint: str | None = None) -> None:
        super().__init__(
            f"the node's evidence was refused ({reason}): {detail}",
            hint=hint or _NODE_HINTS.get(reason),
        )
        self.reason = reason
        self.detail = detail


class SpacesNotHosted(SealspaceError):
    """The node refuses to host the requested spaces."""

    code = "spaces-not-hosted"
    default_hint = (
        "ask the node's operator to host them: the node may limit the owners, or the spaces of each"
    )

    def __init__(self, spaces: tuple[str, ...]) -> None:
        super().__init__(f"the node does not host {', '.join(spaces)}")
        self.spaces = spaces


class TransportError(SealspaceError):
    """The node sent no usable response."""

    code = "transport"
    default_hint = "try again; if it fails again, ask the node's operator"


class NodeUnreachable(TransportError):
    """The connection to the node failed or was interrupted."""

    code = "node-unreachable"
    default_hint = "check the address, including http:// or https://, and that the node is running"


class NodeTimeout(TransportError):
    """The node did not respond in time.

    The request may have been carried out.
    """

    code = "node-timeout"
    default_hint = "read the value back before you repeat a write: it may have succeeded"


class TransferBroken(TransportError):
    """A transfer was interrupted or corrupted.

    Corrupted bytes do not match the announced digest. Bytes that were already received must not be
    used.

    Attributes:
        moved_bytes: number of bytes transferred before the failure.
    """

    code = "transfer-broken"
    default_hint = "start the transfer again; no partial file or value was left"
    default_step = "run the command again; no partial file or value was left"

    def __init__(self, message: str, *, moved_bytes: int) -> None:
        super().__init__(message)
        self.moved_bytes = moved_bytes


class ResponseTooLarge(TransportError):
    """The response is longer than this client accepts."""

    code = "response-too-large"
    default_hint = "raise `max_bytes`, or read the value as a stream"
    default_step = "sealspace kv get KEY --out FILE"


class MalformedAnswer(TransportError):
    """The node's response does not follow the protocol."""

    code = "malformed-answer"
    default_hint = "check that this is the address of a sealspace or TinyCloud node"


class NodeMismatch(TransportError):
    """The node has an unexpected identity or protocol version."""

    code = "node-mismatch"
    default_hint = "stop: find out why the node's identity differs, then pin the right one"
    default_step = (
        "stop: find out why the node's identity differs; if the node was restored with a new"
        " identity, run: sealspace login"
    )


class NodeRefused(SealspaceError):
    """The node returned an error response.

    Attributes:
        status: the HTTP status.
        text: the node's own text, untrusted, at most 2,000 characters.
        problem: the `code` of its problem document (RFC 9457); "" if it has none.
        asked: the request that failed.
        retry_after_s: seconds to wait before a retry, as the node says; None if it does not say.
    """

    code = "node-refused"
    default_hint = "read the node's status and text; if they do not help, ask its operator"
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
    """The node does not authorise the request (status 401 or 403)."""

    code = "unauthorized"
    default_hint = (
        "check for which owner this session acts and what it was granted; sign in again, or ask the"
        " owner for a delegation"
    )
    default_step = "check the session with: sealspace status; make a new one with: sealspace login"
    reason_in_words = "the request is not authorised"


class ActionNotAuthorized(Unauthorized):
    """The cited grants do not cover the requested capability (J8)."""

    code = "action-not-authorized"
    default_hint = "ask the owner for a delegation that covers this resource and action"
    default_step = (
        "ask the owner for a grant that covers this, or log in as the owner: sealspace login"
    )

    def __init__(
        self, status: int, text: str, *, resource: str, action: str, asked: str = ""
    ) -> None:
        super().__init__(status, text, asked=asked)
        self.resource = resource
        self.action = action


class DelegationRevoked(Unauthorized):
    """The request depends on a revoked delegation."""

    code = "delegation-revoked"
    default_hint = (
        "ask the owner for a new delegation, and accept it in a new session: this one keeps citing"
        " the delegation that was revoked"
    )
    default_step = "ask the owner for a new grant: a revoked one stays revoked"

    def __init__(self, status: int, text: str, *, cid: str, asked: str = "") -> None:
        super().__init__(status, text, asked=asked)
        self.cid = cid


class OwnerMoved(Unauthorized):
    """The owner has moved to another wallet, and the node refuses the former one (TM18).

    Attributes:
        owner: DID of the former wallet.
        successor: DID of the new wallet, as the node says. Verify it with
            `TeamMoves.succession` before you use it.
    """

    code = "owner-moved"
    default_hint = (
        "verify the move with `client.team_moves.succession(error.owner)`, compare the new DID with"
        " an admin, then use the new DID"
    )
    default_step = (
        "if an admin of the team told you the new DID, run: sealspace team follow NAME, with the"
        " name by which you call the team"
    )

    def __init__(
        self, status: int, text: str, *, owner: str, successor: str, asked: str = ""
    ) -> None:
        super().__init__(status, text, asked=asked)
        self.owner = owner
        self.successor = successor


class TokenOutsideWindow(Unauthorized):
    """The token or delegation is not valid at this time.

    It has expired, is not valid yet, or is valid for too long.
    """

    code = "token-outside-window"
    default_hint = default_step = (
        "check this machine's clock; if the delegation has expired, ask for a new one"
    )


class ReleaseRefused(Unauthorized):
    """The node refused to release a key.

    The evidence is missing, stale or not approved by the owner.
    """

    code = "release-refused"
    default_hint = "attest first; if that does not help, ask the owner to approve this code"
    default_step = (
        "grant the secret to a backend that proves which code it runs: sealspace backend grant URL;"
        " people"
        " can read each other's secrets only if the node's operator allows it: sealspace admin"
        " release set --attestation off"
    )

    def __init__(self, status: int, text: str, *, reason: str, asked: str = "") -> None:
        super().__init__(status, text, asked=asked)
        self.reason = reason


class AttestationRefused(NodeRefused):
    """The node rejected the attestation evidence.

    `problem` names the reason.
    """

    code = "attestation-refused"
    default_hint = (
        "request a new challenge and make a new quote; a challenge serves once, for a few minutes"
    )


class NotFound(NodeRefused):
    """The requested resource does not exist on the node."""

    code = "not-found"
    default_hint = "check the name; list the space to see which names exist"
    reason_in_words = "not found"

    def restate(self, missing: str, *, hint: str) -> None:
        """Replace the error's message and hint.

        The message becomes `there is no <missing>`. It stays as it is if the node's text lists the
        versions that are kept.
        """
        if not self.text.startswith("version "):
            self.message, self.hint = f"there is no {missing}", hint
            self.args = (self.message,)


class SpaceNotFound(NotFound):
    """The requested space is not hosted on this node."""

    code = "space-not-found"
    default_hint = "have the owner sign in to the space once; the node then hosts it"
    default_step = (
        "list your spaces with: sealspace space list; make one: sealspace space create NAME"
    )


class DuplicateRequest(NodeRefused):
    """The token was used before or the object already exists."""

    code = "duplicate-request"
    default_hint = "make a new request: a token serves once"
    reason_in_words = "the token was used before, or the object already exists"


class PreconditionFailed(NodeRefused):
    """The condition of a conditional write is not met.

    A concurrent write may have changed the value first.
    """

    code = "precondition-failed"
    default_hint = "read the value again, then decide whether to repeat the write"
    default_step = "read the current value, then run the command again"
    reason_in_words = "the stored value is not the one that the condition names"


class SqlRefused(NodeRefused):
    """The SQL statement was refused.

    It is not valid or failed (status 400), is of a kind that no database runs (403), or has too
    long a text or result (413).
    """

    code = "sql-refused"
    default_hint = "correct or shorten the statement, or select fewer rows: the message says which"
    default_step = (
        "correct or shorten the statement, or select fewer rows; `sealspace sql list` lists the"
        ' databases, and `sealspace sql query DATABASE "SELECT name FROM sqlite_master"` the tables'
    )


class QuotaExceeded(NodeRefused):
    """The write would exceed the storage quota of the space."""

    code = "quota-exceeded"
    default_hint = (
        "delete values from the space, let its owner store this, or ask the node's operator for"
        " more room"
    )
    reason_in_words = "the space is full"


class ValueTooLarge(NodeRefused):
    """The value is larger than the node or the request allows."""

    code = "value-too-large"
    default_hint = "raise `max_bytes`, read the value as a stream, or write a smaller value"
    default_step = "to read it, run: sealspace kv get KEY --out FILE; to write, store less"
    reason_in_words = "the value is too large"


class RateLimited(NodeRefused):
    """The request exceeds the node's rate limit for this client."""

    code = "rate-limited"
    default_hint = "wait a minute, then try again"
    reason_in_words = "too many requests"


class NodeFailure(NodeRefused):
    """The node failed to process the request (status 5xx).

    Only a 503 guarantees that nothing was done.
    """

    code = "node-failure"
    default_hint = "try again in a minute; read the value back before you repeat a write"
    reason_in_words = "the node failed"


class StoreFull(NodeFailure):
    """The node has no disk space left for the request (status 507).

    Nothing was written.
    """

    code = "store-full"
    default_hint = "ask the node's operator to free disk space"
    reason_in_words = "the node's store is full"


class EncryptionError(SealspaceError):
    """The base class of encryption and decryption errors."""

    code = "encryption"
    default_hint = "do not use the data; ask the owner to store it again"


class NetworkNotFound(EncryptionError):
    """The encryption network does not exist on this node."""

    code = "network-not-found"
    default_hint = "have the owner create it: client.encryption.ensure_network()"
    default_step = "create it as the owner: sealspace network create NAME"


@contextmanager
def about_network(network: str) -> Iterator[None]:
    """Convert NotFound errors in a `with` block to NetworkNotFound."""
    try:
        yield
    except NotFound as exc:
        name = network.rpartition(":")[2]
        raise NetworkNotFound(
            f"there is no network {name} on this node ({network})",
            step=f"check the name, or create the network as owner: sealspace network create {name}",
        ) from exc


class NetworkNotActive(EncryptionError):
    """The encryption network is revoked or otherwise unusable."""

    code = "network-not-active"
    default_hint = (
        "have the owner create a new network and seal the values again; revocation is final"
    )

    def __init__(self, state: str) -> None:
        super().__init__(f"the network is not active (state: {state})")
        self.state = state


class NetworkKeyChanged(EncryptionError):
    """The encryption network's key differs from the pinned key.

    The network's owner did not sign that the one replaces the other. Nothing was encrypted.

    Attributes:
        pinned: the key that the session used before.
        offered: the key that the node sent now.
    """

    code = "network-key-changed"
    default_hint = (
        "ask the node's operator why the key changed; if the change is right, call"
        " `client.encryption.accept(error.offered)`, or sign in again (`sealspace login`)"
    )
    default_step = (
        "ask the node's operator why the key changed; if the change is right, run: sealspace login"
    )

    def __init__(self, pinned: "NetworkPin", offered: "NetworkPin") -> None:
        super().__init__(
            f"the key of {pinned.network} changed from version {pinned.key_version}"
            f" ({pinned.fingerprint}) to version {offered.key_version} ({offered.fingerprint})"
        )
        self.pinned = pinned
        self.offered = offered


class DescriptorUnsigned(EncryptionError):
    """The node did not sign the encryption network's key.

    The key may be forged, so nothing was encrypted.
    """

    code = "descriptor-unsigned"
    default_hint = (
        "check the node's address and version; for a node that cannot sign, over a connection that"
        " you trust, pass Client(…, unsigned_descriptors=True)"
    )
    default_step = "check the node's address and version with: sealspace status"


class InvalidEnvelope(EncryptionError):
    """The stored value is not an encrypted envelope.

    An envelope is JSON with a ciphertext and its wrapped key.
    """

    code = "invalid-envelope"
    default_hint = "ask the owner to store the secret again: the value is not a sealed secret"
    default_step = "store the secret again, or ask its owner to: sealspace secret put NAME"


class LabelMismatch(EncryptionError):
    """The envelope's label does not match the path of the value."""

    code = "label-mismatch"
    default_hint = "ask the owner to store the secret again: the envelope was moved or copied"


class PlaceMismatch(EncryptionError):
    """The decrypted value was sealed for another place than the one where it is stored."""

    code = "place-mismatch"
    default_hint = (
        "do not use the value: somebody stored the envelope of another secret here. Tell the"
        " owner, who can see who wrote it and store the right value again"
    )
    default_step = (
        "do not use the value: somebody stored the envelope of another secret here. The owner sees"
        " who wrote it: sealspace activity; and stores the right value: sealspace secret put NAME"
    )


class UnboundValue(EncryptionError):
    """The decrypted value does not state its place, so it may belong to another secret."""

    code = "unbound-value"
    default_hint = (
        "ask the owner to bind the value to its place with `client.secrets().bind(NAME)`, or to"
        " store it again with a current client"
    )
    default_step = "the owner binds the value to its name: sealspace secret bind NAME"


class DecryptDenied(EncryptionError):
    """The node refused a decrypt request.

    `refusal` is the node's error.
    """

    code = "decrypt-denied"

    def __init__(self, refusal: Unauthorized) -> None:
        super().__init__(
            f"the node does not release the key: {refusal.message}",
            hint=refusal.hint,
            step=refusal.step,
        )
        self.refusal = refusal


class InvalidResponse(EncryptionError):
    """The response to a decrypt request is not usable.

    This is also raised if the local decryption fails.
    """

    code = "invalid-response"
    default_hint = "try again; if it fails again, ask the owner to store the secret again"


class ResponseBindingMismatch(EncryptionError):
    """The decrypt response does not match the request.

    The JSON member `field` differs.
    """

    code = "response-binding-mismatch"
    default_hint = "do not use this node until its operator has explained the wrong response"

    def __init__(self, field: str) -> None:
        super().__init__(f"the response does not belong to this request: {field} differs")
        self.field = field


class ResponseSignatureInvalid(EncryptionError):
    """The signature of the node's response is invalid."""

    code = "response-signature-invalid"
    default_hint = "do not use the response: it was not signed by the node that it names"


class InvalidSecretPayload(EncryptionError):
    """The decrypted plaintext is not in the format of a secret."""

    code = "invalid-secret-payload"
    default_hint = "ask the owner to store the secret again with a current client"


class ReplicaError(SealspaceError):
    """The base class of errors about local copies."""

    code = "replica"
    default_hint = "delete the copy's folder, and sync again"


class SourceChanged(ReplicaError):
    """The copy belongs to another node, space or prefix."""

    code = "source-changed"
    default_hint = "use another folder for this source, or find out why the node's identity differs"


class ReplicaExpired(ReplicaError):
    """The right to read the copy has ended, or has not begun."""

    code = "replica-expired"
    default_hint = "get a new delegation, and sync; also check this machine's clock"


class ReplicaRevoked(ReplicaError):
    """A delegation was revoked, so the copy was deleted and stays blocked."""

    code = "replica-revoked"
    default_hint = "ask the owner for a new delegation, delete the copy's folder, and sync again"


class ReplicaCorrupt(ReplicaError):
    """The copy's file was changed, or has another format or version."""

    code = "replica-corrupt"
    default_hint = "delete the copy's folder, and sync again"


class ReplicaInUse(ReplicaError):
    """Another process, or another object of this one, uses the copy."""

    code = "replica-in-use"
    default_hint = "close the other user of the copy, or use another folder"


class ReplicaUnusable(ReplicaError):
    """The copy's folder or disk cannot be used."""

    code = "replica-unusable"
    default_hint = "use a folder of your own with mode 700, on a disk with free space"


class ReplicaFull(ReplicaError):
    """The copy would be larger than allowed. Nothing of the page was stored."""

    code = "replica-full"
    default_hint = "raise the limit, or copy a longer prefix"


class ReplicaIncomplete(ReplicaError):
    """The value has changed or vanished while it was copied, so it is not stored yet."""

    code = "replica-incomplete"
    default_hint = "sync again"


class ClockWentBack(ReplicaError):
    """The clock shows a time before the last one that the copy has seen."""

    code = "clock-went-back"
    default_hint = (
        "correct this machine's clock; if it was wrong before, delete the copy's folder, and sync"
    )
