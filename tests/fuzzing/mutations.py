"""Changes of JSON, MessagePack and CBOR that leave the rest of an input valid.

libFuzzer changes bytes. JSON, lengths and base64 seldom survive that, so half of the changes are
made in the parsed value, and in what its texts encode.
"""

import base64
import json
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, NamedTuple

import dag_cbor
import libipld
import msgspec
from dag_cbor.encoding.err import CBOREncodingError

Bytes = Callable[[bytes], bytes]
Place = tuple[Any, Any]

_LEAVES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**53, 2**63, 2**64, 0.5, -0.0, 1e300, "", "a", "0", " ",
    "\u0000", "é", "__proto__", [], {}, [[]], [{}],
)  # fmt: skip


def changed(data: bytes, *, form: str, rng: random.Random, change_bytes: Bytes) -> bytes:
    """Return another input.

    Args:
        data: The input.
        form: How the target reads it, as in `Arguments.form`.
        rng: Chooses the changes.
        change_bytes: Changes bytes in any way.
    """
    if rng.random() < 0.5:
        return change_bytes(data)
    try:
        codec = _codec_of(data, form)
        tree = codec.decode(data)
    except (ValueError, RecursionError):
        return change_bytes(data)
    # In a list, so that the whole can be replaced too.
    root = [tree]
    try:
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            _change_tree(root, rng, change_bytes)
        return codec.encode(root[0])
    except (ValueError, TypeError, OverflowError, RecursionError):
        return change_bytes(data)


class _Codec(NamedTuple):
    """A form of trees."""

    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]


def _json_of(tree: Any) -> bytes:
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode()


def _cbor_of(tree: Any) -> bytes:
    try:
        return dag_cbor.encode(tree)
    except CBOREncodingError as error:
        raise ValueError from error


_JSON = _Codec(json.loads, _json_of)
_CBOR = _Codec(libipld.decode_dag_cbor, _cbor_of)
_MESSAGEPACK = _Codec(msgspec.msgpack.decode, msgspec.msgpack.encode)
# First bytes of a map in CBOR, which no JSON text begins with.
_CBOR_MAPS = range(0xA0, 0xC0)


def _codec_of(data: bytes, form: str) -> _Codec:
    """Return the form of an input: sign-ins are CBOR."""
    if form == "messagepack":
        return _MESSAGEPACK
    return _CBOR if form == "bytes" and data[:1] and data[0] in _CBOR_MAPS else _JSON


def _places(inside: Any) -> Iterator[Place]:
    """Yield each container with each of its keys."""
    waiting = [inside]
    while waiting:
        container = waiting.pop()
        keys = list(container) if isinstance(container, dict) else range(len(container))
        for key in keys:
            yield container, key
            if isinstance(container[key], dict | list):
                waiting.append(container[key])


def _change_tree(root: list[Any], rng: random.Random, change_bytes: Bytes) -> None:
    """Change one value of a tree."""
    places = list(_places(root))
    if not places:
        return
    container, key = rng.choice(places)
    value = container[key]
    if isinstance(value, str | bytes) and rng.random() < 0.7:
        container[key] = _changed_leaf(value, rng, change_bytes)
        return
    other, other_key = rng.choice(places)
    match rng.randrange(5):
        case 0 if container is not root:
            del container[key]
        case 1:
            container[key] = deepcopy(rng.choice(_LEAVES))
        case 2:
            container[key] = deepcopy(other[other_key])
        case 3 if isinstance(container, list) and container is not root:
            container.insert(key, deepcopy(value))
        case 3 if isinstance(container, dict):
            container[f"{key}{rng.choice(('', '2', ' '))}"] = deepcopy(other[other_key])
        case _ if isinstance(value, int) and not isinstance(value, bool):
            container[key] = value + rng.choice((-1, 1, 256, -value, 2**32))
        case _:
            container[key] = [value] if rng.random() < 0.5 else {"a": value}


def _changed_leaf(value: str | bytes, rng: random.Random, change_bytes: Bytes) -> str | bytes:
    """Return another text, or other bytes, or what is encoded in the text with a change."""
    if isinstance(value, bytes):
        return change_bytes(value)
    if value[:1] in "{[" and rng.random() < 0.7:  # JSON in JSON
        inner = changed(value.encode(), form="json", rng=rng, change_bytes=change_bytes)
        return inner.decode("utf-8", "replace")
    if len(value) > 8 and rng.random() < 0.7:
        for decode, encode in _ENCODINGS:
            try:
                return encode(change_bytes(decode(value))).decode()
            except ValueError:
                continue
    return change_bytes(value.encode()).decode("utf-8", "replace")


def _from_url(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


_ENCODINGS: tuple[tuple[Callable[[str], bytes], Callable[[bytes], bytes]], ...] = (
    (bytes.fromhex, lambda data: data.hex().encode()),
    (lambda text: base64.b64decode(text, validate=True), base64.b64encode),
    (_from_url, lambda data: base64.urlsafe_b64encode(data).rstrip(b"=")),
)
