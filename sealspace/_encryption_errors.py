"""Errors between envelope, network and plaintext; `sealspace.errors` has them all."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ._error_base import SealspaceError
from ._node_errors import NotFound, Unauthorized

if TYPE_CHECKING:  # a program that only maps errors loads nothing of encryption for them
    from encryption_network.pins import NetworkPin


class EncryptionError(SealspaceError):
    """Base of what goes wrong between envelope, network and plaintext."""

    code = "encryption"
    default_hint = "do not use what was read; ask the owner to store it again"


class NetworkNotFound(EncryptionError):
    """The encryption network does not exist on this node."""

    code = "network-not-found"
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

    code = "network-not-active"
    default_hint = "a revoked network stays revoked: the owner makes a new one and seals the values anew"

    def __init__(self, state: str) -> None:
        super().__init__(f"the network is not active (state: {state})")
        self.state = state


class NetworkKeyChanged(EncryptionError):
    """A network has another key than the one that this session sealed to before; nothing was sealed."""

    code = "network-key-changed"
    default_hint = (
        "seal nothing until the node's operator has said why the key changed; if it is right, "
        "`client.encryption.accept(error.offered)`, or sign in anew (`sealspace login`)"
    )
    default_step = (
        "seal nothing until the node's operator has said why the key changed; if it is right: sealspace login"
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
    default_step = "is this the node's own address, and its version current? sealspace status"


class InvalidEnvelope(EncryptionError):
    """The stored value is not an inline envelope."""

    code = "invalid-envelope"
    default_hint = "the value is not a secret of this convention; the owner should store the secret again"


class LabelMismatch(EncryptionError):
    """The envelope's label names another place than the one it was read from."""

    code = "label-mismatch"
    default_hint = "somebody moved the envelope; the owner should store the secret again"


class DecryptDenied(EncryptionError):
    """The node does not release the key."""

    code = "decrypt-denied"

    def __init__(self, refusal: Unauthorized) -> None:
        super().__init__(f"the node does not release the key: {refusal.message}", hint=refusal.hint, step=refusal.step)
        self.refusal = refusal


class InvalidResponse(EncryptionError):
    """The node's answer to a decrypt request is unusable, or local decryption failed."""

    code = "invalid-response"
    default_hint = "do not use the answer; if it stays, the owner should store the secret again"


class ResponseBindingMismatch(EncryptionError):
    """The node's answer belongs to another request."""

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
    default_hint = "the owner should store the secret again, with a current client"
