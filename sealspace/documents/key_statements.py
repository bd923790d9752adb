"""Statements in which an owner replaces or destroys a key of an encryption network (EN36, EN38).

    {"network": id, "node": DID of the node, "alg": algorithm,
     "from": {"keyVersion": 1, "sha256": hex},
     "to": {"keyVersion": 2, "publicEncryptionKey": base64}, "at": RFC 3339 text}

    {"network": id, "node": DID of the node, "key": {"keyVersion": 1, "sha256": hex},
     "at": RFC 3339 text}

The owner's wallet or own key signs a statement, never the key of a session: a stolen session must
not install a key, nor destroy one that values still need. The first form names the key before it by
its hash, so the statements of a network form a chain. A client that knows a version of the key
verifies the later ones with the chain.

Example:
    pin = client.session.pin_of(network)
    change = key_change(pin, key, node_did=did, at=when)
    data = sign_key_change(change, wallet)
    newest = follow_key_changes(pin, [data], network=network, node_did=did)
    assert (newest.key_version, newest.public_key) == (2, key)
"""

import hashlib
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from capabilities.capability_errors import InvalidIdentifier
from capabilities.resources import NetworkId
from capabilities.siwe import parse_rfc3339
from capabilities.strict_base64 import decode_standard, encode_standard
from capabilities.strict_json import JsonObject, StrictRecord
from encryption_network.key_versions import MAX_KEY_VERSION, MAX_STATEMENT_BYTES
from encryption_network.networks import ALGORITHM
from encryption_network.pins import NetworkPin

from ..errors import StatementInvalid
from .signed_statements import StatementSigner, read_shaped, sign_statement

KEY_STATEMENT_TYPE = "sealspace.network.key/v1"
KEY_END_TYPE = "sealspace.network.key.end/v1"
_KEY_BYTES = 32

_Version = Annotated[int, Meta(ge=1, le=MAX_KEY_VERSION)]


class FormerKey(StrictRecord, rename="camel"):
    """The version of a network's key that a statement replaces or destroys."""

    key_version: _Version
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]

    def is_of(self, pin: NetworkPin) -> bool:
        """Return whether this is a given version of a key."""
        return (
            self.key_version == pin.key_version
            and self.sha256 == hashlib.sha256(pin.public_key).hexdigest()
        )


class NextKey(StrictRecord, rename="camel"):
    """The version of a network's key that a statement introduces."""

    key_version: _Version
    public_encryption_key: str


class KeyChange(StrictRecord, kw_only=True, rename={"from_key": "from", "to_key": "to"}):
    """The content of a statement about a network's key.

    Attributes:
        network: canonical id of the network.
        node: DID of the node that keeps the network.
        alg: algorithm of the next key.
        from_key: the version before, with the SHA-256 of its public key.
        to_key: the next version.
        at: RFC 3339 text, as the owner's machine stated it.
    """

    network: str
    node: str
    alg: str
    from_key: FormerKey
    to_key: NextKey
    at: Annotated[str, Meta(max_length=40)]

    @property
    def pin(self) -> NetworkPin:
        """The next version, as clients pin it."""
        return NetworkPin(
            network=self.network,
            public_key=decode_standard(self.to_key.public_encryption_key) or b"",
            key_version=self.to_key.key_version,
        )

    def follows(self, pin: NetworkPin) -> bool:
        """Return whether this is the statement that replaces a given version."""
        return self.from_key.is_of(pin)


class KeyEnd(StrictRecord, kw_only=True):
    """The content of a statement that destroys a former version of a network's key.

    Attributes:
        network: canonical id of the network.
        node: DID of the node that keeps the network.
        key: the version, with the SHA-256 of its public key.
        at: RFC 3339 text, as the owner's machine stated it.
    """

    network: str
    node: str
    key: FormerKey
    at: Annotated[str, Meta(max_length=40)]


def key_change(pin: NetworkPin, public_key: bytes, *, node_did: str, at: str) -> KeyChange:
    """Create the content of a statement that replaces a version of a network's key.

    Args:
        pin: the newest version.
        public_key: the next version's, 32 bytes.
        node_did: DID of the node that keeps the network.
        at: RFC 3339 text.
    """
    return KeyChange(
        network=pin.network,
        node=node_did,
        alg=ALGORITHM,
        from_key=FormerKey(
            key_version=pin.key_version, sha256=hashlib.sha256(pin.public_key).hexdigest()
        ),
        to_key=NextKey(
            key_version=pin.key_version + 1, public_encryption_key=encode_standard(public_key)
        ),
        at=at,
    )


def sign_key_change(change: KeyChange, signer: StatementSigner) -> bytes:
    """Sign a statement that replaces a network's key, and encode it as canonical JSON.

    Raises:
        StatementInvalid: the statement is too long because of a long network name.
    """
    statement: JsonObject = {
        "network": change.network,
        "node": change.node,
        "alg": change.alg,
        "from": {"keyVersion": change.from_key.key_version, "sha256": change.from_key.sha256},
        "to": {
            "keyVersion": change.to_key.key_version,
            "publicEncryptionKey": change.to_key.public_encryption_key,
        },
        "at": change.at,
    }
    return _require_short(sign_statement(KEY_STATEMENT_TYPE, statement, signer))


def sign_key_end(pin: NetworkPin, signer: StatementSigner, *, node_did: str, at: str) -> bytes:
    """Sign a statement that destroys a former key, and encode it as canonical JSON.

    Args:
        pin: the former version.
        signer: the owner's wallet or own key.
        node_did: DID of the node that keeps the network.
        at: RFC 3339 text.
    Raises:
        StatementInvalid: the statement is too long because of a long network name.
    """
    statement: JsonObject = {
        "network": pin.network,
        "node": node_did,
        "key": {
            "keyVersion": pin.key_version,
            "sha256": hashlib.sha256(pin.public_key).hexdigest(),
        },
        "at": at,
    }
    return _require_short(sign_statement(KEY_END_TYPE, statement, signer))


