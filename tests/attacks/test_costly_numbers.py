"""Attacks by numbers in JSON that take long to parse."""

import math
import sys
from typing import Any

import msgspec
import pytest

from capabilities import recap, strict_json, ucan
from capabilities.capability_errors import InvalidJson
from capabilities.strict_json import bounded_decoder, parse_json
from encryption_network import _shapes
from node.http.messages import http_requests

COSTLY = ("1e308", "1.7976931348623157e308", "1e-308", "5e-324", "-2.2250738585072014e-308")


@pytest.mark.parametrize(
    "decoder",
    [
        strict_json._DECODER,
        ucan._PAYLOAD_DECODER,
        recap._DECODER,
        _shapes._DECODER,
        http_requests._ANYTHING,
    ],
)
def test_strangers_numbers_are_read_by_the_fast_way(decoder: msgspec.json.Decoder[Any]) -> None:
    """Parsing 64 KB of the number 1e308 is as fast as parsing 64 KB of 1.5."""
    assert decoder.float_hook is strict_json._finite


@pytest.mark.parametrize("text", [*COSTLY, "0.1", "-0.0", "123456789012345678901234567890.5"])
def test_a_number_has_the_value_that_is_written(text: str) -> None:
    read = parse_json(f'{{"a":{text}}}'.encode(), max_bytes=100)["a"]
    assert read == float(text)
    assert math.copysign(1, read) == math.copysign(1, float(text))


def test_the_largest_numbers() -> None:
    """The parser refuses numbers above the largest float instead of returning infinity."""
    decoder = bounded_decoder(dict[str, Any])
    assert decoder.decode(b'{"a":1.7976931348623157e308}') == {"a": sys.float_info.max}
    for text in (b"1e309", b"-1e309", b"1e99999"):
        with pytest.raises(InvalidJson):
            parse_json(b'{"a":' + text + b"}", max_bytes=100)
        with pytest.raises(msgspec.DecodeError):
            decoder.decode(b'{"a":' + text + b"}")
