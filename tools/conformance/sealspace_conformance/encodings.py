"""The encodings of the protocol: base64url, base58, ids, canonical JSON, DAG-CBOR and hashes."""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import sha3
from blake3 import blake3

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_MOST_DEPTH = 16
_CID_PREFIX = b"\x01\x55\x1e\x20"  # CIDv1, codec raw, BLAKE3-256, 32 bytes (E7)


def b64(data: bytes) -> str:
    """Return base64 of the standard alphabet, with padding (EN1)."""
    return base64.b64encode(data).decode("ascii")


def b64url(data: bytes, *, padded: bool = False) -> str:
    """Return base64url, without padding unless asked for."""
    text = base64.urlsafe_b64encode(data).decode("ascii")
    return text if padded else text.rstrip("=")


def from_b64url(text: str) -> bytes:
    """Return the bytes of base64url with or without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def base58(data: bytes) -> str:
    """Return base58btc without the multibase prefix."""
    number = int.from_bytes(data, "big")
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeros + text


def from_base58(text: str) -> bytes:
    """Return the bytes of base58btc.

    Raises:
        ValueError: a character is not of the alphabet.
    """
    number = 0
    for character in text:
        number = number * 58 + _BASE58.index(character)
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")


def cid(event_bytes: bytes) -> str:
    """Return the id of event bytes in base32 (E7)."""
    digest = _CID_PREFIX + blake3(event_bytes).digest()
    return "b" + base64.b32encode(digest).decode("ascii").lower().rstrip("=")


def cid58(event_bytes: bytes) -> str:
    """Return the id of event bytes in base58btc, as a ReCap cites it (S6)."""
    return "z" + base58(_CID_PREFIX + blake3(event_bytes).digest())


def etag(value: bytes) -> str:
    """Return the ETag of a value (M1)."""
    return f'"blake3-{blake3(value).hexdigest()}"'


def keccak(data: bytes) -> bytes:
    """Return the Keccak-256 of the data."""
    return bytes(sha3.keccak_256(data).digest())


def compact_json(value: Any) -> bytes:
    """Return JSON without spaces, members in their order."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def canonical_json(value: Any) -> bytes:
    """Return canonical JSON (EN10). Sorting by code points is sorting by UTF-8 bytes."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    # A node may answer with half of a surrogate pair, which has no UTF-8.
    return text.encode("utf-8", "surrogatepass")


def sha256_of(value: Any) -> str:
    """Return the hash of a JSON value (EN11)."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def dag_cbor(value: Any) -> bytes:
    """Return canonical DAG-CBOR of maps, lists, texts, bytes and whole numbers (C1)."""
    if isinstance(value, bytes):
        return _cbor_head(2, len(value)) + value
    if isinstance(value, str):
        raw = value.encode()
        return _cbor_head(3, len(raw)) + raw
    if isinstance(value, int):
        return _cbor_head(0, value)
    if isinstance(value, Mapping):
        members = sorted(value.items(), key=lambda item: (len(item[0].encode()), item[0].encode()))
        parts = [dag_cbor(name) + dag_cbor(member) for name, member in members]
        return _cbor_head(5, len(parts)) + b"".join(parts)
    parts = [dag_cbor(member) for member in value]
    return _cbor_head(4, len(parts)) + b"".join(parts)


def _cbor_head(major: int, number: int) -> bytes:
    """Return the shortest head of a type and a length or number."""
    first = major << 5
    if number < 24:
        return bytes([first | number])
    for size, mark in ((1, 24), (2, 25), (4, 26)):
        if number < 1 << (8 * size):
            return bytes([first | mark]) + number.to_bytes(size, "big")
    return bytes([first | 27]) + number.to_bytes(8, "big")


def from_dag_cbor(data: bytes) -> Any:
    """Return the value of DAG-CBOR of maps, lists, texts, bytes and whole numbers.

    None if it is anything else. The result is canonical if `dag_cbor` gives the same bytes.
    """
    try:
        value, end = _read_cbor(data, 0, 0)
    except (IndexError, ValueError):
        return None
    return value if end == len(data) else None


def _read_cbor(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    """Return the value at a place, and the place behind it."""
    if depth > _MOST_DEPTH:
        raise ValueError("nested too deep")
    major, number = data[at] >> 5, data[at] & 31
    at += 1
    if number >= 24:
        size = {24: 1, 25: 2, 26: 4, 27: 8}.get(number)
        if size is None or at + size > len(data):
            raise ValueError("not a length")
        number = int.from_bytes(data[at : at + size], "big")
        at += size
    if major == 0:
        return number, at
    if major in (2, 3):
        raw = data[at : at + number]
        if len(raw) < number:
            raise ValueError("cut off")
        return (raw if major == 2 else raw.decode("utf-8")), at + number
    if major not in (4, 5) or number > len(data):
        raise ValueError("another type")
    items = []
    for _ in range(number if major == 4 else 2 * number):
        item, at = _read_cbor(data, at, depth + 1)
        items.append(item)
    if major == 4:
        return items, at
    if not all(isinstance(name, str) for name in items[::2]):
        raise ValueError("a key that is no text")
    return dict(zip(items[::2], items[1::2], strict=True)), at
