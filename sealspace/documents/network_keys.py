"""The versions of an encryption network's key, as a node lists them (EN37).

The list itself is not signed. It contains the statements of the network's owner about each version,
which `key_statements` verifies.

Example:
    listed_keys = (await client.encryption.keys(network)).keys
    assert [(key.key_version, key.state) for key in listed_keys] == [(1, "newest")]
"""

from typing import Annotated

import msgspec

from capabilities.capability_errors import InvalidJson
from capabilities.resources import NetworkId
from capabilities.strict_base64 import decode_standard
from capabilities.strict_json import parse_json, shaped
from encryption_network.key_versions import MAX_KEY_VERSION
from encryption_network.pins import NetworkPin

from ..errors import MalformedAnswer

MAX_KEYS_BYTES = 256 * 1024
"""Limit for the list: 31 statements, in which each quote takes two bytes."""
_KEY_BYTES = 32


class NetworkKey(msgspec.Struct, rename="camel", frozen=True):
    """A version of an encryption network's key.

    Attributes:
        key_version: number of the version, from 1.
        public_encryption_key: base64 text of 32 bytes.
        state: "newest", "accepted", "retiring" or "retired".
        created_at: RFC 3339 text of the time when the node made the key.
        changed_at: RFC 3339 text of the time when the state changed.
    """

    key_version: Annotated[int, msgspec.Meta(ge=1, le=MAX_KEY_VERSION)]
    public_encryption_key: str
    state: str
    created_at: str
    changed_at: str

    def pin(self, network: str) -> NetworkPin:
        """Return this version as it is pinned."""
        key = decode_standard(self.public_encryption_key) or b""
        return NetworkPin(network=network, public_key=key, key_version=self.key_version)


class NetworkKeys(msgspec.Struct, rename="camel", frozen=True):
    """The versions of an encryption network's key, in the order of their numbers.

    Attributes:
        network_id: canonical id of the network.
        keys: the versions; the last one is the newest.
        statements: the owner's signed statements about the versions from 2 on, JSON texts.
    """

    network_id: str
    keys: Annotated[tuple[NetworkKey, ...], msgspec.Meta(min_length=1, max_length=MAX_KEY_VERSION)]
    statements: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_KEY_VERSION)]


def parse_network_keys(data: bytes, network: NetworkId) -> NetworkKeys:
    """Parse the versions of a network's key in a node's answer.

    Args:
        data: JSON, untrusted.
        network: the network that was asked for.
    Returns:
        The versions, at least one, numbered from 1 without a gap. Each key has 32 bytes.
    Raises:
        MalformedAnswer: the answer is not such a list, or is about another network.
    Does not check:
        The statements; see `key_statements.read_key_changes`.
    """
    try:
        listed = shaped(parse_json(data, max_bytes=MAX_KEYS_BYTES), NetworkKeys)
    except InvalidJson as exc:
        raise MalformedAnswer("the node's response is not a list of a network's keys") from exc
    if listed.network_id != network.text:
        raise MalformedAnswer("the node sent the keys of a different network")
    for expected_version, key in enumerate(listed.keys, start=1):
        if key.key_version != expected_version:
            raise MalformedAnswer("the versions of the network's key are not numbered from 1")
    for key in listed.keys:
        if len(key.pin(network.text).public_key) != _KEY_BYTES:
            raise MalformedAnswer("a version of the network's key is not 32 bytes in base64")
    return listed
