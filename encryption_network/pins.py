"""The key of a network that a session has sealed to: every later descriptor is compared with it.

A network keeps its key (EN7), so one that changed means that something was replaced: the network, the node's store, or
the node's answer. A client that sealed to the earlier key can detect that best.

Example:
    session = session.with_pin(pin_of(descriptor))
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from capabilities.strict_base64 import decode_standard, encode_standard
from capabilities.strict_json import Json

from .networks import Descriptor

_KEY_BYTES = 32
_MEMBERS = frozenset({"network", "publicEncryptionKey", "keyVersion"})


@dataclass(frozen=True, slots=True)
class NetworkPin:
    """The key of one network."""

    network: str
    public_key: bytes
    key_version: int

    @property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the key's SHA-256, for people to compare."""
        return hashlib.sha256(self.public_key).hexdigest()[:16]


def pin_of(descriptor: Descriptor) -> NetworkPin:
    """Return what is kept of a descriptor."""
    return NetworkPin(descriptor.network_id.text, descriptor.public_key, descriptor.key_version)


def pins_json(pins: Iterable[NetworkPin]) -> list[Json]:
    """Write pins as a session keeps them."""
    return [
        {
            "network": pin.network,
            "publicEncryptionKey": encode_standard(pin.public_key),
            "keyVersion": pin.key_version,
        }
        for pin in pins
    ]


def parse_pins(value: Json) -> tuple[NetworkPin, ...] | None:
    """Read what `pins_json` wrote; None for anything else, two pins of one network included."""
    if not isinstance(value, list):
        return None
    pins = [pin for pin in map(_pin, value) if pin is not None]
    is_whole = len(pins) == len(value) == len({pin.network for pin in pins})
    return tuple(pins) if is_whole else None


def _pin(value: Json) -> NetworkPin | None:
    if not isinstance(value, dict) or value.keys() != _MEMBERS:
        return None
    network, version = value["network"], value["keyVersion"]
    key = decode_standard(value["publicEncryptionKey"])
    if not isinstance(network, str) or isinstance(version, bool) or not isinstance(version, int):
        return None
    return None if key is None or len(key) != _KEY_BYTES else NetworkPin(network, key, version)
