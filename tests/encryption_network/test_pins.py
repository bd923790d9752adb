"""Pinned network keys of a session."""

import pytest

from capabilities.strict_json import Json
from encryption_network.pins import NetworkPin, parse_pins, pins_json

_NETWORK = "urn:tinycloud:encryption:did:key:zOwner:default"
_PIN = NetworkPin(_NETWORK, b"\1" * 32, 2)


def test_pins_are_kept() -> None:
    """Pins are parsed back unchanged."""
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
    """EN7: two keys for one network, and keys of another length, are rejected."""
    assert parse_pins(value) is None