def _require_short(data: bytes) -> bytes:
    """Return a signed statement; raise StatementInvalid if no node would take it."""
    if len(data) > MAX_STATEMENT_BYTES:
        raise StatementInvalid(
            f"the statement about the network's key is longer than {MAX_STATEMENT_BYTES} bytes",
            hint="use a network with a shorter name",
        )
    return data


def read_key_change(data: bytes, *, network: NetworkId, node_did: str | None) -> KeyChange:
    """Parse a statement about a network's key, and verify its signature (EN36).

    Args:
        data: the signed statement, untrusted.
        network: the network that it must name; its owner must have signed.
        node_did: the node that it must name; None: any node. Without it, the statement is not a
            reason to trust the key.
    Returns:
        The statement. Its key has 32 bytes, and its version is the one after the version before.
    Raises:
        StatementInvalid: the statement is too long, malformed, for another network or node, or not
            signed by the network's owner.
    Does not check:
        That the version before is the one that the caller knows; see `KeyChange.follows`.
    """
    if len(data) > MAX_STATEMENT_BYTES:
        raise StatementInvalid("the statement about the network's key is too long")
    change = read_shaped(data, KEY_STATEMENT_TYPE, KeyChange, signer=network.owner)
    _require_named(change, network, node_did)
    if change.alg != ALGORITHM:
        raise StatementInvalid("the statement names an algorithm that this client does not know")
    if change.to_key.key_version != change.from_key.key_version + 1:
        raise StatementInvalid("the statement skips a version of the network's key")
    if len(change.pin.public_key) != _KEY_BYTES:
        raise StatementInvalid("the statement's key is not 32 bytes in base64")
    return change


def read_key_end(data: bytes, *, network: NetworkId, node_did: str) -> KeyEnd:
    """Parse a statement that destroys a former key, and verify its signature (EN38).

    Args:
        data: the signed statement, untrusted.
        network: the network that it must name; its owner must have signed.
        node_did: the node that it must name.
    Raises:
        StatementInvalid: the statement is too long, malformed, for another network or node, or not
            signed by the network's owner.
    Does not check:
        That the network has such a version; see `FormerKey.is_of`.
    """
    if len(data) > MAX_STATEMENT_BYTES:
        raise StatementInvalid("the statement about the network's key is too long")
    end = read_shaped(data, KEY_END_TYPE, KeyEnd, signer=network.owner)
    _require_named(end, network, node_did)
    return end


def _require_named(statement: KeyChange | KeyEnd, network: NetworkId, node_did: str | None) -> None:
    """Check that a statement names a network, a node and a time.

    Raises StatementInvalid. None as `node_did` is any node.
    """
    if statement.network != network.text:
        raise StatementInvalid("the statement is about the key of another network")
    if node_did is not None and statement.node != node_did:
        raise StatementInvalid("the statement is about a network of another node")
    try:
        parse_rfc3339(statement.at)  # raises for another form
    except InvalidIdentifier as exc:
        raise StatementInvalid("the statement's time is malformed") from exc


def follow_key_changes(
    pin: NetworkPin, statements: Sequence[bytes], *, network: NetworkId, node_did: str
) -> NetworkPin:
    """Return the newest version of a network's key that statements introduce (EN30).

    The statements have to form a chain from the known version.

    Args:
        pin: the version that the client knows.
        statements: the owner's statements in the order of their versions, untrusted. Those about
            versions before the known one are not used.
        network: the network.
        node_did: the node that keeps it.
    Returns:
        The newest version; `pin` itself if no statement replaces it.
    Raises:
        StatementInvalid: there are too many statements, one of them is not valid, or the statements
            do not form a chain from the known version.
    """
    if len(statements) >= MAX_KEY_VERSION:
        raise StatementInvalid("there are too many statements about the network's key")
    # The first statement replaces version 1. So the one at this index replaces the known version.
    known_index = pin.key_version - 1
    for data in statements[known_index:]:
        change = read_key_change(data, network=network, node_did=node_did)
        if not change.follows(pin):
            raise StatementInvalid(
                f"the statement does not replace version {pin.key_version} of the network's key"
            )
        pin = change.pin
    return pin


def read_key_changes(
    pin: NetworkPin, statements: Sequence[bytes], *, network: NetworkId, node_did: str
) -> list[KeyChange]:
    """Parse and verify the statements from a version of a network's key to the newest.

    The result is for a list that people read. A node may have got a new identity, and statements
    from before name its former identity (RK9). So statements may name any node until one names the
    present node. Use `follow_key_changes` to decide whether a key replaces a known key.

    Args:
        pin: the version before the first statement.
        statements: the owner's statements in the order of their versions, untrusted.
        network: the network.
        node_did: the present identity of the node that keeps it.
    Returns:
        The statements, parsed. They form a chain that begins at `pin`.
    Raises:
        StatementInvalid: there are too many statements, one of them is not valid, or the statements
            do not form a chain from `pin`.
    """
    if len(statements) >= MAX_KEY_VERSION:
        raise StatementInvalid("there are too many statements about the network's key")
    changes: list[KeyChange] = []
    required_node: str | None = None
    for data in statements:
        change = read_key_change(data, network=network, node_did=required_node)
        if not change.follows(pin):
            raise StatementInvalid(
                f"the statement does not replace version {pin.key_version} of the network's key"
            )
        if change.node == node_did:
            required_node = node_did
        changes.append(change)
        pin = change.pin
    return changes
