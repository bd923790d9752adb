"""Pinned public keys of encryption networks.

A network's owner can replace its key, and signs a statement for each new version (EN36). Another
key without these statements means that the network, the node's store or the node's answer was
replaced. A client that knows an earlier key can detect that (EN30).

Example:
    session = session.with_pin(pin_of(descriptor))
"""

import hashlib
from collections.abc import Iterable

from capabilities.capability_errors import InvalidJson
from capabilities.frozen import frozen
from capabilities.strict_base64 import decode_standard, encode_standard
from capabilities.strict_json import Json, StrictStruct, shaped

from .networks import Descriptor

_KEY_BYTES = 32


class _PinJson(StrictStruct, rename="camel"):
    network: str
    public_encryption_key: str
    key_version: int


@frozen
class NetworkPin:
    """The pinned public key of one encryption network."""

    network: str
    public_key: bytes
    key_version: int

    @property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the key's SHA-256 hash.

        They are short enough for people to compare.
        """
        return hashlib.sha256(self.public_key).hexdigest()[:16]


def pin_of(descriptor: Descriptor) -> NetworkPin:
    """Pin the public key in an encryption network's descriptor."""
    return NetworkPin(
        network=descriptor.network_id.text,
        public_key=descriptor.public_key,
        key_version=descriptor.key_version,
    )


def pins_json(pins: Iterable[NetworkPin]) -> list[Json]:
    """Return pinned network keys as JSON.

    Sessions are stored with this JSON.
    """
    return [
        {
            "network": pin.network,
            "publicEncryptionKey": encode_standard(pin.public_key),
            "keyVersion": pin.key_version,
        }
        for pin in pins
    ]


def parse_pins(value: Json) -> tuple[NetworkPin, ...] | None:
    """Parse pinned network keys from JSON, or return None if invalid.

    A network must not have two pins.
    """
    try:
        entries = shaped(value, list[_PinJson])
    except InvalidJson:
        return None
    pins = [
        NetworkPin(
            network=entry.network,
            # A text that is not base64 becomes an empty key, which is refused below.
            public_key=decode_standard(entry.public_encryption_key) or b"",
            key_version=entry.key_version,
        )
        for entry in entries
    ]
    networks = {pin.network for pin in pins}
    if len(networks) < len(pins):
        return None
    if any(len(pin.public_key) != _KEY_BYTES for pin in pins):
        return None
    return tuple(pins)
