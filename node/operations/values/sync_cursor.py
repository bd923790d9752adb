"""Cursors of the change feed (CF7, CF8).

    text      base64url without padding of: nonce 12 ‖ ciphertext of 25 bytes ‖ tag 16
    plain     version 1 ‖ position 8 ‖ floor 8 ‖ history 8

A cursor is encrypted with ChaCha20-Poly1305 under a key of the node, with the space and the prefix
as associated data. It is encrypted so that readers of one prefix do not learn how often others
write. It names no caller and no grant, and has no expiry: every page is authorised on its own.

Example:
    cursor = parse_cursor(header)                       # 400 if it is not a cursor
    place = open_cursor(keyring, cursor, origin)        # None if it is from elsewhere: 410
    text = seal_cursor(keyring, place, origin, nonce=entropy.token(NONCE_BYTES))
"""

from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from capabilities.frozen_struct import AcyclicStruct
from capabilities.strict_base64 import decode_url, encode_url
from encryption_network.keyring import Keyring
from spaces.store.sequences import HISTORY_BYTES, NUMBER_BYTES

from ...refusal import Refusal

MAX_CURSOR_CHARS = 4096
NONCE_BYTES = 12
_CONTEXT = "sealspace/kv/sync-cursor"
_VERSION = b"\1"
_TAG_BYTES = 16
_POSITION_END = len(_VERSION) + NUMBER_BYTES
_FLOOR_END = _POSITION_END + NUMBER_BYTES
_PLAIN_BYTES = _FLOOR_END + HISTORY_BYTES


class Place(AcyclicStruct):
    """How far a reader of the feed has come.

    Attributes:
        position: all changes up to this number were read.
        floor: the last number before the reader began; deletes up to it are not reported.
        history: the history of the space when the position was read (ST24).
    """

    position: int
    floor: int
    history: bytes


def parse_cursor(text: str) -> bytes:
    """Decode the text of a cursor.

    Raises:
        Refusal: `bad-option`, the text is empty, too long, not base64url or too short.
    """
    raw = decode_url(text) if len(text) <= MAX_CURSOR_CHARS else None
    if raw is None or len(raw) <= NONCE_BYTES + _TAG_BYTES:
        raise Refusal("bad-option", "Malformed kv/sync cursor")
    return raw


def seal_cursor(keyring: Keyring, place: Place, origin: Sequence[str], *, nonce: bytes) -> str:
    """Return the text of a cursor.

    Args:
        keyring: derives the key.
        place: how far the reader has come.
        origin: the space and the prefix of the feed.
        nonce: NONCE_BYTES random bytes.
    """
    position8 = place.position.to_bytes(NUMBER_BYTES, "big")
    floor8 = place.floor.to_bytes(NUMBER_BYTES, "big")
    plain = _VERSION + position8 + floor8 + place.history
    cipher = ChaCha20Poly1305(keyring.derive(_CONTEXT))
    sealed = cipher.encrypt(nonce, plain, _length_prefixed(origin))
    return encode_url(nonce + sealed)


def open_cursor(keyring: Keyring, raw: bytes, origin: Sequence[str]) -> Place | None:
    """Decrypt a cursor.

    Args:
        keyring: derives the key.
        raw: as `parse_cursor` returned it, untrusted.
        origin: the space and the prefix of the feed.
    Returns:
        None if this node did not make the cursor for this space and prefix, or if it has another
        version of the format.
    """
    cipher = ChaCha20Poly1305(keyring.derive(_CONTEXT))
    nonce, sealed = raw[:NONCE_BYTES], raw[NONCE_BYTES:]
    try:
        plain = cipher.decrypt(nonce, sealed, _length_prefixed(origin))
    except InvalidTag:
        return None
    if len(plain) != _PLAIN_BYTES or not plain.startswith(_VERSION):
        return None
    return Place(
        position=int.from_bytes(plain[len(_VERSION) : _POSITION_END], "big"),
        floor=int.from_bytes(plain[_POSITION_END:_FLOOR_END], "big"),
        history=plain[_FLOOR_END:],
    )


def _length_prefixed(words: Sequence[str]) -> bytes:
    """Join words, each after its length, so that different words never give the same bytes."""
    parts = [word.encode("utf-8", "surrogatepass") for word in words]
    return b"".join([len(part).to_bytes(4, "big") + part for part in parts])
