"""The keys of networks that a session has sealed to, as it keeps them."""

import pytest

from capabilities.strict_json import Json
from encryption_network.pins import NetworkPin, parse_pins, pins_json

_NETWORK = "urn:tinycloud:encryption:did:key:zOwner:default"
_PIN = NetworkPin(_NETWORK, b"\1" * 32, 2)


def test_pins_are_kept() -> None:
    """What was written is read."""
    assert parse_pins(pins_json([_PIN])) == (_PIN,)


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        [{"network": _NETWORK, "keyVersion": 2}],
        pins_json([_PIN, NetworkPin(_NETWORK, b"\2" * 32, 3)]),
        pins_json([NetworkPin(_NETWORK, b"\1" * 31, 2)]),
        [{"network": _NETWORK, "publicEncryptionKey": "not base64", "keyVersion": 2}],
    ],
)
def test_pins_that_are_refused(value: Json) -> None:
    """EN7: two keys of one network cannot both be the one that was sealed to; a key has 32
    bytes."""
    assert parse_pins(value) is None
